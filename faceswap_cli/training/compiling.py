"""Networks compiled before they learn (`[train] compile`); knows no losses and no files.

Measured on one CPU thread: steps of the light CycleGAN are a tenth shorter, after two minutes of
compiling. So it is off unless asked for.
"""

from contextlib import AbstractContextManager, nullcontext

import torch

from faceswap_cli.core.errors import DeviceError
from faceswap_models.base import SwapModel, TrainSettings
from faceswap_models.growing import GrowingModel

COMPILE_BACKEND = "inductor"
"""torch's own."""


def compile_networks(model: SwapModel, train: TrainSettings) -> None:
    """Compile networks that have grown up, where that is asked for; weights keep their names."""
    is_growing = isinstance(model, GrowingModel) and model.is_growing
    if train.compile and not is_growing:
        for network in model.compilable_networks():
            network.compile(backend=COMPILE_BACKEND)


def eager_mode(train: TrainSettings) -> AbstractContextManager[object]:
    """Return the context in which networks are not compiled: they would be, anew for each size."""
    # Asked only where it matters: the compiler takes seconds to import.
    return torch.compiler.set_stance("force_eager") if train.compile else nullcontext()


def raise_if_compile_error(error: BaseException) -> None:
    """Say so if an error is the compiler's: it is not there, or cannot do what it is asked.

    Raises:
        DeviceError: It is.
    """
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # "backend='inductor' raised:" does not say what.
        told = next((line for line in lines if not line.endswith(":")), type(error).__name__)
        raise DeviceError(
            f"the networks cannot be compiled here: {told}",
            hint="train without --set train.compile=true",
        ) from error
