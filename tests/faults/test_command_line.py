"""The command line itself, killed, asked to stop or starved: it resumes as if nothing had been."""

import json
import os
import random
import resource
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from faults.command_line import COMMANDS, TerminalProcess, make_folder
from faults.workloads import Inputs

from faceswap_cli.core.errors import EXIT_INTERRUPTED, DeviceError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="terminals and limits of Linux"),
    pytest.mark.slow,
]
STOPS = {
    "Ctrl-C": TerminalProcess.press_ctrl_c,
    "SIGTERM": lambda typed: typed.process.send_signal(signal.SIGTERM),
    "a closed terminal (SIGHUP)": TerminalProcess.close_terminal,
}
ATTEMPTS = 3
"""To stop a command before it ends."""
SHORT_LIST = set(zip(COMMANDS, STOPS, strict=True))
"""One stop for each command; the others are tried with --long."""


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A command that nothing happened to."""

    result: Mapping[str, str]
    seconds: float


@pytest.fixture(scope="session")
def folder(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which every command can be typed; tests work in copies."""
    made = tmp_path_factory.mktemp("typed") / "folder"
    make_folder(inputs, made)
    return made


@pytest.fixture(scope="session")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Whole]:
    """Return the uninterrupted commands by name."""
    done = {}
    for name, command in COMMANDS.items():
        copy = tmp_path_factory.mktemp("whole") / name
        shutil.copytree(folder, copy)
        typed = TerminalProcess(command.words, copy)
        assert 0 == typed.end(), typed.shown
        done[name] = Whole(result=command.read_result(copy), seconds=typed.seconds)
    return done


@pytest.fixture
def work(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder."""
    return Path(shutil.copytree(folder, tmp_path / "work"))


def check_resume(name: str, work: Path, whole: Mapping[str, Whole]) -> None:
    """Type the command again and check that it ends as if nothing had happened."""
    again = TerminalProcess(COMMANDS[name].words, work)
    assert 0 == again.end(), again.shown
    assert whole[name].result == COMMANDS[name].read_result(work)


@pytest.mark.long
@pytest.mark.fault("kill -9 of the command line, {name}")
@pytest.mark.seeds(5)
@pytest.mark.parametrize("name", COMMANDS)
def test_kill(name: str, seed: int, work: Path, whole: Mapping[str, Whole]) -> None:
    """At any moment from the start of Python on."""
    typed = TerminalProcess(COMMANDS[name].words, work)
    typed.watch(random.Random(f"{name} {seed}").random() * whole[name].seconds)
    typed.process.kill()
    typed.end()
    check_resume(name, work, whole)


@pytest.mark.parametrize(
    ("name", "stop"),
    [
        pytest.param(name, stop, marks=() if (name, stop) in SHORT_LIST else pytest.mark.long)
        for name in COMMANDS
        for stop in STOPS
    ],
)
@pytest.mark.fault("{stop}, {name}")
def test_stop(name: str, stop: str, work: Path, whole: Mapping[str, Whole], tmp_path: Path) -> None:
    """The work so far is saved, nothing half written is left, the line to resume is shown."""
    command = COMMANDS[name]
    for attempt in range(ATTEMPTS):
        folder = Path(shutil.copytree(work, tmp_path / f"{attempt}"))
        typed = TerminalProcess(command.words, folder)
        typed.watch(until=rf"[1-9]\d*/\d+ {command.unit}")
        STOPS[stop](typed)
        if typed.end() != 0:  # on a busy machine it may end before the stop reaches it
            break
    assert EXIT_INTERRUPTED == typed.end(), typed.shown
    assert "Traceback" not in typed.shown
    if stop != "a closed terminal (SIGHUP)":
        assert typed.shown.splitlines()[-1].strip() == shlex.join(["faceswap", *command.words])
    check_resume(name, folder, whole)


@pytest.mark.fault("a locale without UTF-8, {name}")
@pytest.mark.parametrize("name", ["train", "convert"])
def test_locale_without_utf8(name: str, work: Path, whole: Mapping[str, Whole]) -> None:
    """Its bars and tables are printed, and a clip has any name; extraction is in its own test."""
    clip = os.fsencode(work) + b"/\xe4da \xf0\x9f\x98\x80.mp4"
    (work / "long.mp4").rename(os.fsdecode(clip))
    words = [os.fsdecode(clip) if word == "long.mp4" else word for word in COMMANDS[name].words]
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    typed = TerminalProcess(tuple(words), work, variables=variables)
    assert 0 == typed.end(), typed.shown
    assert "Traceback" not in typed.shown
    assert whole[name].result == COMMANDS[name].read_result(work)


@pytest.mark.fault("memory of the table before training")
def test_memory_of_the_table(work: Path, whole: Mapping[str, Whole]) -> None:
    """A computer with as much memory as the table says would not have killed the training."""
    words = COMMANDS["train"].words
    table = TerminalProcess((*words, "--dry-run", "--json", "--quiet"), work)
    assert 0 == table.end(), table.shown
    said = json.loads(table.shown)["memory_bytes"]
    typed = TerminalProcess(words, work)
    assert said / 2 < typed.wait_for_peak() <= said
    assert whole["train"].result == COMMANDS["train"].read_result(work)


@pytest.mark.long
@pytest.mark.fault("memory limited, train")
@pytest.mark.parametrize("limit_mb", [220, 340, 400, 420, 440, 460])
def test_limited_memory(limit_mb: int, work: Path, whole: Mapping[str, Whole]) -> None:
    """With less memory it ends with one line, wherever that runs out, or does without metrics."""
    limits = (limit_mb << 20, limit_mb << 20)
    limit = partial(resource.setrlimit, resource.RLIMIT_DATA, limits)
    typed = TerminalProcess(COMMANDS["train"].words, work, set_limits=limit)
    ended = typed.end()
    assert ended in (0, DeviceError.exit_code), typed.shown
    assert "Traceback" not in typed.shown
    assert ended == 0 or "error: the memory of this computer is full" in typed.shown
    check_resume("train", work, whole)
