"""CycleGAN and its progressive variant against the autoencoder and the true swap, at equal time.

    python tests/benchmarks/study_cyclegan.py [--folder DIR] [--only PART ...]

About an hour of processor time on one thread in all. Finished rows are not run again, so the
command may be interrupted and repeated, and parts may run side by side. It writes a table and a
grid for each part into the folder; `docs/research/cyclegan.md` is written by hand around them.

Besides the scores of `study.py`: the swap metrics of `faceswap train` (pose, expression, identity);
grid artifacts in the spectrum; and the norms of the gradients at the outermost layers, early and
late.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import study
from torch import Tensor

from faceswap_cli.core import config, image_io
from faceswap_cli.core.fileio import write_text
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.faces.embedding import compute_centroid
from faceswap_cli.training.swap_metrics import (
    FaceAnalyzer,
    FacePair,
    SwapMetrics,
    compute_swap_metrics,
)
from faceswap_models.backends.cyclegan import CycleGAN
from faceswap_models.base import SwapModel
from faceswap_models.gan import Generator, PatchDiscriminator

MAIN, PAPER, LIGHT = 3.0, 2.0, 1.5
"""Processor minutes of a row: of the networks side by side, of changes of the paper's, of the
default's."""

SIDE = "model.size_px=64"
NARROW = (
    SIDE,
    "model.generator_channels=16,32,64,128",
    "model.discriminator_channels=16,32,64,128",
    # The plateau schedule validates once an epoch: 200 crops of each identity.
    "train.checkpoint_interval_images=400",
)
"""The paper's layers and losses at a quarter of their channels, and four stages: what processor
minutes can train, and the most layers that 64 px allow."""
STAGES = ("train.growth_stage_images=800", "train.growth_fade_images=400")
"""Fully grown after 3,600 images: about half of what MAIN minutes have."""
SHORTER = ("train.growth_stage_images=240", "train.growth_fade_images=160")
"""A third of the default's stages, which take half of the images that MAIN minutes have."""
NO_R1 = "train.r1_weight=0"
SEEDS = (0, 1)
"""Seeds of the rows that decide."""
END_FRACTION = 0.2
"""Fraction of a run at either end over which gradient norms are averaged."""
GRID_PERIODS = (2, 4)
"""Periods of the grids that upsampling layers may leave, px."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """Scores besides those against the true swap."""

    swap_metrics: SwapMetrics
    grid_db: float
    """Excess of the grid frequencies over their neighbors, above the truth's, dB."""
    gradients: dict[str, tuple[float, float]]
    """Mean gradient norm of the outermost layer, early and late, by network."""


def make_row(
    name: str, backend: str, preset: str, *changes: str, minutes: float = MAIN, seed: int = 0
) -> study.Row:
    """Return a row: a preset with some settings changed."""
    recipe = config.resolve(backend, preset, changes)
    return study.Row(name=name, recipe=recipe, cpu_minutes=minutes, seed=seed)


def make_parts() -> dict[str, list[study.Row]]:
    """Return the whole study by the names of its parts, most important first."""
    paper_row, light_row = partial(make_row, minutes=PAPER), partial(make_row, minutes=LIGHT)
    paper = ("cyclegan", "paper", *NARROW)
    return {
        "networks": [
            make_row("autoencoder, light, 64 px", "autoencoder", "light", SIDE),
            *(make_row("cyclegan, light", "cyclegan", "light", seed=seed) for seed in SEEDS),
            *(make_row("progressive, light", "progressive", "light", seed=seed) for seed in SEEDS),
            make_row("cyclegan, light, no R1", "cyclegan", "light", NO_R1),
            make_row("progressive, light, no R1", "progressive", "light", NO_R1),
            make_row("the same, shorter stages", "progressive", "light", NO_R1, *SHORTER),
            make_row("cyclegan, paper, narrow", *paper),
            make_row("progressive, paper, narrow", "progressive", "paper", *NARROW, *STAGES),
        ],
        "paper": [
            paper_row("paper, narrow (d x2)", *paper),
            paper_row("no identity loss", *paper, "train.identity_weight=0"),
            paper_row("d learning rate x1", *paper, "train.d_learning_rate=2e-4"),
            paper_row("d learning rate x4", *paper, "train.d_learning_rate=8e-4"),
            paper_row("ReLU, not LeakyReLU", *paper, "model.discriminator_slope=0"),
            paper_row("no plateau schedule", *paper, "train.lr_schedule=constant"),
        ],
        "light": [
            light_row("light", "cyclegan", "light"),
            *(
                light_row(name, "cyclegan", "light", change)
                for name, change in (
                    ("no identity loss", "train.identity_weight=0"),
                    ("no pairing by pose", "train.pose_pairing_prob=0"),
                    ("no structural term", "train.structure_weight=0"),
                    ("no differentiable augmentation", "train.diffaug_strength=0"),
                    ("no image pool", "model.image_pool_size=0"),
                    ("no skips", "model.skip_connections=false"),
                    ("transposed convolution", "model.resize_convolution=false"),
                )
            ),
        ],
        "discriminators": [
            light_row("light", "cyclegan", "light"),
            *(
                light_row(name, "cyclegan", "light", *changes)
                for name, changes in (
                    ("no R1", (NO_R1,)),
                    ("no R1, spectral norm", (NO_R1, "model.discriminator_norm=spectral")),
                    ("R1, no norm", ("model.discriminator_norm=none",)),
                )
            ),
        ],
    }


def main() -> None:
    """Run the rows without a result, and write tables and grids."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("study-cyclegan"))
    parser.add_argument("--only", nargs="*", choices=list(make_parts()), default=list(make_parts()))
    arguments = parser.parse_args()
    study.limit_threads()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    data = study.prepare_data(folder)
    study.write_table(folder / "baselines.md", study.baselines_table(data))
    for name in arguments.only:
        run_part(name, make_parts()[name], folder, data)


def run_part(name: str, rows: Sequence[study.Row], folder: Path, data: study.StudyData) -> None:
    """Run one part of the study; write its tables and its grid."""
    results = []
    for one in rows:
        norms: dict[str, list[float]] = {}
        watched = replace(one, prepare=partial(watch_gradients, norms=norms))
        results += study.run_study([watched], folder, data)
        if norms:
            write_text(folder / f"gradients-{one.key}.json", json.dumps(early_late_means(norms)))
    with ExitStack() as stack:
        analyzer = FaceAnalyzer.load(stack)
        extras = [evaluate_extras(one, folder, data, analyzer) for one in rows]
    tables = [
        study.results_table(results),
        extras_table(rows, extras),
        study.eyes_mouth_table(rows, folder, data),
    ]
    study.write_table(folder / f"{name}.md", "\n".join(tables))
    first = [one for one in rows if one.seed == SEEDS[0]]
    grid = study.comparison_grid(first, folder, data)
    image_io.write_png(folder / f"{name}.png", grid)


# --- gradients --------------------------------------------------------------------------------


def watch_gradients(model: SwapModel, norms: dict[str, list[float]]) -> None:
    """Record the gradient norm of both networks' outermost layers at every step."""
    if not isinstance(model, CycleGAN):
        return
    generator, discriminator = model.generators[0], model.discriminators[0]
    assert isinstance(generator, Generator)
    assert isinstance(discriminator, PatchDiscriminator)
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        weight = next(one for one in network.parameters() if one.ndim > 1)
        weight.register_hook(partial(record_norm, norms.setdefault(name, [])))


def record_norm(norms: list[float], gradient: Tensor) -> None:
    """Append the norm of one gradient."""
    norms.append(float(gradient.norm()))


def early_late_means(norms: dict[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Return the means of the first and of the last part of each network's norms."""
    return {
        name: (
            float(np.mean(values[: max(1, round(END_FRACTION * len(values)))])),
            float(np.mean(values[-max(1, round(END_FRACTION * len(values))) :])),
        )
        for name, values in norms.items()
        if values
    }


# --- extra scores -----------------------------------------------------------------------------


def evaluate_extras(
    one: study.Row, folder: Path, data: study.StudyData, analyzer: FaceAnalyzer
) -> Extras:
    """Score a row's stored swaps without the true ones."""
    swaps = list(np.load(study.swaps_path(folder, one)))
    path = folder / f"gradients-{one.key}.json"
    gradients = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return Extras(
        swap_metrics=measure_swap_metrics(swaps, data, analyzer),
        grid_db=measure_grid_artifacts(swaps, data),
        gradients=gradients,
    )


def measure_swap_metrics(
    swaps: Sequence[Image], data: study.StudyData, analyzer: FaceAnalyzer
) -> SwapMetrics:
    """Return the swap metrics, each swap pasted inside the true swap's mask."""
    pairs, first = [], 0
    readings = [[analyzer.analyze(crop) for crop in case.crops] for case in data.cases]
    centroids = {
        case.driving: compute_centroid(np.stack([one.embedding for one in originals if one]))
        for case, originals in zip(data.cases, readings, strict=True)
    }
    for case, originals in zip(data.cases, readings, strict=True):
        axis = centroids[case.target] - centroids[case.driving]
        for index, original in enumerate(originals):
            if original is None:
                continue
            weight = case.masks[index][..., None]
            mixed = weight * swaps[first + index] + (1 - weight) * case.crops[index]
            image = np.asarray(np.round(mixed), dtype=np.uint8)
            swapped = analyzer.analyze_near(image, original.face)
            pairs.append(FacePair(original=original, swapped=swapped, identity_axis=axis))
        first += len(case.crops)
    return compute_swap_metrics(pairs)


def measure_grid_artifacts(swaps: Sequence[Image], data: study.StudyData) -> float:
    """Return the swaps' grid excess above the truths', dB."""
    truths = [truth for case in data.cases for truth in case.truths]
    return grid_excess(power_spectrum(swaps)) - grid_excess(power_spectrum(truths))


def power_spectrum(images: Sequence[Image]) -> AnyArray:
    """Return the mean power spectrum of the networks' inputs at 64 px, grayscale."""
    side, corner = round(0.8 * study.EVAL_PX), round(0.1 * study.EVAL_PX)
    window = np.outer(np.hanning(64), np.hanning(64))
    power = np.zeros((64, 64))
    for image in images:
        square = image[corner : corner + side, corner : corner + side]
        gray = image_io.resize_square(np.ascontiguousarray(square), 64).mean(axis=2)
        power += np.abs(np.fft.fft2((gray - gray.mean()) * window)) ** 2
    return power / len(images)


def grid_excess(power: AnyArray) -> float:
    """Return the excess of grid frequencies over others of about the same length, dB."""
    steps = np.fft.fftfreq(64) * 64
    length = np.hypot(steps[:, None], steps[None, :])
    excess = []
    for period in GRID_PERIODS:
        at = 64 // period
        for y, x in ((at, 0), (0, at), (at, at)):
            ring = np.abs(length - np.hypot(y, x)) < 1.5
            excess.append(10 * np.log10(power[y, x] / np.median(power[ring])))
    return float(np.mean(excess))


def extras_table(rows: Sequence[study.Row], extras: Sequence[Extras]) -> str:
    """Return the extras as a Markdown table."""
    lines = [
        "| | faces found | pose, degrees | expression | identity | grid, dB "
        "| generator's gradient | discriminator's |",
        "| --- | " + "--- | " * 7,
    ]
    for one, extra in zip(rows, extras, strict=True):
        metrics = extra.swap_metrics
        identity = ""
        if metrics.identity_shift is not None:
            identity = f"{metrics.identity_baseline:+.2f} to {metrics.identity_shift:+.2f}"
        gradients = [
            f"{ends[0]:.2g} to {ends[1]:.2g}" if ends else ""
            for ends in (extra.gradients.get(name) for name in ("generator", "discriminator"))
        ]
        lines.append(
            f"| {row_label(one)} | {metrics.detection_rate:.0%} "
            f"| {format_value(metrics.pose_error_deg, 1)} "
            f"| {format_value(metrics.expression_error, 3)} | {identity} | {extra.grid_db:+.1f} "
            f"| {gradients[0]} | {gradients[1]} |"
        )
    return "\n".join(lines) + "\n"


def row_label(one: study.Row) -> str:
    """Return a row's label in the table of extra scores: each seed has its own line."""
    return one.name if one.seed == SEEDS[0] else f"{one.name}, again"


def format_value(value: float | None, digits: int) -> str:
    """Return a number for a table; empty for None."""
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
