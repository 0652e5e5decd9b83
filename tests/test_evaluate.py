"""`faceswap evaluate` on files: what belongs together, what is said, what is left behind."""

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from faceswap_cli import synthetic
from faceswap_cli.cli.app import app
from faceswap_cli.core.errors import InputError, NoFacesError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.evaluation import (
    MetricResult,
    find_worst_frames,
    format_number,
    format_time,
    read_values,
)
from faceswap_cli.evaluation.metrics.registry import GROUPS, METRICS
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages import evaluate as stage
from faceswap_cli.stages.evaluate import evaluate
from faceswap_cli.stages.extract import extract
from faceswap_cli.video.writer import VideoWriter

ROOT = Path(__file__).parents[1]
FRAMES, SIDE_PX = 8, 160


class NoteRecorder(Reporter):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Remember."""
        self.notes.append(text)


def write_video(path: Path, images: Sequence[Image]) -> Path:
    """Write a video."""
    height, width = images[0].shape[:2]
    with VideoWriter(path, size=(width, height), rate=Fraction(25)) as video:
        for index, image in enumerate(images):
            video.write(image, Fraction(index, 25))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace, the original, its true swap, and other footage."""
    folder = tmp_path_factory.mktemp("evaluate")
    moments = synthetic.animate(2, seconds=FRAMES / 25).scenes
    ada, ed = synthetic.CAST["ada"], synthetic.CAST["ed"]
    swap = ed.with_skin_of(ada).on_head_of(ada)
    for name, person in (("original", ada), ("swapped", swap), ("ed", ed)):
        drawn = synthetic.render_frames(person, moments, size_px=SIDE_PX, processes=1)
        write_video(folder / f"{name}.mp4", [one.image for one in drawn])
    write_video(folder / "empty.mp4", [np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)] * FRAMES)
    write_video(folder / "small.mp4", [np.full((96, 96, 3), 90, np.uint8)] * FRAMES)
    space = Workspace.open(folder / "workspace")
    extract(
        folder / "ed.mp4",
        folder=space.set_folder("ed"),
        settings=ExtractSettings(),
        report=Reporter(),
    )
    return folder


def target_faces(folder: Path) -> FaceSet:
    """Return the wanted person's set."""
    root = Workspace.open(folder / "workspace").require_set("ed")
    return FaceSet.load("ed", folder=root.root, records=root.records)


def test_a_command_leaves_numbers_and_a_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The table is printed, the JSON holds each metric, the page needs nothing but itself."""
    monkeypatch.setattr(stage, "MAX_SLOW_FRAMES", dict.fromkeys(stage.MAX_SLOW_FRAMES, 1))
    words = ["evaluate", folder / "swapped.mp4", "--original", folder / "original.mp4"]
    words += ["--identity", "ed", "--ground-truth", folder / "swapped.mp4", "--output", tmp_path]
    words += ["--workspace", folder / "workspace"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert 0 == done.exit_code, done.output
    assert "pose error" in done.output
    document = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(METRICS) == set(document["metrics"])
    assert FRAMES == document["frames"] == len(document["times"])
    assert all(FRAMES == len(curve) for curve in document["curves"].values())
    values = read_values(tmp_path / "evaluation.json")
    assert 100 == values["coverage"]
    assert np.inf == values["psnr"]
    page = (tmp_path / "evaluation.html").read_text()
    assert "<svg" in page
    assert "<script" not in page
    assert 'src="http' not in page


def test_a_set_that_is_not_there_is_named(folder: Path) -> None:
    """The exit code is that of a wrong name, and the hint is the nearest right one."""
    words = ["evaluate", folder / "swapped.mp4", "--original", folder / "original.mp4"]
    words += ["--identity", "edd", "--workspace", folder / "workspace"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert 2 == done.exit_code
    assert 'did you mean "ed"?' in done.output


def test_a_folder_that_cannot_be_made_is_said_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is compared before there is a place for the result."""
    monkeypatch.setattr(stage, "evaluate", None)
    words = ["evaluate", folder / "swapped.mp4", "--original", folder / "original.mp4"]
    words += ["--identity", "ed", "--output", folder / "swapped.mp4"]
    words += ["--workspace", folder / "workspace"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert 3 == done.exit_code
    assert "swapped.mp4" in done.output


def test_an_evaluation_that_fails_leaves_no_folder(folder: Path, tmp_path: Path) -> None:
    """Unless the folder was there before, or holds something."""
    words = ["evaluate", folder / "small.mp4", "--original", folder / "original.mp4"]
    words += ["--identity", "ed", "--workspace", folder / "workspace", "--output"]
    done = CliRunner().invoke(app, [*map(str, words), str(tmp_path / "new")])
    assert 3 == done.exit_code
    assert not (tmp_path / "new").exists()
    CliRunner().invoke(app, [*map(str, words), str(tmp_path)])
    assert tmp_path.exists()


def test_videos_of_two_sizes_do_not_belong_together(folder: Path) -> None:
    """Both sizes are said."""
    with pytest.raises(InputError, match=r"small\.mp4 is 96 x 96 px, and original\.mp4 is 160"):
        evaluate(
            folder / "small.mp4",
            source=folder / "original.mp4",
            identity=target_faces(folder),
            report=Reporter(),
        )


def test_an_original_without_faces_is_refused(folder: Path) -> None:
    """There is nothing to judge."""
    with pytest.raises(NoFacesError, match=r"no face was found in empty\.mp4"):
        evaluate(
            folder / "swapped.mp4",
            source=folder / "empty.mp4",
            identity=target_faces(folder),
            report=Reporter(),
        )


def test_an_empty_set_is_refused(folder: Path, make_set: Callable[..., FaceSet]) -> None:
    """Its name is said."""
    with pytest.raises(NoFacesError, match='no face in the set "nobody"'):
        evaluate(
            folder / "swapped.mp4",
            source=folder / "original.mp4",
            identity=make_set("nobody", count=0),
            report=Reporter(),
        )


def test_a_shorter_video_is_compared_as_far_as_it_goes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says where it ends; a swap that lost its faces has no coverage."""
    monkeypatch.setattr(stage, "MAX_SLOW_FRAMES", dict.fromkeys(stage.MAX_SLOW_FRAMES, 1))
    grey = write_video(tmp_path / "grey.mp4", [np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)] * 5)
    notes = NoteRecorder()
    found = evaluate(
        grey, source=folder / "original.mp4", identity=target_faces(folder), report=notes
    )
    assert 5 == found.frame_count
    assert ["one of the videos ends at frame 5: the rest is left out"] == notes.notes
    assert (0, 5) == (found.values["coverage"], found.values["lost"])
    assert "pose" not in found.values
    assert any("no --ground-truth was given" in reason for reason in found.missing_reasons())


def test_every_metric_is_explained() -> None:
    """docs/metrics.md has a formula for each name, and each belongs to a group."""
    page = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert [] == [name for name in METRICS if f"`{name}`" not in page]
    assert set(GROUPS) == {metric.group for metric in METRICS.values()}


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_limits_are_on_the_right_side(metric: object) -> None:
    """At the limit of good nothing is amiss, at the limit of poor it is."""
    assert isinstance(metric, type(METRICS["pose"]))
    if metric.good is None or metric.poor is None:
        assert "" == metric.rate(0.5)
        return
    assert "good" == metric.rate(metric.good)
    assert "fair" == metric.rate((metric.good + metric.poor) / 2)
    assert "poor" == metric.rate(metric.poor)
    if metric.better == "near one":
        assert "good" == metric.rate(1.0)
        assert "poor" == metric.rate(1 / metric.poor)


def test_the_worst_moments_are_apart_and_in_order() -> None:
    """Of neighbours only the worst is shown; what is good is never shown."""
    pose = METRICS["pose"]
    curve, times = np.full(400, 1.0), np.arange(400) / 25
    curve[[100, 101, 102]], curve[111], curve[115], curve[300] = [30, 40, 30], 20, 35, np.nan
    found = find_worst_frames({"pose": MetricResult(metric=pose, value=5.0, curve=curve)}, times)
    assert [(101, 40.0), (115, 35.0)] == [(index, value) for index, _, value in found]


def test_a_short_clip_has_its_twenty_moments_too() -> None:
    """They lie closer together; and no metric names more than eight, however bad it is."""
    measures = {
        name: MetricResult(metric=METRICS[name], value=30.0, curve=np.full(80, level))
        for name, level in (("pose", 90.0), ("yaw", 30.0), ("roll", 20.0))
    }
    found = find_worst_frames(measures, np.arange(80) / 25)
    assert ["pose"] * 8 + ["yaw"] * 8 + ["roll"] * 4 == [metric.name for _, metric, _ in found]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (format_time(0), "0:00.00"),
        (format_time(61.239), "1:01.24"),
        (format_time(59.999), "1:00.00"),
        (format_number(1234.5), "1,234"),
        (format_number(0.04567), "0.046"),
        (format_number(-2.345), "-2.35"),
        (format_number(float("inf")), "inf"),
    ],
)
def test_numbers_and_times_are_short(text: str, said: str) -> None:
    """As many digits as count."""
    assert said == text


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metrics": {"pose": 3}}'])
def test_another_file_is_no_evaluation(tmp_path: Path, content: str) -> None:
    """It is named, with what to type."""
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"evaluation\.json is not an evaluation"):
        read_values(path)
