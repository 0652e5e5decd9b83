"""`faceswap demo`: its files, and what a second run repeats."""

import json
from pathlib import Path

import pytest

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.lock import folder_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.provenance.credentials import ValidationState, read_credentials
from faceswap_cli.stages import demo as stage
from faceswap_cli.stages.demo import DemoSize, StopCriterion, demo
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames

KEYS = {
    "psnr_swap",
    "psnr_unswapped",
    "psnr_mean_face",
    "psnr_ceiling",
    "ssim_swap",
    "ssim_unswapped",
    "images_seen",
    "seconds",
}
SIZE = DemoSize(side_px=192, seconds=1.0)


def run_demo(folder: Path, max_images: int) -> stage.DemoSummary:
    """Run the demo with short clips."""
    return demo(
        folder,
        stop_criterion=StopCriterion(max_images=max_images),
        device="cpu",
        seed=0,
        report=Reporter(),
        size=SIZE,
    )


@pytest.mark.slow
def test_demo_leaves_its_files_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file has its content; a finished demo is not repeated, a higher limit trains on."""
    first = run_demo(tmp_path, max_images=256)
    numbers = json.loads((tmp_path / "summary.json").read_text())
    assert KEYS <= set(numbers)
    assert {"render", "extract", "train", "convert", "evaluate"} == set(numbers["seconds"])
    original, swapped = (probe(tmp_path / name) for name in ("ken.mp4", "swapped.mp4"))
    assert 25 == len(list(read_frames(tmp_path / "swapped.mp4")))
    assert (original.size, original.audio_count) == (swapped.size, swapped.audio_count)
    assert (3 * 192, 192) == probe(tmp_path / "side-by-side.mp4").size
    assert image_io.read_image(tmp_path / "contact-sheet.png").shape[1] > 6 * 256
    for name in ("swapped.mp4", "side-by-side.mp4", "contact-sheet.png"):
        credentials = read_credentials(tmp_path / name)
        assert credentials is not None
        assert credentials.claim is not None
        assert (ValidationState.INTACT, True, True) == (
            credentials.state,
            credentials.is_swap,
            credentials.claim.consent,
        )
    assert "data:image/png" in (tmp_path / "report.html").read_text()
    clips = {name: (tmp_path / name).read_bytes() for name in ("ken.mp4", "max.mp4")}

    with monkeypatch.context() as patch:
        patch.setattr(stage, "convert", None)  # a finished demo must not call it
        assert first.to_dict() == run_demo(tmp_path, max_images=256).to_dict()

    longer = run_demo(tmp_path, max_images=512)
    assert longer.images_seen > first.images_seen
    assert clips == {name: (tmp_path / name).read_bytes() for name in clips}
    assert first.psnr_unswapped == longer.psnr_unswapped
    assert max(longer.psnr_swap, longer.psnr_unswapped, longer.psnr_mean_face) < longer.psnr_ceiling


def test_unknown_device_fails_before_rendering(tmp_path: Path) -> None:
    """Nothing is written for a run that cannot train."""
    with pytest.raises(ConfigurationError, match='"gpu" is not a device'):
        demo(
            tmp_path / "demo",
            stop_criterion=StopCriterion(max_minutes=0.05),
            device="gpu",
            seed=0,
            report=Reporter(),
        )
    assert not (tmp_path / "demo").exists()


def test_a_folder_is_written_by_one_demo_at_a_time(tmp_path: Path) -> None:
    """A second demo is refused before anything is rendered."""
    with folder_lock(tmp_path):
        before = list(tmp_path.iterdir())
        with pytest.raises(InputError, match="is being written by process"):
            run_demo(tmp_path, max_images=8)
        assert before == list(tmp_path.iterdir())
