"""Every gate in one command, with a table of times: `python tests/check.py --help`."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]

DOCUMENT_TESTS = ["tests/test_docs.py", "tests/test_site.py"]

GATES = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    "docs": ["pytest", "--quiet", *DOCUMENT_TESTS],
    "tests": [
        "pytest",
        "--quiet",
        "--durations=10",
        *(f"--ignore={one}" for one in DOCUMENT_TESTS),
    ],
}
"""What is run, in this order: the quick ones first."""

FAST_OPTIONS = ["-m", "not slow", "-n", "auto", "--dist", "loadfile"]
"""For a test gate with `--fast`: a process for each core, each with whole files."""
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""Of each of them, besides: threads of several processes would wait for each other's cores."""


def main() -> int:
    """Run every gate, also after one failed, and return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="leave out tests marked slow")
    parser.add_argument("--only", choices=GATES, help="run one gate")
    options = parser.parse_args()
    outcomes = []
    for name in [options.only] if options.only else GATES:
        command, environment = GATES[name], dict(os.environ)
        if options.fast and command[0] == "pytest":
            command = [*command, *FAST_OPTIONS]
            environment |= ONE_THREAD
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        began = time.perf_counter()
        ended = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment)
        passed = ended.returncode == 0
        outcomes.append((name, passed, time.perf_counter() - began))
    print(f"\n{'gate':<10}{'result':<10}{'seconds':>8}")
    for name, passed, seconds in outcomes:
        print(f"{name:<10}{'passed' if passed else 'FAILED':<10}{seconds:>8.1f}")
    return sum(not passed for _, passed, _ in outcomes)


if __name__ == "__main__":
    sys.exit(main())
