"""Start and end count from the first frame of the footage, for extract and convert."""

from fractions import Fraction
from pathlib import Path

import pytest
from fakes import FRAMES, RecordingReporter, read_frame_number, remux, run_extract, write_clip

from faceswap_cli.conversion.analysis import (
    analyze_clip,
    find_extracted_sets,
    find_reusable_set,
)
from faceswap_cli.conversion.assignment import FaceAssignment
from faceswap_cli.conversion.clip import Clip
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.selection import SelectLargest
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.video.reader import read_frames

BROADCAST_START_S = 36_000
"""First time stamp of a recording of a broadcast, seconds."""
LARGEST = FaceAssignment(selector=SelectLargest(), identity="bo")


@pytest.fixture(params=["plain.mp4", "broadcast.ts"])
def footage(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A clip of numbered frames, 25 a second, whose first stamp is 0 or ten hours."""
    plain = write_clip(tmp_path / "plain.mp4", empty=frozenset())
    if request.param == plain.name:
        return plain
    late = remux(plain, tmp_path / request.param, start_s=BROADCAST_START_S)
    assert next(read_frames(late)).time >= BROADCAST_START_S
    return late


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"),
    [
        (0, None, range(FRAMES)),
        (0.4, None, range(10, FRAMES)),
        (0, 0.16, range(4)),
        (0.5, 0.64, range(13, 16)),
    ],
)
def test_a_clip_is_counted_from_the_first_frame(
    footage: Path, start_s: float, end_s: float | None, expected: range
) -> None:
    """`convert --start --end` means the same frames whatever the file's first stamp is."""
    clip = Clip.open(footage, start_s=start_s, end_s=end_s)
    frames = list(clip.frames(note=pytest.fail))

    assert list(expected) == [frame.index for frame in frames]
    assert list(expected) == [read_frame_number(frame.image) for frame in frames]
    assert expected[0] == clip.first_index()
    assert len(expected) == pytest.approx(clip.approx_frame_count, abs=1)


def test_a_clip_and_a_set_have_the_same_frames(footage: Path, tmp_path: Path) -> None:
    """`extract --start --end` and `convert --start --end` mean the same frames."""
    workspace = Workspace.from_path(tmp_path)
    settings = ExtractSettings(size_px=64, start_s=0.4, end_s=0.64)
    run_extract(footage, workspace.set_folder("spot"), settings=settings)
    clip = Clip.open(footage, start_s=0.4, end_s=0.64)

    frames = [frame.index for frame in clip.frames(note=pytest.fail)]
    assert frames == read_known_frames(clip, workspace, tmp_path / "index")
    narrower = Clip.open(footage, start_s=0.44, end_s=0.6)
    assert [*range(11, 15)] == read_known_frames(narrower, workspace, tmp_path / "narrower")
    for change in ({"start_s": 0.36, "end_s": 0.64}, {"start_s": 0.4, "end_s": 0.8}):
        wider = Clip.open(footage, **change)
        sets = find_extracted_sets(wider, workspace)
        assert 1 == len(sets)
        assert find_reusable_set(sets, wider, [LARGEST]) is None


def read_known_frames(clip: Clip, workspace: Workspace, folder: Path) -> list[int]:
    """Return the frames of a clip in which a set holds a face."""
    report = RecordingReporter()
    index = analyze_clip(
        clip,
        [LARGEST],
        sets=find_extracted_sets(clip, workspace),
        folder=folder,
        report=report,
        note=pytest.fail,
    )
    assert ['the faces are those of the set "spot"'] == report.notes
    return sorted(index.frames_to_swap())


@pytest.mark.slow
def test_previewed_frames_are_spread_over_the_clip(footage: Path) -> None:
    """`convert --preview` finds the middles of equal parts, whatever the file's first stamp is."""
    clip = Clip.open(footage)
    sampled = list(clip.sample_frames(4))
    assert [3, 9, 15, 21] == [read_frame_number(frame.image) for frame in sampled]

    part = Clip.open(footage, start_s=0.4)
    sampled = list(part.sample_frames(7))
    assert [*range(11, FRAMES, 2)] == [read_frame_number(frame.image) for frame in sampled]

    frames = list(part.frames(note=pytest.fail))[::5]
    found = part.frames_at([frame.position for frame in frames])
    assert [frame.position for frame in frames] == [frame.position for frame in found]


def test_a_time_is_taken_as_it_was_typed(footage: Path) -> None:
    """0.64 s is frame 16 at 25 frames a second, which the nearest binary number is not."""
    clip = Clip.open(footage, start_s=0.64)
    assert 16 == clip.first_index()
    assert clip.time_range.start == Fraction(16, 25)
