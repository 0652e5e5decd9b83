"""Checks and measures training on a GPU: one file, one run of less than eight minutes.

On any machine with the whole program installed, make the training data once (under 30 MB), and the
pairs of synthetic people:

    python tests/benchmarks/gpu.py --make-data data.npz
    python tests/benchmarks/gpu_pairs.py --folder DIR --out pairs.npz

On the GPU machine, which needs Python, torch, numpy, safetensors and this repository, no more:

    python tests/benchmarks/gpu.py --data data.npz --out results
    python tests/benchmarks/gpu.py --data data.npz --out results --only swap --budget-s 560
    python tests/benchmarks/gpu.py --pairs pairs.npz --out base --only pretrain --budget-s 560

Results go to `gpu.json` and `gpu.md` in the folder `--out`, row by row while they are measured. A
part that has finished is not repeated by the next run into the same folder, unless `--only` names
it. An error ends its part alone; a part for which too little of `--budget-s` is left is skipped.
`--device cpu --tiny` runs everything on a CPU with tiny networks: to prove that it works, not to
measure. Without `--data` the crops are random, and the part `swap` is skipped; without `--pairs`
(under 50 MB, needs Pillow) the part `pretrain`.
"""

import argparse
import gc
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

try:  # for the plain loop, which is faster with it
    import cv2
except ImportError:
    cv2 = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parents[2]
# Nothing is installed on that machine.
sys.path[:0] = [str(ROOT), str(ROOT / "models"), str(ROOT / "tests" / "benchmarks")]

import gpu_pairs  # noqa: E402

from faceswap_cli.conversion.model import FaceModel  # noqa: E402
from faceswap_cli.core.config import Recipe, resolve, with_batch_size  # noqa: E402
from faceswap_cli.core.errors import ConfigurationError, DeviceError, FaceswapError, InputError  # noqa: E402
from faceswap_cli.core.fileio import atomic_write, translate_os_errors, write_text  # noqa: E402
from faceswap_cli.core.hardware import (  # noqa: E402
    Hardware,
    find_hardware,
    keep_freed_memory,
    limit_threads,
    use_fast_kernels,
)
from faceswap_cli.core.workspace import RunFolder  # noqa: E402
from faceswap_cli.pretraining.loader import PairLoader  # noqa: E402
from faceswap_cli.pretraining.recipe import PRETRAIN_SETTINGS, build_pretrain_model  # noqa: E402
from faceswap_cli.training import checkpoint  # noqa: E402
from faceswap_cli.training.checkpoint import HostCopy  # noqa: E402
from faceswap_cli.training.dataset import (  # noqa: E402
    FACE_LEVEL,
    POOLED_IDENTITY,
    IdentityDataset,
    cached_side_px,
    derive_seed,
    split_train_val,
)
from faceswap_cli.training.distributed import DistributedContext, init_distributed  # noqa: E402
from faceswap_cli.training.estimate import (  # noqa: E402
    BatchTrial,
    benchmark_steps,
    count_parameters,
    search_batch_size,
    search_limits,
)
from faceswap_cli.training.loader import (  # noqa: E402
    BatchPrefetcher,
    FaceLoader,
    GpuResidentLoader,
    GpuStreamingLoader,
)
from faceswap_cli.training.schedule import warmup_factor  # noqa: E402
from faceswap_cli.training.state import TrainState  # noqa: E402
from faceswap_cli.training.trainer import COMPILE_BACKEND, StepOutOfMemoryError, Tensors, Trainer  # noqa: E402
from faceswap_models import registry  # noqa: E402
from faceswap_models.base import FaceBatch, SwapModel, TrainProgress  # noqa: E402
from faceswap_models.growing import GrowingModel  # noqa: E402
from faceswap_models.losses import weighted_dssim  # noqa: E402
from faceswap_models.modulated import ModulatedAutoencoder  # noqa: E402

IDENTITIES = ("ada", "bo")
"""Two synthetic people who differ in everything, complexion included."""
SEED = 0
CROP_PX = 240
"""Side of the crops in the data file: what networks of 128 px with a coverage of 0.8 sample from,
and nearly what extract writes by default."""
MAX_DATA_BYTES = 30_000_000
RELATIVE_TOLERANCE = 1e-3
"""A resumed training may differ from an uninterrupted one by this part of what was trained since
the stop. Two uninterrupted ones on a GPU may differ as well; three times that is allowed."""
LOSS_TOLERANCE = 0.02
"""Relative difference of a loss in bfloat16 that is rounding."""
PRETRAIN_BATCH = 64
"""Pairs in a step of the part `pretrain`: few steps on a GPU are as slow as many images."""
TARGET_SWAP_SECONDS = 300.0
"""Training time of each preset in the part `swap`."""

Row = dict[str, Any]
"""Column -> value."""
Step = Callable[[int], object]
"""Takes one step after so many images seen."""


class SkippedError(Exception):
    """A part, or a row of one, cannot run here; the text says why."""


class PartTimeoutError(Exception):
    """A part ran into the end of the budget."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SwapCase:
    """One direction of the comparison with the true swap: crops, uint8 (M, S, S, C)."""

    driving: str
    target: str
    pixels: np.ndarray
    """Crops to swap, with mask levels as fourth channel."""
    truths: np.ndarray
    """The true swaps in the same squares; the fourth channel is the mask level of the face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticData:
    """Training crops of each identity, and the cases of the comparison; none if it is random."""

    pixels: Mapping[str, np.ndarray]
    """uint8 (N, S, S, 4)."""
    poses: Mapping[str, np.ndarray]
    """float32 (N, 3)."""
    cases: Sequence[SwapCase] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class Context:
    """What all parts share."""

    hardware: Hardware
    data: SyntheticData
    out: Path
    deadline: float
    """On the clock of `time.monotonic`."""
    tiny: bool
    pairs: Path | None = None
    """Of the part `pretrain`."""

    @property
    def device(self) -> torch.device:
        """The device."""
        return self.hardware.device

    @property
    def is_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"

    @property
    def turn_s(self) -> float:
        """Duration of one turn of a variant, seconds."""
        return 0.02 if self.tiny else 0.6

    @property
    def rounds(self) -> int:
        """Turns of each variant."""
        return 1 if self.tiny else 4

    def seconds_left(self) -> float:
        """Return what is left of the budget, seconds."""
        return self.deadline - time.monotonic()

    def synchronize(self) -> None:
        """Wait until the device has finished."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of the run."""

    title: str
    """Heading of its table."""
    min_s: float
    """Seconds of the budget without which it is not started."""
    run: Callable[[Context], Iterator[Row]]


# --- part: resume -------------------------------------------------------------------------------


def run_resume(ctx: Context) -> Iterator[Row]:
    """Take steps with every preset, stop, go on from the files, and compare with no stop."""
    cases = [
        (f"{backend}-{preset}", backend, preset, ())
        for backend in registry.names()
        for preset in registry.presets(backend)
    ]
    adversarial = ("train.adversarial_weight=0.05", "train.adversarial_start_images=0")
    cases.append(("autoencoder-hd, adversarial", "autoencoder", "hd", adversarial))
    # The defaults first, should the time run out.
    order = ("hd", "light", "original", "paper", "vgg19", "debug")
    for name, backend, preset, overrides in sorted(cases, key=lambda one: order.index(one[2])):
        yield guarded_row(
            {"preset": name}, partial(check_resume, ctx, backend, preset, list(overrides))
        )
    yield guarded_row({"preset": "batches and states copied ahead"}, partial(check_ahead, ctx))


def check_resume(ctx: Context, backend: str, preset: str, overrides: Sequence[str]) -> Row:
    """Train 2 + 2 steps with a stop in between and without one; return how far they differ."""
    recipe = make_recipe(ctx, backend, preset, *overrides)
    recipe = with_batch_size(recipe, min(recipe.train.batch_size, 2 if ctx.tiny else 8))
    if hasattr(recipe.train, "growth_stage_images"):  # grow before the stop and after it
        images = recipe.train.batch_size * len(IDENTITIES)
        grown = replace(recipe.train, growth_stage_images=(images,), growth_fade_images=images)  # type: ignore[call-arg]
        recipe = replace(recipe, train=grown)
    started = time.monotonic()
    with deterministic(), TemporaryDirectory() as folder:
        run = RunFolder(root=Path(folder))
        trainer, loader = make_trainer(ctx, recipe)
        seen = take_steps(trainer, loader, seen=0, count=2)
        checkpoint.save_checkpoint(
            run,
            trainer.state_dict(),
            recipe=recipe,
            identities=IDENTITIES,
            state=TrainState(images_seen=seen),
        )
        middle = copy_weights(trainer)
        take_steps(trainer, loader, seen=seen, count=2)
        straight = copy_weights(trainer)
        parameters = count_parameters(trainer)
        del trainer
        saved = checkpoint.load_checkpoint(run)
        assert saved is not None
        resumed_trainer, loader = make_trainer(ctx, recipe)
        state = checkpoint.restore_from(resumed_trainer, saved, run=run)
        take_steps(resumed_trainer, loader, seen=state.images_seen, count=2)
        difference = relative_difference(copy_weights(resumed_trainer), straight, middle)
        del resumed_trainer, saved
        repeated = 0.0
        if difference:  # how far do two uninterrupted ones differ?
            trainer, loader = make_trainer(ctx, recipe)
            take_steps(trainer, loader, seen=0, count=4)
            repeated = relative_difference(copy_weights(trainer), straight, middle)
    is_valid = not any(bool(one.isnan().any()) for one in straight.values())
    return {
        "weights": parameters,
        "images a step": recipe.train.batch_size * len(IDENTITIES),
        "equal": is_valid and difference <= max(RELATIVE_TOLERANCE, 3 * repeated),
        "difference": difference,
        "difference without a stop": repeated,
        "seconds": time.monotonic() - started,
    }


def check_ahead(ctx: Context) -> Row:
    """Compare what is copied while steps run, batches and the state, with what it is a copy of."""
    started = time.monotonic()
    trainer, loader = make_trainer(ctx, hd_recipe(ctx, 128, 16))
    batches, host_copy, is_equal = BatchPrefetcher(loader), HostCopy(), True
    for step in range(2 if ctx.tiny else 10):
        seen = step * loader.images_per_step
        full_step(trainer, batches, seen)
        expected = {name: one.clone() for name, one in trainer.state_dict().items()}
        host_copy.start(trainer.state_dict())
        batch = batches.batch(seen + loader.images_per_step)
        train_step(trainer, batch, seen)  # changes the state while it is copied
        copied = host_copy.take()
        is_equal &= all(torch.equal(copied[name], one.cpu()) for name, one in expected.items())
        again = loader.batch(seen + loader.images_per_step)
        is_equal &= all(torch.equal(one, getattr(again, name)) for name, one in vars(batch).items())
    return {"equal": is_equal, "seconds": time.monotonic() - started}


@contextmanager
def deterministic() -> Iterator[None]:
    """Let cuDNN choose the same algorithms every time, and such that do not add at random."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def copy_weights(trainer: Trainer) -> Tensors:
    """Return a copy of the weights and of what is averaged, on the CPU."""
    return {
        name: value.detach().to("cpu", torch.float32, copy=True)
        for name, value in trainer.state_dict().items()
        if name.startswith(("model/", "average/")) and value.is_floating_point()
    }


def relative_difference(one: Tensors, other: Tensors, before: Tensors) -> float:
    """Return |one - other| as a part of what has changed since `before`; infinite for others."""
    if one.keys() != other.keys():
        return float("inf")
    common = [name for name in other if name in before and before[name].shape == other[name].shape]
    apart = sum(squared_distance(one[name], other[name]) for name in one)
    moved = sum(squared_distance(other[name], before[name]) for name in common)
    return (apart / max(moved, 1e-30)) ** 0.5 if apart else 0.0


def squared_distance(one: Tensor, other: Tensor) -> float:
    """Return |one - other|², where equal infinities, as of an error not yet measured, are equal."""
    return float((one - other).where(one != other, 0).double().square().sum())


# --- part: speed --------------------------------------------------------------------------------


def run_speed(ctx: Context) -> Iterator[Row]:
    """Measure `hd`: images/s, share of the matmul peak, memory, share of the data path."""
    peaks = {dtype: matmul_peak(ctx, dtype) for dtype in (torch.bfloat16, torch.float32)}
    for dtype, peak in peaks.items():
        name = str(dtype).removeprefix("torch.")
        yield {"case": f"matmul peak, {name}", "TFLOP/s": peak / 1e12}
    peak = peaks[ctx.hardware.autocast_dtype or torch.float32]
    for size_px in (128, 256):
        for batch_size in (16, 64):
            recipe = hd_recipe(ctx, size_px, batch_size)
            row = {"case": describe(recipe), "batch": recipe.train.batch_size}
            yield guarded_row(row, partial(measure_speed, ctx, recipe, peak=peak))


def measure_speed(ctx: Context, recipe: Recipe, *, peak: float) -> Row:
    """Time steps with new batches, with the same batch, and the batches alone, in turns."""
    reset_memory(ctx)
    trainer, loader = make_trainer(ctx, recipe)
    batch = loader.batch(0)
    steps: dict[str, Step] = {
        "full": partial(full_step, trainer, BatchPrefetcher(loader)),
        "step": lambda seen: train_step(trainer, batch, seen),
        "data": loader.batch,
    }
    for step in steps.values():
        warm_up(ctx, step)
    times = interleave(ctx, steps, images=loader.images_per_step)
    full_s = median(times["full"])
    flops = count_flops(ctx, recipe) * recipe.train.batch_size
    return {
        "images/s": loader.images_per_step / full_s,
        "ms a step": full_s * 1e3,
        "TFLOP/s": flops / full_s / 1e12,
        "of the peak": flops / full_s / peak,
        "data, of a step": 1
        - median(one / all_ for one, all_ in zip(times["step"], times["full"], strict=True)),
        "ms of data alone": median(times["data"]) * 1e3,
        "ms of the host": host_ms(ctx, steps["full"]),
        "ms a save holds it": save_ms(ctx, trainer),
        "memory, GB": peak_memory_gb(ctx),
        **count_synchronizations(ctx, steps),
    }


def save_ms(ctx: Context, trainer: Trainer) -> float:
    """Return how long a save holds the host, which only begins to copy the state."""
    host_copy = HostCopy()
    host_copy.start(trainer.state_dict())  # takes the memory
    return host_ms(ctx, lambda _: host_copy.start(trainer.state_dict()))


def matmul_peak(ctx: Context, dtype: torch.dtype) -> float:
    """Measure the speed of a large product of random matrices, FLOP/s; the best of five."""
    side, count = (8192, 8) if ctx.is_cuda else (128 if ctx.tiny else 2048, 1)
    a, b = (torch.randn(side, side, device=ctx.device).to(dtype) for _ in range(2))
    times = []
    for _ in range(5):
        ctx.synchronize()
        started = time.perf_counter()
        for _ in range(count):
            a @ b
        ctx.synchronize()
        times.append((time.perf_counter() - started) / count)
    return float(2 * side**3 / min(times))


def count_flops(ctx: Context, recipe: Recipe) -> float:
    """Count the floating point operations of one face of each identity, forward and backward."""
    model = build_model(recipe, replace(ctx.hardware, memory_format=torch.contiguous_format))
    side = recipe.model.size_px
    image = torch.zeros(len(IDENTITIES), 1, 3, side, side, device=ctx.device)
    batch = FaceBatch(warped=image, target=image, mask=torch.ones_like(image[:, :, :1]))

    def backward_only(group: str, loss: Tensor) -> None:
        del group
        loss.backward()  # type: ignore[no-untyped-call]

    with FlopCounterMode(display=False) as counter:
        model.train_step(batch, backward_only, TrainProgress(images_seen=0, max_images=None))
    return float(counter.get_total_flops())


def host_ms(ctx: Context, step: Step) -> float:
    """Return the time that Python takes to launch a step; near the step's, it is the limit."""
    ctx.synchronize()
    count = 1 if ctx.tiny else 8
    started = time.perf_counter()
    for _ in range(count):
        step(0)
    launched_s = time.perf_counter() - started
    ctx.synchronize()
    return launched_s / count * 1e3


def count_synchronizations(ctx: Context, steps: Mapping[str, Step]) -> Row:
    """Return how often the host waits for the GPU in the data and in the step, and where."""
    if not ctx.is_cuda:
        return {}
    row: Row = {}
    for name in ("data", "step"):
        ctx.synchronize()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                steps[name](0)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        found = [one for one in caught if "synchroniz" in str(one.message)]
        places = sorted({f"{Path(one.filename).name}:{one.lineno}" for one in found})
        row[f"waits in {name}"] = " ".join([str(len(found)), *places[:4]])
    return row


# --- part: profile ------------------------------------------------------------------------------

CATEGORIES: Mapping[str, tuple[str, ...]] = {
    "sampling of the crops": ("grid_sampl",),
    "optimizer and averages": ("adam", "lerp", "multi_tensor", "foreach"),
    "convolutions": ("conv", "cudnn", "xmma", "implicit", "wgrad", "dgrad", "fprop"),
    "matrix products": ("gemm", "mm", "cutlass", "nvjet", "matmul"),
    "copies and layouts": ("copy", "memcpy", "memset", "nchw", "nhwc", "transpose"),
    "reductions": ("reduce", "sum", "mean", "norm"),
}
"""Category -> parts of kernels' names, the first that fits; others are elementwise."""
OTHER_CATEGORY = "elementwise and other"


def run_profile(ctx: Context) -> Iterator[Row]:
    """Say where the time of a step goes: by category, and the longest kernels."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    steps = 1 if ctx.tiny else 5
    for size_px in (128, 256):
        recipe = hd_recipe(ctx, size_px, 16)
        trainer, loader = make_trainer(ctx, recipe)
        step: Step = partial(full_step, trainer, BatchPrefetcher(loader))
        warm_up(ctx, step)
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if ctx.is_cuda else [])]
        ctx.synchronize()
        started = time.perf_counter()
        with profile(activities=kinds) as profiler:
            for index in range(steps):
                step(index * loader.images_per_step)
            ctx.synchronize()
        wall_ms = (time.perf_counter() - started) * 1e3 / steps
        kernels: dict[str, float] = {}
        for event in profiler.key_averages():
            if ctx.is_cuda and event.device_type != DeviceType.CUDA:
                continue
            if getattr(event, "is_user_annotation", False):  # a range around kernels
                continue
            micros = event.self_device_time_total if ctx.is_cuda else event.self_cpu_time_total
            kernels[event.key] = kernels.get(event.key, 0.0) + micros / 1e3 / steps
        total_ms = sum(kernels.values())
        case = describe(recipe)
        yield {"case": case, "kernel": "all kernels", "ms a step": total_ms, "share": 1.0}
        # Profiling takes time as well: the share of a step without it is larger.
        yield {"case": case, "kernel": "busy while profiled", "share": total_ms / wall_ms}
        categories: dict[str, float] = {}
        for name, ms in kernels.items():
            kind = categorize(name)
            categories[kind] = categories.get(kind, 0.0) + ms
        for prefix, table, limit in (("", categories, 10), ("kernel ", kernels, 12)):
            for name, ms in sorted(table.items(), key=lambda item: -item[1])[:limit]:
                label = (prefix + name)[:90].replace("|", "/")
                share = ms / max(total_ms, 1e-9)
                yield {"case": case, "kernel": label, "ms a step": ms, "share": share}


def categorize(kernel: str) -> str:
    """Return the category of a kernel's name."""
    name = kernel.lower()
    return next(
        (kind for kind, parts in CATEGORIES.items() if any(part in name for part in parts)),
        OTHER_CATEGORY,
    )


# --- part: switches -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Switch:
    """A variant of the default training with one thing switched."""

    make: Callable[[Context], tuple[Step, Trainer]]
    flags: Callable[[], Any] = nullcontext
    """Context of its turns, for what is a setting of the process."""
    needs_cuda: bool = False
    min_s: float = 0.0
    """Seconds of the budget without which it is left out."""


def run_switches(ctx: Context) -> Iterator[Row]:
    """Time `hd` at 128 px with one thing switched at a time, in turns with the default."""
    slow = [name for name, switch in SWITCHES.items() if switch.min_s]
    yield from time_switches(ctx, [name for name in SWITCHES if name not in slow])
    for name in slow:  # apart, so that the others are not lost with it
        yield from time_switches(ctx, [DEFAULT_SWITCH, name])


def time_switches(ctx: Context, names: Sequence[str]) -> Iterator[Row]:
    """Time some variants in turns; the first of them is the default."""
    steps: dict[str, Step] = {}
    first_s: dict[str, float] = {}
    for name in names:
        switch = SWITCHES[name]
        try:
            if switch.needs_cuda and not ctx.is_cuda:
                raise SkippedError("needs a GPU")
            if ctx.seconds_left() < switch.min_s and not ctx.tiny:
                raise SkippedError("too little time left")
            started = time.monotonic()
            step, _ = switch.make(ctx)
            with switch.flags():
                warm_up(ctx, step)
            first_s[name] = time.monotonic() - started
            steps[name] = step
        except SkippedError as error:
            yield {"switched": name, "note": f"skipped: {error}"}
        except Exception as error:  # one variant must not end the others
            raise_if_fatal(ctx, error)
            yield {"switched": name, "note": f"error: {first_line(error)}"}
    images = hd_recipe(ctx, 128, 16).train.batch_size * len(IDENTITIES)
    flags = {name: SWITCHES[name].flags for name in steps}
    times = interleave(ctx, steps, images=images, flags=flags)
    for name, values in times.items():
        pairs = zip(times[DEFAULT_SWITCH], values, strict=True)
        yield {
            "switched": name,
            "ms a step": median(values) * 1e3,
            "images/s": images / median(values),
            "times the default's speed": median(base / one for base, one in pairs),
            "spread": (max(values) - min(values)) / median(values),
            "first steps, s": first_s[name],
        }


def make_default(ctx: Context, *overrides: str, **hardware: Any) -> tuple[Step, Trainer]:  # noqa: ANN401
    """Return a step of `hd` at 128 px with some settings, and properties of the device, changed."""
    changed = replace(ctx, hardware=replace(ctx.hardware, **hardware))
    trainer, loader = make_trainer(changed, hd_recipe(ctx, 128, 16, *overrides))
    return partial(full_step, trainer, BatchPrefetcher(loader)), trainer


def make_other_layout(ctx: Context) -> tuple[Step, Trainer]:
    """Switch between channels last, the default on a GPU, and contiguous."""
    is_last = ctx.hardware.memory_format == torch.channels_last
    other = torch.contiguous_format if is_last else torch.channels_last
    return make_default(ctx, memory_format=other)


def make_unfused(ctx: Context, *, foreach: bool) -> tuple[Step, Trainer]:
    """Use an optimizer that is not fused."""
    step, trainer = make_default(ctx)
    replace_optimizers(trainer, foreach=foreach)
    return step, trainer


def replace_optimizers(trainer: Trainer, **options: bool) -> None:
    """Give every group an Adam with other options."""
    train = trainer.train
    for group, parameters in trainer.parameter_groups.items():
        rate = trainer.model.learning_rate(group)
        betas = (train.beta1, train.beta2)
        trainer.optimizers[group] = torch.optim.Adam(parameters, lr=rate, betas=betas, **options)


def make_fixed_batch(ctx: Context) -> tuple[Step, Trainer]:
    """Train on the same batch again and again: the bound of any prefetching."""
    trainer, loader = make_trainer(ctx, hd_recipe(ctx, 128, 16))
    batch = loader.batch(0)
    return (lambda seen: train_step(trainer, batch, seen)), trainer


def make_streamed(ctx: Context) -> tuple[Step, Trainer]:
    """Send every batch's crops to the device, as where it cannot hold all of them."""
    trainer, loader = make_trainer(ctx, hd_recipe(ctx, 128, 16), loader_type=GpuStreamingLoader)
    return partial(full_step, trainer, BatchPrefetcher(loader)), trainer


def make_unprefetched(ctx: Context) -> tuple[Step, Trainer]:
    """Make each batch when the step needs it, on the step's own stream."""
    trainer, loader = make_trainer(ctx, hd_recipe(ctx, 128, 16))
    return (lambda seen: train_step(trainer, loader.batch(seen), seen)), trainer


def make_threaded(ctx: Context) -> tuple[Step, Trainer]:
    """Prefetch in a thread, which leaves the host's main one to the step."""
    trainer, loader = make_trainer(ctx, hd_recipe(ctx, 128, 16))
    batches, thread = BatchPrefetcher(loader), ThreadPoolExecutor(1)
    pending: list[Future[None]] = []

    def step(seen: int) -> None:
        for one in pending:
            one.result()
        batch = batches.batch(seen)
        pending[:] = [thread.submit(batches.prefetch, seen + loader.images_per_step)]
        train_step(trainer, batch, seen)

    return step, trainer


def make_cuda_graph(ctx: Context) -> tuple[Step, Trainer]:
    """Record a step as a CUDA graph and replay it.

    To time it only: the learning rate and the decay of the averages are those of the recording.
    """
    trainer, loader = make_trainer(ctx, hd_recipe(ctx, 128, 16))
    replace_optimizers(trainer, fused=True, capturable=True)
    static = FaceBatch(**{name: one.clone() for name, one in vars(loader.batch(0)).items()})
    side, current = torch.cuda.Stream(ctx.device), torch.cuda.current_stream(ctx.device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        for index in range(3):
            train_step(trainer, static, index * loader.images_per_step)
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        train_step(trainer, static, 3 * loader.images_per_step)

    def replay(seen: int) -> None:
        for name, value in vars(loader.batch(seen)).items():
            getattr(static, name).copy_(value)
        graph.replay()

    return replay, trainer


def make_compiled(ctx: Context) -> tuple[Step, Trainer]:
    """Compile the networks."""
    step, trainer = make_default(ctx)
    for network in trainer.model.compilable_networks():
        # A CPU's compiler takes minutes; there only the tracing is tried.
        network.compile(backend=COMPILE_BACKEND if ctx.is_cuda else "eager")
    return step, trainer


@contextmanager
def without_cudnn_benchmark() -> Iterator[None]:
    """Let cuDNN choose algorithms by its heuristics."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 products in float32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


DEFAULT_SWITCH = "nothing"
SWITCHES: Mapping[str, Switch] = {
    DEFAULT_SWITCH: Switch(make=make_default),
    "float32 (with TF32)": Switch(make=partial(make_default, autocast_dtype=None)),
    "float32, no TF32": Switch(make=partial(make_default, autocast_dtype=None), flags=without_tf32),
    "the other memory layout": Switch(make=make_other_layout),
    "CUDA graph": Switch(make=make_cuda_graph, needs_cuda=True),
    "no prefetching": Switch(make=make_unprefetched),
    "prefetching in a thread": Switch(make=make_threaded),
    "crops sent every step": Switch(make=make_streamed),
    "the same batch (bound of prefetching)": Switch(make=make_fixed_batch),
    "optimizer: foreach": Switch(make=partial(make_unfused, foreach=True)),
    "optimizer: plain loop": Switch(make=partial(make_unfused, foreach=False)),
    "no averaged weights": Switch(
        make=lambda ctx: make_default(ctx, "train.ema_halflife_images=0")
    ),
    "no cuDNN benchmark": Switch(make=make_default, flags=without_cudnn_benchmark),
    "torch.compile": Switch(make=make_compiled, min_s=120.0),  # compiling takes long: last
}


# --- part: memory -------------------------------------------------------------------------------


def run_memory(ctx: Context) -> Iterator[Row]:
    """Search the largest batch as `--batch-size auto` does, and run out of memory on purpose."""
    for size_px in (128, 256):
        reset_memory(ctx)
        started = time.monotonic()
        trials: list[Row] = []
        size, stopped_by = search_batch_size(
            partial(try_batch_size, ctx, size_px, trials),
            limits=search_limits(ctx.device),
            max_batch_size=4 if ctx.tiny else 1024,
        )
        case = f"--batch-size auto, {describe(hd_recipe(ctx, size_px, 2))}"
        yield from ({"case": case, **trial} for trial in trials)
        seconds = time.monotonic() - started
        yield {"case": case, "batch": size, "note": f"chosen: {stopped_by}; {seconds:.0f} s"}
    yield guarded_row({"case": "out of memory"}, partial(check_out_of_memory, ctx))


def try_batch_size(ctx: Context, size_px: int, trials: list[Row], size: int) -> BatchTrial | None:
    """Train on some batches of `size` faces of each identity; None if memory runs out."""
    reset_memory(ctx)
    try:
        trainer, loader = make_trainer(ctx, with_batch_size(hd_recipe(ctx, size_px, 2), size))
        speed, memory = benchmark_steps(trainer, loader, seconds=ctx.turn_s)
    except (DeviceError, torch.OutOfMemoryError):
        memory = 0
    if not memory or trainer.grad_accum_steps > 1:
        trials.append({"batch": size, "note": "out of memory"})
        return None
    trials.append({"batch": size, "images/s": speed, "memory, GB": memory / 1e9})
    # On a CPU the peak is that of the whole process, and it never falls.
    return BatchTrial(images_per_second=speed, memory_bytes=memory if ctx.is_cuda else 0)


def check_out_of_memory(ctx: Context) -> Row:
    """Give a step too little memory: it must be split and come to the same loss."""
    recipe = hd_recipe(ctx, 128, 64)
    size = recipe.train.batch_size
    trainer, loader = make_trainer(ctx, recipe)
    batch = loader.batch(0)
    before = {name: one.detach().clone() for name, one in trainer.state_dict().items()}
    reset_memory(ctx)
    expected = mean_loss(train_step(trainer, batch, 0))
    peak_gb = peak_memory_gb(ctx)
    del trainer
    trainer, loader = make_trainer(ctx, recipe)
    trainer.load_state_dict(before)
    failures = 0
    with less_memory(ctx, trainer, peak_gb=peak_gb, size=size) as limit:
        while True:
            try:
                loss = mean_loss(train_step(trainer, batch, 0))
                break
            except StepOutOfMemoryError:
                failures += 1
                trainer.split_further(size)
                trainer.load_state_dict(before)
    difference = abs(loss - expected) / max(abs(expected), 1e-9)
    return {
        "batch": size,
        "memory, GB": peak_gb,
        "equal": failures > 0 and difference <= LOSS_TOLERANCE,
        "difference": difference,
        "note": f"{limit}: failed {failures} times, then {trainer.grad_accum_steps} parts",
    }


@contextmanager
def less_memory(
    ctx: Context, trainer: Trainer, *, peak_gb: float | None, size: int
) -> Iterator[str]:
    """Leave less memory than a step needs; on a CPU raise the error that would be raised."""
    if not ctx.is_cuda:
        train = trainer.model.train_step

        def refuse(batch: FaceBatch, *arguments: Any) -> dict[str, Tensor]:  # noqa: ANN401
            if batch.target.shape[1] > size // 2:
                raise torch.OutOfMemoryError("simulated")
            return train(batch, *arguments)

        trainer.model.train_step = refuse  # type: ignore[method-assign]
        yield "simulated"
        return
    assert peak_gb is not None
    gc.collect()
    torch.cuda.empty_cache()
    used_gb = torch.cuda.memory_allocated(ctx.device) / 1e9
    # Half of what the step takes beyond what is there, and the optimizer's moments.
    moments_gb = 2 * sum(one.numel() * 4 for one in trainer.model.parameters()) / 1e9
    limit_gb = used_gb + moments_gb + 0.5 * max(peak_gb - used_gb - moments_gb, 0.1)
    total_gb = torch.cuda.get_device_properties(ctx.device).total_memory / 1e9
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_gb / total_gb), ctx.device)
    try:
        yield f"{limit_gb:.1f} GB"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, ctx.device)


# --- part: plain --------------------------------------------------------------------------------


def run_plain(ctx: Context) -> Iterator[Row]:
    """Time our training of the published layout against the plain loop of the field."""
    for batch_size in (64, 16):
        recipe = make_recipe(ctx, "autoencoder", "original")
        recipe = with_batch_size(recipe, 2 if ctx.tiny else batch_size)
        images = recipe.train.batch_size * len(IDENTITIES)
        library = "OpenCV" if cv2 else "torch, on the CPU"
        trainer, loader = make_trainer(ctx, recipe)
        plain = f"plain loop (numpy and {library})"
        steps: dict[str, Step] = {
            plain: make_plain(ctx, recipe, is_augmented=True),
            "plain loop, without augmentation": make_plain(ctx, recipe, is_augmented=False),
            "ours": partial(full_step, trainer, BatchPrefetcher(loader)),
        }
        for step in steps.values():
            warm_up(ctx, step)
        times = interleave(
            ctx, steps, images=images, flags=dict.fromkeys([*steps][:2], plain_flags)
        )
        for name, values in times.items():
            yield {
                "loop": name,
                "batch": recipe.train.batch_size,
                "images/s": images / median(values),
                "ratio": median(base / one for base, one in zip(times[plain], values, strict=True)),
            }


@contextmanager
def plain_flags() -> Iterator[None]:
    """Set what torch sets by default: no TF32 in products, no search for algorithms."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with without_cudnn_benchmark():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def make_plain(ctx: Context, recipe: Recipe, *, is_augmented: bool) -> Step:
    """Return a step of the first programs' training, written from its description.

    Images are augmented one after the other on the main thread, in float32; one Adam for each
    identity's autoencoder with the encoder in both; the losses are read every step.
    """
    hardware = replace(ctx.hardware, autocast_dtype=None, memory_format=torch.contiguous_format)
    model: Any = build_model(recipe, hardware)
    optimizers = [
        torch.optim.Adam(
            [*model.encoder.parameters(), *decoder.parameters()], lr=5e-5, betas=(0.5, 0.999)
        )
        for decoder in model.decoders
    ]
    rng = np.random.default_rng(SEED)
    size_px, batch_size = recipe.model.size_px, recipe.train.batch_size

    def make_batch(pixels: np.ndarray) -> tuple[Tensor, ...]:
        pairs = [
            plain_pair(pixels[index, ..., :3], rng, size_px)
            for index in rng.integers(0, len(pixels), batch_size)
        ]
        return tuple(
            torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2).float().to(ctx.device) / 127.5 - 1
            for part in zip(*pairs, strict=True)
        )

    fixed = [make_batch(ctx.data.pixels[name]) for name in IDENTITIES]

    def step(seen: int) -> None:
        del seen
        for index, (decoder, optimizer) in enumerate(zip(model.decoders, optimizers, strict=True)):
            pixels = ctx.data.pixels[IDENTITIES[index]]
            warped, target = make_batch(pixels) if is_augmented else fixed[index]
            optimizer.zero_grad()
            loss = functional.l1_loss(decoder(model.encoder(warped).features).image, target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()

    return step


def plain_pair(
    crop: np.ndarray, rng: np.random.Generator, size_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rotate, scale, shift, flip and warp a crop (S, S, 3), each by its own pass over the image."""
    side = crop.shape[0]
    angle, scale = np.deg2rad(rng.uniform(-10, 10)), 1 + rng.uniform(-0.05, 0.05)
    shift = rng.uniform(-0.05, 0.05, 2) * side
    center = (side - 1) / 2
    y, x = np.mgrid[:side, :side].astype(np.float32) - np.float32(center)
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    map_x, map_y = cos * x - sin * y + center, sin * x + cos * y + center
    image = remap(crop, map_x + shift[0], map_y + shift[1])
    if rng.random() < 0.5:
        image = np.ascontiguousarray(image[:, ::-1])
    nodes = np.linspace(side * 0.1875, side * 0.8125, 5)
    noise = side * 5 / 256
    moved = (
        np.broadcast_to(nodes, (5, 5)) + rng.normal(0, noise, (5, 5)),
        np.broadcast_to(nodes[:, None], (5, 5)) + rng.normal(0, noise, (5, 5)),
    )
    along = np.linspace(0.5, 3.5, size_px)
    low = along.astype(np.int64)
    weights = np.zeros((size_px, 5))
    weights[np.arange(size_px), low] = 1 - (along - low)
    weights[np.arange(size_px), low + 1] = along - low
    map_x, map_y = (weights @ one @ weights.T for one in moved)
    straight = nodes[0] + along / 4 * (nodes[-1] - nodes[0])
    target = remap(image, *np.meshgrid(straight, straight))
    return remap(image, map_x, map_y), target


def remap(image: np.ndarray, map_x: np.ndarray, map_y: np.ndarray) -> np.ndarray:
    """Sample an image (H, W, 3) at pixels, bilinear: with OpenCV if it is there, else torch."""
    if cv2 is not None:
        return np.asarray(
            cv2.remap(
                image,
                map_x.astype(np.float32),
                map_y.astype(np.float32),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )
    side = image.shape[0]
    grid = torch.from_numpy(np.stack([map_x, map_y], -1).astype(np.float32))[None]
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    sampled = functional.grid_sample(
        planes, (2 * grid + 1) / side - 1, padding_mode="border", align_corners=False
    )
    return sampled[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


# --- part: convert ------------------------------------------------------------------------------


def run_convert(ctx: Context) -> Iterator[Row]:
    """Time the swap of 16 crops by `hd`, from images to images, and the network by itself."""
    count = 2 if ctx.tiny else 16
    for size_px in (128, 256):
        recipe = hd_recipe(ctx, size_px, 16)
        model = build_model(recipe, ctx.hardware).eval()
        trained = checkpoint.TrainedModel(
            model=model, recipe=recipe, identities=IDENTITIES, images_seen=0
        )
        face_model = FaceModel.from_trained(trained, ctx.hardware)
        side = face_model.size_px
        crops = list(np.random.default_rng(SEED).integers(0, 256, (count, side, side, 3), np.uint8))
        dtype = ctx.hardware.autocast_dtype or torch.float32
        faces = torch.rand(count, 3, side, side, device=ctx.device, dtype=dtype) * 2 - 1

        def infer(seen: int, face_model: FaceModel = face_model, crops: Any = crops) -> None:  # noqa: ANN401
            del seen
            face_model.infer(crops, IDENTITIES[0])

        def swap(seen: int, model: SwapModel = model, faces: Tensor = faces) -> None:
            del seen
            is_autocast = ctx.hardware.autocast_dtype is not None
            with (
                torch.inference_mode(),
                torch.autocast(ctx.device.type, ctx.hardware.autocast_dtype, is_autocast),
            ):
                model.swap(faces, IDENTITIES[0])

        steps: dict[str, Step] = {"images to images": infer, "the network": swap}
        for step in steps.values():
            warm_up(ctx, step)
        for name, values in interleave(ctx, steps, images=count).items():
            yield {
                "case": f"{describe(recipe)}, {name}",
                "batch": count,
                "ms a batch": median(values) * 1e3,
                "faces/s": count / median(values),
            }


# --- part: swap ---------------------------------------------------------------------------------


def run_swap(ctx: Context) -> Iterator[Row]:
    """Train `hd`, then `light`, for the same time on synthetic people; score the true swaps."""
    if not ctx.data.cases:
        raise SkippedError("needs --data")
    yield {"preset": "unswapped input", **score_unswapped(ctx)}
    # Scoring takes some seconds, and the next part some more where it can run.
    reserved_s = 50 if torch.cuda.device_count() > 1 else 15
    seconds = 0.3 if ctx.tiny else min(TARGET_SWAP_SECONDS, (ctx.seconds_left() - reserved_s) / 2)
    swaps: dict[str, np.ndarray] = {}
    for preset in ("hd", "light"):
        recipe = make_recipe(ctx, "autoencoder", preset)
        trainer, loader = make_trainer(ctx, recipe)
        seen, spent, marks = 0, 0.0, [0.25, 0.5, 0.75, 1.0]
        images = loader.images_per_step
        while marks:
            turn = time.perf_counter()
            scale = trainer.schedule(min(1.0, spent / seconds))
            scale *= warmup_factor(seen, recipe.train.warmup_images)
            seen = take_steps(trainer, loader, seen=seen, count=1, lr_scale=scale)
            if seen // images % 16 == 0 or ctx.tiny:
                ctx.synchronize()  # the queue must not run ahead of the clock
            spent += time.perf_counter() - turn
            if spent >= marks[0] * seconds:
                marks.pop(0)
                with trainer.ema_weights() as model:
                    scores, swaps[preset] = score_swaps(ctx, model, loader)
                yield {
                    "preset": f"{describe(recipe)}, {images} images a step",
                    "s": spent,
                    "images": seen,
                    "images/s": seen / spent,
                    **scores,
                }
    np.savez_compressed(ctx.out / "swaps.npz", **swaps)


def score_swaps(ctx: Context, model: SwapModel, loader: FaceLoader) -> tuple[Row, np.ndarray]:
    """Swap all cases; return the scores inside the face, and some rows of images.

    Networks of all sizes are compared at the size of the crops, in the square that they see.
    """
    scores: list[tuple[float, float]] = []
    grids = []
    for case in ctx.data.cases:
        crops, truths, masks = case_tensors(ctx, case, coverage=loader.model.coverage)
        side, size_px = crops.shape[-1], loader.model.size_px
        small = functional.interpolate(crops, size=size_px, mode="bilinear", antialias=True)
        outputs = []
        for start in range(0, len(small), 8):
            output = model.swap(small[start : start + 8], case.target)
            source = small[start : start + 8]
            mask = torch.ones_like(source[:, :1]) if output.mask is None else output.mask
            outputs.append(torch.cat([output.image.float(), mask.float()], 1))
        grown = functional.interpolate(torch.cat(outputs), size=side, mode="bicubic")
        image, mask = grown[:, :3].clamp(-1, 1), grown[:, 3:].clamp(0, 1)
        swapped = mask * image + (1 - mask) * crops
        scores.append(score(swapped, truths, masks))
        shown = slice(0, len(swapped), max(1, len(swapped) // 3))
        grids.append(torch.stack([crops[shown], swapped[shown], truths[shown]]))
    images = ((torch.cat(grids, 1).float() + 1) * 127.5).round().to(torch.uint8)
    psnr, ssim = np.mean(scores, axis=0).tolist()
    return {"PSNR, dB": psnr, "SSIM": ssim}, images.permute(0, 1, 3, 4, 2).cpu().numpy()


def score_unswapped(ctx: Context) -> Row:
    """Return the scores of the crops themselves."""
    coverage = make_recipe(ctx, "autoencoder", "hd").model.coverage
    scores = [score(*case_tensors(ctx, case, coverage=coverage)) for case in ctx.data.cases]
    psnr, ssim = np.mean(scores, axis=0).tolist()
    return {"PSNR, dB": psnr, "SSIM": ssim}


def case_tensors(ctx: Context, case: SwapCase, *, coverage: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the crops, the true swaps (M, 3, S, S) and masks (M, 1, S, S) of the square."""
    side = case.pixels.shape[1]
    margin = round((1 - coverage) * side / 2)
    inner = slice(margin, side - margin)

    def load(images: np.ndarray) -> Tensor:
        return torch.from_numpy(images[:, inner, inner].copy()).permute(0, 3, 1, 2).to(ctx.device)

    truths = load(case.truths).float()
    masks = (truths[:, 3:] / FACE_LEVEL).clamp(0, 1)
    return load(case.pixels)[:, :3].float() / 127.5 - 1, truths[:, :3] / 127.5 - 1, masks


def score(images: Tensor, truths: Tensor, masks: Tensor) -> tuple[float, float]:
    """Return PSNR, dB, and SSIM inside masks."""
    with torch.autocast(images.device.type, enabled=False):
        weight = masks.expand_as(images)
        mse = float(((images - truths).square() * weight).sum() / weight.sum().clamp(min=1)) / 4
        # From 0 to 2: SSIM compares mean brightnesses, which must not be negative.
        ssim = 1 - 2 * float(weighted_dssim(images + 1, truths + 1, masks))
    return float(-10 * np.log10(max(mse, 1e-10))), ssim


# --- part: pretrain -----------------------------------------------------------------------------


def run_pretrain(ctx: Context) -> Iterator[Row]:
    """Pretrain `hd` on pairs as long as the budget allows; write the weights, a base for it."""
    if ctx.pairs is None:
        raise SkippedError("needs --pairs")
    try:
        pairs = gpu_pairs.unpack_pairs(ctx.pairs)
    except ImportError as error:
        raise SkippedError(f"needs Pillow: {error}") from error
    recipe = make_recipe(ctx, "autoencoder", "hd", *PRETRAIN_SETTINGS)
    size = recipe.train.batch_size if ctx.tiny else PRETRAIN_BATCH
    recipe = with_batch_size(recipe, size)
    loader = PairLoader(
        pairs,
        model=recipe.model,
        train=recipe.train,
        seed=SEED,
        device=ctx.device,
        identity=POOLED_IDENTITY,
    )
    model = build_pretrain_model(recipe, num_people=loader.num_people, seed=SEED)
    model.to(ctx.device, memory_format=ctx.hardware.memory_format)  # type: ignore[call-overload]
    trainer = Trainer(model.train(), recipe.train, ctx.hardware)
    reserved_s = 0 if ctx.tiny else 20
    seconds = 0.3 if ctx.tiny else ctx.seconds_left() - reserved_s
    spent, seen, marks = 0.0, 0, [0.25, 0.5, 0.75, 1.0]
    while marks:
        turn = time.perf_counter()
        scale = trainer.schedule(min(1.0, spent / seconds))
        scale *= warmup_factor(seen, recipe.train.warmup_images)
        torch.manual_seed(derive_seed(SEED, seen, "step"))
        progress = TrainProgress(images_seen=seen, max_images=None)
        trainer.step(loader.batch(seen), progress, lr_scale=scale, images=size)
        seen += size
        if seen // size % 16 == 0 or ctx.tiny:
            ctx.synchronize()  # the queue must not run ahead of the clock
        spent += time.perf_counter() - turn
        if spent >= marks[0] * seconds:
            marks.pop(0)
            with trainer.ema_weights() as averaged:
                scores = score_pairs(averaged, loader)
            row = {"preset": f"{describe(recipe)}, {size} pairs a step", "s": spent}
            yield {**row, "pairs": seen, "pairs/s": seen / spent, **scores}
    checkpoint.save_weights(
        ctx.out / "base.safetensors",
        trainer.export_weights(),
        recipe=recipe,
        identities=(POOLED_IDENTITY,),
        images_seen=seen,
    )


def score_pairs(model: SwapModel, loader: PairLoader) -> Row:
    """Score swaps of people whom training has not seen to people whom it has."""
    assert isinstance(model, ModulatedAutoencoder)
    scores = []
    chosen = loader.validation_pairs[:: max(1, len(loader.validation_pairs) // 96)]
    for start in range(0, len(chosen), 8):
        batch = loader.validation_batch(chosen[start : start + 8])
        swaps = model.swap_to(batch.warped[0], batch.people[0]).image.float().clamp(-1, 1)
        scores.append(score(swaps, batch.target[0].float(), batch.mask[0].float()))
    psnr, ssim = np.mean(scores, axis=0).tolist()
    return {"PSNR, dB": psnr, "SSIM": ssim}


# --- part: distributed --------------------------------------------------------------------------


def run_distributed(ctx: Context) -> Iterator[Row]:
    """Train with two processes, and compare weights and speed with those of one."""
    if ctx.is_cuda and torch.cuda.device_count() < 2:
        raise SkippedError("there is one device")
    path = ctx.out / "distributed.json"
    path.unlink(missing_ok=True)
    logs = ctx.out / "distributed-logs"
    shutil.rmtree(logs, ignore_errors=True)  # of an earlier run
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["--log-dir", str(logs), "--redirects", "3"]
    command += [str(Path(__file__).resolve()), "--worker", "--out", str(ctx.out)]
    command += ["--device", ctx.device.type, *(["--tiny"] if ctx.tiny else [])]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=max(10.0, ctx.seconds_left()),
    )
    if done.returncode or not path.exists():
        raise RuntimeError(f"torchrun: {describe_failure(logs, done.stderr)}")
    yield json.loads(path.read_text(encoding="utf-8"))


def describe_failure(logs: Path, stderr: str) -> str:
    """Return in a line how the processes of torchrun ended, and what each of them said last.

    Args:
        logs: The folder of `--log-dir`; torchrun's own last words only count the processes.
        stderr: What torchrun printed.
    """
    codes = [f"exit code {one}" for one in re.findall(r"exitcode\s*: (-?\d+)", stderr)]
    said = {path.parent.name: path.read_text().split("\n") for path in logs.rglob("stderr.log")}
    last = {rank: [line for line in lines if line.strip()][-1:] for rank, lines in said.items()}
    ends = [f"process {rank}: {line}" for rank in sorted(last) for line in last[rank]]
    return "; ".join([*codes, *ends]) or stderr.strip()[-800:]


def run_worker(ctx: Context) -> None:
    """Train as one of the processes that torchrun started; the main one writes the row."""
    recipe = hd_recipe(ctx, 128, 16)
    with init_distributed(recipe.train.batch_size) as dist:
        if ctx.is_cuda:
            torch.cuda.set_device(dist.local_rank)
            device = torch.device("cuda", dist.local_rank)
            ctx = replace(ctx, hardware=replace(ctx.hardware, device=device))
        size = recipe.train.batch_size
        reduce = partial(dist.all_reduce, shard_weight=dist.shard_weight(size))
        trainer, loader = make_trainer(
            ctx, recipe, all_reduce=reduce, rank=dist.rank, world_size=dist.world_size
        )
        before = copy_weights(trainer)
        seen = take_steps(trainer, loader, seen=0, count=3)
        shared = copy_weights(trainer)
        count = 2 if ctx.tiny else 30
        dist.barrier()
        ctx.synchronize()
        started = time.perf_counter()
        take_steps(trainer, loader, seen=seen, count=count)
        ctx.synchronize()
        both_s = (time.perf_counter() - started) / count
        reduce_s = time_reductions(ctx, trainer, dist)
        del trainer
        dist.barrier()
        difference = single_s = 0.0
        if dist.is_main:
            trainer, loader = make_trainer(ctx, recipe)
            take_steps(trainer, loader, seen=0, count=3)
            difference = relative_difference(shared, copy_weights(trainer), before)
            ctx.synchronize()
            started = time.perf_counter()
            take_steps(trainer, loader, seen=seen, count=count)
            ctx.synchronize()
            single_s = (time.perf_counter() - started) / count
        dist.barrier()  # the group is left together: a process that closes early resets connections
    if not dist.is_main:
        return
    row = {
        "processes": 2,
        "batch": size,
        "images/s": size * len(IDENTITIES) / both_s,
        "times one process": single_s / both_s,
        # Sums of gradients are rounded in another order, and Adam's first steps are their signs.
        "difference from one process": difference,
        **reduce_s,
    }
    write_text(ctx.out / "distributed.json", json.dumps(row))


def time_reductions(ctx: Context, trainer: Trainer, dist: DistributedContext) -> Row:
    """Time the sum of all gradients: in one message, as we do, and in one for each tensor."""
    gradients = [torch.ones_like(one) for one in trainer.model.parameters()]

    def in_one(_: int) -> None:
        dist.all_reduce(gradients, shard_weight=0.5)

    def in_many(_: int) -> None:
        for one in gradients:
            dist.all_reduce([one], shard_weight=0.5)

    rounds, row = 3 if ctx.tiny else 10, {}
    for name, reduce in (("one message", in_one), ("one a tensor", in_many)):
        reduce(0)
        dist.barrier()
        ctx.synchronize()
        started = time.perf_counter()
        for index in range(rounds):
            reduce(index)
        ctx.synchronize()
        row[f"ms of gradients, {name}"] = (time.perf_counter() - started) / rounds * 1e3
    return row


# --- building blocks ----------------------------------------------------------------------------

TINY_OVERRIDES: Mapping[str, tuple[str, ...]] = {
    "autoencoder": (
        "model.encoder_channels=[4,8,8]",
        "model.latent_dim=8",
        "model.shared_channels=8",
        "model.decoder_channels=[8,4]",
        "model.discriminator_base_channels=4",
    ),
    "cyclegan": ("model.generator_channels=[4,8]", "model.discriminator_channels=[4,8]"),
    "progressive": ("model.generator_channels=[4,8]", "model.discriminator_channels=[4,8]"),
}
"""Backend -> settings of networks that a test can train."""


def make_recipe(ctx: Context, backend: str, preset: str, *overrides: str) -> Recipe:
    """Return the recipe of a preset; with `--tiny` of a small network of its kind."""
    tiny = [*TINY_OVERRIDES[backend], "model.size_px=32", "train.batch_size=2"] if ctx.tiny else []
    return resolve(backend, preset, [*overrides, *tiny])


def hd_recipe(ctx: Context, size_px: int, batch_size: int, *overrides: str) -> Recipe:
    """Return the recipe of `hd` for a side and a batch size."""
    changes = [f"model.size_px={size_px}", f"train.batch_size={batch_size}", *overrides]
    return make_recipe(ctx, "autoencoder", "hd", *changes)


def describe(recipe: Recipe) -> str:
    """Return the preset and the side of a recipe."""
    return f"{recipe.preset}, {recipe.model.size_px} px"


def build_model(recipe: Recipe, hardware: Hardware) -> SwapModel:
    """Return fresh networks on the device."""
    torch.manual_seed(derive_seed(SEED, 0, "first weights"))
    model = registry.load(recipe.backend)(recipe.model, recipe.train, IDENTITIES)
    model.to(hardware.device, memory_format=hardware.memory_format)  # type: ignore[call-overload]
    return model.train()


def make_trainer(
    ctx: Context,
    recipe: Recipe,
    *,
    loader_type: type[FaceLoader] = GpuResidentLoader,
    all_reduce: Callable[[Sequence[Tensor]], None] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> tuple[Trainer, FaceLoader]:
    """Return a new trainer and a loader that holds the crops on the device, as GPUs use it."""
    model = build_model(recipe, ctx.hardware)
    trainer = Trainer(model, recipe.train, ctx.hardware, all_reduce=all_reduce)
    datasets = []
    for name in IDENTITIES:
        pixels = ctx.data.pixels[name]
        side = cached_side_px(recipe.model, pixels.shape[1])
        train, val = split_train_val(len(pixels), 0.1)
        datasets.append(
            IdentityDataset(
                name=name,
                pixels=resize_pixels(pixels, side),
                train_indices=train,
                val_indices=val,
                poses=ctx.data.poses[name],
            )
        )
    loader = loader_type(
        datasets,
        model=recipe.model,
        train=recipe.train,
        seed=SEED,
        device=ctx.device,
        rank=rank,
        world_size=world_size,
    )
    return trainer, loader


def resize_pixels(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return crops uint8 (N, S, S, C) in another size."""
    if pixels.shape[1] == side:
        return pixels
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    resized = functional.interpolate(planes, size=side, mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


def take_steps(
    trainer: Trainer, loader: FaceLoader, *, seen: int, count: int, lr_scale: float = 1.0
) -> int:
    """Train `count` steps with the randomness of the training loop; return the images seen."""
    batches = BatchPrefetcher(loader)
    for _ in range(count):
        progress = TrainProgress(images_seen=seen, max_images=None)
        if isinstance(trainer.model, GrowingModel):
            growth_step = trainer.growth_due(progress)
            if growth_step != trainer.growth_step:
                torch.manual_seed(derive_seed(SEED, seen, "growth"))
                trainer.grow(growth_step, progress)
        batch = batches.batch(seen)
        torch.manual_seed(derive_seed(SEED, seen, "step of process 0"))
        trainer.step(batch, progress, lr_scale=lr_scale, images=loader.images_per_step)
        seen += loader.images_per_step
        batches.prefetch(seen)
    return seen


def train_step(trainer: Trainer, batch: FaceBatch, seen: int) -> Tensors:
    """Take one step of our training on a batch."""
    progress = TrainProgress(images_seen=seen, max_images=None)
    images = batch.target.shape[0] * batch.target.shape[1]
    return trainer.step(batch, progress, lr_scale=1.0, images=images)


def full_step(trainer: Trainer, batches: BatchPrefetcher, seen: int) -> Tensors:
    """Take one step and begin the next batch, as the training loop does."""
    batch = batches.batch(seen)
    losses = train_step(trainer, batch, seen)
    batches.prefetch(seen + batch.target.shape[0] * trainer.train.batch_size)
    return losses


def mean_loss(losses: Tensors) -> float:
    """Return the mean of a step's losses."""
    return float(torch.stack([one.float() for one in losses.values()]).mean())


def warm_up(ctx: Context, step: Step) -> None:
    """Take the first steps, which allocate memory and choose algorithms."""
    for _ in range(1 if ctx.tiny else 4):
        step(0)
    ctx.synchronize()


def interleave(
    ctx: Context,
    steps: Mapping[str, Step],
    *,
    images: int,
    flags: Mapping[str, Callable[[], Any]] | None = None,
) -> dict[str, list[float]]:
    """Let variants run in turns, A B C, C B A, ...; return the seconds of a step in each turn."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(ctx.rounds):
        for name in steps if turn % 2 == 0 else reversed([*steps]):
            with (flags or {}).get(name, nullcontext)():
                times[name].append(time_steps(ctx, steps[name], images=images))
    return times


def time_steps(ctx: Context, step: Step, *, images: int) -> float:
    """Run a variant for a turn; return the seconds of a step."""
    ctx.synchronize()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < ctx.turn_s:
        step(count * images)
        count += 1
        if count % 8 == 0:
            ctx.synchronize()  # the queue must not run ahead of the clock
    ctx.synchronize()
    return (time.perf_counter() - started) / count


def reset_memory(ctx: Context) -> None:
    """Free what is not used, and count the peak from here."""
    gc.collect()
    if ctx.is_cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(ctx.device)


def peak_memory_gb(ctx: Context) -> float | None:
    """Return the peak of the GPU's memory, GB; None on a CPU."""
    return torch.cuda.max_memory_allocated(ctx.device) / 1e9 if ctx.is_cuda else None


def guarded_row(row: Row, measure: Callable[[], Row]) -> Row:
    """Return a row with what `measure` returns, or with its error."""
    try:
        return {**row, **measure()}
    except (FaceswapError, RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        if "CUDA error" in str(error):  # nothing runs on the device after one
            raise
        return {**row, "note": f"error: {first_line(error)}"}
    finally:
        gc.collect()


def raise_if_fatal(ctx: Context, error: Exception) -> None:
    """Raise an error that ends the part: the time is over, or the device no longer works."""
    if isinstance(error, PartTimeoutError):
        raise error
    if not device_works(ctx):
        raise error


def device_works(ctx: Context) -> bool:
    """Return whether the device still computes: after some errors it does not."""
    try:
        torch.ones(1, device=ctx.device).item()
    except RuntimeError:
        return False
    return True


def first_line(error: BaseException) -> str:
    """Return an error as one line."""
    lines = [one for one in str(error).splitlines() if one.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"


# --- data ---------------------------------------------------------------------------------------


def make_data(path: Path, *, crops: int, cases: int, side_px: int) -> None:
    """Render two synthetic people, extract their faces, and write them with the true swaps.

    Needs the whole program. Takes about a minute for the default numbers on two cores.

    Raises:
        ConfigurationError: The file would be larger than `MAX_DATA_BYTES`.
        InputError: It cannot be written.
    """
    from faceswap_cli import synthetic
    from faceswap_cli.core.progress import Reporter
    from faceswap_cli.core.workspace import Workspace
    from faceswap_cli.faces.dataset import FaceSet
    from faceswap_cli.faces.settings import ExtractSettings
    from faceswap_cli.stages.extract import extract
    from faceswap_cli.training.dataset import crop_with_masks, pose_features
    from faceswap_cli.video.writer import VideoWriter

    clip_px = 384
    arrays: dict[str, np.ndarray] = {}

    def render(person: synthetic.Person, scenes: Sequence[Any]) -> list[Any]:
        return list(synthetic.render_frames(person, scenes, size_px=clip_px))

    with TemporaryDirectory() as folder:
        space = Workspace.open(Path(folder) / "workspace")

        def extract_frames(name: str, frames: Sequence[Any]) -> FaceSet:
            video = Path(folder) / f"{name}.mp4"
            rate = 25
            with VideoWriter(video, size=(clip_px, clip_px), rate=rate) as writer:
                for index, frame in enumerate(frames):
                    writer.write(frame.image, index / rate)
            target = space.set_folder(name)
            extract(video, folder=target, settings=ExtractSettings(), report=Reporter())
            return FaceSet.from_folder(target)

        def spaced_scenes(seed: int, count: int) -> list[Any]:
            scenes = synthetic.animate(seed, seconds=8.0).scenes
            return [scenes[len(scenes) * index // count] for index in range(count)]

        for index, name in enumerate(IDENTITIES):
            person, target = synthetic.CAST[name], IDENTITIES[1 - index]
            faces = extract_frames(name, render(person, spaced_scenes(1 + index, crops)))
            arrays[f"{name}/pixels"] = np.stack(
                [crop_with_masks(faces, one, side_px) for one in faces.records]
            )
            arrays[f"{name}/poses"] = pose_features(faces.records)
            scenes = spaced_scenes(11 + index, cases)
            faces = extract_frames(f"{name}-test", render(person, scenes))
            true_frames = render(synthetic.CAST[target].on_head_of(person), scenes)
            truths = []
            for record in faces.records:
                frame, to_crop = true_frames[record.frame], record.alignment.frame_to_crop(side_px)
                mask = cv2.warpAffine(frame.face_mask, to_crop, (side_px, side_px))
                levels = np.round(mask * FACE_LEVEL).astype(np.uint8)
                truths.append(np.dstack([record.alignment.crop(frame.image, side_px), levels]))
            arrays[f"{name}-as-{target}/pixels"] = np.stack(
                [crop_with_masks(faces, one, side_px) for one in faces.records]
            )
            arrays[f"{name}-as-{target}/truths"] = np.stack(truths)
    # Differences of neighbors compress better, as in PNG.
    coded = {
        key: np.diff(value, axis=2, prepend=np.uint8(0)) if value.dtype == np.uint8 else value
        for key, value in arrays.items()
    }
    with atomic_write(path) as temporary:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **coded)
        megabytes = temporary.stat().st_size / 1e6
        if megabytes > MAX_DATA_BYTES / 1e6:
            raise ConfigurationError(
                f"{path} would have {megabytes:.0f} MB", hint="make fewer --crops or --cases"
            )
    print(f"{path}: {megabytes:.1f} MB")


def load_data(path: Path) -> SyntheticData:
    """Read the file of `make_data`.

    Raises:
        InputError: It is not one, or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {
                key: np.cumsum(value, axis=2, dtype=np.uint8) if value.dtype == np.uint8 else value
                for key, value in file.items()
            }
        return assemble_data(arrays)
    except (OSError, KeyError, ValueError, AttributeError, BadZipFile, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as training data: {first_line(error)}",
            hint=f"make it with --make-data {path}, where the whole program is installed",
        ) from error


def assemble_data(arrays: Mapping[str, np.ndarray]) -> SyntheticData:
    """Return the data of arrays by their names in the file."""
    pairs = zip(IDENTITIES, reversed(IDENTITIES), strict=True)
    return SyntheticData(
        pixels={name: arrays[f"{name}/pixels"] for name in IDENTITIES},
        poses={name: arrays[f"{name}/poses"] for name in IDENTITIES},
        cases=[
            SwapCase(
                driving=driving,
                target=target,
                pixels=arrays[f"{driving}-as-{target}/pixels"],
                truths=arrays[f"{driving}-as-{target}/truths"],
            )
            for driving, target in pairs
        ],
    )


def random_data(count: int, side_px: int) -> SyntheticData:
    """Return smooth random crops: speed does not depend on their content."""
    generator = torch.Generator().manual_seed(SEED)
    pixels, poses = {}, {}
    for name in IDENTITIES:
        coarse = torch.rand(count, 4, 8, 8, generator=generator) * 255
        planes = functional.interpolate(coarse, size=side_px, mode="bilinear")
        pixels[name] = planes.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        poses[name] = torch.randn(count, 3, generator=generator).numpy()
    return SyntheticData(pixels=pixels, poses=poses)


# --- the run ------------------------------------------------------------------------------------

PARTS: Mapping[str, Part] = {
    "resume": Part(
        title="Every preset takes steps, and goes on after a stop", min_s=20, run=run_resume
    ),
    "speed": Part(title="Speed of `hd`", min_s=25, run=run_speed),
    "profile": Part(title="Where the time of a step goes", min_s=10, run=run_profile),
    "switches": Part(
        title="`hd` at 128 px, one thing switched at a time", min_s=45, run=run_switches
    ),
    "memory": Part(title="Largest batch, and running out of memory", min_s=20, run=run_memory),
    "plain": Part(
        title="The published layout, in the plain loop and ours", min_s=15, run=run_plain
    ),
    "convert": Part(title="Networks of convert", min_s=8, run=run_convert),
    "swap": Part(title="`hd` and `light` against the true swap", min_s=75, run=run_swap),
    "pretrain": Part(title="A base for `hd`", min_s=120, run=run_pretrain),
    "distributed": Part(title="Two processes", min_s=20, run=run_distributed),
}
"""The most important first."""


@dataclass(kw_only=True)
class Results:
    """What was measured, kept in two files that are written after every row."""

    folder: Path
    machine: Row
    parts: dict[str, Row] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, machine: Row) -> "Results":
        """Read the results of an earlier run on the same machine, or begin new ones.

        Raises:
            ConfigurationError: They are of another machine.
        """
        path = folder / "gpu.json"
        if not path.exists():
            return cls(folder=folder, machine=machine)
        table = json.loads(path.read_text(encoding="utf-8"))
        if table["machine"] != machine:
            raise ConfigurationError(
                f"{path} is of another machine, version or data", hint="give another --out"
            )
        return cls(folder=folder, machine=machine, parts=table["parts"])

    def save(self) -> None:
        """Write both files."""
        table = {"machine": self.machine, "parts": self.parts}
        write_text(self.folder / "gpu.json", json.dumps(table, indent=1) + "\n")
        write_text(self.folder / "gpu.md", self.to_markdown())

    def to_markdown(self) -> str:
        """Return a table of the machine and one of each part."""
        lines = ["# Training on a GPU", ""]
        if self.machine["device"] == "cpu":
            lines = [
                "# Trial run on a CPU",
                "",
                "It shows that the script runs. Nothing in it was measured on a GPU.",
                "",
            ]
        lines += ["| | |", "| --- | --- |"]
        lines += [f"| {name} | {value} |" for name, value in self.machine.items()]
        for name in PARTS:
            if name not in self.parts:
                continue
            part = self.parts[name]
            reason = f": {part['reason']}" if part["reason"] else ""
            lines += ["", f"## {PARTS[name].title}", ""]
            lines += [f"`{name}`: {part['status']}{reason} ({part['seconds']:.0f} s)", ""]
            columns = list(dict.fromkeys(key for row in part["rows"] for key in row))
            if columns:
                lines += [f"| {' | '.join(columns)} |", "|" + " --- |" * len(columns)]
            lines += [
                f"| {' | '.join(format_cell(row.get(key)) for key in columns)} |"
                for row in part["rows"]
            ]
        return "\n".join(lines) + "\n"


def format_cell(value: object) -> str:
    """Return a value as the text of a table's cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def run_parts(ctx: Context, results: Results, names: Sequence[str], *, argv: Sequence[str]) -> None:
    """Run parts; an error, or the end of the budget, ends one of them and not the others."""
    for position, name in enumerate(names):
        part = PARTS[name]
        entry: Row = {"status": "running", "reason": "", "seconds": 0.0, "rows": []}
        results.parts[name] = entry
        started = time.monotonic()
        try:
            if ctx.seconds_left() < (1 if ctx.tiny else part.min_s):
                left = max(0.0, ctx.seconds_left())
                raise SkippedError(f"{left:.0f} s of the budget left, needs {part.min_s:.0f}")
            with time_limit(ctx.seconds_left()):
                for row in part.run(ctx):
                    entry["rows"].append(row)
                    entry["seconds"] = time.monotonic() - started
                    results.save()
            bad = [one for one in entry["rows"] if is_bad(one)]
            entry["status"] = "failed" if bad else "done"
            entry["reason"] = f"{len(bad)} rows" if bad else ""
        except SkippedError as error:
            entry.update(status="skipped", reason=str(error))
        except PartTimeoutError:
            entry.update(status="stopped", reason="the budget was over")
        except Exception as error:  # the next part must run whatever it was
            entry.update(status="failed", reason=first_line(error))
            entry["traceback"] = traceback.format_exc()
        entry["seconds"] = time.monotonic() - started
        results.save()
        print(f"{name}: {entry['status']} {entry['reason']} ({entry['seconds']:.0f} s)", flush=True)
        gc.collect()
        if ctx.is_cuda and not device_works(ctx):  # until the process ends: begin a new one
            rest = list(names[position + 1 :])
            if rest:
                restart(argv, rest, budget_s=ctx.seconds_left())
        elif ctx.is_cuda:
            torch.cuda.empty_cache()


def is_bad(row: Row) -> bool:
    """Return whether a row is an error, or a comparison that failed."""
    return row.get("equal") is False or str(row.get("note", "")).startswith("error")


def restart(argv: Sequence[str], names: Sequence[str], *, budget_s: float) -> None:
    """Replace this process by one that runs the remaining parts."""
    arguments = [*argv, "--budget-s", f"{max(0.0, budget_s):.0f}", "--only", *names]
    os.execv(sys.executable, [sys.executable, str(Path(__file__).resolve()), *arguments])


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `PartTimeoutError` in the block after so many seconds, where there are signals."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise PartTimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(0.01, seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def describe_machine(ctx: Context) -> Row:
    """Return what the results depend on."""
    row: Row = {
        "device": ctx.device.type,
        "precision": ctx.hardware.precision,
        "sizes": "tiny" if ctx.tiny else "full",
        "data": "synthetic people" if ctx.data.cases else "random",
        "torch": str(torch.__version__),
        "Python": platform.python_version(),
    }
    if ctx.is_cuda:
        properties = torch.cuda.get_device_properties(ctx.device)
        row |= {
            "card": properties.name,
            "cards": torch.cuda.device_count(),
            "card's memory, GB": round(properties.total_memory / 1e9, 1),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
        }
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--make-data", type=Path, metavar="FILE", help="write the data, and end")
    parser.add_argument("--crops", type=int, default=125, help="training crops of each identity")
    parser.add_argument("--cases", type=int, default=16, help="true swaps in each direction")
    parser.add_argument("--crop-px", type=int, default=CROP_PX, help="side of the crops")
    parser.add_argument("--data", type=Path, metavar="FILE", help="the file of --make-data")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="the file of gpu_pairs.py")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of results")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="run these parts, again")
    parser.add_argument("--budget-s", type=float, default=450.0, help="seconds for all parts")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the script")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(argv)
    try:
        if arguments.make_data:
            counts = {"crops": arguments.crops, "cases": arguments.cases}
            make_data(arguments.make_data, **counts, side_px=arguments.crop_px)
            return 0
        # Threads of networks as small as that only wait for each other.
        with limit_threads(1 if arguments.tiny else 0):
            return run(arguments, argv)
    except FaceswapError as error:
        print(f"error: {error.message}{error.hint and f'; {error.hint}'}", file=sys.stderr)
        return error.exit_code


def run(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run the parts that the command line names; return 1 if one failed.

    Raises:
        FaceswapError: There is no such device, or a file cannot be used.
    """
    deadline = time.monotonic() + arguments.budget_s
    keep_freed_memory()
    hardware = find_hardware(arguments.device)
    use_fast_kernels(hardware.device)
    side, count = (64, 16) if arguments.tiny else (CROP_PX, 200)
    with translate_os_errors(arguments.out):
        arguments.out.mkdir(parents=True, exist_ok=True)
    ctx = Context(
        hardware=hardware,
        data=load_data(arguments.data) if arguments.data else random_data(count, side),
        out=arguments.out,
        deadline=deadline,
        tiny=arguments.tiny,
        pairs=arguments.pairs,
    )
    if arguments.worker:
        run_worker(ctx)
        return 0
    results = Results.load(arguments.out, describe_machine(ctx))
    finished = {name for name, part in results.parts.items() if part["status"] == "done"}
    chosen = arguments.only or [name for name in PARTS if name not in finished]
    names = [name for name in PARTS if name in chosen]
    run_parts(ctx, results, names, argv=argv)
    print(results.to_markdown())
    return int(any(results.parts[name]["status"] == "failed" for name in names))


if __name__ == "__main__":
    sys.exit(main())
