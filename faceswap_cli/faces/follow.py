"""Faces from frame to frame: looked for now and then, followed in between; nothing of files.

Looking for faces costs several times what placing the landmarks of one does, and a face is where
it was a moment ago. A follower looks for faces in every `EVERY`-th image, after a cut, and where
one was lost. What it finds in those images depends on nothing before them: begun again at one of
them, it goes on exactly as if it had never stopped.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from faceswap_cli.arrays import Image
from faceswap_cli.faces.detect import Face, FaceDetector

EVERY = 10
"""Images from one search to the next: a newcomer is seen a third of a second late at most."""
CUT_LEVELS = 12.0
"""Mean difference of two small grey images, of 255 levels, that may mean another shot.

Too low a number costs a search, too high a one a frame in which a face is looked for in the wrong
place.
"""
_THUMBNAIL = (32, 18)


def everyone(faces: Sequence[Face]) -> Sequence[Face]:
    """Return all the faces."""
    return faces


def largest(faces: Sequence[Face]) -> Sequence[Face]:
    """Return the largest of the faces, or none."""
    return faces[:1]


class Follower:
    """Finds the faces of one image after the other.

    Args:
        detector: Finds and follows; open as long as this is used.
        keep: Which of the faces found matter; only those are followed and returned.
        every: Images from one search to the next.
    """

    def __init__(
        self,
        detector: FaceDetector,
        *,
        keep: Callable[[Sequence[Face]], Sequence[Face]] = everyone,
        every: int = EVERY,
    ) -> None:
        self._detector = detector
        self._keep = keep
        self._every = every
        self._faces: Sequence[Face] = ()
        self._thumbnail: Image | None = None

    def look(self, image: Image, number: int) -> Sequence[Face]:
        """Return the faces of the next image that matter, as the detector orders them.

        Args:
            image: The picture.
            number: Which one it is; faces are searched for where it is a multiple of `every`.
        """
        before, self._thumbnail = self._thumbnail, thumbnail(image)
        is_due = number % self._every == 0
        if is_due or before is None or is_cut(before, self._thumbnail):
            followed: Sequence[Face] = ()
        else:
            followed = self._detector.follow(image, self._faces) if self._faces else ()
        if not followed or len(followed) < len(self._faces):
            followed = self._keep(self._detector.detect(image))
        self._faces = followed
        return followed


def thumbnail(image: Image) -> Image:
    """Return the image small and grey, enough to tell one shot from another."""
    # Averaging every pixel of a frame would cost as much as placing landmarks does.
    step = max(1, image.shape[0] // (4 * _THUMBNAIL[1]))
    some = np.ascontiguousarray(image[::step, ::step])
    small = cv2.resize(some, _THUMBNAIL, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def is_cut(before: Image, now: Image) -> bool:
    """Whether two thumbnails look like those of different shots."""
    return bool(np.abs(before.astype(np.float32) - now).mean() > CUT_LEVELS)
