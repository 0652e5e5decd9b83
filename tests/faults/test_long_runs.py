"""Memory does not grow with the length of a run; `long_runs.py` has the hours."""

import sys
from pathlib import Path

import pytest
from faults.long_runs import (
    MAX_GROWTH_MB,
    MemorySampler,
    sample_convert,
    sample_extract,
    sample_train,
    write_long_clip,
)
from faults.workloads import Inputs

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads the memory from /proc"),
    pytest.mark.slow,
]


def check_flat(sampler: MemorySampler) -> None:
    """Check that the last quarter of a run takes no more memory than what comes before."""
    assert len(sampler.resident_mb) > 20
    assert sampler.growth_mb() <= MAX_GROWTH_MB


@pytest.mark.fault("memory of a longer extract")
def test_extract(tmp_path: Path) -> None:
    """Of 500 frames; each frame that is kept would be 0.9 MB."""
    clip = write_long_clip(tmp_path / "long.mp4", frames=500, size=(640, 480))
    check_flat(sample_extract(clip, tmp_path))


@pytest.mark.fault("memory of a longer convert")
def test_convert(inputs: Inputs, tmp_path: Path) -> None:
    """Of 500 frames."""
    longer = Inputs(root=tmp_path / "inputs")
    longer.root.mkdir()
    (longer.root / "workspace").symlink_to(inputs.root / "workspace")
    write_long_clip(longer.clip("ada"), frames=500, size=(640, 480))
    check_flat(sample_convert(longer, tmp_path))


@pytest.mark.fault("memory of a longer train")
def test_train(inputs: Inputs, tmp_path: Path) -> None:
    """Of 400 steps."""
    check_flat(sample_train(inputs, tmp_path, steps=400))
