"""Whom a clip shows, as the sets that were extracted from it know already."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from faceswap_cli.conversion.assignment import FaceAssignment
from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.face_index import EXCLUDED, IndexedFace
from faceswap_cli.core.workspace import SetFolder, Workspace
from faceswap_cli.faces.alignment import TEMPLATE_VERSION
from faceswap_cli.faces.dataset import read_records
from faceswap_cli.video.frame import FramePosition
from faceswap_cli.video.time_range import TimeRange


@dataclass(frozen=True, kw_only=True)
class ExtractedSet:
    """A set that was extracted from a clip, among others perhaps."""

    folder: SetFolder
    input_index: int
    """Which of the set's inputs the clip is, counted from 0."""
    settings: Mapping[str, Any]
    """How it was extracted."""
    is_finished: bool


def find_extracted_sets(clip: Clip, workspace: Workspace | None) -> list[ExtractedSet]:
    """Return the sets that were extracted from this very footage, under whatever name."""
    if workspace is None:
        return []
    named = clip.source.describe()
    known = {key: value for key, value in named.items() if key in ("bytes", "sha256_of_ends")}
    found = []
    for name in workspace.set_names():
        folder = workspace.set_folder(name)
        told = _read_metadata(folder)
        for number, section in enumerate(_input_sections(told)):
            if section.items() >= known.items():
                settings = told.get("settings", {})
                found.append(
                    ExtractedSet(
                        folder=folder,
                        input_index=number,
                        settings=settings if isinstance(settings, dict) else {},
                        is_finished="result" in told,
                    )
                )
    return found


def find_source_identities(clip: Clip, workspace: Workspace | None) -> frozenset[str]:
    """Return the names of the sets that were extracted from this very footage."""
    return frozenset(one.folder.name for one in find_extracted_sets(clip, workspace))


def find_reusable_set(
    clip: Clip, assignment: FaceAssignment, workspace: Workspace | None
) -> ExtractedSet | None:
    """Return a set that holds all faces of a role in a clip, and how they were followed."""
    for one in find_extracted_sets(clip, workspace):
        usual = {"every": 1, "start_s": 0.0, "end_s": None, "faces": "largest", "template": None}
        told = {**usual, **one.settings}
        is_all = told["every"] == 1 and not {"fps", "max_faces"} & told.keys()
        covers = TimeRange.from_seconds(told["start_s"], told["end_s"]).covers(clip.time_range)
        is_same = (told["faces"], told["template"]) == (
            assignment.selector.canonical_text(),
            TEMPLATE_VERSION,
        )
        if one.is_finished and is_all and covers and is_same:
            return one
    return None


def read_set_faces(
    known_set: ExtractedSet, clip: Clip
) -> Iterator[tuple[FramePosition, IndexedFace]]:
    """Yield what a set knows of a clip; a face whose crop was deleted is to be left alone.

    Crops that were put aside into `rejected` count as there: what is bad to learn from may be good
    to swap.
    """
    folder = known_set.folder
    for record in read_records(folder.records):
        if record.input_index != known_set.input_index or not clip.contains(record.time):
            continue
        kept = (folder.root / record.file).exists() or (folder.rejected / record.file).exists()
        alignment = record.alignment
        if record.framing == "head":
            alignment = alignment.shrink_to_face()
        face = IndexedFace(
            track=record.track,
            assignment=0 if kept else EXCLUDED,
            alignment=alignment,
            landmarks=record.landmarks,
        )
        yield FramePosition(index=record.frame, time=record.time), face


def _read_metadata(folder: SetFolder) -> dict[str, Any]:
    """Return what a set says of itself; nothing if that cannot be read."""
    try:
        return tomllib.loads(folder.source.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _input_sections(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a set says of its inputs."""
    inputs = (section for title, section in metadata.items() if title.startswith("input"))
    return [section for section in inputs if isinstance(section, dict)]
