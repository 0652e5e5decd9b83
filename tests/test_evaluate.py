"""`faceswap evaluate` on files: which videos are accepted, and which files are written."""

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fakes import NearbyDetector, ShapeEmbedder, square
from typer.testing import CliRunner

from faceswap_cli import synthetic
from faceswap_cli.cli.app import app
from faceswap_cli.core.errors import InputError, NoFacesError
from faceswap_cli.core.lock import folder_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation import evaluator
from faceswap_cli.evaluation.evaluation import (
    MetricResult,
    find_worst_frames,
    format_number,
    format_time,
    read_values,
)
from faceswap_cli.evaluation.evaluator import evaluate_frames
from faceswap_cli.evaluation.frame_eval import FrameEvaluator, FramePair
from faceswap_cli.evaluation.metrics.external_models import EvalModels
from faceswap_cli.evaluation.metrics.registry import GROUPS, METRICS
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages import evaluate as stage
from faceswap_cli.stages.evaluate import evaluate
from faceswap_cli.stages.extract import extract
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter

ROOT = Path(__file__).parents[1]
FRAMES, SIDE_PX = 8, 160


GRAY_IMAGE = np.full((SIDE_PX, SIDE_PX, 3), 90, np.uint8)


def write_video(path: Path, images: Sequence[Image], *, rate: int = 25) -> Path:
    """Write a video."""
    height, width = images[0].shape[:2]
    with VideoWriter(path, size=(width, height), rate=Fraction(rate)) as video:
        for index, image in enumerate(images):
            video.write(image, Fraction(index, rate))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a workspace, the original, its true swap, and other videos."""
    folder = tmp_path_factory.mktemp("evaluate")
    scenes = synthetic.animate(2, seconds=FRAMES / 25).scenes
    ada, ed = synthetic.CAST["ada"], synthetic.CAST["ed"]
    swap = ed.with_skin_of(ada).on_head_of(ada)
    for name, person in (("original", ada), ("swapped", swap), ("ed", ed)):
        frames = synthetic.render_frames(person, scenes, size_px=SIDE_PX, processes=1)
        write_video(folder / f"{name}.mp4", [frame.image for frame in frames])
    write_video(folder / "empty.mp4", [GRAY_IMAGE] * FRAMES)
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
    """Return the target identity's set."""
    root = Workspace.open(folder / "workspace").require_set("ed")
    return FaceSet.load("ed", folder=root.root, records=root.records)


@pytest.mark.slow
def test_command_writes_json_and_page(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The table is printed, the JSON has all metrics, the page refers to no other file."""
    monkeypatch.setattr(evaluator, "MAX_SLOW_FRAMES", dict.fromkeys(evaluator.MAX_SLOW_FRAMES, 1))
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
    assert 'class="chart"' in page
    assert "Content-Security-Policy" in page
    assert 'src="http' not in page


@pytest.mark.slow
def test_missing_set_is_named(folder: Path) -> None:
    """The exit code is that of a wrong name, and the hint is the nearest name."""
    words = ["evaluate", folder / "swapped.mp4", "--original", folder / "original.mp4"]
    words += ["--identity", "edd", "--workspace", folder / "workspace"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert 2 == done.exit_code
    assert 'did you mean "ed"?' in done.output


def test_output_folder_that_cannot_be_created_fails_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is compared before the output folder exists."""
    monkeypatch.setattr(stage, "evaluate", None)
    words = ["evaluate", folder / "swapped.mp4", "--original", folder / "original.mp4"]
    words += ["--identity", "ed", "--output", folder / "swapped.mp4"]
    words += ["--workspace", folder / "workspace"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert 3 == done.exit_code
    assert "swapped.mp4" in done.output


def test_failed_evaluation_leaves_no_folder(folder: Path, tmp_path: Path) -> None:
    """Unless the folder existed before."""
    words = ["evaluate", folder / "small.mp4", "--original", folder / "original.mp4"]
    words += ["--identity", "ed", "--workspace", folder / "workspace", "--output"]
    done = CliRunner().invoke(app, [*map(str, words), str(tmp_path / "new")])
    assert 3 == done.exit_code
    assert not (tmp_path / "new").exists()
    CliRunner().invoke(app, [*map(str, words), str(tmp_path)])
    assert tmp_path.exists()


def test_results_are_written_by_one_process_at_a_time(folder: Path, tmp_path: Path) -> None:
    """A second evaluation into a folder is refused before it compares anything."""
    words = ["evaluate", folder / "swapped.mp4", "--original", folder / "original.mp4"]
    words += ["--identity", "ed", "--workspace", folder / "workspace", "--output", tmp_path]
    with folder_lock(tmp_path):
        done = CliRunner().invoke(app, list(map(str, words)))
    assert 3 == done.exit_code
    assert "is being written by process" in " ".join(done.output.split())
    assert [] == list(tmp_path.iterdir())


def test_videos_of_other_sizes_are_refused(folder: Path) -> None:
    """The message has both sizes."""
    with pytest.raises(InputError, match=r"small\.mp4 is 96 x 96 px, and original\.mp4 is 160"):
        evaluate(
            folder / "small.mp4",
            source=folder / "original.mp4",
            identity=target_faces(folder),
            report=Reporter(),
        )


def test_original_without_faces_is_refused(folder: Path) -> None:
    """There is nothing to measure."""
    with pytest.raises(NoFacesError, match=r"no face was found in empty\.mp4"):
        evaluate(
            folder / "swapped.mp4",
            source=folder / "empty.mp4",
            identity=target_faces(folder),
            report=Reporter(),
        )


def test_empty_set_is_refused(folder: Path, make_set: Callable[..., FaceSet]) -> None:
    """The message has its name."""
    with pytest.raises(NoFacesError, match='no face in the set "empty"'):
        evaluate(
            folder / "swapped.mp4",
            source=folder / "original.mp4",
            identity=make_set("empty", count=0),
            report=Reporter(),
        )


@pytest.mark.parametrize(
    ("count", "rate", "message"),
    [
        (5, 25, r"part\.mp4 has 5 frames, and original\.mp4 has 8"),
        (8, 10, r"frame 1 is shown after 0\.100 s in part\.mp4, and after 0\.040 s in original"),
    ],
)
def test_videos_of_other_frames_are_refused(
    folder: Path, tmp_path: Path, count: int, rate: int, message: str
) -> None:
    """A conversion of a part, or at another rate, cannot be paired with the original in order."""
    part = write_video(tmp_path / "part.mp4", [GRAY_IMAGE] * count, rate=rate)
    with pytest.raises(InputError, match=message):
        evaluate(
            part,
            source=folder / "original.mp4",
            identity=target_faces(folder),
            report=Reporter(),
        )


@pytest.mark.slow
def test_a_swap_without_faces_has_no_coverage(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All faces are undetected, and metrics of the swapped face are missing."""
    monkeypatch.setattr(evaluator, "MAX_SLOW_FRAMES", dict.fromkeys(evaluator.MAX_SLOW_FRAMES, 1))
    evaluation = evaluate(
        folder / "empty.mp4",
        source=folder / "original.mp4",
        identity=target_faces(folder),
        report=Reporter(),
    )
    assert (0, FRAMES) == (evaluation.values["coverage"], evaluation.values["undetected"])
    assert "pose" not in evaluation.values
    assert any("no --ground-truth was given" in reason for reason in evaluation.missing_reasons())


def test_face_between_the_sampled_frames_has_no_identity(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no sampled frame shows a face, metrics of slow models are missing, with a reason."""
    monkeypatch.setattr(evaluator, "MAX_SLOW_FRAMES", dict.fromkeys(evaluator.MAX_SLOW_FRAMES, 1))
    image = next(read_frames(folder / "original.mp4")).image
    frames = [
        FramePair(time=index / 25, original=frame, swapped=frame)
        for index, frame in enumerate((GRAY_IMAGE, image))
    ]
    evaluation = evaluate_frames(
        frames, frame_count=2, identity=target_faces(folder), report=Reporter()
    )
    assert 1 == evaluation.face_count
    assert evaluation.results["identity_sface"].value is None
    assert evaluation.results["identity_sface"].missing_reason
    assert evaluation.values["pose"] < 1


def test_every_metric_is_explained() -> None:
    """docs/reference/metrics.md has a formula for each name, and each belongs to a group."""
    page = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    assert [] == [name for name in METRICS if f"`{name}`" not in page]
    assert set(GROUPS) == {metric.group for metric in METRICS.values()}


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.name)
def test_limits_are_on_the_right_side(metric: object) -> None:
    """The limit of good is rated good, the limit of poor is rated poor."""
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


def test_worst_frames_are_apart_and_in_order() -> None:
    """Of neighbors only the worst is shown; good frames never are."""
    pose = METRICS["pose"]
    curve, times = np.full(400, 1.0), np.arange(400) / 25
    curve[[100, 101, 102]], curve[111], curve[115], curve[300] = [30, 40, 30], 20, 35, np.nan
    worst = find_worst_frames({"pose": MetricResult(metric=pose, value=5.0, curve=curve)}, times)
    assert [(101, 40.0), (115, 35.0)] == [(index, value) for index, _, value in worst]


def test_short_clip_has_twenty_worst_frames_too() -> None:
    """They are closer together; no metric names more than eight."""
    results = {
        name: MetricResult(metric=METRICS[name], value=30.0, curve=np.full(80, level))
        for name, level in (("pose", 90.0), ("yaw", 30.0), ("roll", 20.0))
    }
    worst = find_worst_frames(results, np.arange(80) / 25)
    assert ["pose"] * 8 + ["yaw"] * 8 + ["roll"] * 4 == [metric.name for _, metric, _ in worst]


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_numbers_and_times_are_short(text: str, expected: str) -> None:
    """Values have only significant digits."""
    assert expected == text


def test_old_metric_names_are_read_as_the_current_ones(tmp_path: Path) -> None:
    """Files of format 1 load, and every old name has a current one."""
    path = tmp_path / "evaluation.json"
    values = {"margin_dlib": 0.5, "lost": 2.0, "pose": 3.0, "lpips": None}
    metrics = {name: {"value": value} for name, value in values.items()}
    path.write_text(json.dumps({"format": 1, "metrics": metrics}))
    assert {"identity_margin_dlib": 0.5, "undetected": 2.0, "pose": 3.0} == read_values(path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"metrics": {"pose": 3}}'])
def test_another_file_is_no_evaluation(tmp_path: Path, content: str) -> None:
    """The error names the file, and the hint the command."""
    path = tmp_path / "evaluation.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"evaluation\.json is (not an evaluation|damaged)"):
        read_values(path)


@pytest.mark.slow
def test_the_same_person_is_measured_while_lost() -> None:
    """Of two people the left one is swapped, and lost for ten frames: nobody is measured in them.

    The other one had been, as not swapped: a coverage of 67 % instead of 100 %.
    """
    left, right = square(10, 60), square(100, 50, person=2)
    lost = range(10, 20)
    faces = {k: [right] if k in lost else [left, right] for k in range(30)}
    models = EvalModels(identity={"sface": ShapeEmbedder()}, pose=None, lpips=None, unavailable={})
    measured = FrameEvaluator(NearbyDetector(faces, []), models, intervals={"sface": 99})
    for index in range(30):
        original = np.full((120, 200, 3), index, np.uint8)
        original[30:] += np.random.default_rng(0).integers(0, 90, (90, 200, 3), dtype=np.uint8)
        swapped = original.copy()
        if index not in lost:
            swapped[:, :80] += 90
        pair = FramePair(time=index / 25, original=original, swapped=swapped)
        result = measured.evaluate(pair)
        assert (result.original is not None) == result.is_changed == (index not in lost)
        if result.original:
            assert left.landmarks is result.original.landmarks
