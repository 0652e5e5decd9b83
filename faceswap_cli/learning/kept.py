"""What swaps keep and what they move: pose and expression stay, the person changes.

Knows what models that read faces make of held-out faces and of their swaps; refuses to know how a
swap is learnt, and is never a reason for training to stop.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.arrays import AnyArray, Image, Mask
from faceswap_cli.errors import FaceswapError
from faceswap_cli.faces.detect import Face, FaceDetector
from faceswap_cli.faces.detectors import DEFAULT, DETECTORS
from faceswap_cli.faces.sface import Direction, SFace
from faceswap_cli.learning.data import Person, outline_of, spread
from faceswap_cli.learning.doors import to_images, to_masks
from faceswap_cli.learning.feed import Feed
from faceswap_cli.views import Still
from faceswap_cli.weights import find
from faceswap_models.base import SwapModel

FACES = 8
"""Held-out faces of each person that are read: more would take longer than a sheet."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How held-out faces and their swaps compare; None where no swap was found to be a face."""

    found: float
    """Part of the swaps in which a face is found, 0 to 1."""
    pose_degrees: float | None
    """Mean absolute difference of yaw, pitch and roll from the original's, degrees."""
    expression: float | None
    """Mean absolute difference of the 52 coefficients from the original's, 0 to 1."""
    identity: float | None
    """Mean cosine to the wanted person less that to the original's, -2 to 2: high is moved."""
    unswapped: float
    """The same of the originals: what no swap at all would show."""

    def __str__(self) -> str:
        """Return it as one line says it."""
        found = f"{self.found:.0%} of swaps are faces"
        if self.pose_degrees is None:
            return found
        return (
            f"{found}, pose within {self.pose_degrees:.1f} degrees, "
            f"expression within {self.expression:.3f}, "
            f"identity {self.unswapped:+.2f} -> {self.identity:+.2f}"
        )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One face as the models read it."""

    face: Face
    direction: Direction


class Eyes:
    """The models that read faces.

    Args:
        detector: Finds faces; inside its `with` block.
        sface: Tells people apart.
    """

    def __init__(self, detector: FaceDetector, sface: SFace) -> None:
        self._detector = detector
        self._sface = sface

    @classmethod
    def opened(cls, held: ExitStack) -> "Eyes":
        """Load the models; `held` closes them.

        Raises:
            FaceswapError: A model file is missing.
        """
        detector = held.enter_context(DETECTORS[DEFAULT]())
        return cls(detector, SFace(find("sface")))

    def find(self, image: Image) -> Reading | None:
        """Read the largest face of an image, if there is one."""
        return self._read(image, self._detector.detect(image))

    def follow(self, image: Image, face: Face) -> Reading | None:
        """Read the face that is where `face` was in a like image, if it is still a face."""
        return self._read(image, self._detector.follow(Still(image=image), [face]))

    def _read(self, image: Image, faces: Sequence[Face]) -> Reading | None:
        """Read the first of the faces in an image."""
        for face in faces[:1]:
            return Reading(face=face, direction=self._sface.direction(image, face.landmarks))
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Originals:
    """Held-out faces of one person that a face was found in."""

    person: Person
    places: AnyArray
    """Which of the person's faces they are, int64 (N,)."""
    readings: Sequence[Reading]

    @property
    def centre(self) -> Direction:
        """The person's direction: that of the mean over the faces."""
        mean = np.mean([one.direction for one in self.readings], axis=0)
        return np.asarray(mean / np.linalg.norm(mean))


class KeptJudge:
    """Looks at swaps with other models' eyes, which are opened at the first look.

    Args:
        feed: Gives the people and their faces.
        open_eyes: Loads the models.
    """

    def __init__(self, feed: Feed, *, open_eyes: Callable[[ExitStack], Eyes] = Eyes.opened) -> None:
        self.feed = feed
        self.reason = ""
        """Why nothing can be said; empty while something can."""
        self._open_eyes = open_eyes
        self._held = ExitStack()
        self._eyes: Eyes | None = None
        self._originals: list[Originals] = []

    def look(self, model: SwapModel) -> Kept | None:
        """Compare faces with their swaps; None, and a `reason`, where that cannot be done.

        Args:
            model: In evaluation mode, without gradients.
        """
        if self.reason:
            return None
        try:
            return self._look(model)
        except FaceswapError as error:
            self.reason = error.message
        except (cv2.error, ImportError, OSError, RuntimeError, ValueError) as error:
            # Whatever the readers stumble over, training goes on.
            self.reason = f"the models that read faces failed: {error}"
        self.close()
        return None

    def close(self) -> None:
        """Let go of the models; harmless when repeated."""
        self._eyes = None
        self._held.close()

    def _look(self, model: SwapModel) -> Kept | None:
        """Compare, with open eyes."""
        if self._eyes is None:
            self._eyes = self._open_eyes(self._held)
            self._originals = [originals(self._eyes, person) for person in self.feed.people]
        for one in self._originals:
            if not one.readings:
                self.reason = f"no face is found in the held-out crops of {one.person.name}"
                return None
        after = [*self._originals[1:], self._originals[0]]
        return compared(
            [
                pair
                for one, wanted in zip(self._originals, after, strict=True)
                for pair in self._pairs(model, one, wanted)
            ]
        )

    def _pairs(self, model: SwapModel, own: Originals, wanted: Originals) -> Iterator["Pair"]:
        """Swap one person's faces to another, and read the swaps."""
        assert self._eyes is not None
        faces = self.feed.plain(own.person, own.places).target[0]
        swapped = model.swap(faces, wanted.person.name)
        swaps = to_images(swapped.image)
        masks = [None] * len(swaps) if swapped.mask is None else to_masks(swapped.mask)
        for place, before, swap, mask in zip(own.places, own.readings, swaps, masks, strict=True):
            pixels = own.person.pixels[place]
            picture = placed(swap, pixels, mask=mask, coverage=self.feed.model.coverage)
            yield Pair(
                before=before,
                after=self._eyes.follow(picture, before.face),
                towards=wanted.centre - own.centre,
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """A face and its swap."""

    before: Reading
    after: Reading | None
    """None where no face was found."""
    towards: Direction
    """The wanted person's direction less the own: its product with a face's is how far the face
    has moved."""


def originals(eyes: Eyes, person: Person) -> Originals:
    """Read some of a person's held-out faces."""
    places = spread(person.held_out, FACES)
    found = [eyes.find(np.ascontiguousarray(person.pixels[place][..., :3])) for place in places]
    is_found = np.array([one is not None for one in found], dtype=bool)
    return Originals(
        person=person,
        places=places[is_found],
        readings=[one for one in found if one is not None],
    )


def compared(pairs: Sequence[Pair]) -> Kept:
    """Return how faces and their swaps compare on average.

    Angles and coefficients are compared with those read in the original's crop, not with the
    record's: seen in its frame a head is rolled, and stands elsewhere before the camera.
    """
    seen = [(pair, pair.after) for pair in pairs if pair.after is not None]
    return Kept(
        found=len(seen) / len(pairs),
        pose_degrees=_mean([turned(pair.before.face, after.face) for pair, after in seen]),
        expression=_mean(
            [
                float(
                    np.abs(np.subtract(pair.before.face.expression, after.face.expression)).mean()
                )
                for pair, after in seen
            ]
        ),
        identity=_mean([float(after.direction @ pair.towards) for pair, after in seen]),
        unswapped=float(np.mean([pair.before.direction @ pair.towards for pair in pairs])),
    )


def turned(before: Face, after: Face) -> float:
    """Return the mean absolute difference of two faces' angles, degrees, the short way round."""
    difference = np.subtract(after.pose, before.pose)
    return float(np.abs((difference + 180) % 360 - 180).mean())


def placed(swap: Image, pixels: AnyArray, *, mask: Mask | None, coverage: float) -> Image:
    """Put a swap into its crop as a conversion would: inside the outline and the learned mask.

    Args:
        swap: uint8 (s, s, 3): the central part of the crop, as a network made it.
        pixels: uint8 (S, S, 4): the crop and its marks.
        mask: float32 (s, s): where the network saw the face, if it learns that.
        coverage: Side of that part as a fraction of the crop's.
    """
    drawn = _enlarged(swap, pixels.shape[0], coverage)
    weight = outline_of(pixels[..., 3:])
    if mask is not None:
        weight = weight * _enlarged(mask, pixels.shape[0], coverage)[..., None]
    return np.asarray(np.round(weight * drawn + (1 - weight) * pixels[..., :3]), dtype=np.uint8)


def _enlarged(picture: AnyArray, side: int, coverage: float) -> AnyArray:
    """Lay the central part of a crop of `side` px, made smaller, where it belongs in the crop."""
    scale = coverage * side / picture.shape[0]
    # Pixel centres are on integers, so a square's corner is at -1/2.
    corner = (1 - coverage) / 2 * side + scale / 2 - 0.5
    return cv2.warpAffine(
        picture,
        np.array([[scale, 0, corner], [0, scale, corner]]),
        (side, side),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _mean(values: Sequence[float]) -> float | None:
    """Return the mean; None of nothing."""
    return float(np.mean(values)) if values else None
