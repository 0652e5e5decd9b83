"""Looking at a part of a frame shows what looking at all of it shows, bit for bit."""

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
WAYS = [
    Orientation(transposed=swapped, mirrored_x=x, mirrored_y=y)
    for swapped in (False, True)
    for x in (False, True)
    for y in (False, True)
]


def noise(width: int = 192, height: int = 128, seed: int = 0) -> Image:
    """A picture in which no two places are alike."""
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def make_lazy_frame(
    image: Image, *, pixel_format: str = "yuv420p", way: Orientation = UPRIGHT
) -> LazyFrame:
    """A frame as a decoder gives it, lying that way."""
    frame = VideoFrame.from_ndarray(image).reformat(format=pixel_format, threads=SWSCALE_THREADS)
    to_rgb = ToRGB(read_color_tags(frame), size=(frame.width, frame.height))
    return LazyFrame(frame, to_rgb=to_rgb, orientation=way)


def random_areas(size: tuple[int, int], count: int, *, seed: int = 0) -> Iterator[Rect]:
    """Areas of all sizes all over a picture, those in its corners and itself among them."""
    width, height = size
    chance = np.random.default_rng(seed)
    yield from (Rect(0, 0, 1, 1), Rect(width - 1, height - 1, width, height))
    for _ in range(count):
        left, top = int(chance.integers(width)), int(chance.integers(height))
        right, bottom = chance.integers(left, width) + 1, chance.integers(top, height) + 1
        yield Rect(left, top, int(right), int(bottom))
    yield Rect(0, 0, width, height)


def crop(image: Image, area: Rect) -> Image:
    """An area of a picture."""
    return image[area.slices]


@pytest.mark.parametrize(
    "pixel_format",
    [
        *("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuv420p10le", "yuv422p12le"),
        *("nv12", "gray", "rgb24", "bgra"),
    ],
)
@pytest.mark.parametrize("size", [(192, 128), (191, 127), (33, 64)])
def test_a_part_is_that_of_the_whole(pixel_format: str, size: tuple[int, int]) -> None:
    """Whatever the samples are, and wherever the area lies, alone and after others."""
    image = noise(*size)
    whole = make_lazy_frame(image, pixel_format=pixel_format).to_array()

    again = make_lazy_frame(image, pixel_format=pixel_format)
    for area in random_areas(size, 12):
        alone = make_lazy_frame(image, pixel_format=pixel_format)
        np.testing.assert_array_equal(crop(whole, area), crop(alone.to_partial_array(area), area))
        np.testing.assert_array_equal(crop(whole, area), crop(again.to_partial_array(area), area))


@pytest.mark.parametrize("way", WAYS)
def test_a_part_of_a_turned_frame_is_upright(way: Orientation) -> None:
    """Areas count in the picture as it is shown, not as it is stored."""
    image = noise()
    whole = make_lazy_frame(image, way=way).to_array()

    for area in random_areas(whole.shape[1::-1], 8):
        turned = make_lazy_frame(image, way=way)
        assert whole.shape[1::-1] == turned.size
        np.testing.assert_array_equal(crop(whole, area), crop(turned.to_partial_array(area), area))


def clip(path: Path, **options: str) -> Path:
    """Three frames as a file has them, coarse enough to survive."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, width=320, height=192, options=options)
        for seed in range(3):
            image = np.kron(noise(40, 24, seed), np.ones((8, 8, 1), np.uint8))
            frame = VideoFrame.from_ndarray(image).reformat(format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("options", [{}, {"x264-params": "tff=1"}])
def test_parts_of_a_file_are_those_of_the_whole(options: dict[str, str], tmp_path: Path) -> None:
    """A file says where colour samples lie and whether fields are woven: parts follow it."""
    path = clip(tmp_path / "clip.mp4", **options)
    assert bool(options) == probe(path).interlaced

    for seed, (one, other) in enumerate(zip(read_frames(path), read_frames(path), strict=True)):
        for area in random_areas((320, 192), 10, seed=seed):
            shown = one.view.to_partial_array(area)
            np.testing.assert_array_equal(crop(other.image, area), crop(shown, area))
        np.testing.assert_array_equal(other.image, one.image)


def test_threads_see_the_same() -> None:
    """Whoever looks, at the same moment as others, sees the picture."""
    image = noise()
    whole = make_lazy_frame(image).to_array()
    view = make_lazy_frame(image)

    def differs(area: Rect) -> int:
        return int((crop(whole, area) != crop(view.to_partial_array(area), area)).sum())

    with ThreadPoolExecutor(max_workers=4) as threads:
        assert [0] * 43 == list(threads.map(differs, random_areas((192, 128), 40)))


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuvj420p", "yuv420p10le", "nv12"])
def test_the_light_is_that_of_the_picture(pixel_format: str) -> None:
    """Black is 0 and white 255, whatever they are in the file."""
    ramp = np.repeat(np.linspace(0, 255, 192).astype(np.uint8)[None, :, None], 128, axis=0)
    view = make_lazy_frame(np.repeat(ramp, 3, axis=2), pixel_format=pixel_format)

    grey = view.sample_luma(4)

    assert (32, 48) == grey.shape
    assert int(np.abs(grey - ramp[::4, ::4, 0].astype(int)).max()) <= 2
    np.testing.assert_allclose(grey, ArrayImage(image=view.to_array()).sample_luma(4), atol=2)


def test_the_light_of_a_turned_frame_is_upright() -> None:
    """Width and height change places with the picture's."""
    way = Orientation(transposed=True, mirrored_x=True, mirrored_y=False)

    assert (192 // 4, 128 // 4) == make_lazy_frame(noise(), way=way).sample_luma(4).shape


def test_an_area_comes_apart_without_a_rest() -> None:
    """What lies beyond a hole and what the two share make up the area, each pixel once."""
    chance = list(random_areas((24, 16), 30))
    for area, hole in zip(chance, reversed(chance), strict=True):
        count = np.zeros((16, 24), int)
        for piece in area.subtract(hole):
            crop(count, piece)[:] += 1
        expected = np.zeros((16, 24), int)
        crop(expected, area)[:] = 1
        crop(expected, hole)[:] = 0
        np.testing.assert_array_equal(expected, count)


def test_an_area_outside_is_the_nearest_pixel() -> None:
    """A face may have left the picture: there is always something to look at."""
    assert (0, 0, 24, 16) == Rect(-5, -5, 99, 99).clip_nonempty((24, 16))
    assert (23, 0, 24, 1) == Rect(40, -9, 50, -3).clip_nonempty((24, 16))
    assert (3, 4, 5, 6) == Rect(3, 4, 5, 6).clip_nonempty((24, 16))


def test_a_still_shows_itself() -> None:
    """A picture that is there is handed out as it is."""
    image = noise()
    still = ArrayImage(image=image)

    assert (192, 128) == still.size
    assert still.to_array() is still.to_partial_array(Rect(1, 2, 3, 4)) is image


@pytest.mark.parametrize("kind", ["still", "decoded"])
def test_what_is_laid_over_a_picture_shows_and_nothing_else(kind: str) -> None:
    """One after the other, the later over the earlier, wherever one looks."""
    image = noise(192, 128)
    under = (
        ArrayImage(image=image)
        if kind == "still"
        else make_lazy_frame(image, pixel_format="yuv420p")
    )
    bright, dark = np.full((40, 50, 3), 250, np.uint8), np.full((30, 20, 3), 5, np.uint8)
    patches = [
        Patch(area=Rect(20, 30, 70, 70), image=bright),
        Patch(area=Rect(60, 50, 80, 80), image=dark),
    ]
    expected = under.to_array().copy()
    expected[30:70, 20:70] = bright
    expected[50:80, 60:80] = dark

    laid = PatchedImage(base=under, patches=patches)

    np.testing.assert_array_equal(expected, laid.to_array())
    for area in random_areas((192, 128), 20, seed=3):
        np.testing.assert_array_equal(crop(expected, area), crop(laid.to_partial_array(area), area))
    assert under.to_array() is PatchedImage(base=under, patches=[]).to_array()
    assert laid.size == under.size
    np.testing.assert_array_equal(ArrayImage(image=expected).sample_luma(3), laid.sample_luma(3))
