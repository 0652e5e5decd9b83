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

from faceswap_cli import config, pictures
from faceswap_cli.arrays import AnyArray, Image
from faceswap_cli.files import write_text
from faceswap_cli.learning.kept import Eyes, Kept, Pair, Reading, compared
from faceswap_models.adversarial import Critic, Generator
from faceswap_models.backends.cyclegan import CycleGAN
from faceswap_models.base import SwapModel

MAIN, PAPER, LIGHT = 3.0, 2.0, 1.5
"""Processor minutes of a row: of the networks side by side, of changes of the paper's, of the
default's."""

SIDE = "model.size_px=64"
NARROW = (
    SIDE,
    "model.generator_widths=16,32,64,128",
    "model.discriminator_widths=16,32,64,128",
    "train.save_images=400",  # the plateau schedule hears a score an epoch: 200 crops of each
)
"""The paper's layers and losses at a quarter of their width, and four stages: what processor
minutes can train, and the most layers that 64 px take."""
STAGES = ("train.stage_images=800", "train.fade_images=400")
"""Grown up after 3,600 images: about half of what MAIN minutes have."""
SHORTER = ("train.stage_images=240", "train.fade_images=160")
"""A third of the default's stages, which take half of the images that MAIN minutes have."""
NO_R1 = "train.r1_weight=0"
SEEDS = (0, 1)
"""Of the rows that decide."""
FADED = 0.2
"""Part of a run at either end over which gradients are averaged."""
GRID_PERIODS = (2, 4)
"""Periods in px of the grids that layers which double may leave."""


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What is judged besides closeness to the true swap."""

    kept: Kept
    grid_db: float
    """How far a grid's frequencies stand out of their neighbours, above the truth's, dB."""
    gradients: dict[str, tuple[float, float]]
    """Mean norm of the gradient of the outermost layer, early and late, by player."""


def row(
    name: str, backend: str, preset: str, *changes: str, minutes: float = MAIN, seed: int = 0
) -> study.Row:
    """Return a row: a preset with some settings changed."""
    recipe = config.resolve(backend, preset, changes)
    return study.Row(name=name, recipe=recipe, cpu_minutes=minutes, seed=seed)


def parts() -> dict[str, list[study.Row]]:
    """Return the whole study by the names of its parts, most important first."""
    of_paper, of_light = partial(row, minutes=PAPER), partial(row, minutes=LIGHT)
    paper = ("cyclegan", "paper", *NARROW)
    return {
        "networks": [
            row("autoencoder, light, 64 px", "autoencoder", "light", SIDE),
            *(row("cyclegan, light", "cyclegan", "light", seed=seed) for seed in SEEDS),
            *(row("progressive, light", "progressive", "light", seed=seed) for seed in SEEDS),
            row("cyclegan, light, no R1", "cyclegan", "light", NO_R1),
            row("progressive, light, no R1", "progressive", "light", NO_R1),
            row("the same, shorter stages", "progressive", "light", NO_R1, *SHORTER),
            row("cyclegan, paper, narrow", *paper),
            row("progressive, paper, narrow", "progressive", "paper", *NARROW, *STAGES),
        ],
        "paper": [
            of_paper("paper, narrow (d x2)", *paper),
            of_paper("no identity loss", *paper, "train.identity_weight=0"),
            of_paper("d learning rate x1", *paper, "train.d_learning_rate=2e-4"),
            of_paper("d learning rate x4", *paper, "train.d_learning_rate=8e-4"),
            of_paper("ReLU, not LeakyReLU", *paper, "model.discriminator_slope=0"),
            of_paper("no plateau schedule", *paper, "train.schedule=constant"),
        ],
        "light": [
            of_light("light", "cyclegan", "light"),
            *(
                of_light(name, "cyclegan", "light", change)
                for name, change in (
                    ("no identity loss", "train.identity_weight=0"),
                    ("no pairing by pose", "train.pose_match=0"),
                    ("no structural term", "train.structure_weight=0"),
                    ("no changes of what critics see", "train.d_augment=0"),
                    ("no history", "model.history=0"),
                    ("no skips", "model.skips=false"),
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
    parser.add_argument("--only", nargs="*", choices=list(parts()), default=list(parts()))
    arguments = parser.parse_args()
    study.settle()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    material = study.draw_material(folder)
    study.write_table(folder / "anchors.md", study.anchors_table(material))
    for name in arguments.only:
        run_part(name, parts()[name], folder, material)


def run_part(name: str, rows: Sequence[study.Row], folder: Path, material: study.Material) -> None:
    """Run one part of the study; leave its tables and its picture."""
    results = []
    for one in rows:
        norms: dict[str, list[float]] = {}
        watched = replace(one, prepare=partial(watch_gradients, norms=norms))
        results += study.run_study([watched], folder, material)
        if norms:
            write_text(folder / f"gradients-{one.key}.json", json.dumps(ends_of(norms)))
    with ExitStack() as held:
        eyes = Eyes.opened(held)
        extras = [judge_more(one, folder, material, eyes) for one in rows]
    text = study.table(results) + "\n" + extras_table(rows, extras)
    study.write_table(folder / f"{name}.md", text)
    first = [one for one in rows if one.seed == SEEDS[0]]
    sheet = study.sheet_of(first, folder, material)
    pictures.write_png(folder / f"{name}.png", sheet)


# --- gradients --------------------------------------------------------------------------------


def watch_gradients(model: SwapModel, norms: dict[str, list[float]]) -> None:
    """Note the gradient's norm of both players' outermost layers at every step."""
    if not isinstance(model, CycleGAN):
        return
    generator, critic = model.generators[0], model.discriminators[0]
    assert isinstance(generator, Generator)
    assert isinstance(critic, Critic)
    for player, network in (("generator", generator), ("discriminator", critic)):
        weight = next(one for one in network.parameters() if one.ndim > 1)
        weight.register_hook(partial(note, norms.setdefault(player, [])))


def note(norms: list[float], gradient: Tensor) -> None:
    """Note the norm of one gradient."""
    norms.append(float(gradient.norm()))


def ends_of(norms: dict[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Return the mean of the first and of the last part of each player's norms."""
    return {
        player: (
            float(np.mean(values[: max(1, round(FADED * len(values)))])),
            float(np.mean(values[-max(1, round(FADED * len(values))) :])),
        )
        for player, values in norms.items()
        if values
    }


# --- what swaps keep, and what they leave -----------------------------------------------------


def judge_more(one: study.Row, folder: Path, material: study.Material, eyes: Eyes) -> Extras:
    """Judge the swaps that a row has left, for what the true swap does not tell."""
    swaps = list(np.load(study.picture_of(folder, one)))
    path = folder / f"gradients-{one.key}.json"
    gradients = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return Extras(
        kept=kept_by(swaps, material, eyes), grid_db=grid_of(swaps, material), gradients=gradients
    )


def kept_by(swaps: Sequence[Image], material: study.Material, eyes: Eyes) -> Kept:
    """Return what swaps keep and move: each pasted inside the true swap's mask, as it lies."""
    pairs, first = [], 0
    read = [[eyes.find(crop) for crop in case.crops] for case in material.cases]
    centres = {
        case.driving: centre_of([one for one in found if one is not None])
        for case, found in zip(material.cases, read, strict=True)
    }
    for case, found in zip(material.cases, read, strict=True):
        for place, before in enumerate(found):
            if before is None:
                continue
            weight = case.masks[place][..., None]
            mixed = weight * swaps[first + place] + (1 - weight) * case.crops[place]
            picture = np.asarray(np.round(mixed), dtype=np.uint8)
            towards = centres[case.wanted] - centres[case.driving]
            after = eyes.follow(picture, before.face)
            pairs.append(Pair(before=before, after=after, towards=towards))
        first += len(case.crops)
    return compared(pairs)


def centre_of(readings: Sequence[Reading]) -> AnyArray:
    """Return a person's direction: that of the mean over the faces."""
    mean = np.mean([one.direction for one in readings], axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def grid_of(swaps: Sequence[Image], material: study.Material) -> float:
    """Return how much more of a grid swaps show than the truths, dB."""
    truths = [truth for case in material.cases for truth in case.truths]
    return grid_excess(spectrum(swaps)) - grid_excess(spectrum(truths))


def spectrum(images: Sequence[Image]) -> AnyArray:
    """Return the mean power spectrum of the networks' squares at 64 px, brightness alone."""
    side, corner = round(0.8 * study.JUDGED_PX), round(0.1 * study.JUDGED_PX)
    window = np.outer(np.hanning(64), np.hanning(64))
    power = np.zeros((64, 64))
    for image in images:
        square = image[corner : corner + side, corner : corner + side]
        grey = pictures.resize(np.ascontiguousarray(square), 64).mean(axis=2)
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
        kept = extra.kept
        moved = "" if kept.identity is None else f"{kept.unswapped:+.2f} to {kept.identity:+.2f}"
        gradients = [
            f"{ends[0]:.2g} to {ends[1]:.2g}" if ends else ""
            for ends in (extra.gradients.get(player) for player in ("generator", "discriminator"))
        ]
        lines.append(
            f"| {named(one)} | {kept.found:.0%} | {told(kept.pose_degrees, 1)} "
            f"| {told(kept.expression, 3)} | {moved} | {extra.grid_db:+.1f} "
            f"| {gradients[0]} | {gradients[1]} |"
        )
    return "\n".join(lines) + "\n"


def named(one: study.Row) -> str:
    """Return what the table of extras calls a row: each seed has a line of its own."""
    return one.name if one.seed == SEEDS[0] else f"{one.name}, again"


def told(value: float | None, digits: int) -> str:
    """Return a number as a table has it; nothing for none."""
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main()
