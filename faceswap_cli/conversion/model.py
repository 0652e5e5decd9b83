"""A trained model as a function of pictures; knows nothing of frames or blending."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from faceswap_cli.core.errors import CheckpointError
from faceswap_cli.core.hardware import Hardware, find_hardware
from faceswap_cli.core.types import Image, Mask
from faceswap_cli.provenance.consent import Origin
from faceswap_cli.training.checkpoint import TrainedModel, load_weights
from faceswap_models.tensors import to_images, to_masks, to_tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class SwappedFace:
    """What the network made of one crop."""

    image: Image
    """uint8 (S, S, 3)."""
    mask: Mask | None
    """float32 (S, S), of a model that learns where the face is."""


InferFn = Callable[[Sequence[Image], str], list[SwappedFace]]
"""`draw(crops, to)`: each crop, uint8 (S, S, 3), as the person called `to`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceModel:
    """A trained model, and what it has to be shown."""

    identities: tuple[str, ...]
    """Whose faces it can draw."""
    size_px: int
    """Side of the square it sees."""
    coverage: float
    """Side of that square as a part of the aligned square's."""
    infer: InferFn
    device_info: str = "anywhere"
    """Where and in which precision: results differ by a level."""
    origins: tuple[Origin, ...] = ()
    """What is told of the sets it was trained on, by digests."""

    @classmethod
    def load(cls, weights: Path, *, device: str) -> "FaceModel":
        """Read trained weights.

        Raises:
            ConfigurationError, DeviceError: There is no such device.
            CheckpointError: The weights cannot be used.
        """
        hardware = find_hardware(device)
        try:
            return cls.from_trained(load_weights(weights, hardware.device), hardware)
        except CheckpointError as error:
            raise CheckpointError(error.message, hint=error.hint or _RECOPY_HINT) from error

    @classmethod
    def from_trained(cls, trained: TrainedModel, hardware: Hardware) -> "FaceModel":
        """Return a trained model, computing in the fastest precision the device has."""
        return cls(
            identities=tuple(trained.identities),
            size_px=trained.recipe.model.size_px,
            coverage=trained.recipe.model.coverage,
            infer=_make_infer(trained, hardware),
            device_info=f"{hardware.device.type} {hardware.precision}",
            origins=tuple(trained.origins),
        )


_RECOPY_HINT = "copy it again from where it was trained, or name another model with --model"


def _make_infer(trained: TrainedModel, hardware: Hardware) -> InferFn:
    """Return a model as a function of uint8 crops.

    In bfloat16 the weights themselves are kept so, for they are read whole at every call: 1.3
    times as fast as autocast alone (autoencoder, CPU, 16 faces), and as near to float32, which
    it misses by 0.06 of 255 levels. Autocast then turns what is left.
    """
    device = hardware.device
    native = hardware.autocast_dtype is not None
    model = trained.model.to(hardware.autocast_dtype) if hardware.autocast_dtype else trained.model

    def draw(crops: Sequence[Image], to: str) -> list[SwappedFace]:
        with torch.inference_mode(), torch.autocast(device.type, hardware.autocast_dtype, native):
            swapped = model.swap(to_tensor(crops).to(device), to)
        images = to_images(swapped.image)
        masks = [None] * len(images) if swapped.mask is None else to_masks(swapped.mask)
        return [
            SwappedFace(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)
        ]

    return draw
