"""The recipe of a pretraining: a preset of the autoencoder, less what pairs do without.

Main entry points: `resolve_pretrain_recipe`, and `build_pretrain_model` for its networks.
"""

from collections.abc import Sequence

import torch

from faceswap_cli.core.config import Recipe, resolve
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.training import checkpoint
from faceswap_cli.training.dataset import POOLED_IDENTITY, derive_seed
from faceswap_models.backends.autoencoder import AutoencoderModelSettings, AutoencoderTrainSettings
from faceswap_models.modulated import ModulatedAutoencoder

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


def build_pretrain_model(recipe: Recipe, *, num_people: int, seed: int) -> ModulatedAutoencoder:
    """Return untrained networks, the same for the same seed.

    Args:
        recipe: Of `resolve_pretrain_recipe`.
        num_people: How many people have a vector, as the loader of their pairs says.
        seed: Seed of the run.
    """
    model, train = recipe.model, recipe.train
    assert isinstance(model, AutoencoderModelSettings)
    assert isinstance(train, AutoencoderTrainSettings)
    torch.manual_seed(derive_seed(seed, 0, "first weights"))
    return ModulatedAutoencoder(model, train, (POOLED_IDENTITY,), num_people=num_people)
