"""What every backend does by the same commands: train on drawn people, go on, convert a video."""

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
PEOPLE = ("ada", "bo")


def run_command(*words: object) -> dict[str, object]:
    """Run a command in this process, and return what it says for programs."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert 0 == done.exit_code, done.output
    told: dict[str, object] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with the faces of two drawn people, and their clips beside it."""
    folder = tmp_path_factory.mktemp("drawn")
    for turn, name in enumerate(PEOPLE):
        take = animate(turn + 1, seconds=FRAMES / 25)
        with VideoWriter(folder / f"{name}.mp4", size=(SIDE_PX, SIDE_PX), rate=take.rate) as video:
            for index, moment in enumerate(take.scenes):
                image = render_frame(HeadModel.from_person(CAST[name]), moment, SIDE_PX).image
                video.write(image, index / take.rate)
        run_command("extract", folder / f"{name}.mp4", "--workspace", folder / "workspace")
    return folder / "workspace"


def read_images(path: Path) -> list[Image]:
    """Return a video's pictures."""
    return [frame.image for frame in read_frames(path)]


@pytest.mark.parametrize("backend", registry.names())
def test_a_few_steps_and_a_swapped_video(backend: str, workspace: Path) -> None:
    """The same two commands for all: a run, and a clip as long as before with another face."""
    where = ("--workspace", workspace)
    trained = run_command(
        *("train", "--model", backend, *PEOPLE, "--preset", "debug", "--max-images", 32), *where
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
        # A face in the middle of the picture is another: its own at 32 px would be 10 levels off.
        # The corner is as encoding leaves it.
        assert change[:16, :16].mean() < 3 < 20 < change[middle, middle].mean()


def growth_command(workspace: Path, name: str, images: int) -> list[str]:
    """Return the command that trains growing networks until they have seen so many images."""
    words = ["train", "--model", "progressive", *PEOPLE, "--preset", "debug", "--name", name]
    return [*words, "--max-images", str(images), "--workspace", str(workspace)]


def run_in_subprocess(words: Sequence[str]) -> None:
    """Run a command in a process of its own, on one thread as this one."""
    done = subprocess.run(
        [sys.executable, "-m", "faceswap_cli", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == done.returncode, done.stderr


def test_growing_over_several_processes_equals_growing_in_one(workspace: Path) -> None:
    """Stopped in the middle of a fade, and begun again by the same command: bit for bit."""
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
