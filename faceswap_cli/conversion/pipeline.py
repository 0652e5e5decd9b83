"""The frame pipeline: crop faces, run the model in batches, smooth over time, composite, label.

Each step is an iterator over the one before it, so each can be prefetched in a thread of its own.
Batches begin at multiples of their size, counted in frames, so a resumed conversion gives the model
the same batches as one that ran through.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat

import numpy as np

from faceswap_cli.conversion.swapper import FaceCrop, FaceLayer, FaceSwapper, FaceTask
from faceswap_cli.core.lazy_image import Patch, PatchedImage, Rect
from faceswap_cli.core.types import Image, Mask
from faceswap_cli.provenance.visible_label import label_area, overlay_label
from faceswap_cli.video.frame import Frame

TEMPORAL_RADIUS = 4
"""Frames before and after over which a face's mask and color statistics are smoothed."""
OCCLUSION_RADIUS = 1
"""The same of what is in front of the face: a hand moves faster than a face's outline."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CroppedFrame:
    """A frame with the crops of its faces."""

    frame: Frame
    crops: Sequence[FaceCrop]


@dataclass(frozen=True, kw_only=True, eq=False)
class LayeredFrame:
    """A frame with the swapped faces to composite into it."""

    frame: Frame
    layers: Sequence[FaceLayer]


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputFrame:
    """A finished frame."""

    frame: Frame
    """The original."""
    view: PatchedImage
    """The result."""

    @property
    def image(self) -> Image:
        """The whole result, uint8 (H, W, 3)."""
        return self.view.to_array()

    @property
    def changed_areas(self) -> list[Rect]:
        """The parts in which it differs from the original."""
        return [patch.area for patch in self.view.patches]


def crop_faces(
    frames: Iterable[tuple[Frame, Sequence[FaceTask]]], swapper: FaceSwapper
) -> Iterator[CroppedFrame]:
    """Yield every frame with the crops of its faces."""
    for frame, tasks in frames:
        crops = [swapper.prepare(frame.view, task) for task in tasks]
        yield CroppedFrame(frame=frame, crops=crops)


def run_model(
    frames: Iterable[CroppedFrame], swapper: FaceSwapper, *, batch_size: int
) -> Iterator[LayeredFrame]:
    """Yield every frame with its swapped faces; the model runs on `batch_size` frames at once."""
    remaining = iter(frames)
    while batch := list(islice(remaining, batch_size)):
        crops = [crop for item in batch for crop in item.crops]
        layers = iter(swapper.run(crops, batch_size=batch_size))
        for item in batch:
            yield LayeredFrame(frame=item.frame, layers=list(islice(layers, len(item.crops))))


def smooth_over_time(frames: Iterable[LayeredFrame]) -> Iterator[LayeredFrame]:
    """Yield every frame, `TEMPORAL_RADIUS` later, with masks and color statistics smoothed.

    The average is over frames of the same track, weighted by a triangle: symmetric, so nothing
    lags, and never across a cut.
    """
    window: deque[LayeredFrame | None] = deque(
        [None] * (2 * TEMPORAL_RADIUS + 1), maxlen=2 * TEMPORAL_RADIUS + 1
    )
    for item in chain(frames, repeat(None, TEMPORAL_RADIUS)):
        window.append(item)
        if (center := window[TEMPORAL_RADIUS]) is not None:
            layers = [_average_layer(layer, window) for layer in center.layers]
            yield replace(center, layers=layers)


def _average_layer(layer: FaceLayer, window: Iterable[LayeredFrame | None]) -> FaceLayer:
    """Return a layer of the window's center frame with averaged masks and statistics."""
    neighbors = [
        (weight, other)
        for weight, item in zip(_TRIANGLE_WEIGHTS, window, strict=True)
        if item is not None
        for other in item.layers
        if other.track == layer.track
    ]
    narrower = TEMPORAL_RADIUS - OCCLUSION_RADIUS
    occlusion = [
        (weight - narrower, other.occlusion_mask)
        for weight, other in neighbors
        if weight > narrower and other.occlusion_mask is not None
    ]
    total = sum(weight for weight, _ in neighbors)
    mask = sum(np.float32(weight / total) * other.mask for weight, other in neighbors)
    protected = [
        np.float32(weight / total) * other.protect_mask
        for weight, other in neighbors
        if other.protect_mask is not None
    ]
    # The less of a face is visible, the less reliable are its colors.
    reliability = [weight * (float(other.mask.sum()) + 1e-6) for weight, other in neighbors]
    statistics = sum(
        weight / sum(reliability) * other.color_statistics
        for weight, (_, other) in zip(reliability, neighbors, strict=True)
    )
    return replace(
        layer,
        mask=np.asarray(mask),
        protect_mask=np.asarray(sum(protected)) if protected else None,
        color_statistics=np.asarray(statistics),
        occlusion_mask=_average_mask(occlusion),
    )


def _average_mask(weighted: Sequence[tuple[int, Mask]]) -> Mask | None:
    """Return the weighted average of masks; None of none."""
    if not weighted:
        return None
    total = sum(weight for weight, _ in weighted)
    return np.asarray(sum(np.float32(weight / total) * mask for weight, mask in weighted))


_TRIANGLE_WEIGHTS = [
    TEMPORAL_RADIUS + 1 - abs(offset) for offset in range(-TEMPORAL_RADIUS, TEMPORAL_RADIUS + 1)
]


def composite_faces(frames: Iterable[LayeredFrame], swapper: FaceSwapper) -> Iterator[OutputFrame]:
    """Yield every frame with its swapped faces composited; one without faces is unchanged."""
    for item in frames:
        yield OutputFrame(frame=item.frame, view=swapper.composite(item.frame.view, item.layers))


def add_label(frames: Iterable[OutputFrame], corner: str) -> Iterator[OutputFrame]:
    """Yield every frame with the visible label in a corner, a name in `visible_label.CORNERS`."""
    for item in frames:
        area = label_area(item.view.size, corner)
        part = np.ascontiguousarray(item.view.to_partial_array(area)[area.slices])
        label = Patch(area=area, image=overlay_label(part, item.view.size))
        yield replace(item, view=replace(item.view, patches=[*item.view.patches, label]))
