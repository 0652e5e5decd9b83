"""Commands of two processes, and of a Ray cluster of two nodes' worth of processes.

The results are those of one process.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import parallel_tasks
import pytest
from fakes import RecordingReporter
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.core.errors import DeviceError, InputError
from faceswap_cli.parallel import ray_cluster
from faceswap_cli.parallel.processes import MAX_ATTEMPTS
from faceswap_cli.parallel.ray_cluster import RayPool
from faceswap_cli.parallel.scheduler import Outcomes, run_plans
from faceswap_cli.parallel.tasks import Plan, Task, single_task
from faceswap_cli.synthetic import CAST, HeadModel, animate, render_frame
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter

SIDE_PX = 160
FRAMES = 40


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of two nodes with a CPU each, on this machine."""
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # The nodes' processes inherit it: they import the tasks of the tests.
    with pytest.MonkeyPatch.context() as monkeypatch:
        here = Path(__file__).parent
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), *filter(None, sys.path)]))
        # By default they give way to everything else on the machine.
        monkeypatch.setenv("RAY_worker_niceness", "0")
        cluster = cluster_utils.Cluster()
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False)
        yield str(cluster.address)
        cluster.shutdown()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two clips of synthetic people, and a file that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate(("ada", "bo"), 1):
        animation = animate(seed, seconds=FRAMES / 25)
        head_model = HeadModel.from_person(CAST[name])
        path = folder / f"{name}.mp4"
        with VideoWriter(path, size=(SIDE_PX, SIDE_PX), rate=animation.rate) as video:
            for index, scene in enumerate(animation.scenes):
                video.write(render_frame(head_model, scene, SIDE_PX).image, index / animation.rate)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def run_all(plans: dict[str, Plan[Any]], address: str) -> tuple[Outcomes[Any], RecordingReporter]:
    """Work through plans on the cluster; return how they ended and what was reported."""
    report = RecordingReporter()
    with RayPool(address=address, workers=None, device="auto", max_cpus=2) as pool:
        outcomes = run_plans(plans, pool, report=report, title="work", total=20, unit="steps")
    return outcomes, report


def make_plan(task: partial[Any], *, units: float = 0) -> Plan[Any]:
    """Return the plan of a task."""
    return single_task(Task(name="x.mp4", units=units, run=task))


@pytest.mark.slow
def test_tasks_run_on_the_cluster(address: str, tmp_path: Path) -> None:
    """Results, notes, progress and failures; a killed worker's task runs again, up to a limit."""
    for name in ("once", "always"):
        (tmp_path / name).mkdir()
    plans = {
        "square": make_plan(partial(parallel_tasks.square, 3), units=10),
        "fail": make_plan(partial(parallel_tasks.fail)),
        "crash": make_plan(partial(parallel_tasks.crash)),
        "once": make_plan(partial(parallel_tasks.die, tmp_path / "once", 1)),
        "always": make_plan(partial(parallel_tasks.die, tmp_path / "always", MAX_ATTEMPTS)),
        "process": make_plan(partial(parallel_tasks.process_of)),
    }
    outcomes, report = run_all(plans, address)
    assert (9, 1) == (outcomes.results["square"], outcomes.results["once"])
    assert os.getpid() != outcomes.results["process"]
    assert {"fail", "crash", "always"} == set(outcomes.failed)
    assert isinstance(outcomes.failed["fail"], InputError)
    assert "internal error: ZeroDivisionError" in outcomes.failed["crash"].message
    assert "the process that worked on it died" in outcomes.failed["always"].message
    assert "x.mp4: the number is 3" in report.notes
    assert report.done == sorted(report.done)
    assert 10 == report.done[-1]


@pytest.fixture(scope="module")
def one(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that one process made of the clips, with a tiny network and its conversions."""
    root = tmp_path_factory.mktemp("one") / "workspace"
    alone = ["--workers=1", *in_workspace(root)]
    run_command("extract", *inputs(clips), *alone, exit_code=3)
    options = ["--preset=debug", "--max-images=16", "--from-scratch", "--device=cpu"]
    run_command("train", "ada", "bo", "--model=autoencoder", *options, *in_workspace(root))
    run_command("convert", *inputs(clips), *convert_options(root), *alone, exit_code=3)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["processes", "ray"])
def test_commands_make_what_one_process_makes(
    engine: str, clips: Path, one: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The same sets, byte by byte, and the same frames; what fails is said at the end.

    The first command finds one set that was interrupted, and resumes it. The same commands again do
    only what is left.
    """
    many = tmp_path / "workspace"
    where = ["--workers", "2"]
    if engine == "ray":
        where = ["--on", f"ray:{request.getfixturevalue('address')}"]
    interrupt_extract(clips / "ada.mp4", many)
    assert (many / "faces/ada/progress.json").exists()
    words = ["extract", *inputs(clips), *where, *in_workspace(many)]
    found = run_command(*words, exit_code=3)
    assert {"ada", "bo", str(clips / "broken.mp4")} == found.keys()
    assert 3 == found[str(clips / "broken.mp4")]["exit_code"]
    assert read_files(one / "faces") == read_files(many / "faces")

    first, *others = inputs(clips)
    convert = [*convert_options(one), *where, *in_workspace(many)]
    run_command("convert", first, *others[:1], *convert, exit_code=3)
    before = written_times(many)
    found = run_command("convert", first, *others, *convert, exit_code=3)
    assert {"ada.mp4", "bo.mp4", str(clips / "broken.mp4")} == found.keys()
    run_command(*words, exit_code=3)
    after = written_times(many)
    assert before == {path: after[path] for path in before}
    for name in ("ada-swapped.mp4", "bo-swapped.mp4"):
        paths = [root / "exports" / name for root in (one, many)]
        for expected, frame in zip(*map(read_frames, paths), strict=True):
            assert expected.time == frame.time
            assert (expected.image == frame.image).all()


def commands_of_the_page() -> list[list[str]]:
    """Return the commands of docs/guide/scaling.md, less those of sections marked as not run."""
    page = (Path(__file__).parents[1] / "docs/guide/scaling.md").read_text()
    sections = [text for text in re.split(r"^## ", page, flags=re.M) if "Not run here" not in text]
    lines = re.findall(r"^ {4}faceswap (.+)$", "\n".join(sections), flags=re.M)
    return [shlex.split(line) for line in lines]


@pytest.mark.slow
def test_the_commands_of_the_page(
    clips: Path, one: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run as they stand there, on a cluster at another address, in a folder of two clips."""
    commands = commands_of_the_page()
    assert {("extract", False), ("extract", True), ("convert", False), ("convert", True)} == {
        (words[0], "--on" in words) for words in commands
    }
    monkeypatch.setenv("RAY_ADDRESS", address)
    for number, words in enumerate(commands):
        folder = tmp_path / str(number)
        (folder / "clips").mkdir(parents=True)
        for name in ("ada.mp4", "bo.mp4"):
            (folder / "clips" / name).symlink_to(clips / name)
        shutil.copytree(one / "runs", folder / "workspace/runs")
        monkeypatch.chdir(folder)
        run_command(*expand(words, address))
        made = "workspace/faces/*/source.toml" if words[0] == "extract" else "swapped/*.mp4"
        assert 2 == len(list(folder.glob(made)))


def expand(words: list[str], address: str) -> Iterator[str]:
    """Yield the words of a command as a shell would, for the run and the cluster of these tests."""
    for word in words:
        if "*" in word:
            yield from sorted(map(str, Path().glob(word)))
        else:
            yield word.replace("RUN", "autoencoder-ada-bo").replace("10.0.0.1:6379", address)


def inputs(clips: Path) -> list[Path]:
    """Return the inputs of the commands: the one that is no video is neither first nor last."""
    return [clips / name for name in ("ada.mp4", "broken.mp4", "bo.mp4")]


def in_workspace(root: Path) -> list[str]:
    """Return the option for a workspace."""
    return ["--workspace", str(root)]


def convert_options(workspace: Path) -> list[str]:
    """Return how clips are converted: without loss, since encoders may choose differently."""
    model = workspace / "runs/autoencoder-ada-bo/weights.safetensors"
    return [f"--model={model}", "--to=bo", "--device=cpu", "--quality=0", "--no-hwaccel"]


def written_times(workspace: Path) -> dict[Path, int]:
    """Return when each record of faces and each finished video was written, ns."""
    paths = [*workspace.glob("faces/*/faces.jsonl"), *workspace.glob("exports/*.mp4")]
    return {path: path.stat().st_mtime_ns for path in paths}


def run_command(*words: object, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    """Run a command in this process; return its JSON result."""
    done = CliRunner().invoke(app, [*map(str, words), "--json"], catch_exceptions=False)
    assert exit_code == done.exit_code, done.output
    result: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return result


def interrupt_extract(clip: Path, workspace: Path) -> None:
    """Extract a clip by a process that is told to stop after some frames."""
    script = f"""
import os, signal
from faceswap_cli.faces import crop_writer
crop_writer.CHECKPOINT_INTERVAL_S = 0.0
from faceswap_cli import extract
def stop(progress):
    if progress.done >= {FRAMES // 2}:
        os.kill(os.getpid(), signal.SIGTERM)
extract({str(clip)!r}, workspace={str(workspace)!r}, on_progress=stop)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert b"KeyboardInterrupt" in done.stderr or -signal.SIGTERM == done.returncode, done.stderr


def read_files(root: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder, by path."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def test_no_cluster_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a traceback, and it says how to start one."""

    class NoCluster:
        """A Ray that finds no cluster."""

        def init(self, **_: object) -> None:
            """Fail as Ray does."""
            raise ConnectionError("nothing answers")

    pytest.importorskip("ray")
    monkeypatch.setattr(ray_cluster, "import_ray", NoCluster)
    with (
        pytest.raises(InputError, match=r"there is no Ray cluster at .*: nothing answers"),
        RayPool(address="10.0.0.1:1", workers=None, device="cpu", max_cpus=2),
    ):
        pass


@pytest.mark.slow
def test_a_gpu_that_no_node_has_is_an_error(address: str) -> None:
    """Ray would wait for one forever."""
    with (
        pytest.raises(DeviceError, match="no GPU"),
        RayPool(address=address, workers=None, device="cuda", max_cpus=2),
    ):
        pass
