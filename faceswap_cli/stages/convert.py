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
from faceswap_cli.ahead import ahead
from faceswap_cli.files import digest
from faceswap_cli.learning import checkpoint
from faceswap_cli.learning.sitting import append_line
from faceswap_cli.provenance.claim import Claim, versions
from faceswap_cli.provenance.consent import agreed
from faceswap_cli.provenance.label import quiet_corner
from faceswap_cli.report import Reporter
from faceswap_cli.swap.clip import Clip
from faceswap_cli.swap.flow import REACH, Finished, cut_out, drawn, held_steady, labelled, laid_over
from faceswap_cli.swap.frame import FaceSwap
from faceswap_cli.swap.looking import surveyed
from faceswap_cli.swap.network import FaceNetwork
from faceswap_cli.swap.output import Output, parts_folder, refuse_name
from faceswap_cli.swap.roles import Role, nobody, parse_roles
from faceswap_cli.swap.settings import ConvertSettings
from faceswap_cli.swap.shown import people_shown
from faceswap_cli.swap.survey import Survey, paired
from faceswap_cli.video.footage import Film
from faceswap_cli.video.reader import Frame
from faceswap_cli.workspace import RunFolder, Workspace

Item = TypeVar("Item")

FRAMES_BYTES = 2**29
"""Memory that the frames on their way may take together."""
WAITING = 4
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
    settings.check()
    clip = Clip.of(source, start_s=settings.start_s, end_s=settings.end_s)
    refuse_name(output, clip, settings)
    folder = parts_folder(output)
    network = FaceNetwork.load(weights, device=device)
    shown = people_shown(clip, workspace)
    roles = parse_roles(settings.faces, to=to, network=network, shown=shown)
    swap = settings.swap(network)
    survey = surveyed(clip, roles, folder=folder, workspace=workspace, report=report)
    swapped = survey.swapped()
    if not swapped:
        tracks = survey.tracks()
        shutil.rmtree(folder, ignore_errors=True)
        raise nobody(clip.footage.name, roles, tracks)
    key = _key(clip, survey, roles, weights=weights, computed=network.computed, settings=settings)
    made = Output.begun(output, clip, key=key, settings=settings)
    work = _Work(
        clip=clip,
        survey=survey,
        people=[role.to for role in roles],
        swap=swap,
        batch=batch_size(clip.size, wanted=settings.batch_size),
        label=quiet_corner(survey.boxes(), clip.size) if settings.label else None,
        report=report,
    )
    frames = work.write(made)
    claim = _claim(clip, network, weights=weights, settings=settings)
    claim = replace(claim, frames=frames, swapped=len(swapped))
    for note in [*made.deliver(claim, swapped=swapped), *_said(claim, weights, settings)]:
        report.note(note)
    made.clear()
    return ConvertSummary(
        frames=frames,
        swapped=len(swapped),
        passed_through=frames - len(swapped),
        seconds=time.monotonic() - started,
        output=output,
    )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """The second reading: frames to frames."""

    clip: Clip
    survey: Survey
    people: Sequence[str]
    """Whose face each role gets."""
    swap: FaceSwap
    batch: int
    label: str | None
    """The corner in which a label is to stand, if one is."""
    report: Reporter

    def write(self, output: Output) -> int:
        """Finish the frames that are missing in an output; return how many it has then."""
        done = output.work.done
        if done:
            self.report.note(f"going on after {done} finished frames")
        people = " and ".join(dict.fromkeys(self.people))
        title = f"convert {self.clip.footage.name} to {people}"
        self.report.stage(title, total=self.clip.count, unit="frames")
        began, before = time.monotonic(), done
        with output.work, closing(self.frames(after=done)) as frames:
            for frame in frames:
                output.write(frame)
                done += 1
                rate = (done - before) / max(time.monotonic() - began, 1e-9)
                self.report.advance(done, {"fps": round(rate, 1)})
        return done

    def frames(self, *, after: int) -> Generator[Finished, None, None]:
        """Yield the finished frames after so many of the clip's first.

        The batch before them is drawn again: their masks and colours lean on it.
        """
        begin = max(0, (after - REACH) // self.batch * self.batch)
        first = self.clip.first()
        read = self._read(first + begin)
        with ExitStack() as stack:

            def threaded(items: Iterator[Item], depth: int = WAITING) -> Iterator[Item]:
                return stack.enter_context(closing(ahead(items, depth=depth)))

            seen = paired(threaded(read), self.survey.faces(self.people))
            cuts = threaded(cut_out(seen, self.swap), self.batch)
            laid = threaded(drawn(cuts, self.swap, batch=self.batch))
            finished = laid_over(held_steady(laid), self.swap)
            marked = labelled(finished, self.label) if self.label else finished
            for frame in threaded(marked):
                if frame.frame.index >= first + after:
                    yield frame

    def _read(self, index: int) -> Iterator[Frame]:
        """Yield the clip's frames from number `index` on."""
        place = self.survey.before(index)
        for frame in self.clip.frames(note=_unheard, after=place):
            if frame.index >= index:
                yield frame


def _unheard(_: str) -> None:
    """Hear nothing: what is missing was told at the first reading."""


def _key(
    clip: Clip,
    survey: Survey,
    roles: Sequence[Role],
    *,
    weights: Path,
    computed: str,
    settings: ConvertSettings,
) -> str:
    """Return a digest of all that decides what the frames look like."""
    told = {
        "version": __version__,
        "clip": clip.known(),
        "faces": survey.digest(),
        "people": [role.to for role in roles],
        "weights": digest(weights),
        "computed": computed,
        "settings": settings.told(),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _claim(clip: Clip, network: FaceNetwork, *, weights: Path, settings: ConvertSettings) -> Claim:
    """Return what is said of the output, but for the numbers of its frames."""
    paths = [clip.footage.path] if isinstance(clip.footage, Film) else clip.footage.paths
    consent = agreed(network.origins)
    return Claim(
        frames=0,
        swapped=0,
        model=digest(weights),
        source=digest(paths[0]) if len(paths) == 1 else None,
        sets=tuple(origin.records for origin in network.origins),
        consent=consent is not None,
        consent_sha256=consent,
        settings=settings.told(),
        versions=versions(),
    )


def _said(claim: Claim, weights: Path, settings: ConvertSettings) -> list[str]:
    """Return what is to be said of consent and credentials; what is unsigned is logged as such."""
    if settings.credentials:
        silent = "no consent is recorded for everybody whose faces this model learned from"
        return [] if claim.consent else [f"{silent}: see extract --consent"]
    run = RunFolder(root=weights.parent)
    if run.recipe.exists():
        seen = checkpoint.describe(weights)["images_seen"]
        told = {"images_seen": seen, "event": "converted without credentials, as was asked"}
        append_line(run.log, json.dumps(told))
    return ["it is not signed and says nothing of the swap, as was asked (--no-credentials)"]


def batch_size(size: tuple[int, int], *, wanted: int) -> int:
    """Return how many frames to show the network at once, so that memory stays bounded.

    One batch is being cut out, one drawn and one laid over, so three times as many are in flight.
    """
    width, height = size
    return max(1, min(wanted, FRAMES_BYTES // (3 * 3 * width * height)))
