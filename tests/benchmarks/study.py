"""Common parts of the studies: two synthetic people, equal processor time, the true swap as truth.

It renders the data, trains rows against the clock, scores and stores them. `study_autoencoder.py`
and `study_cyclegan.py` are the studies; each is a command of its own. Main entry points:
`prepare_data`, `run_study`.

Training data: 200 crops of each of two identities, from an eight-second performance, extracted by
`faceswap extract`. Test data: 25 frames each of another performance. A row trains both identities
and is scored in both directions: 50 test frames. Scored is the output of the network (under its
own mask, if it predicts one), pasted into the crop: inside the face against the exact true swap,
and around the face, where a swap should change nothing.

A row ends after some minutes or after some steps, and its schedule follows the same measure. The
clock is the process's own processor time on one thread, data loading included: other programs
on the machine cannot take from it, though they may slow its memory.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_model

from faceswap_cli import synthetic
from faceswap_cli.core import image_io
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.fileio import atomic_write, write_text
from faceswap_cli.core.hardware import find_hardware, keep_freed_memory
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import AnyArray, Image, Points
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.metrics.motion_fidelity import (
    estimate_gaze,
    eye_openness,
    mouth_openness,
)
from faceswap_cli.evaluation.metrics.reconstruction import mean_squared_error, psnr_from_mse, ssim
from faceswap_cli.evaluation.metrics.teeth import teeth_area, teeth_error
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.train import build_model
from faceswap_cli.training.dataset import (
    POOLED_IDENTITY,
    IdentityDataset,
    cached_side_px,
    crop_side_px,
    derive_seed,
    detail_side_px,
    evenly_spaced,
    load_identity,
    load_or_build_cache,
    merge_sets,
)
from faceswap_cli.training.loader import FaceLoader, make_loader
from faceswap_cli.training.pretrained import load_perceptual_weights
from faceswap_cli.training.schedule import PlateauState, step_plateaus, warmup_factor
from faceswap_cli.training.state import TrainState
from faceswap_cli.training.trainer import Trainer
from faceswap_cli.training.validation import validate
from faceswap_cli.video.writer import VideoWriter
from faceswap_models.base import SwapModel, TrainProgress
from faceswap_models.growing import GrowingModel
from faceswap_models.tensors import to_images, to_masks

IDENTITIES = ("ada", "bo")
"""Two who differ in everything, complexion included, as in the light preset's study."""
CLIP_PX = 384
SECONDS = 8.0
"""Duration of each training performance; at 25 frames a second, 200 crops."""
UNSEEN_SECONDS = 8.0
UNSEEN_FRAMES = 25
"""Test frames of each identity, evenly spaced over its test performance."""
EVAL_PX = 160
"""Side of the crops that are compared; the networks' inputs (0.625, 0.8 of it) are whole pixels."""
SURROUNDINGS_PART = 0.625
"""Fraction of the crop's side within which the face's surroundings are compared: the part that
every network sees."""
CURVE_STEPS = 1_000
"""Steps between two points of the learning curve of a row that is limited by steps."""
EDGE_KERNEL = np.ones((9, 9), np.uint8)
"""Dilation of the face's mask where its surroundings are compared."""
SHOWN_PER_DIRECTION = 3
"""Test frames of each direction on a part's grid."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One direction of the test: a performance and the identity to swap in."""

    driving: str
    target: str
    faces: FaceSet
    """The crops to swap."""
    crops: Sequence[Image]
    """The same, EVAL_PX."""
    truths: Sequence[Image]
    """The true swaps in the same crops."""
    masks: Sequence[AnyArray]
    """float32: 1 where the true swap shows the target's face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyData:
    """Data that all rows of a study share."""

    sets: Sequence[FaceSet]
    """Training data, one set for each identity."""
    cases: Sequence[Case]
    """Test data."""
    cache: Path


@dataclass(frozen=True, kw_only=True)
class SwapScores:
    """Scores of swaps against the true ones, means over all test frames."""

    psnr: float
    """dB, inside the face."""
    ssim: float
    """Inside the face, -1 to 1."""
    psnr_color_matched: float
    """dB, after matching each channel's mean and deviation to the truth: shape without color."""
    background_change: float
    """Mean absolute change around the face, levels; 0 is ideal."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One run of a study."""

    name: str
    """Label in the tables."""
    recipe: Recipe
    cpu_minutes: float = 0.0
    """Limit of the training; the schedule follows it."""
    steps: int = 0
    """The same in steps, instead of minutes."""
    seed: int = 0
    faces: int = 0
    """Number of training crops of each identity, evenly spaced; 0 is all."""
    prepare: Callable[[SwapModel], None] | None = None
    """Changes the fresh networks, e.g. loads weights into them."""
    prepare_label: str = ""
    """Description of `prepare`, a part of `key`."""

    @property
    def key(self) -> str:
        """16 hex digits that change with everything that the row's result depends on.

        Settings at their defaults are left out: a new setting does not change old keys.
        """
        sections = (self.recipe.model, self.recipe.train)
        changed = [
            {name: one for name, one in vars(part).items() if one != getattr(type(part), name)}
            for part in sections
        ]
        names = [self.recipe.backend, self.prepare_label]
        content = [names, changed, self.cpu_minutes, self.seed, self.faces]
        content += [self.steps] if self.steps else []
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of one row."""

    key: str
    name: str
    seed: int
    scores: SwapScores
    cpu_minutes: float = 0.0
    images: int = 0
    steps: int = 0
    parameters: int = 0
    history: Sequence[tuple[float, float, float]] = field(default=())
    """Scores during training: (processor minutes or steps, as the row's limit; SSIM; PSNR)."""

    @classmethod
    def from_dict(cls, table: Mapping[str, object]) -> "Result":
        """Read a line of the results file back."""
        scores = table["scores"]
        assert isinstance(scores, dict)
        return cls(**{**table, "scores": SwapScores(**scores)})  # type: ignore[arg-type]


def run_study(rows: Sequence[Row], folder: Path, data: StudyData) -> list[Result]:
    """Train and score every row that has no result yet; return all results in the rows' order.

    A study that was interrupted resumes with the row it was interrupted in.
    """
    results = {one.key: one for one in read_results(folder)}
    for row in rows:
        if row.key not in results:
            results[row.key] = run_row(row, data, swaps_file=swaps_path(folder, row))
            with (folder / "results.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(results[row.key])) + "\n")
        print(format_result(results[row.key]), flush=True)
    # The key does not hold the name: the row may have had another one when it ran.
    return [replace(results[row.key], name=row.name) for row in rows]


def run_row(row: Row, data: StudyData, *, swaps_file: Path | None = None) -> Result:
    """Train one row up to its limit; score it at intervals and at the end."""
    training = TrainingRun.create(row, load_identities(row, data))
    clock, trainer, loader = training.clock, training.trainer, training.loader
    intervals = max(4, round(row.cpu_minutes / 2), row.steps // CURVE_STEPS)
    marks = [mark / intervals for mark in range(1, intervals)]
    history: list[tuple[float, float, float]] = []
    for _ in training.steps():
        if marks and training.fraction_done() >= marks[0]:
            marks.pop(0)
            minutes = clock.minutes()
            with clock.paused(), trainer.ema_weights() as averaged:
                scores = evaluate(averaged, loader, data)[0]
            reached = training.steps_done() if row.steps else round(minutes, 3)
            history.append((reached, round(scores.ssim, 4), round(scores.psnr, 2)))
            print(f"{row.name}, after {minutes:.1f} min: {scores.ssim:.3f}, {scores.psnr:.1f} dB")

    minutes = clock.minutes()
    with clock.paused(), trainer.ema_weights() as averaged:
        scores, swaps = evaluate(averaged, loader, data)
    if swaps_file is not None:
        np.save(swaps_file, np.stack(swaps))
    images = training.state.images_seen
    return Result(
        key=row.key,
        name=row.name,
        seed=row.seed,
        scores=scores,
        cpu_minutes=round(minutes, 3),
        images=images,
        steps=training.steps_done(),
        parameters=sum(one.numel() for one in trainer.model.parameters()),
        history=history,
    )


def pretrain(row: Row, folder: Path, names: Sequence[str]) -> Path:
    """Train one decoder on several identities as a row says; return the weights' file.

    Weights that are there are not trained again.
    """
    path = folder / f"everybody-{'-'.join(names)}-{row.key}.safetensors"
    if path.exists():
        return path
    space = Workspace.open(folder / "workspace")
    for index, name in enumerate(names):
        video = folder / f"{name}.mp4"
        if not video.exists():
            render_clip(video, synthetic.CAST[name], synthetic.animate(21 + index, seconds=SECONDS))
        extract(video, folder=space.set_folder(name), settings=ExtractSettings(), report=Reporter())
    faces = merge_sets([_load_set(space, name) for name in names], name=POOLED_IDENTITY)
    side = _crop_side(faces, row.recipe)
    dataset = load_identity(faces, cache=folder / "cache" / str(side), side_px=side)
    training = TrainingRun.create(row, [dataset])
    for _ in training.steps():
        pass
    with training.trainer.ema_weights() as averaged, atomic_write(path) as temporary:
        save_model(averaged, str(temporary))
    return path


@dataclass(kw_only=True, eq=False)
class TrainingRun:
    """Training of one row up to its limit."""

    trainer: Trainer
    loader: FaceLoader
    clock: "CpuClock"
    seed: int
    max_images: int
    """Limit in images; 0 leaves it to the clock."""
    state: TrainState = field(default_factory=TrainState)

    @classmethod
    def create(cls, row: Row, identities: Sequence[IdentityDataset]) -> "TrainingRun":
        """Build a row's networks for some identities; the clock starts at the end."""
        hardware = find_hardware("cpu")
        model = build_model(row.recipe, [one.name for one in identities], hardware, seed=row.seed)
        if row.prepare is not None:
            row.prepare(model)
        load_perceptual_weights(model)
        loader = make_loader(
            identities,
            model=row.recipe.model,
            train=row.recipe.train,
            seed=row.seed,
            device=hardware.device,
        )
        return cls(
            trainer=Trainer(model, row.recipe.train, hardware),
            loader=loader,
            clock=CpuClock(row.cpu_minutes),
            seed=row.seed,
            max_images=row.steps * loader.images_per_step,
        )

    def fraction_done(self) -> float:
        """Return the fraction of the training that is done, 0 to 1."""
        if self.max_images:
            return min(1.0, self.state.images_seen / self.max_images)
        return self.clock.fraction_done()

    def steps_done(self) -> int:
        """Return the number of steps so far."""
        return self.state.images_seen // self.loader.images_per_step

    def steps(self) -> Iterator[TrainState]:
        """Train up to the limit; yield the state after each step."""
        while self.fraction_done() < 1:
            self._step()
            if self.trainer.train.lr_schedule == "plateau":
                self._step_plateaus_if_due()
            yield self.state

    def _step(self) -> None:
        """Take one step, with the randomness of `faceswap train`'s loop."""
        trainer, seen = self.trainer, self.state.images_seen
        progress = TrainProgress(images_seen=seen, max_images=None)

        model = trainer.model
        if isinstance(model, GrowingModel):
            growth_step = model.growth_due(progress)
            if growth_step != model.growth_step:
                torch.manual_seed(derive_seed(self.seed, seen, "growth"))
                trainer.grow(growth_step, progress)

        lr_scale = trainer.schedule(self.fraction_done())
        lr_scale *= warmup_factor(seen, trainer.train.warmup_images)
        plateaus = self.state.plateaus
        batch = self.loader.batch(seen)
        torch.manual_seed(derive_seed(self.seed, seen, "step of process 0"))
        trainer.step(
            batch,
            progress,
            lr_scale=lr_scale,
            images=self.loader.images_per_step,
            group_lr_scales={
                group: plateaus.get(group, PlateauState()).lr_scale
                for group in trainer.parameter_groups
            },
        )
        self.state = replace(self.state, images_seen=seen + self.loader.images_per_step)

    def _step_plateaus_if_due(self) -> None:
        """Validate where training would write a checkpoint, for the plateau schedule."""
        trainer, seen = self.trainer, self.state.images_seen
        interval = trainer.train.checkpoint_interval_images
        if (seen - self.loader.images_per_step) // interval == seen // interval:
            return
        with trainer.ema_weights() as averaged:
            result = validate(averaged, self.loader)
        errors = {
            group: result.losses.get(group, result.error) for group in trainer.parameter_groups
        }
        self.state = replace(self.state, plateaus=step_plateaus(self.state.plateaus, errors))


class CpuClock:
    """Processor time of this process, up to a number of minutes; can be paused."""

    def __init__(self, target_minutes: float) -> None:
        self.target_minutes = target_minutes
        self.spent_s = 0.0
        self.started_s = time.process_time()

    def minutes(self) -> float:
        """Return the minutes counted so far."""
        return (self.spent_s + time.process_time() - self.started_s) / 60

    def fraction_done(self) -> float:
        """Return the fraction of the target that has passed, 0 to 1."""
        return min(1.0, self.minutes() / self.target_minutes)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside this context."""
        self.spent_s += time.process_time() - self.started_s
        try:
            yield
        finally:
            self.started_s = time.process_time()


def load_identities(row: Row, data: StudyData) -> list[IdentityDataset]:
    """Decode a row's training crops."""
    datasets = []
    for faces in data.sets:
        if row.faces:
            indices = evenly_spaced(np.arange(len(faces)), row.faces)
            subset = [faces.records[index] for index in indices]
            faces = replace(faces, name=f"{faces.name}-{row.faces}", records=subset)
        side = _crop_side(faces, row.recipe)
        dataset = load_identity(
            faces,
            cache=data.cache / str(side),
            side_px=side,
            detail_side_px=detail_side_px(row.recipe.model, crop_side_px(faces)),
        )
        datasets.append(replace(dataset, name=faces.name.removesuffix(f"-{row.faces}")))
    return datasets


def evaluate(
    model: SwapModel, loader: FaceLoader, data: StudyData
) -> tuple[SwapScores, list[Image]]:
    """Swap every test frame and score it against the true swap; return the swaps as well."""
    swaps: list[list[Image]] = []
    for case in data.cases:
        side = cached_side_px(loader.model, crop_side_px(case.faces))
        pixels = load_or_build_cache(case.faces, cache=data.cache / str(side), side_px=side)
        indices = np.arange(len(pixels))
        dataset = IdentityDataset(
            name=case.faces.name, pixels=pixels, train_indices=indices, val_indices=indices
        )
        swaps.append([])
        for start in range(0, len(indices), 8):
            faces = loader.clean_batch(dataset, indices[start : start + 8]).target[0]
            output = model.swap_with_detail(faces, case.target)
            masks = [None] * len(faces) if output.mask is None else to_masks(output.mask)
            for offset, (image, mask) in enumerate(
                zip(to_images(output.image), masks, strict=True)
            ):
                crop = case.crops[start + offset]
                swaps[-1].append(paste_into(crop, image, mask, coverage=loader.model.coverage))
    return score_swaps(swaps, data), [image for case in swaps for image in case]


def paste_into(crop: Image, swap: Image, mask: AnyArray | None, *, coverage: float) -> Image:
    """Return the crop with its central part swapped, under the mask if there is one."""
    side = round(coverage * EVAL_PX / 2) * 2
    corner = (EVAL_PX - side) // 2
    square = (slice(corner, corner + side),) * 2
    resized = image_io.resize_square(swap, side).astype(np.float32)
    weight = np.ones((side, side, 1), np.float32)
    if mask is not None:
        weight[..., 0] = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    pasted = crop.copy()
    pasted[square] = np.round(weight * resized + (1 - weight) * crop[square]).clip(0, 255)
    return pasted


def score_swaps(swaps: Sequence[Sequence[Image]], data: StudyData) -> SwapScores:
    """Return the scores of swaps, given by case, against the true ones."""
    errors, matched_errors, ssims, changes = [], [], [], []
    central = _central_mask(SURROUNDINGS_PART)
    for case, images in zip(data.cases, swaps, strict=True):
        for image, crop, truth, mask in zip(
            images, case.crops, case.truths, case.masks, strict=True
        ):
            matched = match_color_stats(image, truth, mask)
            errors.append(mean_squared_error(image, truth, mask))
            matched_errors.append(mean_squared_error(matched, truth, mask))
            ssims.append(ssim(image, truth, mask))
            outside = (1 - cv2.dilate(mask, EDGE_KERNEL)) * central
            change = np.abs(image.astype(np.float32) - crop).mean(axis=2)
            changes.append(float((change * outside).sum() / outside.sum()))
    return SwapScores(
        psnr=psnr_from_mse(float(np.mean(errors))),
        ssim=float(np.mean(ssims)),
        psnr_color_matched=psnr_from_mse(float(np.mean(matched_errors))),
        background_change=float(np.mean(changes)),
    )


def match_color_stats(image: Image, truth: Image, mask: AnyArray) -> Image:
    """Return the image with the truth's mean and deviation of each channel inside the mask."""
    weight = mask[..., None] / mask.sum()
    pair = [one.astype(np.float32) for one in (image, truth)]
    means = [(one * weight).sum((0, 1)) for one in pair]
    spreads = [
        np.sqrt((((one - mean) ** 2) * weight).sum((0, 1)))
        for one, mean in zip(pair, means, strict=True)
    ]
    matched = (pair[0] - means[0]) * (spreads[1] / np.maximum(spreads[0], 1)) + means[1]
    return np.asarray(np.round(matched).clip(0, 255), dtype=np.uint8)


def score_baselines(data: StudyData) -> dict[str, SwapScores]:
    """Return the scores of the baselines: the input itself, and the target's mean face."""
    unswapped = [case.crops for case in data.cases]
    means = {faces.name: compute_mean_face(faces) for faces in data.sets}
    pasted = [
        [paste_into(crop, means[case.target], None, coverage=1.0) for crop in case.crops]
        for case in data.cases
    ]
    return {
        "unswapped input": score_swaps(unswapped, data),
        "the other's mean face": score_swaps(pasted, data),
    }


def compute_mean_face(faces: FaceSet) -> Image:
    """Return the mean of a set's crops, EVAL_PX."""
    crops = [
        image_io.resize_square(image_io.read_image(faces.path(one)), EVAL_PX)
        for one in faces.records
    ]
    return np.asarray(np.round(np.mean(crops, axis=0)), dtype=np.uint8)


# --- data -------------------------------------------------------------------------------------


def prepare_data(
    folder: Path, *, seed: int = 0, identities: tuple[str, str] = IDENTITIES
) -> StudyData:
    """Render and extract everything into `folder`; what is there is not made again."""
    space = Workspace.open(folder / "workspace")
    settings = ExtractSettings()
    sets, cases = [], []
    for index, name in enumerate(identities):
        person = synthetic.CAST[name]
        training = synthetic.animate(seed + 1 + index, seconds=SECONDS)
        test = synthetic.animate(seed + 11 + index, seconds=UNSEEN_SECONDS)
        step = len(test.scenes) // UNSEEN_FRAMES
        test = replace(test, scenes=test.scenes[::step][:UNSEEN_FRAMES])
        for clip, performance in ((name, training), (f"{name}-unseen", test)):
            path = folder / f"{clip}.mp4"
            if not path.exists():
                render_clip(path, person, performance)
            extract(path, folder=space.set_folder(clip), settings=settings, report=Reporter())
        sets.append(_load_set(space, name))
        target = identities[1 - index]
        cases.append(render_case(folder, _load_set(space, f"{name}-unseen"), test, name, target))
    return StudyData(sets=sets, cases=cases, cache=folder / "cache")


def render_clip(path: Path, person: synthetic.Person, performance: synthetic.Animation) -> None:
    """Render a performance into a video."""
    with VideoWriter(path, size=(CLIP_PX, CLIP_PX), rate=performance.rate) as video:
        for index, frame in enumerate(
            synthetic.render_frames(person, performance.scenes, size_px=CLIP_PX)
        ):
            video.write(frame.image, index / performance.rate)


def render_case(
    folder: Path, faces: FaceSet, performance: synthetic.Animation, driving: str, target: str
) -> Case:
    """Render the true swaps of a performance, cropped where its faces were detected."""
    truths, masks = _render_true_crops(
        folder / f"{driving}-as-{target}.npz", faces, performance, driving, target
    )
    crops = [
        image_io.resize_square(image_io.read_image(faces.path(one)), EVAL_PX)
        for one in faces.records
    ]
    return Case(
        driving=driving, target=target, faces=faces, crops=crops, truths=truths, masks=masks
    )


def _render_true_crops(
    path: Path, faces: FaceSet, performance: synthetic.Animation, driving: str, target: str
) -> tuple[Sequence[Image], Sequence[AnyArray]]:
    """Render the target's face on the driving head, or read the file of an earlier run."""
    if not path.exists():
        person = synthetic.CAST[target].on_head_of(synthetic.CAST[driving])
        frames = list(synthetic.render_frames(person, performance.scenes, size_px=CLIP_PX))
        truths, masks = [], []
        for record in faces.records:
            frame, frame_to_crop = frames[record.frame], record.alignment.frame_to_crop(EVAL_PX)
            size = (EVAL_PX, EVAL_PX)
            truths.append(record.alignment.crop(frame.image, EVAL_PX))
            masks.append(cv2.warpAffine(frame.face_mask, frame_to_crop, size))
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, truths=np.stack(truths), masks=np.stack(masks))
    arrays = np.load(path)
    return list(arrays["truths"]), list(arrays["masks"])


# --- results ----------------------------------------------------------------------------------


def read_results(folder: Path) -> list[Result]:
    """Read the results in a folder."""
    path = folder / "results.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Result.from_dict(json.loads(line)) for line in lines]


def swaps_path(folder: Path, row: Row) -> Path:
    """Return the file of a row's swaps."""
    return folder / f"swaps-{row.key}.npy"


def results_table(results: Iterable[Result]) -> str:
    """Return a Markdown table of results; runs with one name share a line."""
    lines = [
        "| | runs | CPU min | weights, M | steps | images | SSIM | PSNR | PSNR, colors matched "
        "| around |",
        "|" + " --- |" * 10,
    ]
    by_name: dict[str, list[Result]] = {}
    for one in results:
        by_name.setdefault(one.name, []).append(one)
    for name, runs in by_name.items():
        first = runs[0]
        scores = [one.scores for one in runs]
        ssims = [one.ssim for one in scores]
        deviation = f" ± {np.std(ssims):.3f}" if len(runs) > 1 else ""
        lines.append(
            f"| {name} | {len(runs)} | {first.cpu_minutes:.1f} | {first.parameters / 1e6:.1f} "
            f"| {np.mean([one.steps for one in runs]):,.0f} "
            f"| {np.mean([one.images for one in runs]):,.0f} "
            f"| {np.mean(ssims):.3f}{deviation} "
            f"| {np.mean([one.psnr for one in scores]):.1f} "
            f"| {np.mean([one.psnr_color_matched for one in scores]):.1f} "
            f"| {np.mean([one.background_change for one in scores]):.1f} |"
        )
    return "\n".join(lines) + "\n"


def learning_curve_table(
    results: Iterable[Result], points: Sequence[float], *, in_steps: bool = False
) -> str:
    """Return a Markdown table of each row's SSIM after about the given minutes, or steps."""
    lines = [
        f"| SSIM after, {'steps' if in_steps else 'minutes'} "
        f"| {' | '.join(f'{one:,g}' for one in points)} |",
        "|" + " --- |" * (1 + len(points)),
    ]
    for one in results:
        end = one.steps if in_steps else one.cpu_minutes
        history = [*one.history, (end, one.scores.ssim, one.scores.psnr)]
        cells = [
            "" if after > end + 0.5 else f"{_nearest(history, after)[1]:.3f}" for after in points
        ]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _nearest(
    history: Sequence[tuple[float, float, float]], point: float
) -> tuple[float, float, float]:
    return min(history, key=lambda entry: abs(entry[0] - point))


def baselines_table(data: StudyData) -> str:
    """Return the baselines' scores as a Markdown table."""
    lines = [
        "| baseline | SSIM | PSNR | PSNR, colors matched | around |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {one.ssim:.3f} | {one.psnr:.1f} | {one.psnr_color_matched:.1f} "
        f"| {one.background_change:.1f} |"
        for name, one in score_baselines(data).items()
    ]
    return "\n".join(lines) + "\n"


def eyes_mouth_table(rows: Sequence[Row], folder: Path, data: StudyData) -> str:
    """Return a Markdown table of the errors of eyes and mouth in the rows' stored swaps."""
    lines = [
        "| | faces found | eyes' openness, of width | gaze, degrees | mouth's openness, of width "
        "| teeth in one only, % |",
        "|" + " --- |" * 6,
    ]
    with LiteRTDetector() as detector:
        truths = [truth for case in data.cases for truth in case.truths]
        expected = [find_landmarks(detector, truth) for truth in truths]
        for row in rows:
            swaps = list(np.load(swaps_path(folder, row)))
            found = [find_landmarks(detector, swap) for swap in swaps]
            errors = eyes_mouth_errors(swaps, found, truths, expected)
            eyes, gaze, mouth, teeth = (float(np.nanmean(one)) for one in errors)
            share = f"{sum(one is not None for one in found)} of {len(found)}"
            lines.append(
                f"| {row.name} | {share} | {eyes:.3f} | {gaze:.2f} | {mouth:.3f} | {teeth:.1f} |"
            )
    return "\n".join(lines) + "\n"


def find_landmarks(detector: LiteRTDetector, crop: Image) -> Points | None:
    """Return the landmarks of a crop's largest face, if one is found."""
    faces = detector.detect(crop)
    return faces[0].landmarks if faces else None


def eyes_mouth_errors(
    swaps: Sequence[Image],
    found: Sequence[Points | None],
    truths: Sequence[Image],
    expected: Sequence[Points | None],
) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray]:
    """Return the errors of eyes' openness, gaze, mouth's openness and teeth, each (K,).

    Those of `faceswap evaluate`, against the true swap; no constant difference is subtracted, since
    it is the same person. Only frames with both faces count; NaN is no value.
    """
    pairs = [
        (image, landmarks, truth, other)
        for image, landmarks, truth, other in zip(swaps, found, truths, expected, strict=True)
        if landmarks is not None and other is not None
    ]
    if not pairs:
        nothing = np.array([np.nan])
        return nothing, nothing, nothing, nothing
    ours, theirs = (np.stack([pair[side] for pair in pairs]).astype(float) for side in (1, 3))
    eyes = np.abs(eye_openness(ours) - eye_openness(theirs))
    gaze = np.linalg.norm(estimate_gaze(ours) - estimate_gaze(theirs), axis=1)
    mouth = np.abs(mouth_openness(ours) - mouth_openness(theirs))
    areas = np.array(
        [[teeth_area(pair[0], pair[1]), teeth_area(pair[2], pair[3])] for pair in pairs]
    )
    return eyes, gaze, mouth, 100 * teeth_error(areas[:, 0], areas[:, 1])


def comparison_grid(rows: Sequence[Row], folder: Path, data: StudyData) -> Image:
    """Return a grid of test frames: the crops, each row's swaps, the true swaps."""
    columns: list[tuple[int, Image, Image]] = []
    first = 0
    for case in data.cases:
        columns += [
            (first + int(index), case.crops[index], case.truths[index])
            for index in evenly_spaced(np.arange(len(case.crops)), SHOWN_PER_DIRECTION)
        ]
        first += len(case.crops)
    tiles = [[crop for _, crop, _ in columns]]
    for row in rows:
        swaps = np.load(swaps_path(folder, row))
        tiles.append([swaps[index] for index, _, _ in columns])
    tiles.append([truth for _, _, truth in columns])
    return image_io.make_grid(
        tiles, side=128, labels=["input", *(row.name for row in rows), "true swap"]
    )


def write_table(path: Path, text: str) -> None:
    """Write a table, and print it."""
    write_text(path, text)
    print(text)


def format_result(result: Result) -> str:
    """Return a result as one line of progress."""
    one = result.scores
    return (
        f"{result.name} (seed {result.seed}): {result.cpu_minutes:.1f} min, "
        f"{result.images:,} images, SSIM {one.ssim:.3f}, {one.psnr:.1f} dB, "
        f"matched {one.psnr_color_matched:.1f} dB, around {one.background_change:.1f}"
    )


def limit_threads(threads: int = 1) -> None:
    """Limit this process's threads, and keep its freed memory; call this first."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    keep_freed_memory()


def _crop_side(faces: FaceSet, recipe: Recipe) -> int:
    return cached_side_px(recipe.model, crop_side_px(faces))


def _central_mask(part: float) -> AnyArray:
    """Return a mask of the crop's central square, float32."""
    side = round(part * EVAL_PX / 2) * 2
    corner = (EVAL_PX - side) // 2
    mask = np.zeros((EVAL_PX, EVAL_PX), np.float32)
    mask[corner : corner + side, corner : corner + side] = 1
    return mask


def _load_set(space: Workspace, name: str) -> FaceSet:
    folder = space.require_set(name)
    return FaceSet.load(name, folder=folder.root, records=folder.records)
