"""Demo: two synthetic people, the three stages, and a comparison with the exact true swap.

The entry point is `demo`. It calls the other stages in the order a user would type them.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceswap_cli import heads
from faceswap_cli.core import config, image_io
from faceswap_cli.core.fileio import DamagedFileError, read_document, write_document, write_text
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.lock import folder_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.evaluation.baselines import Baseline, MeanFaceBaseline, Oracle
from faceswap_cli.evaluation.clips import TrueFrame, render_head_clip, render_true_head_swap
from faceswap_cli.evaluation.metrics.reconstruction import ReconstructionScores, psnr_from_mse
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.heads import HeadScene, Lamp
from faceswap_cli.pages import html_page
from faceswap_cli.pages.chart import line_chart
from faceswap_cli.pages.player import before_after_player
from faceswap_cli.provenance.consent import CONSENT_SECTION, Consent
from faceswap_cli.provenance.credentials import copy_claim
from faceswap_cli.stages.convert import convert
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.train import StopCriterion, TrainJob, train
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter

__all__ = ["DemoSize", "DemoSummary", "StopCriterion", "demo"]

DRIVING, TARGET = "ken", "max"
"""Identity of the performance, and identity swapped in. Their complexions are similar, as anyone
who casts a swap would choose: stretching colors stretches every error with them."""
PLACE = HeadScene(
    lamps=(
        Lamp(direction=(-0.5, 0.5, 1.0), color=(0.62, 0.60, 0.57), size=0.6),
        Lamp(direction=(0.9, 0.2, 0.5), color=(0.22, 0.23, 0.26), shadow=False),
    ),
    sky=(0.36, 0.38, 0.42),
    ground=(0.22, 0.20, 0.18),
)
"""Both are filmed as the tutorial advises: in the same soft light, by a camera that is sharp."""
GRID_FRAMES = 6
SYNTHETIC_CONSENT = Consent(kind="synthetic", note="drawn by the program")
DEFAULT_MINUTES = 3.0
"""Length of the training without a limit of the user's."""

SWAPPED, SIDE_BY_SIDE, CONTACT_SHEET, REPORT = (
    "swapped.mp4",
    "side-by-side.mp4",
    "contact-sheet.png",
    "report.html",
)
"""Names of the files that the demo leaves, besides summary.json."""


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """Size of the clips; smaller and shorter ones are for tests."""

    side_px: int = 384
    seconds: float = 8.0
    """Duration of each clip."""


@dataclass(frozen=True, kw_only=True)
class DemoSummary:
    """Scores of the demo's swap, and its files.

    PSNR (dB) and SSIM are computed inside the face, against the true swap.
    """

    folder: Path
    psnr_swap: float
    psnr_unswapped: float
    """Of the input itself."""
    psnr_mean_face: float
    """Of the target's mean face, composited in the same way as a swap."""
    psnr_ceiling: float
    """Of the true swap as a perfect network's output, composited in the same way: the most that a
    network of this size can reach."""
    ssim_swap: float
    ssim_unswapped: float
    ssim_mean_face: float
    ssim_ceiling: float
    images_seen: int
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by step."""

    @property
    def files(self) -> dict[str, str]:
        """Paths of the files for the user, by description."""
        return {
            "swapped": str(self.folder / SWAPPED),
            "side by side": str(self.folder / SIDE_BY_SIDE),
            "contact sheet": str(self.folder / CONTACT_SHEET),
            "report": str(self.folder / REPORT),
        }

    def rows(self) -> list[list[str]]:
        """Return the rows of the final table: what was compared, PSNR, SSIM."""
        return [
            ["swapped", f"{self.psnr_swap:.1f}", f"{self.ssim_swap:.3f}"],
            ["unswapped input", f"{self.psnr_unswapped:.1f}", f"{self.ssim_unswapped:.3f}"],
            [
                f"{TARGET}'s mean face, pasted",
                f"{self.psnr_mean_face:.1f}",
                f"{self.ssim_mean_face:.3f}",
            ],
            ["a perfect network", f"{self.psnr_ceiling:.1f}", f"{self.ssim_ceiling:.3f}"],
        ]

    def to_dict(self) -> dict[str, object]:
        """Return the content of `summary.json`."""
        return {
            "psnr_swap": round(self.psnr_swap, 3),
            "psnr_unswapped": round(self.psnr_unswapped, 3),
            "psnr_mean_face": round(self.psnr_mean_face, 3),
            "psnr_ceiling": round(self.psnr_ceiling, 3),
            "ssim_swap": round(self.ssim_swap, 4),
            "ssim_unswapped": round(self.ssim_unswapped, 4),
            "ssim_mean_face": round(self.ssim_mean_face, 4),
            "ssim_ceiling": round(self.ssim_ceiling, 4),
            "images_seen": self.images_seen,
            "seconds": {name: round(value, 1) for name, value in self.seconds.items()},
            "files": self.files,
        }

    @classmethod
    def load(cls, folder: Path) -> "DemoSummary | None":
        """Read a folder's `summary.json`; None unless it and all of its files are there."""
        try:
            table = read_document(folder / "summary.json")
            del table["files"]  # the folder may have been moved
            summary = cls(folder=folder, **table)
        except (OSError, DamagedFileError, KeyError, TypeError):
            return None
        return summary if all(Path(path).exists() for path in summary.files.values()) else None


def demo(
    folder: Path,
    *,
    stop_criterion: StopCriterion,
    device: str,
    seed: int,
    report: Reporter,
    size: DemoSize | None = None,
) -> DemoSummary:
    """Render two people, swap their faces with the three stages, and compare with the true swap.

    Args:
        folder: Receives all files; what is there and finished is not made again.
        stop_criterion: Limit of the training.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of the performances and of training.
        report: Receives progress.
        size: Size and duration of the clips.

    Raises:
        InputError: The folder cannot be written, or another process writes into it.
        FaceswapError: As the stages do.
    """
    find_hardware(device)  # a wrong device fails before a minute is spent on rendering
    size = size or DemoSize()
    with folder_lock(folder):
        timer, cast = _StepTimer(), heads.head_cast()
        space = Workspace.open(folder / "workspace")
        run = space.run_folder("demo")
        clips = {name: folder / f"{name}.mp4" for name in (DRIVING, TARGET)}
        performances = {
            name: heads.invent_performance(seed + 1 + index, seconds=size.seconds, place=PLACE)
            for index, name in enumerate(clips)
        }

        # Footage.
        with timer("render"):
            for name, path in clips.items():
                if not path.exists():
                    performance = performances[name]
                    render_head_clip(
                        path, cast[name], performance, side_px=size.side_px, report=report
                    )

        # The three stages.
        with timer("extract"):
            sets = {name: _extract_faces(path, space, name, report) for name, path in clips.items()}
        recipe = config.resolve("autoencoder", "light", [])
        with timer("train"):
            trained = train(
                TrainJob(
                    sets=list(sets.values()),
                    recipe=recipe,
                    run=run,
                    stop_criterion=stop_criterion,
                    device=device,
                    seed=seed,
                ),
                report=report,
            )
        finished = DemoSummary.load(folder)
        if finished is not None and finished.images_seen == trained.images_seen:
            report.note(f"the demo in {folder} is finished: nothing was made again")
            return finished
        with timer("convert"):
            _convert_clip(clips[DRIVING], run, folder / SWAPPED, device=device, report=report)

        # Comparison with the true swap.
        with timer("evaluate"):
            truth = render_true_head_swap(
                cast[DRIVING], cast[TARGET], performances[DRIVING], side_px=size.side_px
            )
            scores = _score_frames(
                folder,
                original=clips[DRIVING],
                truth=truth,
                sets=sets,
                oracle=Oracle(size_px=recipe.model.output_px, coverage=recipe.model.coverage),
                report=report,
            )
        for name in (SIDE_BY_SIDE, CONTACT_SHEET):
            copy_claim(folder / SWAPPED, folder / name)
        summary = DemoSummary(
            folder=folder,
            psnr_swap=scores["swap"].psnr,
            psnr_unswapped=scores["unswapped"].psnr,
            psnr_mean_face=scores["mean face"].psnr,
            psnr_ceiling=scores["a perfect network"].psnr,
            ssim_swap=scores["swap"].ssim,
            ssim_unswapped=scores["unswapped"].ssim,
            ssim_mean_face=scores["mean face"].ssim,
            ssim_ceiling=scores["a perfect network"].ssim,
            images_seen=trained.images_seen,
            seconds=timer.seconds,
        )
        write_text(folder / REPORT, _render_page(summary, scores))
        write_document(folder / "summary.json", summary.to_dict())
    return summary


def _extract_faces(clip: Path, space: Workspace, name: str, report: Reporter) -> FaceSet:
    """Extract a clip's faces, with the consent of a synthetic person."""
    extract(
        clip,
        folder=space.set_folder(name),
        settings=ExtractSettings(),
        report=report,
        extra_sections={CONSENT_SECTION: SYNTHETIC_CONSENT.to_dict()},
    )
    return FaceSet.from_folder(space.require_set(name))


def _convert_clip(
    clip: Path, run: RunFolder, output: Path, *, device: str, report: Reporter
) -> None:
    convert(clip, weights=run.trained, to=TARGET, output=output, device=device, report=report)


class _StepTimer:
    """Wall time by step, seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


# --- evaluation ---------------------------------------------------------------------------------


def _score_frames(
    folder: Path,
    *,
    original: Path,
    truth: Iterator[TrueFrame],
    sets: Mapping[str, FaceSet],
    oracle: Oracle,
    report: Reporter,
) -> dict[str, ReconstructionScores]:
    """Score every frame against the true swap; write the side-by-side video and the image grid.

    Returns:
        Scores of `swap`, `unswapped`, and (in frames with a face) those of the baselines.
    """
    records = {record.frame: record for record in sets[DRIVING].records}
    grid_frames = {round(part * max(records)) for part in np.linspace(0.05, 0.95, GRID_FRAMES)}
    baselines: dict[str, Baseline] = {
        "mean face": MeanFaceBaseline.from_faces(sets[TARGET]),
        "a perfect network": oracle,
    }
    scores = {name: ReconstructionScores() for name in ("swap", "unswapped", *baselines)}
    columns: list[list[Image]] = []
    report.start_task("comparing with the true swap", total=len(records), unit="frames")

    info = probe(original)
    video = VideoWriter(
        folder / SIDE_BY_SIDE,
        size=(3 * info.size[0], info.size[1]),
        rate=info.average_rate,
        copy_from=original,
    )
    with video:
        frames = zip(read_frames(original), read_frames(folder / SWAPPED), truth, strict=True)
        for before, after, true in frames:
            images = {"swap": after.image, "unswapped": before.image}
            if before.index in records:
                record = records[before.index]
                for name, baseline in baselines.items():
                    images[name] = baseline(before.image, record, true.image)
            for name, image in images.items():
                scores[name].add(image, true.image, true.face_mask)

            tiles = [before.image, after.image, true.image]
            video.write(np.hstack(tiles), before.time)
            if before.index in grid_frames:
                columns.append(tiles)
            report.update(before.index + 1)
    rows = list(zip(*columns, strict=True))
    grid = image_io.make_grid(rows, side=256, labels=["original", "swapped", "true swap"])
    image_io.write_png(folder / CONTACT_SHEET, grid)
    return scores


def _render_page(summary: DemoSummary, scores: Mapping[str, ReconstructionScores]) -> str:
    """Return the demo's page."""
    curves = {
        name: [(frame, psnr_from_mse(error)) for frame, error in enumerate(one.errors)]
        for name, one in scores.items()
    }
    return html_page.build_page(
        "faceswap demo",
        f"{TARGET}'s face on {DRIVING}'s performance, both synthetic, so the true swap is known",
        [
            html_page.table(
                ["against the true swap, inside the face", "PSNR, dB", "SSIM"],
                [[name, *map(float, numbers)] for name, *numbers in summary.rows()],
            ),
            before_after_player(
                (summary.folder / SIDE_BY_SIDE).read_bytes(),
                panels=["original", "swapped", "true swap"],
                frames_per_second=float(probe(summary.folder / SIDE_BY_SIDE).average_rate),
                caption="original, swapped, and the true swap: move the line",
            ),
            html_page.png_figure(
                summary.folder / CONTACT_SHEET, "original, swapped, and the true swap"
            ),
            html_page.heading("Frame by frame"),
            line_chart(curves, x_label="frame", y_label="PSNR, dB"),
            html_page.heading("Time"),
            html_page.table(["step", "seconds"], [[k, v] for k, v in summary.seconds.items()]),
            html_page.paragraph(f"{summary.images_seen:,} images were seen in training."),
        ],
    )
