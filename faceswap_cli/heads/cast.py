"""Five people of a mesh whom one tells apart at a glance: `head_cast`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType

from faceswap_cli.heads.people import random_head_person
from faceswap_cli.heads.traits import HeadPerson


@cache
def head_cast() -> Mapping[str, HeadPerson]:
    """Return the people by name: random ones, some with other hair, of different age and sex."""
    lea = _with_hair(random_head_person(30), length_cm=7.0)  # 29 years
    ken = random_head_person(56)  # 37
    sam = random_head_person(16)  # 39, bald, with a beard
    nia = random_head_person(48)  # 43
    max_ = random_head_person(26)  # 64
    return MappingProxyType({"lea": lea, "ken": ken, "sam": sam, "nia": nia, "max": max_})


def _with_hair(person: HeadPerson, *, length_cm: float) -> HeadPerson:
    """Return the person with hair of that length, and none over the brow."""
    hair = replace(person.head.hair, length_cm=length_cm, fringe_cm=0.0)
    return replace(person, head=replace(person.head, hair=hair))
