"""Audio, subtitles, chapters and metadata are copied with the video, whole or trimmed."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.stream import Disposition
from av.video.frame import VideoFrame

from faceswap_cli.core.types import AnyArray
from faceswap_cli.video.encoder import EncodeSpec
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.segments import SegmentedWriter
from faceswap_cli.video.writer import VideoWriter

WIDTH, HEIGHT = 96, 64
RATE_HZ = 48_000
CHAPTERS = [("one", 0, 1_000), ("two", 1_000, 2_500), ("three", 2_500, 3_000)]
WORDS = [("early", 200, 700), ("long", 900, 2_200), ("late", 2_600, 2_900)]


def make_clicks(seconds: float, *, hz: float) -> AnyArray:
    """Return audio, float32 (2, N): a click each tenth of a second on a quiet tone."""
    time = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    tone = 0.05 * np.sin(2 * np.pi * hz * time)
    tone[(time * RATE_HZ) % (RATE_HZ // 10) < 24] = 0.9
    return np.stack([tone, tone]).astype(np.float32)


def write_clip(
    path: Path,
    *,
    rate: Fraction = Fraction(30),
    frames: int = 90,
    codecs: Sequence[str] = ("aac", "aac"),
    seconds: float = 3,
    words: bool = True,
    bframes: int = 2,
) -> Path:
    """Write a clip of 3 s with audio in two languages, subtitles, chapters and a title."""
    base = 1 / rate
    text = path.with_suffix(".srt")
    text.write_text("".join(cue(*entry) for entry in WORDS), encoding="utf-8")
    options = {"movie_timescale": "240000"} if path.suffix in (".mp4", ".mov") else {}
    options |= {"avoid_negative_ts": "disabled"} if path.suffix == ".mkv" else {}
    with (
        av.open(str(path), "w", container_options=options) as output,
        av.open(str(text)) as subtitles,
    ):
        stream = output.add_stream(
            "libx264", rate=rate, width=WIDTH, height=HEIGHT, options={"bf": str(bframes)}
        )
        stream.codec_context.time_base = base
        audio_streams = [output.add_stream(codec, rate=RATE_HZ) for codec in codecs]
        for audio, language in zip(audio_streams, ["eng", "jpn"], strict=False):
            audio.metadata["language"] = language
        written = output.add_stream_from_template(subtitles.streams[0]) if words else None
        output.metadata["title"] = "a title"
        output.set_chapters(
            [
                {
                    "id": number,
                    "start": start,
                    "end": end,
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": title},
                }
                for number, (title, start, end) in enumerate(CHAPTERS)
            ]
        )
        output.start_encoding()
        for number in range(frames):
            frame = VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), number * 2, np.uint8))
            frame.pts, frame.time_base = number, base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        for pitch, audio in enumerate(audio_streams):
            samples = AudioFrame.from_ndarray(
                make_clicks(seconds, hz=300 + 200 * pitch), format="fltp", layout="stereo"
            )
            samples.sample_rate, samples.pts, samples.time_base = RATE_HZ, 0, Fraction(1, RATE_HZ)
            for part in AudioResampler(format=audio.codec_context.format.name).resample(samples):
                output.mux(audio.encode(part))
            output.mux(audio.encode(None))
        for packet in subtitles.demux():
            if written is not None and packet.size:
                packet.stream = written
                output.mux(packet)
    return path


def cue(text: str, start: int, end: int) -> str:
    """Return an entry of an .srt file; times in ms."""
    return f"{text}\n00:00:0{start / 1000:.3f} --> 00:00:0{end / 1000:.3f}\n{text}\n\n".replace(
        text, "1", 1
    ).replace(".", ",")


def convert_clip(
    source: Path,
    output: Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    codec: str = "h264",
) -> list[str]:
    """Write a clip, or the part of it from `start` to `end` s, as convert does."""
    spec = EncodeSpec.from_info(probe(source), codec=codec, hardware=False)
    part = start is not None or end is not None
    with SegmentedWriter(output.parent / f"{output.name} segments", spec, key="") as writer:
        for frame in read_frames(source):
            if (start or 0) <= frame.time and (end is None or frame.time < end):
                writer.write(frame.image, frame.time, original=frame.original)
    return writer.finalize(output, source=source, is_part=part)


def read_audio(path: Path, track: int = 0) -> AnyArray:
    """Return what a player plays of an audio stream from time 0 on: left channel, at `RATE_HZ`."""
    with av.open(str(path)) as container:
        resampler = AudioResampler(format="fltp", layout="stereo", rate=RATE_HZ)
        found = np.zeros(10 * RATE_HZ, np.float32)
        last = 0
        for frame in container.decode(audio=track):
            assert frame.time_base is not None
            start = round((frame.pts or 0) * frame.time_base * RATE_HZ)
            for part in resampler.resample(frame):
                samples = part.to_ndarray()[0]
                audible = samples[max(0, -start) :]
                start += len(samples)
                found[max(0, start - len(audible)) : max(0, start)] = audible
                last = start
    return found[:last]


def find_clicks(samples: AnyArray) -> list[float]:
    """Return the times of the clicks of `make_clicks`, s."""
    loud = np.flatnonzero(np.abs(samples) > 0.45)
    first = loud[np.diff(loud, prepend=-RATE_HZ) > RATE_HZ // 50]
    return [float(index) / RATE_HZ for index in first]


def list_streams(path: Path) -> list[tuple[str, str]]:
    """Return the kinds of streams in a file, and their languages."""
    with av.open(str(path)) as container:
        return [(stream.type, stream.metadata.get("language", "")) for stream in container.streams]


def read_chapters(path: Path) -> list[tuple[str, Fraction, Fraction]]:
    """Return the chapters with start and end, s."""
    with av.open(str(path)) as container:
        return [
            (
                one["metadata"]["title"],
                one["start"] * one["time_base"],
                one["end"] * one["time_base"],
            )
            for one in container.chapters()
        ]


def read_subtitles(path: Path) -> list[tuple[str, Fraction, Fraction]]:
    """Return the subtitles with start and end, s."""
    found = []
    with av.open(str(path)) as container:
        for packet in container.demux(subtitles=0):
            text = bytes(packet)
            if packet.size and (container.format.name != "mov,mp4,m4a,3gp,3g2,mj2" or text[2:]):
                word = text[2:] if "mp4" in container.format.name else text
                start = (packet.pts or 0) * packet.time_base
                end = start + (packet.duration or 0) * packet.time_base
                found.append((word.decode(), start, end))
    return found


@pytest.fixture(scope="module")
def mkv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with every kind of stream."""
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mkv")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_all_other_streams_are_copied(suffix: str, mkv: Path, tmp_path: Path) -> None:
    """Two audio streams with languages, subtitles and chapters at their times, and the title."""
    output = tmp_path / f"out{suffix}"
    notes = convert_clip(mkv, output)
    expected = f"subtitle 3 (srt) is converted to mov_text: {suffix} cannot hold it"
    assert ([] if suffix == ".mkv" else [expected]) == notes
    kinds = ["video", "audio", "audio", "subtitle"]
    assert kinds == [kind for kind, _ in list_streams(output)][:4]
    assert ["eng", "jpn"] == [
        language for kind, language in list_streams(output) if kind == "audio"
    ]
    assert read_subtitles(mkv) == read_subtitles(output)
    assert read_chapters(mkv) == read_chapters(output)
    with av.open(str(output)) as container:
        assert "a title" == container.metadata["title"]
    for track in (0, 1):
        before, after = read_audio(mkv, track), read_audio(output, track)
        np.testing.assert_array_equal(before[:RATE_HZ], after[:RATE_HZ])


PARTS = [
    (Fraction(1), Fraction(2)),
    (Fraction(31, 30), Fraction(71, 30)),
    (None, Fraction(3, 2)),
    (Fraction(4, 5), None),
]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize(("start", "end"), PARTS)
def test_a_part_has_the_audio_and_subtitles_of_its_time(
    start: Fraction | None, end: Fraction | None, suffix: str, mkv: Path, tmp_path: Path
) -> None:
    """Times count from the first frame; audio is in sync to a millisecond."""
    output = tmp_path / f"out{suffix}"
    convert_clip(mkv, output, start=start, end=end)
    frames = [frame.time for frame in read_frames(mkv)]
    selected = [time for time in frames if (start or 0) <= time and (end is None or time < end)]
    first, last = selected[0], selected[-1] + Fraction(1, 30)
    slack = Fraction(1, 500) if suffix == ".mkv" else Fraction(1, 900)  # the source counts in ms
    written = [frame.time for frame in read_frames(output)]
    assert len(selected) == len(written)
    assert all(abs(old - first - new) <= slack for old, new in zip(selected, written, strict=True))
    duration = last - first
    with av.open(str(output)) as container:
        # Matroska counts the 21 ms of priming samples that the decoder drops.
        priming = Fraction(1024, RATE_HZ) if suffix == ".mkv" else 0
        claimed = Fraction(container.duration or 0, av.time_base)
        assert abs(claimed - priming - duration) <= Fraction(1, 1000)
    for track in (0, 1):
        before = [time - float(first) for time in find_clicks(read_audio(mkv, track))]
        after = find_clicks(read_audio(output, track))
        expected = [time for time in before if 0.01 < time < float(duration) - 0.03]
        found = [time for time in after if 0.01 < time < float(duration) - 0.03]
        assert expected == pytest.approx(found, abs=0.0012)
        assert len(read_audio(output, track)) / RATE_HZ == pytest.approx(float(duration), abs=0.025)
    words = [
        (word, max(a - first, Fraction(0)), min(b - first, duration))
        for word, a, b in read_subtitles(mkv)
        if b > first and a < last
    ]
    for old, new in zip(words, read_subtitles(output), strict=True):
        assert old[0] == new[0]
        assert max(abs(old[1] - new[1]), abs(old[2] - new[2])) <= Fraction(1, 500)
    parts = [
        (name, max(a - first, Fraction(0)), min(b - first, duration))
        for name, a, b in read_chapters(mkv)
        if b > first and a < last
    ]
    for part, made in zip(parts, read_chapters(output), strict=True):
        assert part[0] == made[0]
        assert max(abs(part[1] - made[1]), abs(part[2] - made[2])) <= Fraction(1, 500)


def test_a_part_starts_with_its_own_audio(tmp_path: Path) -> None:
    """From its first sample on: decoders get the packets before it that they need."""
    source = write_clip(tmp_path / "in.mp4", words=False)
    start = Fraction(31, 30)  # in the middle of a packet
    convert_clip(source, tmp_path / "out.mp4", start=start, end=Fraction(2))
    before, after = read_audio(source)[round(start * RATE_HZ) :], read_audio(tmp_path / "out.mp4")
    np.testing.assert_allclose(before[:9_600], after[:9_600], atol=2e-3)


def test_no_note_about_chapters_that_an_mp4_holds_as_a_track(mkv: Path, tmp_path: Path) -> None:
    """An .mp4 is copied to an .mp4 without a note."""
    convert_clip(mkv, tmp_path / "once.mp4")
    assert [] == convert_clip(tmp_path / "once.mp4", tmp_path / "twice.mp4")
    assert read_chapters(mkv) == read_chapters(tmp_path / "twice.mp4")
    assert list_streams(tmp_path / "once.mp4") == list_streams(tmp_path / "twice.mp4")


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("seconds", [1.3, 4.1])
@pytest.mark.parametrize("rate", [Fraction(30_000, 1_001), Fraction(24)])
def test_durations_are_those_of_the_source(
    rate: Fraction, seconds: float, bframes: int, tmp_path: Path
) -> None:
    """Audio longer or shorter than the video stays so, to the millisecond."""
    source = write_clip(
        tmp_path / "in.mp4", rate=rate, seconds=seconds, words=False, bframes=bframes
    )
    assert [] == convert_clip(source, tmp_path / "out.mp4")
    assert read_durations(source) == pytest.approx(read_durations(tmp_path / "out.mp4"), abs=1e-3)


def read_durations(path: Path) -> list[float]:
    """Return the duration of each stream, and of the file, s."""
    with av.open(str(path)) as container:
        found = [float((one.duration or 0) * (one.time_base or 0)) for one in container.streams]
        return [*found, float(Fraction(container.duration or 0, av.time_base))]


def test_a_clip_without_audio_gets_none(tmp_path: Path) -> None:
    """The output has the same streams."""
    source = write_clip(tmp_path / "in.mp4", codecs=(), words=False)
    assert [] == convert_clip(source, tmp_path / "out.mp4")
    assert list_streams(source) == list_streams(tmp_path / "out.mp4")


def test_webm_gets_audio_and_subtitles_it_can_hold(mkv: Path, tmp_path: Path) -> None:
    """AAC becomes Opus, subtitles WebVTT, with notes; a part is trimmed as elsewhere."""
    notes = convert_clip(
        mkv, tmp_path / "out.webm", codec="av1", start=Fraction(1), end=Fraction(2)
    )
    assert [
        "audio 1 (aac) is encoded again as Opus: .webm cannot hold it",
        "audio 2 (aac) is encoded again as Opus: .webm cannot hold it",
        "subtitle 3 (srt) is converted to webvtt: .webm cannot hold it",
    ] == notes
    before = [time - 1 for time in find_clicks(read_audio(mkv)) if 1.01 < time < 1.95]
    after = [time for time in find_clicks(read_audio(tmp_path / "out.webm")) if 0.01 < time < 0.95]
    assert before == pytest.approx(after, abs=0.003)
    assert [("long", 0, 1)] == read_subtitles(tmp_path / "out.webm")


def test_audio_that_is_encoded_again_is_trimmed_too(tmp_path: Path) -> None:
    """Opus into a .mov: AAC, with every click where it was."""
    source = write_clip(tmp_path / "in.mkv", codecs=("libopus",), words=False)
    (note,) = convert_clip(source, tmp_path / "out.mov", start=Fraction(1), end=Fraction(2))
    assert "audio 1 (opus) is encoded again as AAC: .mov cannot hold it" == note
    before = [time - 1 for time in find_clicks(read_audio(source)) if 1.01 < time < 1.95]
    after = [time for time in find_clicks(read_audio(tmp_path / "out.mov")) if 0.01 < time < 0.95]
    assert before == pytest.approx(after, abs=0.003)


def test_the_cover_image_is_copied(tmp_path: Path) -> None:
    """It is an attached image, not one of the frames."""
    bare = write_clip(tmp_path / "bare.mp4", words=False)
    source = tmp_path / "in.mp4"
    cover = VideoFrame.from_ndarray(np.full((32, 32, 3), 200, np.uint8)).reformat(format="yuvj420p")
    with av.open(str(bare)) as old, av.open(str(source), "w") as new:
        copies = {one.index: new.add_stream_from_template(one) for one in old.streams.audio}
        copies[0] = new.add_stream_from_template(old.streams.video[0])
        still = new.add_stream("mjpeg", rate=1, width=32, height=32)
        still.codec_context.pix_fmt = "yuvj420p"
        still.disposition = Disposition.attached_pic
        new.start_encoding()
        for packet in old.demux(list(old.streams.video) + list(old.streams.audio)):
            if packet.size:
                packet.stream = copies[packet.stream_index]
                new.mux(packet)
        new.mux(still.encode(cover))
        new.mux(still.encode(None))
    assert [] == convert_clip(source, tmp_path / "out.mp4")
    covers = []
    for path in (source, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            (found,) = [s for s in container.streams.video if s.disposition & 1024]
            covers.append([bytes(p) for p in container.demux(found) if p.size])
    assert covers[0] == covers[1]
    assert 90 == len(list(read_frames(tmp_path / "out.mp4")))


def test_vendor_metadata_and_added_metadata_are_written(tmp_path: Path) -> None:
    """A phone's own keys are copied; the comment of this program is added."""
    source = tmp_path / "in.mov"
    with av.open(str(source), "w", container_options={"movflags": "use_metadata_tags"}) as output:
        stream = output.add_stream("libx264", rate=30, width=WIDTH, height=HEIGHT)
        output.metadata["com.apple.quicktime.model"] = "a phone"
        output.mux(stream.encode(VideoFrame(WIDTH, HEIGHT)))
        output.mux(stream.encode(None))
    info = probe(source)
    with VideoWriter(
        tmp_path / "out.mov",
        size=info.size,
        rate=info.average_rate,
        copy_from=source,
        metadata={"comment": "the face was replaced"},
    ) as video:
        for frame in read_frames(source):
            video.write(frame.image, frame.time)
    with av.open(str(tmp_path / "out.mov")) as container:
        assert "a phone" == container.metadata["com.apple.quicktime.model"]
        assert "the face was replaced" == container.metadata["comment"]
