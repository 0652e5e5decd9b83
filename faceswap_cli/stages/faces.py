"""Curation of sets: inspect one or two (`inspect_sets`), move outliers out and back again.

Nothing is ever deleted: `reject_faces` moves crops to the set's `rejected` folder, `restore_faces`
moves them back. Their records stay in `faces.jsonl`; a crop without a file is not in the set.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceswap_cli.core.errors import ConfigurationError, InputError, NoFacesError, did_you_mean
from faceswap_cli.core.fileio import translate_os_errors, write_text
from faceswap_cli.core.lock import RETRY_HINT, output_lock, set_lock
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
from faceswap_cli.pages import html_page
from faceswap_cli.pages.gallery import Tile, gallery

MAX_TILES = 4000
"""Thumbnails on a page: about 12 MB, which a browser still sorts at once."""
MAX_GAPS = 8
"""Gaps reported for a set: the most frequent ones."""

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
    "similarity",
)
"""Sort keys of the page."""


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """The contents of a set."""

    name: str
    faces: int
    rejected: int
    """Crops in its `rejected` folder."""
    outlier_counts: Mapping[str, int]
    """Faces by type of outlier: the names in `OUTLIER_TYPES`."""
    coverage: PoseCoverage

    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        return {"faces": self.faces, "rejected": self.rejected, **self.outlier_counts}


@dataclass(frozen=True, kw_only=True)
class FacesSummary:
    """The result of inspecting one set or two."""

    sets: Sequence[SetSummary]
    gaps_by_set: Mapping[str, Sequence[CoverageGap]]
    """Set -> what the other set shows and it does not."""
    page: Path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return title, columns and rows of each table for a terminal."""
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
        """Return sentences on what footage to add."""
        names = [one.name for one in self.sets]
        return [
            gap.to_sentence(other, name)
            for name, gaps in self.gaps_by_set.items()
            for other in names
            if other != name
            for gap in gaps
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _InspectedSet:
    """A set with its features and outliers."""

    folder: SetFolder
    faces: FaceSet
    features: SetFeatures
    outliers: Mapping[str, BoolArray]

    def summarize(self) -> SetSummary:
        """Return its contents."""
        return SetSummary(
            name=self.folder.name,
            faces=len(self.faces),
            rejected=len(_rejected_crops(self.folder)),
            outlier_counts={kind: int(is_kind.sum()) for kind, is_kind in self.outliers.items()},
            coverage=measure_coverage(self.faces.records),
        )


def inspect_sets(names: Sequence[str], *, workspace: Workspace, report: Reporter) -> FacesSummary:
    """Inspect one set, or compare two, and write a page with all of their faces.

    Args:
        names: One set or two.
        workspace: The workspace with the sets.
        report: Receives progress and notes.

    Raises:
        ConfigurationError: A set does not exist.
        NoFacesError: A set is empty.
        InputError: A crop cannot be read, or another process writes the page.
    """
    if len(set(names)) < len(names):
        raise ConfigurationError(
            f'the set "{names[0]}" is named twice', hint=f"faceswap faces {names[0]} shows it alone"
        )
    folders = [workspace.require_set(name) for name in names]
    page = workspace.faces_page(*names)
    with output_lock(page, hint=RETRY_HINT):
        inspected = [_inspect_set(folder, report) for folder in folders]
        pairs = [(one, other) for one in inspected for other in inspected if one is not other]
        summary = FacesSummary(
            sets=[one.summarize() for one in inspected],
            gaps_by_set={
                one.folder.name: find_gaps(other.faces.records, one.faces.records)[:MAX_GAPS]
                for other, one in pairs
            },
            page=page,
        )
        write_text(page, _render_page(inspected, summary))
    return summary


def reject_faces(folder: SetFolder, outlier_types: Collection[str], *, report: Reporter) -> int:
    """Move a set's outliers of some types to its `rejected` folder; return their number.

    Raises:
        ConfigurationError: A type is unknown.
        NoFacesError: The set is empty.
        InputError: A crop cannot be read or moved, or another process writes into the set.
    """
    if not outlier_types:
        raise ConfigurationError(
            "--reject names no kind of outlier",
            hint=f"name one or more: --reject {','.join(OUTLIER_TYPES)}",
        )
    for kind in outlier_types:
        if kind not in OUTLIER_TYPES:
            raise ConfigurationError(
                f'there is no kind of outlier called "{kind}"',
                hint=did_you_mean(kind, OUTLIER_TYPES),
            )
    with set_lock(folder.root, hint=RETRY_HINT):
        inspected = _inspect_set(folder, report)
        is_outlier = np.logical_or.reduce([inspected.outliers[kind] for kind in outlier_types])
        outliers = [
            inspected.faces.path(record)
            for record, is_rejected in zip(inspected.faces.records, is_outlier, strict=True)
            if is_rejected
        ]
        with translate_os_errors(folder.rejected):
            folder.rejected.mkdir(exist_ok=True)
        return sum(_move_crop(path, folder.rejected, report) for path in outliers)


def restore_faces(folder: SetFolder, *, report: Reporter) -> int:
    """Move a set's rejected crops back; return their number.

    Raises:
        InputError: A crop cannot be moved, or another process writes into the set.
    """
    with set_lock(folder.root, hint=RETRY_HINT):
        return sum(_move_crop(path, folder.root, report) for path in _rejected_crops(folder))


def _move_crop(path: Path, folder: Path, report: Reporter) -> bool:
    """Move a crop into a folder unless a file of its name is there; return whether it moved."""
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
    """Return a set with its features and outliers."""
    faces = FaceSet.from_folder(folder)
    if not faces.records:
        raise NoFacesError(
            f'the set "{folder.name}" has no crops',
            hint=f"move rejected ones back: faceswap faces {folder.name} --restore",
        )
    report.start_task(f"inspect {folder.name}", total=len(faces), unit="crops")
    features = compute_features(
        faces,
        cache=folder.crop_features,
        load_sface=_sface_loader(report),
        on_progress=report.update,
    )
    outliers = find_outliers(faces.records, features)
    return _InspectedSet(folder=folder, faces=faces, features=features, outliers=outliers)


def _sface_loader(report: Reporter) -> Callable[[], SFace] | None:
    """Return a function that loads SFace; None, and a note, without its file."""
    try:
        file = find_model_file("sface")
    except InputError as error:
        report.note(f"other people cannot be detected: {error.message}")
        return None
    return lambda: SFace(file)


# --- the page -----------------------------------------------------------------------------------


def _render_page(inspected: Sequence[_InspectedSet], summary: FacesSummary) -> str:
    """Return the page of one set or two."""
    names = [one.name for one in summary.sets]
    about = ", ".join(f"{one.name}: {one.faces:,} faces" for one in summary.sets)
    parts = [html_page.table(["", *names], _count_rows(summary.sets))]
    for name in summary.gaps_by_set:
        parts.append(html_page.heading(f"What {name} lacks"))
        hints = [text for text in summary.hints() if text.endswith(f" of {name}")]
        parts += map(html_page.paragraph, hints or ["Nothing that the other set shows."])
    for one in summary.sets:
        parts.append(html_page.heading(f"Where {one.name} looks, left and right as in the image"))
        parts.append(html_page.table(["", *YAW_BINS], _pose_rows(one.coverage)))
    parts.append(html_page.heading("Expressions"))
    parts.append(
        html_page.table(["share of the faces with", *names], _expression_rows(summary.sets))
    )
    for each in inspected:
        parts.append(html_page.heading(f"The faces of {each.folder.name}"))
        parts += _render_gallery(each)
    return html_page.build_page(f"faces of {' and '.join(names)}", about, parts)


def _count_rows(sets: Sequence[SetSummary]) -> list[list[str | float]]:
    """Return the rows of a table of counts, one column a set, with the meaning of outliers."""
    return [
        [
            f"{name}: {OUTLIER_TYPES[name]}" if name in OUTLIER_TYPES else name,
            *(one.counts()[name] for one in sets),
        ]
        for name in sets[0].counts()
    ]


def _pose_rows(pose_coverage: PoseCoverage) -> list[list[str | float]]:
    """Return the rows of a table of a set's faces by pitch and yaw."""
    return [[pitch, *counts.values()] for pitch, counts in pose_coverage.poses.items()]


def _expression_rows(sets: Sequence[SetSummary]) -> list[list[str]]:
    """Return the rows of a table of shares of expressions, one column a set."""
    return [
        [name, *(f"{one.coverage.expressions[name]:.0%}" for one in sets)]
        for name in EXPRESSION_RULES
    ]


def _render_gallery(inspected: _InspectedSet) -> list[str]:
    """Return the gallery of a set's thumbnails; if there are too many, outliers go first."""
    records = inspected.faces.records
    is_outlier = np.logical_or.reduce(list(inspected.outliers.values()))
    indices = select_tiles(is_outlier)
    similarities = identity_similarity(inspected.features.embeddings)
    tiles = [
        Tile(
            jpeg=inspected.features.thumbnails[i],
            title=f"{records[i].file}, {float(records[i].time):.2f} s",
            numbers=[*_sort_values(records[i]), float(similarities[i])],
            tags=[kind for kind, is_kind in inspected.outliers.items() if is_kind[i]],
        )
        for i in indices
    ]
    notes = []
    if len(indices) < len(records):
        notes = [
            html_page.paragraph(
                f"{len(indices):,} of {len(records):,} are shown: outliers first, then others, "
                "evenly spaced."
            )
        ]
    return [*notes, gallery(tiles, numbers=SORT_KEYS, tags=list(OUTLIER_TYPES))]


def select_tiles(is_outlier: BoolArray, max_tiles: int = MAX_TILES) -> list[int]:
    """Return the indices of the faces on a page in order: at most `max_tiles`, outliers first."""
    selected: list[int] = []
    for indices in (np.flatnonzero(is_outlier), np.flatnonzero(~is_outlier)):
        room = max_tiles - len(selected)
        if len(indices) > room:
            indices = indices[np.linspace(0, len(indices) - 1, room).round().astype(np.int64)]
        selected += indices.tolist()
    return sorted(set(selected))


def _sort_values(record: FaceRecord) -> list[float]:
    """Return a face's values for all `SORT_KEYS` but the last, its similarity."""
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
    """Return the mean of some blendshapes."""
    return float(np.mean([record.blendshapes[BLENDSHAPE_NAMES.index(name)] for name in names]))
