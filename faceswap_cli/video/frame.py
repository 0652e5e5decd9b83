"""One frame of footage: when it is shown, and its pixels."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.types import Image
from faceswap_cli.video.source_samples import SourceSamples


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture of a video."""

    index: int
    """Counted from 0 in the order of showing."""
    time: Fraction
    """Seconds, exactly as in the file."""
    view: LazyImage
    original: SourceSamples | Path | None = None
    """The samples of the file, or a picture's file itself: what writers take for all that is not
    changed."""

    @property
    def image(self) -> Image:
        """All of it, RGB uint8 (H, W, 3); looking at a part of the view is quicker."""
        return self.view.to_array()
