"""Every backend by the same commands: train on synthetic people, resume, convert a video."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.synthetic import CAST, HeadModel, animate, render_frame
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter
from faceswap_models import registry

SIDE_PX = 160
FRAMES = 24
IDENTITIES = ("ada", "bo")


def run_command(*words: object) -> dict[str, object]:
    """Run a command in this process; return its JSON result."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert 0 == done.exit_code, done.output
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with sets of two synthetic people, and their clips beside it."""
    folder = tmp_path_factory.mktemp("synthetic")
    for seed, name in enumerate(IDENTITIES, 1):
        animation = animate(seed, seconds=FRAMES / 25)
        with VideoWriter(
            folder / f"{name}.mp4", size=(SIDE_PX, SIDE_PX), rate=animation.rate
        ) as video:
            for index, scene in enumerate(animation.scenes):
                image = render_frame(HeadModel.from_person(CAST[name]), scene, SIDE_PX).image
                video.write(image, index / animation.rate)
        run_command("extract", folder / f"{name}.mp4", "--workspace", folder / "workspace")
    return folder / "workspace"


def read_images(path: Path) -> list[Image]:
    """Return the images of a video."""
    return [frame.image for frame in read_frames(path)]


@pytest.mark.slow
@pytest.mark.parametrize("backend", registry.names())
def test_a_few_steps_and_a_converted_video(backend: str, workspace: Path) -> None:
    """Train makes a run; convert keeps the length of the clip and changes the face."""
    where = ("--workspace", workspace)
    trained = run_command(
        *("train", "--model", backend, *IDENTITIES, "--preset", "debug", "--max-images", 32), *where
    )
    assert 32 == trained["images_seen"]
    clip, swapped = workspace.parent / "ada.mp4", workspace / f"{backend}.mp4"
    run_command("convert", clip, "--model", trained["run"], "--to", "bo", "-o", swapped, *where)
    assert probe(clip).size == probe(swapped).size
    before, after = read_images(clip), read_images(swapped)
    assert len(before) == len(after) == FRAMES
    for one, other in zip(before, after, strict=True):
        change = np.abs(one.astype(int) - other).mean(axis=2)
        middle = slice(SIDE_PX * 2 // 5, SIDE_PX * 3 // 5)
        # The face in the middle differs; the same face at 32 px would be off by 10 levels.
        # The corner has the encoder's error only.
        assert change[:16, :16].mean() < 3 < 20 < change[middle, middle].mean()


def growth_command(workspace: Path, name: str, images: int) -> list[str]:
    """Return the command that trains growing networks until `images` images are seen."""
    words = ["train", "--model", "progressive", *IDENTITIES, "--preset", "debug", "--name", name]
    return [*words, "--max-images", str(images), "--workspace", str(workspace)]


def run_in_subprocess(words: Sequence[str]) -> None:
    """Run a command in a process of its own, on one thread like this one."""
    done = subprocess.run(
        [sys.executable, "-m", "faceswap_cli", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert 0 == done.returncode, done.stderr


@pytest.mark.slow
def test_growth_resumes_bit_for_bit(workspace: Path) -> None:
    """Training stopped in the middle of a fade equals training without a stop."""
    torch.set_num_threads(1)
    whole, parts = (Workspace.open(workspace).run_folder(name) for name in ("whole", "parts"))
    run_in_subprocess(growth_command(workspace, "parts", 32))
    assert 1 == int(load_file(parts.resume)["model/built"])  # odd: the second stage fades in
    run_in_subprocess(growth_command(workspace, "parts", 48))
    assert 2 == int(load_file(parts.resume)["model/built"])
    run_command(*growth_command(workspace, "whole", 48))
    for kind in ("resume", "weights"):
        expected, found = load_file(getattr(whole, kind)), load_file(getattr(parts, kind))
        assert set(expected) == set(found)
        assert [] == [name for name, one in expected.items() if not one.equal(found[name])]
