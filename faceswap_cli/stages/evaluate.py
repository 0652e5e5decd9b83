"""How good a swap is: both videos side by side, frame by frame, then numbers, a page, a file.

Every frame of the swapped footage is compared with the same frame of the original: who it is now,
whether it still does what was done, whether it trembles, and what gives it away.
"""

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError, NoFacesError
from faceswap_cli.core.fileio import translate_os_errors, write_text
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.aggregate import (
    Array,
    FrameMeasurement,
    IdentityCentroids,
    compute_metrics,
)
from faceswap_cli.evaluation.evaluation import Evaluation, WorstFrame, find_worst_frames
from faceswap_cli.evaluation.frame_eval import FrameEvaluator, FramePair
from faceswap_cli.evaluation.frame_store import FrameStore
from faceswap_cli.evaluation.metrics.external_models import EvalModels, IdentityModel
from faceswap_cli.evaluation.report import render_report
from faceswap_cli.faces.alignment import transform_points
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.faces.embedding import compute_centroid
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames

MAX_REFERENCES = 16
"""Faces of a set that a person is known by."""
MAX_SLOW_FRAMES: Mapping[str, int] = {"dlib": 40, "sface": 180, "lpips": 40}
"""Most frames of a clip that a slow judge looks at, spread evenly."""


def evaluate_and_write(
    swapped: Path,
    *,
    original: Path,
    identity: str,
    distractors: Sequence[str] = (),
    ground_truth: Path | None = None,
    output: Path,
    workspace: Workspace,
    report: Reporter,
) -> tuple[Evaluation, dict[str, str]]:
    """Evaluate a swapped video with sets of a workspace; return the result and its files' paths.

    Args:
        swapped: The swapped video.
        original: The video that it was made from.
        identity: Set of the target identity.
        distractors: Sets of other identities, which the target must be distinguished from.
        ground_truth: A video of the true swap.
        output: Folder of the results.
        workspace: Holds the sets.
        report: Receives the progress.

    Raises:
        ConfigurationError: There is no such set.
        FaceswapError: As `evaluate` does.
    """
    for video in (swapped, original, *([ground_truth] if ground_truth else [])):
        probe(video)  # an error in a file's name is reported before one in a set's
    target, *others = [
        FaceSet.from_folder(workspace.require_set(name)) for name in (identity, *distractors)
    ]
    with output_folder(output):
        evaluation = evaluate(
            swapped,
            source=original,
            identity=target,
            distractors=others,
            truth=ground_truth,
            report=report,
        )
        return evaluation, write_evaluation(evaluation, output)


def evaluate(
    swapped: Path,
    *,
    source: Path,
    identity: FaceSet,
    distractors: Sequence[FaceSet] = (),
    truth: Path | None = None,
    report: Reporter,
) -> Evaluation:
    """Compare a swapped video with the original, frame by frame.

    Args:
        swapped: The swapped video.
        source: The original one: as many frames of the same size.
        identity: Faces of the wanted person.
        distractors: Faces of other people among whom the wanted one must be found.
        truth: A video of the true swap, where one exists.
        report: Hears how far it is.

    Raises:
        InputError: A video cannot be read, or they do not belong together.
        NoFacesError: There is no face in the original, or in a set.
    """
    sizes = {path: probe(path).size for path in (source, swapped, *([truth] if truth else []))}
    for path, size in sizes.items():
        if size != sizes[source]:
            raise InputError(
                f"{path.name} is {size[0]} x {size[1]} px, and {source.name} is "
                f"{sizes[source][0]} x {sizes[source][1]}",
                hint="compare a swapped video with the one it was made from",
            )
    return evaluate_frames(
        _read_frame_pairs(source, swapped, truth, report=report),
        names=(swapped.name, source.name),
        frame_count=probe(source).frame_count,
        identity=identity,
        distractors=distractors,
        report=report,
    )


def evaluate_frames(
    frames: Iterable[FramePair],
    *,
    names: tuple[str, str] = ("swapped", "original"),
    frame_count: int | None = None,
    identity: FaceSet,
    distractors: Sequence[FaceSet] = (),
    report: Reporter,
) -> Evaluation:
    """Compare frames that are already there, in the order of showing.

    Args:
        frames: The frames of both videos.
        names: What the swapped and the original footage are called.
        frame_count: How many shots there are, as far as known.
        identity: Faces of the wanted person.
        distractors: Faces of other people among whom the wanted one must be found.
        report: Hears how far it is.

    Raises:
        NoFacesError: There is no face in the original, or in a set.
    """
    for faces in (identity, *distractors):
        if not len(faces):
            raise NoFacesError(f'there is no face in the set "{faces.name}"')
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise NoFacesError(f"there is no frame in {names[1]}")
    judges = EvalModels.open(has_truth=first.truth is not None)
    every = {
        name: math.ceil((frame_count or most) / most) for name, most in MAX_SLOW_FRAMES.items()
    }
    report.start_task("comparing", total=frame_count, unit="frames")
    with tempfile.TemporaryFile() as file, DETECTORS[DEFAULT_DETECTOR]() as detector:
        album = FrameStore(file)
        watch = FrameEvaluator(detector, judges, intervals=every)
        sights = []
        for index, shot in enumerate(chain([first], frames)):
            sights.append(watch.evaluate(shot))
            album.append(watch.encode_images(shot))
            report.update(index + 1)
        found_in = sum(sight.original is not None for sight in sights)
        if not found_in:
            raise NoFacesError(f"no face was found in {names[1]}")
        report.start_task("recognising", total=None, unit="faces")
        people = _compute_centroids(judges, sights, identity, distractors)
        found = compute_metrics(sights, centroids=people, missing_reasons=judges.missing_reasons())
        times = np.array([sight.time for sight in sights])
        moments = [
            WorstFrame(
                index=index,
                time=float(times[index]),
                metric=metric,
                value=value,
                images=album.read(index),
            )
            for index, metric, value in find_worst_frames(found, times)
        ]
    return Evaluation(
        swapped=names[0],
        source=names[1],
        identity=identity.name,
        frame_count=len(sights),
        face_count=found_in,
        times=times,
        results=found,
        worst_frames=moments,
    )


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Make a folder before minutes are spent on what goes into it; if nothing does, it goes too.

    Raises:
        InputError: It cannot be made.
    """
    was_there = folder.exists()
    with translate_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        if not was_there:
            with suppress(OSError):  # it is not empty: something went into it
                folder.rmdir()


def write_evaluation(evaluation: Evaluation, folder: Path) -> dict[str, str]:
    """Write evaluation.json and evaluation.html into `folder`; return where, by what it is."""
    numbers, page = folder / "evaluation.json", folder / "evaluation.html"
    write_text(numbers, evaluation.to_json())
    write_text(page, render_report(evaluation))
    return {"numbers": str(numbers), "page": str(page)}


def _read_frame_pairs(
    source: Path, swapped: Path, truth: Path | None, *, report: Reporter
) -> Iterator[FramePair]:
    """Yield the frames of the videos together.

    Raises:
        InputError: One of them ends before the others.
    """
    true_frames: Iterable[Frame | None] = read_frames(truth) if truth else ()
    videos = zip_longest(read_frames(source), read_frames(swapped), true_frames)
    for before, after, true in videos:
        if before is None or after is None or (truth and true is None):
            ended = after or before
            assert ended is not None
            report.note(f"one of the videos ends at frame {ended.index}: the rest is left out")
            return
        yield FramePair(
            time=float(before.time),
            original=before.image,
            swapped=after.image,
            truth=true.image if true else None,
        )


# --- people -------------------------------------------------------------------------------------


def _compute_centroids(
    models: EvalModels,
    frames: Sequence[FrameMeasurement],
    identity: FaceSet,
    distractors: Sequence[FaceSet],
) -> dict[str, IdentityCentroids]:
    """Return everybody's centre, by each network that tells people apart."""
    people = {}
    for name, judge in models.identity.items():
        seen = [sight.original.embeddings.get(name) for sight in frames if sight.original]
        original = compute_centroid(np.stack([one for one in seen if one is not None]))
        known = [_set_centroid(one, judge) for one in (identity, *distractors)]
        people[name] = IdentityCentroids(
            target=known[0],
            original=original,
            distractors=np.stack(known[1:]) if distractors else np.empty((0, len(original))),
        )
    return people


def _set_centroid(faces: FaceSet, model: IdentityModel) -> Array:
    """Return the centre of a set's faces."""
    chosen = np.unique(np.linspace(0, len(faces) - 1, MAX_REFERENCES).round().astype(int))
    directions = []
    for record in (faces.records[index] for index in chosen):
        crop = image_io.read_image(faces.path(record))
        landmarks = transform_points(
            record.landmarks, record.alignment.frame_to_crop(crop.shape[0])
        )
        directions.append(model.embed(crop, landmarks))
    return compute_centroid(np.stack(directions))
