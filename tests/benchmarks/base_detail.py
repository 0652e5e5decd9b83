"""The detail network that a base has: one for many synthetic people, for new people to begin with.

`make_bases.py` calls `add_detail` last. The people are the first of the base's own; each gets a
performance, footage and crops as users' clips do. All of them share one detail network while the
autoencoder of the base learns them: what it becomes is how to sharpen what a decoder draws, whoever
it is.
"""

from dataclasses import replace
from pathlib import Path

import study
import torch
from torch import nn

from faceswap_cli import heads, synthetic
from faceswap_cli.core import config
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.clips import render_head_clip
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.pretraining.drawing import draw_person
from faceswap_cli.pretraining.mesh_groups import draw_mesh_person
from faceswap_cli.pretraining.pairs import SEED_OFFSET, PairSettings
from faceswap_cli.stages.extract import extract
from faceswap_cli.training.checkpoint import TrainedModel, load_weights, save_weights
from faceswap_cli.training.trainer import Tensors
from faceswap_models.backends.autoencoder import Autoencoder, AutoencoderModelSettings

PEOPLE = 8
SECONDS = 3.0
"""Duration of each performance: 75 crops."""
IMAGES = 16_000
CROP_PX = 320
DETAIL_PREFIX = "detail_networks.0."


def performance_seed(number: int) -> int:
    """Return the seed of a person's performance: none that anybody is judged on."""
    return SEED_OFFSET + number


def add_detail(base: Path, folder: Path, *, preset: str, seed: int) -> None:
    """Train the detail network of a base, and write it into its file.

    Args:
        base: Weights of the base; one that has a detail network gets a new one.
        folder: Folder of the clips and the crops.
        preset: The base's preset, whose `detail_px` is not 0.
        seed: Seed of the training.
    """
    study.limit_threads(1)
    trained = load_weights(base, torch.device("cpu"))
    recipe = config.resolve("autoencoder", preset, ["train.lr_schedule=cosine"])
    sets = [_make_set(folder, number) for number in range(PEOPLE)]
    row = study.Row(
        name="detail", recipe=recipe, steps=IMAGES // (PEOPLE * recipe.train.batch_size)
    )
    data = study.StudyData(sets=sets, cases=[], cache=folder / "cache")
    run = study.TrainingRun.create(
        replace(row, seed=seed, prepare=lambda model: _prepare(model, trained)),
        study.load_identities(row, data),
    )
    for _ in run.steps():
        pass
    _write(base, trained, run.trainer.export_weights(), side_px=recipe.model.output_px)


def _make_set(folder: Path, number: int) -> FaceSet:
    """Render and extract a person of the base, once."""
    space, name = Workspace.open(folder), f"person-{number}"
    target, clip = space.set_folder(name), folder / f"{name}.mp4"
    if not target.records.exists():
        _render_clip(clip, number)
        settings = ExtractSettings(size_px=CROP_PX)
        extract(clip, folder=target, settings=settings, report=Reporter())
    return FaceSet.load(name, folder=target.root, records=target.records)


def _render_clip(clip: Path, number: int) -> None:
    """Render the performance of a person of the base, of the kind that its group has."""
    settings, seed = PairSettings(), performance_seed(number)
    if settings.is_mesh_group(number // settings.people):
        person = draw_mesh_person(settings, number)
        performance = heads.invent_performance(seed, seconds=SECONDS)
        render_head_clip(clip, person, performance, side_px=study.CLIP_PX, report=Reporter())
    else:
        animation = synthetic.animate(seed, seconds=SECONDS)
        study.render_clip(clip, draw_person(settings, number), animation)


def _prepare(model: nn.Module, trained: TrainedModel) -> None:
    """Start from the base, with the same detail network for everybody."""
    assert isinstance(model, Autoencoder)
    model.init_from(trained.model)
    shared = model.detail_networks[0]
    model.detail_networks = nn.ModuleList([shared] * len(model.identities))


def _write(base: Path, trained: TrainedModel, weights: Tensors, *, side_px: int) -> None:
    """Write the base's own weights and the detail network's."""
    assert isinstance(trained.recipe.model, AutoencoderModelSettings)
    kept = {
        name: value
        for name, value in trained.model.state_dict().items()
        if not name.startswith("detail_networks.")
    }
    detail = {name: one for name, one in weights.items() if name.startswith(DETAIL_PREFIX)}
    settings = replace(trained.recipe.model, detail_px=side_px)
    save_weights(
        base,
        trained.model.select_exported(kept) | detail,
        recipe=replace(trained.recipe, model=settings),
        identities=trained.identities,
        images_seen=trained.images_seen,
        origins=trained.origins,
    )
