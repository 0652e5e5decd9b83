"""Whom a clip shows, as the sets that were extracted from it know already."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from faceswap_cli.faces.align import TEMPLATE_VERSION
from faceswap_cli.faces.record import read_records
from faceswap_cli.swap.clip import Clip
from faceswap_cli.swap.roles import Role
from faceswap_cli.swap.survey import LEFT_ALONE, Found
from faceswap_cli.video.footage import Place
from faceswap_cli.workspace import SetFolder, Workspace


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """A set that was extracted from a clip, among others perhaps."""

    folder: SetFolder
    number: int
    """Which of the set's inputs the clip is, counted from 0."""
    settings: Mapping[str, Any]
    """How it was extracted."""
    is_finished: bool


def extracted_from(clip: Clip, workspace: Workspace | None) -> list[Extracted]:
    """Return the sets that were extracted from this very footage, under whatever name."""
    if workspace is None:
        return []
    named = clip.footage.describe()
    known = {key: value for key, value in named.items() if key in ("bytes", "sha256_of_ends")}
    found = []
    for name in workspace.set_names():
        folder = workspace.set(name)
        told = _told(folder)
        for number, section in enumerate(_inputs(told)):
            if section.items() >= known.items():
                settings = told.get("settings", {})
                found.append(
                    Extracted(
                        folder=folder,
                        number=number,
                        settings=settings if isinstance(settings, dict) else {},
                        is_finished="result" in told,
                    )
                )
    return found


def people_shown(clip: Clip, workspace: Workspace | None) -> frozenset[str]:
    """Return the names of the sets that were extracted from this very footage."""
    return frozenset(one.folder.name for one in extracted_from(clip, workspace))


def set_for(clip: Clip, role: Role, workspace: Workspace | None) -> Extracted | None:
    """Return a set that holds all faces of a role in a clip, and how they were followed."""
    for one in extracted_from(clip, workspace):
        usual = {"every": 1, "start_s": 0.0, "end_s": None, "faces": "largest", "template": None}
        told = {**usual, **one.settings}
        end = told["end_s"]
        is_all = told["every"] == 1 and not {"fps", "max_faces"} & told.keys()
        covers = told["start_s"] <= clip.start and (
            end is None or (clip.end is not None and clip.end <= end)
        )
        is_same = (told["faces"], told["template"]) == (role.choice.described(), TEMPLATE_VERSION)
        if one.is_finished and is_all and covers and is_same:
            return one
    return None


def found_in(extracted: Extracted, clip: Clip) -> Iterator[tuple[Place, Found]]:
    """Yield what a set knows of a clip; a face whose crop was deleted is to be left alone.

    Crops that were put aside into `rejected` count as there: what is bad to learn from may be good
    to swap.
    """
    folder = extracted.folder
    for record in read_records(folder.records):
        if record.source != extracted.number or record.time < clip.start:
            continue
        if clip.end is not None and record.time >= clip.end:
            continue
        kept = (folder.root / record.file).exists() or (folder.rejected / record.file).exists()
        alignment = record.alignment
        if record.framing == "head":
            alignment = alignment.face_in_head()
        face = Found(
            track=record.track,
            role=0 if kept else LEFT_ALONE,
            alignment=alignment,
            landmarks=record.landmarks,
        )
        yield Place(index=record.frame, time=record.time), face


def _told(folder: SetFolder) -> dict[str, Any]:
    """Return what a set says of itself; nothing if that cannot be read."""
    try:
        return tomllib.loads(folder.source.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _inputs(told: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a set says of its inputs."""
    inputs = (section for title, section in told.items() if title.startswith("input"))
    return [section for section in inputs if isinstance(section, dict)]
