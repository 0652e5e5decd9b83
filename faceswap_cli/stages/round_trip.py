"""Self-swap: what the pipeline itself loses on somebody's footage, step by step.

The face is swapped to itself by a network thought perfect, so the input is the right answer.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from faceswap_cli.core.errors import NoFacesError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image, Points
from faceswap_cli.evaluation.round_trip import RoundTrip, measure_psnr
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.video.reader import VideoInfo, probe, read_frames
from faceswap_cli.video.writer import VideoWriter

MAX_FRAMES = 48
"""Of the clip's beginning: an encoder needs frames that follow each other."""


@dataclass(frozen=True, kw_only=True)
class RoundTripSummary:
    """What the pipeline loses."""

    frames: int
    """With a face."""
    network_px: int
    """Side of the square that the network sees."""
    face_px: float
    """Side of the same square in the frame, largest: a network should be as fine."""
    psnr: dict[str, float]
    """dB inside the mask after each step."""

    def rows(self) -> list[list[str]]:
        """Return the table: each step, and the PSNR after it."""
        return [[step, f"{value:.1f}"] for step, value in self.psnr.items()]


def measure_round_trip(
    video: Path, *, size_px: int, coverage: float, report: Reporter
) -> RoundTripSummary:
    """Swap the largest face in the beginning of a video to itself.

    Args:
        video: The clip.
        size_px: Side of the square that the network sees.
        coverage: That side as a part of the aligned square's.
        report: Hears how far it is.

    Raises:
        InputError: The video cannot be read.
        NoFacesError: There is no face in its beginning.
    """
    info = probe(video)
    report.start_task(f"self-swap {video.name}", total=MAX_FRAMES, unit="frames")
    seen = list(_find_faces(video, report))
    if not seen:
        raise NoFacesError(
            f"no face was found in the first {MAX_FRAMES} frames of {video.name}",
            hint="choose a clip that begins with the face in view",
        )
    with tempfile.TemporaryDirectory() as folder:

        def encode(images: list[Image]) -> Iterable[Image]:
            path = Path(folder) / "self-swap.mp4"
            _write_video(path, images, info)
            return (frame.image for frame in read_frames(path))

        psnr = measure_psnr(seen, RoundTrip(size_px=size_px, coverage=coverage), encode=encode)
    sides = [align_face(landmarks).center_crop(coverage).side_px for _, landmarks in seen]
    return RoundTripSummary(
        frames=len(seen),
        network_px=size_px,
        face_px=round(max(sides), 1),
        psnr={step: round(value, 2) for step, value in psnr.items()},
    )


def _find_faces(video: Path, report: Reporter) -> Iterator[tuple[Image, Points]]:
    """Yield the first frames that have a face, and its landmarks."""
    with DETECTORS[DEFAULT_DETECTOR]() as detector:
        for count, frame in enumerate(islice(read_frames(video), MAX_FRAMES), 1):
            for face in detector.detect(frame.image)[:1]:
                yield frame.image, face.landmarks
            report.update(count)


def _write_video(path: Path, images: list[Image], info: VideoInfo) -> None:
    """Write frames at the clip's rate, in the quality that conversions have."""
    with VideoWriter(path, size=info.size, rate=info.average_rate, color=info.color) as writer:
        for index, image in enumerate(images):
            writer.write(image, index / info.average_rate)
