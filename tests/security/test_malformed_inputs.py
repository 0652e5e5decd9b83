"""A hundred malformed inputs: a documented exit code, one line, no crash, bounded memory."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from security.malformed import Malformed, make_malformed
from security.warm_program import Outcome, WarmProgram

MAX_PEAK_MB = 300
"""Memory beyond that of the loaded program; the images that are read have 48 px."""
MIN_COUNT = 100
LIBRARY_REMARKS = ("Corrupt JPEG data",)
"""What libjpeg says on the console, inside OpenCV, of an image that it shows nevertheless."""
ERRORS = frozenset({2, 3, 4, 5, 6})
"""Exit codes with a message; the others are results."""


@pytest.fixture(scope="module")
def program() -> Iterator[WarmProgram]:
    """Yield the program, loaded once."""
    with WarmProgram() as warm:
        yield warm


def find_faults(outcome: Outcome, codes: frozenset[int]) -> Iterator[str]:
    """Yield what is wrong with the end of a command."""
    if outcome.code not in codes:
        yield f"exit code {outcome.code}"
    if outcome.left_processes:
        yield "left a process"
    if outcome.peak_mb > MAX_PEAK_MB:
        yield f"took {outcome.peak_mb:.0f} MB"
    lines = [one for one in outcome.stderr.splitlines() if not one.startswith(LIBRARY_REMARKS)]
    error, *hints = lines or [""]
    is_one_line = error.startswith("error: ") and len(hints) <= 1
    if not (is_one_line if outcome.code in ERRORS else not lines):
        yield f"printed {outcome.stderr[-600:]!r}"


@pytest.mark.slow
def test_a_hundred_malformed_inputs_cost_a_line_each(program: WarmProgram, tmp_path: Path) -> None:
    """Of `extract` and of `verify`; what is wrong is listed for all of them at once."""
    (tmp_path / "good").mkdir()
    inputs = list(make_malformed(tmp_path / "good"))
    assert len({one.name for one in inputs}) == len(inputs) >= MIN_COUNT
    faults = {one.name: faults for one in inputs if (faults := try_input(program, one, tmp_path))}
    assert {} == faults, "\n".join(f"{name}: {one}" for name, one in faults.items())


def try_input(program: WarmProgram, malformed: Malformed, folder: Path) -> list[str]:
    """Run both commands on an input; return what is wrong."""
    path = folder / malformed.name
    path.write_bytes(malformed.data)
    words = ("extract", path.name, "--name", "set", "--quiet", "--workspace", "workspace")
    extracted = program.run(*words, folder=folder)
    verified = program.run("verify", path.name, "--quiet", folder=folder)
    path.unlink()
    shutil.rmtree(folder / "workspace", ignore_errors=True)
    return [
        *(f"extract: {fault}" for fault in find_faults(extracted, malformed.codes)),
        *(f"verify: {fault}" for fault in find_faults(verified, frozenset({0, 3, 7, 8}))),
    ]
