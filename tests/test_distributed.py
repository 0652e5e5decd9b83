"""Several processes train one model: the same weights as one process with the same batch."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.training import checkpoint
from faceswap_cli.training.distributed import DistributedContext, init_distributed

SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from faceswap_cli.core import config
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.core import hardware
from faceswap_cli.training.trainer import Trainer
from faceswap_cli.core.progress import Reporter
from faceswap_cli.stages.train import StopCriterion, TrainJob, train
from faceswap_cli.core.workspace import RunFolder

# In bfloat16 a sum over two halves is another number than the sum over the whole.
hardware.supports_native_bf16 = lambda device: False
faces, run, images, spoilt = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
honest = Trainer.step

def step(self, batch, progress, **how):
    losses = honest(self, batch, progress, **how)
    is_spoilt = spoilt == "spoilt" and progress.images_seen >= 36 and how["lr_scale"] == 1
    return {name: loss * torch.nan for name, loss in losses.items()} if is_spoilt else losses

Trainer.step = step
sets = [
    FaceSet.load(name, folder=faces / name, records=faces / name / "faces.jsonl")
    for name in ("ada", "bo")
]
changes = ["train.batch_size=3", "train.checkpoint_interval_images=30", "train.preview_interval_images=0"]
changes += ["train.input_color_jitter=0.2", "train.color_transfer_prob=0.3"]
train(
    TrainJob(
        sets=sets,
        recipe=config.resolve("autoencoder", "debug", [*changes, "train.grad_clip_norm=0.5"]),
        run=RunFolder(root=run),
        stop_criterion=StopCriterion(max_images=images),
        device="cpu",
        seed=1,
    ),
    report=Reporter(),
)
"""


@pytest.fixture
def faces(make_set: Callable[..., FaceSet]) -> Path:
    """Return the folder of two people's sets."""
    made = [make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)]
    for one in made:
        text = "".join(record.to_json() + "\n" for record in one.records)
        (one.folder / "faces.jsonl").write_text(text)
    return made[0].folder.parent


def run_processes(
    count: int, faces: Path, run: RunFolder, images: int, *, spoilt: bool = False
) -> None:
    """Start `count` processes as torchrun would, and wait for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    how = "spoilt" if spoilt else "honest"
    command = [sys.executable, "-c", SCRIPT, str(faces), str(run.root), str(images), how]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command, env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        )
        for rank in range(count)
    ]
    assert [0] * count == [process.wait(timeout=120) for process in processes]


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(faces: Path, tmp_path: Path) -> None:
    """After one step on an odd batch, shared unevenly, Adam has seen the same gradient."""
    alone, together = (RunFolder(root=tmp_path / "runs" / name) for name in ("alone", "together"))
    run_processes(1, faces, alone, 6)
    run_processes(2, faces, together, 6)
    expected, found = load_file(alone.resume), load_file(together.resume)
    assert set(expected) == set(found)
    moments = [name for name in expected if name.endswith("exp_avg")]
    assert len(moments) > 10
    for name in moments:
        largest = expected[name].abs().max().item()
        assert largest > 0
        assert torch.allclose(expected[name], found[name], rtol=0, atol=1e-4 * largest), name


@pytest.mark.slow
def test_two_processes_learn_what_one_does(faces: Path, tmp_path: Path) -> None:
    """Over a resume too, two processes come to the weights of one."""
    alone, together = (RunFolder(root=tmp_path / "runs" / name) for name in ("alone", "together"))
    run_processes(1, faces, alone, 60)
    run_processes(2, faces, together, 30)
    run_processes(2, faces, together, 60)

    assert relative_distance(alone, together) < 0.1


@pytest.mark.slow
def test_all_go_back_together(faces: Path, tmp_path: Path) -> None:
    """When the leader goes back after trouble, the others follow, and both reach the goal."""
    alone, together = (RunFolder(root=tmp_path / "runs" / name) for name in ("alone", "together"))
    run_processes(1, faces, alone, 60, spoilt=True)
    run_processes(2, faces, together, 60, spoilt=True)
    resume = checkpoint.load_checkpoint(together)
    assert resume is not None
    assert (60, 0.5) == (resume.state.images_seen, resume.state.lr_scale)

    assert relative_distance(alone, together) < 0.1


def relative_distance(one: RunFolder, other: RunFolder) -> float:
    """Return how far apart two runs' weights are, as a part of how far they have come.

    Not nought: Adam divides gradients by their size, so where one is as small as its own rounding
    error the two runs may step in different directions.
    """
    first, here, there = (
        load_file(path) for path in (one.snapshot_path(0), one.resume, other.resume)
    )
    names = [name for name in here if name.startswith("model/")]
    apart = sum((here[name] - there[name]).square().sum().item() for name in names)
    come = sum((here[name] - first[name]).square().sum().item() for name in names)
    assert come > 0
    return float((apart / come) ** 0.5)


def test_alone_a_team_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchrun nothing is joined, and agreeing with oneself changes nothing."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with init_distributed(4) as team:
        assert DistributedContext() == team
        assert team.is_main
        assert [1.0, 2.5] == team.broadcast_scalars([1, 2.5])
        gradient = torch.ones(3)
        team.all_reduce([gradient], shard_weight=1.0)
        assert torch.equal(torch.ones(3), gradient)


def test_more_processes_than_faces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a face to learn from is said before anything starts."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    with (
        pytest.raises(ConfigurationError, match="8 processes cannot share batches of 4"),
        init_distributed(4),
    ):
        pass


@pytest.mark.parametrize("batch_size", [1, 5, 8, 64])
def test_shares_weigh_one_together(batch_size: int) -> None:
    """Whatever the sizes, the parts of a batch add up to it."""
    weights = [
        DistributedContext(rank=rank, world_size=3).shard_weight(batch_size) for rank in range(3)
    ]
    assert 1 == pytest.approx(sum(weights))
