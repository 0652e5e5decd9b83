"""On a GPU no step makes the host wait; what copies or works ahead of it gives the same values.

Tests that need a GPU are skipped without one. That a step reads no value back is seen on a CPU too:
every operation that hands a value to Python is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from faceswap_cli.core import config
from faceswap_cli.core.hardware import Hardware, find_hardware
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.train import build_model
from faceswap_cli.training.checkpoint import HostCopy
from faceswap_cli.training.dataset import IdentityDataset, load_identity
from faceswap_cli.training.loader import (
    BatchPrefetcher,
    FaceLoader,
    GpuResidentLoader,
    GpuStreamingLoader,
)
from faceswap_cli.training.trainer import Trainer
from faceswap_models import registry
from faceswap_models.base import TrainProgress

NAMES = ("ada", "bo")
AUGMENTED = (
    "train.batch_size=2",
    "train.color_jitter=0.1",
    "train.color_transfer_prob=0.5",
    "train.input_color_jitter=0.3",
    "train.pose_pairing_prob=0.5",
    "train.grad_clip_norm=1",
    "train.ema_halflife_images=100",
)
"""Everything that is off by default."""
LOADERS = (GpuResidentLoader, GpuStreamingLoader)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


class ValuesReadError(AssertionError):
    """A value was read back from a device."""


class RefuseReads(TorchDispatchMode):
    """Refuses operations whose result, or its size, Python needs before it can go on."""

    READS: ClassVar = {
        "aten::_local_scalar_dense",
        "aten::equal",
        "aten::is_nonzero",
        "aten::masked_select",
        "aten::nonzero",
        "aten::_unique2",
    }

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - as in torch
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run an operation that may be run."""
        if func.name().partition(".")[0] in self.READS:
            raise ValuesReadError(func.name())
        return func(*args, **(kwargs or {}))


@pytest.fixture
def datasets(make_set: Callable[..., FaceSet], tmp_path: Path) -> list[IdentityDataset]:
    """Return two identities."""
    return [
        load_identity(make_set(name, 12), cache=tmp_path / "cache", side_px=40) for name in NAMES
    ]


def make_session(
    backend: str, datasets: Sequence[IdentityDataset], kind: type[FaceLoader], hardware: Hardware
) -> tuple[Trainer, FaceLoader]:
    """Return a trainer of a backend's `debug` preset, and a loader."""
    recipe = config.resolve(backend, "debug", AUGMENTED)
    model = build_model(recipe, NAMES, hardware, seed=0)
    loader = kind(datasets, model=recipe.model, train=recipe.train, seed=0, device=hardware.device)
    return Trainer(model, recipe.train, hardware), loader


def take_step(trainer: Trainer, batches: FaceLoader | BatchPrefetcher, *, step: int) -> None:
    """Take a step as the loop does."""
    images = 2 * len(NAMES)
    batch = batches.batch(step * images)
    progress = TrainProgress(images_seen=step * images, max_images=None)
    trainer.step(batch, progress, lr_scale=1.0, images=images)


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("backend", registry.names())
def test_a_step_reads_no_value_back(
    datasets: list[IdentityDataset], backend: str, kind: type[FaceLoader]
) -> None:
    """Neither a batch nor a step depends on a value that is still being computed."""
    trainer, loader = make_session(backend, datasets, kind, find_hardware("cpu"))
    take_step(trainer, loader, step=0)  # what is made once may wait
    with RefuseReads():
        take_step(trainer, loader, step=1)
        with pytest.raises(ValuesReadError):
            float(torch.zeros(()).abs())


@needs_gpu
@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.parametrize("backend", registry.names())
def test_a_step_does_not_wait_for_a_gpu(
    datasets: list[IdentityDataset], backend: str, kind: type[FaceLoader]
) -> None:
    """Nothing in a batch or a step synchronizes with the GPU."""
    trainer, loader = make_session(backend, datasets, kind, find_hardware("cuda"))
    for step in range(3):
        take_step(trainer, loader, step=step)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        take_step(trainer, loader, step=3)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_prefetched_batches_are_those_of_the_loader(
    datasets: list[IdentityDataset], device: str
) -> None:
    """Asked for or not, in order or not."""
    trainer, loader = make_session("autoencoder", datasets, LOADERS[0], find_hardware(device))
    batches = BatchPrefetcher(loader)
    for asked, following in ((0, 4), (4, 8), (8, 12), (0, 4), (4, 8)):
        batch, expected = batches.batch(asked), loader.batch(asked)
        batches.prefetch(following)
        trainer.step(
            batch,
            TrainProgress(images_seen=asked, max_images=None),
            lr_scale=1.0,
            images=loader.images_per_step,
        )
        for name, value in vars(expected).items():
            assert torch.equal(value, getattr(batch, name))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_a_host_copy_holds_the_values_of_its_start(device: str) -> None:
    """Whatever is done to the tensors next, and as often as it is used, whatever their shapes."""
    copy = HostCopy()
    for shape in ((64, 64), (64, 64), (3, 5, 7), ()):
        value = torch.rand(shape, device=device)
        expected = value.cpu().clone()
        copy.start({"a": value, "b": torch.arange(3)})
        value.fill_(-1)
        found = copy.take()
        assert torch.equal(expected, found["a"])
        assert torch.equal(torch.arange(3), found["b"])
        assert found["a"].device.type == "cpu"
