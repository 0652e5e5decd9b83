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
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from faceswap_cli import __version__
from faceswap_cli.conversion.analysis import (
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
from faceswap_cli.conversion.face_index import FaceIndex, join_faces
from faceswap_cli.conversion.finished import FinishedLog
from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.conversion.output import Output, assign_outputs, parts_folder
from faceswap_cli.conversion.pipeline import (
    TEMPORAL_RADIUS,
    OutputFrame,
    add_label,
    composite_faces,
    crop_faces,
    run_model,
    smooth_over_time,
)
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import FaceSwapper, build_swapper, validate_settings
from faceswap_cli.core.errors import FaceswapError, InputError
from faceswap_cli.core.fileio import append_line, sha256_file
from faceswap_cli.core.lock import output_lock
from faceswap_cli.core.prefetch import prefetch
from faceswap_cli.core.progress import PartReporter, Reporter
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.provenance.claim import Claim, package_versions
from faceswap_cli.provenance.consent import combined_consent_digest
from faceswap_cli.provenance.visible_label import choose_corner
from faceswap_cli.training import checkpoint
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.source import (
    FrameSource,
    ReportMissing,
    VideoSource,
    describe_missing,
    find_sources,
)
from faceswap_cli.video.writer import check_output

Item = TypeVar("Item")

MAX_FRAME_BYTES = 2**30
"""Memory for the frames in flight."""
BYTES_PER_PIXEL = 4.5
"""Of one of these frames: RGB and the decoded 4:2:0 planes, 8 bits each."""
QUEUE_DEPTH = 4
"""Frames that may wait between two threads where no batch is gathered."""


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

    Raises:
        ConfigurationError: A setting, the model or the identity does not exist.
        DeviceError: The device is not there.
        CheckpointError: The weights cannot be used.
        FaceswapError: The only input failed, or none can be opened.
    """
    validate_settings(settings)
    failed: dict[str, FaceswapError] = {}

    def on_error(path: Path, error: InputError) -> None:
        failed[str(path)] = error

    sources = find_sources(inputs, on_error=on_error)
    if not sources:
        raise next(iter(failed.values()))
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
    if not is_batch:
        [(source, path)] = pairs
        return BatchSummary(
            converted={source.name: conversion.run_once(source, path, report=report)}, failed={}
        )
    return _convert_each(pairs, conversion, failed=failed, report=report)


def _convert_each(
    pairs: Sequence[tuple[FrameSource, Path]],
    conversion: "_Conversion",
    *,
    failed: dict[str, FaceswapError],
    report: Reporter,
) -> BatchSummary:
    """Convert sources to their outputs, under one bar that counts the frames of both passes."""
    conversion.check()
    counts = [source.count for source, _ in pairs]
    total = None if None in counts else 2 * sum(filter(None, counts))
    parts = PartReporter(report, title=f"convert {len(pairs)} inputs", total=total, unit="frames")
    converted, start = {}, 0
    for (source, path), count in zip(pairs, counts, strict=True):
        parts.start_part(source.name, start=start)
        try:
            converted[source.name] = conversion.run_once(source, path, report=parts)
        except FaceswapError as error:
            failed[source.name] = error
            parts.note(f"failed: {error.describe(source.name)}")
        start += 2 * (count or 0)
    report.update(start)
    return BatchSummary(converted=converted, failed=failed)


@dataclass(frozen=True, kw_only=True)
class _Conversion:
    """What the clips of one command share; see `convert`."""

    weights: Path
    to: str | None
    device: str
    settings: ConvertSettings
    workspace: Workspace | None

    @cached_property
    def model(self) -> FaceModel:
        """The trained model, loaded when it is first used."""
        return FaceModel.load(self.weights, device=self.device)

    def check(self) -> None:
        """Refuse what would fail for every clip.

        Raises:
            FaceswapError: The model cannot be used, or `--face` or `--to` names what there is not.
        """
        for assignment in self._assign(frozenset()):
            assignment.selector.canonical_text()

    def run_once(self, source: FrameSource, output: Path, *, report: Reporter) -> ConvertSummary:
        """Convert a source, unless the output is finished.

        Raises:
            FaceswapError: As `convert` does.
        """
        settings = self.settings
        clip = Clip.from_source(source, start_s=settings.start_s, end_s=settings.end_s)
        check_output(clip.source, output, codec=settings.codec)
        log, key = FinishedLog(output.parent), self._request_key(clip)
        if found := log.find(output, key=key):
            report.note(f"{source.name}: finished before, as {output}; delete it to make it again")
            return ConvertSummary(**{**found, "output": output})
        summary = self.run(clip, output, report=report)
        log.add(output, key=key, summary=asdict(summary), clip=_describe_clip(source, settings))
        return summary

    def run(self, clip: Clip, output: Path, *, report: Reporter) -> ConvertSummary:
        """Convert a clip, or resume doing so.

        Raises:
            FaceswapError: As `convert` does.
        """
        started = time.monotonic()
        settings = self.settings
        check_output(clip.source, output, codec=settings.codec)
        with output_lock(output):
            model = self.model
            swapper = build_swapper(settings, model)
            sets = find_extracted_sets(clip, self.workspace)
            assignments = self._assign({one.folder.name for one in sets})
            note = _note_once(report)
            folder = parts_folder(output)
            missing = MissingLog(folder / "missing.jsonl", clip)
            face_index = analyze_clip(
                clip,
                assignments,
                sets=sets,
                folder=folder,
                report=report,
                note=note,
                missing=missing.add,
            )
            swapped = face_index.frames_to_swap()
            if not swapped:
                tracks = face_index.tracks()
                shutil.rmtree(folder, ignore_errors=True)
                raise no_match_error(clip.source.name, assignments, tracks)
            boxes = face_index.boxes() if settings.visible_label else None
            faces_digest = face_index.digest()
            renderer = _Renderer(
                clip=clip,
                face_index=face_index,
                identities=[one.identity for one in assignments],
                swapper=swapper,
                label_corner=None if boxes is None else choose_corner(boxes, clip.size),
                batch_size=limit_batch_size(clip.size, requested=settings.batch_size),
                report=report,
                note=note,
                missing=missing.add,
            )
            claim = _build_claim(clip, model, weights=self.weights, settings=settings)
            key = _cache_key(clip, faces_digest, renderer.identities, claim, model)
            target = Output.open(output, clip, key=key, settings=settings)
            frames = renderer.render(target)
            claim = replace(claim, frames=frames, swapped=len(swapped))
            notes = target.finalize(claim, swapped_frames=swapped)
            if not settings.credentials:
                _log_unsigned(self.weights)
            target.cleanup()
            if isinstance(clip.source, VideoSource):
                notes = [*notes, *describe_missing(clip.source, missing.spans)]
            for text in notes:
                report.note(text)
            return ConvertSummary(
                frames=frames,
                swapped=len(swapped),
                passed_through=frames - len(swapped),
                missing_frames=missing.spans.frames,
                missing_seconds=missing.spans.seconds,
                seconds=time.monotonic() - started,
                output=output,
            )

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
        assignments = self._assign({one.folder.name for one in sets})
        reusable = find_reusable_set(sets, clip, assignments)
        parts = {
            "version": __version__,
            "clip": clip.fingerprint(),
            "faces": [(one.selector.canonical_text(), one.identity) for one in assignments],
            "set": reusable.digest() if reusable else None,
            "weights": sha256_file(self.weights),
            "computed": self.model.device_info,
            "settings": asdict(self.settings),
        }
        return _digest(parts)


@dataclass(frozen=True, kw_only=True)
class _Renderer:
    """The second pass: reads the clip, swaps its faces and writes the frames."""

    clip: Clip
    face_index: FaceIndex
    identities: Sequence[str]
    """What each assignment swaps in."""
    swapper: FaceSwapper
    batch_size: int
    label_corner: str | None
    """Corner of the visible label; None: no label."""
    report: Reporter
    note: Callable[[str], None]
    """Called with a line for what is missing or damaged in the file."""
    missing: ReportMissing
    """Called with each time of which the file has no frame."""

    def render(self, output: Output) -> int:
        """Write the frames that are missing in an output; return how many it has then."""
        done = output.writer.frames_done
        if done:
            self.report.note(f"resuming after {done} finished frames")
        identities = " and ".join(dict.fromkeys(self.identities))
        title = f"convert {self.clip.source.name} to {identities}"
        self.report.start_task(title, total=self.clip.approx_frame_count, unit="frames")
        started, done_before = time.monotonic(), done
        with output.writer, closing(self.render_frames(start=done)) as frames:
            for frame in frames:
                output.write(frame)
                done += 1
                rate = (done - done_before) / max(time.monotonic() - started, 1e-9)
                self.report.update(done, {"fps": round(rate, 1)})
        return done

    def render_frames(self, *, start: int) -> Generator[OutputFrame, None, None]:
        """Yield the finished frames from number `start` of the clip on.

        The batch before them is run again: their masks and colors are smoothed over it.
        """
        begin = max(0, (start - TEMPORAL_RADIUS) // self.batch_size * self.batch_size)
        first = self.clip.first_index()
        read = self._read_frames(first + begin)
        depth = min(QUEUE_DEPTH, self.batch_size)
        with ExitStack() as stack:

            def threaded(items: Iterator[Item], depth: int = depth) -> Iterator[Item]:
                return stack.enter_context(closing(prefetch(items, depth=depth)))

            joined = join_faces(threaded(read), self.face_index.iter_tasks(self.identities))
            crops = threaded(crop_faces(joined, self.swapper), self.batch_size)
            layers = threaded(run_model(crops, self.swapper, batch_size=self.batch_size))
            finished = composite_faces(smooth_over_time(layers), self.swapper)
            labeled = add_label(finished, self.label_corner) if self.label_corner else finished
            for frame in threaded(labeled):
                if frame.frame.index >= first + start:
                    yield frame

    def _read_frames(self, index: int) -> Iterator[Frame]:
        """Yield the clip's frames from number `index` on."""
        position = self.face_index.position_before(index)
        for frame in self.clip.frames(note=self.note, resume_after=position, missing=self.missing):
            if frame.index >= index:
                yield frame


def limit_batch_size(size: tuple[int, int], *, requested: int) -> int:
    """Return how many frames the model may process at once, so that memory stays bounded.

    Args:
        size: (width, height) px of the frames.
        requested: Upper limit; the result is at least 1.
    """
    width, height = size
    budget = MAX_FRAME_BYTES / (BYTES_PER_PIXEL * width * height)
    fitting = (batch for batch in range(requested, 1, -1) if _frames_in_flight(batch) <= budget)
    return next(fitting, 1)


def _frames_in_flight(batch_size: int) -> int:
    """Return how many frames `_Renderer.render_frames` holds at once, at most."""
    gathered = 2 * batch_size  # one batch is cropped while another one is in the model
    queued = 3 * min(QUEUE_DEPTH, batch_size)
    threads = 4  # each holds a frame
    return gathered + queued + threads + (2 * TEMPORAL_RADIUS + 1)


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
    clip: Clip, model: FaceModel, *, weights: Path, settings: ConvertSettings
) -> Claim:
    """Return what the output is signed with, but for the numbers of its frames."""
    paths = [clip.source.path] if isinstance(clip.source, VideoSource) else clip.source.paths
    consent = combined_consent_digest(model.origins)
    return Claim(
        frames=0,
        swapped=0,
        model=sha256_file(weights),
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


def _cache_key(
    clip: Clip, faces_digest: str, identities: Sequence[str], claim: Claim, model: FaceModel
) -> str:
    """Return a digest of everything that decides what the frames look like."""
    parts = {
        "version": __version__,
        "clip": clip.fingerprint(),
        "faces": faces_digest,
        "people": list(identities),
        "weights": claim.model,
        "computed": model.device_info,
        "settings": claim.settings,
    }
    return _digest(parts)


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
        append_line(run.log, json.dumps(line))
