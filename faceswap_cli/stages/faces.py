"""Faces: what a set holds, what it had better not hold, and what another set lacks.

Nothing is ever deleted: dropped crops are moved to the set's `rejected` folder and come back with
one word. Their lines stay in `faces.jsonl`; a crop that is not there is out of the set.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceswap_cli.core import html_page
from faceswap_cli.core.errors import ConfigurationError, InputError, NoFacesError, did_you_mean
from faceswap_cli.core.fileio import translate_os_errors, write_text
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import SetFolder, Workspace
from faceswap_cli.faces.curation.crop_features import SetFeatures, compute_features
from faceswap_cli.faces.curation.outliers import (
    OUTLIER_TYPES,
    BoolArray,
    find_outliers,
    identity_similarity,
)
from faceswap_cli.faces.curation.pose_coverage import (
    EXPRESSION_RULES,
    YAW_BINS,
    CoverageGap,
    PoseCoverage,
    find_gaps,
    measure_coverage,
)
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.embedding import SFace
from faceswap_cli.faces.types import BLENDSHAPE_NAMES

MAX_TILES = 4000
"""Pictures on a page: some 12 MB, which a browser still sorts in a moment."""
MAX_GAPS = 8
"""Things said to be lacking: the most frequent ones."""

SORT_KEYS = (
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
    coverage: PoseCoverage

    def counts(self) -> dict[str, int]:
        """Return the counts by what they count."""
        return {"faces": self.faces, "rejected": self.rejected, **self.flawed}


@dataclass(frozen=True, kw_only=True)
class FacesSummary:
    """What was found about one set or two."""

    sets: Sequence[SetSummary]
    lacking: Mapping[str, Sequence[CoverageGap]]
    """By the set that lacks it, what the other one shows."""
    page: Path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return what a terminal shows: title, columns and rows of each table."""
        names = [one.name for one in self.sets]
        counts = [list(map(str, row)) for row in _count_rows(self.sets)]
        poses = [
            (
                f"where {one.name} looks",
                ["", *YAW_BINS],
                [list(map(str, row)) for row in _pose_rows(one.coverage)],
            )
            for one in self.sets
        ]
        return [
            ("faces", ["", *names], counts),
            *poses,
            ("share of the faces with", ["", *names], _expression_rows(self.sets)),
        ]

    def hints(self) -> list[str]:
        """Return what footage to add, one sentence each."""
        names = [one.name for one in self.sets]
        return [
            gap.to_sentence(other, lacks)
            for lacks, found in self.lacking.items()
            for other in names
            if other != lacks
            for gap in found
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _InspectedSet:
    """A set that was looked at."""

    folder: SetFolder
    faces: FaceSet
    features: SetFeatures
    outliers: Mapping[str, BoolArray]

    def summarize(self) -> SetSummary:
        """Return what it holds."""
        return SetSummary(
            name=self.folder.name,
            faces=len(self.faces),
            rejected=len(_rejected_crops(self.folder)),
            flawed={flaw: int(marks.sum()) for flaw, marks in self.outliers.items()},
            coverage=measure_coverage(self.faces.records),
        )


def inspect_sets(names: Sequence[str], *, workspace: Workspace, report: Reporter) -> FacesSummary:
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
    seen = [_inspect_set(workspace.require_set(name), report) for name in names]
    pairs = [(one, other) for one in seen for other in seen if one is not other]
    summary = FacesSummary(
        sets=[one.summarize() for one in seen],
        lacking={
            lacks.folder.name: find_gaps(shows.faces.records, lacks.faces.records)[:MAX_GAPS]
            for shows, lacks in pairs
        },
        page=workspace.faces_page(*names),
    )
    write_text(summary.page, _render_page(seen, summary))
    return summary


def reject_faces(folder: SetFolder, outlier_types: Collection[str], *, report: Reporter) -> int:
    """Move a set's crops that have one of the flaws to its `rejected` folder; return how many.

    Raises:
        ConfigurationError: There is no such flaw.
        NoFacesError: The set is empty.
        InputError: A crop cannot be read or moved.
    """
    if not outlier_types:
        raise ConfigurationError(
            "--reject names no flaw", hint=f"name one or more: --reject {','.join(OUTLIER_TYPES)}"
        )
    for flaw in outlier_types:
        if flaw not in OUTLIER_TYPES:
            raise ConfigurationError(
                f'there is no flaw called "{flaw}"', hint=did_you_mean(flaw, OUTLIER_TYPES)
            )
    seen = _inspect_set(folder, report)
    marks = np.logical_or.reduce([seen.outliers[flaw] for flaw in outlier_types])
    flawed = [
        seen.faces.path(record)
        for record, mark in zip(seen.faces.records, marks, strict=True)
        if mark
    ]
    with translate_os_errors(folder.rejected):
        folder.rejected.mkdir(exist_ok=True)
    return sum(_move_crop(path, folder.rejected, report) for path in flawed)


def restore_faces(folder: SetFolder, *, report: Reporter) -> int:
    """Bring all of a set's rejected crops back; return how many.

    Raises:
        InputError: The system does not let them be moved.
    """
    return sum(_move_crop(path, folder.root, report) for path in _rejected_crops(folder))


def _move_crop(path: Path, folder: Path, report: Reporter) -> bool:
    """Move a crop into a folder, unless another of its name is there; return whether it was."""
    if (folder / path.name).exists():
        report.note(f"{path} stays where it is: {folder} has another crop of that name")
        return False
    with translate_os_errors(folder):
        path.rename(folder / path.name)
    return True


def _rejected_crops(folder: SetFolder) -> list[Path]:
    """Return a set's rejected crops."""
    if not folder.rejected.is_dir():
        return []
    return sorted(
        path
        for path in folder.rejected.iterdir()
        if path.is_file() and not path.name.startswith(".")
    )


def _inspect_set(folder: SetFolder, report: Reporter) -> _InspectedSet:
    """Look at a set's crops and find their flaws."""
    faces = FaceSet.from_folder(folder)
    if not faces.records:
        raise NoFacesError(
            f'the set "{folder.name}" has no crops',
            hint=f"move rejected ones back: faceswap faces {folder.name} --restore",
        )
    report.start_task(f"look at {folder.name}", total=len(faces), unit="crops")
    looks = compute_features(
        faces,
        cache=folder.crop_features,
        load_sface=_sface_loader(report),
        on_progress=report.update,
    )
    return _InspectedSet(
        folder=folder, faces=faces, features=looks, outliers=find_outliers(faces.records, looks)
    )


def _sface_loader(report: Reporter) -> Callable[[], SFace] | None:
    """Return what loads the model that tells people apart; None, and a note, without its file."""
    try:
        file = find_model_file("sface")
    except InputError as error:
        report.note(f"other people are not looked for: {error.message}")
        return None
    return lambda: SFace(file)


# --- the page -----------------------------------------------------------------------------------


def _render_page(seen: Sequence[_InspectedSet], summary: FacesSummary) -> str:
    """Return the page on which one set or two can be looked through."""
    names = [one.name for one in summary.sets]
    about = ", ".join(f"{one.name}: {one.faces:,} faces" for one in summary.sets)
    pieces = [html_page.table(["", *names], _count_rows(summary.sets))]
    for lacks in summary.lacking:
        pieces.append(html_page.heading(f"What {lacks} lacks"))
        told = [text for text in summary.hints() if text.endswith(f" of {lacks}")]
        pieces += map(html_page.paragraph, told or ["Nothing that the other set shows."])
    for one in summary.sets:
        pieces.append(html_page.heading(f"Where {one.name} looks, left and right as in the image"))
        pieces.append(html_page.table(["", *YAW_BINS], _pose_rows(one.coverage)))
    pieces.append(html_page.heading("Expressions"))
    pieces.append(
        html_page.table(["share of the faces with", *names], _expression_rows(summary.sets))
    )
    for each in seen:
        pieces.append(html_page.heading(f"The faces of {each.folder.name}"))
        pieces += _render_gallery(each)
    return html_page.build_page(f"faces of {' and '.join(names)}", about, pieces)


def _count_rows(sets: Sequence[SetSummary]) -> list[list[str | float]]:
    """Return the counts of each set, one column a set, with what each flaw means."""
    return [
        [
            f"{what}: {OUTLIER_TYPES[what]}" if what in OUTLIER_TYPES else what,
            *(one.counts()[what] for one in sets),
        ]
        for what in sets[0].counts()
    ]


def _pose_rows(pose_coverage: PoseCoverage) -> list[list[str | float]]:
    """Return a set's faces by pitch and yaw as the rows of a table."""
    return [[pitch, *counts.values()] for pitch, counts in pose_coverage.poses.items()]


def _expression_rows(sets: Sequence[SetSummary]) -> list[list[str]]:
    """Return the shares of expressions, one column a set, as the rows of a table."""
    return [
        [name, *(f"{one.coverage.expressions[name]:.0%}" for one in sets)]
        for name in EXPRESSION_RULES
    ]


def _render_gallery(inspected: _InspectedSet) -> list[str]:
    """Return a set's pictures, those with a flaw first to be shown if there are too many."""
    records = inspected.faces.records
    flawed = np.logical_or.reduce(list(inspected.outliers.values()))
    places = select_tiles(flawed)
    likenesses = identity_similarity(inspected.features.embeddings)
    tiles = [
        html_page.Tile(
            jpeg=inspected.features.thumbnails[i],
            title=f"{records[i].file}, {float(records[i].time):.2f} s",
            numbers=[*_sort_values(records[i]), float(likenesses[i])],
            tags=[flaw for flaw, marks in inspected.outliers.items() if marks[i]],
        )
        for i in places
    ]
    told = []
    if len(places) < len(records):
        told = [
            html_page.paragraph(
                f"{len(places):,} of {len(records):,} are shown: flawed ones first, then some "
                "spread evenly over the others."
            )
        ]
    return [*told, html_page.gallery(tiles, numbers=SORT_KEYS, tags=list(OUTLIER_TYPES))]


def select_tiles(is_outlier: BoolArray, max_shown: int = MAX_TILES) -> list[int]:
    """Return which faces a page shows, in order: at most `max_shown`, those with a flaw first."""
    chosen: list[int] = []
    for places in (np.flatnonzero(is_outlier), np.flatnonzero(~is_outlier)):
        room = max_shown - len(chosen)
        if len(places) > room:
            places = places[np.linspace(0, len(places) - 1, room).round().astype(np.int64)]
        chosen += places.tolist()
    return sorted(set(chosen))


def _sort_values(record: FaceRecord) -> list[float]:
    """Return what a face can be sorted by, but for its likeness: the other `NUMBERS`."""
    return [
        float(record.time),
        record.sharpness,
        *record.pose,
        _mean_blendshape(record, "jawOpen"),
        _mean_blendshape(record, "eyeBlinkLeft", "eyeBlinkRight"),
        _mean_blendshape(record, "mouthSmileLeft", "mouthSmileRight"),
        record.cut_off,
        record.alignment.side_px,
        record.score,
    ]


def _mean_blendshape(record: FaceRecord, *names: str) -> float:
    """Return the mean of some coefficients of expression."""
    return float(np.mean([record.blendshapes[BLENDSHAPE_NAMES.index(name)] for name in names]))
