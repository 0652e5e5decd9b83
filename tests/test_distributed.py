"""Several processes train one model: the same weights as one process with the same batch."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore

from faceswap_cli.core.errors import ConfigurationError, DeviceError
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.training import checkpoint
from faceswap_cli.training.distributed import DistributedContext, init_distributed
from faceswap_models import registry

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from safetensors.torch import save_file
from faceswap_cli.core import config
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.core import hardware
from faceswap_cli.training.trainer import Trainer
from faceswap_cli.core.progress import Reporter
from faceswap_cli.stages.train import InitConfig, StopCriterion, TrainJob, train
from faceswap_cli.core.workspace import RunFolder

# In bfloat16 the sum over two halves differs from the sum over the whole.
hardware.supports_native_bf16 = lambda device: False
faces, run, images, backend, mode, count = sys.argv[1:]
faces, run, images, count = Path(faces), Path(run), int(images), int(count)
original = Trainer.step
trainers = []

def step(self, batch, progress, **options):
    trainers[:] = [self]
    if mode == f"rank {os.environ['RANK']} dies" and progress.images_seen >= 20:
        os.kill(os.getpid(), signal.SIGKILL)
    losses = original(self, batch, progress, **options)
    is_faulty = mode == "faulty" and progress.images_seen >= 36 and options["lr_scale"] == 1
    return {name: loss * torch.nan for name, loss in losses.items()} if is_faulty else losses

Trainer.step = step

def main():
    sets = [
        FaceSet.load(name, folder=faces / name, records=faces / name / "faces.jsonl")
        for name in ("ada", "bo")
    ]
    changes = ["train.batch_size=5", "train.checkpoint_interval_images=30"]
    changes += ["train.preview_interval_images=0"]
    changes += ["train.input_color_jitter=0.2", "train.color_transfer_prob=0.3"]
    changes += ["train.grad_clip_norm=0.5"]
    train(
        TrainJob(
            sets=sets,
            recipe=config.resolve(backend, "debug", changes),
            run=RunFolder(root=run),
            stop_criterion=StopCriterion(max_images=images),
            device="cpu",
            seed=1,
            init=InitConfig(from_scratch=True),
        ),
        report=Reporter(),
    )
    weights = trainers[0].model.state_dict()
    weights = {name: value.clone() for name, value in weights.items()}
    save_file(weights, run.parent / f"{run.name}-{os.environ['RANK']}.safetensors")

# Forked, so that the libraries are imported once; no thread runs yet.
children = {}
for rank in range(count):
    if not (child := os.fork()):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count))
        try:
            main()
        except FaceswapError as error:
            print(f"rank {rank}: {error.message}", file=sys.stderr)
            sys.exit(error.exit_code)
        sys.exit()
    children[child] = rank
codes = [0] * count
for _ in children:
    child, status = os.wait()
    codes[children[child]] = os.waitstatus_to_exitcode(status)
print(json.dumps(codes))
"""


@pytest.fixture
def faces(make_set: Callable[..., FaceSet]) -> Path:
    """Return the folder of the sets of two identities."""
    sets = [make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)]
    for one in sets:
        text = "".join(record.to_json() + "\n" for record in one.records)
        (one.folder / "faces.jsonl").write_text(text)
    return sets[0].folder.parent


def run_processes(
    count: int,
    faces: Path,
    run: RunFolder,
    images: int,
    *,
    backend: str = "autoencoder",
    mode: str = "healthy",
) -> tuple[list[int], str]:
    """Start `count` processes as torchrun would; return their exit codes and what they printed."""
    # They meet at a store of this process, like torchrun's: a free port that the first of them
    # took later could be another program's by then.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    arguments = [str(faces), str(run.root), str(images), backend, mode, str(count)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env={**os.environ, **meeting, "TORCHELASTIC_USE_AGENT_STORE": "True"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr
    codes: list[int] = json.loads(done.stdout)
    if mode in ("healthy", "faulty"):
        assert [0] * count == codes, done.stderr
    return codes, done.stderr


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_one(faces: Path, tmp_path: Path) -> None:
    """After one step on an odd batch, shared unevenly, Adam has seen the same gradient."""
    single, double = (RunFolder(root=tmp_path / "runs" / name) for name in ("single", "double"))
    run_processes(1, faces, single, 10)
    run_processes(2, faces, double, 10)
    expected, found = load_file(single.resume), load_file(double.resume)
    assert set(expected) == set(found)
    moments = [name for name in expected if name.endswith("exp_avg")]
    assert len(moments) > 10
    for name in moments:
        largest = expected[name].abs().max().item()
        assert largest > 0
        assert torch.allclose(expected[name], found[name], rtol=0, atol=1e-4 * largest), name


@pytest.mark.slow
def test_two_processes_train_as_one_does(faces: Path, tmp_path: Path) -> None:
    """Two processes reach the weights of one, also over a resume."""
    single, double = (RunFolder(root=tmp_path / "runs" / name) for name in ("single", "double"))
    run_processes(1, faces, single, 60)
    run_processes(2, faces, double, 30)
    run_processes(2, faces, double, 60)

    assert relative_distance(single, double) < 0.1


@pytest.mark.slow
def test_all_processes_roll_back_together(faces: Path, tmp_path: Path) -> None:
    """When the main process rolls back after a failure, the others do too, and all finish."""
    single, double = (RunFolder(root=tmp_path / "runs" / name) for name in ("single", "double"))
    run_processes(1, faces, single, 60, mode="faulty")
    run_processes(2, faces, double, 60, mode="faulty")
    resume = checkpoint.load_checkpoint(double)
    assert resume is not None
    assert (60, 0.5) == (resume.state.images_seen, resume.state.lr_scale)

    assert relative_distance(single, double) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("backend", registry.names())
def test_processes_have_the_same_weights(backend: str, faces: Path, tmp_path: Path) -> None:
    """Bit by bit, for every kind of network, also when another number of them resumes the run.

    An image pool is each process's own: what it has generated.
    """
    run = RunFolder(root=tmp_path / "runs" / backend)
    for count, images in ((4, 20), (2, 40)):
        run_processes(count, faces, run, images, backend=backend)
        first, *others = (
            load_file(run.root.with_name(f"{backend}-{rank}.safetensors")) for rank in range(count)
        )
        shared = [name for name in first if not name.startswith("pools.")]
        assert len(shared) > 10
        for other in others:
            assert [] == [name for name in shared if not torch.equal(first[name], other[name])]
        resume = checkpoint.load_checkpoint(run)
        assert resume is not None
        assert images == resume.state.images_seen


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_the_others_end_in_one_line_when_a_process_is_lost(
    lost: int, faces: Path, tmp_path: Path
) -> None:
    """The main process or another one is killed in the middle: no hang, and no traceback."""
    run = RunFolder(root=tmp_path / "runs" / "run")
    codes, printed = run_processes(3, faces, run, 1000, mode=f"rank {lost} dies")
    assert -signal.SIGKILL == codes.pop(lost)
    assert [DeviceError.exit_code] * 2 == codes
    # Both write to one pipe, sometimes within each other's line.
    ended = re.findall(r"rank (\d): another process of this training has ended", printed)
    assert {0, 1, 2} - {lost} == set(map(int, ended))
    assert len(ended) == 2
    assert "Traceback" not in printed


def relative_distance(one: RunFolder, other: RunFolder) -> float:
    """Return the distance of two runs' weights, as a part of their distance from the first weights.

    Not 0: Adam divides gradients by their size, so where one is as small as its own rounding error
    the two runs may step in different directions.
    """
    first, last, other_last = (
        load_file(path) for path in (one.snapshot_path(0), one.resume, other.resume)
    )
    names = [name for name in last if name.startswith("model/")]
    apart = sum((last[name] - other_last[name]).square().sum().item() for name in names)
    trained = sum((last[name] - first[name]).square().sum().item() for name in names)
    assert trained > 0
    return float((apart / trained) ** 0.5)


def test_a_single_process_needs_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torchrun no process group is joined, and broadcasts change nothing."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with init_distributed(4) as context:
        assert DistributedContext() == context
        assert context.is_main
        assert [1.0, 2.5] == context.broadcast_scalars([1, 2.5])
        gradient = torch.ones(3)
        context.all_reduce([gradient], shard_weight=1.0)
        assert torch.equal(torch.ones(3), gradient)


def test_more_processes_than_faces_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without any face of the batch is an error before anything starts."""
    monkeypatch.setenv("WORLD_SIZE", "8")
    with (
        pytest.raises(ConfigurationError, match="8 processes cannot share batches of 4"),
        init_distributed(4),
    ):
        pass


@pytest.mark.parametrize("batch_size", [1, 5, 8, 64])
def test_shard_weights_add_up_to_one(batch_size: int) -> None:
    """For any batch size."""
    weights = [
        DistributedContext(rank=rank, world_size=3).shard_weight(batch_size) for rank in range(3)
    ]
    assert 1 == pytest.approx(sum(weights))
