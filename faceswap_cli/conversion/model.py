"""Trained models for inference on crops: `FaceModel.load`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from faceswap_cli.core.errors import CheckpointError
from faceswap_cli.core.hardware import Hardware, find_hardware
from faceswap_cli.core.types import Image, Mask
from faceswap_cli.exchange.model_info import ONNX_SUFFIXES
from faceswap_cli.exchange.onnx_session import OnnxModel
from faceswap_cli.provenance.consent import Origin
from faceswap_cli.training.checkpoint import TrainedModel, load_weights
from faceswap_models.tensors import to_images, to_masks, to_tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class SwappedFace:
    """The model's output for one crop."""

    image: Image
    """uint8 (D, D, 3): D is the side of the input, or larger with detail."""
    mask: Mask | None
    """float32 (S, S); None of a model that predicts no mask."""


InferFn = Callable[[Sequence[Image], str], list[SwappedFace]]
"""`infer(crops, identity)`: each crop, uint8 (S, S, 3), swapped to `identity`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceModel:
    """A trained model and the input it needs."""

    identities: tuple[str, ...]
    """Identities it can swap in."""
    size_px: int
    """Side of its input."""
    coverage: float
    """Side of the input's square as a part of the aligned square's."""
    center: tuple[float, float] = (0.5, 0.5)
    """Center (x, y) of the input's square in the aligned square."""
    infer: InferFn
    device_info: str = "anywhere"
    """Device and precision: between them results differ by a level."""
    origins: tuple[Origin, ...] = ()
    """Digests of the sets it was trained on."""

    @classmethod
    def load(cls, weights: Path, *, device: str) -> "FaceModel":
        """Read trained weights, or an exported model: an `.onnx` or `.dfm` file.

        Raises:
            ConfigurationError, DeviceError: The device is unknown or not available.
            CheckpointError: The weights cannot be used.
        """
        hardware = find_hardware(device)
        if weights.suffix.lower() in ONNX_SUFFIXES:
            return cls.from_onnx(OnnxModel.open(weights, device=device))
        try:
            return cls.from_trained(load_weights(weights, hardware.device), hardware)
        except CheckpointError as error:
            raise CheckpointError(error.message, hint=error.hint or _RECOPY_HINT) from error

    @classmethod
    def from_trained(cls, trained: TrainedModel, hardware: Hardware) -> "FaceModel":
        """Return a trained model that runs in the fastest precision of the device."""
        return cls(
            identities=tuple(trained.identities),
            size_px=trained.recipe.model.size_px,
            coverage=trained.recipe.model.coverage,
            infer=_make_infer(trained, hardware),
            device_info=f"{hardware.device.type} {hardware.precision}",
            origins=tuple(trained.origins),
        )

    @classmethod
    def from_onnx(cls, model: OnnxModel) -> "FaceModel":
        """Return an exported model; it has one identity."""

        def infer(crops: Sequence[Image], identity: str) -> list[SwappedFace]:
            del identity
            return [SwappedFace(image=image, mask=mask) for image, mask in model.infer(crops)]

        return cls(
            identities=(model.info.identity,),
            size_px=model.info.size_px,
            coverage=model.info.coverage,
            center=model.info.center,
            infer=infer,
            device_info=f"onnxruntime {model.provider}",
            origins=model.info.origins,
        )


_RECOPY_HINT = "copy it again from where it was trained, or name another model with --model"


def _make_infer(trained: TrainedModel, hardware: Hardware) -> InferFn:
    """Return a trained model as a function of uint8 crops.

    For bfloat16 the weights are converted too, since every call reads all of them: 1.3 times as
    fast as autocast alone (autoencoder, CPU, 16 faces), and as close to float32, with an error of
    0.06 of 255 levels. Autocast converts the rest.
    """
    device = hardware.device
    is_autocast = hardware.autocast_dtype is not None
    model = trained.model.to(hardware.autocast_dtype) if hardware.autocast_dtype else trained.model

    def infer(crops: Sequence[Image], identity: str) -> list[SwappedFace]:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, hardware.autocast_dtype, is_autocast),
        ):
            swapped = model.swap_with_detail(to_tensor(crops).to(device), identity)
        images = to_images(swapped.image)
        masks = [None] * len(images) if swapped.mask is None else to_masks(swapped.mask)
        return [
            SwappedFace(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)
        ]

    return infer
