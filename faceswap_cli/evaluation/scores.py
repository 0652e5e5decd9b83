"""How close frames come to the true swap, counted up by trial."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from faceswap_cli.core.types import Image, Mask
from faceswap_cli.evaluation.metrics.reconstruction import mean_squared_error, psnr_from_mse, ssim

SSIM_MARGIN_PX = 8
"""How far SSIM's windows reach around the mask."""


@dataclass(kw_only=True, eq=False)
class ReconstructionScores:
    """Scores of frames, in the order they were compared."""

    errors: list[float] = field(default_factory=list)
    """Mean squared errors inside the face, levels squared."""
    ssims: list[float] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def add(self, image: Image, truth: Image, mask: Mask, *, label: str = "") -> None:
        """Compare a frame with the true swap inside the mask; without a mask there is nothing."""
        if mask.max() <= 0:
            return
        self.errors.append(mean_squared_error(image, truth, mask))
        self.ssims.append(cropped_ssim(image, truth, mask))
        self.labels.append(label)

    @property
    def psnr(self) -> float:
        """dB, of the mean error: frames weigh alike."""
        return psnr_from_mse(float(np.mean(self.errors)))

    @property
    def ssim(self) -> float:
        """Mean over the frames."""
        return float(np.mean(self.ssims))

    def psnr_by_label(self) -> dict[str, float]:
        """Return the PSNR of the frames of each label, dB, in the order they first came."""
        found: dict[str, list[float]] = defaultdict(list)
        for label, error in zip(self.labels, self.errors, strict=True):
            found[label].append(error)
        return {label: psnr_from_mse(float(np.mean(errors))) for label, errors in found.items()}

    @classmethod
    def merge(cls, parts: Iterable["ReconstructionScores"]) -> "ReconstructionScores":
        """Return several counted as one."""
        whole = cls()
        for one in parts:
            whole.errors += one.errors
            whole.ssims += one.ssims
            whole.labels += one.labels
        return whole


def cropped_ssim(image: Image, truth: Image, mask: Mask) -> float:
    """Return the SSIM inside the mask, looking no further than its windows reach."""
    rows, columns = np.nonzero(mask)
    y = slice(max(rows.min() - SSIM_MARGIN_PX, 0), rows.max() + SSIM_MARGIN_PX + 1)
    x = slice(max(columns.min() - SSIM_MARGIN_PX, 0), columns.max() + SSIM_MARGIN_PX + 1)
    return ssim(image[y, x], truth[y, x], mask[y, x])
