"""Fuzz one parser for a while: `python tests/security/fuzz/run.py records --seconds 60`.

With atheris installed the inputs are guided by coverage; without it they are random changes of the
target's seeds. An input that fails is written beside, and its path printed.
"""

import argparse
import hashlib
import random
import sys
import time
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from security.fuzz.mutations import mutate
from security.fuzz.targets import TARGETS, Target


def main() -> None:
    """Fuzz the target of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    target = TARGETS[options.target]
    if find_spec("atheris"):
        fuzz_by_coverage(target, options.seconds)
    else:
        count = fuzz(target, seed=options.seed, seconds=options.seconds)
        print(f"{options.target}: {count:,} inputs, no failure")


def fuzz(target: Target, *, seed: int, seconds: float) -> int:
    """Parse random changes of a target's seeds; return how many.

    Raises:
        Exception: What a parser raised that it does not document.
    """
    rng, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        data = mutate(rng.choice(target.seeds), rng)
        try:
            target.parse(data)
        except BaseException:
            path = Path(f"failed-{hashlib.sha256(data).hexdigest()[:8]}")
            path.write_bytes(data)
            print(f"failed on {path}")
            raise
        count += 1
    return count


def fuzz_by_coverage(target: Target, seconds: float) -> None:
    """Let atheris choose the inputs."""
    import atheris

    atheris.Setup([sys.argv[0], f"-max_total_time={seconds:.0f}"], target.parse)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
