"""A stopped video is resumed, and samples that were not changed are those of the source."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.video import codecs
from faceswap_cli.video.color import BT709, get_planes
from faceswap_cli.video.containers import CONTAINER_FORMATS
from faceswap_cli.video.encoder import EncodeSpec
from faceswap_cli.video.frame import SourceSamples
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.segments import SegmentedWriter, compute_dts

SIZE = WIDTH, HEIGHT = 96, 64
BASE = Fraction(1, 90_000)
IRREGULAR = [0, 40, 41, 2_900, 3_003, 9_000, 9_001, 60_000, 60_300]
RED = np.full((HEIGHT, WIDTH, 3), (200, 30, 40), np.uint8)


def noisy(number: int, *, size: tuple[int, int] = SIZE) -> Image:
    """Return an image of noise, another one for each number."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)


def make_spec(**changes: object) -> EncodeSpec:
    """Return how the synthetic clips are encoded."""
    plain = EncodeSpec(size=SIZE, rate=Fraction(30), time_base=BASE, color=BT709, hardware=False)
    return EncodeSpec(**{**plain.__dict__, **changes})  # type: ignore[arg-type]


def open_writer(
    folder: Path, *, key: str = "settings", each: int = 4, **changes: object
) -> SegmentedWriter:
    """Return a writer with short segments."""
    return SegmentedWriter(folder, make_spec(**changes), key=key, segment_frames=each)


def write_frames(
    writer: SegmentedWriter, ticks: Sequence[int], *, stop_before: int | None = None
) -> None:
    """Write the frames that are not done yet; stop before one of them."""
    with writer:
        for number in range(writer.frames_done, len(ticks)):
            if number == stop_before:
                raise KeyboardInterrupt
            writer.write(noisy(number), ticks[number] * BASE)


def packets(path: Path, kind: str) -> list[list[tuple[Fraction, Fraction, bytes]]]:
    """Return time, duration and bytes of every packet of each stream of a kind."""
    with av.open(str(path)) as container:
        chosen = [stream for stream in container.streams if stream.type == kind]
        found: dict[int, list[tuple[Fraction, Fraction, bytes]]] = {s.index: [] for s in chosen}
        for packet in container.demux():
            if packet.size and packet.stream_index in found:
                base = packet.time_base
                time, duration = (packet.pts or 0) * base, (packet.duration or 0) * base
                found[packet.stream_index].append((time, duration, bytes(packet)))
    return list(found.values())


def times(path: Path) -> list[Fraction]:
    """Return the times of a video's frames."""
    return [frame.time for frame in read_frames(path)]


# --- segments ----------------------------------------------------------------------------------


def test_a_stopped_video_is_resumed_to_the_same_file(tmp_path: Path) -> None:
    """Whole segments count, the one that was being written does not; the file is the same."""
    ticks = [3_003 * number for number in range(14)]
    with pytest.raises(KeyboardInterrupt):
        write_frames(open_writer(tmp_path / "work"), ticks, stop_before=10)
    assert 8 == open_writer(tmp_path / "work").frames_done
    write_frames(open_writer(tmp_path / "work"), ticks)
    write_frames(open_writer(tmp_path / "other"), ticks)
    for name in ("work", "other"):
        assert [] == open_writer(tmp_path / name).finalize(tmp_path / f"{name}.mp4")
    assert (tmp_path / "work.mp4").read_bytes() == (tmp_path / "other.mp4").read_bytes()
    assert [tick * BASE for tick in ticks] == times(tmp_path / "work.mp4")


def test_half_a_segment_is_never_counted(tmp_path: Path) -> None:
    """Cut short, changed in its index, or with another's name: it is made again."""
    ticks = [3_000 * number for number in range(12)]
    write_frames(open_writer(tmp_path), ticks)
    whole = sorted(tmp_path.glob("*.piece"))
    assert [0, 4, 8] == [int(path.stem) for path in whole]
    last = whole[-1].read_bytes()
    changed = last.replace(b'"keys":[1', b'"keys":[0')
    assert last != changed
    for damaged in (last[:-1], last[: len(last) // 2], changed, last[:-40] + b"x" * 40, b""):
        whole[-1].write_bytes(damaged)
        assert 8 == open_writer(tmp_path).frames_done
        assert not whole[-1].exists()
    (tmp_path / "00000008.part").write_bytes(last)
    assert 8 == open_writer(tmp_path).frames_done
    assert [path.name for path in whole[:2]] == sorted(path.name for path in tmp_path.iterdir())


def test_frames_after_a_gap_do_not_count(tmp_path: Path) -> None:
    """With a segment missing in the middle, those after it are removed."""
    write_frames(open_writer(tmp_path), [3_000 * number for number in range(12)])
    (tmp_path / "00000004.piece").unlink()
    assert 4 == open_writer(tmp_path).frames_done


@pytest.mark.parametrize("change", [{"key": "other settings"}, {"quality": 30}, {"codec": "ffv1"}])
def test_segments_of_another_kind_are_removed(change: dict[str, object], tmp_path: Path) -> None:
    """Other settings, another quality, another codec: nothing is mixed."""
    write_frames(open_writer(tmp_path), [0, 3_000, 6_000, 9_000])
    assert 4 == open_writer(tmp_path).frames_done
    assert 0 == open_writer(tmp_path, **change).frames_done  # type: ignore[arg-type]
    assert [] == list(tmp_path.iterdir())


def test_a_damaged_segment_is_refused_and_made_again(tmp_path: Path) -> None:
    """A flipped bit in the packets is found at the end; only that segment is written again."""
    ticks = [3_000 * number for number in range(12)]
    write_frames(open_writer(tmp_path / "work"), ticks)
    middle = tmp_path / "work" / "00000004.piece"
    data = bytearray(middle.read_bytes())
    data[100] ^= 1
    middle.write_bytes(data)
    with pytest.raises(InputError, match=r"has been damaged: 00000004\.piece") as caught:
        open_writer(tmp_path / "work").finalize(tmp_path / "out.mp4")
    assert "run the same command again: it is made again from that segment on" == caught.value.hint
    assert not (tmp_path / "out.mp4").exists()
    assert 4 == open_writer(tmp_path / "work").frames_done


@pytest.mark.parametrize("seed", range(30))
def test_times_of_decoding_are_what_a_decoder_expects(seed: int) -> None:
    """They grow, and none is after its packet's presentation time, however irregular the times."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.choice([1, 2, 1_001, 60_000], rng.integers(1, 40)))
    order = [int(tick) for start in range(0, len(times), 4) for tick in times[start : start + 4]]
    for start in range(0, len(order), 4):
        order[start : start + 4] = rng.permutation(order[start : start + 4]).tolist()
    decoded = compute_dts(order, end=int(times[-1]) + 1)
    assert all(a < b for a, b in itertools.pairwise(decoded))
    assert all(a <= b for a, b in zip(decoded, order, strict=True))
    lead = int(times[0]) - decoded[0]
    assert int(times[-1]) + 1 - lead > decoded[-1]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("each", [1, 4, 100])
def test_segments_of_irregular_times_are_concatenated_exactly(
    each: int, codec: str, suffix: str, tmp_path: Path
) -> None:
    """Wherever the segments meet, every frame has its time, and all of them decode."""
    ticks = [*IRREGULAR, *(70_000 + 3 * tick for tick in IRREGULAR)]
    writer = open_writer(tmp_path / "work", each=each, codec=codec)
    write_frames(writer, ticks)
    output = tmp_path / f"out{suffix}"
    writer.finalize(output)
    if suffix == ".mkv":
        pairs = zip(ticks, times(output), strict=True)
        assert max(abs(tick * BASE - time) for tick, time in pairs) <= Fraction(1, 500)
    else:
        assert [tick * BASE for tick in ticks] == times(output)
        last = ticks[-1] - ticks[-2]
        assert (ticks[-1] + last) * BASE == probe(output).duration


# --- unchanged samples -------------------------------------------------------------------------


def read_planes(path: Path) -> list[list[AnyArray]]:
    """Return the planes of every frame as decoded."""
    with av.open(str(path)) as container:
        return [[plane.copy() for plane in get_planes(f)] for f in container.decode(video=0)]


def planar_clip(
    path: Path, *, pixel_format: str, size: tuple[int, int] = SIZE, codec: str = "ffv1"
) -> Path:
    """Write three frames of noise losslessly in a pixel format."""
    with av.open(str(path), "w") as output:
        options = {"ffv1": {"level": "3"}, "libx264": {"qp": "0"}}[codec]
        stream = output.add_stream(codec, rate=30, width=size[0], height=size[1], options=options)
        stream.codec_context.pix_fmt = pixel_format
        stream.codec_context.colorspace = 1
        for number in range(3):
            frame = VideoFrame(*size, pixel_format)
            rng = np.random.default_rng(number)
            for plane in get_planes(frame):
                plane[:] = rng.integers(64, 940 if "10" in pixel_format else 235, plane.shape)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def rewrite(source: Path, output: Path, *, codec: str, area: Rect | None) -> list[str]:
    """Write a clip again, losslessly, red in an area."""
    info = probe(source)
    red = np.full((info.size[1], info.size[0], 3), (200, 30, 40), np.uint8)
    spec = EncodeSpec.from_info(info, codec=codec, quality=0, hardware=False)
    with SegmentedWriter(output.parent / "work", spec, key="") as writer:
        for frame in read_frames(source):
            areas = [area] if area else []
            writer.write(red, frame.time, original=frame.original, changed=areas)
    return writer.finalize(output, source=source)


def test_decoded_frames_are_not_written_to(tmp_path: Path) -> None:
    """The samples of a frame are the same after a patched copy of it was encoded."""
    source = planar_clip(tmp_path / "in.mkv", pixel_format="yuv420p")
    spec = EncodeSpec.from_info(probe(source), codec="ffv1", hardware=False)
    black = np.zeros((spec.size[1], spec.size[0], 3), np.uint8)
    with SegmentedWriter(tmp_path / "work", spec, key="") as writer:
        for frame in read_frames(source):
            assert isinstance(frame.original, SourceSamples)
            before = [plane.copy() for plane in get_planes(frame.original.decoded)]
            writer.write(black, frame.time, original=frame.original, changed=[Rect(0, 0, 32, 32)])
            for old, now in zip(before, get_planes(frame.original.decoded), strict=True):
                np.testing.assert_array_equal(old, now)


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [
        ("h264", "yuv420p"),
        ("h264", "yuv420p10le"),
        ("h264", "yuv422p10le"),
        ("h265", "yuv420p10le"),
        ("ffv1", "yuv420p"),
        ("ffv1", "yuv444p10le"),
        ("av1", "yuv420p10le"),
    ],
)
def test_samples_outside_of_the_changed_area_are_the_sources(
    codec: str, pixel_format: str, tmp_path: Path
) -> None:
    """Bit for bit, chroma and depth included; inside the area the new image shows."""
    source = planar_clip(tmp_path / "in.mkv", pixel_format=pixel_format)
    area = Rect(21, 11, 59, 39)
    rewrite(source, tmp_path / "out.mkv", codec=codec, area=area)
    assert pixel_format == probe(tmp_path / "out.mkv").pixel_format
    left, top, right, bottom = area
    for before, after in zip(read_planes(source), read_planes(tmp_path / "out.mkv"), strict=True):
        for old, new in zip(before, after, strict=True):
            down, across = HEIGHT // old.shape[0], WIDTH // old.shape[1]
            inside = np.zeros(old.shape, bool)
            inside[-(-top // down) : bottom // down, -(-left // across) : right // across] = True
            np.testing.assert_array_equal(old[~inside], new[~inside])
            assert 1 == len(np.unique(new[inside]))


@pytest.mark.parametrize("codec", ["ffv1", "av1"])
def test_an_odd_size_keeps_its_own_samples(codec: str, tmp_path: Path) -> None:
    """97 by 65 px with chroma at half the resolution, changed up to the last column and row."""
    source = planar_clip(tmp_path / "in.mkv", pixel_format="yuv420p", size=(97, 65))
    rewrite(source, tmp_path / "out.mkv", codec=codec, area=Rect(81, 50, 97, 65))
    assert (97, 65) == probe(tmp_path / "out.mkv").size
    for before, after in zip(read_planes(source), read_planes(tmp_path / "out.mkv"), strict=True):
        np.testing.assert_array_equal(before[0][:, :81], after[0][:, :81])
        assert 1 == len(np.unique(after[0][50:, 81:]))
        assert 1 == len(np.unique(after[1][25:, 41:]))


def test_what_a_codec_cannot_preserve_is_noted(tmp_path: Path) -> None:
    """AV1 halves the resolution of chroma, and a note says so."""
    source = planar_clip(tmp_path / "in.mkv", pixel_format="yuv444p10le")
    notes = rewrite(source, tmp_path / "out.mkv", codec="av1", area=None)
    assert ["color is stored at a lower resolution: the codec holds no more"] == notes
    assert "yuv420p10le" == probe(tmp_path / "out.mkv").pixel_format


@pytest.mark.parametrize("codec", ["h264", "h265", "av1", "prores", "ffv1"])
@pytest.mark.parametrize("quality", [0, 18, 40])
def test_every_codec_shows_the_image(codec: str, quality: int, tmp_path: Path) -> None:
    """The better the requested quality, the smaller the error; 0 is the best."""
    suffix = {"prores": ".mov"}.get(codec, ".mkv")
    smooth = np.linspace(20, 230, WIDTH)[None, :, None].repeat(HEIGHT, 0).repeat(3, 2)
    image = smooth.astype(np.uint8)
    writer = open_writer(tmp_path / "work", codec=codec, quality=quality)
    with writer:
        for tick in range(3):
            writer.write(image, tick * 3_000 * BASE)
    writer.finalize(tmp_path / f"out{suffix}")
    decoded = next(read_frames(tmp_path / f"out{suffix}")).image
    error = np.abs(decoded.astype(int) - image).mean()
    assert error < {0: 0.8, 18: 1.5, 40: 6}[quality]


@pytest.mark.parametrize(
    ("suffix", "codec"), [(f, c) for f in CONTAINER_FORMATS for c in CONTAINER_FORMATS[f].codecs]
)
def test_every_container_holds_its_codecs(suffix: str, codec: str, tmp_path: Path) -> None:
    """All frames are read back at their times."""
    writer = open_writer(tmp_path / "work", codec=codec)
    write_frames(writer, [0, 3_600, 7_200])
    writer.finalize(tmp_path / f"out{suffix}")
    assert [0, Fraction(1, 25), Fraction(2, 25)] == times(tmp_path / f"out{suffix}")


@pytest.mark.parametrize(
    ("name", "codec"),
    [("out.mov", "ffv1"), ("out.mp4", "prores"), ("out.mp4", "ffv1"), ("out.webm", "h264")],
)
def test_a_codec_in_the_wrong_file_is_refused(name: str, codec: str, tmp_path: Path) -> None:
    """One line names the extensions and the codecs that fit."""
    writer = open_writer(tmp_path / "work", codec=codec)
    write_frames(writer, [0, 3_000])
    with pytest.raises(ConfigurationError, match=f"a {Path(name).suffix} file cannot hold {codec}"):
        writer.finalize(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_an_unknown_codec_and_a_quality_off_the_scale_are_refused() -> None:
    """The hint is the nearest name, or the meaning of the scale."""
    with pytest.raises(ConfigurationError, match="there is no codec") as caught:
        make_spec(codec="av2").resolve_encoder()
    assert 'did you mean "av1"?' == caught.value.hint
    with pytest.raises(ConfigurationError, match="quality 52 is off the scale"):
        make_spec(quality=52).resolve_encoder()


QUARTER_TURNS = {0: 0, 90: 1, 180: 2, 270: 3}
"""Display rotation as FFmpeg counts it -> counterclockwise quarter turns, as numpy counts."""


@pytest.mark.parametrize("degrees", QUARTER_TURNS)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_a_rotated_clip_keeps_its_samples_upright(
    pixel_format: str, degrees: int, tmp_path: Path
) -> None:
    """A phone's clip is rotated sample by sample: nothing is interpolated or rounded."""
    still = planar_clip(tmp_path / "still.mp4", pixel_format=pixel_format, codec="libx264")
    source = tmp_path / "in.mov"
    with av.open(str(still)) as old, av.open(str(source), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        copy.set_display_rotation(degrees)
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    rewrite(source, tmp_path / "out.mkv", codec="ffv1", area=None)
    assert 0 == probe(tmp_path / "out.mkv").rotation
    upright = probe(source).size
    assert (SIZE[::-1] if degrees % 180 else SIZE) == upright == probe(tmp_path / "out.mkv").size
    turns = (
        QUARTER_TURNS[degrees]
        if probe(source).rotation == (360 - degrees) % 360
        else -QUARTER_TURNS[degrees]
    )
    for before, after in zip(read_planes(source), read_planes(tmp_path / "out.mkv"), strict=True):
        for old_plane, new_plane in zip(before, after, strict=True):
            np.testing.assert_array_equal(np.rot90(old_plane, turns), new_plane)


def test_a_hardware_encoder_is_used_if_it_works_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that cannot hold ten bits is skipped with a note; one that fails is skipped silently."""

    def is_available(name: str, **_: object) -> bool:
        return name == "h264_nvenc"

    monkeypatch.setattr(codecs, "is_available", is_available)
    chosen = codecs.select_encoder("h264", size=SIZE, source_pixel_format="yuv420p")
    assert ("h264_nvenc", ()) == (chosen.encoder.name, chosen.notes)
    deep = codecs.select_encoder("h264", size=SIZE, source_pixel_format="yuv420p10le")
    assert ("libx264", "yuv420p10le") == (deep.encoder.name, deep.pixel_format)
    (note,) = deep.notes
    assert "h264_nvenc cannot hold yuv420p10le at 96x64: libx264 encodes instead" == note
    assert (
        "libx265"
        == codecs.select_encoder("h265", size=SIZE, source_pixel_format="yuv420p").encoder.name
    )
    assert "libx264" == codecs.select_encoder("h264", size=SIZE, hardware=False).encoder.name


def test_encoders_are_tried() -> None:
    """The bundled ones work; one that does not exist does not, and no error gets out."""
    assert codecs.is_available("libx264", size=(64, 64))
    assert not codecs.is_available("h264_of_another_planet")
    assert not codecs.is_available("libx264", size=(64, 64), pixel_format="yuv444p12le")
