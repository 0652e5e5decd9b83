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

from faceswap_cli import actors, pictures
from faceswap_cli.arrays import AnyArray, Image
from faceswap_cli.config import Recipe
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.files import replacing, write_text
from faceswap_cli.learning.beginning import bring_judge
from faceswap_cli.learning.data import (
    Person,
    cache_side,
    cached,
    crop_side,
    load_person,
    pooled,
    spread,
)
from faceswap_cli.learning.doors import to_images, to_masks
from faceswap_cli.learning.feed import Feed, choose_feed
from faceswap_cli.learning.hardware import find_hardware, keep_freed_memory
from faceswap_cli.learning.schedule import after_scores
from faceswap_cli.learning.score import score
from faceswap_cli.learning.trainer import Learner, TrainState, train_until
from faceswap_cli.metrics.reconstruction import decibels, mean_squared_error, ssim
from faceswap_cli.report import Silent
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.train import EVERYBODY, new_model
from faceswap_cli.video.writer import VideoWriter
from faceswap_cli.workspace import Workspace
from faceswap_models.base import SwapModel

CAST = ("ada", "bo")
"""Who is drawn: two who differ in everything, complexion too, as in the light preset's study."""
CLIP_PX = 384
SECONDS = 8.0
"""Duration of each performance that is learnt from; at 25 frames a second, 200 crops."""
UNSEEN_SECONDS = 8.0
UNSEEN_MOMENTS = 25
"""Moments of the unseen performance of each person that are judged, evenly spaced."""
JUDGED_PX = 160
"""Side of the crops that are compared: the networks' squares (0.625, 0.8) come to whole pixels."""
AROUND = 0.625
"""Part of the crop's side within which the surroundings of the face are judged: what every
network sees."""
EDGE = np.ones((9, 9), np.uint8)
"""So many px beside the face still belong to it where its surroundings are judged."""
SHOWN = 3
"""Moments each way on a row's pictures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One person's unseen performance, to be given another's face."""

    driving: str
    wanted: str
    faces: FaceSet
    """The crops to swap."""
    crops: Sequence[Image]
    """The same, JUDGED_PX."""
    truths: Sequence[Image]
    """The true swaps, as they lie in the crops."""
    masks: Sequence[AnyArray]
    """float32: 1 where the true swap shows the other's face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What all rows of a study share."""

    sets: Sequence[FaceSet]
    """What is learnt from, a person each."""
    cases: Sequence[Case]
    """What is judged."""
    cache: Path


@dataclass(frozen=True, kw_only=True)
class Verdict:
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
    prepared: str = ""
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
        names = [self.recipe.backend, self.prepared]
        told = [names, chosen, self.cpu_minutes, self.seed, self.faces]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a row came to."""

    key: str
    name: str
    seed: int
    verdict: Verdict
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
        return cls(**{**table, "verdict": Verdict(**verdict)})  # type: ignore[arg-type]


def run_study(rows: Sequence[Row], folder: Path, material: Material) -> list[Result]:
    """Train and judge every row that has not been yet; return all results in the rows' order.

    A study that was stopped goes on with the row it was stopped in.
    """
    done = {one.key: one for one in read_results(folder)}
    for row in rows:
        if row.key not in done:
            done[row.key] = run_row(row, material, pictures_to=picture_of(folder, row))
            with (folder / "results.jsonl").open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(done[row.key])) + "\n")
        print(line_of(done[row.key]), flush=True)
    # Known by its settings: a row may have been called otherwise when it ran.
    return [replace(done[row.key], name=row.name) for row in rows]


def run_row(row: Row, material: Material, *, pictures_to: Path | None = None) -> Result:
    """Train one row for its time and judge it, on the way and at the end."""
    lesson = Lesson.of(row, load_people(row, material))
    clock, learner, feed = lesson.clock, lesson.learner, lesson.feed
    looks = max(4, round(row.cpu_minutes / 2))
    marks = [look / looks for look in range(1, looks)]
    history: list[tuple[float, float, float]] = []

    def after_step(state: TrainState, losses: Mapping[str, torch.Tensor]) -> TrainState:
        del losses
        if row.recipe.train.schedule == "plateau":
            state = slowed(state, learner, feed)
        if marks and clock.done() >= marks[0]:
            marks.pop(0)
            minutes = clock.minutes()
            with clock.stopped(), learner.averaged() as averaged:
                found = judge(averaged, feed, material)[0]
            history.append((round(minutes, 3), round(found.ssim, 4), round(found.psnr, 2)))
            print(f"{row.name}, after {minutes:.1f} min: {found.ssim:.3f}, {found.psnr:.1f} dB")
        return state

    state = lesson.learn(after_step)
    minutes = clock.minutes()
    with clock.stopped(), learner.averaged() as averaged:
        verdict, swaps = judge(averaged, feed, material)
    if pictures_to is not None:
        np.save(pictures_to, np.stack(swaps))
    return Result(
        key=row.key,
        name=row.name,
        seed=row.seed,
        verdict=verdict,
        cpu_minutes=round(minutes, 3),
        images=state.images_seen,
        steps=state.images_seen // feed.images_a_batch,
        parameters=sum(one.numel() for one in learner.model.parameters()),
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
            draw_clip(video, actors.CAST[name], actors.perform(21 + turn, seconds=SECONDS))
        extract(video, folder=space.set(name), settings=ExtractSettings(), report=Silent())
    faces = pooled([_load(space, name) for name in names], name=EVERYBODY)
    side = _side(faces, row.recipe)
    person = load_person(faces, cache=folder / "cache" / str(side), side_px=side)
    lesson = Lesson.of(row, [person])
    lesson.learn(lambda state, _: state)
    with lesson.learner.averaged() as averaged, replacing(path) as temporary:
        save_model(averaged, str(temporary))
    return path


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """Networks, faces, and the time in which the ones learn the others."""

    learner: Learner
    feed: Feed
    clock: "Clock"
    seed: int

    @classmethod
    def of(cls, row: Row, people: Sequence[Person]) -> "Lesson":
        """Build a row's networks for some people; the clock begins to run."""
        hardware = find_hardware("cpu")
        model = new_model(row.recipe, [one.name for one in people], hardware, seed=row.seed)
        if row.prepare is not None:
            row.prepare(model)
        bring_judge(model)
        feed = choose_feed(
            people,
            model=row.recipe.model,
            train=row.recipe.train,
            seed=row.seed,
            device=hardware.device,
        )
        return cls(
            learner=Learner(model, row.recipe.train, hardware),
            feed=feed,
            clock=Clock(row.cpu_minutes),
            seed=row.seed,
        )

    def learn(
        self, after_step: Callable[[TrainState, Mapping[str, torch.Tensor]], TrainState]
    ) -> TrainState:
        """Train until the time is over; return where that was."""
        return train_until(
            lambda _: self.clock.done() >= 1,
            learner=self.learner,
            feed=self.feed,
            state=TrainState(),
            seed=self.seed,
            goal=None,
            done=lambda _: self.clock.done(),
            after_step=after_step,
        )


def slowed(state: TrainState, learner: Learner, feed: Feed) -> TrainState:
    """Score held-out faces where a save would, for the plateau schedule; as training, it counts."""
    interval, before = learner.train.save_images, state.images_seen - feed.images_a_batch
    if before // interval == state.images_seen // interval:
        return state
    with learner.averaged() as averaged:
        found = score(averaged, feed)
    scores = {group: found.losses.get(group, found.error) for group in learner.groups}
    return replace(state, plateaus=after_scores(state.plateaus, scores))


class Clock:
    """Processor time of this process, which can be stopped; `minutes` are the goal."""

    def __init__(self, minutes: float) -> None:
        self.goal = minutes
        self.spent = 0.0
        self.began = time.process_time()

    def minutes(self) -> float:
        """Return the minutes that have counted so far."""
        return (self.spent + time.process_time() - self.began) / 60

    def done(self) -> float:
        """Return which part of the goal has passed, 0 to 1."""
        return min(1.0, self.minutes() / self.goal)

    def stopped(self) -> "_Stopped":
        """Return a context whose time does not count."""
        return _Stopped(self)


class _Stopped:
    """While a clock stands still."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __enter__(self) -> None:
        self.clock.spent += time.process_time() - self.clock.began

    def __exit__(self, *_: object) -> None:
        self.clock.began = time.process_time()


def load_people(row: Row, material: Material) -> list[Person]:
    """Decode the crops that a row learns from."""
    people = []
    for faces in material.sets:
        if row.faces:
            places = spread(np.arange(len(faces)), row.faces)
            few = [faces.records[place] for place in places]
            faces = replace(faces, name=f"{faces.name}-{row.faces}", records=few)
        side = _side(faces, row.recipe)
        person = load_person(faces, cache=material.cache / str(side), side_px=side)
        people.append(replace(person, name=faces.name.removesuffix(f"-{row.faces}")))
    return people


def judge(model: SwapModel, feed: Feed, material: Material) -> tuple[Verdict, list[Image]]:
    """Swap every unseen moment and compare it with the true swap; return the swaps as well."""
    swaps: list[list[Image]] = []
    for case in material.cases:
        side = cache_side(feed.model.size_px, feed.model.coverage, crop_side(case.faces))
        pixels = cached(case.faces, cache=material.cache / str(side), side_px=side)
        every = np.arange(len(pixels))
        person = Person(name=case.faces.name, pixels=pixels, train=every, held_out=every)
        swaps.append([])
        for start in range(0, len(every), 8):
            faces = feed.plain(person, every[start : start + 8]).target[0]
            answer = model.swap(faces, case.wanted)
            masks = [None] * len(faces) if answer.mask is None else to_masks(answer.mask)
            for place, (image, mask) in enumerate(zip(to_images(answer.image), masks, strict=True)):
                crop = case.crops[start + place]
                swaps[-1].append(put_into(crop, image, mask, coverage=feed.model.coverage))
    return compared(swaps, material), [image for case in swaps for image in case]


def put_into(crop: Image, swap: Image, mask: AnyArray | None, *, coverage: float) -> Image:
    """Return the crop with its central part swapped, under the mask if there is one."""
    side = round(coverage * JUDGED_PX / 2) * 2
    corner = (JUDGED_PX - side) // 2
    square = (slice(corner, corner + side),) * 2
    drawn = pictures.resize(swap, side).astype(np.float32)
    shaped = np.ones((side, side), np.float32)
    if mask is not None:
        shaped[:] = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    weight = shaped[..., None]
    done = crop.copy()
    done[square] = np.round(weight * drawn + (1 - weight) * crop[square]).clip(0, 255)
    return done


def compared(swaps: Sequence[Sequence[Image]], material: Material) -> Verdict:
    """Return how close some pictures are to the true swaps of all cases."""
    errors, matched, ssims, around = [], [], [], []
    near = _central(AROUND)
    for case, images in zip(material.cases, swaps, strict=True):
        for image, crop, truth, mask in zip(
            images, case.crops, case.truths, case.masks, strict=True
        ):
            errors.append(mean_squared_error(image, truth, mask))
            matched.append(mean_squared_error(coloured_like(image, truth, mask), truth, mask))
            ssims.append(ssim(image, truth, mask))
            outside = (1 - cv2.dilate(mask, EDGE)) * near
            change = np.abs(image.astype(np.float32) - crop).mean(axis=2)
            around.append(float((change * outside).sum() / outside.sum()))
    return Verdict(
        psnr=decibels(float(np.mean(errors))),
        ssim=float(np.mean(ssims)),
        psnr_matched=decibels(float(np.mean(matched))),
        around=float(np.mean(around)),
    )


def coloured_like(image: Image, truth: Image, mask: AnyArray) -> Image:
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


def anchors(material: Material) -> dict[str, Verdict]:
    """Return what the trivial answers score: the input itself, and the wanted person's mean."""
    unswapped = [case.crops for case in material.cases]
    means = {faces.name: mean_face(faces) for faces in material.sets}
    pasted = [
        [put_into(crop, means[case.wanted], None, coverage=1.0) for crop in case.crops]
        for case in material.cases
    ]
    return {
        "unswapped input": compared(unswapped, material),
        "the other's mean face": compared(pasted, material),
    }


def mean_face(faces: FaceSet) -> Image:
    """Return the mean of a set's crops, JUDGED_PX."""
    crops = [pictures.resize(pictures.read(faces.path(one)), JUDGED_PX) for one in faces.records]
    return np.asarray(np.round(np.mean(crops, axis=0)), dtype=np.uint8)


# --- the drawn people -------------------------------------------------------------------------


def draw_material(folder: Path, *, seed: int = 0) -> Material:
    """Draw, extract and keep everything in `folder`; what is already there is not made again."""
    space = Workspace.open(folder / "workspace")
    settings = ExtractSettings()
    sets, cases = [], []
    for turn, name in enumerate(CAST):
        person = actors.CAST[name]
        seen = actors.perform(seed + 1 + turn, seconds=SECONDS)
        unseen = actors.perform(seed + 11 + turn, seconds=UNSEEN_SECONDS)
        step = len(unseen.moments) // UNSEEN_MOMENTS
        few = replace(unseen, moments=unseen.moments[::step][:UNSEEN_MOMENTS])
        for clip, take in ((name, seen), (f"{name}-unseen", few)):
            path = folder / f"{clip}.mp4"
            if not path.exists():
                draw_clip(path, person, take)
            extract(path, folder=space.set(clip), settings=settings, report=Silent())
        sets.append(_load(space, name))
        wanted = CAST[1 - turn]
        cases.append(draw_case(folder, _load(space, f"{name}-unseen"), few, name, wanted))
    return Material(sets=sets, cases=cases, cache=folder / "cache")


def draw_clip(path: Path, person: actors.Person, take: actors.Performance) -> None:
    """Draw a performance into a video."""
    with VideoWriter(path, size=(CLIP_PX, CLIP_PX), rate=take.rate) as video:
        for index, drawing in enumerate(actors.draw_all(person, take.moments, size_px=CLIP_PX)):
            video.write(drawing.image, index / take.rate)


def draw_case(
    folder: Path, faces: FaceSet, take: actors.Performance, driving: str, wanted: str
) -> Case:
    """Draw the true swaps of a performance, cut out where its faces were found."""
    truths, masks = _true_crops(folder / f"{driving}-as-{wanted}.npz", faces, take, driving, wanted)
    crops = [pictures.resize(pictures.read(faces.path(one)), JUDGED_PX) for one in faces.records]
    return Case(
        driving=driving, wanted=wanted, faces=faces, crops=crops, truths=truths, masks=masks
    )


def _true_crops(
    path: Path, faces: FaceSet, take: actors.Performance, driving: str, wanted: str
) -> tuple[Sequence[Image], Sequence[AnyArray]]:
    """Draw the wanted face on the driving head; read it back where that was done before."""
    if not path.exists():
        person = actors.CAST[wanted].on_head_of(actors.CAST[driving])
        drawings = list(actors.draw_all(person, take.moments, size_px=CLIP_PX))
        truths, masks = [], []
        for record in faces.records:
            drawing, frame_to_crop = drawings[record.frame], record.alignment.matrix(JUDGED_PX)
            size = (JUDGED_PX, JUDGED_PX)
            truths.append(record.alignment.crop(drawing.image, JUDGED_PX))
            masks.append(cv2.warpAffine(drawing.face_mask, frame_to_crop, size))
        with replacing(path) as temporary, temporary.open("wb") as file:
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


def picture_of(folder: Path, row: Row) -> Path:
    """Return where a row's swaps are kept."""
    return folder / f"swaps-{row.key}.npy"


def table(results: Iterable[Result]) -> str:
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


def course_table(results: Iterable[Result], minutes: Sequence[float]) -> str:
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


def anchors_table(material: Material) -> str:
    """Return what the trivial answers score as a Markdown table."""
    lines = [
        "| trivial answer | SSIM | PSNR | PSNR, colours matched | around |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {one.ssim:.3f} | {one.psnr:.1f} | {one.psnr_matched:.1f} | {one.around:.1f} |"
        for name, one in anchors(material).items()
    ]
    return "\n".join(lines) + "\n"


def sheet_of(rows: Sequence[Row], folder: Path, material: Material) -> Image:
    """Lay some moments out: the crop, every row's swap, the true swap; a line is a row."""
    shown: list[tuple[int, Image, Image]] = []
    first = 0
    for case in material.cases:
        shown += [
            (first + int(place), case.crops[place], case.truths[place])
            for place in spread(np.arange(len(case.crops)), SHOWN)
        ]
        first += len(case.crops)
    lines = [[crop for _, crop, _ in shown]]
    for row in rows:
        swaps = np.load(picture_of(folder, row))
        lines.append([swaps[index] for index, _, _ in shown])
    lines.append([truth for _, _, truth in shown])
    return pictures.sheet(
        lines, side=128, labels=["shown", *(row.name for row in rows), "the true swap"]
    )


def write_table(path: Path, text: str) -> None:
    """Write a table, and show it."""
    write_text(path, text)
    print(text)


def line_of(result: Result) -> str:
    """Return a result as one line of progress."""
    one = result.verdict
    return (
        f"{result.name} (seed {result.seed}): {result.cpu_minutes:.1f} min, "
        f"{result.images:,} images, SSIM {one.ssim:.3f}, {one.psnr:.1f} dB, "
        f"matched {one.psnr_matched:.1f} dB, around {one.around:.1f}"
    )


def settle(threads: int = 1) -> None:
    """Keep this process to so many threads, and its memory to itself: must come first."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    keep_freed_memory()


def _side(faces: FaceSet, recipe: Recipe) -> int:
    return cache_side(recipe.model.size_px, recipe.model.coverage, crop_side(faces))


def _central(part: float) -> AnyArray:
    """Return a mask of the crop's central square, float32."""
    side = round(part * JUDGED_PX / 2) * 2
    corner = (JUDGED_PX - side) // 2
    mask = np.zeros((JUDGED_PX, JUDGED_PX), np.float32)
    mask[corner : corner + side, corner : corner + side] = 1
    return mask


def _load(space: Workspace, name: str) -> FaceSet:
    folder = space.existing_set(name)
    return FaceSet.load(name, folder=folder.root, records=folder.records)
