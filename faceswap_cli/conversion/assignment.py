"""Which face gets which identity: parsing `--face`, and assigning faces frame by frame."""

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceswap_cli.conversion.swapper import FaceTask
from faceswap_cli.core.errors import ConfigurationError, NoFacesError, did_you_mean
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
"""Assignment of a face that is not swapped."""


@dataclass(frozen=True, kw_only=True)
class FaceAssignment:
    """A selection of faces and the identity to swap in."""

    selector: SelectionRule
    identity: str
    spec: str = "largest"
    """The selection as the user typed it."""


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
            hint="to swap two faces: --face match:ADA.jpg=bo --face match:BO.jpg=ada",
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
    """Return the choice and the identity, if given; a photo's name may contain an = as well."""
    choice, equals, name = spec.rpartition("=")
    is_path = equals and name not in identities and Path(_photo_path(spec)).is_file()
    return (spec, None) if is_path or not equals else (choice, name)


def _photo_path(spec: str) -> str:
    """Return what follows `match:` or `match `; empty if there is no photo."""
    photo = re.fullmatch(r"(?:match|like)[\s:]+(.*)", spec.strip(), re.DOTALL)
    return photo[1] if photo else ""


@dataclass(frozen=True, kw_only=True)
class FaceAssigner:
    """Assigns the faces of one frame after the other; a face goes to the first that selects it."""

    selectors: Sequence[FaceSelector]
    identities: Sequence[str]
    """What each assignment swaps in."""

    @classmethod
    def create(
        cls, assignments: Sequence[FaceAssignment], detector: FaceDetector
    ) -> "FaceAssigner":
        """Return an assigner; `detector` is open, and finds the faces of photos.

        Raises:
            InputError: A photo cannot be read.
            NoFacesError: It shows no face.
        """
        return cls(
            selectors=[one.selector.create_selector(detector) for one in assignments],
            identities=[one.identity for one in assignments],
        )

    def assign(self, frame: Frame, faces: Sequence[SmoothedFace]) -> list[tuple[SmoothedFace, int]]:
        """Return the faces of the next frame, each with its assignment's index or `UNASSIGNED`."""
        by_track: dict[int, int] = {}
        for index, selector in enumerate(self.selectors):
            free = [face for face in faces if face.track not in by_track]
            by_track |= {face.track: index for face in selector.select(frame, free)}
        return [(face, by_track.get(face.track, UNASSIGNED)) for face in faces]

    def assign_detected(self, frame: Frame, faces: Sequence[Face]) -> list[FaceTask]:
        """Return the faces to swap of those detected in a frame that is taken by itself."""
        tracked = [
            # Frames share no track and no shot: the same position may be another face.
            SmoothedFace(
                face=face,
                alignment=align_face(face.landmarks),
                track=1000 * frame.index + number,
                shot=frame.index,
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
            for face, assignment in self.assign(frame, tracked)
            if assignment != UNASSIGNED
        ]

    def state_dict(self) -> list[Mapping[str, Any]]:
        """Return the selectors' state after the frames so far, as JSON."""
        return [selector.state_dict() for selector in self.selectors]

    def load_state_dict(self, state: Sequence[Mapping[str, Any]]) -> None:
        """Restore what `state_dict` returned."""
        for selector, own_state in zip(self.selectors, state, strict=True):
            selector.load_state_dict(own_state)


def no_match_error(
    name: str, assignments: Sequence[FaceAssignment], tracks: Sequence[int] = ()
) -> NoFacesError:
    """Return the error for a source with no face to swap.

    Args:
        name: The source's name.
        assignments: The selections.
        tracks: All tracks in it, if known.
    """
    if not tracks and all(
        isinstance(one.selector, SelectLargest | SelectAll) for one in assignments
    ):
        return NoFacesError(
            f"there is no face in {name}",
            hint="faces must fill a good part of the image, and turn less than sideways",
        )
    specs = " or ".join(one.spec for one in assignments)
    listed = f"; its tracks are {tracks[0]} to {tracks[-1]}" if tracks else ""
    return NoFacesError(
        f"no face in {name} matches {specs}",
        hint=f"--face all swaps every face{listed}",
    )
