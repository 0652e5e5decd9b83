"""Clips of synthetic people, and their true swaps, for ellipsoid people and those of a mesh.

`render_clip` and `render_head_clip` write one to a file, `render_true_swap` and
`render_true_head_swap` yield its true swap.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from faceswap_cli import heads, synthetic
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image, Mask
from faceswap_cli.faces.alignment import SIDE_CM, align_face, transform_points
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, LOCATION_DETECTORS
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.heads.performance import PERFORMANCE_RATE
from faceswap_cli.video.writer import AudioTrack, VideoWriter

JAW_OPEN = BLENDSHAPE_NAMES.index("jawOpen")
PLACEMENT_MOMENTS = 12
"""Moments of a performance in which faces are detected to place one: what is left then is below
0.2 mm, a tenth of what it was."""


class TrueFrame(Protocol):
    """A rendered frame of a true swap."""

    @property
    def image(self) -> Image:
        """RGB uint8 (S, S, 3)."""

    @property
    def face_mask(self) -> Mask:
        """float32 (S, S) in [0, 1]: 1 where a true swap shows the other face."""


def render_clip(
    path: Path,
    person: synthetic.Person,
    performance: synthetic.Animation,
    *,
    side_px: int,
    report: Reporter,
) -> None:
    """Render a person's performance with its sound into a video."""
    frames = synthetic.render_frames(person, performance.scenes, size_px=side_px)
    jaws = [scene.jaw for scene in performance.scenes]
    images, rate = (one.image for one in frames), performance.rate
    _write_clip(path, images, jaws, rate=rate, side_px=side_px, report=report)


def render_head_clip(
    path: Path,
    person: heads.HeadPerson,
    performance: Sequence[heads.HeadScene],
    *,
    side_px: int,
    report: Reporter,
) -> None:
    """Render the performance of a person of a mesh with its sound into a video."""
    frames = heads.render_head_frames(person, performance, size_px=side_px)
    jaws = [scene.blendshapes[JAW_OPEN] for scene in performance]
    images = (one.image for one in frames)
    _write_clip(path, images, jaws, rate=PERFORMANCE_RATE, side_px=side_px, report=report)


def render_true_swap(
    driving: synthetic.Person,
    target: synthetic.Person,
    performance: synthetic.Animation,
    *,
    side_px: int,
) -> Iterator[synthetic.RenderedFrame]:
    """Render the target's face on the driving head, with the skin of the driving person.

    A swap that keeps the scene's colors should have that skin: neck and ears are not swapped.
    """
    person = target.with_skin_of(driving).on_head_of(driving)
    return synthetic.render_frames(person, performance.scenes, size_px=side_px)


def render_true_head_swap(
    driving: heads.HeadPerson,
    target: heads.HeadPerson,
    performance: Sequence[heads.HeadScene],
    *,
    side_px: int,
) -> Iterator[heads.HeadFrame]:
    """Render the target's face on the driving head of a mesh, in the same way.

    It sits where the face of the driving person is detected (`place_face`).
    """
    person = target.with_skin_of(driving).on_head_of(driving)
    person = place_face(person, driving, performance, side_px=side_px)
    return heads.render_head_frames(person, performance, size_px=side_px)


def place_face(
    person: heads.HeadPerson,
    driving: heads.HeadPerson,
    performance: Sequence[heads.HeadScene],
    *,
    side_px: int,
) -> heads.HeadPerson:
    """Return the person with a face that is detected where that of the driving person is.

    Crops are aligned by what a detector sees, which takes the faces of two people for up to 3 mm
    higher or lower on the same head. A converter knows nothing else, so the truth follows it.

    Args:
        person: A face on the head of `driving`.
        driving: Whose head it is.
        performance: What both do; a few of its moments are rendered.
        side_px: Side of the frames.
    """
    chosen = np.linspace(0, len(performance) - 1, PLACEMENT_MOMENTS).round().astype(int)
    moments = [performance[index] for index in chosen]
    shifts = []
    with LOCATION_DETECTORS[DEFAULT_DETECTOR]() as detector:
        for frames in zip(
            heads.render_head_frames(driving, moments, size_px=side_px),
            heads.render_head_frames(person, moments, size_px=side_px),
            strict=True,
        ):
            found = [detector.detect(frame.image) for frame in frames]
            if all(found):
                wanted, placed = (align_face(faces[0].landmarks) for faces in found)
                center = placed.corners().mean(axis=0, keepdims=True)
                shifts.append(transform_points(center, wanted.to_unit)[0] - 0.5)
    right, down = np.mean(shifts, axis=0) * SIDE_CM if shifts else (0.0, 0.0)
    return replace(person, face_shift_cm=(-float(right), float(down)))


def _write_clip(
    path: Path,
    images: Iterable[Image],
    jaws: Sequence[float],
    *,
    rate: Fraction,
    side_px: int,
    report: Reporter,
) -> None:
    """Write square images, as many as `jaws`, and a hum that follows those, into a video."""
    report.start_task(f"rendering {path.stem}", total=len(jaws), unit="frames")
    sound = AudioTrack(samples=synthetic.synthesize_voice(jaws, rate=rate), rate_hz=48_000)
    with VideoWriter(path, size=(side_px, side_px), rate=rate, audio=sound) as video:
        for index, image in enumerate(images):
            video.write(image, index / rate)
            report.update(index + 1)
