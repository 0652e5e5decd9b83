"""Make the pictures of docs/guide/troubleshooting.md: a symptom, and what helps, on drawn people.

Run by hand, a few minutes on one core, after the demo whose network it uses:

    faceswap demo --max-images 20000
    python tests/benchmarks/troubleshooting.py --demo faceswap-demo [--only NAME]

Every picture has the footage, the symptom and the remedy in rows. Only the settings named at the
rows differ. The pictures go to docs/pictures/troubleshooting, as WebP below 100 kB.
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow

from faceswap_cli import ConvertSettings, Workspace, convert, train
from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image
from faceswap_cli.faces.alignment import align_face, fit_affine_to_template
from faceswap_cli.faces.detectors import LOCATION_DETECTORS
from faceswap_cli.heads import HeadModel, HeadScene, head_cast, invent_performance, render_head
from faceswap_cli.heads.performance import PERFORMANCE_RATE
from faceswap_cli.stages.demo import DRIVING, PLACE, TARGET
from faceswap_cli.synthetic.occluders import OCCLUDERS, OccluderLayer, cover_crop
from faceswap_cli.synthetic.occluders.worn import draw_glasses
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter

FOLDER = Path(__file__).parents[2] / "docs" / "pictures" / "troubleshooting"
SIDE_PX = 384
TILE_PX = 220
CROP_PX = 40
"""Border of the frames that the pictures leave out."""
MOMENTS = (20, 75, 170)
"""Frames of the demo's performance."""
STILL_FRAMES = 48
EXAGGERATION = 6
NOISE_LEVELS = 16
GLASSES_SEED = 3
HAND_SEEDS = 3, 5
MAX_BYTES = 100_000
DrawLayer = Callable[[np.random.Generator, int], OccluderLayer]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One way to convert."""

    label: str
    settings: ConvertSettings = field(default_factory=ConvertSettings)
    run: str = "demo"
    max_images: int = 0
    """Length of the training of a run that the demo has not made; 0 for the demo's."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture: frames, and two ways to convert them."""

    frames: Callable[[], Sequence[Image]]
    before: Attempt
    after: Attempt


def main() -> None:
    """Make all pictures, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, required=True, help="folder of a finished demo")
    parser.add_argument("--only", choices=[*CASES, "flicker"])
    options = parser.parse_args()
    space = Workspace(root=options.demo / "workspace")
    with tempfile.TemporaryDirectory() as name:
        for case in [options.only] if options.only else [*CASES, "flicker"]:
            folder = Path(name) / case
            is_flicker = case == "flicker"
            grid = make_flicker(folder, space) if is_flicker else make(CASES[case], folder, space)
            print(save(grid, FOLDER / f"{case}.webp"))


def make(case: Case, folder: Path, space: Workspace) -> Image:
    """Return the picture of a case: footage, before, after."""
    frames = case.frames()
    rows = [frames] + [
        convert_images(frames, one, folder / f"{number}", space)
        for number, one in enumerate((case.before, case.after))
    ]
    inner = slice(CROP_PX, -CROP_PX)
    tiles = [[one[inner, inner] for one in row] for row in rows]
    labels = ["footage", case.before.label, case.after.label]
    return image_io.make_grid(tiles, side=TILE_PX, labels=labels)


def convert_images(
    frames: Sequence[Image], attempt: Attempt, folder: Path, space: Workspace
) -> list[Image]:
    """Convert frames one by one, as a folder of images."""
    ensure_trained(attempt, space)
    for index, frame in enumerate(frames):
        image_io.write_png(folder / "in" / f"{index:03d}.png", frame)
    convert(
        folder / "in",
        model=attempt.run,
        to=TARGET,
        output=folder / "out",
        settings=replace(attempt.settings, credentials=False),
        workspace=space,
    )
    return [image_io.read_image(path) for path in sorted((folder / "out").glob("*.png"))]


def ensure_trained(attempt: Attempt, space: Workspace) -> None:
    """Train the attempt's run, unless it is the demo's; a finished one is not trained again."""
    if attempt.max_images:
        train(
            DRIVING,
            TARGET,
            model="autoencoder",
            name=attempt.run,
            max_images=attempt.max_images,
            workspace=space,
        )


def make_flicker(folder: Path, space: Workspace) -> Image:
    """Return slices over time of a person who holds still before a noisy camera.

    A slice has one column of pixels of every frame, side by side: what holds still is a row of
    straight lines.
    """
    scene = performance()[MOMENTS[0]]
    still = render(replace(scene, camera=replace(scene.camera, noise=0)))
    rng = np.random.default_rng(0)
    frames = [add_noise(still, rng) for _ in range(STILL_FRAMES)]
    without_grain = ConvertSettings(match_grain=False)  # so that only the swap itself changes
    one_by_one = convert_images(frames, Attempt(label="", settings=without_grain), folder, space)
    with VideoWriter(folder / "still.mp4", size=(SIDE_PX, SIDE_PX), rate=PERFORMANCE_RATE) as video:
        for index, frame in enumerate(frames):
            video.write(frame, index / PERFORMANCE_RATE)
    convert(
        folder / "still.mp4",
        model="demo",
        to=TARGET,
        output=folder / "swapped.mp4",
        settings=without_grain,
        workspace=space,
    )
    as_video = [frame.image for frame in read_frames(folder / "swapped.mp4")]
    rows = [
        [one[0], slice_over_time(one), exaggerate(slice_over_time(one))]
        for one in (frames, one_by_one, as_video)
    ]
    return image_io.make_grid(
        rows,
        side=TILE_PX,
        columns=["a frame", "a column over time", f"changes x {EXAGGERATION}"],
        labels=["footage", "as images", "as a video"],
    )


def exaggerate(slices: Image) -> Image:
    """Return how slices differ from their median over time, enlarged, on gray.

    Smoothed along the column, since the noise of single pixels is the footage's.
    """
    smooth = cv2.GaussianBlur(slices.astype(np.float32), (1, 13), sigmaX=0.01, sigmaY=3)
    changes = smooth - np.median(smooth, axis=1, keepdims=True)
    return np.asarray(np.clip(128 + EXAGGERATION * changes, 0, 255), dtype=np.uint8)


def slice_over_time(frames: Sequence[Image]) -> Image:
    """Return a column of pixels through an eye, of every frame, side by side."""
    column = SIDE_PX * 3 // 7
    rows = slice(SIDE_PX // 4, SIDE_PX * 3 // 4)
    width = SIDE_PX // len(frames)
    return np.concatenate(
        [np.repeat(one[rows, column : column + 1], width, axis=1) for one in frames], axis=1
    )


def add_noise(image: Image, rng: np.random.Generator) -> Image:
    """Return an image as a camera takes it in poor light."""
    noisy = image + rng.normal(0, NOISE_LEVELS, image.shape)
    return np.asarray(np.clip(np.rint(noisy), 0, 255), dtype=np.uint8)


def performance() -> Sequence[HeadScene]:
    """Return the demo's performance."""
    return invent_performance(1, seconds=8, place=PLACE)


def render(scene: HeadScene, person: str = DRIVING) -> Image:
    """Render a person of the demo's cast."""
    return render_head(HeadModel.from_person(head_cast()[person]), scene, SIDE_PX).image


def moments() -> list[Image]:
    """Render moments of the demo's performance."""
    scenes = performance()
    return [render(scenes[index]) for index in MOMENTS]


def in_cold_light() -> list[Image]:
    """Return moments as a camera takes them whose white balance is set for lamps."""
    gains = np.array([0.62, 0.85, 1.1])
    return [np.asarray(np.clip(one * gains, 0, 255), dtype=np.uint8) for one in moments()]


def behind_things() -> list[Image]:
    """Return moments with a drawn hand, another one, and drawn glasses before the face."""
    scenes = performance()
    drawers = [OCCLUDERS["hand"][0]] * 2 + [draw_glasses]
    return [
        render_behind(scenes[index], draw, seed)
        for index, draw, seed in zip(MOMENTS, drawers, (*HAND_SEEDS, GLASSES_SEED), strict=True)
    ]


def render_behind(scene: HeadScene, draw: DrawLayer, seed: int) -> Image:
    """Render the person behind something drawn; what is worn fits, and ends at the head."""
    rendered = render_head(HeadModel.from_person(head_cast()[DRIVING]), scene, SIDE_PX)
    frame, head = rendered.image, rendered.masks["head"]
    with LOCATION_DETECTORS["litert"]() as detector:
        [face] = detector.detect(frame)
    alignment = align_face(face.landmarks)
    rng = np.random.default_rng(seed)
    layer = draw(rng, SIDE_PX)
    covered = cover_crop(
        frame,
        rendered.masks["face"],
        layer,
        rng,
        to_face=fit_affine_to_template(face.landmarks, alignment, SIDE_PX),
        to_crop=alignment.crop_to_frame(SIDE_PX),
    ).image
    return np.where(head[..., None] > 0.5, covered, frame) if layer.is_worn else covered


def two_people() -> list[Image]:
    """Return frames with a person nearby on the left, and the one meant on the right."""
    near, far = render(performance()[MOMENTS[0]], "nia"), moments()
    height = SIDE_PX
    left = near[:, 72:-72]
    frames = []
    for one in far:
        right = np.repeat(np.repeat(one[:1, :1], height, 0), SIDE_PX - left.shape[1], 1)
        small = image_io.resize_square(one, right.shape[1])
        right[height - small.shape[0] :] = small
        right[: height - small.shape[0]] = small[:1]
        frames.append(np.concatenate([left, right], axis=1))
    return frames


CASES = {
    "blurry": Case(
        frames=moments,
        before=Attempt(label="--sharpen 0", settings=ConvertSettings(sharpen=0.0)),
        after=Attempt(label="--sharpen 1", settings=ConvertSettings(sharpen=1.0)),
    ),
    "color": Case(
        frames=in_cold_light,
        before=Attempt(label="--color none", settings=ConvertSettings(color="none")),
        after=Attempt(label="--color mkl"),
    ),
    "edges": Case(
        frames=moments,
        before=Attempt(
            label="--feather 0 --mask oval", settings=ConvertSettings(feather=0.0, mask="oval")
        ),
        after=Attempt(label="the default"),
    ),
    "in-front": Case(
        frames=behind_things,
        before=Attempt(label="--mask both", settings=ConvertSettings(mask="both")),
        after=Attempt(label="the default"),
    ),
    "person": Case(
        frames=two_people,
        before=Attempt(label="the largest face"),
        after=Attempt(label="--face track:1", settings=ConvertSettings(faces=("track:1",))),
    ),
    "likeness": Case(
        frames=moments,
        before=Attempt(label="400 images", run="early", max_images=400),
        after=Attempt(label="20,000 images"),
    ),
}
"""Symptoms of the page that a single image can show."""


def save(grid: Image, path: Path) -> str:
    """Write a picture as WebP of the best quality below the limit; return its name and size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for quality in (88, 80, 70, 60):
        buffer = io.BytesIO()
        Pillow.fromarray(grid).save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() < MAX_BYTES:
            break
    path.write_bytes(buffer.getvalue())
    return f"{path.name}: {grid.shape[1]} x {grid.shape[0]}, {buffer.tell() / 1000:.0f} kB"


if __name__ == "__main__":
    main()
