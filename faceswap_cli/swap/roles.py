"""Who in a clip becomes whom: what was typed, and the picking of faces frame after frame."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceswap_cli.errors import ConfigurationError, NoFacesError
from faceswap_cli.faces.choose import Choice, Chooser, Everyone, Largest, parse_choice
from faceswap_cli.faces.detect import FaceDetector
from faceswap_cli.faces.track import Steady
from faceswap_cli.swap.network import FaceNetwork
from faceswap_cli.views import View

NOBODY = -1
"""The role of a face that stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Role:
    """Somebody in the footage, and whose face they get."""

    choice: Choice
    to: str
    typed: str = "largest"
    """The choice as the user wrote it."""

    def described(self) -> str:
        """Return what tells this role from all others, in one line."""
        return f"{self.choice.described()} = {self.to}"


def parse_roles(
    texts: Sequence[str], *, to: str | None, network: FaceNetwork, shown: Set[str] = frozenset()
) -> list[Role]:
    """Return the roles written as `CHOICE` or `CHOICE=NAME`; the largest face if there are none.

    Args:
        texts: What was typed, each as `faces.choose` has it, with or without a name.
        to: Whose face those get who are not given a name; None leaves it to the network.
        network: Knows the people.
        shown: The people whom the footage is known to show.

    Raises:
        ConfigurationError: There is no such choice, or the model does not know a name.
    """
    if not texts:
        return [Role(choice=Largest(), to=network.person(to, shown=shown))]
    roles = []
    for text in texts:
        choice, name = _split(text, people=network.people)
        person = network.person(name or to, shown=shown)
        roles.append(Role(choice=parse_choice(choice), to=person, typed=choice))
    if len({role.choice for role in roles}) < len(roles):
        raise ConfigurationError(
            "one face cannot get two others: each --face must choose another one",
            hint="to swap two people: --face like:ADA.jpg=bo --face like:BO.jpg=ada",
        )
    return roles


def _split(text: str, *, people: Sequence[str]) -> tuple[str, str | None]:
    """Return the choice and the name, if there is one: a file's name may hold an = as well."""
    choice, equals, name = text.rpartition("=")
    is_path = equals and name not in people and Path(_after_word(text)).is_file()
    return (text, None) if is_path or not equals else (choice, name)


def _after_word(text: str) -> str:
    """Return what follows `like:` or `like `."""
    return text[5:] if text[:4] == "like" else ""


@dataclass(frozen=True, kw_only=True)
class Casting:
    """Gives the faces of one frame after the other their roles: the first that wants one has it."""

    choosers: Sequence[Chooser]
    people: Sequence[str]
    """Whose face each role gets."""

    @classmethod
    def of(cls, roles: Sequence[Role], detector: FaceDetector) -> "Casting":
        """Return the casting of some roles; `detector` is open, and looks at photographs.

        Raises:
            InputError: A photograph cannot be read.
            NoFacesError: There is no face in it.
        """
        choosers = [role.choice.chooser(detector) for role in roles]
        return cls(choosers=choosers, people=[role.to for role in roles])

    def cast(self, view: View, faces: Sequence[Steady]) -> list[tuple[Steady, int]]:
        """Return the faces of the next frame, each with the number of its role or `NOBODY`."""
        roles: dict[int, int] = {}
        for number, chooser in enumerate(self.choosers):
            free = [face for face in faces if face.track not in roles]
            roles |= {face.track: number for face in chooser.pick(view, free)}
        return [(face, roles.get(face.track, NOBODY)) for face in faces]

    def memory(self) -> list[Mapping[str, Any]]:
        """Return what was learnt from the frames so far, as JSON can hold it."""
        return [chooser.memory() for chooser in self.choosers]

    def recall(self, memory: Sequence[Mapping[str, Any]]) -> None:
        """Go on from what `memory` returned."""
        for chooser, known in zip(self.choosers, memory, strict=True):
            chooser.recall(known)


def nobody(name: str, roles: Sequence[Role], tracks: Sequence[int] = ()) -> NoFacesError:
    """Return the error for footage called `name` in which nobody is to be swapped.

    Args:
        name: What the user calls it.
        roles: Who was asked for.
        tracks: The tracks of those who are there, as far as known.
    """
    if not tracks and all(isinstance(role.choice, Largest | Everyone) for role in roles):
        return NoFacesError(
            f"there is no face in {name}",
            hint="faces must be a good part of the picture, and turned less than sideways",
        )
    wanted = " or ".join(role.typed for role in roles)
    there = f"; its tracks are {tracks[0]} to {tracks[-1]}" if tracks else ""
    return NoFacesError(
        f"no face in {name} is the one asked for: {wanted}",
        hint=f"--face all replaces everybody{there}",
    )
