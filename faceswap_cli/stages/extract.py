"""From a video to aligned face crops and their records; nothing of who the faces belong to.

    frames -> faces, followed and held steady -> crops and lines, in order

A run can be stopped in any way and gone on with. `source.toml` is written first and says whose
set this is; the journal keeps the crops, their lines, and every so often how far the work got and
what the follower knew there. It goes on after that frame and comes to the same bytes. `[result]`
in `source.toml` says that it was finished.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from faceswap_cli.errors import ConfigurationError, InputError, NoFacesError
from faceswap_cli.faces.align import FRAMINGS, TEMPLATE_VERSION
from faceswap_cli.faces.choose import parse_choice
from faceswap_cli.faces.detect import FaceDetector
from faceswap_cli.faces.detectors import DETECTORS
from faceswap_cli.faces.follow import Follower, Pace, Watched
from faceswap_cli.faces.journal import Crop, Journal
from faceswap_cli.faces.mask import silhouette
from faceswap_cli.faces.quality import cut_off, sharpness
from faceswap_cli.faces.record import FaceRecord
from faceswap_cli.faces.settings import FORMATS, SUFFIXES, ExtractSettings, check, known
from faceswap_cli.faces.source import (
    Section,
    Source,
    declarations,
    read_source,
    refuse_another,
    source_of,
    to_toml,
)
from faceswap_cli.faces.track import Steady
from faceswap_cli.files import write_text
from faceswap_cli.learning.interrupt import Stop, stoppable
from faceswap_cli.report import Reporter
from faceswap_cli.video.footage import Film, Footage, Place, find_footage
from faceswap_cli.video.reader import Frame
from faceswap_cli.video.span import Span
from faceswap_cli.workspace import SetFolder, valid_name


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """What an extraction came to."""

    name: str
    """The set."""
    frames: int
    """Frames looked at, in this run and those before it."""
    faces: int
    """Faces kept, in this run and those before it."""
    frames_per_second: float
    """Frames looked at a second, in this run."""
    seconds: float
    """Duration of this run."""
    folder: Path
    """Where the set is."""
    partner: str | None = None
    """The set that a data set pairs with this one."""


def extract(
    footage: Path | Sequence[Footage],
    *,
    folder: SetFolder,
    settings: ExtractSettings,
    report: Reporter,
    declared: Source = MappingProxyType({}),
    detector: Callable[[], FaceDetector] | None = None,
) -> ExtractSummary:
    """Keep the faces of some footage as aligned crops in `folder`, going on where a run stopped.

    Args:
        footage: What to look at, one after the other; or the name of one video, picture, folder.
        folder: The set.
        settings: What is kept.
        report: Hears how far it is.
        declared: Sections that `source.toml` is to hold besides: what the user says of the footage.
        detector: Makes what finds the faces, in place of the one that the settings name.

    Raises:
        InputError: The footage cannot be read or the folder cannot be written.
        ConfigurationError: A setting is wrong, or the set has another source or settings.
        NoFacesError: There is no face in all of it; no set is left behind.
        KeyboardInterrupt: It was asked to stop; what was done is kept.
    """
    began = time.monotonic()
    check(settings)
    inputs = find_footage([footage]) if isinstance(footage, Path) else footage
    source = source_of([one.describe() for one in inputs], known(settings))
    said = {**_said(folder), **declared}
    if done := _finished(folder, source, said):
        report.note(f'the set "{folder.name}" is complete: nothing left to do')
        return _summary(folder, done, looked=0, seconds=time.monotonic() - began)
    choice = parse_choice(settings.faces)
    with (
        stoppable() as stop,
        Follower(detector or DETECTORS[settings.detector], choice=choice) as follower,
    ):
        is_new = not folder.source.exists()
        if is_new:
            write_text(folder.source, to_toml({**source, **said}))
        _sweep(folder)
        with (
            _nothing_left(folder, unless=not is_new),
            Journal(folder.records, progress=folder.progress) as journal,
        ):
            work = _Work(
                folder=folder,
                settings=settings,
                follower=follower,
                journal=journal,
                report=report,
                stop=stop,
            )
            looked = work.do(inputs)
    if not journal.faces:
        _discard(folder)
        raise _no_face(inputs, work.frames)
    done = {"frames": work.frames, "faces": journal.faces}
    write_text(folder.source, to_toml({**source, **said, "result": done}))
    folder.progress.unlink(missing_ok=True)
    return _summary(folder, done, looked=looked, seconds=time.monotonic() - began)


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
    declared: Source = MappingProxyType({}),
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
            summary = extract(
                [one], folder=folder, settings=settings, report=report, declared=declared
            )
            partner = one.partner if isinstance(one, Film) else None
            summaries.append(replace(summary, partner=partner))
        except NoFacesError as error:
            missing = error
            if len(footage) > 1:
                report.note(error.message)
    if missing and not summaries:
        raise missing
    return summaries


def table(done: Sequence[ExtractSummary]) -> tuple[str, list[str], list[list[str]]]:
    """Return title, headings and rows of a table of several extractions."""
    headings = ["set", "faces", "frames", "frames/s"]
    rows = [
        [one.name, str(one.faces), str(one.frames), f"{one.frames_per_second:g}"] for one in done
    ]
    partners = [one.partner for one in done]
    if not any(partners):
        return "sets", headings, rows
    rows = [[*row, partner or ""] for row, partner in zip(rows, partners, strict=True)]
    return "sets", [*headings, "partner"], rows


@dataclass(kw_only=True)
class _Work:
    """An extraction being done."""

    folder: SetFolder
    settings: ExtractSettings
    follower: Follower
    journal: Journal
    report: Reporter
    stop: Stop
    frames: int = 0
    """Frames looked at, in this run and those before it."""

    def do(self, inputs: Sequence[Footage]) -> int:
        """Find, crop and record the faces still to do; return the frames looked at in this run."""
        begun = self.journal.progress or {}
        before = self.frames = int(begun.get("frames", 0))
        first, place = begun.get("input", 0), _place(begun)
        if begun:
            whose = f" of {inputs[first].name}" if len(inputs) > 1 and first < len(inputs) else ""
            where = f"after frame {place.index}{whose}" if place else f"with input {first + 1}"
            self.report.note(f"going on {where}: {self.journal.faces} faces so far")
        for number, footage in enumerate(inputs[first:], first):
            self._look(footage, number, place=place, memory=begun.get("memory"))
            place, begun = None, {}
            self.journal.mark({"input": number + 1, "frames": self.frames})
        self.journal.settle()
        return self.frames - before

    def _look(
        self,
        footage: Footage,
        number: int,
        *,
        place: Place | None,
        memory: Mapping[str, Any] | None,
    ) -> None:
        """Do one input, from after a place on."""
        span = self._span(footage)
        self.report.stage(f"extract {footage.name}", total=span.count, unit="frames")
        for remark in footage.remarks:
            self.report.note(remark)
        pace = Pace.of(footage.average_rate, every=span.apart, moves=footage.moves)
        frames = span.frames(note=self.report.note, after=place)
        began, before = time.monotonic(), self.frames
        with closing(self.follower.over(frames, pace=pace, memory=memory)) as watched:
            for seen in watched:
                if self._is_enough:
                    break
                self.frames += 1
                self._keep(seen, number)
                rate = (self.frames - before) / (time.monotonic() - began)
                numbers = {"frames/s": round(rate, 1), "faces": self.journal.faces}
                self.report.advance(span.done(seen.item), numbers)
                self._pause(seen, number)

    def _span(self, footage: Footage) -> Span:
        """Return the part of one input that is asked for."""
        asked = self.settings
        return Span.of(
            footage, every=asked.every, fps=asked.fps, start_s=asked.start_s, end_s=asked.end_s
        )

    @property
    def _is_enough(self) -> bool:
        """Whether as many faces are kept as were asked for."""
        most = self.settings.max_faces
        return most is not None and self.journal.faces >= most

    def _keep(self, seen: Watched[Frame], number: int) -> None:
        """Hand a frame's faces over."""
        most = self.settings.max_faces
        room = None if most is None else most - self.journal.faces
        for place, steady in enumerate(seen.faces[:room]):
            self.journal.add(self._cutting(seen.item, steady, source=number, place=place))

    def _pause(self, seen: Watched[Frame], number: int) -> None:
        """After a frame: say every so often how far the work got, and stop if that is asked for.

        Raises:
            KeyboardInterrupt: It is.
        """
        if not (self.journal.is_due or self.stop.asked):
            return
        self.journal.mark(
            {
                "input": number,
                "frames": self.frames,
                "frame": seen.item.index,
                "time": str(seen.item.time),
                "memory": seen.memory(),
            }
        )
        if self.stop.asked:
            self.report.note(
                f"stopped after frame {seen.item.index}: {self.journal.faces} faces so far"
            )
            raise KeyboardInterrupt

    def _cutting(
        self, frame: Frame, steady: Steady, *, source: int, place: int
    ) -> Callable[[], Crop]:
        """Return what cuts a face out."""
        kind = SUFFIXES[self.settings.format]
        path = self.folder.crop(frame.index, place, source=source, kind=kind)
        return lambda: cut(frame, steady, path=path, source=source, settings=self.settings)


def cut(
    frame: Frame, steady: Steady, *, path: Path, source: int, settings: ExtractSettings
) -> Crop:
    """Return a face's crop, which goes to `path`, and the record of it."""
    alignment = FRAMINGS[settings.framing](steady.alignment)
    crop = alignment.crop(frame.view.showing(alignment.area()), settings.size_px)
    face = steady.face
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
        cut_off=cut_off(face.landmarks, frame.view.size),
        track=steady.track,
        mask=silhouette(face.landmarks),
        framing=settings.framing,
        is_interpolated=steady.is_interpolated,
    )
    return Crop(path=path, content=FORMATS[settings.format](crop), record=record)


def _place(progress: Mapping[str, Any]) -> Place | None:
    """Return the frame that a run stopped at, if it stopped in the middle of an input."""
    if "frame" not in progress:
        return None
    return Place(index=progress["frame"], time=Fraction(progress["time"]))


def _said(folder: SetFolder) -> dict[str, Section]:
    """Return what the user said of a set before.

    Raises:
        InputError: Its `source.toml` cannot be read.
    """
    return declarations(read_source(folder.source)) if folder.source.exists() else {}


def _finished(folder: SetFolder, source: Source, said: Source) -> dict[str, int] | None:
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
    found = read_source(folder.source)
    usual = {**asdict(ExtractSettings()), "template": TEMPLATE_VERSION}
    refuse_another(found, source, name=folder.name, root=folder.root, usual=usual)
    if declarations(found) != said:
        write_text(folder.source, to_toml({**found, **said}))
    result = found.get("result")
    if result:
        folder.progress.unlink(missing_ok=True)
    return {key: int(value) for key, value in result.items()} if result else None


def _summary(
    folder: SetFolder, done: Mapping[str, int], *, looked: int, seconds: float
) -> ExtractSummary:
    """Return what an extraction came to."""
    return ExtractSummary(
        name=folder.name,
        frames=done["frames"],
        faces=done["faces"],
        frames_per_second=round(looked / max(seconds, 1e-9), 1),
        seconds=round(seconds, 1),
        folder=folder.root,
    )


def _no_face(inputs: Sequence[Footage], frames: int) -> NoFacesError:
    """Return the error for footage without a face, or without a frame in the part asked for."""
    what = inputs[0].name if len(inputs) == 1 else f"{len(inputs)} inputs"
    if not frames:
        return NoFacesError(
            f"there is no frame of {what} in the part that was asked for",
            hint="choose an earlier --start, or a later --end",
        )
    return NoFacesError(
        f"no face was found in the {frames} frames of {what}",
        hint="faces should be in view, sharp and 30 px wide or more: try a closer shot",
    )


def _sweep(folder: SetFolder) -> None:
    """Remove the temporary files of a run that was killed while writing them."""
    name = r"\.((\d+-)?\d+-\d+|source|progress)-\w{8}\.(png|jpg|toml|json)"
    for path in folder.root.iterdir():
        if re.fullmatch(name, path.name):
            path.unlink()


@contextmanager
def _nothing_left(folder: SetFolder, *, unless: bool) -> Iterator[None]:
    """Take a set away that was begun for footage of which nothing can be read."""
    try:
        yield
    except InputError:
        if not unless and not folder.records.stat().st_size:
            _discard(folder)
        raise


def _discard(folder: SetFolder) -> None:
    """Remove a set in which there is no face."""
    for path in (folder.source, folder.records, folder.progress):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: something of the user's lies there
        folder.root.rmdir()
