"""Other faces in one frame: what the network is shown of it, and how its answer is laid back.

Nothing here knows of files, or of the frames before and after; `swap.flow` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.arrays import Image, Mask, Points
from faceswap_cli.blend.colour import Statistics
from faceswap_cli.blend.composite import Compositor
from faceswap_cli.faces.align import FaceAlignment
from faceswap_cli.faces.mask import MASKS, mouth_mask, oval_mask
from faceswap_cli.swap.network import DrawnFace, FaceNetwork
from faceswap_cli.views import Patch, Patched, Still, View

MASK_PX = 128
"""Side of the square in which masks are drawn and shaped: their edge is soft, so it may be
enlarged."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceToSwap:
    """A face in a frame that is to become another person's."""

    to: str
    """Whose it becomes."""
    track: int
    """The same number for the same face as long as it is followed, never across a cut."""
    landmarks: Points
    """float32 (478, 2), px in the frame."""
    alignment: FaceAlignment
    """Where the face lies, held steady over time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What is cut out of a frame for one face."""

    to: str
    track: int
    alignment: FaceAlignment
    """The place of the square that the network sees."""
    crop: Image
    """What it sees there, uint8 (S, S, 3)."""
    mask: Mask
    """float32 (MASK_PX, MASK_PX): the face's outline in that square."""
    keep: Mask | None
    """float32 (MASK_PX, MASK_PX): where the frame shows all the same."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A drawn face, and how it is to be laid over the one in the frame."""

    track: int
    alignment: FaceAlignment
    crop: Image
    """What the frame shows in the square, uint8 (S, S, 3)."""
    drawn: Image
    """What the network made of it, uint8 (S, S, 3)."""
    mask: Mask
    """float32 (MASK_PX, MASK_PX): where it may show."""
    keep: Mask | None
    """float32 (MASK_PX, MASK_PX): where the frame shows all the same."""
    colours: Statistics
    """What its colours are matched by."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSwap:
    """A network and a compositor: from the faces in a frame to the frame with other faces."""

    network: FaceNetwork
    compositor: Compositor
    mask: Callable[[Mask, Mask | None], Mask] = MASKS["both"]
    """Of the face's outline and the mask the network learned: where the swap may show."""
    forehead: bool = True
    """Whether what lies above the brows is swapped."""
    mouth: bool = True
    """Whether what shows between the lips is swapped."""

    def target(self, view: View, seen: FaceToSwap) -> Target:
        """Cut out what the network is to see of a face in a frame."""
        alignment = seen.alignment.central(self.network.coverage)
        image = view.showing(alignment.area())
        return Target(
            to=seen.to,
            track=seen.track,
            alignment=alignment,
            crop=alignment.crop(image, self.network.size_px),
            mask=oval_mask(seen.landmarks, alignment, MASK_PX, forehead=self.forehead),
            keep=None if self.mouth else mouth_mask(seen.landmarks, alignment, MASK_PX),
        )

    def layers(self, targets: Sequence[Target], *, at_once: int = 16) -> list[Layer]:
        """Let the network draw what was cut out, `at_once` faces of a person at most."""
        drawn: dict[int, DrawnFace] = {}
        for person in dict.fromkeys(target.to for target in targets):
            whose = [number for number, target in enumerate(targets) if target.to == person]
            for first in range(0, len(whose), at_once):
                some = whose[first : first + at_once]
                faces = self.network.draw([targets[number].crop for number in some], person)
                drawn.update(zip(some, faces, strict=True))
        return [self._layer(target, drawn[number]) for number, target in enumerate(targets)]

    def _layer(self, target: Target, face: DrawnFace) -> Layer:
        """Return how a drawn face is to be laid, going by its own frame alone."""
        mask = self.mask(target.mask, _at_mask_size(face.mask))
        return Layer(
            track=target.track,
            alignment=target.alignment,
            crop=target.crop,
            drawn=face.image,
            mask=mask,
            keep=target.keep,
            colours=self.compositor.statistics(target.crop, face.image, mask),
        )

    def patches(self, view: View, layers: Sequence[Layer]) -> list[Patch]:
        """Return what changes in a frame when the faces are laid over it one after the other."""
        patches: list[Patch] = []
        for layer in layers:
            patch = self.compositor.patch(
                Patched(under=view, patches=patches),
                layer.drawn,
                layer.mask,
                layer.alignment,
                covers=layer.crop,
                statistics=layer.colours,
                keep=layer.keep,
            )
            patches.append(patch)
        return patches

    def laid(self, view: View, layers: Sequence[Layer]) -> Patched:
        """Return the frame with the faces laid over it."""
        return Patched(under=view, patches=self.patches(view, layers))

    def swapped(self, image: Image, faces: Sequence[FaceToSwap]) -> Image:
        """Return one frame with other faces, taken by itself: for pictures and for judging."""
        view = Still(image=image)
        layers = self.layers([self.target(view, face) for face in faces])
        return self.laid(view, layers).whole()


def _at_mask_size(mask: Mask | None) -> Mask | None:
    """Return a mask of any size at `MASK_PX`."""
    if mask is None:
        return None
    resized = cv2.resize(mask, (MASK_PX, MASK_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32)
