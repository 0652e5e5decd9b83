"""Faces: what a set holds, what it had better not hold, and what another set lacks.

Nothing is ever deleted: dropped crops are moved to the set's `rejected` folder and come back with
one word. Their lines stay in `faces.jsonl`; a crop that is not there is out of the set.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceswap_cli import page
from faceswap_cli.errors import ConfigurationError, InputError, NoFacesError, did_you_mean
from faceswap_cli.faces.coverage import (
    EXPRESSION_MARKS,
    YAW_STEPS,
    Coverage,
    Gap,
    coverage,
    gaps,
)
from faceswap_cli.faces.detect import EXPRESSIONS
from faceswap_cli.faces.flaws import FLAWS, Marks, find_flaws, likeness
from faceswap_cli.faces.looks import Looks, look
from faceswap_cli.faces.record import FaceRecord, FaceSet
from faceswap_cli.faces.sface import SFace
from faceswap_cli.files import explained, write_text
from faceswap_cli.report import Reporter
from faceswap_cli.weights import find
from faceswap_cli.workspace import SetFolder, Workspace

MOST_SHOWN = 4000
"""Pictures on a page: some 12 MB, which a browser still sorts in a moment."""
MOST_GAPS = 8
"""Things said to be lacking: the most frequent ones."""

NUMBERS = (
    "time, s",
    "sharpness",
    "yaw",
    "pitch",
    "roll",
    "jaw open",
    "eyes shut",
    "smile",
    "cut off",
    "size in the frame, px",
    "score",
    "likeness",
)
"""What a page can be sorted by."""


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """What a set holds."""

    name: str
    faces: int
    rejected: int
    """Crops moved out of it."""
    flawed: Mapping[str, int]
    """Faces by flaw: the names in `FLAWS`."""
    coverage: Coverage

    def counts(self) -> dict[str, int]:
        """Return the counts by what they count."""
        return {"faces": self.faces, "rejected": self.rejected, **self.flawed}


@dataclass(frozen=True, kw_only=True)
class FacesSummary:
    """What was found about one set or two."""

    sets: Sequence[SetSummary]
    lacking: Mapping[str, Sequence[Gap]]
    """By the set that lacks it, what the other one shows."""
    page: Path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return what a terminal shows: title, columns and rows of each table."""
        names = [one.name for one in self.sets]
        counts = [list(map(str, row)) for row in _count_rows(self.sets)]
        poses = [
            (
                f"where {one.name} looks",
                ["", *YAW_STEPS],
                [list(map(str, row)) for row in _pose_rows(one.coverage)],
            )
            for one in self.sets
        ]
        return [
            ("faces", ["", *names], counts),
            *poses,
            ("share of the faces with", ["", *names], _expression_rows(self.sets)),
        ]

    def advice(self) -> list[str]:
        """Return what footage to add, one sentence each."""
        names = [one.name for one in self.sets]
        return [
            gap.sentence(other, lacks)
            for lacks, found in self.lacking.items()
            for other in names
            if other != lacks
            for gap in found
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen:
    """A set that was looked at."""

    folder: SetFolder
    faces: FaceSet
    looks: Looks
    flaws: Mapping[str, Marks]

    def summary(self) -> SetSummary:
        """Return what it holds."""
        return SetSummary(
            name=self.folder.name,
            faces=len(self.faces),
            rejected=len(_rejected(self.folder)),
            flawed={flaw: int(marks.sum()) for flaw, marks in self.flaws.items()},
            coverage=coverage(self.faces.records),
        )


def faces(names: Sequence[str], *, workspace: Workspace, report: Reporter) -> FacesSummary:
    """Say what one set holds, or what each of two does; leave a page to look through.

    Args:
        names: One set or two.
        workspace: Where they are.
        report: Hears how far it is.

    Raises:
        ConfigurationError: There is no such set.
        NoFacesError: A set is empty.
        InputError: A crop cannot be read.
    """
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f'the set "{names[0]}" is named twice', hint=f"faceswap faces {names[0]} shows it alone"
        )
    seen = [_look(workspace.existing_set(name), report) for name in names]
    pairs = [(one, other) for one in seen for other in seen if one is not other]
    summary = FacesSummary(
        sets=[one.summary() for one in seen],
        lacking={
            lacks.folder.name: gaps(shows.faces.records, lacks.faces.records)[:MOST_GAPS]
            for shows, lacks in pairs
        },
        page=workspace.faces_page(*names),
    )
    write_text(summary.page, _page(seen, summary))
    return summary


def drop(folder: SetFolder, flaws: Collection[str], *, report: Reporter) -> int:
    """Move a set's crops that have one of the flaws to its `rejected` folder; return how many.

    Raises:
        ConfigurationError: There is no such flaw.
        NoFacesError: The set is empty.
        InputError: A crop cannot be read or moved.
    """
    if not flaws:
        raise ConfigurationError(
            "--drop names no flaw", hint=f"name one or more: --drop {','.join(FLAWS)}"
        )
    for flaw in flaws:
        if flaw not in FLAWS:
            raise ConfigurationError(
                f'there is no flaw called "{flaw}"', hint=did_you_mean(flaw, FLAWS)
            )
    seen = _look(folder, report)
    marks = np.logical_or.reduce([seen.flaws[flaw] for flaw in flaws])
    flawed = [
        seen.faces.path(record)
        for record, mark in zip(seen.faces.records, marks, strict=True)
        if mark
    ]
    with explained(folder.rejected):
        folder.rejected.mkdir(exist_ok=True)
    return sum(_moved(path, folder.rejected, report) for path in flawed)


def undo(folder: SetFolder, *, report: Reporter) -> int:
    """Bring all of a set's rejected crops back; return how many.

    Raises:
        InputError: The system does not let them be moved.
    """
    return sum(_moved(path, folder.root, report) for path in _rejected(folder))


def _moved(path: Path, folder: Path, report: Reporter) -> bool:
    """Move a crop into a folder, unless another of its name is there; return whether it was."""
    if (folder / path.name).exists():
        report.note(f"{path} stays where it is: {folder} has another crop of that name")
        return False
    with explained(folder):
        path.rename(folder / path.name)
    return True


def _rejected(folder: SetFolder) -> list[Path]:
    """Return a set's rejected crops."""
    if not folder.rejected.is_dir():
        return []
    return sorted(
        path
        for path in folder.rejected.iterdir()
        if path.is_file() and not path.name.startswith(".")
    )


def _look(folder: SetFolder, report: Reporter) -> _Seen:
    """Look at a set's crops and find their flaws."""
    faces = FaceSet.of(folder)
    if not faces.records:
        raise NoFacesError(
            f'the set "{folder.name}" has no crops',
            hint=f"bring dropped ones back: faceswap faces {folder.name} --undo",
        )
    report.stage(f"look at {folder.name}", total=len(faces), unit="crops")
    looks = look(faces, cache=folder.looks, sface=_sface(report), advance=report.advance)
    return _Seen(folder=folder, faces=faces, looks=looks, flaws=find_flaws(faces.records, looks))


def _sface(report: Reporter) -> Callable[[], SFace] | None:
    """Return what loads the model that tells people apart; None, and a note, without its file."""
    try:
        file = find("sface")
    except InputError as error:
        report.note(f"other people are not looked for: {error.message}")
        return None
    return lambda: SFace(file)


# --- the page -----------------------------------------------------------------------------------


def _page(seen: Sequence[_Seen], summary: FacesSummary) -> str:
    """Return the page on which one set or two can be looked through."""
    names = [one.name for one in summary.sets]
    about = ", ".join(f"{one.name}: {one.faces:,} faces" for one in summary.sets)
    pieces = [page.table(["", *names], _count_rows(summary.sets))]
    for lacks in summary.lacking:
        pieces.append(page.heading(f"What {lacks} lacks"))
        told = [text for text in summary.advice() if text.endswith(f" of {lacks}")]
        pieces += map(page.paragraph, told or ["Nothing that the other set shows."])
    for one in summary.sets:
        pieces.append(page.heading(f"Where {one.name} looks, left and right as in the image"))
        pieces.append(page.table(["", *YAW_STEPS], _pose_rows(one.coverage)))
    pieces.append(page.heading("Expressions"))
    pieces.append(page.table(["share of the faces with", *names], _expression_rows(summary.sets)))
    for each in seen:
        pieces.append(page.heading(f"The faces of {each.folder.name}"))
        pieces += _gallery(each)
    return page.page(f"faces of {' and '.join(names)}", about, pieces)


def _count_rows(sets: Sequence[SetSummary]) -> list[list[str | float]]:
    """Return the counts of each set, one column a set, with what each flaw means."""
    return [
        [f"{what}: {FLAWS[what]}" if what in FLAWS else what, *(one.counts()[what] for one in sets)]
        for what in sets[0].counts()
    ]


def _pose_rows(shown: Coverage) -> list[list[str | float]]:
    """Return a set's faces by pitch and yaw as the rows of a table."""
    return [[pitch, *counts.values()] for pitch, counts in shown.poses.items()]


def _expression_rows(sets: Sequence[SetSummary]) -> list[list[str]]:
    """Return the shares of expressions, one column a set, as the rows of a table."""
    return [
        [name, *(f"{one.coverage.expressions[name]:.0%}" for one in sets)]
        for name in EXPRESSION_MARKS
    ]


def _gallery(one: _Seen) -> list[str]:
    """Return a set's pictures, those with a flaw first to be shown if there are too many."""
    records = one.faces.records
    flawed = np.logical_or.reduce(list(one.flaws.values()))
    places = shown_places(flawed)
    likenesses = likeness(one.looks.directions)
    tiles = [
        page.Tile(
            jpeg=one.looks.jpegs[i],
            title=f"{records[i].file}, {float(records[i].time):.2f} s",
            numbers=[*_numbers(records[i]), float(likenesses[i])],
            marks=[flaw for flaw, marks in one.flaws.items() if marks[i]],
        )
        for i in places
    ]
    told = []
    if len(places) < len(records):
        told = [
            page.paragraph(
                f"{len(places):,} of {len(records):,} are shown: flawed ones first, then some "
                "spread evenly over the others."
            )
        ]
    return [*told, page.gallery(tiles, numbers=NUMBERS, marks=list(FLAWS))]


def shown_places(flawed: Marks, most: int = MOST_SHOWN) -> list[int]:
    """Return which faces a page shows, in order: at most `most`, those with a flaw first."""
    chosen: list[int] = []
    for places in (np.flatnonzero(flawed), np.flatnonzero(~flawed)):
        room = most - len(chosen)
        if len(places) > room:
            places = places[np.linspace(0, len(places) - 1, room).round().astype(np.int64)]
        chosen += places.tolist()
    return sorted(set(chosen))


def _numbers(record: FaceRecord) -> list[float]:
    """Return what a face can be sorted by, but for its likeness: the other `NUMBERS`."""
    return [
        float(record.time),
        record.sharpness,
        *record.pose,
        _mean(record, "jawOpen"),
        _mean(record, "eyeBlinkLeft", "eyeBlinkRight"),
        _mean(record, "mouthSmileLeft", "mouthSmileRight"),
        record.cut_off,
        record.alignment.side_px,
        record.score,
    ]


def _mean(record: FaceRecord, *names: str) -> float:
    """Return the mean of some coefficients of expression."""
    return float(np.mean([record.expression[EXPRESSIONS.index(name)] for name in names]))
