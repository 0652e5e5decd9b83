"""The whole path on people the program draws: two clips, three stages, and the true swap.

The one stage that calls other stages: it is what a user would type, in order, with a referee at
the end who knows the right answer.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceswap_cli import synthetic
from faceswap_cli.core import config, html_page, image_io
from faceswap_cli.core.fileio import write_text
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.baselines import MeanFaceBaseline
from faceswap_cli.evaluation.clips import render_clip, render_true_swap
from faceswap_cli.evaluation.metrics.reconstruction import mean_squared_error, psnr_from_mse
from faceswap_cli.evaluation.scores import cropped_ssim
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.provenance.consent import CONSENT_SECTION, Consent
from faceswap_cli.provenance.credentials import read_credentials, sign_file
from faceswap_cli.stages.convert import convert
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.train import StopCriterion, TrainJob, train
from faceswap_cli.training.hardware import find_hardware
from faceswap_cli.video.reader import probe, read_frames
from faceswap_cli.video.writer import VideoWriter

DRIVING, TARGET = "ada", "ed"
"""Whose performance it is, and whose face is put on it: two of like complexion, as anyone who casts
a swap would choose, since colours that have to be stretched stretch every error with them."""
GRID_FRAMES = 6
SYNTHETIC_CONSENT = Consent(kind="synthetic", note="drawn by the program")
"""Whose faces they are."""
DEFAULT_MINUTES = 3.0
"""How long to train unless told otherwise."""


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """What is drawn; smaller and shorter clips are for tests."""

    side_px: int = 384
    seconds: float = 8.0
    """Duration of each clip."""


@dataclass(frozen=True, kw_only=True)
class DemoSummary:
    """What the demo came to."""

    folder: Path
    psnr_swap: float
    """dB, inside the face, of the swapped video against the true swap."""
    psnr_unswapped: float
    """dB, of the input itself."""
    psnr_mean_face: float
    """dB, of the wanted person's mean face, pasted and colour-matched alike."""
    ssim_swap: float
    ssim_unswapped: float
    ssim_mean_face: float
    images_seen: int
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by stage."""
    files: dict[str, str] = field(default_factory=dict)
    """What to look at, by what it is."""

    def rows(self) -> list[list[str]]:
        """Return the table that the demo ends with: what was compared, PSNR, SSIM."""
        return [
            ["swapped", f"{self.psnr_swap:.1f}", f"{self.ssim_swap:.3f}"],
            ["unswapped input", f"{self.psnr_unswapped:.1f}", f"{self.ssim_unswapped:.3f}"],
            [
                f"{TARGET}'s mean face, pasted",
                f"{self.psnr_mean_face:.1f}",
                f"{self.ssim_mean_face:.3f}",
            ],
        ]

    def to_dict(self) -> dict[str, object]:
        """Return what `summary.json` holds."""
        return {
            "psnr_swap": round(self.psnr_swap, 3),
            "psnr_unswapped": round(self.psnr_unswapped, 3),
            "psnr_mean_face": round(self.psnr_mean_face, 3),
            "ssim_swap": round(self.ssim_swap, 4),
            "ssim_unswapped": round(self.ssim_unswapped, 4),
            "ssim_mean_face": round(self.ssim_mean_face, 4),
            "images_seen": self.images_seen,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "files": self.files,
        }


def demo(
    folder: Path,
    *,
    minutes: float,
    device: str,
    seed: int,
    report: Reporter,
    size: DemoSize | None = None,
) -> DemoSummary:
    """Draw two people, swap their faces by the three stages, and compare with the true swap.

    Args:
        folder: Where everything goes; what is already there and finished is not made again.
        minutes: How long to train.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Of the performances and of training.
        report: Hears each stage.
        size: Size and duration of the clips.
    """
    find_hardware(device)  # a device that is not there is said before a minute is spent on drawing
    size = size or DemoSize()
    clock = _StageTimer()
    space = Workspace.open(folder / "workspace")
    clips = {name: folder / f"{name}.mp4" for name in (DRIVING, TARGET)}
    takes = {
        name: synthetic.animate(seed + 1 + turn, seconds=size.seconds)
        for turn, name in enumerate(clips)
    }
    with clock("draw"):
        for name, path in clips.items():
            if not path.exists():
                render_clip(
                    path, synthetic.CAST[name], takes[name], side_px=size.side_px, report=report
                )
    with clock("extract"):
        for name, path in clips.items():
            extract(
                path,
                folder=space.set_folder(name),
                settings=ExtractSettings(),
                report=report,
                extra_sections={CONSENT_SECTION: SYNTHETIC_CONSENT.to_dict()},
            )
    sets = {name: FaceSet.from_folder(space.require_set(name)) for name in clips}
    run = space.run_folder("demo")
    with clock("train"):
        trained = train(
            TrainJob(
                sets=list(sets.values()),
                recipe=config.resolve("autoencoder", "light", []),
                run=run,
                stop_criterion=StopCriterion(max_images=None, max_minutes=minutes),
                device=device,
                seed=seed,
            ),
            report=report,
        )
    swapped = folder / "swapped.mp4"
    with clock("convert"):
        convert(
            clips[DRIVING],
            weights=run.weights,
            to=TARGET,
            output=swapped,
            device=device,
            report=report,
        )
    with clock("judge"):
        verdict = _score_frames(
            folder,
            original=clips[DRIVING],
            swapped=swapped,
            truth=render_true_swap(
                synthetic.CAST[DRIVING],
                synthetic.CAST[TARGET],
                takes[DRIVING],
                side_px=size.side_px,
            ),
            driving=sets[DRIVING],
            target=sets[TARGET],
            report=report,
        )
    for name in ("side-by-side.mp4", "contact-sheet.png"):
        _copy_credentials(swapped, folder / name)
    summary = DemoSummary(
        folder=folder,
        psnr_swap=psnr_from_mse(float(np.mean(verdict.errors["swap"]))),
        psnr_unswapped=psnr_from_mse(float(np.mean(verdict.errors["unswapped"]))),
        psnr_mean_face=psnr_from_mse(float(np.mean(verdict.errors["mean face"]))),
        ssim_swap=float(np.mean(verdict.ssim["swap"])),
        ssim_unswapped=float(np.mean(verdict.ssim["unswapped"])),
        ssim_mean_face=float(np.mean(verdict.ssim["mean face"])),
        images_seen=trained.images_seen,
        seconds=clock.seconds,
        files={
            "swapped": str(swapped),
            "side by side": str(folder / "side-by-side.mp4"),
            "contact sheet": str(folder / "contact-sheet.png"),
            "report": str(folder / "report.html"),
        },
    )
    write_text(folder / "summary.json", json.dumps(summary.to_dict(), indent=2) + "\n")
    write_text(folder / "report.html", _render_page(summary, verdict))
    return summary


def _copy_credentials(swapped: Path, path: Path) -> None:
    """Let what shows a swap say so as the swap itself does."""
    told = read_credentials(swapped)
    assert told is not None
    assert told.claim is not None
    sign_file(path, told.claim, source=swapped)


class _StageTimer:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


# --- judging ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _FrameScores:
    """Scores of each frame, by what was compared with the true swap."""

    errors: dict[str, list[float]]
    """Mean squared errors inside the face, levels squared."""
    ssim: dict[str, list[float]]
    grid: Path


def _score_frames(
    folder: Path,
    *,
    original: Path,
    swapped: Path,
    truth: Iterator[synthetic.RenderedFrame],
    driving: FaceSet,
    target: FaceSet,
    report: Reporter,
) -> _FrameScores:
    """Score every frame against the true swap, and leave a side-by-side video and a sheet."""
    records = {record.frame: record for record in driving.records}
    shown = {round(part * max(records)) for part in np.linspace(0.05, 0.95, GRID_FRAMES)}
    paste = MeanFaceBaseline.from_faces(target)
    errors: dict[str, list[float]] = defaultdict(list)
    ssims: dict[str, list[float]] = defaultdict(list)
    rows: list[list[Image]] = []
    report.start_task("comparing with the true swap", total=len(records), unit="frames")
    info = probe(original)
    size = (3 * info.size[0], info.size[1])
    with VideoWriter(
        folder / "side-by-side.mp4", size=size, rate=info.average_rate, copy_from=original
    ) as video:
        for before, after, true in zip(
            read_frames(original), read_frames(swapped), truth, strict=True
        ):
            shots = {"swap": after.image, "unswapped": before.image}
            if before.index in records:
                shots["mean face"] = paste(before.image, records[before.index], true.image)
            for name, image in shots.items():
                errors[name].append(mean_squared_error(image, true.image, true.face_mask))
                ssims[name].append(cropped_ssim(image, true.image, true.face_mask))
            video.write(np.hstack([before.image, after.image, true.image]), before.time)
            if before.index in shown:
                rows.append([before.image, after.image, true.image])
            report.update(before.index + 1)
    sheet = folder / "contact-sheet.png"
    tiles = list(zip(*rows, strict=True))
    image_io.write_png(
        sheet, image_io.make_grid(tiles, side=256, labels=["original", "swapped", "true swap"])
    )
    return _FrameScores(errors=errors, ssim=ssims, grid=sheet)


def _render_page(summary: DemoSummary, scores: _FrameScores) -> str:
    """Return the demo's page."""
    curves = {
        name: [(frame, psnr_from_mse(error)) for frame, error in enumerate(errors)]
        for name, errors in scores.errors.items()
    }
    return html_page.build_page(
        "faceswap demo",
        f"{TARGET}'s face on {DRIVING}'s performance, both drawn by the program, so the true swap "
        "is known",
        [
            html_page.table(
                ["against the true swap, inside the face", "PSNR, dB", "SSIM"],
                [[name, *map(float, numbers)] for name, *numbers in summary.rows()],
            ),
            html_page.png_figure(scores.grid, "original, swapped, and the true swap"),
            html_page.heading("Frame by frame"),
            html_page.line_chart(curves, x_label="frame", y_label="PSNR, dB"),
            html_page.heading("Time"),
            html_page.table(["stage", "seconds"], [[k, v] for k, v in summary.seconds.items()]),
            html_page.paragraph(f"{summary.images_seen:,} images were seen in training."),
        ],
    )
