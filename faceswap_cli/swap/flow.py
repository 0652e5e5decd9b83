"""Frames to frames: faces cut out, drawn in batches, held steady over time, laid back.

Each step is an iterator over the one before it, so each can be run ahead in a thread of its own.
Batches begin at multiples of their size, counted in frames: a conversion that begins in the middle
shows the network the very same batches as one that ran through.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat

import numpy as np

from faceswap_cli.arrays import Image
from faceswap_cli.provenance.label import label_area, labelled_part
from faceswap_cli.swap.frame import FaceSwap, FaceToSwap, Layer, Target
from faceswap_cli.video.reader import Frame
from faceswap_cli.views import Area, Patch, Patched

REACH = 4
"""Frames before and after that have a say in a face's mask and colours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """A frame, and what was cut out of it for the network."""

    frame: Frame
    targets: Sequence[Target]


@dataclass(frozen=True, kw_only=True, eq=False)
class Laid:
    """A frame, and the faces to lay over it."""

    frame: Frame
    layers: Sequence[Layer]


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """A frame that is ready to be written."""

    frame: Frame
    """As it was."""
    view: Patched
    """As it is now."""

    @property
    def image(self) -> Image:
        """All of it, uint8 (H, W, 3)."""
        return self.view.whole()

    @property
    def changed(self) -> list[Area]:
        """The only parts that differ."""
        return [patch.area for patch in self.view.patches]


def cut_out(seen: Iterable[tuple[Frame, Sequence[FaceToSwap]]], swap: FaceSwap) -> Iterator[Cut]:
    """Yield every frame with what the network is to see of it."""
    for frame, faces in seen:
        targets = [swap.target(frame.view, face) for face in faces]
        yield Cut(frame=frame, targets=targets)


def drawn(cuts: Iterable[Cut], swap: FaceSwap, *, batch: int) -> Iterator[Laid]:
    """Show the network `batch` frames at a time."""
    remaining = iter(cuts)
    while group := list(islice(remaining, batch)):
        targets = [target for cut in group for target in cut.targets]
        layers = iter(swap.layers(targets, at_once=batch))
        for cut in group:
            yield Laid(frame=cut.frame, layers=list(islice(layers, len(cut.targets))))


def held_steady(laid: Iterable[Laid]) -> Iterator[Laid]:
    """Yield every frame, `REACH` later, with masks and colours averaged over its neighbours.

    Only over those of the same track, weighted by a triangle: before and after count alike, so
    nothing lags, and nothing crosses a cut.
    """
    window: deque[Laid | None] = deque([None] * (2 * REACH + 1), maxlen=2 * REACH + 1)
    for item in chain(laid, repeat(None, REACH)):
        window.append(item)
        if (here := window[REACH]) is not None:
            yield replace(here, layers=[_averaged(layer, window) for layer in here.layers])


def _averaged(layer: Layer, window: Iterable[Laid | None]) -> Layer:
    """Return a layer of the frame in the middle of the window with averaged mask and colours."""
    near = [
        (weight, other)
        for weight, item in zip(_TRIANGLE, window, strict=True)
        if item is not None
        for other in item.layers
        if other.track == layer.track
    ]
    total = sum(weight for weight, _ in near)
    mask = sum(np.float32(weight / total) * other.mask for weight, other in near)
    keeps = [(weight, other.keep) for weight, other in near if other.keep is not None]
    keep = sum(np.float32(weight / total) * other for weight, other in keeps) if keeps else None
    # Where little of a face shows, little is known of its colours.
    shows = [weight * (float(other.mask.sum()) + 1e-6) for weight, other in near]
    colours = sum(
        weight / sum(shows) * other.colours for weight, (_, other) in zip(shows, near, strict=True)
    )
    return replace(
        layer,
        mask=np.asarray(mask),
        keep=None if keep is None else np.asarray(keep),
        colours=np.asarray(colours),
    )


_TRIANGLE = [REACH + 1 - abs(offset) for offset in range(-REACH, REACH + 1)]


def laid_over(laid: Iterable[Laid], swap: FaceSwap) -> Iterator[Finished]:
    """Lay the faces over the frames; a frame without one is passed on as it is."""
    for item in laid:
        yield Finished(frame=item.frame, view=swap.laid(item.frame.view, item.layers))


def labelled(frames: Iterable[Finished], corner: str) -> Iterator[Finished]:
    """Write into every frame, in one of its corners, that a face was swapped."""
    for item in frames:
        area = label_area(item.view.size, corner)
        left, top, right, bottom = area
        part = np.ascontiguousarray(item.view.showing(area)[top:bottom, left:right])
        line = Patch(area=area, image=labelled_part(part, item.view.size))
        yield replace(item, view=replace(item.view, patches=[*item.view.patches, line]))
