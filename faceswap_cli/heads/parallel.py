"""Rendering many frames of a person of a mesh, in order: `render_head_frames`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from faceswap_cli.core.types import Image, Mask
from faceswap_cli.heads.render import HeadModel, render_head
from faceswap_cli.heads.scene import HeadScene
from faceswap_cli.heads.traits import HeadPerson
from faceswap_cli.synthetic.parallel import render_in_order


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadFrame:
    """An image of a `RenderedHead`, and what of it a true swap replaces."""

    image: Image
    """RGB uint8 (S, S, 3)."""
    face_mask: Mask
    """float32 (S, S) in [0, 1]."""


def render_head_frames(
    person: HeadPerson, scenes: Iterable[HeadScene], *, size_px: int, processes: int | None = None
) -> Iterator[HeadFrame]:
    """Yield frames of `person` at each scene, in order, equal to those of `render_head`.

    Args:
        person: The person to render.
        scenes: Pose, expression, light and camera of each frame.
        size_px: Side of the images.
        processes: As in `synthetic.parallel.render_in_order`.
    """
    return render_in_order(partial(_render_chunk, person, size_px), scenes, processes=processes)


def _render_chunk(person: HeadPerson, size_px: int, scenes: Sequence[HeadScene]) -> list[HeadFrame]:
    model = HeadModel.from_person(person)
    rendered = (render_head(model, scene, size_px) for scene in scenes)
    return [HeadFrame(image=one.image, face_mask=one.masks["face"]) for one in rendered]
