"""The CycleGAN and its progressive kin against the autoencoder and the true swap, at equal time.

    python tests/benchmarks/study_cyclegan.py [--folder DIR] [--only PART ...]

About an hour of processor time on one thread in all. Rows that are done are not
run again, so the command may be stopped and repeated, and parts may run beside each other. It
leaves a table and a picture for each part in the folder; `docs/studies/cyclegan.md` is written by
hand around them.

Besides what `study.py` judges: whether swaps keep pose and expression and move the identity, read
by the models that `faceswap train` reads them by; how much of a grid their spectrum shows; and how
large gradients are that reach the outermost layers, early and late.
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
from faceswap_cli.training.swap_metrics import (
    FaceAnalyzer,
    FacePair,
    FaceReading,
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
    "train.checkpoint_interval_images=400",  # the plateau schedule hears a score an epoch: 200 crops of each
)
"""The paper's layers and losses at a quarter of their width, and four stages: what processor
minutes can train, and the most layers that 64 px take."""
STAGES = ("train.growth_stage_images=800", "train.growth_fade_images=400")
"""Grown up after 3,600 images: about half of what MAIN minutes have."""
SHORTER = ("train.growth_stage_images=240", "train.growth_fade_images=160")
"""A third of the default's stages, which take half of the images that MAIN minutes have."""
NO_R1 = "train.r1_weight=0"
SEEDS = (0, 1)
"""Of the rows that decide."""
END_FRACTION = 0.2
"""Part of a run at either end over which gradients are averaged."""
GRID_PERIODS = (2, 4)
"""Periods in px of the grids that layers which double may leave."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is judged besides closeness to the true swap."""

    swap_metrics: SwapMetrics
    grid_db: float
    """How far a grid's frequencies stand out of their neighbours, above the truth's, dB."""
    gradients: dict[str, tuple[float, float]]
    """Mean norm of the gradient of the outermost layer, early and late, by player."""


def make_row(
    name: str, backend: str, preset: str, *changes: str, minutes: float = MAIN, seed: int = 0
) -> study.Row:
    """Return a row: a preset with some settings changed."""
    recipe = config.resolve(backend, preset, changes)
    return study.Row(name=name, recipe=recipe, cpu_minutes=minutes, seed=seed)


def make_parts() -> dict[str, list[study.Row]]:
    """Return the whole study by the names of its parts, most important first."""
    of_paper, of_light = partial(make_row, minutes=PAPER), partial(make_row, minutes=LIGHT)
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
            of_paper("paper, narrow (d x2)", *paper),
            of_paper("no identity loss", *paper, "train.identity_weight=0"),
            of_paper("d learning rate x1", *paper, "train.d_learning_rate=2e-4"),
            of_paper("d learning rate x4", *paper, "train.d_learning_rate=8e-4"),
            of_paper("ReLU, not LeakyReLU", *paper, "model.discriminator_slope=0"),
            of_paper("no plateau schedule", *paper, "train.lr_schedule=constant"),
        ],
        "light": [
            of_light("light", "cyclegan", "light"),
            *(
                of_light(name, "cyclegan", "light", change)
                for name, change in (
                    ("no identity loss", "train.identity_weight=0"),
                    ("no pairing by pose", "train.pose_pairing_prob=0"),
                    ("no structural term", "train.structure_weight=0"),
                    ("no changes of what critics see", "train.diffaug_strength=0"),
                    ("no history", "model.image_pool_size=0"),
                    ("no skips", "model.skip_connections=false"),
                    ("transposed convolution", "model.resize_convolution=false"),
                )
            ),
        ],
        "critics": [
            of_light("light", "cyclegan", "light"),
            *(
                of_light(name, "cyclegan", "light", *changes)
                for name, changes in (
                    ("no R1", (NO_R1,)),
                    ("no R1, spectral norm", (NO_R1, "model.discriminator_norm=spectral")),
                    ("R1, no norm", ("model.discriminator_norm=none",)),
                )
            ),
        ],
    }


def main() -> None:
    """Run what is missing, and write tables and pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("study-cyclegan"))
    parser.add_argument("--only", nargs="*", choices=list(make_parts()), default=list(make_parts()))
    arguments = parser.parse_args()
    study.limit_threads()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    material = study.prepare_data(folder)
    study.write_table(folder / "anchors.md", study.baselines_table(material))
    for name in arguments.only:
        run_part(name, make_parts()[name], folder, material)


def run_part(name: str, rows: Sequence[study.Row], folder: Path, data: study.StudyData) -> None:
    """Run one part of the study; leave its tables and its picture."""
    results = []
    for one in rows:
        norms: dict[str, list[float]] = {}
        watched = replace(one, prepare=partial(watch_gradients, norms=norms))
        results += study.run_study([watched], folder, data)
        if norms:
            write_text(folder / f"gradients-{one.key}.json", json.dumps(early_late_means(norms)))
    with ExitStack() as held:
        eyes = FaceAnalyzer.load(held)
        extras = [evaluate_extras(one, folder, data, eyes) for one in rows]
    text = study.results_table(results) + "\n" + extras_table(rows, extras)
    study.write_table(folder / f"{name}.md", text)
    first = [one for one in rows if one.seed == SEEDS[0]]
    sheet = study.comparison_grid(first, folder, data)
    image_io.write_png(folder / f"{name}.png", sheet)


# --- gradients --------------------------------------------------------------------------------


def watch_gradients(model: SwapModel, norms: dict[str, list[float]]) -> None:
    """Note the gradient's norm of both players' outermost layers at every step."""
    if not isinstance(model, CycleGAN):
        return
    generator, critic = model.generators[0], model.discriminators[0]
    assert isinstance(generator, Generator)
    assert isinstance(critic, PatchDiscriminator)
    for player, network in (("generator", generator), ("discriminator", critic)):
        weight = next(one for one in network.parameters() if one.ndim > 1)
        weight.register_hook(partial(record_norm, norms.setdefault(player, [])))


def record_norm(norms: list[float], gradient: Tensor) -> None:
    """Note the norm of one gradient."""
    norms.append(float(gradient.norm()))


def early_late_means(norms: dict[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Return the mean of the first and of the last part of each player's norms."""
    return {
        player: (
            float(np.mean(values[: max(1, round(END_FRACTION * len(values)))])),
            float(np.mean(values[-max(1, round(END_FRACTION * len(values))) :])),
        )
        for player, values in norms.items()
        if values
    }


# --- what swaps keep, and what they leave -----------------------------------------------------


def evaluate_extras(
    one: study.Row, folder: Path, data: study.StudyData, analyzer: FaceAnalyzer
) -> Extras:
    """Judge the swaps that a row has left, for what the true swap does not tell."""
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
    """Return what swaps keep and move: each pasted inside the true swap's mask, as it lies."""
    pairs, first = [], 0
    read = [[analyzer.analyze(crop) for crop in case.crops] for case in data.cases]
    centres = {
        case.driving: compute_centroid([one for one in found if one is not None])
        for case, found in zip(data.cases, read, strict=True)
    }
    for case, found in zip(data.cases, read, strict=True):
        for place, before in enumerate(found):
            if before is None:
                continue
            weight = case.masks[place][..., None]
            mixed = weight * swaps[first + place] + (1 - weight) * case.crops[place]
            picture = np.asarray(np.round(mixed), dtype=np.uint8)
            towards = centres[case.target] - centres[case.driving]
            after = analyzer.analyze_near(picture, before.face)
            pairs.append(FacePair(original=before, swapped=after, identity_axis=towards))
        first += len(case.crops)
    return compute_swap_metrics(pairs)


def compute_centroid(readings: Sequence[FaceReading]) -> AnyArray:
    """Return a person's direction: that of the mean over the faces."""
    mean = np.mean([one.embedding for one in readings], axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def measure_grid_artifacts(swaps: Sequence[Image], data: study.StudyData) -> float:
    """Return how much more of a grid swaps show than the truths, dB."""
    truths = [truth for case in data.cases for truth in case.truths]
    return grid_excess(power_spectrum(swaps)) - grid_excess(power_spectrum(truths))


def power_spectrum(images: Sequence[Image]) -> AnyArray:
    """Return the mean power spectrum of the networks' squares at 64 px, brightness alone."""
    side, corner = round(0.8 * study.EVAL_PX), round(0.1 * study.EVAL_PX)
    window = np.outer(np.hanning(64), np.hanning(64))
    power = np.zeros((64, 64))
    for image in images:
        square = image[corner : corner + side, corner : corner + side]
        grey = image_io.resize_square(np.ascontiguousarray(square), 64).mean(axis=2)
        power += np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    return power / len(images)


def grid_excess(power: AnyArray) -> float:
    """Return how far a grid's frequencies stand out of others of about their length, dB."""
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
        kept = extra.swap_metrics
        moved = "" if kept.identity is None else f"{kept.unswapped:+.2f} to {kept.identity:+.2f}"
        gradients = [
            f"{ends[0]:.2g} to {ends[1]:.2g}" if ends else ""
            for ends in (extra.gradients.get(player) for player in ("generator", "discriminator"))
        ]
        lines.append(
            f"| {row_label(one)} | {kept.found:.0%} | {format_value(kept.pose_degrees, 1)} "
            f"| {format_value(kept.expression, 3)} | {moved} | {extra.grid_db:+.1f} "
            f"| {gradients[0]} | {gradients[1]} |"
        )
    return "\n".join(lines) + "\n"


def row_label(one: study.Row) -> str:
    """Return what the table of extras calls a row: each seed has a line of its own."""
    return one.name if one.seed == SEEDS[0] else f"{one.name}, again"


def format_value(value: float | None, digits: int) -> str:
    """Return a number as a table has it; nothing for none."""
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
