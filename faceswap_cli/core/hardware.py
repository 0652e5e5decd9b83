"""Selection of the compute device, with its native precision and memory format."""

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from faceswap_cli.core.errors import ConfigurationError, DeviceError, did_you_mean

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Values of `--device`."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A device, and the precision and memory format that are fastest on it."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    """The dtype of autocast if a 16-bit one is native on the device; None computes in float32."""
    memory_format: torch.memory_format
    """Channels last is faster for convolutions on a GPU, and 5 to 12 % slower on a CPU."""

    @property
    def precision(self) -> str:
        """Name of the dtype of the computation."""
        return (
            "float32"
            if self.autocast_dtype is None
            else str(self.autocast_dtype).removeprefix("torch.")
        )


def find_hardware(name: str, *, index: int = 0) -> Hardware:
    """Return the device called `name`, or the best available one for `auto`.

    Args:
        name: One of `DEVICES`.
        index: Index of the GPU, if there are several.

    Raises:
        ConfigurationError: The name is unknown.
        DeviceError: This machine, or this build of torch, does not have the device.
    """
    if name not in DEVICES:
        raise ConfigurationError(
            f'--device: "{name}" is not a device', hint=did_you_mean(name, DEVICES)
        )
    is_available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        name = next(device for device in ("cuda", "mps", "cpu") if is_available[device])
    if not is_available[name]:
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
    """Return whether a device multiplies bfloat16 in hardware; emulation is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and (_cpu_has("avx512_bf16") or _cpu_has("amx_tile"))


def keep_freed_memory() -> bool:
    """Configure glibc not to return freed memory to the system after every step.

    Without it a step of the 82 M parameter autoencoder takes 430,000 page faults, 13 to 40 % of
    its time. Does nothing on other systems. Must come before the first large allocation.

    Returns:
        Whether it was configured.
    """
    if not (sys.platform == "linux" and platform.libc_ver()[0] == "glibc"):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) for option, value in _MALLOPT_SETTINGS)


def use_fast_kernels(device: torch.device) -> None:
    """Enable cuDNN's benchmark mode and TF32 on a GPU, and make it the process's current one.

    Batches have a constant shape, so the benchmark runs once. Does nothing on other devices, where
    training must be bit-exact.
    """
    if device.type == "cuda":
        # Else libraries that take the current GPU, such as NCCL, use memory on the first one.
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")


def set_up_hardware(name: str, *, index: int = 0) -> Hardware:
    """Return the device called `name`, set up for training: see `find_hardware`."""
    keep_freed_memory()
    hardware = find_hardware(name, index=index)
    use_fast_kernels(hardware.device)
    return hardware


def release_cached_memory(device: torch.device) -> None:
    """Give memory that torch keeps for reuse back to a GPU; does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait for everything that a GPU was given to do; does nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Limit torch's CPU threads inside the block; 0 does not limit them.

    Threads of a small network busy-wait for each other many times a step: if one of them shares its
    core with other work, all of them are slow. Measured with one other busy process: 95 images per
    second on one thread, 78 on two; if that process has priority, 97 and 2.
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
    (-1, -1),  # M_TRIM_THRESHOLD: never return the top of the heap
    (-2, 64 * 2**20),  # M_TOP_PAD: grow the heap by 64 MiB at a time
    (-8, 1),  # M_ARENA_MAX: one heap for all threads, so that any can reuse what another freed
)
"""Options of glibc's mallopt(3), by number."""


def _cpu_has(feature: str) -> bool:
    """Return whether torch reports a CPU feature; its functions for this are not public yet."""
    is_supported = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return bool(is_supported is not None and is_supported())


def _has_mps() -> bool:
    """Return whether there is an Apple GPU."""
    return torch.backends.mps.is_available()


def _unavailable_hint(name: str) -> str:
    """Return why a device is not available."""
    if name == "cuda" and torch.version.cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA"
    return {"cuda": "no NVIDIA GPU was found", "mps": "no Apple GPU was found"}[name]
