"""Hair, beards, lashes and glasses: ribbons that grow from the skin. Main entry point: `grow`.

Hair of the head is grown from roots step by step: out of the skin, in the direction it is combed,
down by its weight, and never into the head.
"""

from collections.abc import Mapping

import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.mesh import base_mesh, vertex_normals
from faceswap_cli.heads.strands.beard import grow_beard, grow_lashes
from faceswap_cli.heads.strands.glasses import make_glasses
from faceswap_cli.heads.strands.head_hair import grow_hair
from faceswap_cli.heads.strands.ribbons import Strands
from faceswap_cli.heads.traits import HeadPerson
from faceswap_cli.synthetic.geometry import Floats

_SHORTEST_CM = 0.6
"""Shorter hair is only painted."""


def grow(person: HeadPerson, rest: Floats) -> Strands:
    """Return a person's hair, beard, lashes and glasses; `rest` are the vertices of the mesh."""
    normals = vertex_normals(rest, base_mesh().triangles)
    face, head = person.face, person.head
    parts: list[Mapping[str, AnyArray] | None] = [grow_lashes(face, rest)]
    if head.hair.length_cm > _SHORTEST_CM:
        parts.append(grow_hair(head, rest, normals))
    if head.glasses > 0:
        parts.append(make_glasses(head, rest))
    if max(face.beard_cm, face.mustache_cm) > 0.15:
        parts.append(grow_beard(face, rest, normals))
    grown = [part for part in parts if part is not None]
    starts = np.cumsum([0] + [len(part["points"]) for part in grown])
    joined = {
        name: np.concatenate([part[name] for part in grown])
        for name in grown[0]
        if name != "triangles"
    }
    triangles = [part["triangles"] + start for part, start in zip(grown, starts, strict=False)]
    return Strands(triangles=np.concatenate(triangles), **joined)
