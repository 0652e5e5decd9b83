"""Round trip: a face is swapped to itself by a perfect network, so what differs the pipeline loses.

The network returns its input. Each step is measured together with all steps before it; the last
step is the video encoder. The entry point is `measure_round_trip`.
"""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil
from pathlib import Path

import numpy as np

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import build_compositor
from faceswap_cli.core.errors import NoFacesError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image, Mask, Points
from faceswap_cli.evaluation.metrics.reconstruction import mean_squared_error, psnr_from_mse
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.video.probe import VideoInfo, probe
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter

MAX_FRAMES = 48
"""Frames from the beginning of the clip: an encoder needs consecutive frames."""
OVERSAMPLING = 2
"""Crop pixels per frame pixel in the `alignment` step: only the warp and its inverse count."""

STEPS = ("alignment", "resampling", "blending", "encoding")

EncodeFrames = Callable[[list[Image]], Iterable[Image]]
"""`encode(frames)`: the frames as decoded from a video they were encoded into, in order."""


@dataclass(frozen=True, kw_only=True)
class RoundTripSummary:
    """What the pipeline loses."""

    frames: int
    """Frames with a face."""
    network_px: int
    """Side of the network's input."""
    face_px: float
    """Largest side of that input in the frame, px: a network should be as fine."""
    psnr: dict[str, float]
    """PSNR inside the mask after each step, dB."""

    def rows(self) -> list[list[str]]:
        """Return the rows of the table: step, PSNR."""
        return [[step, f"{value:.1f}"] for step, value in self.psnr.items()]


def measure_round_trip(
    video: Path, *, size_px: int, coverage: float, report: Reporter
) -> RoundTripSummary:
    """Swap the largest face in the beginning of a video to itself.

    Args:
        video: The clip.
        size_px: Side of the network's input.
        coverage: That side as a fraction of the aligned square's.
        report: Receives progress.

    Raises:
        InputError: The video cannot be read.
        NoFacesError: There is no face in its beginning.
    """
    info = probe(video)
    report.start_task(f"round trip of {video.name}", total=MAX_FRAMES, unit="frames")
    faces = list(_find_faces(video, report))
    if not faces:
        raise NoFacesError(
            f"no face was found in the first {MAX_FRAMES} frames of {video.name}",
            hint="choose a clip that begins with the face in view",
        )
    with tempfile.TemporaryDirectory() as folder:

        def encode(images: list[Image]) -> Iterable[Image]:
            path = Path(folder) / "round-trip.mp4"
            _write_video(path, images, info)
            return (frame.image for frame in read_frames(path))

        psnr = measure_psnr(faces, RoundTrip(size_px=size_px, coverage=coverage), encode=encode)
    sides = [align_face(landmarks).center_crop(coverage).side_px for _, landmarks in faces]
    return RoundTripSummary(
        frames=len(faces),
        network_px=size_px,
        face_px=round(max(sides), 1),
        psnr={step: round(value, 2) for step, value in psnr.items()},
    )


def measure_psnr(
    faces: Iterable[tuple[Image, Points]],
    round_trip: "RoundTrip",
    *,
    encode: EncodeFrames | None = None,
) -> dict[str, float]:
    """Return the PSNR inside the mask after each of the `STEPS`, dB, over all frames.

    Args:
        faces: Frames and the landmarks of the face in each.
        round_trip: Size of the network, and how its output is composited.
        encode: Encodes and decodes frames; None skips that step.
    """
    errors: dict[str, list[float]] = defaultdict(list)
    composited: list[tuple[Image, Image, Mask]] = []
    for frame, landmarks in faces:
        images, mask = round_trip.run_steps(frame, landmarks)
        for step, image in images.items():
            errors[step].append(mean_squared_error(image, frame, mask))
        if encode is not None:
            composited.append((frame, images["blending"], mask))
    if encode is not None:
        decoded = encode([image for _, image, _ in composited])
        for image, (frame, _, mask) in zip(decoded, composited, strict=True):
            errors["encoding"].append(mean_squared_error(image, frame, mask))
    return {step: psnr_from_mse(float(np.mean(values))) for step, values in errors.items()}


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """A perfect network of one size, and the compositing of its output."""

    size_px: int
    """Side of the network's input."""
    coverage: float = 0.8
    """That side as a fraction of the aligned square's."""
    compositor: Compositor = field(default_factory=lambda: build_compositor(ConvertSettings()))

    def run_steps(self, frame: Image, landmarks: Points) -> tuple[Mapping[str, Image], Mask]:
        """Return the frame after each step but the encoding, and the mask to compare inside.

        Args:
            frame: RGB uint8 (H, W, 3).
            landmarks: (478, 2) px.
        """
        alignment = align_face(landmarks).center_crop(self.coverage)
        mask = face_mask(landmarks, alignment)
        plain = replace(
            self.compositor, color_transfer=None, postprocess=Compositor().postprocess, feather=0.0
        )
        fine = alignment.crop(frame, ceil(OVERSAMPLING * alignment.side_px))
        crop = alignment.crop(frame, self.size_px)
        images = {
            "alignment": plain.paste(frame, fine, mask, alignment),
            "resampling": plain.paste(frame, crop, mask, alignment),
            "blending": self.compositor.paste(frame, crop, mask, alignment, original=crop),
        }
        height, width = frame.shape[:2]
        alpha = self.compositor.alpha_in_frame(mask, alignment, (width, height))
        return images, np.asarray(alpha / np.float32(255), dtype=np.float32)


def _find_faces(video: Path, report: Reporter) -> Iterator[tuple[Image, Points]]:
    """Yield those of the first frames that have a face, and its landmarks."""
    with DETECTORS[DEFAULT_DETECTOR]() as detector:
        for count, frame in enumerate(islice(read_frames(video), MAX_FRAMES), 1):
            for face in detector.detect(frame.image)[:1]:
                yield frame.image, face.landmarks
            report.update(count)


def _write_video(path: Path, images: list[Image], info: VideoInfo) -> None:
    """Write frames at the clip's rate, in the quality of conversions."""
    with VideoWriter(path, size=info.size, rate=info.average_rate, color=info.color) as writer:
        for index, image in enumerate(images):
            writer.write(image, index / info.average_rate)
