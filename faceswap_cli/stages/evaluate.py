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

from faceswap_cli import pictures
from faceswap_cli.errors import InputError, NoFacesError
from faceswap_cli.faces.align import transform
from faceswap_cli.faces.detectors import DEFAULT, DETECTORS
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.files import explained, write_text
from faceswap_cli.metrics.album import Album
from faceswap_cli.metrics.evaluation import Evaluation, Moment, worst
from faceswap_cli.metrics.evaluation_page import evaluation_page
from faceswap_cli.metrics.identity import centre
from faceswap_cli.metrics.summary import Array, People, Sight, measures
from faceswap_cli.report import Reporter
from faceswap_cli.truth.judging import Judges, Shot, TellsApart, Watch
from faceswap_cli.video.reader import Frame, probe, read_frames

REFERENCES = 16
"""Faces of a set that a person is known by."""
LOOKS: Mapping[str, int] = {"dlib": 40, "sface": 180, "lpips": 40}
"""Most frames of a clip that a slow judge looks at, spread evenly."""


def evaluate(
    swapped: Path,
    *,
    source: Path,
    identity: FaceSet,
    others: Sequence[FaceSet] = (),
    truth: Path | None = None,
    report: Reporter,
) -> Evaluation:
    """Compare a swapped video with the original, frame by frame.

    Args:
        swapped: The swapped video.
        source: The original one: as many frames of the same size.
        identity: Faces of the wanted person.
        others: Faces of other people among whom the wanted one must be found.
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
    return evaluate_shots(
        _paired(source, swapped, truth, report=report),
        names=(swapped.name, source.name),
        count=probe(source).frame_count,
        identity=identity,
        others=others,
        report=report,
    )


def evaluate_shots(
    shots: Iterable[Shot],
    *,
    names: tuple[str, str] = ("swapped", "original"),
    count: int | None = None,
    identity: FaceSet,
    others: Sequence[FaceSet] = (),
    report: Reporter,
) -> Evaluation:
    """Compare frames that are already there, in the order of showing.

    Args:
        shots: The frames of both videos.
        names: What the swapped and the original footage are called.
        count: How many shots there are, as far as known.
        identity: Faces of the wanted person.
        others: Faces of other people among whom the wanted one must be found.
        report: Hears how far it is.

    Raises:
        NoFacesError: There is no face in the original, or in a set.
    """
    for faces in (identity, *others):
        if not len(faces):
            raise NoFacesError(f'there is no face in the set "{faces.name}"')
    shots = iter(shots)
    first = next(shots, None)
    if first is None:
        raise NoFacesError(f"there is no frame in {names[1]}")
    judges = Judges.open(has_truth=first.truth is not None)
    every = {name: math.ceil((count or most) / most) for name, most in LOOKS.items()}
    report.stage("comparing", total=count, unit="frames")
    with tempfile.TemporaryFile() as file, DETECTORS[DEFAULT]() as detector:
        album = Album(file)
        watch = Watch(detector, judges, every=every)
        sights = []
        for index, shot in enumerate(chain([first], shots)):
            sights.append(watch.look(shot))
            album.keep(watch.picture(shot))
            report.advance(index + 1)
        found_in = sum(sight.driving is not None for sight in sights)
        if not found_in:
            raise NoFacesError(f"no face was found in {names[1]}")
        report.stage("recognising", total=None, unit="faces")
        people = _people(judges, sights, identity, others)
        found = measures(sights, people=people, missing=judges.missing())
        times = np.array([sight.time for sight in sights])
        moments = [
            Moment(
                index=index,
                time=float(times[index]),
                metric=metric,
                value=value,
                pictures=album.pictures(index),
            )
            for index, metric, value in worst(found, times)
        ]
    return Evaluation(
        swapped=names[0],
        source=names[1],
        identity=identity.name,
        frames=len(sights),
        faces=found_in,
        times=times,
        measures=found,
        moments=moments,
    )


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """Make a folder before minutes are spent on what goes into it; if nothing does, it goes too.

    Raises:
        InputError: It cannot be made.
    """
    was_there = folder.exists()
    with explained(folder):
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
    write_text(page, evaluation_page(evaluation))
    return {"numbers": str(numbers), "page": str(page)}


def _paired(source: Path, swapped: Path, truth: Path | None, *, report: Reporter) -> Iterator[Shot]:
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
        yield Shot(
            time=float(before.time),
            original=before.image,
            swapped=after.image,
            truth=true.image if true else None,
        )


# --- people -------------------------------------------------------------------------------------


def _people(
    judges: Judges, sights: Sequence[Sight], identity: FaceSet, others: Sequence[FaceSet]
) -> dict[str, People]:
    """Return everybody's centre, by each network that tells people apart."""
    people = {}
    for name, judge in judges.recognise.items():
        seen = [sight.driving.directions.get(name) for sight in sights if sight.driving]
        original = centre(np.stack([one for one in seen if one is not None]))
        known = [_centre_of(one, judge) for one in (identity, *others)]
        people[name] = People(
            wanted=known[0],
            original=original,
            others=np.stack(known[1:]) if others else np.empty((0, len(original))),
        )
    return people


def _centre_of(faces: FaceSet, judge: TellsApart) -> Array:
    """Return the centre of a set's faces."""
    chosen = np.unique(np.linspace(0, len(faces) - 1, REFERENCES).round().astype(int))
    directions = []
    for record in (faces.records[index] for index in chosen):
        crop = pictures.read(faces.path(record))
        landmarks = transform(record.landmarks, record.alignment.matrix(crop.shape[0]))
        directions.append(judge.direction(crop, landmarks))
    return centre(np.stack(directions))
