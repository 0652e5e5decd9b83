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

from faceswap_cli.conversion.swapper import FaceCrop, FaceLayer, FaceSwapper, FaceTask
from faceswap_cli.core.lazy_image import Patch, PatchedImage, Rect
from faceswap_cli.core.types import Image
from faceswap_cli.provenance.visible_label import label_area, overlay_label
from faceswap_cli.video.frame import Frame

TEMPORAL_RADIUS = 4
"""Frames before and after that have a say in a face's mask and colours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CroppedFrame:
    """A frame, and what was cut out of it for the network."""

    frame: Frame
    crops: Sequence[FaceCrop]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayeredFrame:
    """A frame, and the faces to lay over it."""

    frame: Frame
    layers: Sequence[FaceLayer]


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputFrame:
    """A frame that is ready to be written."""

    frame: Frame
    """As it was."""
    view: PatchedImage
    """As it is now."""

    @property
    def image(self) -> Image:
        """All of it, uint8 (H, W, 3)."""
        return self.view.to_array()

    @property
    def changed_areas(self) -> list[Rect]:
        """The only parts that differ."""
        return [patch.area for patch in self.view.patches]


def crop_faces(
    frames: Iterable[tuple[Frame, Sequence[FaceTask]]], swapper: FaceSwapper
) -> Iterator[CroppedFrame]:
    """Yield every frame with what the network is to see of it."""
    for frame, faces in frames:
        targets = [swapper.prepare(frame.view, face) for face in faces]
        yield CroppedFrame(frame=frame, crops=targets)


def run_model(
    frames: Iterable[CroppedFrame], swapper: FaceSwapper, *, batch_size: int
) -> Iterator[LayeredFrame]:
    """Show the network `batch_size` frames at a time."""
    remaining = iter(frames)
    while group := list(islice(remaining, batch_size)):
        targets = [target for cut in group for target in cut.crops]
        layers = iter(swapper.run(targets, batch_size=batch_size))
        for cut in group:
            yield LayeredFrame(frame=cut.frame, layers=list(islice(layers, len(cut.crops))))


def smooth_over_time(frames: Iterable[LayeredFrame]) -> Iterator[LayeredFrame]:
    """Yield every frame, `REACH` later, with masks and colours averaged over its neighbours.

    Only over those of the same track, weighted by a triangle: before and after count alike, so
    nothing lags, and nothing crosses a cut.
    """
    window: deque[LayeredFrame | None] = deque(
        [None] * (2 * TEMPORAL_RADIUS + 1), maxlen=2 * TEMPORAL_RADIUS + 1
    )
    for item in chain(frames, repeat(None, TEMPORAL_RADIUS)):
        window.append(item)
        if (here := window[TEMPORAL_RADIUS]) is not None:
            yield replace(here, layers=[_average_layer(layer, window) for layer in here.layers])


def _average_layer(layer: FaceLayer, window: Iterable[LayeredFrame | None]) -> FaceLayer:
    """Return a layer of the frame in the middle of the window with averaged mask and colours."""
    near = [
        (weight, other)
        for weight, item in zip(_TRIANGLE_WEIGHTS, window, strict=True)
        if item is not None
        for other in item.layers
        if other.track == layer.track
    ]
    total = sum(weight for weight, _ in near)
    mask = sum(np.float32(weight / total) * other.mask for weight, other in near)
    keeps = [
        (weight, other.protect_mask) for weight, other in near if other.protect_mask is not None
    ]
    keep = sum(np.float32(weight / total) * other for weight, other in keeps) if keeps else None
    # Where little of a face shows, little is known of its colours.
    shows = [weight * (float(other.mask.sum()) + 1e-6) for weight, other in near]
    colours = sum(
        weight / sum(shows) * other.color_statistics
        for weight, (_, other) in zip(shows, near, strict=True)
    )
    return replace(
        layer,
        mask=np.asarray(mask),
        protect_mask=None if keep is None else np.asarray(keep),
        color_statistics=np.asarray(colours),
    )


_TRIANGLE_WEIGHTS = [
    TEMPORAL_RADIUS + 1 - abs(offset) for offset in range(-TEMPORAL_RADIUS, TEMPORAL_RADIUS + 1)
]


def composite_faces(frames: Iterable[LayeredFrame], swapper: FaceSwapper) -> Iterator[OutputFrame]:
    """Lay the faces over the frames; a frame without one is passed on as it is."""
    for item in frames:
        yield OutputFrame(frame=item.frame, view=swapper.composite(item.frame.view, item.layers))


def add_label(frames: Iterable[OutputFrame], corner: str) -> Iterator[OutputFrame]:
    """Write into every frame, in one of its corners, that a face was swapped."""
    for item in frames:
        area = label_area(item.view.size, corner)
        part = np.ascontiguousarray(item.view.to_partial_array(area)[area.slices])
        line = Patch(area=area, image=overlay_label(part, item.view.size))
        yield replace(item, view=replace(item.view, patches=[*item.view.patches, line]))
