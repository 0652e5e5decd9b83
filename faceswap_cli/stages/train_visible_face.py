"""Teach a workspace what covers its faces: the small network learns from masks that a user painted.

It begins with the network of the package, or with what the workspace was taught before, and is
written into the workspace, where all commands use it from then on.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from faceswap_cli.core.hardware import limit_threads
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import graceful_interrupt
from faceswap_cli.core.workspace import SetFolder, Workspace
from faceswap_cli.faces.occlusion import VisibleFaceModel
from faceswap_cli.pretraining.marked_crops import MarkedCrops, read_marked_crops
from faceswap_cli.pretraining.mask_training import (
    MaskSchedule,
    MaskScore,
    save_masks,
    score_masks,
    train_masks,
)
from faceswap_models.occlusion import load_folded

DEFAULT_IMAGES = 2_400
LEARNING_RATE = 1e-3


@dataclass(frozen=True, kw_only=True)
class VisibleFaceSummary:
    """What was taught."""

    masks: int
    """Masks that were learned from."""
    before: MaskScore
    """How well the network fitted the masks."""
    after: MaskScore
    """How well it fits them now."""
    seconds: float
    output: Path

    def to_rows(self) -> dict[str, str]:
        """Return the rows of a table."""
        return {
            "masks": str(self.masks),
            "overlap of the visible face": _arrow(self.before.face_iou, self.after.face_iou),
            "overlap of what is hidden": _arrow(self.before.hidden_iou, self.after.hidden_iou),
            "seconds": f"{self.seconds:.0f}",
            "output": str(self.output),
        }


def train_visible_face(
    folders: Sequence[SetFolder],
    workspace: Workspace,
    *,
    images: int | None = None,
    seed: int = 0,
    report: Reporter,
) -> VisibleFaceSummary:
    """Teach the workspace's network the masks of sets.

    Args:
        folders: Sets with a folder of masks.
        workspace: Receives the weights.
        images: Crops to show; None for the usual number.
        seed: Seed of the training.
        report: Receives the progress.

    Raises:
        InputError: A set has too few masks, or a mask does not fit its crop.
        CheckpointError: The workspace's weights are damaged.
        KeyboardInterrupt: It was interrupted; nothing is changed.
    """
    started = time.monotonic()
    crops = [crop for folder in folders for crop in read_marked_crops(folder)]
    path = workspace.visible_face_weights
    before = VisibleFaceModel.load(path)
    marked = MarkedCrops(crops=crops, seed=seed)
    schedule = MaskSchedule(
        images=images or DEFAULT_IMAGES, learning_rate=LEARNING_RATE, small_fraction=0.0, seed=seed
    )
    torch.manual_seed(seed)
    weights = {name: torch.tensor(one) for name, one in before.weights.items()}
    net = load_folded(weights).train()
    report.start_task("learning masks", total=schedule.images, unit="crops")
    with limit_threads(1), graceful_interrupt() as interrupt:
        for seen, loss in train_masks(net, marked.sample, schedule):
            report.update(seen, {"loss": round(loss, 3)})
            if interrupt.requested:
                raise KeyboardInterrupt
    save_masks(net, path)
    samples = [crop.sample() for crop in crops]
    return VisibleFaceSummary(
        masks=len(crops),
        before=score_masks(before, samples),
        after=score_masks(VisibleFaceModel.load(path), samples),
        seconds=time.monotonic() - started,
        output=path,
    )


def _arrow(before: float, after: float) -> str:
    return f"{before:.3f} -> {after:.3f}"
