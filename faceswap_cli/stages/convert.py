"""Convert: a video goes in, the same video with another face comes out.

    frames -> faces -> network, in batches -> composite -> encoder

Frames are streamed: each arrow is a bounded queue, with a thread on either side. Everything but
the pixels under the mask is carried over; a frame without a face passes through untouched.
"""

import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, zip_longest
from pathlib import Path

import cv2
import numpy as np
import torch

from faceswap_cli import pictures
from faceswap_cli.ahead import ahead
from faceswap_cli.arrays import Image, Mask
from faceswap_cli.blend.colour import COLOUR_MATCHES
from faceswap_cli.blend.composite import BLENDS, Compositor, Rectangle, alpha_blend, warped
from faceswap_cli.errors import ConfigurationError, InputError, NoFacesError, did_you_mean
from faceswap_cli.faces.align import FaceAlignment, align
from faceswap_cli.faces.detect import Face, FaceDetector
from faceswap_cli.faces.detectors import DEFAULT, DETECTORS
from faceswap_cli.faces.mask import oval_mask
from faceswap_cli.files import fingerprint
from faceswap_cli.learning.checkpoint import load_weights
from faceswap_cli.learning.doors import to_images, to_masks, to_tensor
from faceswap_cli.learning.hardware import Hardware, find_hardware
from faceswap_cli.report import Number, Reporter
from faceswap_cli.video.reader import Frame, VideoInfo, probe, read_frames
from faceswap_cli.video.writer import VideoWriter
from faceswap_cli.workspace import SetFolder, Workspace
from faceswap_models.base import SwapModel

MASK_PX = 128
"""Side of the square in which masks are drawn and shaped: their edge is soft, so it may be
enlarged."""

LOOK_AGAIN = 12
"""Frames after which faces are looked for anew, though there is one to follow."""
MUCH_LARGER = 1.5
"""Ratio of areas from which on another face takes the place of the one that was followed."""

TILE_PX = 256
"""Side of a preview's tiles, px."""
SURROUNDINGS = 1.4
"""Side of a tile as a multiple of the network's square's."""
DIMMED = 60
"""How much of a preview's picture is left where the mask is 0, of 255."""

FRAMES_BYTES = 2**29
"""Memory that the frames on their way may take together."""


@dataclass(frozen=True, kw_only=True)
class ConvertSettings:
    """How faces are laid into the video, and how the video is written."""

    colour: str = "lab"
    """How the swapped face takes the frame's colours: a name in `COLOUR_MATCHES`."""
    blend: str = "alpha"
    """How it is mixed into the frame: a name in `BLENDS`."""
    feather: float = Compositor.feather
    """Width of the soft edge as a part of the side of the network's square."""
    shrink: float = Compositor.shrink
    """How far the mask's edge is drawn in, as a part of that side; negative grows it."""
    quality: int = 18
    """x264's rate factor: 0 is lossless, 18 hardly to be told from it, 51 the worst."""
    batch_size: int = 16
    """Frames that the network sees together; fewer where frames are very large."""

    def compositor(self) -> Compositor:
        """Return the compositor that these settings describe.

        Raises:
            ConfigurationError: There is no such method, or a number is out of its range.
        """
        for kind, name, methods in (
            ("colour", self.colour, COLOUR_MATCHES),
            ("blend", self.blend, BLENDS),
        ):
            if name not in methods:
                raise ConfigurationError(
                    f'there is no {kind} method called "{name}"', hint=did_you_mean(name, methods)
                )
        if not 0 <= self.feather <= 0.5 or not -0.5 <= self.shrink <= 0.5:
            raise ConfigurationError(
                f"feather {self.feather} and shrink {self.shrink} are parts of the face's side",
                hint="feather may be 0 to 0.5, shrink -0.5 to 0.5",
            )
        return Compositor(
            feather=self.feather,
            shrink=self.shrink,
            recolour=COLOUR_MATCHES[self.colour],
            blend=BLENDS[self.blend],
        )


@dataclass(frozen=True, kw_only=True)
class ConvertSummary:
    """What became of a video."""

    frames: int
    """Frames written."""
    swapped: int
    """Frames that got another face."""
    passed_through: int
    """Frames without a face, untouched."""
    seconds: float
    """Wall time."""
    output: Path


def convert(
    video: Path,
    *,
    weights: Path,
    to: str | None,
    output: Path,
    device: str,
    report: Reporter,
    settings: ConvertSettings | None = None,
    workspace: Workspace | None = None,
) -> ConvertSummary:
    """Write `video` to `output` with the face of the person called `to` on the one in it.

    Args:
        video: The clip; its sound, times, size and colours are carried over.
        weights: Trained weights, as `train` leaves them.
        to: Whose face to put on; None takes the last of the people the model knows whom the clip
            does not show.
        output: Appears under this name when it is finished, not before.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: Hears how far it is.
        settings: How faces are laid in.
        workspace: Where the people's sets are, which tell whom a clip shows.

    Raises:
        InputError: The video cannot be read, or the output cannot be written.
        ConfigurationError: The model does not know `to`, or a setting is wrong.
        CheckpointError: The weights cannot be used.
        NoFacesError: There is no face in the whole clip; nothing is written.
    """
    started = time.monotonic()
    settings = settings or ConvertSettings()
    info = probe(video)
    refuse_overwriting(video, output)
    shown = people_shown(video, workspace) if workspace else frozenset()
    swap = FaceSwap.prepare(weights, to=to, shown=shown, device=device, settings=settings)
    batch = batch_size(info, wanted=settings.batch_size)
    count = _Count()
    report.stage(f"convert {video.name} to {swap.to}", total=info.frame_count, unit="frames")
    with DETECTORS[DEFAULT]() as detector, _writer(info, output, settings) as writer:
        finding = swap.found(followed(read_frames(video, note=report.note), detector))
        with (
            closing(ahead(finding, depth=batch)) as found,
            closing(ahead(swap.finished(found, batch=batch), depth=batch)) as finished,
        ):
            for frame in finished:
                writer.write(frame.image, frame.time)
                count.add(frame)
                report.advance(count.frames, count.numbers(time.monotonic() - started))
        if not count.swapped:
            raise _no_face(video)
    for note in writer.notes:
        report.note(note)
    return ConvertSummary(
        frames=count.frames,
        swapped=count.swapped,
        passed_through=count.frames - count.swapped,
        seconds=time.monotonic() - started,
        output=output,
    )


def preview(
    video: Path,
    *,
    weights: Path,
    to: str | None,
    output: Path,
    moments: int,
    device: str,
    report: Reporter,
    settings: ConvertSettings | None = None,
    workspace: Workspace | None = None,
) -> int:
    """Write one picture that shows what `convert` would make of moments spread over `video`.

    Each moment is three tiles around the face: as it is, swapped, and where the mask lets the
    swapped face through.

    Args:
        video: The clip.
        weights: Trained weights, as `train` leaves them.
        to: Whose face to put on; None chooses as `convert` does.
        output: The picture, PNG.
        moments: How many to show; fewer where there are fewer frames with a face.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: Hears how far it is.
        settings: How faces are laid in.
        workspace: Where the people's sets are, which tell whom a clip shows.

    Returns:
        How many moments are shown.

    Raises:
        FaceswapError: As `convert` does.
    """
    settings = settings or ConvertSettings()
    info = probe(video)
    shown = people_shown(video, workspace) if workspace else frozenset()
    swap = FaceSwap.prepare(weights, to=to, shown=shown, device=device, settings=settings)
    step = max(1, (info.frame_count or moments) // moments)
    report.stage(f"preview {video.name} as {swap.to}", total=moments, unit="moments")
    rows = []
    with DETECTORS[DEFAULT]() as detector:
        frames = islice(read_frames(video, start=step // 2), 0, None, step)
        # Moments lie too far apart for a face to be followed from one to the next.
        looked = ((frame, detector.detect(frame.image)) for frame in frames)
        with_face = (found for found in swap.found(looked) if found.targets)
        for found in islice(with_face, moments):
            rows.append(swap.tiles(found))
            report.advance(len(rows))
    if not rows:
        raise _no_face(video)
    caption = ["original", swap.to, "mask"]
    pairs = [[*left, *right] for left, right in zip_longest(rows[::2], rows[1::2], fillvalue=())]
    captions = caption * (1 + (len(rows) > 1))
    pictures.write_png(output, pictures.sheet(pairs, side=TILE_PX, columns=captions))
    report.picture(output, f"{len(rows)} moments of {video.name} as {swap.to}")
    return len(rows)


def _no_face(video: Path) -> NoFacesError:
    """Return the error for a clip without a face."""
    return NoFacesError(
        f"there is no face in {video.name}",
        hint="faces must be a good part of the picture, and turned less than sideways",
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """A face that is to be replaced."""

    alignment: FaceAlignment
    """The place of the square that the network sees."""
    crop: Image
    """What the network sees there, uint8 (S, S, 3)."""
    mask: Mask
    """float32 (MASK_PX, MASK_PX): the face's outline in that square."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A frame and the faces in it that are to be replaced."""

    frame: Frame
    targets: Sequence[Target]


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A frame that is ready to be written."""

    time: Fraction
    image: Image
    swapped: int
    """Faces that were replaced in it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SwappedFace:
    """What the network made of one crop."""

    image: Image
    """uint8 (S, S, 3)."""
    mask: Mask | None
    """float32 (S, S), of a model that learns where the face is."""


Network = Callable[[Sequence[Image]], list[SwappedFace]]
"""`network(crops)`: each crop as the other person."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSwap:
    """One person's face for others': from the faces in a frame to the frame with another face."""

    to: str
    """Whose face is put on."""
    size_px: int
    """Side of the square the network sees."""
    coverage: float
    """Side of that square as a part of the aligned square's."""
    network: Network
    compositor: Compositor

    @classmethod
    def prepare(
        cls,
        weights: Path,
        *,
        to: str | None,
        device: str,
        settings: ConvertSettings,
        shown: Set[str] = frozenset(),
    ) -> "FaceSwap":
        """Load a model and choose the person.

        Raises:
            ConfigurationError: The model does not know `to`, or a setting is wrong.
            CheckpointError: The weights cannot be used.
        """
        compositor = settings.compositor()
        hardware = find_hardware(device)
        trained = load_weights(weights, hardware.device)
        person = chosen_person(trained.identities, to, shown=shown)
        return cls(
            to=person,
            size_px=trained.recipe.model.size_px,
            coverage=trained.recipe.model.coverage,
            network=network_of(trained.model, hardware, to=person),
            compositor=compositor,
        )

    def found(self, looked: Iterable[tuple[Frame, Sequence[Face]]]) -> Iterator[Found]:
        """Choose the face to replace in every frame: the largest."""
        for frame, faces in looked:
            targets = [self.target(frame.image, face) for face in faces[:1]]
            yield Found(frame=frame, targets=targets)

    def target(self, image: Image, face: Face) -> Target:
        """Cut out what the network is to see of a face."""
        alignment = align(face.landmarks).central(self.coverage)
        return Target(
            alignment=alignment,
            crop=alignment.crop(image, self.size_px),
            mask=oval_mask(face.landmarks, alignment, MASK_PX),
        )

    def finished(self, found: Iterable[Found], *, batch: int) -> Iterator[Finished]:
        """Replace the faces, showing the network `batch` frames at a time."""
        remaining = iter(found)
        while group := list(islice(remaining, batch)):
            crops = [target.crop for item in group for target in item.targets]
            faces = iter(self.network(crops) if crops else [])
            for item in group:
                yield self.composed(item, list(islice(faces, len(item.targets))))

    def composed(self, found: Found, faces: Sequence[SwappedFace]) -> Finished:
        """Lay the swapped faces over those they replace."""
        image = found.frame.image
        for target, face in zip(found.targets, faces, strict=True):
            mask = _mask_of(target, face)
            image = self.compositor(image, face.image, mask, target.alignment, covers=target.crop)
        return Finished(time=found.frame.time, image=image, swapped=len(faces))

    def tiles(self, found: Found) -> list[Image]:
        """Return the first face of a frame as it is, swapped, and under its mask."""
        before, target = found.frame.image, found.targets[0]
        (face,) = self.network([target.crop])
        after = self.composed(replace(found, targets=[target]), [face]).image
        height, width = before.shape[:2]
        whole = Rectangle(0, 0, width, height)
        alpha = warped(self.compositor.alpha(_mask_of(target, face)), target.alignment, whole)
        dark = np.full_like(before, 0)
        veiled = alpha_blend(dark, before, np.maximum(alpha, DIMMED))
        around = target.alignment.central(SURROUNDINGS)
        return [around.crop(image, TILE_PX) for image in (before, after, veiled)]


def followed(
    frames: Iterable[Frame], detector: FaceDetector
) -> Iterator[tuple[Frame, Sequence[Face]]]:
    """Yield every frame with the face to replace in it, if there is one: always the same person's.

    The largest face is followed from frame to frame, which takes a sixth of the time of finding it
    (54 and 9 ms at 720p, one core) and does not make it less steady. When it is lost another is
    looked for; and every `LOOK_AGAIN` frames, for somebody may have stepped in front.
    """
    faces: Sequence[Face] = []
    for number, frame in enumerate(frames):
        faces = detector.follow(frame.image, faces) if faces else []
        if not faces or number % LOOK_AGAIN == 0:
            faces = foremost(detector.detect(frame.image), followed=faces)
        yield frame, faces


def foremost(faces: Sequence[Face], *, followed: Sequence[Face]) -> Sequence[Face]:
    """Return the followed face, or the first of `faces` if that is much larger.

    Two people of one size would otherwise take turns from frame to frame.

    Args:
        faces: All faces in a frame, largest first.
        followed: The face that was being replaced, if it is still there.
    """
    if not faces or (followed and faces[0].area_px < MUCH_LARGER * followed[0].area_px):
        return followed
    return faces[:1]


def network_of(model: SwapModel, hardware: Hardware, *, to: str) -> Network:
    """Return a model as a function of uint8 crops, in the fastest precision the device has.

    In bfloat16 the weights themselves are kept so, for they are read whole at every call: 1.3
    times as fast as autocast alone (autoencoder, CPU, 16 faces), and as near to float32, which
    it misses by 0.06 of 255 levels. Autocast then turns what is left.
    """
    device = hardware.device
    native = hardware.autocast is not None
    model = model.to(hardware.autocast) if hardware.autocast else model

    def network(crops: Sequence[Image]) -> list[SwappedFace]:
        with torch.inference_mode(), torch.autocast(device.type, hardware.autocast, native):
            swapped = model.swap(to_tensor(crops).to(device), to)
        images = to_images(swapped.image)
        masks = [None] * len(images) if swapped.mask is None else to_masks(swapped.mask)
        return [
            SwappedFace(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)
        ]

    return network


def chosen_person(
    identities: Sequence[str], to: str | None, *, shown: Set[str] = frozenset()
) -> str:
    """Return whose face to put on: `to`, or the last person the model knows who is not `shown`.

    Raises:
        ConfigurationError: The model does not know `to`.
    """
    if to is None:
        others = [person for person in identities if person not in shown]
        return (others or identities)[-1]
    if to not in identities:
        raise ConfigurationError(
            f'this model does not know "{to}"', hint=did_you_mean(to, identities)
        )
    return to


def people_shown(video: Path, workspace: Workspace) -> frozenset[str]:
    """Return the names of the sets that were extracted from this very video."""
    known = fingerprint(video)
    names = workspace.set_names()
    return frozenset(
        name
        for name in names
        if any(source.items() >= known.items() for source in _sources(workspace.set(name)))
    )


def _sources(folder: SetFolder) -> list[Mapping[str, object]]:
    """Return what a set says of its inputs; nothing if that cannot be read."""
    try:
        sections = tomllib.loads(folder.source.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    inputs = (section for title, section in sections.items() if title.startswith("input"))
    return [section for section in inputs if isinstance(section, dict)]


def refuse_overwriting(video: Path, output: Path) -> None:
    """Refuse to replace the input by the output.

    Raises:
        InputError: They are one file, or the output is a folder.
    """
    if output.is_dir():
        raise InputError(f"{output} is a folder", hint="name the video to write with --output")
    if output.exists() and output.samefile(video):
        raise InputError(
            f"{output} is the video to convert", hint="choose another name with --output"
        )


def batch_size(info: VideoInfo, *, wanted: int) -> int:
    """Return how many frames to show the network at once, so that memory stays bounded.

    One batch is being found, one swapped and one written, so three times as many are in flight.
    """
    width, height = info.size
    return max(1, min(wanted, FRAMES_BYTES // (3 * 3 * width * height)))


@dataclass(kw_only=True)
class _Count:
    """Frames so far."""

    frames: int = 0
    swapped: int = 0

    def add(self, frame: Finished) -> None:
        """Count one more."""
        self.frames += 1
        self.swapped += frame.swapped > 0

    def numbers(self, seconds: float) -> dict[str, Number]:
        """Return what to show beside the progress bar."""
        return {"fps": round(self.frames / max(seconds, 1e-9), 1), "swapped": self.swapped}


def _writer(info: VideoInfo, output: Path, settings: ConvertSettings) -> VideoWriter:
    """Return a writer of the same video: its times, sound and colours."""
    return VideoWriter(
        output,
        size=info.size,
        rate=info.average_rate,
        time_base=info.time_base,
        copy_from=info.path,
        colour=info.colour,
        quality=settings.quality,
    )


def _mask_of(target: Target, face: SwappedFace) -> Mask:
    """Return where a swapped face may show: in the outline, and where the model sees a face."""
    return target.mask if face.mask is None else target.mask * _at_mask_size(face.mask)


def _at_mask_size(mask: Mask) -> Mask:
    """Return a mask of any size at `MASK_PX`."""
    resized = cv2.resize(mask, (MASK_PX, MASK_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32)
