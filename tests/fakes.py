"""Fakes for quick tests: clips of a bright spot, detectors, and people that are easy to tell apart.

`SpotDetector` takes the spot for a face. It can call a function before each image, whose number it
reads from a corner. `CannedDetector` has faces for frames of one gray each, `square` makes them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Self

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from faceswap_cli.core.lazy_image import ArrayImage, LazyImage, Rect
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image, Points
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.embedding import Embedding
from faceswap_cli.faces.set_source import read_source, write_source
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import Face
from faceswap_cli.stages.extract import ExtractSummary, extract
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.writer import VideoWriter

FRAMES = 24
FRAMES_WITHOUT_FACE = frozenset({0, 22, 23})
"""Frames without a face: the first and the last ones."""
FRAMES_MISSED = frozenset({7, 8})
"""Frames in which it is too dark to be detected."""
FACE_COUNT = FRAMES - len(FRAMES_WITHOUT_FACE)


def no_op(index: int) -> None:
    """Do nothing before the image number `index`."""


class FakeDetector:
    """A detector that needs nothing to be opened."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release nothing."""


class SpotDetector(FakeDetector):
    """Takes the bright part of an image for a face; calls `before` for each image.

    It reads the number of an image from its corner, where `write_clip` put it.
    """

    def __init__(self, before: Callable[[int], None] = no_op) -> None:
        self.before = before

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return one face around the bright pixels, if there are any; excluded or not."""
        self.before(read_frame_number(image))
        return self._detect_spots(image)

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return the same as `detect`."""
        return self.detect(view.to_array())

    def _detect_spots(self, image: Image) -> list[Face]:
        """Return one face around the bright pixels, if there are any."""
        rows, columns = np.nonzero(image[..., 0] > 128)
        if rows.size < 500:
            return []
        box = np.float32([columns.min(), rows.min(), columns.max(), rows.max()])
        spread = np.random.default_rng(1).uniform(0, 1, (478, 2))
        landmarks = (box[:2] + spread * (box[2:] - box[:2])).astype(np.float32)
        return [
            Face(
                box=box,
                landmarks=landmarks,
                score=0.9,
                blendshapes=(0.25,) * 52,
                pose=(1.0, 2.0, 3.0),
            )
        ]


def read_frame_number(image: Image) -> int:
    """Return the number in an image's corner."""
    bits = image[:8, :64, 0].reshape(8, 8, 8).mean(axis=(0, 2)) > 60
    return int(sum(1 << bit for bit in np.flatnonzero(bits)))


def stamp_frame_number(image: Image, number: int) -> Image:
    """Put a number into an image's corner, below 128 levels."""
    for bit in range(8):
        image[:8, 8 * bit : 8 * bit + 8] = 115 * (number >> bit & 1)
    return image


def make_frame(view: LazyImage, index: int) -> Frame:
    """Return frame `index` of a video of 25 frames a second."""
    return Frame(index=index, time=Fraction(index, 25), view=view)


def make_frames(images: Iterable[Image], *, first: int = 0) -> Iterator[Frame]:
    """Yield the frames of a video of 25 frames a second, from number `first` on."""
    return (make_frame(ArrayImage(image=image), index) for index, image in enumerate(images, first))


class CannedDetector(FakeDetector):
    """A detector with given faces for each frame; frames are identified by their gray level."""

    def __init__(self, faces: Mapping[int, Sequence[Face]], searched: list[int]) -> None:
        self.faces = faces
        self.searched = searched

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return the frame's faces, excluded or not, and note that it was searched."""
        self.searched.append(int(image[0, 0, 0]))
        return self.faces_in(image)

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return the largest faces of the frame, at most as many as there were."""
        return self.faces_in(view.to_array())[: len(faces)]

    def faces_in(self, image: Image) -> list[Face]:
        """Return the given faces of a frame, found by its image."""
        return list(self.faces.get(int(image[0, 0, 0]), ()))


class NearbyDetector(CannedDetector):
    """Tracks faces that are still near their last position."""

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return the frame's faces that are near one of `faces`."""
        present = self.faces_in(view.to_array())
        return [one for one in present if any(abs(one.box[0] - face.box[0]) < 9 for face in faces)]


@cache
def face_shape(person: int) -> npt.NDArray[np.float64]:
    """Return a person's landmarks in the unit square, (478, 2)."""
    return np.random.default_rng(person).uniform(0, 1, (478, 2))


def square(x: float, side: float = 40.0, *, person: int = 1) -> Face:
    """Return a face with a square box at `x`; `ShapeEmbedder` tells the people apart."""
    spread = face_shape(person)
    landmarks = np.float32(spread * side + [x, 20])
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=1.0,
        blendshapes=(0.1,) * 52,
        pose=(1.0, 2.0, 3.0),
    )


class ShapeEmbedder:
    """Tells the people of `square` apart; those of different numbers have nothing in common.

    Args:
        similarities: Two people -> the cosine of the embeddings of the second one's faces, a bad
            view of the first one, say, with the first one's.
    """

    def __init__(self, similarities: Mapping[tuple[int, int], float] | None = None) -> None:
        self.similarities = similarities or {}
        self.count = 0

    def embed(self, image: Image, landmarks: Points) -> Embedding:
        """Return the embedding of the face's person, and count it."""
        self.count += 1
        shape = normalize(landmarks.astype(np.float64))
        person = min(range(1, 9), key=lambda one: np.abs(normalize(face_shape(one)) - shape).sum())
        vectors = np.eye(128)
        for (first, second), cosine in self.similarities.items():
            if second == person:
                return cosine * vectors[first] + np.sqrt(1 - cosine**2) * vectors[second]
        return vectors[person]


def normalize(shape: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return points with their box moved to the unit square."""
    return (shape - shape.min(axis=0)) / np.ptp(shape, axis=0)


def gray_frames(levels: Sequence[int], *, first: int = 0) -> Iterator[Frame]:
    """Yield frames of one gray each, from number `first` on."""
    images = (np.full((18, 32, 3), level, np.uint8) for level in levels)
    return make_frames(images, first=first)


class RecordingReporter(Reporter):
    """Records the notes and the progress of a stage."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done: list[float] = []

    def note(self, text: str) -> None:
        """Record a note."""
        self.notes.append(text)

    def update(self, done: float, numbers: object = None) -> None:
        """Record the progress."""
        self.done.append(done)


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialImage(ArrayImage):
    """An image that is noise outside the requested area."""

    def to_partial_array(self, area: Rect) -> Image:
        """Return the image in the area, and noise around it."""
        left, top, right, bottom = area.clip_nonempty(self.size)
        noise = np.random.default_rng(0).integers(0, 255, self.image.shape, dtype=np.uint8)
        noise[top:bottom, left:right] = self.image[top:bottom, left:right]
        return noise


def write_clip(
    path: Path, *, frames: int = FRAMES, empty: Set[int] = FRAMES_WITHOUT_FACE, first: int = 0
) -> Path:
    """Write a clip of a bright spot that moves over a dark background, its images numbered."""
    with VideoWriter(path, size=(160, 120), rate=Fraction(25), quality=10) as writer:
        for index, image in enumerate(make_spot_images(frames, empty=empty, first=first)):
            writer.write(image, Fraction(index, 25))
    return path


def make_spot_images(
    count: int, *, empty: Set[int] = FRAMES_WITHOUT_FACE, first: int = 0
) -> Iterator[Image]:
    """Yield images of a bright spot that moves over a dark background, numbered."""
    rng = np.random.default_rng(3)
    for index in range(count):
        image = rng.integers(0, 40, (120, 160, 3), dtype=np.uint8)
        if index not in empty:
            x = 20 + 3 * (index % 30)
            image[30:90, x : x + 50] = rng.integers(190, 255, (60, 50, 3))
        if index in FRAMES_MISSED:
            image[..., 0] = np.minimum(image[..., 0], 90)
        yield stamp_frame_number(image, first + index)


def write_damaged_clip(path: Path, images: Sequence[Image], *, damaged: int) -> Path:
    """Write a Matroska file of 25 frames a second, key frames only, and destroy a part of it.

    Five frames from number `damaged` on are lost: the last of them for want of its header.
    """
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=25, options={"g": "1", "crf": "10"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for index, image in enumerate(images):
            frame = VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        positions = [one.pos for one in container.demux(video=0) if one.size]
        start, end = positions[damaged], positions[damaged + 4]
        assert start is not None
        assert end is not None
        data[start:end] = b"\xff" * (end - start)
    path.write_bytes(data)
    return path


def remux(path: Path, target: Path, *, start_s: float = 0) -> Path:
    """Copy the video stream of a file into another container, its stamps `start_s` later."""
    options = {"movflags": "faststart", "output_ts_offset": str(start_s)}
    with av.open(str(path)) as source, av.open(str(target), "w", options=options) as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                file.mux(packet)
    return target


def run_extract(
    clip: Path,
    folder: SetFolder,
    *,
    settings: ExtractSettings | None = None,
    before: Callable[[int], None] = no_op,
    report: RecordingReporter | None = None,
) -> ExtractSummary:
    """Extract with `SpotDetector`."""
    return extract(
        clip,
        folder=folder,
        settings=settings or ExtractSettings(size_px=64),
        report=report or RecordingReporter(),
        detector=lambda: SpotDetector(before),
    )


def read_set_files(folder: SetFolder) -> dict[str, bytes]:
    """Return the content of every file of a set by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.root.iterdir())}


def mark_unfinished(folder: SetFolder) -> None:
    """Make a finished set one that was interrupted."""
    source = dict(read_source(folder.source))
    del source["result"]
    write_source(folder, source)
