"""Training of the network that tells what covers a face: `train_masks`, and `score_masks`."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from faceswap_cli.core.fileio import atomic_write, translate_os_errors
from faceswap_cli.core.types import AnyArray, Mask
from faceswap_cli.faces.occlusion import INPUT_PX, VisibleFaceModel, decide_hidden
from faceswap_cli.pretraining.occluded_faces import OccludedSample
from faceswap_cli.training.dataset import derive_seed
from faceswap_models.degradation import degrade
from faceswap_models.occlusion import OVERLAP_WEIGHT, VisibleFaceNet, mask_loss
from faceswap_models.tensors import to_tensor

DEGRADE_PROB = 0.8
"""Part of a batch whose light, colors and sharpness are changed."""
WARMUP_STEPS = 200
WEIGHT_DECAY = 1e-3
HIDDEN_PX = 40
"""Pixels from which on a crop counts for the overlap of what is hidden."""

SampleFn = Callable[[int, int], OccludedSample]
"""`sample(number, side_px)`: the crop of a number, always the same."""


@dataclass(frozen=True, kw_only=True)
class MaskSchedule:
    """How long a network is trained, and how."""

    images: int = 150_000
    batch_size: int = 8
    small_fraction: float = 0.75
    """Part of the images that are shown at half the side first, at a quarter of the time."""
    learning_rate: float = 2e-3
    """It rises over `WARMUP_STEPS` first, and falls to 0 over the images at full size."""
    overlap_weight: float = OVERLAP_WEIGHT
    """Weight of the overlap of what is hidden in the loss."""
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of the optimizer."""
        return max(1, self.images // self.batch_size)

    def is_small(self, step: int) -> bool:
        """Return whether a step shows images at half the side."""
        return step < self.small_fraction * self.steps

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warmup = min(1.0, (step + 1) / WARMUP_STEPS)
        progress = step / self.steps - self.small_fraction
        return self.learning_rate * warmup * min(1.0, 1 - progress / (1 - self.small_fraction))


@dataclass(frozen=True, kw_only=True)
class MaskScore:
    """How well masks fit the truth, over some crops; NaN where none of them says it."""

    face_iou: float
    """Intersection over union of the visible face, 0 to 1."""
    hidden_iou: float
    """The same of what is hidden of the face, over crops where something is."""
    pooled_hidden_iou: float
    """The same over the pixels of all crops together: a hand counts more than a thin strand."""
    edge_percent: float
    """Mean distance of the edges of what is hidden, predicted and true, in percent of the face's
    width."""
    false_percent: float
    """Part of an uncovered face that is called hidden, percent."""


def train_masks(
    net: VisibleFaceNet, sample: SampleFn, schedule: MaskSchedule
) -> Iterator[tuple[int, float]]:
    """Train in place; yield images seen and the loss after each step.

    Args:
        net: The network, in training mode.
        sample: Gives the crops: number 0 first.
        schedule: How long, and how.
    """
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stub
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.0, weight_decay=WEIGHT_DECAY)
    for step in range(schedule.steps):
        first = step * schedule.batch_size
        side_px = INPUT_PX // 2 if schedule.is_small(step) else INPUT_PX
        samples = [sample(number, side_px) for number in range(first, first + schedule.batch_size)]
        images, visible, face = make_batch(samples, seed=derive_seed(schedule.seed, step, "masks"))
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        loss = mask_loss(net(images), visible, face, overlap_weight=schedule.overlap_weight)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        yield first + len(samples), float(loss.detach())


def make_batch(samples: Sequence[OccludedSample], *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return images (B, 3, S, S) in [-1, 1], and the masks `visible` and `face` (B, 1, S, S)."""
    images = to_tensor([one.image for one in samples])
    random = torch.Generator().manual_seed(seed)
    is_degraded = torch.rand(len(samples), 1, 1, 1, generator=random) < DEGRADE_PROB
    images = torch.where(is_degraded, degrade(images, seed=seed), images)
    visible, face = (
        torch.from_numpy(np.stack([getattr(one, name) for one in samples]))[:, None]
        for name in ("visible", "face")
    )
    return images.contiguous(memory_format=torch.channels_last), visible, face


def save_masks(net: VisibleFaceNet, path: Path) -> None:
    """Write a network's weights in float16, as `VisibleFaceModel` reads them.

    Raises:
        InputError: The file cannot be written.
    """
    state = {name: value.half().contiguous() for name, value in net.fold().items()}
    with atomic_write(path) as temporary, translate_os_errors(path):
        save_file(state, temporary)


def score_masks(model: VisibleFaceModel, samples: Sequence[OccludedSample]) -> MaskScore:
    """Score a network on crops."""
    faces, hidden, edges, false = [], [], [], []
    both = either = 0
    for one in samples:
        hidden_part = decide_hidden(model.infer(one.image), one.face)
        face = one.face > 0.5
        true, shown = face & (one.visible > 0.5), face & (hidden_part < 0.5)
        faces.append(_overlap(true, shown))
        both += int((face & ~true & ~shown).sum())
        either += int((face & ~(true & shown)).sum())
        if (face & ~true).sum() >= HIDDEN_PX:
            hidden.append(_overlap(face & ~true, face & ~shown))
            edges.append(_edge_distance(one.visible, 1 - hidden_part, one.face))
        elif true.any():
            false.append(1 - shown.sum() / true.sum())
    return MaskScore(
        face_iou=_mean(faces),
        hidden_iou=_mean(hidden),
        pooled_hidden_iou=both / max(either, 1),
        edge_percent=100 * _mean([one for one in edges if not math.isnan(one)]),
        false_percent=100 * _mean(false),
    )


def _mean(values: Sequence[float]) -> float:
    """Return the mean; NaN of none."""
    return sum(values) / len(values) if values else math.nan


def _overlap(first: AnyArray, second: AnyArray) -> float:
    either = (first | second).sum()
    return float((first & second).sum() / either) if either else 1.0


def _edge_distance(true: Mask, found: Mask, face: Mask) -> float:
    """Return the mean distance of edges well inside the face, each way, in widths of the face."""
    inner = cv2.erode((face > 0.5).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    edges = [_edges(mask) & inner for mask in (true, found)]
    if not all(edge.any() for edge in edges):
        return math.nan
    width = np.ptp(np.flatnonzero((face > 0.5).any(axis=0))) + 1
    distances = [
        cv2.distanceTransform((~b).astype(np.uint8), cv2.DIST_L2, 5)[a].mean()
        for a, b in (edges, edges[::-1])
    ]
    return float(np.mean(distances) / width)


def _edges(mask: Mask) -> AnyArray:
    """Return the pixels (S, S) with a neighbor on the other side."""
    inside = (mask > 0.5).astype(np.uint8)
    gradient = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    edges: AnyArray = gradient.reshape(INPUT_PX, INPUT_PX) > 0
    return edges
