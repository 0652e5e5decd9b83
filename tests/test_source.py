"""What a user names becomes a source: videos, images, folders, patterns, or one clear error."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.video.frame import FramePosition
from faceswap_cli.video.probe import probe
from faceswap_cli.video.source import (
    ImageSequence,
    VideoSource,
    _find_warnings,
    find_sources,
)
from faceswap_cli.video.writer import VideoWriter


def write_image(path: Path, level: int) -> Path:
    """Write an image of one gray level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image_io.write_png(path, np.full((20, 30, 3), level, dtype=np.uint8))
    return path


def write_video(path: Path) -> Path:
    """Write a video of three frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, size=(64, 48), rate=Fraction(25)) as writer:
        for index in range(3):
            writer.write(np.full((48, 64, 3), 60 * index, dtype=np.uint8), Fraction(index, 25))
    return path


def read_levels(
    source: ImageSequence, *, start: int = 0, notes: list[str] | None = None
) -> list[tuple[int, int]]:
    """Return index and gray level of a sequence's frames."""
    lines = [] if notes is None else notes
    frames = source.frames(
        resume_after=FramePosition(index=start - 1, time=Fraction(start - 1, 25)), note=lines.append
    )
    return [(frame.index, int(frame.image[0, 0, 0])) for frame in frames]


def test_a_folder_of_images_is_a_sequence_in_the_order_of_names(tmp_path: Path) -> None:
    """Other files and hidden ones are left out; resuming begins anywhere."""
    for level, name in [(30, "c.png"), (10, "a.PNG"), (20, "b.png"), (99, ".hidden.png")]:
        write_image(tmp_path / "Ada's" / name, level)
    (tmp_path / "Ada's" / "notes.txt").write_text("no picture")

    [source] = find_sources([tmp_path / "Ada's"])

    assert isinstance(source, ImageSequence)
    assert ("Ada's", "Ada's", 3, False) == (
        source.name,
        source.stem,
        source.count,
        source.is_continuous,
    )
    assert [(0, 10), (1, 20), (2, 30)] == read_levels(source)
    assert [(2, 30)] == read_levels(source, start=2)


def test_single_images_are_one_sequence_as_given(tmp_path: Path) -> None:
    """Images named one by one stay in the order of the command line."""
    names = [
        write_image(tmp_path / "faces" / name, level)
        for level, name in [(7, "z.png"), (5, "a.png")]
    ]

    [source] = find_sources(names)
    [one] = find_sources(names[:1])

    assert isinstance(source, ImageSequence)
    assert ("faces", "z") == (source.stem, one.stem)
    assert [(0, 7), (1, 5)] == read_levels(source)


def test_a_damaged_image_is_left_out_and_named(tmp_path: Path) -> None:
    """The others keep their numbers; if all are damaged that is an error."""
    write_image(tmp_path / "a.png", 1)
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    write_image(tmp_path / "c.png", 3)
    notes: list[str] = []

    [source] = find_sources([tmp_path])
    assert isinstance(source, ImageSequence)
    assert [(0, 1), (2, 3)] == read_levels(source, notes=notes)
    assert [f"left out: {tmp_path / 'b.jpg'} is not an image"] == notes

    [bad] = find_sources([tmp_path / "b.jpg"])
    with pytest.raises(InputError, match=r"b\.jpg is not an image"):
        list(bad.frames(note=notes.append))


def test_an_image_is_rotated_by_its_exif_orientation(tmp_path: Path) -> None:
    """A phone's photo is read upright."""
    wide = np.zeros((20, 40, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", wide)[1].tobytes()
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    marker = b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag
    (tmp_path / "phone.jpg").write_bytes(data[:2] + marker + data[2:])

    [source] = find_sources([tmp_path / "phone.jpg"])
    [frame] = source.frames(note=print)

    assert (40, 20, 3) == frame.image.shape


def write_animation(path: Path, count: int = 5) -> Path:
    """Write an image of several frames, 80 ms each, or of several pages."""
    first, *others = (
        Pillow.fromarray(np.full((24, 32, 3), 40 * number, np.uint8)) for number in range(count)
    )
    timing = {} if path.suffix == ".tif" else {"duration": 80}
    first.save(path, save_all=True, append_images=others, **timing)
    return path


@pytest.mark.parametrize("suffix", [".png", ".apng", ".avif", ".gif"])
def test_an_animated_image_is_a_video(tmp_path: Path, suffix: str) -> None:
    """Every frame is read, at its time; of PNG and AVIF only the first was, without a word."""
    Pillow.init()
    [source] = find_sources([write_animation(tmp_path / f"wave{suffix}")])
    assert isinstance(source, VideoSource)
    frames = list(source.frames(note=pytest.fail))
    assert [index * Fraction(2, 25) for index in range(5)] == [frame.time for frame in frames]
    levels = [int(frame.image[10, 10, 0]) for frame in frames]
    np.testing.assert_allclose(levels, [0, 40, 80, 120, 160], atol=3)
    if suffix != ".apng":  # FFmpeg learns of no count; a pattern or a folder would not differ
        assert 5 == source.count


def test_frames_that_are_left_out_are_counted(tmp_path: Path) -> None:
    """One line for pages, and for animations that FFmpeg does not decode or that are in a folder.

    Reduced copies in a TIFF and a phone's second picture in a JPEG are none.
    """
    for name in ("wave.webp", "pages.tif"):
        notes: list[str] = []
        [source] = find_sources([write_animation(tmp_path / name)])
        assert 1 == len(list(source.frames(note=notes.append)))
        assert [f"4 frames or pages after the first left out of {name}"] == notes
    plain, small = (Pillow.fromarray(np.full((side, side, 3), 9, np.uint8)) for side in (32, 16))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    plain.save(tmp_path / "reduced.tif", save_all=True, append_images=[small])
    plain.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[small])
    for name in ("reduced.tif", "phone.jpg"):
        [source] = find_sources([tmp_path / name])
        assert 1 == len(list(source.frames(note=pytest.fail)))
    write_animation(tmp_path / "wave.png", count=3)
    [source] = find_sources([tmp_path])
    assert isinstance(source, ImageSequence)
    notes = []
    assert 5 == len(read_levels(source, notes=notes))
    [note] = notes
    assert note.startswith("10 frames or pages after the first left out of pages.tif and 2 other")
    assert note.endswith("PNG or AVIF named by itself is read as a video")


def test_videos_beside_images_are_left_out_with_a_note(tmp_path: Path) -> None:
    """A folder with both is a sequence of its images; the videos were dropped silently."""
    write_image(tmp_path / "a.png", 1)
    write_video(tmp_path / "b.mp4")
    write_animation(tmp_path / "c.gif")
    notes: list[str] = []

    [source] = find_sources([tmp_path])

    assert isinstance(source, ImageSequence)
    assert [(0, 1)] == read_levels(source, notes=notes)
    [note] = notes
    assert note == f"2 videos beside the images of {tmp_path.name} left out; name them to read them"


def test_a_folder_of_videos_is_several_sources(tmp_path: Path) -> None:
    """Each keeps its own name, size and length."""
    write_video(tmp_path / "b.mp4")
    write_video(tmp_path / "a.mp4")

    sources = find_sources([tmp_path])

    assert ["a", "b"] == [source.stem for source in sources]
    assert isinstance(sources[0], VideoSource)
    assert ((64, 48), 3, True) == (sources[0].size, sources[0].count, sources[0].is_continuous)


def test_a_pattern_matches_in_folders(tmp_path: Path) -> None:
    """`**` matches any folders; an existing file with the name of a pattern is that file."""
    write_video(tmp_path / "one" / "c23" / "000_003.mp4")
    write_video(tmp_path / "two" / "c23" / "001.mp4")
    odd = write_video(tmp_path / "take [1].mp4")

    assert ["000_003", "001"] == [source.stem for source in find_sources([tmp_path / "*/**/*.mp4"])]
    assert ["take [1]"] == [source.stem for source in find_sources([odd])]


def test_a_faceforensics_data_set_is_read(tmp_path: Path) -> None:
    """The source videos are taken, the least compressed of each, with partners."""
    originals = tmp_path / "original_sequences"
    for name in ("youtube/c40/videos/000", "youtube/c23/videos/000", "youtube/c40/videos/003"):
        write_video(originals / f"{name}.mp4")
    write_video(originals / "actors" / "c23" / "videos" / "01__talking.mp4")
    fakes = tmp_path / "manipulated_sequences" / "Deepfakes" / "c23" / "videos"
    write_video(fakes / "000_003.mp4")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.json").write_text('[["003", "000"], ["008", "990"]]')
    (tmp_path / "splits" / "readme.json").write_text("no list")

    sources = [source for source in find_sources([tmp_path]) if isinstance(source, VideoSource)]

    assert [("000", "003"), ("003", "000"), ("01__talking", None)] == [
        (source.stem, source.partner) for source in sources
    ]
    assert "c23" == sources[0].path.parts[-3]
    assert "003" == sources[0].describe()["partner"]
    [fake] = find_sources([fakes])
    assert "000_003" == fake.stem


def test_oddities_of_a_video_are_warned_about(tmp_path: Path) -> None:
    """Interlaced frames and oblong pixels give warnings, an ordinary video none."""
    plain = probe(write_video(tmp_path / "plain.mp4"))
    odd = replace(plain, interlaced=True, sample_aspect=Fraction(64, 45))

    assert [] == list(_find_warnings(plain))
    combed, oblong = _find_warnings(odd)
    assert "plain.mp4 is interlaced" in combed
    assert "1.42 times as wide as high" in oblong


def test_a_data_set_without_videos_is_an_error(tmp_path: Path) -> None:
    """The folders alone are not enough."""
    (tmp_path / "original_sequences" / "youtube" / "c23").mkdir(parents=True)

    with pytest.raises(InputError, match="there are no videos in"):
        find_sources([tmp_path])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "there are neither images nor videos in the folder"),
        ("*.mp4", "nothing matches"),
        ("gone.mp4", "there is no file"),
        ("gone.png", "there is no file"),
    ],
)
def test_missing_input_is_one_clear_line(tmp_path: Path, name: str, message: str) -> None:
    """The error names what is missing."""
    (tmp_path / "empty").mkdir()

    with pytest.raises(InputError, match=message):
        find_sources([tmp_path / name])


def test_a_description_depends_on_the_content(tmp_path: Path) -> None:
    """One changed image gives another description; another name of the folder does not."""
    write_image(tmp_path / "one" / "a.png", 1)
    write_image(tmp_path / "two" / "a.png", 1)
    write_image(tmp_path / "three" / "a.png", 2)

    described = [find_sources([tmp_path / name])[0].describe() for name in ("one", "two", "three")]

    for one in described:
        one.pop("name")
    assert described[0] == described[1] != described[2]
