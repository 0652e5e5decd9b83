"""A trained model as a function of pictures; knows nothing of frames or blending."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import torch

from faceswap_cli.arrays import Image, Mask
from faceswap_cli.errors import CheckpointError, ConfigurationError, did_you_mean
from faceswap_cli.learning.checkpoint import TrainedModel, load_weights
from faceswap_cli.learning.doors import to_images, to_masks, to_tensor
from faceswap_cli.learning.hardware import Hardware, find_hardware
from faceswap_cli.provenance.consent import Origin


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnFace:
    """What the network made of one crop."""

    image: Image
    """uint8 (S, S, 3)."""
    mask: Mask | None
    """float32 (S, S), of a model that learns where the face is."""


Draw = Callable[[Sequence[Image], str], list[DrawnFace]]
"""`draw(crops, to)`: each crop, uint8 (S, S, 3), as the person called `to`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceNetwork:
    """A trained model, and what it has to be shown."""

    people: tuple[str, ...]
    """Whose faces it can draw."""
    size_px: int
    """Side of the square it sees."""
    coverage: float
    """Side of that square as a part of the aligned square's."""
    draw: Draw
    computed: str = "anywhere"
    """Where and in which precision: results differ by a level."""
    origins: tuple[Origin, ...] = ()
    """What is told of the sets it was trained on, by digests."""

    @classmethod
    def load(cls, weights: Path, *, device: str) -> "FaceNetwork":
        """Read trained weights.

        Raises:
            ConfigurationError, DeviceError: There is no such device.
            CheckpointError: The weights cannot be used.
        """
        hardware = find_hardware(device)
        try:
            return cls.of(load_weights(weights, hardware.device), hardware)
        except CheckpointError as error:
            raise CheckpointError(error.message, hint=error.hint or _MEND) from error

    @classmethod
    def of(cls, trained: TrainedModel, hardware: Hardware) -> "FaceNetwork":
        """Return a trained model, computing in the fastest precision the device has."""
        return cls(
            people=tuple(trained.identities),
            size_px=trained.recipe.model.size_px,
            coverage=trained.recipe.model.coverage,
            draw=_drawing(trained, hardware),
            computed=f"{hardware.device.type} {hardware.precision}",
            origins=tuple(trained.origins),
        )

    def person(self, to: str | None, *, shown: Set[str] = frozenset()) -> str:
        """Return whose face to put on: `to`, or the last known person who is not `shown`.

        Raises:
            ConfigurationError: The model does not know `to`.
        """
        if to is None:
            others = [person for person in self.people if person not in shown]
            return (others or self.people)[-1]
        if to not in self.people:
            raise ConfigurationError(
                f'this model does not know "{to}"', hint=did_you_mean(to, self.people)
            )
        return to


_MEND = "copy it again from where it was trained, or name another model with --model"


def _drawing(trained: TrainedModel, hardware: Hardware) -> Draw:
    """Return a model as a function of uint8 crops.

    In bfloat16 the weights themselves are kept so, for they are read whole at every call: 1.3
    times as fast as autocast alone (autoencoder, CPU, 16 faces), and as near to float32, which
    it misses by 0.06 of 255 levels. Autocast then turns what is left.
    """
    device = hardware.device
    native = hardware.autocast is not None
    model = trained.model.to(hardware.autocast) if hardware.autocast else trained.model

    def draw(crops: Sequence[Image], to: str) -> list[DrawnFace]:
        with torch.inference_mode(), torch.autocast(device.type, hardware.autocast, native):
            swapped = model.swap(to_tensor(crops).to(device), to)
        images = to_images(swapped.image)
        masks = [None] * len(images) if swapped.mask is None else to_masks(swapped.mask)
        return [
            DrawnFace(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)
        ]

    return draw
