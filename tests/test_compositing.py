"""Compositing: colors are matched, a pasted face does not move, and the rest is untouched."""

import cv2
import numpy as np
import pytest

from faceswap_cli.compositing.color_transfer import (
    COLOR_TRANSFERS,
    HISTOGRAM,
    LAB,
    MONGE_KANTOROVICH,
    ColorTransfer,
    measure_lab,
    transfer_lab,
)
from faceswap_cli.compositing.compositor import (
    BLEND_MODES,
    Blend,
    Compositor,
    alpha_blend,
    desaturate,
    estimate_grayness,
    pyramid_blend,
    warp_to_frame,
)
from faceswap_cli.compositing.postprocess import (
    Postprocessor,
    add_grain,
    estimate_blur_px,
    estimate_grain,
    unsharp_mask,
)
from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import AnyArray, Image, Mask
from faceswap_cli.faces.alignment import FaceAlignment

PLAIN = Compositor(color_transfer=None)
FULL = np.ones((128, 128), dtype=np.float32)
TRANSFERS = [one for one in COLOR_TRANSFERS.values() if one is not None]


def _random_image(width: int, height: int, *, seed: int, detail_px: int = 12) -> Image:
    """Return smooth random blotches of `detail_px` px with the contrast of a photo."""
    noise = np.random.default_rng(seed).integers(30, 226, (height // detail_px + 2, 64, 3))
    coarse = noise[:, : width // detail_px + 2].astype(np.uint8)
    return np.asarray(
        cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8
    )


def _square_at(*, side: float, center: tuple[float, float], degrees: float = 0.0) -> FaceAlignment:
    """Return a square of `side` px around `center`, rotated clockwise."""
    angle = np.deg2rad(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / side
    offset = 0.5 - rotation @ np.array(center)
    return FaceAlignment(to_unit=np.column_stack([rotation, offset]))


def _oval(size: int) -> Mask:
    """Return an oval that fills most of the square."""
    mask = np.zeros((size, size), dtype=np.uint8)
    center, axes = (size // 2, size // 2), (size * 3 // 8, size * 15 // 32)
    cv2.ellipse(mask, center, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
    return (mask / 255).astype(np.float32)


def _psnr(one: AnyArray, other: AnyArray) -> float:
    """Return the peak signal-to-noise ratio, dB."""
    error = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _shift_px(still: Image, moved: Image) -> AnyArray:
    """Return how far the center of an image moved, x and y (Lucas and Kanade, 1981)."""
    down, across = (np.asarray(np.gradient(still.astype(float), axis=axis)) for axis in (0, 1))
    change = moved.astype(np.float64) - still
    window = (slice(85, 155), slice(125, 195))
    slopes = np.stack([across[window].ravel(), down[window].ravel()], axis=1)
    return np.asarray(-np.linalg.solve(slopes.T @ slopes, slopes.T @ change[window].ravel()))


def _lab(image: Image) -> AnyArray:
    """Return float32 L*a*b*."""
    return cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def _transfer(transfer: ColorTransfer, image: Image, reference: Image, mask: Mask) -> Image:
    """Return the image with the reference's colors inside the mask."""
    return transfer.apply(image, transfer.compute_statistics(reference, image, mask))


# --- color -----------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("seed", range(3))
def test_color_transfer_to_itself_is_the_identity(transfer: ColorTransfer, seed: int) -> None:
    """An image that has the colors already keeps every pixel, within one level."""
    image, mask = _random_image(128, 128, seed=seed), _oval(128)
    change = _transfer(transfer, image, image, mask).astype(int) - image.astype(int)
    assert np.abs(change[mask > 0.5]).max() <= 1


def test_lab_transfer_matches_the_reference() -> None:
    """Inside the mask, mean and deviation of L*, a* and b* become those of the reference."""
    image = np.asarray(_random_image(128, 128, seed=1) * 0.5 + 30, dtype=np.uint8)
    reference = np.asarray(_random_image(128, 128, seed=2) * 0.4 + [90, 60, 40], dtype=np.uint8)
    mask = _oval(128)
    own, target_moments = (measure_lab(face, mask) for face in (image, reference))
    matched = _lab(transfer_lab(image, own, target_moments))[mask > 0.5]
    target = _lab(reference)[mask > 0.5]
    np.testing.assert_allclose(target.mean(axis=0), matched.mean(axis=0), atol=0.3)
    np.testing.assert_allclose(target.std(axis=0), matched.std(axis=0), atol=0.4)


@pytest.mark.parametrize("transfer", [MONGE_KANTOROVICH, HISTOGRAM])
def test_rgb_transfer_matches_the_reference(transfer: ColorTransfer) -> None:
    """Inside the mask, mean and deviation of red, green and blue become the reference's."""
    image = np.asarray(_random_image(128, 128, seed=1) * 0.5 + 30, dtype=np.uint8)
    reference = np.asarray(_random_image(128, 128, seed=2) * 0.4 + [90, 60, 40], dtype=np.uint8)
    mask = _oval(128)
    own, target_moments = (transfer.measure(face, mask) for face in (image, reference))
    matched = transfer.transfer(image, own, target_moments)[mask > 0.5]
    target = reference[mask > 0.5]
    np.testing.assert_allclose(target.mean(axis=0), matched.mean(axis=0), atol=2)
    np.testing.assert_allclose(target.std(axis=0), matched.std(axis=0), rtol=0.12)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_color_moments_can_be_averaged(transfer: ColorTransfer) -> None:
    """The mean of two frames' moments are the moments of both frames together."""
    one, other = _random_image(64, 64, seed=1), _random_image(64, 64, seed=2)
    mask = np.ones((64, 64), np.float32)
    together = transfer.measure(np.hstack([one, other]), np.hstack([mask, mask]))
    average = (transfer.measure(one, mask) + transfer.measure(other, mask)) / 2
    np.testing.assert_allclose(together, average, rtol=1e-5)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_pixels_outside_the_mask_are_ignored(transfer: ColorTransfer) -> None:
    """The background of either face does not change the result."""
    mask = _oval(128)
    image, reference = _random_image(128, 128, seed=1), _random_image(128, 128, seed=2)
    other = np.where(mask[..., None] > 0.5, reference, 255).astype(np.uint8)
    np.testing.assert_array_equal(
        _transfer(transfer, image, reference, mask), _transfer(transfer, image, other, mask)
    )


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_gain_is_limited_on_flat_faces(transfer: ColorTransfer) -> None:
    """Weak noise on a flat face stays weak, whatever the reference."""
    noise = np.random.default_rng(0).integers(-1, 2, (128, 128, 3))
    flat = np.asarray(128 + noise, dtype=np.uint8)
    matched = _transfer(transfer, flat, _random_image(128, 128, seed=2), FULL)
    assert matched.std(axis=(0, 1)).max() < 6


@pytest.mark.parametrize("transfer", [LAB, MONGE_KANTOROVICH])
def test_a_blurred_face_is_not_stretched(transfer: ColorTransfer) -> None:
    """A blurry swap lacks detail, not contrast: its shading stays."""
    light = np.linspace(60, 190, 128)[:, None, None]
    detail = _random_image(128, 128, seed=3, detail_px=4).astype(float) - 128
    reference = np.asarray(np.clip(light + detail * 0.5, 0, 255), dtype=np.uint8)
    blurred = np.asarray(cv2.GaussianBlur(reference, (0, 0), 4), dtype=np.uint8)
    assert _transfer(transfer, blurred, reference, FULL).std() / blurred.std() < 1.07


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_color_transfer_is_independent_of_size(transfer: ColorTransfer) -> None:
    """A face of twice the size gets the same colors."""
    image, reference = (
        _random_image(128, 128, seed=1, detail_px=32),
        _random_image(128, 128, seed=2),
    )
    double = np.asarray(cv2.resize(image, (256, 256), interpolation=cv2.INTER_CUBIC), np.uint8)
    small, large = (
        _transfer(transfer, image, reference, _oval(128)),
        _transfer(transfer, double, reference, _oval(128)),
    )
    assert 2 > np.abs(small.mean(axis=(0, 1)) - large.mean(axis=(0, 1))).max()


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_an_empty_mask_is_no_error(transfer: ColorTransfer) -> None:
    """An image comes back even if nothing can be measured."""
    image = _random_image(64, 64, seed=1)
    assert image.shape == _transfer(transfer, image, image, np.zeros((64, 64), np.float32)).shape


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_smoothed_statistics_reduce_flicker(transfer: ColorTransfer) -> None:
    """Averaging over six frames reduces a flicker of 6 % to less than a sixth."""
    mask, swap = _oval(128), _random_image(128, 128, seed=1)
    face = _random_image(128, 128, seed=2) * 0.8
    gains = 1 + 0.06 * (-1.0) ** np.arange(7)
    measured = [
        transfer.compute_statistics(np.asarray(face * gain, dtype=np.uint8), swap, mask)
        for gain in gains
    ]
    alone = [transfer.apply(swap, statistics).mean() for statistics in measured]
    smoothed = [transfer.apply(swap, np.mean(measured[i : i + 6], axis=0)).mean() for i in range(2)]
    assert np.ptp(smoothed) < np.ptp(alone) / 6


def test_given_statistics_are_used() -> None:
    """Statistics that are passed replace those measured on the frame."""
    frame, swap, mask = _random_image(320, 240, seed=1), _random_image(64, 64, seed=2), _oval(128)
    alignment = _square_at(side=100, center=(160, 120))
    compositor = Compositor()
    own = compositor.color_statistics(alignment.crop(frame, 128), swap, mask)
    pasted = compositor.paste(frame, swap, mask, alignment, statistics=own)
    np.testing.assert_array_equal(compositor.paste(frame, swap, mask, alignment), pasted)
    other = compositor.color_statistics(np.full((8, 8, 3), 200, np.uint8), swap, mask)
    brighter = compositor.paste(frame, swap, mask, alignment, statistics=other)
    assert brighter[110:130, 150:170].mean() > pasted[110:130, 150:170].mean() + 20


@pytest.mark.parametrize("blend", BLEND_MODES)
@pytest.mark.parametrize("color", COLOR_TRANSFERS)
def test_a_face_in_black_and_white_footage_has_no_color(color: str, blend: str) -> None:
    """Gray in, gray out: channels are at most 2 levels apart, as far as coding had them apart.

    They were up to 25 apart with --color mkl, more with the others: gains are limited, so that
    color transfer cannot take all of the swapped face's color away.
    """
    gray = cv2.cvtColor(_random_image(320, 240, seed=1), cv2.COLOR_RGB2GRAY)
    coded = np.random.default_rng(0).integers(-1, 2, (240, 320, 3))
    frame = np.clip(gray[..., None] + coded, 0, 255).astype(np.uint8)
    swapped = np.asarray(_random_image(128, 128, seed=2) * 0.4 + [110, 60, 40], dtype=np.uint8)
    compositor = Compositor(color_transfer=COLOR_TRANSFERS[color], blend=BLEND_MODES[blend])
    made = compositor.paste(
        frame, swapped, _oval(128), _square_at(side=120, center=(160, 120))
    ).astype(int)
    assert np.abs(made - frame).max() > 20
    assert np.ptp(made, axis=2).max() <= 2


def test_footage_in_color_is_not_desaturated() -> None:
    """A muted grade keeps every byte; a small logo does not make black-and-white footage color."""
    skin = np.asarray(_random_image(200, 200, seed=3) * 0.1 + [96, 86, 80], dtype=np.uint8)
    assert 0 == estimate_grayness(skin)
    assert skin is desaturate(skin, 0)
    gray = np.full((200, 200, 3), 90, np.uint8)
    gray[:20, :20] = 200, 20, 20
    assert 1 == estimate_grayness(gray)
    steps = [np.full((9, 9, 3), [90 + chroma, 90, 90], np.uint8) for chroma in range(8)]
    amounts = [estimate_grayness(step) for step in steps]
    assert amounts == sorted(amounts, reverse=True)
    assert 0 < amounts[4] < 1


# --- composite --------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [0.0, 17.0, -140.0])
@pytest.mark.parametrize("center", [(160.0, 120.0), (150.5, 110.25)])
def test_pasting_a_crop_back_gives_the_frame(degrees: float, center: tuple[float, float]) -> None:
    """A crop at native scale, pasted back, changes next to nothing."""
    frame = _random_image(320, 240, seed=3)
    alignment = _square_at(side=128, center=center, degrees=degrees)
    composed = PLAIN.paste(frame, alignment.crop(frame, 128), _oval(128), alignment)
    changed = np.any(composed != frame, axis=2) | (degrees == 0)
    assert _psnr(frame[changed], composed[changed]) > 38


@pytest.mark.parametrize("size", [64, 100, 256, 512])
def test_no_half_pixel_is_lost(size: int) -> None:
    """A face pasted back does not move, within a twentieth of a pixel."""
    frame = _random_image(320, 240, seed=5, detail_px=24)
    alignment = _square_at(side=150.7, center=(160.3, 120.6), degrees=25)
    composed = PLAIN.paste(frame, alignment.crop(frame, size), _oval(128), alignment)
    assert np.abs(_shift_px(frame, composed)).max() < 0.05


def test_the_shift_measure_sees_a_known_shift() -> None:
    """`_shift_px` measures a shift of a quarter of a pixel."""
    frame = _random_image(320, 240, seed=5, detail_px=24)
    shift = np.array([[1, 0, 0.25], [0, 1, -0.25]])
    moved = np.asarray(cv2.warpAffine(frame, shift, (320, 240)), dtype=np.uint8)
    np.testing.assert_allclose([0.25, -0.25], _shift_px(frame, moved), atol=0.05)


@pytest.mark.parametrize("size", [48, 96])
def test_pasting_keeps_more_detail_than_a_plain_warp(size: int) -> None:
    """A small face, enlarged, is closer to the truth than by linear interpolation."""
    frame = _random_image(320, 240, seed=6, detail_px=5)
    alignment = _square_at(side=96.4, center=(160.3, 120.6), degrees=20)
    crop = alignment.crop(frame, size)
    window = (slice(100, 140), slice(140, 180))
    plain = warp_to_frame(crop, alignment, Rect(0, 0, 320, 240))
    pasted = PLAIN.paste(frame, crop, FULL, alignment)
    assert _psnr(frame[window], pasted[window]) > _psnr(frame[window], plain[window]) + 0.5


@pytest.mark.parametrize("size", [64, 96, 256, 512])
def test_a_face_of_any_size_is_pasted_at_the_same_position(size: int) -> None:
    """The same face at another size covers the same pixels in the same way."""
    frame = np.zeros((240, 320, 3), dtype=np.uint8)
    alignment = _square_at(side=120.4, center=(158.7, 121.2), degrees=10)
    drawing = _random_image(128, 128, seed=4, detail_px=40)
    resized = np.asarray(
        cv2.resize(drawing, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8
    )
    expected = PLAIN.paste(frame, drawing, _oval(128), alignment)
    assert _psnr(expected, PLAIN.paste(frame, resized, _oval(128), alignment)) > 42


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_mask_of_any_size_covers_the_same_pixels(size: int) -> None:
    """The mask's own resolution moves its edge by less than a pixel or two."""
    white = np.full((64, 64, 3), 255, dtype=np.uint8)
    frame = np.zeros((240, 320, 3), dtype=np.uint8)
    alignment = _square_at(side=128, center=(160, 120))
    plain = Compositor(color_transfer=None, shrink=0)
    one, other = (plain.paste(frame, white, _oval(side), alignment) for side in (128, size))
    assert _psnr(one, other) > 28
    assert abs(one.mean() / other.mean() - 1) < 0.04


def test_an_empty_mask_leaves_the_frame() -> None:
    """An empty mask changes nothing."""
    frame, alignment = _random_image(320, 240, seed=1), _square_at(side=100, center=(160, 120))
    composed = PLAIN.paste(
        frame, _random_image(64, 64, seed=2), np.zeros((64, 64), np.float32), alignment
    )
    np.testing.assert_array_equal(frame, composed)


def test_the_interior_shows_the_swapped_pixels_alone() -> None:
    """Well inside the mask only the face is visible."""
    frame = _random_image(320, 240, seed=1)
    green = np.full((64, 64, 3), (10, 200, 30), dtype=np.uint8)
    composed = PLAIN.paste(frame, green, FULL, _square_at(side=100, center=(160, 120)))
    assert np.all(composed[90:150, 130:190] == (10, 200, 30))


@pytest.mark.parametrize("color", [LAB, None])
def test_pixels_outside_of_the_square_are_untouched(color: ColorTransfer | None) -> None:
    """No byte changes outside the face's square, at any angle."""
    frame = _random_image(320, 240, seed=1)
    before = frame.copy()
    alignment = _square_at(side=100, center=(160, 120), degrees=30)
    corners = np.rint(alignment.corners()).astype(np.int32)
    square = cv2.fillConvexPoly(np.zeros((240, 320), np.uint8), corners, 1).astype(bool)
    composed = Compositor(color_transfer=color).paste(
        frame, _random_image(64, 64, seed=2), FULL, alignment
    )
    np.testing.assert_array_equal(frame[~square], composed[~square])
    np.testing.assert_array_equal(before, frame, "the input frame was changed")
    assert np.any(frame[square] != composed[square])


@pytest.mark.parametrize("feather", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("shrink", [-0.05, 0.0, 0.1])
def test_the_soft_edge_is_centered_on_the_masks_edge(feather: float, shrink: float) -> None:
    """The face fades over the feather's width, centered on the edge of the shrunk mask."""
    across = np.abs(np.arange(128) - 64)[None, :] / 128
    mask = (np.hypot(across, across.T) < 0.25).astype(np.float32)
    alpha = Compositor(feather=feather, shrink=shrink).make_alpha(mask)[64]
    inside = 0.25 - shrink - across[0]
    pixel = 1 / 128
    assert np.all(alpha[inside < -feather / 2 - pixel] == 0)
    assert np.all(alpha[inside > feather / 2 + pixel] == 255)
    assert np.all(np.diff(alpha[64:].astype(int)) <= 0)
    half_way = inside[64:][np.argmax(alpha[64:] < 128)]
    assert abs(half_way) < 0.012 + feather * 0.06


def test_the_crop_border_is_feathered() -> None:
    """A mask that fills the square fades out at the border instead of showing a straight edge."""
    alpha = Compositor(feather=0.2).make_alpha(FULL)
    assert alpha[0].max() == 0
    assert np.abs(np.diff(alpha[:, 64].astype(int))).max() < 30


def test_shrinking_and_growing_move_the_edge() -> None:
    """At half height the edge is `shrink` of a side further in; a negative one moves it out."""
    disc = np.zeros((128, 128), np.uint8)
    mask = cv2.circle(disc, (64, 64), 40, 1, -1).astype(np.float32)
    widths = {
        shrink: int((Compositor(feather=0.1, shrink=shrink).make_alpha(mask)[64] > 127).sum())
        for shrink in (-0.1, 0.0, 0.1)
    }
    assert abs(widths[0.0] - widths[0.1] - 2 * 0.1 * 128) <= 3
    assert abs(widths[-0.1] - widths[0.0] - 2 * 0.1 * 128) <= 3


@pytest.mark.parametrize("center", [(0.0, 0.0), (319.0, 100.0), (160.0, 239.0), (1000.0, -500.0)])
def test_a_face_may_overlap_the_edge_of_the_frame(center: tuple[float, float]) -> None:
    """The part outside the frame is left out; a face wholly outside changes nothing."""
    frame, alignment = (
        _random_image(320, 240, seed=1),
        _square_at(side=100, center=center, degrees=20),
    )
    composed = Compositor().paste(frame, _random_image(64, 64, seed=2), _oval(128), alignment)
    assert frame.shape == composed.shape
    assert np.any(frame != composed) == (center[0] < 400)


def test_alpha_blending_is_exact_at_both_ends_and_between() -> None:
    """Fixed-point blending equals the real-valued formula within one level."""
    background, foreground = _random_image(64, 64, seed=1), _random_image(64, 64, seed=2)
    alpha = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    alpha[:8], alpha[8:16] = 0, 255
    blended = alpha_blend(background, foreground, alpha)
    weight = alpha[..., None] / 255
    expected = background * (1 - weight) + foreground * weight
    assert np.abs(blended - expected).max() <= 1.001
    np.testing.assert_array_equal(background[:8], blended[:8])
    np.testing.assert_array_equal(foreground[8:16], blended[8:16])


@pytest.mark.parametrize("blend", BLEND_MODES.values())
def test_every_blend_leaves_what_alpha_hides(blend: Blend) -> None:
    """Where alpha is 0, no byte of the image changes."""
    background, foreground = _random_image(160, 140, seed=1), _random_image(160, 140, seed=2)
    alpha = np.zeros((140, 160), dtype=np.uint8)
    alpha[6:134, 16:144] = Compositor(feather=0.2).make_alpha(_oval(128))
    blended = blend(background, foreground, alpha)
    np.testing.assert_array_equal(background[alpha == 0], blended[alpha == 0])
    assert np.any(background != blended)


@pytest.mark.parametrize("blend", BLEND_MODES.values())
def test_every_blend_of_equal_images_changes_nothing(blend: Blend) -> None:
    """An image blended with itself is unchanged, within two levels."""
    background = _random_image(160, 140, seed=1, detail_px=30)
    alpha = np.zeros((140, 160), dtype=np.uint8)
    alpha[6:134, 16:144] = Compositor(feather=0.2).make_alpha(_oval(128))
    change = blend(background, background, alpha).astype(int) - background
    assert np.abs(change).max() <= 2


def test_a_pyramid_blend_shows_the_swapped_pixels_inside() -> None:
    """Where alpha is 255 the face is unchanged, since its bands sum to the image."""
    background, foreground = _random_image(160, 140, seed=1), _random_image(160, 140, seed=2)
    alpha = np.zeros((140, 160), dtype=np.uint8)
    alpha[6:134, 16:144] = Compositor(feather=0.2).make_alpha(_oval(128))
    blended = pyramid_blend(background, foreground, alpha)
    np.testing.assert_array_equal(foreground[alpha == 255], blended[alpha == 255])


def test_the_protect_mask_shows_the_frame() -> None:
    """A protected area shows the frame, however narrow it is compared with the soft edge."""
    frame, swap = _random_image(320, 240, seed=1), np.zeros((64, 64, 3), np.uint8)
    alignment = _square_at(side=128, center=(160, 120))
    protect_mask = np.zeros((128, 128), np.float32)
    protect_mask[60:72, 50:78] = 1
    composed = PLAIN.paste(frame, swap, _oval(128), alignment, protect_mask=protect_mask)
    np.testing.assert_array_equal(frame[120:124, 150:170], composed[120:124, 150:170])
    assert 0 == composed[100:108, 150:170].max()
    whole = PLAIN.paste(frame, swap, _oval(128), alignment)
    rows, columns = np.nonzero(np.any(whole != composed, axis=2))
    assert 112 <= rows.min() <= rows.max() <= 132
    assert 142 <= columns.min() <= columns.max() <= 178


# --- postprocessing ---------------------------------------------------------------------------


INSIDE = np.ones((200, 240), np.uint8)
OPAQUE = np.full((200, 240), 255, np.uint8)


def _add_noise(image: Image, sigma: float, *, seed: int = 0) -> Image:
    """Return an image with white noise of deviation `sigma`."""
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape[:2])[..., None]
    return np.asarray(np.clip(np.rint(image + noise), 0, 255), dtype=np.uint8)


def _gaussian(image: Image, sigma: float) -> Image:
    """Return a blurred image."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8)


@pytest.mark.parametrize("sigma", [1.0, 2.5, 5.0, 8.0])
def test_grain_is_measured_and_matched(sigma: float) -> None:
    """Noise is estimated within 12 %, and added to a clean face."""
    clean = _random_image(240, 200, seed=1, detail_px=40)
    frame = _add_noise(clean, sigma)
    assert sigma == pytest.approx(estimate_grain(frame, INSIDE), rel=0.12)
    finished = Postprocessor(match_grain=True)(clean, frame, OPAQUE)
    assert estimate_grain(frame, INSIDE) == pytest.approx(estimate_grain(finished, INSIDE), rel=0.1)
    assert np.abs(finished.mean() - clean.mean()) < 0.3


def test_grain_varies_by_frame_and_is_deterministic() -> None:
    """Different frames get different grain; the same frame gets the same again."""
    clean = _random_image(240, 200, seed=1, detail_px=40)
    one, other = (_add_noise(clean, 4, seed=seed) for seed in (1, 2))
    add = Postprocessor(match_grain=True)
    np.testing.assert_array_equal(add(clean, one, OPAQUE), add(clean, one, OPAQUE))
    first, second = (add(clean, frame, OPAQUE).astype(float) - clean for frame in (one, other))
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("sigma", [0.8, 1.2, 2.0])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_a_blurred_frame_blurs_the_face(sigma: float, noise: float) -> None:
    """The blur is estimated within 20 %, with or without grain, and brings the face closer."""
    sharp = _random_image(240, 200, seed=3, detail_px=4)
    frame = _add_noise(_gaussian(sharp, sigma), noise)
    assert sigma == pytest.approx(estimate_blur_px(sharp, frame, INSIDE), rel=0.2)
    finished = Postprocessor(match_blur=True)(sharp, frame, OPAQUE)
    assert _psnr(_gaussian(sharp, sigma), finished) > _psnr(_gaussian(sharp, sigma), sharp) + 5


def test_a_sharp_frame_leaves_a_blurred_face_alone() -> None:
    """Blur is added, never removed."""
    sharp = _random_image(240, 200, seed=3, detail_px=4)
    np.testing.assert_array_equal(
        _gaussian(sharp, 2), Postprocessor(match_blur=True)(_gaussian(sharp, 2), sharp, OPAQUE)
    )


def test_sharpening_strengthens_fine_detail() -> None:
    """Fine detail grows by the amount; flat areas are unchanged."""
    image = _random_image(240, 200, seed=3, detail_px=4)
    before, after = (
        one - _gaussian(one, 1).astype(float) for one in (image, unsharp_mask(image, 0.5))
    )
    assert 1.1 < after.std() / before.std() < 1.5
    flat = np.full((20, 20, 3), 90, np.uint8)
    np.testing.assert_array_equal(flat, unsharp_mask(flat, 1.0))


@pytest.mark.parametrize(
    "postprocess", [Postprocessor(), Postprocessor(match_blur=True, match_grain=True)]
)
def test_a_tiny_interior_is_no_error(postprocess: Postprocessor) -> None:
    """With too few pixels to measure, the face is unchanged."""
    image = _random_image(240, 200, seed=3)
    np.testing.assert_array_equal(image, postprocess(image, image, np.zeros((200, 240), np.uint8)))


def test_a_face_larger_than_the_noise_tile_is_grainy_all_over() -> None:
    """The noise tile repeats."""
    large = np.full((1_300, 1_200, 3), 128, np.uint8)
    noisy = add_grain(large, 4.0, seed=1)
    corners = [noisy[:100, :100], noisy[-100:, -100:], noisy[:100, -100:]]
    assert [4, 4, 4] == pytest.approx([float(one.std()) for one in corners], rel=0.1)
