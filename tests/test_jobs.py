"""Jobs: commands of a file, one after the other; a failure ends its job, a signal ends the step."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import RecordingReporter
from typer.testing import CliRunner, Result

from faceswap_cli.cli.app import app
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.stages import jobs as stage
from faceswap_cli.stages.jobs import Job, StepResult
from faceswap_cli.synthetic import CAST, HeadModel, animate, render_frame
from faceswap_cli.video.probe import probe
from faceswap_cli.video.writer import VideoWriter

PROGRAM = """
import json, signal, sys, time

signals = []

def stop(*_):
    signals.append("stop")
    open("signals", "w").write(" ".join(signals))
    time.sleep(0.7)
    sys.exit(130)

signal.signal(signal.SIGINT, stop)
name, as_json, *words = sys.argv[1:]
assert as_json == "--json"
if name == "wait":
    open("ready", "w").close()
    time.sleep(60)
print(json.dumps({"error": "it broke"} if name == "fail" else {"words": words}))
sys.exit(4 if name == "fail" else 0)
"""
"""A program with a command that fails and one that waits for Ctrl-C."""


def run_jobs(*arguments: object) -> Result:
    """Run `faceswap jobs` in this process."""
    return CliRunner().invoke(app, ["jobs", *map(str, arguments)])


def write_jobs(folder: Path, text: str) -> Path:
    """Write a file of jobs."""
    path = folder / "night.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run `PROGRAM` in place of ours."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setattr(stage, "PROGRAM", (sys.executable, str(path)))
    return tmp_path


def test_a_failure_ends_its_job_only(program: Path) -> None:
    """What follows a failed step is not run; the next job is."""
    jobs = [
        Job(name="one", steps=(("ok", "a b"), ("fail",), ("ok", "c"))),
        Job(name="two", steps=(("ok", "d"),)),
    ]
    summary = stage.run_jobs(
        jobs, folder=program, report=RecordingReporter(), options=["--quiet"]
    ).jobs
    assert ["done", "failed", "not run"] == [one.status for one in summary["one"]]
    assert ["done"] == [one.status for one in summary["two"]]
    assert {"words": ["--quiet", "a b"]} == summary["one"][0].result
    assert "ok 'a b'" == summary["one"][0].step
    assert (4, "it broke") == (summary["one"][1].exit_code, summary["one"][1].message)


def test_a_signal_stops_the_step_once_and_then_the_jobs(program: Path) -> None:
    """The step gets one Ctrl-C, so that it can save; nothing is run after it."""

    def interrupt() -> None:
        while not (program / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    report = RecordingReporter()
    jobs = [Job(name="one", steps=(("wait",), ("ok",))), Job(name="two", steps=(("ok",),))]
    with pytest.raises(KeyboardInterrupt):
        stage.run_jobs(jobs, folder=program, report=report)
    assert ["one, step 1 of 2: wait"] == report.notes
    assert "stop" == (program / "signals").read_text()


def test_the_message_names_the_inputs_that_failed() -> None:
    """Of a conversion of several inputs, the errors are by input."""
    result = {"a.mp4": {"frames": 3}, "b.mp4": {"error": "no video", "hint": "", "exit_code": 3}}
    one = StepResult(step="convert", exit_code=3, seconds=1.0, result=result)
    assert "b.mp4: no video" == one.message
    killed = StepResult(step="convert", exit_code=-9, seconds=1.0, result=None)
    assert "ended by signal 9" == killed.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jobs = ", "is not TOML"),
        ("", r"has no \[jobs\]"),
        ("[jobs]", r"has no \[jobs\]"),
        ("[job]\na = ['presets']\n[jobs]\na = ['presets']", r"unknown section \[job\]"),
        ("[jobs]\na = 'presets'", '"a" is not a list'),
        ("[jobs]\na = [1]", '"a" is not a list'),
        ("[jobs]\na = ['faces \"b']", 'a step that cannot be parsed: faces "b'),
    ],
)
def test_a_file_that_is_no_list_of_jobs_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Each error names the file or the job."""
    with pytest.raises(ConfigurationError, match=message):
        stage.read_jobs(write_jobs(tmp_path, text))


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    """As for every other file."""
    with pytest.raises(InputError, match=r"night\.toml"):
        stage.read_jobs(tmp_path / "night.toml")


def test_the_name_of_the_program_may_be_written(tmp_path: Path) -> None:
    """A line that was copied from a terminal is the same step."""
    path = write_jobs(tmp_path, "[jobs]\na = ['faceswap faces x', \"faces 'x y'\"]")
    [job] = stage.read_jobs(path)
    assert (("faces", "x"), ("faces", "x y")) == job.steps


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("extrakt a.mp4", 'no command: "extrakt a.mp4"'),
        ("", 'no command: ""'),
        ("jobs other.toml", 'no command: "jobs other.toml"'),
        ("train a b", "train: missing option '--model'"),
        ("extract a.mp4 --sise 3", "no such option: --sise"),
        ("extract --help", "only prints"),
        ("convert a.mp4", "the latest model"),
        ("convert a.mp4 --model latest", "the latest model"),
        ("export --to dfm", "the latest model"),
        ("export latest", "the latest model"),
    ],
)
def test_every_step_is_parsed_before_the_first_is_run(
    tmp_path: Path, step: str, message: str
) -> None:
    """A typing error in the last line does not wait for the night to pass."""
    done = run_jobs(write_jobs(tmp_path, f'[jobs]\na = ["presets"]\nb = ["{step}"]'))
    assert 2 == done.exit_code
    assert message in done.stderr
    assert "step 1" not in done.stderr


@pytest.mark.slow
def test_an_export_of_faces_needs_no_model(tmp_path: Path) -> None:
    """It is run, and finds no such set."""
    done = run_jobs(write_jobs(tmp_path, '[jobs]\na = ["export --faces a"]'))
    assert 2 == done.exit_code
    assert "step 1" in done.stderr


@pytest.mark.slow
def test_the_result_of_every_step_is_in_the_json(tmp_path: Path) -> None:
    """Results and errors are those of the commands; the exit code is the first failure's."""
    path = write_jobs(tmp_path, '[jobs]\na = ["verify gone.mp4", "presets"]\nb = ["presets"]')
    done = run_jobs(path, "--json")
    assert 3 == done.exit_code
    result = json.loads(done.stdout)
    assert [3, None] == [one["exit_code"] for one in result["a"]]
    assert "gone.mp4" in result["a"][0]["result"]["error"]
    assert "autoencoder-light" in result["b"][0]["result"]
    assert "error: a: there is no file gone.mp4" in done.stderr


@pytest.mark.slow
def test_a_night_is_one_file_and_resumes(tmp_path: Path) -> None:
    """Extract, train and convert run in the file's folder; run again, nothing is made anew."""
    for seed, name in enumerate(("ada", "bo"), 1):
        animation = animate(seed, seconds=0.8)
        with VideoWriter(tmp_path / f"{name}.mp4", size=(160, 160), rate=animation.rate) as video:
            for index, scene in enumerate(animation.scenes):
                image = render_frame(HeadModel.from_person(CAST[name]), scene, 160).image
                video.write(image, index / animation.rate)
    path = write_jobs(
        tmp_path,
        """
        [jobs]
        ada-bo = [
            "extract ada.mp4 bo.mp4",
            "train --model autoencoder --preset debug ada bo --max-images 32 --device cpu",
            "convert *.mp4 --model autoencoder-ada-bo --to bo -o swapped --device cpu",
        ]
        """,
    )
    first = run_jobs(path, "--json", "--quiet")
    assert 0 == first.exit_code, first.stderr
    outputs = sorted((tmp_path / "swapped").glob("*.mp4"))
    weights = Workspace(root=tmp_path / "workspace").run_folder("autoencoder-ada-bo").weights
    made = {file: file.stat().st_mtime_ns for file in (*outputs, weights)}
    assert ["ada-swapped.mp4", "bo-swapped.mp4"] == [file.name for file in outputs]
    assert probe(tmp_path / "ada.mp4").size == probe(outputs[0]).size
    again = run_jobs(path, "--json", "--quiet")
    assert 0 == again.exit_code, again.stderr
    assert made == {file: file.stat().st_mtime_ns for file in made}
    before, after = (json.loads(done.stdout)["ada-bo"][2]["result"] for done in (first, again))
    assert before == after
