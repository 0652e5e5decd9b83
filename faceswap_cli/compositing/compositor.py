"""Compositing a swapped face into its frame: `Compositor.paste`, or `render_patch` for lazy frames.

Convention:
    `frame` is the whole image. The swapped face and its mask are square images of the area that a
    `FaceAlignment` gives, each of any size. Only a rectangle of the frame changes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import cv2
import numpy as np

from faceswap_cli.compositing import DEFAULT_FEATHER
from faceswap_cli.compositing.color_transfer import (
    MONGE_KANTOROVICH,
    ColorStatistics,
    ColorTransfer,
)
from faceswap_cli.compositing.postprocess import NO_POSTPROCESSING, Postprocessor
from faceswap_cli.core.lazy_image import ArrayImage, LazyImage, Patch, Rect
from faceswap_cli.core.types import AnyArray, Image, Mask, Matrix, Points
from faceswap_cli.faces.alignment import FaceAlignment, transform_points

Blend = Callable[[Image, Image, Image], Image]
"""`blend(background, foreground, alpha)`: uint8 (H, W, 3) twice and uint8 (H, W); 255 shows the
foreground."""


def alpha_blend(background: Image, foreground: Image, alpha: Image) -> Image:
    """Blend two images pixel by pixel, exact where alpha is 0 or 255, else within one level."""
    weight = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    shown = cv2.multiply(foreground, weight, scale=1 / 255)
    hidden = cv2.multiply(background, cv2.bitwise_not(weight), scale=1 / 255)
    return np.asarray(cv2.add(shown, hidden), dtype=np.uint8)


def pyramid_blend(background: Image, foreground: Image, alpha: Image) -> Image:
    """Blend coarse bands over the whole soft edge and fine bands over a part of it.

    So a difference in lighting fades slowly while skin keeps its texture. After Burt and Adelson,
    "A Multiresolution Spline With Application to Image Mosaics", 1983; but the weights of the
    bands are all derived from `alpha` itself, so that nothing spreads beyond it.
    """
    change = np.subtract(foreground, background, dtype=np.float32)
    ramp = alpha.astype(np.float32) * np.float32(1 / 255)
    blended = np.zeros_like(change)
    for coarseness, band in enumerate(_laplacian_bands(change, count=PYRAMID_LEVELS)):
        steepness = 2 ** (PYRAMID_LEVELS - 1 - coarseness)
        weight = np.clip((ramp - 0.5) * steepness + 0.5, 0, 1)
        blended += band * weight[..., None]
    return np.asarray(cv2.add(background, blended, dtype=cv2.CV_8U), dtype=np.uint8)


def poisson_blend(background: Image, foreground: Image, alpha: Image) -> Image:
    """Blend in the gradient domain: gradients of `foreground`, colors of `background` at the edge.

    Pérez, Gangnet and Blake, "Poisson Image Editing", 2003, as OpenCV solves it; the result is
    then blended by `alpha`. Takes two hundred times as long as `alpha_blend`, and where the mask's
    edge runs through hair, the hair's color spreads over the face.
    """
    mask = np.asarray(alpha > 0, dtype=np.uint8) * np.uint8(255)
    left, top, width, height = cv2.boundingRect(mask)
    if min(width, height) < 3:
        return background
    # OpenCV centers the mask's bounding box on a point: its own center, so nothing moves.
    center = (left + width // 2, top + height // 2)
    cloned = cv2.seamlessClone(foreground, background, mask, center, cv2.NORMAL_CLONE)
    return alpha_blend(background, np.asarray(cloned, dtype=np.uint8), alpha)


BLEND_MODES: Mapping[str, Blend] = {
    "alpha": alpha_blend,
    "pyramid": pyramid_blend,
    "poisson": poisson_blend,
}
"""Blend modes by the names a user types."""

PROTECT_EDGE = 0.012
"""How far a protected area's edge is softened on either side, as a part of the square's side."""

PYRAMID_LEVELS = 4
"""Bands of a pyramid blend; each has half the resolution of the one before."""

GRAY_CHROMA = 3.0
"""Levels between the channels of a pixel up to which an area is gray."""
COLOR_CHROMA = 6.0
"""Levels from which on it has color."""
CHROMA_PERCENTILE = 98
"""Of the pixels, the one that is compared with them."""
CHROMA_SAMPLE_PX = 64
"""Side of the grid of pixels that is looked at."""


@dataclass(frozen=True, kw_only=True)
class Compositor:
    """Composites swapped faces into frames."""

    feather: float = DEFAULT_FEATHER
    """Width of the soft edge, half of it on either side of the edge, as a part of the square's
    side."""
    shrink: float = 0.0
    """How far the mask is eroded, as a part of the square's side; negative dilates it."""
    color_transfer: ColorTransfer | None = MONGE_KANTOROVICH
    """How colors are matched to the frame; None keeps the swapped face's own."""
    blend: Blend = alpha_blend
    """How the two are blended by the mask."""
    postprocess: Postprocessor = NO_POSTPROCESSING
    """How sharpness, blur and grain are matched to the frame."""

    def paste(
        self,
        frame: Image,
        swapped: Image,
        mask: Mask,
        alignment: FaceAlignment,
        *,
        original: Image | None = None,
        statistics: ColorStatistics | None = None,
        protect_mask: Mask | None = None,
    ) -> Image:
        """Return a copy of `frame` with the swapped face composited into it.

        To keep colors from flickering, measure first and pass the measurement smoothed over time:

            found = [compositor.color_statistics(face, swap, mask) for ...]  # frames in order
            smooth = np.mean(found[i - 5 : i + 6], axis=0)
            compositor.paste(frame, swap, mask, alignment, statistics=smooth)

        Args:
            frame: RGB uint8 (H, W, 3).
            swapped: RGB uint8 (S, S, 3), any S.
            mask: float32 (M, M) in [0, 1], any M: where the swapped face may show.
            alignment: Position of both squares in the frame.
            original: The frame's own crop of that square, of any size, if already at hand.
            statistics: What the colors are matched by; None measures this frame alone.
            protect_mask: float32 (M, M) in [0, 1]: where the frame is preserved, such as between
                the lips (`faces.masks.mouth_mask`). Its edge is softened a little.
        """
        if statistics is None:
            reference = alignment.crop(frame, mask.shape[0]) if original is None else original
            statistics = self.color_statistics(reference, swapped, mask)
        patch = self.render_patch(
            ArrayImage(image=frame),
            swapped,
            mask,
            alignment,
            statistics=statistics,
            protect_mask=protect_mask,
        )
        composed = frame.copy()
        composed[patch.area.slices] = patch.image
        return composed

    def render_patch(
        self,
        frame: LazyImage,
        swapped: Image,
        mask: Mask,
        alignment: FaceAlignment,
        *,
        statistics: ColorStatistics,
        protect_mask: Mask | None = None,
    ) -> Patch:
        """Return the only part of `frame` that changes, with the swapped face composited into it.

        Takes the arguments of `paste`. The patch is empty if the mask is.
        """
        alpha = self.make_alpha(mask, protect_mask=protect_mask)
        area = affected_area(alpha, alignment, frame.size)
        background = np.ascontiguousarray(frame.to_partial_array(area)[area.slices])
        if 0 in area.size:
            return Patch(area=area, image=background)
        if self.color_transfer is not None:
            swapped = self.color_transfer.apply(swapped, statistics)
        oversampled = _oversample(swapped, alignment.side_px)
        foreground = warp_to_frame(oversampled, alignment, area)
        warped_alpha = warp_to_frame(alpha, alignment, area)
        grayness = estimate_grayness(background)
        foreground = desaturate(foreground, grayness)
        foreground = self.postprocess(foreground, background, warped_alpha)
        blended = self.blend(background, foreground, warped_alpha)
        if grayness > 0:  # blending by gradients or bands amplifies what is left of the colors
            visible = warped_alpha[..., None] > 0
            blended = np.where(visible, desaturate(blended, grayness), background)
        return Patch(area=area, image=blended)

    def alpha_in_frame(
        self,
        mask: Mask,
        alignment: FaceAlignment,
        size: tuple[int, int],
        *,
        protect_mask: Mask | None = None,
    ) -> Image:
        """Return how much of the swapped face each pixel of the frame shows, uint8 (H, W).

        Args:
            mask: As in `paste`.
            alignment: Position of the mask's square.
            size: (width, height) px of the frame.
            protect_mask: As in `paste`.
        """
        alpha = self.make_alpha(mask, protect_mask=protect_mask)
        return warp_to_frame(alpha, alignment, Rect.from_size(size))

    def color_statistics(self, original: Image, swapped: Image, mask: Mask) -> ColorStatistics:
        """Return the statistics that colors are matched by; they may be averaged over frames.

        Args:
            original: The frame's crop of the face's square, RGB uint8, of any size.
            swapped: The swapped face in the same square, of any size.
            mask: float32 (M, M) in [0, 1], of any size.
        """
        if self.color_transfer is None:
            return np.zeros((2, 3, 0))
        return self.color_transfer.compute_statistics(original, swapped, mask)

    def make_alpha(self, mask: Mask, *, protect_mask: Mask | None = None) -> Image:
        """Return the shrunk and feathered mask, uint8 (M, M): 0 outside and in `protect_mask`.

        The square's border counts as an edge, with the whole ramp inside, so that a square that
        cuts the face off leaves no visible line.
        """
        side = mask.shape[0]
        radius = round(self.feather * side / 2)
        shrunk = _erode(_to_uint8(mask), round(self.shrink * side))
        outermost = _erode(shrunk, -radius)
        shrunk[_border_mask(side, radius + 1)] = 0
        # Boxes extend further along diagonals than a disc of the same radius: cut that off.
        alpha = np.minimum(_box_blur(shrunk, radius), outermost)
        if protect_mask is None:
            return alpha
        # A narrow opening, such as a mouth's, must not be closed by the wide edge of the face.
        softened = _box_blur(_to_uint8(protect_mask), max(1, round(PROTECT_EDGE * side)))
        return np.asarray(cv2.multiply(alpha, cv2.bitwise_not(softened), scale=1 / 255), np.uint8)


def affected_area(alpha: Image, alignment: FaceAlignment, size: tuple[int, int]) -> Rect:
    """Return the smallest rectangle of the frame with every pixel that `alpha` can change.

    Args:
        alpha: The feathered mask, uint8 (S, S).
        alignment: Position of its square.
        size: (width, height) px of the frame.
    """
    left, top, width, height = cv2.boundingRect(alpha)
    if width == 0:
        return Rect(0, 0, 0, 0)
    # Linear interpolation extends one pixel beyond the last one that is not zero.
    x0, y0, x1, y1 = left - 1, top - 1, left + width, top + height
    corners: Points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float32)
    in_frame = transform_points(corners, alignment.crop_to_frame(alpha.shape[0]))
    low, high = np.floor(in_frame.min(axis=0)), np.ceil(in_frame.max(axis=0)) + 1
    return Rect(int(low[0]), int(low[1]), int(high[0]), int(high[1])).clip(size)


def warp_to_frame(square: Image, alignment: FaceAlignment, area: Rect) -> Image:
    """Return `square` warped to the frame, cropped to `area`, uint8.

    Beyond its border an image repeats its outermost pixels; a mask, (S, S), is 0.
    """
    border = cv2.BORDER_REPLICATE if square.ndim == 3 else cv2.BORDER_CONSTANT
    area_to_square = _offset_transform(alignment.frame_to_crop(square.shape[0]), area)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(square, area_to_square, area.size, flags=flags, borderMode=border)
    return np.asarray(warped, dtype=np.uint8)


def estimate_grayness(background: Image) -> float:
    """Return 1 for an area of black-and-white footage, 0 for one in color, and between for doubt.

    The most colorful pixels decide, but for 2 %: hot pixels, subtitles and logos. Coding shifts
    the channels of a gray pixel apart by a level or two; skin has them 15 and more apart, also in
    a muted grade. The ramp in between keeps a noisy area from switching from frame to frame.

    Args:
        background: RGB uint8 (H, W, 3): the face and what surrounds it.
    """
    step = max(1, min(background.shape[:2]) // CHROMA_SAMPLE_PX)
    some = background[::step, ::step]
    spread = some.max(axis=2) - some.min(axis=2)
    chroma = float(np.percentile(spread, CHROMA_PERCENTILE))
    return float(np.interp(chroma, [GRAY_CHROMA, COLOR_CHROMA], [1, 0]))


def desaturate(image: Image, amount: float) -> Image:
    """Move an RGB image's colors towards its luma: 0 returns the image itself, 1 is gray."""
    if amount <= 0:
        return image
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(gray, amount, image, 1 - amount, 0), dtype=np.uint8)


def _offset_transform(frame_to_square: Matrix, area: Rect) -> Matrix:
    """Return the transform for coordinates in `area`, whose first pixel is (0, 0)."""
    corner = np.array([area.left, area.top], dtype=np.float64)
    offset = frame_to_square[:, :2] @ corner + frame_to_square[:, 2]
    return np.column_stack([frame_to_square[:, :2], offset])


def _oversample(square: Image, side_px: float) -> Image:
    """Return `square` resized to twice `side_px`, so that a linear warp loses next to nothing.

    A cubic resize to twice the side and a linear warp come within 0.1 to 0.7 dB of a cubic warp
    and beat a linear one by 0.8 to 1.7 dB (64 to 256 px faces onto 150 to 300 px of a photograph),
    at 1.1 times a linear warp's time instead of 3 times.
    """
    side = ceil(2 * side_px)
    interpolation = cv2.INTER_CUBIC if side > square.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(square, (side, side), interpolation=interpolation), dtype=np.uint8)


def _laplacian_bands(image: AnyArray, *, count: int) -> Iterator[AnyArray]:
    """Yield the bands of a Laplacian pyramid, fine to coarse, all at full size.

    They sum to the image.
    """
    sizes = [(image.shape[1], image.shape[0])]
    finer, small = image, image
    for _ in range(count - 1):
        small = cv2.pyrDown(small)
        coarser = small
        for size in reversed(sizes):
            coarser = cv2.pyrUp(coarser, dstsize=size)
        sizes.append((small.shape[1], small.shape[0]))
        yield finer - coarser
        finer = coarser
    yield finer


def _to_uint8(mask: Mask) -> Image:
    """Return the mask as uint8, 255 for 1."""
    return np.asarray(np.rint(mask * np.float32(255)), dtype=np.uint8)


def _erode(mask: Image, radius: int) -> Image:
    """Erode the mask by a disc of `radius` px, or dilate it if negative; outside it is zero."""
    if radius == 0:
        return mask.copy()
    diameter = 2 * abs(radius) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    operation = cv2.erode if radius > 0 else cv2.dilate
    result = operation(mask, disc, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(result, dtype=np.uint8)


def _border_mask(side: int, width: int) -> AnyArray:
    """Return True, (side, side), within `width` px of the border."""
    near = np.minimum(np.arange(side), np.arange(side)[::-1]) < width
    return near[:, None] | near[None, :]


def _box_blur(mask: Image, radius: int) -> Image:
    """Blur by two boxes, a near-Gaussian ramp, which together extend `radius` px."""
    for part in (radius // 2, radius - radius // 2):
        kernel = (2 * part + 1, 2 * part + 1)
        mask = np.asarray(cv2.blur(mask, kernel, borderType=cv2.BORDER_CONSTANT), dtype=np.uint8)
    return mask
