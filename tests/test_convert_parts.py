"""Convert, a long video in parts: the same frames as in one go, resumed part by part."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_models import Echo, use_model
from fakes import RecordingReporter, SpotDetector, write_clip

from faceswap_cli.conversion import analysis
from faceswap_cli.conversion.output import Output
from faceswap_cli.conversion.pipeline import OutputFrame
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.errors import InputError, NoFacesError
from faceswap_cli.core.lock import output_lock
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR
from faceswap_cli.parallel.processes import InProcessPool
from faceswap_cli.parallel.scheduler import Receive
from faceswap_cli.parallel.settings import ParallelSettings
from faceswap_cli.stages import convert as stage
from faceswap_cli.video import segments
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.segments import FrameRange, SegmentedWriter

SEGMENT_FRAMES = 12
FRAMES = 2 * SEGMENT_FRAMES + 10
# Lossless, since an encoder may choose differently from run to run.
SETTINGS = ConvertSettings(mask="both", hwaccel=False, color="none", credentials=False, quality=0)


class WidePool:
    """A pool that asks for the parts of a clip, and runs one after the other in this process."""

    capacity = 4

    def __init__(self, output: Path) -> None:
        self.output = output
        self.pool = InProcessPool()

    def __enter__(self) -> "WidePool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, number: int, task: object) -> None:
        """Run a task when messages are received."""
        self.pool.submit(number, task)  # type: ignore[arg-type]

    def receive(self, receive: Receive) -> None:
        """Run the next task, under the lock of the whole output."""
        with pytest.raises(InputError, match="is being written"), output_lock(self.output):
            pass
        self.pool.receive(receive)


def prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take bright spots for faces, a model that changes nothing, and parts of a segment."""
    monkeypatch.setattr(analysis, "LOCATION_DETECTORS", {DEFAULT_DETECTOR: SpotDetector})
    for module in (segments, stage):
        monkeypatch.setattr(module, "SEGMENT_FRAMES", SEGMENT_FRAMES)
    monkeypatch.setattr(stage, "PART_FRAMES", SEGMENT_FRAMES)
    use_model(monkeypatch, Echo())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of two segments and a rest, with weights in its folder."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "any.safetensors").write_bytes(b"weights")
    return write_clip(folder / "long.mp4", frames=FRAMES, empty=frozenset(range(8, 14)))


def convert(clip: Path, output: Path) -> stage.ConvertSummary:
    """Convert the clip; return the summary."""
    batch = stage.convert_inputs(
        [clip],
        model=str(clip.with_name("any.safetensors")),
        to=None,
        output=output,
        device="cpu",
        report=RecordingReporter(),
        settings=SETTINGS,
        workspace=Workspace(root=output.parent / "workspace"),
        parallel=ParallelSettings(workers=2),
    )
    return batch.converted[clip.name]


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> stage.ConvertSummary:
    """The conversion in one go."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(monkeypatch)
        monkeypatch.setattr(stage, "open_pool", lambda *_, **__: InProcessPool())
        return convert(clip, tmp_path_factory.mktemp("whole") / "out.mp4")


@pytest.fixture
def output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of an output that is made in parts."""
    prepare(monkeypatch)
    path = tmp_path / "parts" / "out.mp4"
    monkeypatch.setattr(stage, "open_pool", lambda *_, **__: WidePool(path))
    return path


def spy_on_frames(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the number of each frame that is written."""
    frames: list[int] = []
    write = Output.write

    def record(output: Output, frame: OutputFrame) -> None:
        frames.append(frame.frame.index)
        write(output, frame)

    monkeypatch.setattr(Output, "write", record)
    return frames


def assert_same_frames(one: Path, other: Path) -> None:
    """Check that two videos have the same frames at the same times."""
    for expected, found in zip(read_frames(one), read_frames(other), strict=True):
        assert expected.time == found.time
        np.testing.assert_array_equal(expected.image, found.image)


@pytest.mark.slow
def test_parts_make_the_same_frames(
    clip: Path, whole: stage.ConvertSummary, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixel by pixel, each frame written once, under the lock of the output; nothing is left.

    Then it is finished, for the same command in parts and for the one in one go.
    """
    frames = spy_on_frames(monkeypatch)
    summary = convert(clip, output)
    assert list(range(FRAMES)) == sorted(frames)
    assert_same_frames(whole.output, output)
    assert replace(whole, seconds=0, output=output) == replace(summary, seconds=0)
    assert FRAMES == whole.frames
    left = {path.name for path in output.parent.iterdir()}
    assert {"out.mp4", ".faceswap-finished.jsonl"} == left

    assert FRAMES == convert(clip, output).frames
    monkeypatch.setattr(stage, "open_pool", lambda *_, **__: InProcessPool())
    assert FRAMES == convert(clip, output).frames
    assert FRAMES == len(frames)


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, SEGMENT_FRAMES])
def test_the_same_command_renders_only_the_part_that_failed(
    failing: int,
    clip: Path,
    whole: stage.ConvertSummary,
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if it is the first one: parts after a gap are not thrown away."""
    with monkeypatch.context() as broken:
        open_output = stage.Output.open

        def fail(*values: object, frames: FrameRange, **options: object) -> Output:
            if frames.first == failing:
                raise InputError("the disk is full")
            return open_output(*values, frames=frames, **options)  # type: ignore[arg-type]

        broken.setattr(stage.Output, "open", fail)
        with pytest.raises(InputError, match="the disk is full"):
            convert(clip, output)
    assert not output.exists()
    frames = spy_on_frames(monkeypatch)
    convert(clip, output)
    is_first = failing == 0
    left = range(SEGMENT_FRAMES) if is_first else range(SEGMENT_FRAMES, FRAMES)
    assert list(left) == sorted(frames)
    assert_same_frames(whole.output, output)


def test_a_clip_without_a_face_leaves_nothing(output: Path, tmp_path: Path) -> None:
    """The analysis finds out; no part is rendered, and the lock is gone."""
    empty = write_clip(tmp_path / "empty.mp4", frames=FRAMES, empty=frozenset(range(FRAMES)))
    (tmp_path / "any.safetensors").write_bytes(b"weights")
    with pytest.raises(NoFacesError):
        convert(empty, output)
    assert not output.parent.exists()


@pytest.mark.parametrize(
    ("count", "part", "expected"),
    [
        (0, 240, [(0, None)]),
        (479, 240, [(0, None)]),
        (480, 240, [(0, 240), (240, None)]),
        (1000, 300, [(0, 480), (480, None)]),
        (725, 240, [(0, 240), (240, 480), (480, None)]),
    ],
)
def test_parts_are_whole_segments(
    count: int, part: int, expected: Sequence[tuple[int, int | None]]
) -> None:
    """From the first frame on without a gap, none too short, the last one to the end."""
    assert [FrameRange(*ends) for ends in expected] == stage.split_frames(count, part)
    assert count == sum(one.count(count) for one in stage.split_frames(count, part))
    assert len(expected) == stage.count_parts(count, part)


def test_parts_of_a_file_that_claims_to_be_endless_are_only_counted() -> None:
    """A list of them would not fit into any memory."""
    assert 10**15 == stage.count_parts(240 * 10**15, 240)


def test_two_writers_of_a_folder_leave_each_other_alone(tmp_path: Path) -> None:
    """Each removes only what is in its range: segments of another key, and unfinished ones."""
    for name in ("00000000.part", "00000240.piece", "00000240.part"):
        (tmp_path / name).write_bytes(b"unfinished")
    from test_segments import make_spec

    second = SegmentedWriter(tmp_path, make_spec(), key="k", frames=FrameRange(240, None))
    assert 240 == second.frames_done
    assert ["00000000.part"] == [path.name for path in tmp_path.iterdir()]
    assert 0 == SegmentedWriter(tmp_path, make_spec(), key="k").frames_done
    assert [] == list(tmp_path.iterdir())
