import json
from pathlib import Path

import pytest

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.provenance.credentials import ValidationState, read_credentials
from faceswap_cli.stages.demo import DemoSize, demo
from faceswap_cli.video.reader import probe, read_frames

KEYS = {
    "psnr_swap",
    "psnr_unswapped",
    "psnr_mean_face",
    "ssim_swap",
    "ssim_unswapped",
    "images_seen",
    "seconds",
}


@pytest.mark.slow
def test_the_demo_leaves_what_it_promises_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """Every file is there and holds what its name says; a second run adds to the first."""
    drawn = DemoSize(side_px=192, seconds=1.0)
    first = demo(tmp_path, minutes=0.05, device="cpu", seed=0, report=Reporter(), size=drawn)
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert KEYS <= set(numbers)
    assert {"draw", "extract", "train", "convert", "judge"} == set(numbers["seconds"])
    original, swapped = (probe(tmp_path / name) for name in ("ada.mp4", "swapped.mp4"))
    assert 25 == len(list(read_frames(tmp_path / "swapped.mp4")))
    assert (original.size, original.audio_count) == (swapped.size, swapped.audio_count)
    assert (3 * 192, 192) == probe(tmp_path / "side-by-side.mp4").size
    assert image_io.read_image(tmp_path / "contact-sheet.png").shape[1] > 6 * 256
    for name in ("swapped.mp4", "side-by-side.mp4", "contact-sheet.png"):
        told = read_credentials(tmp_path / name)
        assert told is not None
        assert told.claim is not None
        assert (ValidationState.INTACT, True, True) == (
            told.state,
            told.is_swap,
            told.claim.consent,
        )
    assert "data:image/png" in (tmp_path / "report.html").read_text()
    clips = {name: (tmp_path / name).read_bytes() for name in ("ada.mp4", "ed.mp4")}
    second = demo(tmp_path, minutes=0.05, device="cpu", seed=0, report=Reporter(), size=drawn)
    assert second.images_seen > first.images_seen
    assert clips == {name: (tmp_path / name).read_bytes() for name in clips}
    assert first.psnr_unswapped == second.psnr_unswapped


def test_a_device_that_is_not_there_is_said_before_anything_is_drawn(tmp_path: Path) -> None:
    """Nothing is made for a run that cannot train."""
    with pytest.raises(ConfigurationError, match='"gpu" is not a device'):
        demo(tmp_path / "demo", minutes=0.05, device="gpu", seed=0, report=Reporter())
    assert not (tmp_path / "demo").exists()
