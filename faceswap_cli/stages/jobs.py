"""Jobs: a file of commands that are run one after the other: `read_jobs`, `run_jobs`.

    [jobs]
    ada-bo = [
        "extract ada.mp4 bo.mp4",
        "train --model autoencoder ada bo --max-minutes 240",
        "convert clips/*.mp4 --model autoencoder-ada-bo --output swapped",
    ]

A step is what a user would type, and runs as a process of its own: one that crashes takes nothing
with it, and leaves the memory of the GPU to the next. There is no record of what was done, because
every command resumes, and is quick where nothing is left to do.
"""

import json
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faceswap_cli.core.errors import ConfigurationError, FaceswapError, InputError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import StopFlag, graceful_interrupt

EXAMPLE_HINT = 'write a list of commands: [jobs] and ada-bo = ["extract ada.mp4", ...]'
PROGRAM = (sys.executable, "-P", "-m", "faceswap_cli")
"""The program; -P: a `json.py` in the folder of the jobs is not Python's."""
POLL_S = 0.2
"""Time between two checks for a signal while a step runs."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Commands that depend on each other: one that fails ends the job."""

    name: str
    steps: tuple[tuple[str, ...], ...]
    """The words of each command, without the program's name."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The result of a step."""

    step: str
    """The command."""
    exit_code: int | None
    """As of the command; negative: the signal that ended it; None: it was not run, since one before
    it failed."""
    seconds: float
    """Its time."""
    result: Mapping[str, Any] | None
    """What the command prints with `--json`: its result, or its error."""

    @property
    def status(self) -> str:
        """`done`, `failed` or `not run`."""
        if self.exit_code is None:
            return "not run"
        return "failed" if self.exit_code else "done"

    @property
    def message(self) -> str:
        """What failed; empty if nothing did."""
        if not self.exit_code:
            return ""
        if self.exit_code < 0:
            return f"ended by signal {-self.exit_code}"
        result = self.result or {}
        by_input = [
            FaceswapError(one["error"]).describe(name)
            for name, one in result.items()
            if isinstance(one, dict) and "error" in one
        ]
        return str(result.get("error", "; ".join(by_input) or f"exit code {self.exit_code}"))


@dataclass(frozen=True, kw_only=True)
class JobsSummary:
    """The results of the jobs of a file."""

    jobs: Mapping[str, Sequence[StepResult]]
    """By job, a result for each step."""

    @property
    def failed(self) -> list[tuple[str, StepResult]]:
        """The steps that failed, each with its job."""
        return [(name, one) for name, steps in self.jobs.items() for one in steps if one.exit_code]

    def table(self) -> tuple[str, list[str], list[list[str]]]:
        """Return title, headings and rows of a table of all steps."""
        rows = [
            [name, one.step, one.status, f"{one.seconds:.0f}"]
            for name, steps in self.jobs.items()
            for one in steps
        ]
        return "jobs", ["job", "step", "", "seconds"], rows

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return the results by job, for JSON."""
        return {name: [asdict(one) for one in steps] for name, steps in self.jobs.items()}


def read_jobs(path: Path) -> list[Job]:
    """Read a file of jobs.

    Raises:
        InputError: The file cannot be read.
        ConfigurationError: It has no jobs, or one that is not a list of commands.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # of TOML and of UTF-8
        raise ConfigurationError(f"{path} is not TOML: {error}", hint=EXAMPLE_HINT) from error
    jobs = table.get("jobs")
    if not isinstance(jobs, dict) or not jobs:
        raise ConfigurationError(f"{path} has no [jobs]", hint=EXAMPLE_HINT)
    if more := sorted(table.keys() - {"jobs"}):
        raise ConfigurationError(f"{path} has an unknown section [{more[0]}]", hint=EXAMPLE_HINT)
    return [Job(name=name, steps=_parse_steps(name, lines)) for name, lines in jobs.items()]


def _parse_steps(name: str, lines: object) -> tuple[tuple[str, ...], ...]:
    """Return the words of each command of a job.

    Raises:
        ConfigurationError: It is not a list of texts, or a quote is not closed.
    """
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise ConfigurationError(f'the job "{name}" is not a list of texts', hint=EXAMPLE_HINT)
    steps = []
    for line in lines:
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise ConfigurationError(
                f'the job "{name}" has a step that cannot be parsed: {line}', hint=str(error)
            ) from error
        steps.append(tuple(words[1:] if words[:1] == ["faceswap"] else words))
    return tuple(steps)


def run_jobs(
    jobs: Sequence[Job], *, folder: Path, report: Reporter, options: Sequence[str] = ()
) -> JobsSummary:
    """Run the steps of all jobs in order; one that fails ends its job, and the next job begins.

    Args:
        jobs: The jobs.
        folder: Where the steps run: paths in them count from it.
        report: Receives a note for each step. Steps show their own progress on stderr.
        options: Added to every step.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the step was stopped too, and saved its work.
    """
    results: dict[str, list[StepResult]] = {}
    for job in jobs:
        steps = results[job.name] = []
        for number, words in enumerate(job.steps, 1):
            line = shlex.join(words)
            if any(one.exit_code for one in steps):
                steps.append(StepResult(step=line, exit_code=None, seconds=0.0, result=None))
                continue
            report.note(f"{job.name}, step {number} of {len(job.steps)}: {line}")
            started = time.monotonic()
            with graceful_interrupt() as stop:
                code, result = _run_step([*words[:1], *options, *words[1:]], folder, stop)
            stop.raise_if_requested()
            seconds = round(time.monotonic() - started, 1)
            steps.append(StepResult(step=line, exit_code=code, seconds=seconds, result=result))
    return JobsSummary(jobs=results)


def _run_step(
    words: Sequence[str], folder: Path, stop: StopFlag
) -> tuple[int, Mapping[str, Any] | None]:
    """Run a command with `--json`; return its exit code and its result."""
    command = [*PROGRAM, words[0], "--json", *words[1:]]
    # A session of its own: Ctrl-C in the terminal would reach the step as well, and the one that is
    # passed on would be its second, which does not let it save.
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    is_signaled = sys.platform == "win32"  # there the terminal tells all of its processes
    while True:
        try:
            output, _ = process.communicate(timeout=POLL_S)
            return process.returncode, _parse_result(output)
        except subprocess.TimeoutExpired:
            if stop.requested and not is_signaled:
                process.send_signal(signal.SIGINT)
                is_signaled = True


def _parse_result(output: str) -> Mapping[str, Any] | None:
    """Return the object that a command printed; None if it printed none."""
    try:
        result = json.loads(output)
    except ValueError:
        return None
    return result if isinstance(result, dict) else None
