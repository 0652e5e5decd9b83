"""What the machine can do: which device, which precision is native, how memory is laid out."""

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from faceswap_cli.core.errors import ConfigurationError, DeviceError, did_you_mean

DEVICES = ("auto", "cpu", "cuda", "mps")
"""What `--device` takes."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A device and how to use it well."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    """What to compute in where that is native and faster than float32; None stays in float32."""
    memory_format: torch.memory_format
    """Channels last helps convolutions on a GPU, and costs 5 to 12 % on a CPU."""

    @property
    def precision(self) -> str:
        """The precision in words."""
        return (
            "float32"
            if self.autocast_dtype is None
            else str(self.autocast_dtype).removeprefix("torch.")
        )


def find_hardware(name: str, *, index: int = 0) -> Hardware:
    """Return the device called `name`, or the best there is for `auto`.

    Args:
        name: One of `DEVICES`.
        index: Which of several GPUs.

    Raises:
        ConfigurationError: There is no device of that name.
        DeviceError: This machine, or this build of torch, does not have it.
    """
    if name not in DEVICES:
        raise ConfigurationError(
            f'--device: "{name}" is not a device', hint=did_you_mean(name, DEVICES)
        )
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if there[device])
    if not there[name]:
        raise DeviceError(
            f"--device {name}: {_unavailable_hint(name)}",
            hint="use --device auto, or install a build of torch for it",
        )
    device = torch.device(name, index) if name == "cuda" else torch.device(name)
    return Hardware(
        device=device,
        autocast_dtype=torch.bfloat16 if supports_native_bf16(device) else None,
        memory_format=torch.channels_last if name == "cuda" else torch.contiguous_format,
    )


def supports_native_bf16(device: torch.device) -> bool:
    """Say whether a device multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (_cpu_has("avx512_bf16") or _cpu_has("amx_tile"))


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory instead of giving it back to the system after every step.

    Without it a step of the 82 M parameter autoencoder takes 430,000 page faults, 13 to 40 % of
    its time. Does nothing on other systems. Must come before the first large allocation.

    Returns:
        Whether it was done.
    """
    if not (sys.platform == "linux" and platform.libc_ver()[0] == "glibc"):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) for option, value in _MALLOPT_SETTINGS)


def use_fast_kernels(device: torch.device) -> None:
    """Let a GPU try its convolutions and keep the fastest, and round float32 products to TF32.

    Batches keep their shape, so trying pays once. Does nothing on other devices, where a run must
    give the same bits every time.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Compute on so many of the processor's threads and no more; 0 takes all there are.

    Threads of a small network wait for each other many times a step, awake: where one of them has
    to share its core with other work, all of them do. Measured beside one busy process: 95 images a
    second on one thread, 78 on two; where that process goes first, 97 and 2.
    """
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(min(count, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


_MALLOPT_SETTINGS = (
    (-4, 0),  # M_MMAP_MAX: large blocks come from the heap, not from a mapping of their own
    (-1, -1),  # M_TRIM_THRESHOLD: never give the top of the heap back
    (-2, 64 * 2**20),  # M_TOP_PAD: grow the heap by 64 MiB at a time
    (-8, 1),  # M_ARENA_MAX: one heap for all threads, so that any can use what another freed
)
"""Options of glibc's mallopt(3), by number."""


def _cpu_has(feature: str) -> bool:
    """Ask torch for a CPU feature; these questions have no public name yet."""
    ask = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return bool(ask is not None and ask())


def _has_mps() -> bool:
    """Say whether there is an Apple GPU."""
    return torch.backends.mps.is_available()


def _unavailable_hint(name: str) -> str:
    """Say why a device is not there."""
    if name == "cuda" and torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA"
    return {"cuda": "no NVIDIA GPU was found", "mps": "no Apple GPU was found"}[name]
