"""A hundred malformed inputs: a documented exit code, one line, no crash, bounded memory."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_figures import FaultCount
from security.malformed import Malformed, make_malformed
from security.warm_program import Outcome, WarmProgram
from test_checkpoint import NAMES, make_trainer, save_trained_weights

MAX_PEAK_MB = 300
"""Memory beyond that of the loaded program, whatever a header claims; the images that are read have
48 px. An extraction takes up to 178, a conversion 124."""
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


Try = Callable[[WarmProgram, Malformed, Path], list[str]]


def try_extract(program: WarmProgram, malformed: Malformed, folder: Path) -> list[str]:
    """Extract from an input, and verify it; return what is wrong."""
    name = malformed.name
    words = ("extract", name, "--name", "set", "--quiet", "--workspace", "workspace")
    extracted = program.run(*words, folder=folder)
    verified = program.run("verify", name, "--quiet", folder=folder)
    codes = frozenset({0, 3, 7, 8})
    return [
        *(f"extract: {one}" for one in find_faults(extracted, malformed.codes)),
        *(f"verify: {one}" for one in find_faults(verified, codes)),
    ]


def try_convert(program: WarmProgram, malformed: Malformed, folder: Path) -> list[str]:
    """Swap the face in an input; return what is wrong."""
    model = folder / "good" / "model.safetensors"
    words = ("convert", malformed.name, "--model", model, "--to", NAMES[0], "--device", "cpu")
    converted = program.run(*words, "--quiet", "--workspace", "workspace", folder=folder)
    return list(find_faults(converted, malformed.codes))


@pytest.mark.slow
@pytest.mark.fault("malformed input, {command}")
@pytest.mark.parametrize(
    ("command", "try_input", "every"),
    [("extract and verify", try_extract, 1), ("convert", try_convert, 4)],
)
def test_a_hundred_malformed_inputs_cost_a_line_each(
    command: str,
    try_input: Try,
    every: int,
    program: WarmProgram,
    tmp_path: Path,
    fault_count: FaultCount,
    pytestconfig: pytest.Config,
) -> None:
    """What is wrong is listed for all of them at once."""
    good = tmp_path / "good"
    good.mkdir()
    save_trained_weights(good / "model.safetensors", make_trainer(0))
    inputs = list(make_malformed(good))
    assert len({one.name for one in inputs}) == len(inputs) >= MIN_COUNT
    faults: dict[str, list[str]] = {}
    for one in inputs if pytestconfig.getoption("--long") else inputs[::every]:
        path = tmp_path / one.name
        path.write_bytes(one.data)
        if found := try_input(program, one, tmp_path):
            faults[one.name] = found
        fault_count.add(survived=not found)
        path.unlink()
        shutil.rmtree(tmp_path / "workspace", ignore_errors=True)
    assert {} == faults, "\n".join(f"{name}: {one}" for name, one in faults.items())
