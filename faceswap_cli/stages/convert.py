"""Convert: footage goes in, the same footage with another face comes out.

    frames -> faces, over the whole clip            (survey: who is where, held steady)
    frames -> network, in batches -> composite -> encoder

It is read twice: whoever lays a face into a frame must know what comes after it. Frames are
streamed, each arrow of the second line a bounded queue with a thread on either side. What is
finished is kept, and the same command goes on after it. Everything but the pixels under the mask
is carried over; a frame without a face passes through untouched.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from faceswap_cli import __version__
from faceswap_cli.conversion.analysis import analyze_clip
from faceswap_cli.conversion.assignment import FaceAssignment, no_match_error, parse_assignments
from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.face_index import FaceIndex, join_faces
from faceswap_cli.conversion.known_sets import find_source_identities
from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.conversion.output import Output, parts_folder, validate_output_path
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
from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.core.prefetch import prefetch
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.provenance.claim import Claim, package_versions
from faceswap_cli.provenance.consent import combined_consent_digest
from faceswap_cli.provenance.visible_label import choose_corner
from faceswap_cli.training import checkpoint
from faceswap_cli.training.session import append_line
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.source import VideoSource

Item = TypeVar("Item")

MAX_FRAME_BYTES = 2**29
"""Memory that the frames on their way may take together."""
QUEUE_DEPTH = 4
"""Frames that may wait between two threads where no batch is gathered."""


@dataclass(frozen=True, kw_only=True)
class ConvertSummary:
    """What became of some footage."""

    frames: int
    """Frames written."""
    swapped: int
    """Frames that got another face."""
    passed_through: int
    """Frames without a face, untouched."""
    seconds: float
    """Wall time of this run."""
    output: Path


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
    """Write `source` to `output` with other faces, going on where a run stopped.

    Args:
        source: A video, a picture or a folder of pictures; everything but the faces is carried
            over.
        weights: Trained weights, as `train` leaves them.
        to: Whose face to put on those who are given none by the settings; None takes the last of
            the people the model knows whom the clip does not show.
        output: Appears under this name when it is finished, not before.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: Hears how far it is.
        settings: Whose faces are replaced, and how they are laid in.
        workspace: Where the people's sets are, which tell whom a clip shows, and where.

    Raises:
        InputError: The source cannot be read, or the output cannot be written.
        ConfigurationError: The model does not know a name, or a setting is wrong.
        CheckpointError: The weights cannot be used.
        NoFacesError: The face that was asked for is not in the whole clip; nothing is left behind.
    """
    started = time.monotonic()
    settings = settings or ConvertSettings()
    validate_settings(settings)
    clip = Clip.open(source, start_s=settings.start_s, end_s=settings.end_s)
    validate_output_path(output, clip, settings)
    folder = parts_folder(output)
    network = FaceModel.load(weights, device=device)
    shown = find_source_identities(clip, workspace)
    roles = parse_assignments(settings.faces, to=to, model=network, source_identities=shown)
    swap = build_swapper(settings, network)
    survey = analyze_clip(clip, roles, folder=folder, workspace=workspace, report=report)
    swapped = survey.frames_to_swap()
    if not swapped:
        tracks = survey.tracks()
        shutil.rmtree(folder, ignore_errors=True)
        raise no_match_error(clip.source.name, roles, tracks)
    key = _cache_key(
        clip, survey, roles, weights=weights, device_info=network.device_info, settings=settings
    )
    made = Output.open(output, clip, key=key, settings=settings)
    work = _Renderer(
        clip=clip,
        face_index=survey,
        identities=[role.identity for role in roles],
        swapper=swap,
        batch_size=limit_batch_size(clip.size, requested=settings.batch_size),
        label_corner=choose_corner(survey.boxes(), clip.size) if settings.visible_label else None,
        report=report,
    )
    frames = work.render(made)
    claim = _build_claim(clip, network, weights=weights, settings=settings)
    claim = replace(claim, frames=frames, swapped=len(swapped))
    for note in [*made.finalize(claim, swapped_frames=swapped), *_notes(claim, weights, settings)]:
        report.note(note)
    made.cleanup()
    return ConvertSummary(
        frames=frames,
        swapped=len(swapped),
        passed_through=frames - len(swapped),
        seconds=time.monotonic() - started,
        output=output,
    )


@dataclass(frozen=True, kw_only=True)
class _Renderer:
    """The second reading: frames to frames."""

    clip: Clip
    face_index: FaceIndex
    identities: Sequence[str]
    """Whose face each role gets."""
    swapper: FaceSwapper
    batch_size: int
    label_corner: str | None
    """The corner in which a label is to stand, if one is."""
    report: Reporter

    def render(self, output: Output) -> int:
        """Finish the frames that are missing in an output; return how many it has then."""
        done = output.writer.frames_done
        if done:
            self.report.note(f"going on after {done} finished frames")
        people = " and ".join(dict.fromkeys(self.identities))
        title = f"convert {self.clip.source.name} to {people}"
        self.report.start_task(title, total=self.clip.approx_frame_count, unit="frames")
        began, before = time.monotonic(), done
        with output.writer, closing(self.render_frames(after=done)) as frames:
            for frame in frames:
                output.write(frame)
                done += 1
                rate = (done - before) / max(time.monotonic() - began, 1e-9)
                self.report.update(done, {"fps": round(rate, 1)})
        return done

    def render_frames(self, *, after: int) -> Generator[OutputFrame, None, None]:
        """Yield the finished frames after so many of the clip's first.

        The batch before them is drawn again: their masks and colours lean on it.
        """
        begin = max(0, (after - TEMPORAL_RADIUS) // self.batch_size * self.batch_size)
        first = self.clip.first_index()
        read = self._read_frames(first + begin)
        with ExitStack() as stack:

            def threaded(items: Iterator[Item], depth: int = QUEUE_DEPTH) -> Iterator[Item]:
                return stack.enter_context(closing(prefetch(items, depth=depth)))

            seen = join_faces(threaded(read), self.face_index.iter_tasks(self.identities))
            cuts = threaded(crop_faces(seen, self.swapper), self.batch_size)
            laid = threaded(run_model(cuts, self.swapper, batch_size=self.batch_size))
            finished = composite_faces(smooth_over_time(laid), self.swapper)
            marked = add_label(finished, self.label_corner) if self.label_corner else finished
            for frame in threaded(marked):
                if frame.frame.index >= first + after:
                    yield frame

    def _read_frames(self, index: int) -> Iterator[Frame]:
        """Yield the clip's frames from number `index` on."""
        place = self.face_index.position_before(index)
        for frame in self.clip.frames(note=_ignore_note, resume_after=place):
            if frame.index >= index:
                yield frame


def _ignore_note(_: str) -> None:
    """Hear nothing: what is missing was told at the first reading."""


def _cache_key(
    clip: Clip,
    face_index: FaceIndex,
    assignments: Sequence[FaceAssignment],
    *,
    weights: Path,
    device_info: str,
    settings: ConvertSettings,
) -> str:
    """Return a digest of all that decides what the frames look like."""
    told = {
        "version": __version__,
        "clip": clip.fingerprint(),
        "faces": face_index.digest(),
        "people": [role.identity for role in assignments],
        "weights": sha256_file(weights),
        "computed": device_info,
        "settings": settings.render_settings(),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _build_claim(
    clip: Clip, model: FaceModel, *, weights: Path, settings: ConvertSettings
) -> Claim:
    """Return what is said of the output, but for the numbers of its frames."""
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


def _notes(claim: Claim, weights: Path, settings: ConvertSettings) -> list[str]:
    """Return what is to be said of consent and credentials; what is unsigned is logged as such."""
    if settings.credentials:
        silent = "no consent is recorded for everybody whose faces this model learned from"
        return [] if claim.consent else [f"{silent}: see extract --consent"]
    run = RunFolder(root=weights.parent)
    if run.recipe.exists():
        seen = checkpoint.read_metadata(weights)["images_seen"]
        told = {"images_seen": seen, "event": "converted without credentials, as was asked"}
        append_line(run.log, json.dumps(told))
    return ["it is not signed and says nothing of the swap, as was asked (--no-credentials)"]


def limit_batch_size(size: tuple[int, int], *, requested: int) -> int:
    """Return how many frames to show the network at once, so that memory stays bounded.

    One batch is being cut out, one drawn and one laid over, so three times as many are in flight.
    """
    width, height = size
    return max(1, min(requested, MAX_FRAME_BYTES // (3 * 3 * width * height)))
