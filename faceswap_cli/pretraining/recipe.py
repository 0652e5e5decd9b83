"""The recipe of a pretraining: a preset of the autoencoder, less what pairs do without."""

from collections.abc import Sequence

from faceswap_cli.core.config import Recipe, resolve
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.training import checkpoint

BACKEND = "autoencoder"
"""The backend that is pretrained on pairs: the others have no latent to take identity out of."""
PRETRAIN_SETTINGS = ("train.batch_size=8", "train.lr_schedule=cosine", "model.detail_px=0")
"""Changes to a preset: pairs come one by one and not for each of two identities, the length is
known, and detail is a person's own."""


def resolve_pretrain_recipe(
    preset: str | None, overrides: Sequence[str], *, run: RunFolder | None = None
) -> Recipe:
    """Return the recipe of a pretraining; a `run` goes on with what its preset was when it began.

    Raises:
        ConfigurationError: A name is unknown, or a value does not fit its setting.
    """
    stored = checkpoint.read_run_recipe(run, BACKEND) if run else None
    return resolve(BACKEND, preset, [*PRETRAIN_SETTINGS, *overrides], stored=stored)
