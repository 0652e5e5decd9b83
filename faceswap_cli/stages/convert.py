"""Convert: swap faces in footage and keep everything else of it: `convert`, `convert_inputs`.

    frames -> faces of the whole clip            (analysis: detect, track, assign)
    frames -> model, in batches -> composite -> encoder

The source is read twice, since swapping a frame needs future context (gap filling, shot
boundaries). Frames are streamed: each arrow of the second line is a bounded queue between two
threads. Finished parts stay on disk, and the same command resumes after them. Only pixels under the
mask change; a frame without a face passes through untouched.
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

from faceswap_cli import __version__
from faceswap_cli.conversion.analysis import (
    ExtractedSet,
    MissingLog,
    analyze_clip,
    find_extracted_sets,
    find_reusable_set,
)
from faceswap_cli.conversion.assignment import (
    FaceAssignment,
    no_match_error,
    parse_assignments,
)
from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.face_index import FaceIndex
from faceswap_cli.conversion.finished import FinishedLog
from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.conversion.output import Output, assign_outputs, parts_folder
from faceswap_cli.conversion.renderer import Renderer, limit_batch_size
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import build_swapper, load_occlusion, validate_settings
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.fileio import append_json, sha256_file, translate_removed_files
from faceswap_cli.core.lock import RETRY_HINT, output_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.faces import VISIBLE_MASK
from faceswap_cli.parallel.pools import TaskNeeds, open_pool
from faceswap_cli.parallel.processes import InProcessPool
from faceswap_cli.parallel.scheduler import run_plans
from faceswap_cli.parallel.settings import ONE_PROCESS, ParallelSettings
from faceswap_cli.parallel.tasks import Plan, Task, single_task
from faceswap_cli.provenance.claim import Claim, package_versions
from faceswap_cli.provenance.consent import combined_consent_digest
from faceswap_cli.provenance.visible_label import choose_corner
from faceswap_cli.training import checkpoint
from faceswap_cli.video.segments import ALL_FRAMES, SEGMENT_FRAMES, FrameRange
from faceswap_cli.video.source import (
    FrameSource,
    VideoSource,
    describe_missing,
    find_readable_sources,
)
from faceswap_cli.video.time_range import TimeRange
from faceswap_cli.video.writer import check_output

PART_FRAMES = 4 * SEGMENT_FRAMES
"""Fewest frames of a long video that a process renders by itself: it has to find them first."""
WORKER_MEMORY_BYTES = 2 * 2**30
"""Memory that a process of a conversion needs, with its network."""


@dataclass(frozen=True, kw_only=True)
class ConvertSummary:
    """What a conversion wrote."""

    frames: int
    """Frames written."""
    swapped: int
    """Frames with a swapped face."""
    passed_through: int
    """Frames without a face, untouched."""
    missing_frames: int
    """Frames of the source that could not be read, since it is damaged."""
    missing_seconds: float
    """What they last."""
    seconds: float
    """Wall time of this run."""
    output: Path


@dataclass(frozen=True, kw_only=True)
class BatchSummary:
    """What a conversion of several inputs wrote."""

    converted: Mapping[str, ConvertSummary]
    """By input, in order; also those that an earlier run finished."""
    failed: Mapping[str, FaceswapError]
    """Why the others were not converted, by input."""

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """Return title, headings and rows of a table of all inputs."""
        rows = [
            [name, str(one.frames), str(one.swapped), f"{one.seconds:.1f}", str(one.output)]
            for name, one in self.converted.items()
        ]
        rows += [[name, "", "", "", "failed"] for name in self.failed]
        return "converted", ["input", "frames", "swapped", "seconds", "output"], rows

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return the summaries and the errors by input, for JSON."""
        converted = {name: asdict(one) for name, one in self.converted.items()}
        return converted | {name: error.to_dict() for name, error in self.failed.items()}


@translate_removed_files()
def convert(
    source: Path,
    *,
    weights: Path,
    to: str | None,
    output: Path,
    device: str,
    report: Reporter,
    settings: ConvertSettings | None = None,
    workspace: Workspace | None = None,
) -> ConvertSummary:
    """Write `source` to `output` with swapped faces; resume if a run was interrupted.

    Args:
        source: A video, an image or a folder of images.
        weights: Trained weights, as `train` writes them.
        to: Identity for faces that the settings give none; None takes the last identity of the
            model that the clip does not show.
        output: Appears under this name when it is finished, not before.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: Receives the progress.
        settings: Which faces are swapped, and how they are composited and encoded.
        workspace: Its sets say which identities the clip shows, and where.

    Raises:
        InputError: The source cannot be read, the output cannot be written, or another process
            makes it.
        ConfigurationError: The model does not know an identity, or a setting is wrong.
        CheckpointError: The weights cannot be used.
        NoFacesError: No face of the clip is selected; nothing is left behind.
    """
    settings = settings or ConvertSettings()
    validate_settings(settings)
    clip = Clip.open(source, start_s=settings.start_s, end_s=settings.end_s)
    conversion = _Conversion(
        weights=weights, to=to, device=device, settings=settings, workspace=workspace
    )
    return conversion.run(clip, output, report=report)


def convert_inputs(
    inputs: Sequence[Path],
    *,
    model: str,
    to: str | None,
    output: Path | None,
    device: str,
    report: Reporter,
    settings: ConvertSettings,
    workspace: Workspace,
    parallel: ParallelSettings = ONE_PROCESS,
) -> BatchSummary:
    """Convert what was named on the command line; one that fails does not stop the others.

    What an earlier run finished with the same model and settings is not made again.

    Args:
        inputs: Videos, images, folders of either, or patterns.
        model: Trained model, as `Workspace.find_weights` takes it.
        to: As of `convert`.
        output: The output of a single input; of several, their folder. None takes the
            workspace's exports.
        device: As of `convert`.
        report: Receives the progress.
        settings: As of `convert`.
        workspace: Holds the sets, the model and the exports.
        parallel: Where the inputs, and parts of long ones, are converted, and how many at a time.

    Raises:
        ConfigurationError: A setting, the model or the identity does not exist.
        DeviceError: The device is not there.
        CheckpointError: The weights cannot be used.
        FaceswapError: The only input failed, or none can be opened.
    """
    validate_settings(settings)
    sources, failed = find_readable_sources(inputs)
    is_batch = len(sources) + len(failed) > 1
    conversion = _Conversion(
        weights=workspace.find_weights(model),
        to=to,
        device=device,
        settings=settings,
        workspace=workspace,
    )
    pairs = assign_outputs(
        sources, output or workspace.exports, is_folder=is_batch or output is None
    )
    counts = [conversion.count_frames(source) for source, _ in pairs]
    parts = [
        count_parts(count or 0, PART_FRAMES) if isinstance(source, VideoSource) else 1
        for (source, _), count in zip(pairs, counts, strict=True)
    ]
    pool = open_pool(parallel, _worker_needs(device), max_tasks=sum(parts))
    if not is_batch and isinstance(pool, InProcessPool):
        [(source, path)] = pairs
        converted = conversion.run_once(source, path, report)
        return BatchSummary(converted={source.name: converted.log_finished()}, failed={})
    # Of a cluster this machine may be the only one without a GPU.
    (replace(conversion, device="cpu") if parallel.on else conversion).check()
    with pool:
        outcomes = run_plans(
            {
                source.name: conversion.plan(source, path, max_parts=pool.capacity)
                for source, path in pairs
            },
            pool,
            report=report,
            title=f"convert {len(pairs)} inputs" if is_batch else f"convert {pairs[0][0].name}",
            total=None if None in counts else 2 * sum(filter(None, counts)),
            unit="frames",
        )
    if not is_batch and outcomes.failed:
        raise next(iter(outcomes.failed.values()))
    return BatchSummary(converted=outcomes.results, failed={**failed, **outcomes.failed})


def _worker_needs(device: str) -> TaskNeeds:
    """Return what each process of a conversion needs on this machine."""
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return TaskNeeds(memory_bytes=WORKER_MEMORY_BYTES, device=device, gpus=gpus)


def split_frames(count: int, part_frames: int) -> list[FrameRange]:
    """Return ranges of `part_frames` or more that a clip can be rendered in.

    They are whole segments of the output, so what is encoded does not depend on them. The last one
    has no end: a file may have more frames than it says.

    Args:
        count: Frames that the file says it has.
        part_frames: The least number of frames.
    """
    step = _part_step(part_frames)
    firsts = [step * part for part in range(count_parts(count, part_frames))]
    return [FrameRange(first, end) for first, end in zip_longest(firsts, firsts[1:])]


def count_parts(count: int, part_frames: int) -> int:
    """Return how many ranges `split_frames` makes, without making any.

    A file may say that it has billions of frames.
    """
    return max(1, (count - part_frames) // _part_step(part_frames) + 1)


def _part_step(part_frames: int) -> int:
    """Return the frames of all ranges but the last: whole segments."""
    return math.ceil(part_frames / SEGMENT_FRAMES) * SEGMENT_FRAMES


@dataclass(frozen=True, kw_only=True)
class _Converted:
    """A finished output."""

    summary: ConvertSummary
    log_entry: Mapping[str, Any] | None
    """What the log of its folder does not have yet."""

    def log_finished(self) -> ConvertSummary:
        """Record that the output is finished; return its summary.

        The process of the command does so for all others: not every shared disk can append what
        several machines write.
        """
        if self.log_entry is not None:
            FinishedLog(self.summary.output.parent).append(self.log_entry)
        return self.summary


@dataclass(frozen=True, kw_only=True)
class _Conversion:
    """What the clips of one command share; see `convert`."""

    weights: Path
    to: str | None
    device: str
    settings: ConvertSettings
    workspace: Workspace | None

    def __reduce__(self) -> tuple[Callable[..., "_Conversion"], tuple[object, ...]]:
        """Be one object in every process, so that all of its tasks use the same model."""
        values = (self.weights, self.to, self.device, self.settings, self.workspace)
        return _shared_conversion, values

    @cached_property
    def model(self) -> FaceModel:
        """The trained model, loaded when it is first used."""
        return FaceModel.load(self.weights, device=self.device)

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the file of the model."""
        return sha256_file(self.weights)

    def check(self) -> None:
        """Refuse what would fail for every clip.

        Raises:
            FaceswapError: The model cannot be used, or `--face` or `--to` names what there is not.
        """
        for assignment in self._assign(frozenset()):
            assignment.selector.canonical_text()

    def count_frames(self, source: FrameSource) -> int | None:
        """Return how many frames of a source are converted, as far as its file says."""
        time_range = TimeRange.from_seconds(self.settings.start_s, self.settings.end_s)
        return time_range.approx_frame_count(source.count, source.average_rate)

    def split(self, source: FrameSource, part_frames: int) -> list[FrameRange]:
        """Return the parts that a source can be rendered in; images are rendered together.

        Args:
            source: The source.
            part_frames: The least number of frames of a part.
        """
        count = self.count_frames(source) if isinstance(source, VideoSource) else 0
        return split_frames(count or 0, part_frames)

    def plan(self, source: FrameSource, output: Path, *, max_parts: int) -> Plan[ConvertSummary]:
        """Convert a source, unless the output is finished, by tasks of any process.

        A long video is analyzed by one task; then its parts are rendered at the same time, and the
        last task finds all of them, as a resumed conversion does, and puts the output together.

        Args:
            source: The source.
            output: Its output.
            max_parts: Parts into which it may be divided.
        """
        started, name = time.monotonic(), source.name
        count = self.count_frames(source) or 0
        parts = self.split(source, max(PART_FRAMES, math.ceil(count / max_parts)))
        if len(parts) == 1 or max_parts == 1:
            whole = partial(self.run_once, source, output)
            converted = yield from single_task(Task(name=name, units=2 * count, run=whole))
            return converted.log_finished()
        with output_lock(output):
            analyze = partial(self.analyze, source, output)
            finished = yield from single_task(Task(name=name, units=count, run=analyze))
            if finished is not None:
                return finished.log_finished()
            render = partial(self.render_part, source, output)
            yield [
                Task(name=name, units=part.count(count), run=partial(render, part))
                for part in parts
            ]
            join = partial(self.run_once, source, output, is_rendered=True)
            converted = yield from single_task(Task(name=name, units=0, run=join))
            summary = converted.log_finished()
        return replace(summary, seconds=time.monotonic() - started)

    def run_once(
        self, source: FrameSource, output: Path, report: Reporter, *, is_rendered: bool = False
    ) -> _Converted:
        """Convert a source, unless the output is finished.

        Args:
            source: The source.
            output: Its output.
            report: Receives the progress.
            is_rendered: As of `run`.

        Raises:
            FaceswapError: As `convert` does.
        """
        clip = self._open(source, output)
        key = self._request_key(clip)
        if finished := self._find_finished(clip, output, report, key=key):
            return finished
        summary = self.run(clip, output, report=report, is_rendered=is_rendered)
        entry = FinishedLog(output.parent).make_entry(
            output, key=key, summary=asdict(summary), clip=_describe_clip(source, self.settings)
        )
        return _Converted(summary=summary, log_entry=entry)

    def analyze(self, source: FrameSource, output: Path, report: Reporter) -> _Converted | None:
        """Find the faces of a source's clip, for `render_part`; return an output that is finished.

        Raises:
            FaceswapError: As `convert` does.
        """
        clip = self._open(source, output)
        key = self._request_key(clip)
        if finished := self._find_finished(clip, output, report, key=key):
            return finished
        self._find_faces(clip, output, report, note=_note_once(report))
        return None

    def render_part(
        self, source: FrameSource, output: Path, part: FrameRange, report: Reporter
    ) -> None:
        """Render some frames of a source whose faces are known; `run` finds them.

        What is missing or damaged in the file is noted by the other passes.

        Raises:
            FaceswapError: As `convert` does.
        """
        clip = self._open(source, output)
        faces = _ClipFaces(
            face_index=FaceIndex(folder=parts_folder(output), key=""),
            assignments=self._assign(_source_identities(find_extracted_sets(clip, self.workspace))),
            missing=MissingLog.in_folder(parts_folder(output), clip),
        )
        renderer = self._build_renderer(clip, faces, report=report, note=_drop_note)
        # A process of a command that was killed may still be at work on the same part.
        with output_lock(parts_folder(output) / f"{part.first:08}", hint=RETRY_HINT):
            target = self._open_output(output, clip, renderer, frames=part)
            renderer.render(target, part)

    def run(
        self, clip: Clip, output: Path, *, report: Reporter, is_rendered: bool = False
    ) -> ConvertSummary:
        """Convert a clip, or resume doing so.

        Args:
            clip: The clip.
            output: Its output.
            report: Receives the progress.
            is_rendered: Its frames are rendered already, under a lock of the process that calls
                this one for the rest.

        Raises:
            FaceswapError: As `convert` does.
        """
        started = time.monotonic()
        settings = self.settings
        check_output(clip.source, output, codec=settings.codec)
        with nullcontext() if is_rendered else output_lock(output):
            note = _note_once(report)
            progress = Reporter() if is_rendered else report
            faces = self._find_faces(clip, output, progress, note=note)
            renderer = self._build_renderer(clip, faces, report=progress, note=note)
            target = self._open_output(output, clip, renderer)
            swapped = faces.face_index.frames_to_swap()
            claim = _build_claim(clip, self.model, self.weights_digest, settings=settings)
            frames = renderer.render(target)
            claim = replace(claim, frames=frames, swapped=len(swapped))
            notes = target.finalize(claim, swapped_frames=swapped)
            if not settings.credentials:
                _log_unsigned(self.weights)
            target.cleanup()
            missing = faces.missing.spans
            if isinstance(clip.source, VideoSource):
                notes = [*notes, *describe_missing(clip.source, missing)]
            for text in notes:
                report.note(text)
            return ConvertSummary(
                frames=frames,
                swapped=len(swapped),
                passed_through=frames - len(swapped),
                missing_frames=missing.frames,
                missing_seconds=missing.seconds,
                seconds=time.monotonic() - started,
                output=output,
            )

    def _open(self, source: FrameSource, output: Path) -> Clip:
        """Return the clip of a source, whose output can be written."""
        settings = self.settings
        clip = Clip.from_source(source, start_s=settings.start_s, end_s=settings.end_s)
        check_output(clip.source, output, codec=settings.codec)
        return clip

    def _find_finished(
        self, clip: Clip, output: Path, report: Reporter, *, key: str
    ) -> _Converted | None:
        """Return an output that an earlier run finished; None if there is none."""
        log = FinishedLog(output.parent)
        found = log.find(output, key=key)
        if found is None:
            if output.exists():
                report.note(f"{output} is made again: {log.path} does not have it as of this kind")
            return None
        report.note(f"{clip.source.name}: finished before, as {output}; delete it to make it again")
        summary = ConvertSummary(**{**found, "output": output})
        return _Converted(summary=summary, log_entry=None)

    def _find_faces(
        self, clip: Clip, output: Path, report: Reporter, *, note: Callable[[str], None]
    ) -> "_ClipFaces":
        """Return the faces of a clip, found now or before.

        Raises:
            NoFacesError: None is selected; nothing is left behind.
        """
        # Settings that do not fit the model are an error before all frames are read.
        build_swapper(self.settings, self.model, self.workspace)
        folder = parts_folder(output)
        sets = find_extracted_sets(clip, self.workspace)
        assignments = self._assign(_source_identities(sets))
        missing = MissingLog.in_folder(folder, clip)
        face_index = analyze_clip(
            clip,
            assignments,
            sets=sets,
            folder=folder,
            report=report,
            note=note,
            missing=missing.add,
        )
        reusable = find_reusable_set(sets, clip, assignments)
        covered = reusable.count_covered(clip) if reusable else 0
        if covered and self.settings.mask != VISIBLE_MASK:
            note(f"something is in front of {covered} faces: --mask visible leaves it there")
        if not face_index.frames_to_swap():
            tracks = face_index.tracks()
            shutil.rmtree(folder, ignore_errors=True)
            raise no_match_error(clip.source.name, assignments, tracks)
        return _ClipFaces(face_index=face_index, assignments=assignments, missing=missing)

    def _build_renderer(
        self,
        clip: Clip,
        faces: "_ClipFaces",
        *,
        report: Reporter,
        note: Callable[[str], None],
    ) -> Renderer:
        """Return what renders a clip, any part of it."""
        settings = self.settings
        boxes = faces.face_index.boxes() if settings.visible_label else None
        return Renderer(
            clip=clip,
            face_index=faces.face_index,
            identities=[one.identity for one in faces.assignments],
            swapper=build_swapper(settings, self.model, self.workspace),
            label_corner=None if boxes is None else choose_corner(boxes, clip.size),
            batch_size=limit_batch_size(clip.size, requested=settings.batch_size),
            report=report,
            note=note,
            missing=faces.missing.add,
        )

    def _open_output(
        self, output: Path, clip: Clip, renderer: Renderer, *, frames: FrameRange = ALL_FRAMES
    ) -> Output:
        """Return the output, with what was rendered before by the same model and settings."""
        occlusion = renderer.swapper.occlusion
        parts = {
            "version": __version__,
            "clip": clip.fingerprint(),
            "faces": renderer.face_index.digest(),
            "people": list(renderer.identities),
            "weights": self.weights_digest,
            "computed": self.model.device_info,
            "occlusion": occlusion.digest if occlusion else None,
            "settings": self.settings.render_settings(),
        }
        return Output.open(output, clip, key=_digest(parts), settings=self.settings, frames=frames)

    def _assign(self, source_identities: Set[str]) -> list[FaceAssignment]:
        """Return which face of a clip, which shows some identities, gets which identity."""
        return parse_assignments(
            self.settings.faces,
            to=self.to,
            identities=self.model.identities,
            source_identities=source_identities,
        )

    def _request_key(self, clip: Clip) -> str:
        """Return a digest of all that a finished output of a clip depends on."""
        sets = find_extracted_sets(clip, self.workspace)
        assignments = self._assign(_source_identities(sets))
        reusable = find_reusable_set(sets, clip, assignments)
        occlusion = load_occlusion(self.settings, self.workspace)
        parts = {
            "version": __version__,
            "clip": clip.fingerprint(),
            "faces": [(one.selector.canonical_text(), one.identity) for one in assignments],
            "set": reusable.digest() if reusable else None,
            "weights": self.weights_digest,
            "computed": self.model.device_info,
            "occlusion": occlusion.digest if occlusion else None,
            "settings": asdict(self.settings),
        }
        return _digest(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class _ClipFaces:
    """The faces of a clip, and what its file lacks."""

    face_index: FaceIndex
    assignments: Sequence[FaceAssignment]
    missing: MissingLog


@lru_cache(maxsize=1)
def _shared_conversion(
    weights: Path,
    to: str | None,
    device: str,
    settings: ConvertSettings,
    workspace: Workspace | None,
) -> _Conversion:
    """Return the conversion of the tasks of one command, the same object for each of them."""
    return _Conversion(
        weights=weights, to=to, device=device, settings=settings, workspace=workspace
    )


def _source_identities(sets: Sequence[ExtractedSet]) -> set[str]:
    """Return the identities that a clip shows, by the sets that were extracted from it."""
    return {one.folder.name for one in sets}


def _drop_note(_: str) -> None:
    """Drop a note."""


def _note_once(report: Reporter) -> Callable[[str], None]:
    """Return `report.note` without repeats: both passes read the file and find the same damage.

    The second pass must report it too, since the first one is skipped if the faces are known.
    """
    given: set[str] = set()

    def note(text: str) -> None:
        if text not in given:
            given.add(text)
            report.note(text)

    return note


def _build_claim(
    clip: Clip, model: FaceModel, weights_digest: str, *, settings: ConvertSettings
) -> Claim:
    """Return what the output is signed with, but for the numbers of its frames."""
    paths = [clip.source.path] if isinstance(clip.source, VideoSource) else clip.source.paths
    consent = combined_consent_digest(model.origins)
    return Claim(
        frames=0,
        swapped=0,
        model=weights_digest,
        source=sha256_file(paths[0]) if len(paths) == 1 else None,
        sets=tuple(origin.records for origin in model.origins),
        consent=consent is not None,
        consent_sha256=consent,
        settings=settings.render_settings(),
        versions=package_versions(),
    )


def _describe_clip(source: FrameSource, settings: ConvertSettings) -> dict[str, str | float | None]:
    """Return what an output is made from, for a page that shows both; nothing of images."""
    if not isinstance(source, VideoSource):
        return {}
    path = str(source.path.absolute())
    return {"source": path, "start_s": settings.start_s, "end_s": settings.end_s}


def _digest(parts: Mapping[str, object]) -> str:
    """Return a digest of plain values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _log_unsigned(weights: Path) -> None:
    """Record in the log of the weights' run, if they are in one, that an output is unsigned."""
    run = RunFolder(root=weights.parent)
    if run.recipe.exists() and weights.suffix == run.weights.suffix:
        images_seen = checkpoint.read_metadata(weights)["images_seen"]
        line = {
            "images_seen": images_seen,
            "event": "unsigned_output",
            "message": "an output was written without credentials (--no-credentials)",
        }
        append_json(run.log, line)
