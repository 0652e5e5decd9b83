"""From a video to aligned face crops and their records; nothing of who the faces belong to.

A run can be stopped in any way and gone on with. `source.toml` is written first and says whose
set this is; a crop is on the disk before its line is appended to `faces.jsonl`; every so many
frames the faces are searched for without regard to what came before. So the lines say how far the
work got, whatever stopped it: it goes on at the last such frame and comes to the same bytes.
`[result]` in `source.toml` says that it was finished.
"""

import json
import os
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from faceswap_cli import pictures
from faceswap_cli.ahead import ahead
from faceswap_cli.arrays import Image
from faceswap_cli.errors import ConfigurationError, InputError, NoFacesError, did_you_mean
from faceswap_cli.faces.align import TEMPLATE_VERSION, align
from faceswap_cli.faces.detect import Face, FaceDetector
from faceswap_cli.faces.detectors import DEFAULT, DETECTORS
from faceswap_cli.faces.follow import EVERY, Follower, everyone, largest
from faceswap_cli.faces.quality import sharpness
from faceswap_cli.faces.record import FaceRecord
from faceswap_cli.files import explained, fingerprint, write_text
from faceswap_cli.report import Reporter
from faceswap_cli.video.reader import Frame, VideoInfo, probe, read_frames
from faceswap_cli.workspace import SetFolder

SYNC_SECONDS = 2.0
"""At most this much work is lost when the power goes."""
WAITING_CROPS = 16
"""Crops that may wait for the disk before the detector has to."""
WAITING_FRAMES = 4
"""Frames that may be decoded before the detector wants them."""

CHOICES: Mapping[str, Callable[[Sequence[Face]], Sequence[Face]]] = MappingProxyType(
    {"largest": largest, "all": everyone}
)
"""Which of a frame's faces are kept; they come largest first."""


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """What is kept; fixed for the life of a set."""

    size_px: int = 256
    """Side of the crops, px."""
    every: int = 1
    """Look at every n-th frame only."""
    faces: str = "largest"
    """Which of a frame's faces are kept: a name in `CHOICES`."""
    detector: str = DEFAULT
    """What finds them: a name in `DETECTORS`."""

    @property
    def search_every(self) -> int:
        """Images looked at from one search for faces to the next.

        Where frames are left out, a face may be anywhere in the next one looked at.
        """
        return EVERY if self.every == 1 else 1


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """What an extraction came to."""

    name: str
    """The set."""
    frames: int
    """Frames looked at, in this run and those before it."""
    faces: int
    """Faces kept, in this run and those before it."""
    seconds: float
    """Duration of this run."""


def extract(
    video: Path,
    *,
    folder: SetFolder,
    settings: ExtractSettings,
    report: Reporter,
    detector: Callable[[], FaceDetector] | None = None,
) -> ExtractSummary:
    """Keep the faces of `video` as aligned crops in `folder`, going on where a run stopped.

    Args:
        video: What to look at.
        folder: The set.
        settings: What is kept.
        report: Hears how far it is.
        detector: Makes what finds the faces, in place of the one that the settings name.

    Raises:
        InputError: The video cannot be read or the folder cannot be written.
        ConfigurationError: A setting is wrong, or the set has another source or settings.
        NoFacesError: There is no face in the whole video; no set is left behind.
    """
    began = time.monotonic()
    _check(settings)
    info = probe(video)
    source = _source(info, settings)
    if done := _finished(folder, source):
        report.note(f'the set "{folder.name}" is complete: nothing left to do')
        return ExtractSummary(name=folder.name, seconds=time.monotonic() - began, **done)
    with (detector or DETECTORS[settings.detector])() as finder:
        if not folder.source.exists():
            write_text(folder.source, _to_toml(source))
        _sweep(folder)
        stride = settings.every * settings.search_every
        journal = _Journal.resume(folder.records, stride=stride)
        frames = _look(info, journal, finder, folder=folder, settings=settings, report=report)
    if not journal.faces:
        _discard(folder)
        raise NoFacesError(
            f"no face was found in the {frames} frames of {video.name}",
            hint="faces should be in view, sharp and 30 px wide or more: try a closer shot",
        )
    done = {"frames": frames, "faces": journal.faces}
    write_text(folder.source, _to_toml(source | {"result": done}))
    return ExtractSummary(name=folder.name, seconds=time.monotonic() - began, **done)


def _look(
    info: VideoInfo,
    journal: "_Journal",
    finder: FaceDetector,
    *,
    folder: SetFolder,
    settings: ExtractSettings,
    report: Reporter,
) -> int:
    """Find, crop and record the faces of the frames still to do; return the frames of the clip."""
    follower = Follower(finder, keep=CHOICES[settings.faces], every=settings.search_every)
    report.stage(f"extract {info.path.name}", total=info.frame_count, unit="frames")
    if journal.next_frame:
        report.note(f"going on at frame {journal.next_frame}: {journal.faces} faces so far")
    began, last = time.monotonic(), 0
    decoded = read_frames(info.path, start=journal.next_frame, note=report.note)
    with journal.open() as write, closing(ahead(decoded, depth=WAITING_FRAMES)) as frames:
        for frame in frames:
            last = frame.index
            if frame.index % settings.every == 0:
                for number, face in enumerate(follower.look(frame.image)):
                    write(*_cut(frame, face, number, folder=folder, size_px=settings.size_px))
            rate = (frame.index + 1 - journal.next_frame) / (time.monotonic() - began)
            numbers = {"frames/s": round(rate, 1), "faces": journal.faces}
            report.advance(frame.index + 1, numbers)
    return last // settings.every + 1


def _cut(
    frame: Frame, face: Face, number: int, *, folder: SetFolder, size_px: int
) -> tuple[Path, Image, FaceRecord]:
    """Return where a face's crop goes, the crop, and the record of it."""
    alignment = align(face.landmarks)
    crop = alignment.crop(frame.image, size_px)
    path = folder.crop(frame.index, number)
    record = FaceRecord(
        file=path.name,
        frame=frame.index,
        time=frame.time,
        alignment=alignment,
        landmarks=face.landmarks,
        score=face.score,
        sharpness=sharpness(crop),
        pose=face.pose,
        expression=face.expression,
    )
    return path, crop, record


@dataclass(kw_only=True)
class _Journal:
    """The file of records, growing at its end while the crops go before it."""

    path: Path
    next_frame: int
    """The first frame still to look at."""
    faces: int
    """Records kept."""

    @classmethod
    def resume(cls, path: Path, *, stride: int) -> "_Journal":
        """Return the journal at `path`, cut back to where the work can be taken up again.

        That is at a frame whose index is a multiple of `stride`: there faces are searched for. The
        last recorded frame itself is done again in any case: it may have had more faces than lines.
        """
        lines = _readable_lines(path) if path.exists() else []
        last = lines[-1][0] if lines else 0
        begin = last - last % stride
        kept = [line for frame, line in lines if frame < begin]
        if path.exists():
            os.truncate(path, sum(map(len, kept)))
        return cls(path=path, next_frame=begin, faces=len(kept))

    @contextmanager
    def open(self) -> Iterator[Callable[[Path, Image, FaceRecord], None]]:
        """Yield a function that writes a crop and then its line, in the background, in order.

        An exception in the block lets the writing end first; an exception in the writing
        surfaces in the next call or at the end of the block.
        """
        with (
            explained(self.path),
            self.path.open("ab") as file,
            ThreadPoolExecutor(max_workers=1) as thread,
        ):
            lines = _Lines(file=file)
            waiting: list[Future[None]] = []

            def write(path: Path, crop: Image, record: FaceRecord) -> None:
                while len(waiting) >= WAITING_CROPS:
                    waiting.pop(0).result()
                waiting.append(thread.submit(_write_face, path, crop, record, lines))
                self.faces += 1

            try:
                yield write
            finally:
                for future in waiting:
                    future.result()
                lines.sync()


@dataclass(kw_only=True)
class _Lines:
    """Appends lines to a file, each handed to the system at once and to the disk every so often."""

    file: BinaryIO
    synced: float = field(default_factory=time.monotonic)
    broken: bool = False
    """A crop could not be written: no line may follow, or the run would never come back for it."""

    def append(self, line: str) -> None:
        """Append one line."""
        self.file.write(line.encode() + b"\n")
        self.file.flush()
        if time.monotonic() - self.synced > SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Put everything on the disk."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.synced = time.monotonic()


def _write_face(path: Path, crop: Image, record: FaceRecord, lines: _Lines) -> None:
    """Write a crop, then the line that says it is there."""
    if lines.broken:
        return
    try:
        pictures.write_png(path, crop)
        lines.append(record.to_json())
    except BaseException:
        lines.broken = True
        raise


def _readable_lines(path: Path) -> list[tuple[int, bytes]]:
    """Return (frame, line) up to the first line that a crash tore."""
    lines = []
    with path.open("rb") as file:
        for line in file:
            try:
                record = FaceRecord.from_json(line.decode())
            except (ValueError, KeyError, TypeError):
                break
            lines.append((record.frame, line))
    return lines


def _check(settings: ExtractSettings) -> None:
    """Refuse settings that make no sense."""
    if settings.faces not in CHOICES:
        raise ConfigurationError(
            f'there is no choice of faces called "{settings.faces}"',
            hint=did_you_mean(settings.faces, CHOICES),
        )
    if settings.detector not in DETECTORS:
        raise ConfigurationError(
            f'there is no face detector called "{settings.detector}"',
            hint=did_you_mean(settings.detector, DETECTORS),
        )
    if not 16 <= settings.size_px <= 4096:
        raise ConfigurationError(
            f"crops cannot be {settings.size_px} px wide", hint="choose 16 to 4096; 256 is usual"
        )
    if settings.every < 1:
        raise ConfigurationError(
            f"every {settings.every} frames makes no sense", hint="1 looks at every frame"
        )


Section = Mapping[str, str | int]


def _source(info: VideoInfo, settings: ExtractSettings) -> dict[str, Section]:
    """Return what makes two extractions the same: the input's content and the settings."""
    width, height = info.size
    return {
        "input": {
            # A name may hold bytes that no text file can.
            "name": "".join(c if c.isprintable() else "?" for c in info.path.name),
            **fingerprint(info.path),
            "width": width,
            "height": height,
            "average_rate": str(info.average_rate),
        },
        "settings": {**asdict(settings), "template": TEMPLATE_VERSION},
    }


def _finished(folder: SetFolder, source: Mapping[str, Section]) -> dict[str, int] | None:
    """Return the counts of a finished set, or None if there is work to do.

    Raises:
        ConfigurationError: The set is of another source, or was made with other settings.
        InputError: Its `source.toml` cannot be read.
    """
    if not folder.source.exists():
        if folder.records.exists() and folder.records.stat().st_size:
            raise ConfigurationError(
                f'the set "{folder.name}" holds faces, and nothing says whose',
                hint="choose another name with --name",
            )
        return None
    found = _read_source(folder.source)
    # The same content under another name is the same source.
    if _without_name(found.get("input", {})) != _without_name(source["input"]):
        raise ConfigurationError(
            f'the set "{folder.name}" holds the faces of another video, '
            f"{found.get('input', {}).get('name', 'of an unknown name')}",
            hint="choose another name with --name",
        )
    if differences := _differences(found.get("settings", {}), source["settings"]):
        raise ConfigurationError(
            f'the set "{folder.name}" was extracted with other settings ({differences})',
            hint=f"choose another name with --name, or delete {folder.root} first",
        )
    return found.get("result")


def _without_name(section: Section) -> dict[str, str | int]:
    """Return the section less its `name`."""
    return {key: value for key, value in section.items() if key != "name"}


def _differences(old: Section, new: Section) -> str:
    """Return the settings that differ, as `size_px 256, now 128`.

    One that an older version did not write down had no other value then.
    """
    return ", ".join(
        f"{key} {old[key]}, now {value}"
        for key, value in new.items()
        if key in old and old[key] != value
    )


def _read_source(path: Path) -> dict[str, Any]:
    """Read a `source.toml` back."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {error}",
            hint="choose another name with --name, or delete the set's folder",
        ) from error


def _to_toml(source: Mapping[str, Section]) -> str:
    """Return the sections as TOML; the keys are plain words."""
    lines = ["# What the faces in this folder come from; written by faceswap extract."]
    for title, section in source.items():
        lines += ["", f"[{title}]"]
        # JSON's numbers and printable strings are TOML's.
        lines += [f"{key} = {json.dumps(value)}" for key, value in section.items()]
    return "\n".join(lines) + "\n"


def _sweep(folder: SetFolder) -> None:
    """Remove the temporary files of a run that was killed while writing them."""
    for path in folder.root.iterdir():
        if re.fullmatch(r"\.(\d+-\d+|source)-\w{8}\.(png|toml)", path.name):
            path.unlink()


def _discard(folder: SetFolder) -> None:
    """Remove a set in which there is no face."""
    folder.source.unlink(missing_ok=True)
    folder.records.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: something of the user's lies there
        folder.root.rmdir()
