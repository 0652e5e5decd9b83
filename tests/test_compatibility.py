"""Files of earlier versions: those in `tests/compatibility/format-1` can be used today.

It was written by `tests/compatibility/make.py` before settings, log keys and headers were renamed.
"""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faceswap_cli.core import config
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.train import InitConfig, StopCriterion, TrainJob, resolve_recipe, train
from faceswap_cli.training import checkpoint, report
from faceswap_cli.training.checkpoint import load_weights
from faceswap_cli.training.swap_metrics import SwapMetrics

FORMAT_1 = Path(__file__).parent / "compatibility" / "format-1"
FIRST_HD = (
    "model.encoder_channels=64,128,256,512",
    "model.encoder_kernel_size=5",
    "model.latent_dim=512",
    "model.shared_channels=512",
    "model.decoder_channels=256,128,64,32",
    "model.residual_blocks=1",
    "train.learning_rate=1e-4",
    "train.lr_schedule=constant",
    "train.input_color_jitter=0.3",
)
"""Values of the `hd` preset before it was chosen by measurement."""
BACKENDS = ("autoencoder", "cyclegan", "progressive")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a copy of the old workspace."""
    shutil.copytree(FORMAT_1, tmp_path / "workspace")
    return Workspace.open(tmp_path / "workspace")


@pytest.mark.parametrize("backend", BACKENDS)
def test_old_weights_swap(backend: str) -> None:
    """The networks are built from the old recipe, and every tensor is loaded."""
    path = FORMAT_1 / "runs" / f"{backend}-ada-ed" / "weights.safetensors"
    _, header = checkpoint.read_safetensors(path)
    assert "1" == header["format"]
    trained = load_weights(path, torch.device("cpu"))
    assert (("ada", "ed"), 96) == (trained.identities, trained.images_seen)
    assert ("debug", 32) == (trained.recipe.preset, trained.recipe.model.size_px)
    assert 2 == trained.recipe.train.batch_size
    assert "--set" == trained.recipe.sources["train.batch_size"]
    assert () == trained.recipe.ignored
    faces = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        swaps = trained.model.swap(faces, "ed").image
    assert faces.shape == swaps.shape
    assert torch.isfinite(swaps).all()


def test_old_sets_are_read(workspace: Workspace) -> None:
    """Every record has its crop, its landmarks and its blendshapes."""
    for name in ("ada", "ed"):
        faces = FaceSet.from_folder(workspace.require_set(name))
        assert len(faces) >= 8
        for record in faces.records:
            assert faces.path(record).is_file()
            assert ((478, 2), 52) == (record.landmarks.shape, len(record.blendshapes))
            assert np.isfinite(record.alignment.to_unit).all()


def test_an_old_run_resumes(workspace: Workspace) -> None:
    """The same command continues it: networks, moments, growth and clock, in the new format."""
    run = workspace.run_folder("progressive-ada-ed")
    before = checkpoint.read_checkpoint(run.resume)
    assert (96, 1.0, 0) == (
        before.state.images_seen,
        before.state.lr_scale,
        before.state.rollbacks,
    )
    assert before.state.seconds > 0
    changes = ["model.generator_widths=8,8", "model.discriminator_widths=8,8", "model.history=2"]
    recipe = resolve_recipe(
        "progressive",
        None,
        [*changes, "train.batch_size=2"],
        run=run,
        init=InitConfig(),
    )
    assert "debug" == recipe.preset
    assert [] == config.list_model_differences(before.recipe, recipe)
    summary = train(
        TrainJob(
            sets=[FaceSet.from_folder(workspace.require_set(name)) for name in ("ada", "ed")],
            recipe=recipe,
            run=run,
            stop_criterion=StopCriterion(max_images=108),
            device="cpu",
            seed=0,
        ),
        report=Reporter(),
    )
    assert 108 == summary.images_seen
    _, header = checkpoint.read_safetensors(run.resume)
    assert str(checkpoint.FORMAT) == header["format"] != "1"
    after = checkpoint.read_checkpoint(run.resume)
    assert set(before.tensors) == set(after.tensors)


@pytest.mark.parametrize("preset", [None, "hd"])
def test_a_run_of_the_first_hd_resumes(preset: str | None, tmp_path: Path) -> None:
    """Its preset has other networks and another rate now; the run keeps those it began with."""
    run = Workspace.open(tmp_path).run_folder("hd")
    run.root.mkdir(parents=True)
    first = config.resolve("autoencoder", "hd", FIRST_HD)
    sources = dict.fromkeys(first.sources, "preset autoencoder-hd")
    stored = replace(first, sources=sources)
    run.recipe.write_text(stored.to_toml(), encoding="utf-8")
    header = {
        "recipe": json.dumps(stored.to_dict()),
        "identities": json.dumps(["ada", "ed"]),
        "images_seen": "96",
    }
    checkpoint.write_safetensors(run.resume, {"one": torch.zeros(1)}, header)
    recipe = resolve_recipe("autoencoder", preset, [], run=run, init=InitConfig())
    assert "hd" == recipe.preset
    assert [] == config.list_model_differences(stored, recipe)
    assert stored.train == recipe.train
    assert stored.model != config.resolve("autoencoder", "hd").model


def test_an_old_log_is_read_by_the_new_keys(workspace: Workspace) -> None:
    """Curves of a run continue from before the renaming to after it."""
    lines = list(report.read_log(workspace.run_folder("progressive-ada-ed").log))
    keys = {key for line in lines for key in line}
    assert {"images_per_second", "losses", "val_error", "val_reconstruction", "val_cycle"} <= keys
    assert {"val_losses", "swap_metrics", "event", "message"} <= keys
    assert [] == [key for key in keys if " " in key or "/" in key]
    [metrics] = [line["swap_metrics"] for line in lines if "swap_metrics" in line]
    assert {one.name for one in fields(SwapMetrics)} >= set(metrics)
