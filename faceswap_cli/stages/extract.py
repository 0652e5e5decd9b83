"""From a video to aligned face crops and their records; nothing of who the faces belong to.

    frames -> faces, followed and held steady -> crops and lines, in order

A run can be stopped in any way and gone on with. `source.toml` is written first and says whose
set this is; the journal keeps the crops, their lines, and every so often how far the work got and
what the follower knew there. It goes on after that frame and comes to the same bytes. `[result]`
in `source.toml` says that it was finished.
"""

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from faceswap_cli.core.errors import ConfigurationError, InputError, NoFacesError, did_you_mean
from faceswap_cli.core.fileio import write_text
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import StopFlag, graceful_interrupt
from faceswap_cli.core.workspace import SetFolder, validate_name
from faceswap_cli.faces.alignment import FRAMINGS, TEMPLATE_VERSION
from faceswap_cli.faces.crop_writer import CROP_ENCODERS, FILE_EXTENSIONS, CropFile, CropWriter
from faceswap_cli.faces.dataset import FaceRecord
from faceswap_cli.faces.detectors import DETECTORS
from faceswap_cli.faces.masks import convex_hull
from faceswap_cli.faces.selection import parse_selection
from faceswap_cli.faces.set_source import (
    Section,
    Source,
    build_source,
    check_same_source,
    read_source,
    to_toml,
    user_sections,
)
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.sharpness import measure_cut_off, measure_sharpness
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.faces.tracker import FaceTracker, TrackedFrame, TrackingConfig
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.source import FramePosition, FrameSource, VideoSource, find_sources
from faceswap_cli.video.time_range import FrameSampler

TRACKER_VERSION = 4
"""Changes whenever the same frames would give other faces."""


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
    footage: Path | Sequence[FrameSource],
    *,
    folder: SetFolder,
    settings: ExtractSettings,
    report: Reporter,
    extra_sections: Source = MappingProxyType({}),
    detector: Callable[[], FaceDetector] | None = None,
) -> ExtractSummary:
    """Keep the faces of some footage as aligned crops in `folder`, going on where a run stopped.

    Args:
        footage: What to look at, one after the other; or the name of one video, picture, folder.
        folder: The set.
        settings: What is kept.
        report: Hears how far it is.
        extra_sections: Sections that `source.toml` is to hold besides: what the user says of the footage.
        detector: Makes what finds the faces, in place of the one that the settings name.

    Raises:
        InputError: The footage cannot be read or the folder cannot be written.
        ConfigurationError: A setting is wrong, or the set has another source or settings.
        NoFacesError: There is no face in all of it; no set is left behind.
        KeyboardInterrupt: It was asked to stop; what was done is kept.
    """
    began = time.monotonic()
    _validate_settings(settings)
    inputs = find_sources([footage]) if isinstance(footage, Path) else footage
    source = build_source([one.describe() for one in inputs], _settings_fingerprint(settings))
    said = {**_read_user_sections(folder), **extra_sections}
    if done := _read_finished_counts(folder, source, said):
        report.note(f'the set "{folder.name}" is complete: nothing left to do')
        return _summarize(folder, done, frames_processed=0, seconds=time.monotonic() - began)
    choice = parse_selection(settings.faces)
    with (
        graceful_interrupt() as stop,
        FaceTracker(detector or DETECTORS[settings.detector], selection=choice) as follower,
    ):
        is_new = not folder.source.exists()
        if is_new:
            write_text(folder.source, to_toml({**source, **said}))
        _remove_temp_files(folder)
        with (
            _discard_if_unreadable(folder, keep=not is_new),
            CropWriter(folder.records, progress_path=folder.progress) as journal,
        ):
            work = _Extraction(
                folder=folder,
                settings=settings,
                tracker=follower,
                writer=journal,
                report=report,
                stop=stop,
            )
            looked = work.run(inputs)
    if not journal.face_count:
        _remove_empty_set(folder)
        raise _no_face_error(inputs, work.frames)
    done = {"frames": work.frames, "faces": journal.face_count}
    write_text(folder.source, to_toml({**source, **said, "result": done}))
    folder.progress.unlink(missing_ok=True)
    return _summarize(folder, done, frames_processed=looked, seconds=time.monotonic() - began)


def set_names(footage: Sequence[FrameSource]) -> list[str]:
    """Return what the sets are called if each piece of footage becomes one.

    Raises:
        ConfigurationError: Two would be called the same, or one by what cannot be a name.
    """
    names = [validate_name(one.stem) for one in footage]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f'two inputs would both become the set "{twice[0]}"',
            hint="put all into one set with --name NAME, or extract them one by one",
        )
    return names


def _validate_settings(settings: ExtractSettings) -> None:
    """Check the settings.

    Raises:
        ConfigurationError: A name is unknown, a number out of range, or two exclude each other.
    """
    for kind, name, known in (
        ("face detector", settings.detector, DETECTORS),
        ("framing", settings.framing, FRAMINGS),
        ("picture format", settings.format, CROP_ENCODERS),
    ):
        if name not in known:
            raise ConfigurationError(
                f'there is no {kind} called "{name}"', hint=did_you_mean(name, known)
            )
    if settings.fps is not None and settings.every > 1:
        raise ConfigurationError(
            f"--fps {settings.fps:g} and --every {settings.every} say the same thing twice",
            hint="choose one of them",
        )
    if settings.fps is not None and not 0 < settings.fps < math.inf:
        raise ConfigurationError(
            f"{settings.fps:g} frames a second make no sense", hint="1 looks at one each second"
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


def _settings_fingerprint(settings: ExtractSettings) -> Section:
    """Return the settings that two runs on one set must share, by name."""
    chosen = {key: value for key, value in asdict(settings).items() if value is not None}
    return {
        **chosen,
        "faces": parse_selection(settings.faces).canonical_text(),
        "template": TEMPLATE_VERSION,
        "follower": TRACKER_VERSION,
    }


def extract_each(
    footage: Sequence[FrameSource],
    *,
    folders: Sequence[SetFolder],
    settings: ExtractSettings,
    report: Reporter,
    extra_sections: Source = MappingProxyType({}),
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
                [one],
                folder=folder,
                settings=settings,
                report=report,
                extra_sections=extra_sections,
            )
            partner = one.partner if isinstance(one, VideoSource) else None
            summaries.append(replace(summary, partner=partner))
        except NoFacesError as error:
            missing = error
            if len(footage) > 1:
                report.note(error.message)
    if missing and not summaries:
        raise missing
    return summaries


def summary_table(done: Sequence[ExtractSummary]) -> tuple[str, list[str], list[list[str]]]:
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
class _Extraction:
    """An extraction being done."""

    folder: SetFolder
    settings: ExtractSettings
    tracker: FaceTracker
    writer: CropWriter
    report: Reporter
    stop: StopFlag
    frames: int = 0
    """Frames looked at, in this run and those before it."""

    def run(self, inputs: Sequence[FrameSource]) -> int:
        """Find, crop and record the faces still to do; return the frames looked at in this run."""
        begun = self.writer.resumed_progress or {}
        before = self.frames = int(begun.get("frames", 0))
        first, place = begun.get("input", 0), _resume_position(begun)
        if begun:
            whose = f" of {inputs[first].name}" if len(inputs) > 1 and first < len(inputs) else ""
            where = f"after frame {place.index}{whose}" if place else f"with input {first + 1}"
            self.report.note(f"going on {where}: {self.writer.face_count} faces so far")
        for number, footage in enumerate(inputs[first:], first):
            self._process_input(
                footage, number, resume_after=place, tracker_state=begun.get("memory")
            )
            place, begun = None, {}
            self.writer.checkpoint({"input": number + 1, "frames": self.frames})
        self.writer.drain()
        return self.frames - before

    def _process_input(
        self,
        footage: FrameSource,
        input_index: int,
        *,
        resume_after: FramePosition | None,
        tracker_state: Mapping[str, Any] | None,
    ) -> None:
        """Do one input, from after a place on."""
        span = self._time_range(footage)
        self.report.start_task(f"extract {footage.name}", total=span.count, unit="frames")
        for remark in footage.warnings:
            self.report.note(remark)
        pace = TrackingConfig.from_frame_rate(
            footage.average_rate, frame_step=span.stride, is_continuous=footage.is_continuous
        )
        frames = span.frames(note=self.report.note, after=resume_after)
        began, before = time.monotonic(), self.frames
        with closing(self.tracker.track(frames, config=pace, state=tracker_state)) as watched:
            for seen in watched:
                if self._has_enough:
                    break
                self.frames += 1
                self._write_faces(seen, input_index)
                rate = (self.frames - before) / (time.monotonic() - began)
                numbers = {"frames/s": round(rate, 1), "faces": self.writer.face_count}
                self.report.update(span.count_done(seen.frame), numbers)
                self._checkpoint_or_stop(seen, input_index)

    def _time_range(self, footage: FrameSource) -> FrameSampler:
        """Return the part of one input that is asked for."""
        asked = self.settings
        return FrameSampler.create(
            footage, every=asked.every, fps=asked.fps, start_s=asked.start_s, end_s=asked.end_s
        )

    @property
    def _has_enough(self) -> bool:
        """Whether as many faces are kept as were asked for."""
        most = self.settings.max_faces
        return most is not None and self.writer.face_count >= most

    def _write_faces(self, tracked: TrackedFrame, input_index: int) -> None:
        """Hand a frame's faces over."""
        most = self.settings.max_faces
        room = None if most is None else most - self.writer.face_count
        for place, steady in enumerate(tracked.faces[:room]):
            self.writer.add(
                self._make_crop_task(
                    tracked.frame, steady, input_index=input_index, face_index=place
                )
            )

    def _checkpoint_or_stop(self, tracked: TrackedFrame, input_index: int) -> None:
        """After a frame: say every so often how far the work got, and stop if that is asked for.

        Raises:
            KeyboardInterrupt: It is.
        """
        if not (self.writer.is_checkpoint_due or self.stop.requested):
            return
        self.writer.checkpoint(
            {
                "input": input_index,
                "frames": self.frames,
                "frame": tracked.frame.index,
                "time": str(tracked.frame.time),
                "memory": tracked.get_state(),
            }
        )
        if self.stop.requested:
            self.report.note(
                f"stopped after frame {tracked.frame.index}: {self.writer.face_count} faces so far"
            )
            raise KeyboardInterrupt

    def _make_crop_task(
        self, frame: Frame, face: SmoothedFace, *, input_index: int, face_index: int
    ) -> Callable[[], CropFile]:
        """Return what cuts a face out."""
        kind = FILE_EXTENSIONS[self.settings.format]
        path = self.folder.crop_path(frame.index, face_index, source=input_index, kind=kind)
        return lambda: make_crop(
            frame, face, path=path, input_index=input_index, settings=self.settings
        )


def make_crop(
    frame: Frame, smoothed: SmoothedFace, *, path: Path, input_index: int, settings: ExtractSettings
) -> CropFile:
    """Return a face's crop, which goes to `path`, and the record of it."""
    alignment = FRAMINGS[settings.framing](smoothed.alignment)
    crop = alignment.crop(frame.view.to_partial_array(alignment.source_area()), settings.size_px)
    face = smoothed.face
    record = FaceRecord(
        file=path.name,
        frame=frame.index,
        time=frame.time,
        alignment=alignment,
        landmarks=face.landmarks,
        score=face.score,
        sharpness=measure_sharpness(crop),
        pose=face.pose,
        blendshapes=face.blendshapes,
        input_index=input_index,
        cut_off=measure_cut_off(face.landmarks, frame.view.size),
        track=smoothed.track,
        outline=convex_hull(face.landmarks),
        framing=settings.framing,
        is_interpolated=smoothed.is_interpolated,
    )
    return CropFile(path=path, content=CROP_ENCODERS[settings.format](crop), record=record)


def _resume_position(progress: Mapping[str, Any]) -> FramePosition | None:
    """Return the frame that a run stopped at, if it stopped in the middle of an input."""
    if "frame" not in progress:
        return None
    return FramePosition(index=progress["frame"], time=Fraction(progress["time"]))


def _read_user_sections(folder: SetFolder) -> dict[str, Section]:
    """Return what the user said of a set before.

    Raises:
        InputError: Its `source.toml` cannot be read.
    """
    return user_sections(read_source(folder.source)) if folder.source.exists() else {}


def _read_finished_counts(
    folder: SetFolder, source: Source, declared: Source
) -> dict[str, int] | None:
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
    check_same_source(found, source, name=folder.name, root=folder.root, defaults=usual)
    if user_sections(found) != declared:
        write_text(folder.source, to_toml({**found, **declared}))
    result = found.get("result")
    if result:
        folder.progress.unlink(missing_ok=True)
    return {key: int(value) for key, value in result.items()} if result else None


def _summarize(
    folder: SetFolder, counts: Mapping[str, int], *, frames_processed: int, seconds: float
) -> ExtractSummary:
    """Return what an extraction came to."""
    return ExtractSummary(
        name=folder.name,
        frames=counts["frames"],
        faces=counts["faces"],
        frames_per_second=round(frames_processed / max(seconds, 1e-9), 1),
        seconds=round(seconds, 1),
        folder=folder.root,
    )


def _no_face_error(inputs: Sequence[FrameSource], frames: int) -> NoFacesError:
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


def _remove_temp_files(folder: SetFolder) -> None:
    """Remove the temporary files of a run that was killed while writing them."""
    name = r"\.((\d+-)?\d+-\d+|source|progress)-\w{8}\.(png|jpg|toml|json)"
    for path in folder.root.iterdir():
        if re.fullmatch(name, path.name):
            path.unlink()


@contextmanager
def _discard_if_unreadable(folder: SetFolder, *, keep: bool) -> Iterator[None]:
    """Take a set away that was begun for footage of which nothing can be read."""
    try:
        yield
    except InputError:
        if not keep and not folder.records.stat().st_size:
            _remove_empty_set(folder)
        raise


def _remove_empty_set(folder: SetFolder) -> None:
    """Remove a set in which there is no face."""
    for path in (folder.source, folder.records, folder.progress):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty: something of the user's lies there
        folder.root.rmdir()
