"""Who in a clip becomes whom: what was typed, and the picking of faces frame after frame."""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceswap_cli.conversion.swapper import FaceTask
from faceswap_cli.core.errors import ConfigurationError, NoFacesError, did_you_mean
from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.selection import (
    FaceSelector,
    SelectAll,
    SelectionRule,
    SelectLargest,
    parse_selection,
)
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.faces.types import Face, FaceDetector
from faceswap_cli.video.frame import Frame

UNASSIGNED = -1
"""The role of a face that stays as it is."""


@dataclass(frozen=True, kw_only=True)
class FaceAssignment:
    """Somebody in the footage, and whose face they get."""

    selector: SelectionRule
    identity: str
    spec: str = "largest"
    """The choice as the user wrote it."""


def parse_assignments(
    specs: Sequence[str],
    *,
    to: str | None,
    identities: Sequence[str],
    source_identities: Set[str] = frozenset(),
) -> list[FaceAssignment]:
    """Return the assignments written as `CHOICE` or `CHOICE=NAME`; default: the largest face.

    Args:
        specs: As typed: a choice of `faces.selection`, with or without an identity.
        to: Identity for specs without one; None chooses as `select_identity` does.
        identities: Those of the model.
        source_identities: Those that the source is known to show.

    Raises:
        ConfigurationError: A choice or an identity is unknown.
    """
    assignments = []
    for spec in specs or ("largest",):
        choice, name = _split_spec(spec, identities=identities)
        identity = select_identity(name or to, identities, exclude=source_identities)
        assignments.append(
            FaceAssignment(selector=parse_selection(choice), identity=identity, spec=choice)
        )
    if len({one.spec for one in assignments}) < len(assignments):
        raise ConfigurationError(
            "one face cannot get two others: each --face must choose another one",
            hint="to swap two people: --face match:ADA.jpg=bo --face match:BO.jpg=ada",
        )
    return assignments


def select_identity(
    name: str | None, identities: Sequence[str], *, exclude: Set[str] = frozenset()
) -> str:
    """Return `name`, or the last identity that is not in `exclude`.

    Raises:
        ConfigurationError: The model has no identity of that name.
    """
    if name is None:
        others = [identity for identity in identities if identity not in exclude]
        return (others or identities)[-1]
    if name not in identities:
        raise ConfigurationError(
            f'this model does not know "{name}"', hint=did_you_mean(name, identities)
        )
    return name


def _split_spec(spec: str, *, identities: Sequence[str]) -> tuple[str, str | None]:
    """Return the choice and the name, if there is one: a file's name may hold an = as well."""
    choice, equals, name = spec.rpartition("=")
    is_path = equals and name not in identities and Path(_photo_path(spec)).is_file()
    return (spec, None) if is_path or not equals else (choice, name)


def _photo_path(spec: str) -> str:
    """Return what follows `match:` or `match `; empty if there is no photo."""
    photo = re.fullmatch(r"(?:match|like)[\s:]+(.*)", spec.strip(), re.DOTALL)
    return photo[1] if photo else ""


@dataclass(frozen=True, kw_only=True)
class FaceAssigner:
    """Gives the faces of one frame after the other their roles: the first that wants one has it."""

    selectors: Sequence[FaceSelector]
    identities: Sequence[str]
    """Whose face each role gets."""

    @classmethod
    def create(
        cls, assignments: Sequence[FaceAssignment], detector: FaceDetector
    ) -> "FaceAssigner":
        """Return the casting of some roles; `detector` is open, and looks at photographs.

        Raises:
            InputError: A photograph cannot be read.
            NoFacesError: There is no face in it.
        """
        choosers = [role.selector.create_selector(detector) for role in assignments]
        return cls(selectors=choosers, identities=[role.identity for role in assignments])

    def assign(
        self, view: LazyImage, faces: Sequence[SmoothedFace]
    ) -> list[tuple[SmoothedFace, int]]:
        """Return the faces of the next frame, each with the number of its role or `NOBODY`."""
        roles: dict[int, int] = {}
        for number, chooser in enumerate(self.selectors):
            free = [face for face in faces if face.track not in roles]
            roles |= {face.track: number for face in chooser.select(view, free)}
        return [(face, roles.get(face.track, UNASSIGNED)) for face in faces]

    def assign_detected(self, frame: Frame, faces: Sequence[Face]) -> list[FaceTask]:
        """Return the faces to swap of those detected in a frame that is taken by itself."""
        tracked = [
            # Frames share no track, since the same position may be another face.
            SmoothedFace(
                face=face, alignment=align_face(face.landmarks), track=1000 * frame.index + number
            )
            for number, face in enumerate(faces)
        ]
        return [
            FaceTask(
                identity=self.identities[assignment],
                track=face.track,
                landmarks=face.face.landmarks,
                alignment=face.alignment,
            )
            for face, assignment in self.assign(frame.view, tracked)
            if assignment != UNASSIGNED
        ]

    def state_dict(self) -> list[Mapping[str, Any]]:
        """Return what was learnt from the frames so far, as JSON can hold it."""
        return [chooser.state_dict() for chooser in self.selectors]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Go on from what `state` returned."""
        for chooser, known in zip(self.selectors, state, strict=True):
            chooser.load_state_dict(known)


def no_match_error(
    name: str, assignments: Sequence[FaceAssignment], tracks: Sequence[int] = ()
) -> NoFacesError:
    """Return the error for footage called `name` in which nobody is to be swapped.

    Args:
        name: What the user calls it.
        assignments: Who was asked for.
        tracks: The tracks of those who are there, as far as known.
    """
    if not tracks and all(
        isinstance(role.selector, SelectLargest | SelectAll) for role in assignments
    ):
        return NoFacesError(
            f"there is no face in {name}",
            hint="faces must be a good part of the picture, and turned less than sideways",
        )
    wanted = " or ".join(role.spec for role in assignments)
    there = f"; its tracks are {tracks[0]} to {tracks[-1]}" if tracks else ""
    return NoFacesError(
        f"no face in {name} is the one asked for: {wanted}",
        hint=f"--face all replaces everybody{there}",
    )
