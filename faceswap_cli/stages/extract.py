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
from fractions import Fraction
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
from faceswap_cli.faces.quality import cut_off, sharpness
from faceswap_cli.faces.record import FaceRecord
from faceswap_cli.files import explained, write_text
from faceswap_cli.report import Reporter
from faceswap_cli.video.footage import Footage, find_footage
from faceswap_cli.video.reader import Frame
from faceswap_cli.workspace import SetFolder, valid_name

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
    start_s: float = 0.0
    """Leave out what is shown before, seconds."""
    end_s: float | None = None
    """Leave out what is shown from then on, seconds; None: nothing."""
    max_faces: int | None = None
    """Stop when so many faces are kept; None: never."""
    faces: str = "largest"
    """Which of a frame's faces are kept: a name in `CHOICES`."""
    detector: str = DEFAULT
    """What finds them: a name in `DETECTORS`."""


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
    footage: Path | Sequence[Footage],
    *,
    folder: SetFolder,
    settings: ExtractSettings,
    report: Reporter,
    detector: Callable[[], FaceDetector] | None = None,
) -> ExtractSummary:
    """Keep the faces of some footage as aligned crops in `folder`, going on where a run stopped.

    Args:
        footage: What to look at, one after the other; or the name of one video, picture, folder.
        folder: The set.
        settings: What is kept.
        report: Hears how far it is.
        detector: Makes what finds the faces, in place of the one that the settings name.

    Raises:
        InputError: The footage cannot be read or the folder cannot be written.
        ConfigurationError: A setting is wrong, or the set has another source or settings.
        NoFacesError: There is no face in all of it; no set is left behind.
    """
    began = time.monotonic()
    _check(settings)
    inputs = find_footage([footage]) if isinstance(footage, Path) else footage
    source = _source(inputs, settings)
    if done := _finished(folder, source):
        report.note(f'the set "{folder.name}" is complete: nothing left to do')
        return ExtractSummary(name=folder.name, seconds=time.monotonic() - began, **done)
    with (detector or DETECTORS[settings.detector])() as finder:
        if not folder.source.exists():
            write_text(folder.source, _to_toml(source))
        _sweep(folder)
        work = _Work(folder=folder, source=source, settings=settings, finder=finder, report=report)
        journal = _Journal.resume(folder.records, strides=[work.stride(one) for one in inputs])
        frames = work.do(inputs, journal)
    if not journal.faces:
        _discard(folder)
        what = inputs[0].name if len(inputs) == 1 else f"{len(inputs)} inputs"
        raise NoFacesError(
            f"no face was found in the {frames} frames of {what}",
            hint="faces should be in view, sharp and 30 px wide or more: try a closer shot",
        )
    done = {"frames": frames, "faces": journal.faces}
    write_text(folder.source, _to_toml(source | {"result": done}))
    return ExtractSummary(name=folder.name, seconds=time.monotonic() - began, **done)


def set_names(footage: Sequence[Footage]) -> list[str]:
    """Return what the sets are called if each piece of footage becomes one.

    Raises:
        ConfigurationError: Two would be called the same, or one by what cannot be a name.
    """
    names = [valid_name(one.stem) for one in footage]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f'two inputs would both become the set "{twice[0]}"',
            hint="put all into one set with --name NAME, or extract them one by one",
        )
    return names


def extract_each(
    footage: Sequence[Footage],
    *,
    folders: Sequence[SetFolder],
    settings: ExtractSettings,
    report: Reporter,
) -> list[ExtractSummary]:
    """Make a set of each piece of footage; one without a face is noted and has none.

    Raises:
        NoFacesError: There is no face in any of them.
        FaceswapError: As `extract` does, for the first that goes wrong.
    """
    summaries = []
    missing: NoFacesError | None = None
    for one, folder in zip(footage, folders, strict=True):
        try:
            summaries.append(extract([one], folder=folder, settings=settings, report=report))
        except NoFacesError as error:
            missing = error
            report.note(error.message)
    if missing and not summaries:
        raise missing
    return summaries


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What an extraction is done with."""

    folder: SetFolder
    source: Mapping[str, "Section"]
    settings: ExtractSettings
    finder: FaceDetector
    report: Reporter

    def stride(self, footage: Footage) -> int:
        """Return by how many frames the places lie apart at which a stopped run can go on."""
        return self.settings.every * self._search_every(footage)

    def do(self, inputs: Sequence[Footage], journal: "_Journal") -> int:
        """Find, crop and record the faces still to do; return the frames looked at in all."""
        looked = _looked_at(self.folder)
        if journal.begun:
            whose = f" of {inputs[journal.source].name}" if len(inputs) > 1 else ""
            self.report.note(
                f"going on at frame {journal.next_frame}{whose}: {journal.faces} faces so far"
            )
        for number, footage in enumerate(inputs):
            # The one with the last line is done again from there; those after it that were
            # finished without a face have no line.
            if number != journal.source and str(number) in looked:
                continue
            looked[str(number)] = self._look(footage, journal, number)
            if len(inputs) > 1:
                write_text(self.folder.source, _to_toml({**self.source, "looked": looked}))
        return sum(looked.values())

    def _look(self, footage: Footage, journal: "_Journal", number: int) -> int:
        """Do one input; return the number of its frames that are or were looked at."""
        every, most = self.settings.every, self.settings.max_faces
        self.report.stage(f"extract {footage.name}", total=footage.count, unit="frames")
        start = journal.next_frame if number == journal.source else 0
        # To know which frame is the first after a given time, all before it must be seen again.
        first, last = (None, -1) if self.settings.start_s else (0, -1)
        decoded = footage.frames(start=start if first == 0 else 0, note=self.report.note)
        shown = ahead(_within(decoded, self.settings), depth=WAITING_FRAMES)
        keep = CHOICES[self.settings.faces]
        follower = Follower(self.finder, keep=keep, every=self._search_every(footage))
        began = time.monotonic()
        with journal.open() as write, closing(shown) as frames:
            for frame in frames:
                if most is not None and journal.faces >= most:
                    break
                first, last = frame.index if first is None else first, frame.index
                if frame.index % every == 0 and frame.index >= start:
                    room = None if most is None else most - journal.faces
                    faces = follower.look(frame.image, frame.index // every)[:room]
                    for place, face in enumerate(faces):
                        write(*self._cut(frame, face, source=number, place=place))
                rate = (frame.index + 1 - start) / (time.monotonic() - began)
                numbers = {"frames/s": round(rate, 1), "faces": journal.faces}
                self.report.advance(frame.index + 1, numbers)
        return last // every - ((first or 0) - 1) // every

    def _cut(
        self, frame: Frame, face: Face, *, source: int, place: int
    ) -> tuple[Path, Image, FaceRecord]:
        """Return where a face's crop goes, the crop, and the record of it."""
        alignment = align(face.landmarks)
        crop = alignment.crop(frame.image, self.settings.size_px)
        path = self.folder.crop(frame.index, place, source=source)
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
            source=source,
            cut_off=cut_off(face.landmarks, frame.image),
        )
        return path, crop, record

    def _search_every(self, footage: Footage) -> int:
        """Return the images looked at from one search for faces to the next.

        Where frames are left out, a face may be anywhere in the next one looked at.
        """
        return EVERY if self.settings.every == 1 and footage.moves else 1


def _within(frames: Iterator[Frame], settings: ExtractSettings) -> Iterator[Frame]:
    """Yield the frames that are shown in the time asked for."""
    # As typed: 0.64 is 16 frames of 1/25 s, which the nearest binary number is not.
    start = Fraction(str(settings.start_s))
    end = None if settings.end_s is None else Fraction(str(settings.end_s))
    for frame in frames:
        if end is not None and frame.time >= end:
            return
        if frame.time >= start:
            yield frame


def _looked_at(folder: SetFolder) -> dict[str, int]:
    """Return how many frames were looked at in each input that is finished, by its number."""
    return dict(_read_source(folder.source).get("looked", {}))


@dataclass(kw_only=True)
class _Journal:
    """The file of records, growing at its end while the crops go before it."""

    path: Path
    source: int
    """The input to go on with."""
    next_frame: int
    """Its first frame still to look at."""
    faces: int
    """Records kept."""

    @classmethod
    def resume(cls, path: Path, *, strides: Sequence[int]) -> "_Journal":
        """Return the journal at `path`, cut back to where the work can be taken up again.

        That is at a frame whose index is a multiple of its input's stride: there faces are searched
        for. The last recorded frame itself is done again in any case: it may have had more faces
        than lines.
        """
        lines = _readable_lines(path) if path.exists() else []
        source, last = lines[-1][0] if lines else (0, 0)
        begin = last - last % strides[source]
        kept = [line for place, line in lines if place < (source, begin)]
        if path.exists():
            os.truncate(path, sum(map(len, kept)))
        return cls(path=path, source=source, next_frame=begin, faces=len(kept))

    @property
    def begun(self) -> bool:
        """Whether there is something to go on from."""
        return (self.source, self.next_frame) > (0, 0)

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


def _readable_lines(path: Path) -> list[tuple[tuple[int, int], bytes]]:
    """Return ((input, frame), line) up to the first line that a crash tore."""
    lines = []
    with path.open("rb") as file:
        for line in file:
            try:
                record = FaceRecord.from_json(line.decode())
            except (ValueError, KeyError, TypeError):
                break
            lines.append(((record.source, record.frame), line))
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
    if settings.end_s is not None and settings.end_s <= settings.start_s:
        raise ConfigurationError(
            f"the end, {settings.end_s:g} s, is not after the start, {settings.start_s:g} s",
            hint="both count from the beginning of the video",
        )
    if settings.every < 1:
        raise ConfigurationError(
            f"every {settings.every} frames makes no sense", hint="1 looks at every frame"
        )


Section = Mapping[str, str | int | float]


def _source(inputs: Sequence[Footage], settings: ExtractSettings) -> dict[str, Section]:
    """Return what makes two extractions the same: the inputs' content and the settings."""
    described = [footage.describe() for footage in inputs]
    titles = ["input", *(f"input-{number}" for number in range(2, len(inputs) + 1))]
    chosen = {key: value for key, value in asdict(settings).items() if value is not None}
    return {
        **dict(zip(titles, described, strict=True)),
        "settings": {**chosen, "template": TEMPLATE_VERSION},
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
    if _contents(found) != _contents(source):
        raise ConfigurationError(
            f'the set "{folder.name}" holds the faces of another {_names(found)}',
            hint="choose another name with --name",
        )
    if differences := _differences(found.get("settings", {}), source["settings"]):
        raise ConfigurationError(
            f'the set "{folder.name}" was extracted with other settings ({differences})',
            hint=f"choose another name with --name, or delete {folder.root} first",
        )
    return found.get("result")


def _contents(source: Mapping[str, Section]) -> list[dict[str, str | int | float]]:
    """Return what the inputs are known by: the same content under another name is the same."""
    inputs = [section for title, section in source.items() if title.startswith("input")]
    return [{key: value for key, value in one.items() if key != "name"} for one in inputs]


def _names(source: Mapping[str, Section]) -> str:
    """Return what a set was made of, as `video, a.mp4` or `3 inputs, a.mp4 to c.mp4`."""
    inputs = [section for title, section in source.items() if title.startswith("input")]
    names = [str(section.get("name", "of an unknown name")) for section in inputs]
    if len(inputs) > 1:
        return f"{len(inputs)} inputs, {names[0]} to {names[-1]}"
    kind = "album" if inputs and "pictures" in inputs[0] else "video"
    return f"{kind}, {names[0] if names else 'of an unknown name'}"


def _differences(old: Section, new: Section) -> str:
    """Return the settings that differ, as `size_px 256, now 128`.

    What is not written down has its usual value.
    """
    usual = {**asdict(ExtractSettings()), "template": TEMPLATE_VERSION}
    pairs = [(key, old.get(key, value), new.get(key, value)) for key, value in usual.items()]
    return ", ".join(
        f"{key} {_or_none(before)}, now {_or_none(now)}"
        for key, before, now in pairs
        if before != now
    )


def _or_none(value: object) -> object:
    """Return the value, or the word for none."""
    return "none" if value is None else value


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
        if re.fullmatch(r"\.((\d+-)?\d+-\d+|source)-\w{8}\.(png|toml)", path.name):
            path.unlink()


def _discard(folder: SetFolder) -> None:
    """Remove a set in which there is no face."""
    folder.source.unlink(missing_ok=True)
    folder.records.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: something of the user's lies there
        folder.root.rmdir()
