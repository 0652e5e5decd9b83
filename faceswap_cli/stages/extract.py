"""From footage to aligned face crops and their records: `extract`, `extract_inputs`.

    frames -> faces, tracked and smoothed -> crops and records, in order

An extraction can be interrupted at any frame; the next run resumes it and ends with the same
bytes. `source.toml` is written first, with the inputs and settings of the set. The crop writer
stores crops, records and, every so often, a checkpoint: the frame, and the tracker's state after
it. A `[result]` in `source.toml` marks the set as finished.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

from faceswap_cli.conversion.clip import Clip
from faceswap_cli.core.errors import (
    ConfigurationError,
    FaceswapError,
    InputError,
    NoFacesError,
    did_you_mean,
)
from faceswap_cli.core.fileio import (
    check_disk_space,
    format_bytes,
    parse_fraction,
    translate_removed_files,
)
from faceswap_cli.core.lock import set_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import StopFlag, graceful_interrupt
from faceswap_cli.core.workspace import SetFolder, Workspace, validate_name
from faceswap_cli.faces.alignment import FRAMINGS
from faceswap_cli.faces.crop_size import (
    SURVEYED_FRAMES,
    Survey,
    choose_size_px,
    estimate_bytes,
    survey_faces,
)
from faceswap_cli.faces.crop_writer import CropWriter
from faceswap_cli.faces.crops import CROP_ENCODERS
from faceswap_cli.faces.detectors import DETECTORS
from faceswap_cli.faces.selection import parse_selection
from faceswap_cli.faces.set_source import (
    RECORDS_DIGEST,
    Section,
    Source,
    build_source,
    check_set,
    read_source,
    read_user_sections,
    write_source,
)
from faceswap_cli.faces.settings import AUTO_SIZE_PX, ExtractSettings
from faceswap_cli.faces.tracker import FaceTracker, TrackedFrame, TrackingConfig
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.parallel.pools import TaskNeeds, open_pool
from faceswap_cli.parallel.scheduler import run_plans
from faceswap_cli.parallel.settings import ONE_PROCESS, ParallelSettings
from faceswap_cli.parallel.tasks import Task, single_task
from faceswap_cli.provenance.consent import AskConsent, ConsentChoice, parse_consent
from faceswap_cli.video.frame import FramePosition, MissingSpans
from faceswap_cli.video.source import (
    FrameSampler,
    FrameSource,
    ImageSequence,
    VideoSource,
    describe_missing,
    find_readable_sources,
    find_sources,
)
from faceswap_cli.video.time_range import TimeRange

NEEDS = TaskNeeds(memory_bytes=2**30)
"""What a process of an extraction needs: 720p takes less than a gigabyte."""


@dataclass(frozen=True, kw_only=True)
class ExtractSummary:
    """The result of an extraction."""

    name: str
    """The set."""
    frames: int
    """Frames processed, in this run and those before it."""
    faces: int
    """Faces saved, in this run and those before it."""
    frames_per_second: float
    """Frames processed a second, in this run."""
    seconds: float
    """Duration of this run."""
    folder: Path
    """The set's folder."""
    missing_frames: int = 0
    """Frames that could not be read, since the footage is damaged."""
    missing_seconds: float = 0.0
    """What they last."""
    partner: str | None = None
    """The set that a data set pairs with this one."""


@dataclass(frozen=True, kw_only=True)
class ExtractBatch:
    """The results of an extraction of several inputs."""

    extracted: Sequence[ExtractSummary]
    """In the order of the inputs, also those that an earlier run finished."""
    failed: Mapping[str, FaceswapError]
    """Why the others have no set, by input; inputs without a face are left out."""

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return the summaries by set and the errors by input, for JSON."""
        extracted = {one.name: asdict(one) for one in self.extracted}
        return extracted | {name: error.to_dict() for name, error in self.failed.items()}


@translate_removed_files()
def extract(
    footage: Path | Sequence[FrameSource],
    *,
    folder: SetFolder,
    settings: ExtractSettings,
    report: Reporter,
    extra_sections: Source = MappingProxyType({}),
    detector: Callable[[], FaceDetector] | None = None,
) -> ExtractSummary:
    """Save the faces of some footage as aligned crops in `folder`, or resume doing so.

    Args:
        footage: The inputs, one after the other; or the path of a video, an image or a folder.
        folder: The set.
        settings: Which faces are saved, and how.
        report: Receives progress and notes.
        extra_sections: The user's own sections of `source.toml`, such as a consent.
        detector: Makes the detector, in place of the one that the settings name.

    Raises:
        InputError: The footage cannot be read, the folder cannot be written to, or another process
            writes to it.
        ConfigurationError: A setting is wrong, or the set has another source or settings.
        NoFacesError: The footage has no face; no set is left behind.
        KeyboardInterrupt: A signal asked to stop; the work so far is saved.
    """
    start_time = time.monotonic()
    _validate_settings(settings)
    inputs = find_sources([footage]) if isinstance(footage, Path) else footage
    make_detector = detector or DETECTORS[settings.detector]
    if settings.size_px == AUTO_SIZE_PX:
        size_px = _choose_size(inputs, settings, folder=folder, detector=make_detector)
        settings = replace(settings, size_px=size_px)
    source = build_source([one.describe() for one in inputs], settings)
    recorded = read_user_sections(folder)
    # A complete set may be one that this user cannot write to, so cannot lock.
    has_new_sections = {**recorded, **extra_sections} != recorded
    counts = None if has_new_sections else check_set(folder, source, recorded)
    run_frames = 0
    if counts is None:
        with _lock_set(folder):
            counts, run_frames = _extract_missing(
                inputs,
                source=source,
                folder=folder,
                settings=settings,
                report=report,
                extra_sections=extra_sections,
                detector=make_detector,
            )
    else:
        _note_complete(folder, report)
    return _summarize(folder, counts, run_frames=run_frames, seconds=time.monotonic() - start_time)


def _extract_missing(
    inputs: Sequence[FrameSource],
    *,
    source: Source,
    folder: SetFolder,
    settings: ExtractSettings,
    report: Reporter,
    extra_sections: Source,
    detector: Callable[[], FaceDetector],
) -> tuple[dict[str, float], int]:
    """Extract what a set does not have yet; return its counts, and the frames of this run."""
    declared = {**read_user_sections(folder), **extra_sections}
    if counts := check_set(folder, source, declared):
        _note_complete(folder, report)
        return counts, 0
    _check_disk_use(inputs, settings, folder=folder, detector=detector, report=report)
    selection = parse_selection(settings.faces)
    with (
        graceful_interrupt() as stop,
        FaceTracker(detector, selection=selection) as tracker,
    ):
        is_new = not folder.source.exists()
        if is_new:
            write_source(folder, {**source, **declared})
        with (
            _discard_if_unreadable(folder, keep=not is_new),
            CropWriter(folder, settings) as writer,
        ):
            extraction = _Extraction(
                settings=settings, tracker=tracker, writer=writer, report=report, stop=stop
            )
            run_frames = extraction.run(inputs)
    if not writer.face_count:
        _remove_empty_set(folder)
        raise _no_face_error(inputs, extraction.frames)
    counts = {"frames": extraction.frames, "faces": writer.face_count, **extraction.losses()}
    result: Section = {**counts, RECORDS_DIGEST: writer.records_sha256}
    write_source(folder, {**source, **declared, "result": result})
    folder.remove_progress()
    return counts, run_frames


def _choose_size(
    inputs: Sequence[FrameSource],
    settings: ExtractSettings,
    *,
    folder: SetFolder,
    detector: Callable[[], FaceDetector],
) -> int:
    """Return the size of a set's crops: what it has, or else as large as the faces are, px."""
    if folder.source.exists():
        return int(read_source(folder.source)["settings"]["size_px"])
    return choose_size_px(_survey(inputs, settings, detector).sides_px)


def _survey(
    inputs: Sequence[FrameSource], settings: ExtractSettings, detector: Callable[[], FaceDetector]
) -> Survey:
    """Look at some frames from all over the inputs."""
    some = inputs[:: math.ceil(len(inputs) / SURVEYED_FRAMES)]
    time_range = TimeRange.from_seconds(settings.start_s, settings.end_s)
    clips = [
        Clip(source=one, time_range=time_range)
        for one in some
        if isinstance(one, VideoSource | ImageSequence)
    ]
    with detector() as opened:
        frames = chain.from_iterable(
            clip.sample_frames(SURVEYED_FRAMES // len(some)) for clip in clips
        )
        return survey_faces(frames, detector=opened, settings=settings)


def _check_disk_use(
    inputs: Sequence[FrameSource],
    settings: ExtractSettings,
    *,
    folder: SetFolder,
    detector: Callable[[], FaceDetector],
    report: Reporter,
) -> None:
    """Say what a set will take on the disk; nothing if a file does not say how long it is.

    Raises:
        InputError: The disk cannot hold it, as far as some frames show.
    """
    counts = [_make_sampler(one, settings).approx_taken_count for one in inputs]
    frames = sum(count for count in counts if count is not None)
    if None in counts or not frames:
        return

    def needed(faces: float) -> int:
        return estimate_bytes(min(faces, settings.max_faces or math.inf), settings)

    most = needed(frames)
    try:
        free = check_disk_space(folder.root, needed_bytes=most)
    except InputError:
        # Few frames may have a face: it takes a moment to look.
        faces_per_frame = _survey(inputs, settings, detector).faces_per_frame
        most = needed(frames * faces_per_frame)
        free = check_disk_space(folder.root, needed_bytes=most, what="the set")
    if not folder.source.exists():  # where it goes on, it was told before
        report.note(
            f"crops of {settings.size_px} px: with a face in every frame {format_bytes(most)}; "
            f"{format_bytes(free)} are free"
        )


@contextmanager
def _lock_set(folder: SetFolder) -> Iterator[None]:
    """Lock a set, and remove its folder if it is empty in the end: the footage has no face."""
    try:
        with set_lock(folder.root):
            yield
    finally:
        with suppress(OSError):  # not empty
            folder.root.rmdir()


def _note_complete(folder: SetFolder, report: Reporter) -> None:
    """Note that a set has all of its faces."""
    report.note(f'the set "{folder.name}" is complete: nothing left to do')


def set_names(footage: Sequence[FrameSource]) -> dict[str, FrameSource]:
    """Return the inputs by the names of the sets, if each input becomes one.

    Raises:
        ConfigurationError: Two would have the same name, or one a name that is not valid.
    """
    names = [validate_name(one.stem) for one in footage]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f'two inputs would both become the set "{twice[0]}"',
            hint="put all into one set with --name NAME, or extract them one by one",
        )
    return dict(zip(names, footage, strict=True))


def _validate_settings(settings: ExtractSettings) -> None:
    """Check the settings.

    Raises:
        ConfigurationError: A name is unknown, a number out of range, or two exclude each other.
    """
    for kind, name, known in (
        ("face detector", settings.detector, DETECTORS),
        ("framing", settings.framing, FRAMINGS),
        ("image format", settings.format, CROP_ENCODERS),
    ):
        if name not in known:
            raise ConfigurationError(
                f'there is no {kind} called "{name}"', hint=did_you_mean(name, known)
            )
    if settings.fps is not None and settings.every > 1:
        raise ConfigurationError(
            f"--fps {settings.fps:g} and --every {settings.every} exclude each other",
            hint="choose one of them",
        )
    if settings.fps is not None and not 0 < settings.fps < math.inf:
        raise ConfigurationError(
            f"{settings.fps:g} frames a second make no sense", hint="1 uses one each second"
        )
    if settings.size_px != AUTO_SIZE_PX and not 16 <= settings.size_px <= 4096:
        raise ConfigurationError(
            f"crops cannot be {settings.size_px} px wide",
            hint="choose 16 to 4096, or auto; 256 is usual",
        )
    if settings.end_s is not None and settings.end_s <= settings.start_s:
        raise ConfigurationError(
            f"the end, {settings.end_s:g} s, is not after the start, {settings.start_s:g} s",
            hint="both count from the beginning of the video",
        )
    if settings.every < 1:
        raise ConfigurationError(
            f"every {settings.every} frames makes no sense", hint="1 uses every frame"
        )


def extract_inputs(
    inputs: Sequence[Path],
    *,
    name: str | None,
    workspace: Workspace,
    settings: ExtractSettings,
    report: Reporter,
    consent: str | None = None,
    ask_consent: AskConsent | None = None,
    parallel: ParallelSettings = ONE_PROCESS,
) -> ExtractBatch:
    """Extract what was named on the command line into sets of a workspace.

    Of several sets, one that fails does not stop the others.

    Args:
        inputs: Videos, images, folders of either, or patterns.
        name: The set of all of them; None gives each input a set named after it.
        workspace: Holds the sets.
        settings: Which faces are extracted, and how.
        report: Receives the progress.
        consent: `KIND` or `KIND: NOTE`, recorded in each set; None: the workspace's, if any.
        ask_consent: Asks for the workspace's; called once a workspace.
        parallel: Where sets are made, and how many at a time.

    Raises:
        ConfigurationError: A name, the consent or a setting is invalid.
        FaceswapError: As `extract` does, if there is one set only, or none can be made.
    """
    _validate_settings(settings)
    if consent is not None:
        parse_consent(consent)  # an error in it is reported before one in the inputs
    if name is not None:
        validate_name(name)
        groups = {workspace.set_folder(name): find_sources(inputs)}
        failed: dict[str, FaceswapError] = {}
    else:
        footage, failed = find_readable_sources(inputs)
        groups = {workspace.set_folder(stem): [one] for stem, one in set_names(footage).items()}
    choice = ConsentChoice.resolve(consent, workspace.version_file, ask_consent)
    jobs = [
        _SetJob(
            footage=footage,
            folder=folder,
            settings=settings,
            extra_sections=choice.sections(folder.source),
        )
        for folder, footage in groups.items()
    ]
    if len(jobs) + len(failed) == 1 and parallel.on is None:
        batch = ExtractBatch(extracted=[job.run(report) for job in jobs], failed={})
    else:
        batch = _extract_each(jobs, failed=failed, parallel=parallel, report=report)
    sources = {one.name: SetFolder(root=one.folder).source for one in batch.extracted}
    note_consent(choice, workspace, sources, report)
    return batch


def note_consent(
    choice: ConsentChoice, workspace: Workspace, sources: Mapping[str, Path], report: Reporter
) -> None:
    """Record that the workspace's consent was asked for, and remind of a missing one, once."""
    Workspace.open(workspace.root)
    if note := choice.settle(workspace.version_file, sources):
        report.note(note)


def _extract_each(
    jobs: Sequence["_SetJob"],
    *,
    failed: Mapping[str, FaceswapError],
    parallel: ParallelSettings,
    report: Reporter,
) -> ExtractBatch:
    """Make sets; one without a face is noted and becomes none.

    Raises:
        FaceswapError: No set was made; it is the first error.
    """
    counts = [one.count for job in jobs for one in job.footage]
    with open_pool(parallel, NEEDS, max_tasks=len(jobs)) as pool:
        outcomes = run_plans(
            {job.name: single_task(job.task()) for job in jobs},
            pool,
            report=report,
            title="extract " + (jobs[0].name if len(jobs) == 1 else f"{len(jobs)} inputs"),
            total=None if None in counts else sum(filter(None, counts)),
            unit="frames",
        )
    all_failed = {**failed, **outcomes.failed}
    if not outcomes.results:
        raise next(iter(all_failed.values()))
    return ExtractBatch(
        extracted=list(outcomes.results.values()),
        failed={
            name: error for name, error in all_failed.items() if not isinstance(error, NoFacesError)
        },
    )


@dataclass(frozen=True, kw_only=True)
class _SetJob:
    """A set to be made, by any process."""

    footage: Sequence[FrameSource]
    folder: SetFolder
    settings: ExtractSettings
    extra_sections: Source

    @property
    def name(self) -> str:
        """The input, or the set of several."""
        return self.footage[0].name if len(self.footage) == 1 else self.folder.name

    def task(self) -> Task[ExtractSummary]:
        """Return the task that makes the set."""
        frames = sum(one.count or 0 for one in self.footage)
        return Task(name=self.name, units=frames, run=self.run)

    def run(self, report: Reporter) -> ExtractSummary:
        """Make the set.

        Raises:
            FaceswapError: As `extract` does.
        """
        summary = extract(
            self.footage,
            folder=self.folder,
            settings=self.settings,
            report=report,
            extra_sections=self.extra_sections,
        )
        [first, *others] = self.footage
        if others or not isinstance(first, VideoSource):
            return summary
        return replace(summary, partner=first.partner)


def summary_table(
    summaries: Sequence[ExtractSummary],
) -> tuple[str, list[str], list[list[str]]]:
    """Return title, headings and rows of a table of several extractions."""
    headings = ["set", "faces", "frames", "frames/s"]
    rows = [
        [one.name, str(one.faces), str(one.frames), f"{one.frames_per_second:g}"]
        for one in summaries
    ]
    if any(one.missing_frames for one in summaries):
        headings = [*headings, "missing"]
        rows = [[*row, str(one.missing_frames)] for row, one in zip(rows, summaries, strict=True)]
    partners = [one.partner for one in summaries]
    if not any(partners):
        return "sets", headings, rows
    rows = [[*row, partner or ""] for row, partner in zip(rows, partners, strict=True)]
    return "sets", [*headings, "partner"], rows


@dataclass(kw_only=True)
class _Extraction:
    """An extraction in progress."""

    settings: ExtractSettings
    tracker: FaceTracker
    writer: CropWriter
    report: Reporter
    stop: StopFlag
    frames: int = 0
    """Frames processed, in this run and those before it."""
    missing: dict[int, MissingSpans] = field(default_factory=dict)
    """Times of each input that have no frame, found in this run and those before it."""

    def losses(self) -> dict[str, float]:
        """Return the counts of what is missing; empty for sound footage."""
        spans = self.missing.values()
        if not (frames := sum(each.frames for each in spans)):
            return {}
        seconds = round(sum(each.seconds for each in spans), 3)
        return {"missing_frames": frames, "missing_seconds": seconds}

    def run(self, inputs: Sequence[FrameSource]) -> int:
        """Find, crop and record the remaining faces; return the frames processed in this run."""
        progress = self.writer.resumed_progress or {}
        for path in self.writer.damaged:
            on = "the save before it is used" if progress else "starting again at the first frame"
            self.report.note(f"{path} is damaged: {on}")
        before = self.frames = int(progress.get("frames", 0))
        self.missing = {
            int(key): MissingSpans(spans) for key, spans in progress.get("missing", {}).items()
        }
        first, position = progress.get("input", 0), _resume_position(progress)
        if progress:
            of_input = f" of {inputs[first].name}" if 1 < len(inputs) > first else ""
            at = f"after frame {position.index}{of_input}" if position else f"at input {first + 1}"
            self.report.note(f"resuming {at}: {self.writer.face_count} faces so far")
        for number, footage in enumerate(inputs[first:], first):
            self._process_input(
                footage, number, resume_after=position, tracker_state=progress.get("memory")
            )
            position, progress = None, {}
            self.writer.checkpoint(
                {"input": number + 1, "frames": self.frames, **self._missing_state()}
            )
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
        """Process one input, from after a frame on."""
        sampler = _make_sampler(footage, self.settings)
        total = sampler.approx_frame_count
        self.report.start_task(f"extract {footage.name}", total=total, unit="frames")
        for warning in footage.warnings:
            self.report.note(warning)
        config = TrackingConfig.from_frame_rate(
            footage.average_rate, frame_step=sampler.stride, is_continuous=footage.is_continuous
        )
        missing = self.missing.setdefault(input_index, MissingSpans())
        frames = sampler.frames(
            note=self.report.note, resume_after=resume_after, missing=missing.add
        )
        start_time, before = time.monotonic(), self.frames
        with closing(self.tracker.track(frames, config=config, state=tracker_state)) as results:
            for tracked in results:
                if self._has_enough:
                    break
                self.frames += 1
                self._write_faces(tracked, input_index)
                rate = (self.frames - before) / (time.monotonic() - start_time)
                numbers = {"frames/s": round(rate, 1), "faces": self.writer.face_count}
                self.report.update(sampler.count_done(tracked.frame), numbers)
                self._checkpoint_or_stop(tracked, input_index)
        if isinstance(footage, VideoSource):
            for text in describe_missing(footage, missing):
                self.report.note(text)

    def _missing_state(self) -> dict[str, Any]:
        """Return the missing times for a checkpoint; nothing for sound footage."""
        found = {str(key): spans.to_json() for key, spans in self.missing.items() if spans.frames}
        return {"missing": found} if found else {}

    @property
    def _has_enough(self) -> bool:
        """Whether `max_faces` faces are saved."""
        limit = self.settings.max_faces
        return limit is not None and self.writer.face_count >= limit

    def _write_faces(self, tracked: TrackedFrame, input_index: int) -> None:
        """Write the faces of a frame, up to `max_faces` in all."""
        limit = self.settings.max_faces
        room = None if limit is None else limit - self.writer.face_count
        for face_index, face in enumerate(tracked.faces[:room]):
            self.writer.add(tracked.frame, face, input_index=input_index, face_index=face_index)

    def _checkpoint_or_stop(self, tracked: TrackedFrame, input_index: int) -> None:
        """Write a checkpoint after a frame if one is due; stop if that was requested.

        Raises:
            KeyboardInterrupt: It was.
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
                **self._missing_state(),
            }
        )
        if self.stop.requested:
            self.report.note(
                f"stopped after frame {tracked.frame.index}: {self.writer.face_count} faces so far"
            )
            raise KeyboardInterrupt


def _make_sampler(footage: FrameSource, settings: ExtractSettings) -> FrameSampler:
    """Return what selects the frames of an input."""
    return FrameSampler(
        source=footage,
        time_range=TimeRange.from_seconds(settings.start_s, settings.end_s),
        every=settings.every,
        fps=None if settings.fps is None else Fraction(str(settings.fps)),
    )


def _resume_position(progress: Mapping[str, Any]) -> FramePosition | None:
    """Return the last frame of a checkpoint; None if it is at the start of an input."""
    if "frame" not in progress:
        return None
    return FramePosition(index=progress["frame"], time=parse_fraction(progress["time"]))


def _summarize(
    folder: SetFolder, counts: Mapping[str, float], *, run_frames: int, seconds: float
) -> ExtractSummary:
    """Return the result of an extraction, of which this run processed `run_frames` frames."""
    return ExtractSummary(
        name=folder.name,
        frames=int(counts["frames"]),
        faces=int(counts["faces"]),
        missing_frames=int(counts.get("missing_frames", 0)),
        missing_seconds=counts.get("missing_seconds", 0.0),
        frames_per_second=round(run_frames / max(seconds, 1e-9), 1),
        seconds=round(seconds, 1),
        folder=folder.root,
    )


def _no_face_error(inputs: Sequence[FrameSource], frames: int) -> NoFacesError:
    """Return the error for footage without a face, or without a frame in the time range."""
    what = inputs[0].name if len(inputs) == 1 else f"{len(inputs)} inputs"
    if not frames:
        return NoFacesError(
            f"{what} has no frame in the time range",
            hint="choose an earlier --start, or a later --end",
        )
    return NoFacesError(
        f"no face was found in the {frames} frames of {what}",
        hint="faces should be in view, sharp and 30 px wide or more: try a closer shot",
    )


@contextmanager
def _discard_if_unreadable(folder: SetFolder, *, keep: bool) -> Iterator[None]:
    """Remove a new set without a face if its footage turns out to be unreadable."""
    try:
        yield
    except InputError:
        if not keep and not folder.records.stat().st_size:
            _remove_empty_set(folder)
        raise


def _remove_empty_set(folder: SetFolder) -> None:
    """Remove the files of a set without a face; `_lock_set` removes the folder."""
    folder.remove_progress()
    for path in (folder.source, folder.records):
        path.unlink(missing_ok=True)
