"""What studies of networks share: two drawn people, equal processor time, the true swap as judge.

Knows how to draw, train against the clock, score, resume and write down; refuses to know which
networks are compared. `study_autoencoder.py` beside it is one study; each is a command of its own.

Two people are drawn: 200 crops of each from an eight-second performance, found, aligned and masked
by `faceswap extract`, and 25 moments each of a performance that is never learnt from. A run learns
both people, so it is judged both ways: 50 unseen moments. Judged is what the network answers (under
its own mask, where it draws one), put into the crop it was shown: inside the face against the exact
true swap, and around the face, where a swap should change nothing of what was shown.

The clock is the process's own processor time on one thread, data included: other programs on the
machine cannot take from it, though they may slow its memory.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.metrics.reconstruction import mean_squared_error, psnr_from_mse, ssim
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.train import POOLED_IDENTITY, build_model
from faceswap_cli.training.dataset import (
    IdentityDataset,
    cached_side_px,
    crop_side_px,
    evenly_spaced,
    load_identity,
    load_or_build_cache,
    merge_sets,
)
from faceswap_cli.training.hardware import find_hardware, keep_freed_memory
from faceswap_cli.training.loader import FaceLoader, make_loader
from faceswap_cli.training.pretrained import load_perceptual_weights
from faceswap_cli.training.schedule import step_plateaus
from faceswap_cli.training.trainer import Trainer, TrainState, training_loop
from faceswap_cli.training.validation import validate
from faceswap_cli.video.writer import VideoWriter
from faceswap_models.base import SwapModel
from faceswap_models.tensors import to_images, to_masks

IDENTITIES = ("ada", "bo")
"""Who is drawn: two who differ in everything, complexion too, as in the light preset's study."""
CLIP_PX = 384
SECONDS = 8.0
"""Duration of each performance that is learnt from; at 25 frames a second, 200 crops."""
UNSEEN_SECONDS = 8.0
UNSEEN_MOMENTS = 25
"""Moments of the unseen performance of each person that are judged, evenly spaced."""
EVAL_PX = 160
"""Side of the crops that are compared: the networks' squares (0.625, 0.8) come to whole pixels."""
SURROUNDINGS_PART = 0.625
"""Part of the crop's side within which the surroundings of the face are judged: what every
network sees."""
EDGE_KERNEL = np.ones((9, 9), np.uint8)
"""So many px beside the face still belong to it where its surroundings are judged."""
SHOWN_PER_DIRECTION = 3
"""Moments each way on a row's pictures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One person's unseen performance, to be given another's face."""

    driving: str
    target: str
    faces: FaceSet
    """The crops to swap."""
    crops: Sequence[Image]
    """The same, EVAL_PX."""
    truths: Sequence[Image]
    """The true swaps, as they lie in the crops."""
    masks: Sequence[AnyArray]
    """float32: 1 where the true swap shows the other's face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyData:
    """What all rows of a study share."""

    sets: Sequence[FaceSet]
    """What is learnt from, a person each."""
    cases: Sequence[Case]
    """What is judged."""
    cache: Path


@dataclass(frozen=True, kw_only=True)
class SwapScores:
    """How close swaps are to the true ones, means over all moments."""

    psnr: float
    """dB, inside the face."""
    ssim: float
    """Inside the face, -1 to 1."""
    psnr_matched: float
    """dB, after each channel got the truth's own mean and deviation: shape without colour."""
    around: float
    """Mean absolute change around the face, levels: 0 leaves what was shown as it was."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One run of a study."""

    name: str
    """What the table calls it."""
    recipe: Recipe
    cpu_minutes: float
    seed: int = 0
    faces: int = 0
    """How many crops of each person are learnt from, evenly spaced; 0 is all."""
    prepare: Callable[[SwapModel], None] | None = None
    """Changes the fresh networks, e.g. loads weights into them."""
    prepare_label: str = ""
    """What `prepare` does, in words: part of what a stored result is known by."""

    @property
    def key(self) -> str:
        """16 hex digits that change with everything that the row's result depends on.

        Settings at their defaults are left out: a setting that is new changes no old row.
        """
        sections = (self.recipe.model, self.recipe.train)
        chosen = [
            {name: one for name, one in vars(part).items() if one != getattr(type(part), name)}
            for part in sections
        ]
        names = [self.recipe.backend, self.prepare_label]
        told = [names, chosen, self.cpu_minutes, self.seed, self.faces]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a row came to."""

    key: str
    name: str
    seed: int
    verdict: SwapScores
    cpu_minutes: float = 0.0
    images: int = 0
    steps: int = 0
    parameters: int = 0
    history: Sequence[tuple[float, float, float]] = field(default=())
    """On the way: (processor minutes, SSIM, PSNR)."""

    @classmethod
    def from_dict(cls, table: Mapping[str, object]) -> "Result":
        """Read a line of the results file back."""
        verdict = table["verdict"]
        assert isinstance(verdict, dict)
        return cls(**{**table, "verdict": SwapScores(**verdict)})  # type: ignore[arg-type]


def run_study(rows: Sequence[Row], folder: Path, data: StudyData) -> list[Result]:
    """Train and judge every row that has not been yet; return all results in the rows' order.

    A study that was stopped goes on with the row it was stopped in.
    """
    done = {one.key: one for one in read_results(folder)}
    for row in rows:
        if row.key not in done:
            done[row.key] = run_row(row, data, swaps_file=swaps_path(folder, row))
            with (folder / "results.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(done[row.key])) + "\n")
        print(format_result(done[row.key]), flush=True)
    # Known by its settings: a row may have been called otherwise when it ran.
    return [replace(done[row.key], name=row.name) for row in rows]


def run_row(row: Row, data: StudyData, *, swaps_file: Path | None = None) -> Result:
    """Train one row for its time and judge it, on the way and at the end."""
    lesson = TrainingRun.create(row, load_identities(row, data))
    clock, trainer, feed = lesson.clock, lesson.trainer, lesson.feed
    looks = max(4, round(row.cpu_minutes / 2))
    marks = [look / looks for look in range(1, looks)]
    history: list[tuple[float, float, float]] = []

    def on_step_end(state: TrainState, losses: Mapping[str, torch.Tensor]) -> TrainState:
        del losses
        if row.recipe.train.lr_schedule == "plateau":
            state = step_plateaus_if_due(state, trainer, feed)
        if marks and clock.fraction_done() >= marks[0]:
            marks.pop(0)
            minutes = clock.minutes()
            with clock.paused(), trainer.ema_weights() as averaged:
                found = evaluate(averaged, feed, data)[0]
            history.append((round(minutes, 3), round(found.ssim, 4), round(found.psnr, 2)))
            print(f"{row.name}, after {minutes:.1f} min: {found.ssim:.3f}, {found.psnr:.1f} dB")
        return state

    state = lesson.train(on_step_end)
    minutes = clock.minutes()
    with clock.paused(), trainer.ema_weights() as averaged:
        verdict, swaps = evaluate(averaged, feed, data)
    if swaps_file is not None:
        np.save(swaps_file, np.stack(swaps))
    return Result(
        key=row.key,
        name=row.name,
        seed=row.seed,
        verdict=verdict,
        cpu_minutes=round(minutes, 3),
        images=state.images_seen,
        steps=state.images_seen // feed.images_per_step,
        parameters=sum(one.numel() for one in trainer.model.parameters()),
        history=history,
    )


def pretrain(row: Row, folder: Path, names: Sequence[str]) -> Path:
    """Train one decoder for many people as a row says; return the weights' file.

    What was trained before is not trained again.
    """
    path = folder / f"everybody-{'-'.join(names)}-{row.key}.safetensors"
    if path.exists():
        return path
    space = Workspace.open(folder / "workspace")
    for turn, name in enumerate(names):
        video = folder / f"{name}.mp4"
        if not video.exists():
            render_clip(video, synthetic.CAST[name], synthetic.animate(21 + turn, seconds=SECONDS))
        extract(
            video,
            folder=space.set_folder(name),
            settings=ExtractSettings(),
            report=Reporter(),
        )
    faces = merge_sets([_load_set(space, name) for name in names], name=POOLED_IDENTITY)
    side = _crop_side(faces, row.recipe)
    person = load_identity(faces, cache=folder / "cache" / str(side), side_px=side)
    lesson = TrainingRun.create(row, [person])
    lesson.train(lambda state, _: state)
    with lesson.trainer.ema_weights() as averaged, atomic_write(path) as temporary:
        save_model(averaged, str(temporary))
    return path


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRun:
    """Networks, faces, and the time in which the ones learn the others."""

    trainer: Trainer
    feed: FaceLoader
    clock: "CpuClock"
    seed: int

    @classmethod
    def create(cls, row: Row, identities: Sequence[IdentityDataset]) -> "TrainingRun":
        """Build a row's networks for some people; the clock begins to run."""
        hardware = find_hardware("cpu")
        model = build_model(row.recipe, [one.name for one in identities], hardware, seed=row.seed)
        if row.prepare is not None:
            row.prepare(model)
        load_perceptual_weights(model)
        feed = make_loader(
            identities,
            model=row.recipe.model,
            train=row.recipe.train,
            seed=row.seed,
            device=hardware.device,
        )
        return cls(
            trainer=Trainer(model, row.recipe.train, hardware),
            feed=feed,
            clock=CpuClock(row.cpu_minutes),
            seed=row.seed,
        )

    def train(
        self, on_step_end: Callable[[TrainState, Mapping[str, torch.Tensor]], TrainState]
    ) -> TrainState:
        """Train until the time is over; return where that was."""
        return training_loop(
            lambda _: self.clock.fraction_done() >= 1,
            trainer=self.trainer,
            loader=self.feed,
            state=TrainState(),
            seed=self.seed,
            max_images=None,
            fraction_done=lambda _: self.clock.fraction_done(),
            on_step_end=on_step_end,
        )


def step_plateaus_if_due(state: TrainState, trainer: Trainer, loader: FaceLoader) -> TrainState:
    """Score held-out faces where a save would, for the plateau schedule; as training, it counts."""
    interval, before = (
        trainer.train.checkpoint_interval_images,
        state.images_seen - loader.images_per_step,
    )
    if before // interval == state.images_seen // interval:
        return state
    with trainer.ema_weights() as averaged:
        found = validate(averaged, loader)
    scores = {group: found.losses.get(group, found.error) for group in trainer.parameter_groups}
    return replace(state, plateaus=step_plateaus(state.plateaus, scores))


class CpuClock:
    """Processor time of this process, which can be stopped; `minutes` are the goal."""

    def __init__(self, minutes: float) -> None:
        self.target_minutes = minutes
        self.spent = 0.0
        self.began = time.process_time()

    def minutes(self) -> float:
        """Return the minutes that have counted so far."""
        return (self.spent + time.process_time() - self.began) / 60

    def fraction_done(self) -> float:
        """Return which part of the goal has passed, 0 to 1."""
        return min(1.0, self.minutes() / self.target_minutes)

    def paused(self) -> "_Paused":
        """Return a context whose time does not count."""
        return _Paused(self)


class _Paused:
    """While a clock stands still."""

    def __init__(self, clock: CpuClock) -> None:
        self.clock = clock

    def __enter__(self) -> None:
        self.clock.spent += time.process_time() - self.clock.began

    def __exit__(self, *_: object) -> None:
        self.clock.began = time.process_time()


def load_identities(row: Row, data: StudyData) -> list[IdentityDataset]:
    """Decode the crops that a row learns from."""
    people = []
    for faces in data.sets:
        if row.faces:
            places = evenly_spaced(np.arange(len(faces)), row.faces)
            few = [faces.records[place] for place in places]
            faces = replace(faces, name=f"{faces.name}-{row.faces}", records=few)
        side = _crop_side(faces, row.recipe)
        person = load_identity(faces, cache=data.cache / str(side), side_px=side)
        people.append(replace(person, name=faces.name.removesuffix(f"-{row.faces}")))
    return people


def evaluate(
    model: SwapModel, loader: FaceLoader, data: StudyData
) -> tuple[SwapScores, list[Image]]:
    """Swap every unseen moment and compare it with the true swap; return the swaps as well."""
    swaps: list[list[Image]] = []
    for case in data.cases:
        side = cached_side_px(loader.model.size_px, loader.model.coverage, crop_side_px(case.faces))
        pixels = load_or_build_cache(case.faces, cache=data.cache / str(side), side_px=side)
        every = np.arange(len(pixels))
        person = IdentityDataset(
            name=case.faces.name, pixels=pixels, train_indices=every, val_indices=every
        )
        swaps.append([])
        for start in range(0, len(every), 8):
            faces = loader.clean_batch(person, every[start : start + 8]).target[0]
            answer = model.swap(faces, case.target)
            masks = [None] * len(faces) if answer.mask is None else to_masks(answer.mask)
            for place, (image, mask) in enumerate(zip(to_images(answer.image), masks, strict=True)):
                crop = case.crops[start + place]
                swaps[-1].append(paste_into(crop, image, mask, coverage=loader.model.coverage))
    return score_swaps(swaps, data), [image for case in swaps for image in case]


def paste_into(crop: Image, swap: Image, mask: AnyArray | None, *, coverage: float) -> Image:
    """Return the crop with its central part swapped, under the mask if there is one."""
    side = round(coverage * EVAL_PX / 2) * 2
    corner = (EVAL_PX - side) // 2
    square = (slice(corner, corner + side),) * 2
    drawn = image_io.resize_square(swap, side).astype(np.float32)
    shaped = np.ones((side, side), np.float32)
    if mask is not None:
        shaped[:] = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    weight = shaped[..., None]
    done = crop.copy()
    done[square] = np.round(weight * drawn + (1 - weight) * crop[square]).clip(0, 255)
    return done


def score_swaps(swaps: Sequence[Sequence[Image]], data: StudyData) -> SwapScores:
    """Return how close some pictures are to the true swaps of all cases."""
    errors, matched, ssims, around = [], [], [], []
    near = _central_mask(SURROUNDINGS_PART)
    for case, images in zip(data.cases, swaps, strict=True):
        for image, crop, truth, mask in zip(
            images, case.crops, case.truths, case.masks, strict=True
        ):
            errors.append(mean_squared_error(image, truth, mask))
            matched.append(mean_squared_error(match_color_stats(image, truth, mask), truth, mask))
            ssims.append(ssim(image, truth, mask))
            outside = (1 - cv2.dilate(mask, EDGE_KERNEL)) * near
            change = np.abs(image.astype(np.float32) - crop).mean(axis=2)
            around.append(float((change * outside).sum() / outside.sum()))
    return SwapScores(
        psnr=psnr_from_mse(float(np.mean(errors))),
        ssim=float(np.mean(ssims)),
        psnr_matched=psnr_from_mse(float(np.mean(matched))),
        around=float(np.mean(around)),
    )


def match_color_stats(image: Image, truth: Image, mask: AnyArray) -> Image:
    """Return a picture whose channels have the truth's mean and deviation inside the mask."""
    weight = mask[..., None] / mask.sum()
    pair = [one.astype(np.float32) for one in (image, truth)]
    means = [(one * weight).sum((0, 1)) for one in pair]
    spreads = [
        np.sqrt((((one - mean) ** 2) * weight).sum((0, 1)))
        for one, mean in zip(pair, means, strict=True)
    ]
    done = (pair[0] - means[0]) * (spreads[1] / np.maximum(spreads[0], 1)) + means[1]
    return np.asarray(np.round(done).clip(0, 255), dtype=np.uint8)


def score_baselines(data: StudyData) -> dict[str, SwapScores]:
    """Return what the trivial answers score: the input itself, and the wanted person's mean."""
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


# --- the drawn people -------------------------------------------------------------------------


def prepare_data(folder: Path, *, seed: int = 0) -> StudyData:
    """Draw, extract and keep everything in `folder`; what is already there is not made again."""
    space = Workspace.open(folder / "workspace")
    settings = ExtractSettings()
    sets, cases = [], []
    for turn, name in enumerate(IDENTITIES):
        person = synthetic.CAST[name]
        seen = synthetic.animate(seed + 1 + turn, seconds=SECONDS)
        unseen = synthetic.animate(seed + 11 + turn, seconds=UNSEEN_SECONDS)
        step = len(unseen.scenes) // UNSEEN_MOMENTS
        few = replace(unseen, scenes=unseen.scenes[::step][:UNSEEN_MOMENTS])
        for clip, take in ((name, seen), (f"{name}-unseen", few)):
            path = folder / f"{clip}.mp4"
            if not path.exists():
                render_clip(path, person, take)
            extract(path, folder=space.set_folder(clip), settings=settings, report=Reporter())
        sets.append(_load_set(space, name))
        wanted = IDENTITIES[1 - turn]
        cases.append(render_case(folder, _load_set(space, f"{name}-unseen"), few, name, wanted))
    return StudyData(sets=sets, cases=cases, cache=folder / "cache")


def render_clip(path: Path, person: synthetic.Person, performance: synthetic.Animation) -> None:
    """Draw a performance into a video."""
    with VideoWriter(path, size=(CLIP_PX, CLIP_PX), rate=performance.rate) as video:
        for index, drawing in enumerate(
            synthetic.render_frames(person, performance.scenes, size_px=CLIP_PX)
        ):
            video.write(drawing.image, index / performance.rate)


def render_case(
    folder: Path, faces: FaceSet, performance: synthetic.Animation, driving: str, target: str
) -> Case:
    """Draw the true swaps of a performance, cut out where its faces were found."""
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
    """Draw the wanted face on the driving head; read it back where that was done before."""
    if not path.exists():
        person = synthetic.CAST[target].on_head_of(synthetic.CAST[driving])
        drawings = list(synthetic.render_frames(person, performance.scenes, size_px=CLIP_PX))
        truths, masks = [], []
        for record in faces.records:
            drawing, frame_to_crop = drawings[record.frame], record.alignment.frame_to_crop(EVAL_PX)
            size = (EVAL_PX, EVAL_PX)
            truths.append(record.alignment.crop(drawing.image, EVAL_PX))
            masks.append(cv2.warpAffine(drawing.face_mask, frame_to_crop, size))
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, truths=np.stack(truths), masks=np.stack(masks))
    found = np.load(path)
    return list(found["truths"]), list(found["masks"])


# --- what is left behind ----------------------------------------------------------------------


def read_results(folder: Path) -> list[Result]:
    """Read the results that a folder holds."""
    path = folder / "results.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Result.from_dict(json.loads(line)) for line in lines]


def swaps_path(folder: Path, row: Row) -> Path:
    """Return where a row's swaps are kept."""
    return folder / f"swaps-{row.key}.npy"


def results_table(results: Iterable[Result]) -> str:
    """Return results as a Markdown table, the runs of one name as one line."""
    lines = [
        "| | runs | CPU min | weights, M | steps | images | SSIM | PSNR | PSNR, colours matched "
        "| around |",
        "|" + " --- |" * 10,
    ]
    by_name: dict[str, list[Result]] = {}
    for one in results:
        by_name.setdefault(one.name, []).append(one)
    for name, runs in by_name.items():
        first = runs[0]
        verdicts = [one.verdict for one in runs]
        ssims = [one.ssim for one in verdicts]
        spread_of = f" ± {np.std(ssims):.3f}" if len(runs) > 1 else ""
        lines.append(
            f"| {name} | {len(runs)} | {first.cpu_minutes:.1f} | {first.parameters / 1e6:.1f} "
            f"| {np.mean([one.steps for one in runs]):,.0f} "
            f"| {np.mean([one.images for one in runs]):,.0f} "
            f"| {np.mean(ssims):.3f}{spread_of} "
            f"| {np.mean([one.psnr for one in verdicts]):.1f} "
            f"| {np.mean([one.psnr_matched for one in verdicts]):.1f} "
            f"| {np.mean([one.around for one in verdicts]):.1f} |"
        )
    return "\n".join(lines) + "\n"


def learning_curve_table(results: Iterable[Result], minutes: Sequence[float]) -> str:
    """Return how rows came to their SSIM: what each had about so many minutes on."""
    lines = [
        f"| SSIM after, minutes | {' | '.join(f'{one:g}' for one in minutes)} |",
        "|" + " --- |" * (1 + len(minutes)),
    ]
    for one in results:
        looks = [*one.history, (one.cpu_minutes, one.verdict.ssim, one.verdict.psnr)]
        cells = [
            "" if after > one.cpu_minutes + 0.5 else f"{_nearest(looks, after)[1]:.3f}"
            for after in minutes
        ]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _nearest(
    looks: Sequence[tuple[float, float, float]], after: float
) -> tuple[float, float, float]:
    return min(looks, key=lambda look: abs(look[0] - after))


def baselines_table(data: StudyData) -> str:
    """Return what the trivial answers score as a Markdown table."""
    lines = [
        "| trivial answer | SSIM | PSNR | PSNR, colours matched | around |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {one.ssim:.3f} | {one.psnr:.1f} | {one.psnr_matched:.1f} | {one.around:.1f} |"
        for name, one in score_baselines(data).items()
    ]
    return "\n".join(lines) + "\n"


def comparison_grid(rows: Sequence[Row], folder: Path, data: StudyData) -> Image:
    """Lay some moments out: the crop, every row's swap, the true swap; a line is a row."""
    shown: list[tuple[int, Image, Image]] = []
    first = 0
    for case in data.cases:
        shown += [
            (first + int(place), case.crops[place], case.truths[place])
            for place in evenly_spaced(np.arange(len(case.crops)), SHOWN_PER_DIRECTION)
        ]
        first += len(case.crops)
    lines = [[crop for _, crop, _ in shown]]
    for row in rows:
        swaps = np.load(swaps_path(folder, row))
        lines.append([swaps[index] for index, _, _ in shown])
    lines.append([truth for _, _, truth in shown])
    return image_io.make_grid(
        lines, side=128, labels=["shown", *(row.name for row in rows), "the true swap"]
    )


def write_table(path: Path, text: str) -> None:
    """Write a table, and show it."""
    write_text(path, text)
    print(text)


def format_result(result: Result) -> str:
    """Return a result as one line of progress."""
    one = result.verdict
    return (
        f"{result.name} (seed {result.seed}): {result.cpu_minutes:.1f} min, "
        f"{result.images:,} images, SSIM {one.ssim:.3f}, {one.psnr:.1f} dB, "
        f"matched {one.psnr_matched:.1f} dB, around {one.around:.1f}"
    )


def limit_threads(threads: int = 1) -> None:
    """Keep this process to so many threads, and its memory to itself: must come first."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    keep_freed_memory()


def _crop_side(faces: FaceSet, recipe: Recipe) -> int:
    return cached_side_px(recipe.model.size_px, recipe.model.coverage, crop_side_px(faces))


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
