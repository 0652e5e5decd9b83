"""Reading an area of a frame gives what reading all of it gives, bit for bit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from faceswap_cli.core.lazy_image import (
    ArrayImage,
    Patch,
    PatchedImage,
    Rect,
)
from faceswap_cli.core.types import Image
from faceswap_cli.video.color import SWSCALE_THREADS, ToRGB, read_color_tags
from faceswap_cli.video.frame import LazyFrame
from faceswap_cli.video.orientation import Orientation
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames

UPRIGHT = Orientation(transposed=False, mirrored_x=False, mirrored_y=False)
ORIENTATIONS = [
    Orientation(transposed=transposed, mirrored_x=x, mirrored_y=y)
    for transposed in (False, True)
    for x in (False, True)
    for y in (False, True)
]


def noise(width: int = 192, height: int = 128, seed: int = 0) -> Image:
    """Return an image of noise."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def make_lazy_frame(
    image: Image, *, pixel_format: str = "yuv420p", orientation: Orientation = UPRIGHT
) -> LazyFrame:
    """Return a frame as a decoder gives it, stored with an orientation."""
    frame = VideoFrame.from_ndarray(image).reformat(format=pixel_format, threads=SWSCALE_THREADS)
    to_rgb = ToRGB(read_color_tags(frame), size=(frame.width, frame.height))
    return LazyFrame(frame, to_rgb=to_rgb, orientation=orientation)


def random_areas(size: tuple[int, int], count: int, *, seed: int = 0) -> Iterator[Rect]:
    """Yield areas of all sizes all over an image, its corners and the whole among them."""
    width, height = size
    rng = np.random.default_rng(seed)
    yield from (Rect(0, 0, 1, 1), Rect(width - 1, height - 1, width, height))
    for _ in range(count):
        left, top = int(rng.integers(width)), int(rng.integers(height))
        right, bottom = rng.integers(left, width) + 1, rng.integers(top, height) + 1
        yield Rect(left, top, int(right), int(bottom))
    yield Rect(0, 0, width, height)


def crop(image: Image, area: Rect) -> Image:
    """Return an area of an image."""
    return image[area.slices]


@pytest.mark.parametrize(
    "pixel_format",
    [
        *("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "yuv422p12le"),
        *("nv12", "gray", "rgb24", "bgra"),
    ],
)
@pytest.mark.parametrize("size", [(192, 128), (191, 127), (33, 64)])
def test_an_area_is_that_of_the_whole(pixel_format: str, size: tuple[int, int]) -> None:
    """Whatever the pixel format and wherever the area is, alone and after others."""
    image = noise(*size)
    whole = make_lazy_frame(image, pixel_format=pixel_format).to_array()

    again = make_lazy_frame(image, pixel_format=pixel_format)
    for area in random_areas(size, 12):
        alone = make_lazy_frame(image, pixel_format=pixel_format)
        np.testing.assert_array_equal(crop(whole, area), crop(alone.to_partial_array(area), area))
        np.testing.assert_array_equal(crop(whole, area), crop(again.to_partial_array(area), area))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_area_of_a_rotated_frame_is_upright(orientation: Orientation) -> None:
    """Areas are those of the upright image, not of the stored one."""
    image = noise()
    whole = make_lazy_frame(image, orientation=orientation).to_array()

    for area in random_areas(whole.shape[1::-1], 8):
        rotated = make_lazy_frame(image, orientation=orientation)
        assert whole.shape[1::-1] == rotated.size
        np.testing.assert_array_equal(crop(whole, area), crop(rotated.to_partial_array(area), area))


def clip(path: Path, **options: str) -> Path:
    """Write a clip of three frames, coarse enough to survive compression."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, width=320, height=192, options=options)
        for seed in range(3):
            image = np.kron(noise(40, 24, seed), np.ones((8, 8, 1), np.uint8))
            frame = VideoFrame.from_ndarray(image).reformat(format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("options", [{}, {"x264-params": "tff=1"}])
def test_areas_of_a_file_are_those_of_the_whole(options: dict[str, str], tmp_path: Path) -> None:
    """Areas respect the chroma location and the interlacing of a file."""
    path = clip(tmp_path / "clip.mp4", **options)
    assert bool(options) == probe(path).interlaced

    for seed, (one, other) in enumerate(zip(read_frames(path), read_frames(path), strict=True)):
        for area in random_areas((320, 192), 10, seed=seed):
            partial = one.view.to_partial_array(area)
            np.testing.assert_array_equal(crop(other.image, area), crop(partial, area))
        np.testing.assert_array_equal(other.image, one.image)


def test_threads_read_the_same() -> None:
    """Threads that read concurrently get the right pixels."""
    image = noise()
    whole = make_lazy_frame(image).to_array()
    view = make_lazy_frame(image)

    def differs(area: Rect) -> int:
        return int((crop(whole, area) != crop(view.to_partial_array(area), area)).sum())

    with ThreadPoolExecutor(max_workers=4) as threads:
        assert [0] * 43 == list(threads.map(differs, random_areas((192, 128), 40)))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv420p10le", "nv12"])
def test_the_luma_is_that_of_the_image(pixel_format: str) -> None:
    """Black is 0 and white 255, whatever they are in the file."""
    ramp = np.repeat(np.linspace(0, 255, 192).astype(np.uint8)[None, :, None], 128, axis=0)
    view = make_lazy_frame(np.repeat(ramp, 3, axis=2), pixel_format=pixel_format)

    luma = view.sample_luma(4)

    assert (32, 48) == luma.shape
    assert int(np.abs(luma - ramp[::4, ::4, 0].astype(int)).max()) <= 2
    np.testing.assert_allclose(luma, ArrayImage(image=view.to_array()).sample_luma(4), atol=2)


def test_the_luma_of_a_rotated_frame_is_upright() -> None:
    """Width and height are exchanged as those of the image."""
    orientation = Orientation(transposed=True, mirrored_x=True, mirrored_y=False)

    assert (192 // 4, 128 // 4) == make_lazy_frame(noise(), orientation=orientation).sample_luma(
        4
    ).shape


def test_subtracting_an_area_leaves_each_pixel_once() -> None:
    """The parts outside of a hole cover the area without the hole, without overlap."""
    rng = list(random_areas((24, 16), 30))
    for area, hole in zip(rng, reversed(rng), strict=True):
        count = np.zeros((16, 24), int)
        for part in area.subtract(hole):
            crop(count, part)[:] += 1
        expected = np.zeros((16, 24), int)
        crop(expected, area)[:] = 1
        crop(expected, hole)[:] = 0
        np.testing.assert_array_equal(expected, count)


def test_an_area_outside_is_the_nearest_pixel() -> None:
    """A face may have left the image: there is always a pixel to read."""
    assert (0, 0, 24, 16) == Rect(-5, -5, 99, 99).clip_nonempty((24, 16))
    assert (23, 0, 24, 1) == Rect(40, -9, 50, -3).clip_nonempty((24, 16))
    assert (3, 4, 5, 6) == Rect(3, 4, 5, 6).clip_nonempty((24, 16))


def test_an_array_image_is_its_array() -> None:
    """The array is returned as it is."""
    image = noise()
    array = ArrayImage(image=image)

    assert (192, 128) == array.size
    assert array.to_array() is array.to_partial_array(Rect(1, 2, 3, 4)) is image


@pytest.mark.parametrize("kind", ["array", "decoded"])
def test_patches_show_and_nothing_else_changes(kind: str) -> None:
    """Later patches cover earlier ones, whatever area is read."""
    image = noise(192, 128)
    base = (
        ArrayImage(image=image)
        if kind == "array"
        else make_lazy_frame(image, pixel_format="yuv420p")
    )
    bright, dark = np.full((40, 50, 3), 250, np.uint8), np.full((30, 20, 3), 5, np.uint8)
    patches = [
        Patch(area=Rect(20, 30, 70, 70), image=bright),
        Patch(area=Rect(60, 50, 80, 80), image=dark),
    ]
    expected = base.to_array().copy()
    expected[30:70, 20:70] = bright
    expected[50:80, 60:80] = dark

    patched = PatchedImage(base=base, patches=patches)

    np.testing.assert_array_equal(expected, patched.to_array())
    for area in random_areas((192, 128), 20, seed=3):
        np.testing.assert_array_equal(
            crop(expected, area), crop(patched.to_partial_array(area), area)
        )
    assert base.to_array() is PatchedImage(base=base, patches=[]).to_array()
    assert patched.size == base.size
    np.testing.assert_array_equal(ArrayImage(image=expected).sample_luma(3), patched.sample_luma(3))
