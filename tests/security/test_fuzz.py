"""Each parser of ours meets some hundred changed inputs; `fuzz/run.py` does it for longer."""

import random

import pytest
from fault_figures import FaultCount
from security.fuzz.mutations import mutate
from security.fuzz.targets import TARGETS

INPUTS = 150
SLOW_INPUTS = 25
"""For targets that write and read a file of weights."""


@pytest.mark.fault("changed input of a parser of ours")
@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_raises_only_what_it_documents(name: str, fault_count: FaultCount) -> None:
    """The seeds themselves, then changes of them, the same in every run."""
    target, rng = TARGETS[name], random.Random(name)
    for seed in target.seeds:
        target.parse(seed)
    for _ in range(SLOW_INPUTS if name in ("recipe", "settings") else INPUTS):
        data = mutate(rng.choice(target.seeds), rng)
        with fault_count.one():
            try:
                target.parse(data)
            except Exception as error:
                pytest.fail(f"{name}: {type(error).__name__}: {error} on {data[:300]!r}")
