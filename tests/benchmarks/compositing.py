"""Which color transfer, edge and postprocessing come closest to the true swap, and what they cost.

Run by hand:  python tests/benchmarks/compositing.py [--picture IMAGE] [CLIP ...]

The people are synthetic, so the true swap is known: B's face on A's head, in A's skin and light. A
model's output is imitated: B's face in B's own skin, at the model's size, its colors a little off.
Every compositor gets the same faces and is evaluated inside the face and around it. In a filmed
clip the truth is the frame itself: its own face is cropped, degraded in the same way and pasted
back.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow

from faceswap_cli.compositing.color_transfer import COLOR_TRANSFERS
from faceswap_cli.compositing.compositor import BLEND_MODES, Compositor
from faceswap_cli.compositing.postprocess import Postprocessor, estimate_grain
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import build_compositor
from faceswap_cli.core import image_io
from faceswap_cli.core.types import AnyArray, Image, Mask
from faceswap_cli.evaluation.metrics.artifacts import (
    FaceZones,
    seam_color_step,
    sharpness_ratio,
    to_lab,
)
from faceswap_cli.evaluation.metrics.reconstruction import psnr, ssim
from faceswap_cli.faces.alignment import FaceAlignment, align_face
from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.synthetic import CAST, HeadModel, random_scenes, render_frame
from faceswap_cli.video.frame import FramePosition
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import VideoReader

SIDE_PX = 448
COVERAGE = 0.8
SIZES = (64, 128)
TILE_PX = 160
EVAL_SCALE = 1.25
"""Side of the evaluated square as a multiple of the face's square."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One face to composite, and the true result."""

    frame: Image
    truth: Image
    swapped: Image
    mask: Mask
    alignment: FaceAlignment


def synthetic_cases(
    pairs: int, *, each: int, soft_px: float = 0, grain: float = 0
) -> Iterator[Case]:
    """Render people, detect their faces, and imitate a model's output for them.

    Args:
        pairs: Pairs of people.
        each: Scenes per pair.
        soft_px: Blur of the camera, px.
        grain: Noise of the camera, levels.
    """
    rng = np.random.default_rng(0)
    everyone = list(permutations(CAST, 2))
    chosen = [everyone[index] for index in rng.permutation(len(everyone))[:pairs]]
    with MediaPipeDetector() as detector:
        for seed, (target, source) in enumerate(chosen):
            a, b = CAST[target], CAST[source]
            swapped, toned = b.on_head_of(a), b.with_skin_of(a).on_head_of(a)
            for number, scene in enumerate(random_scenes(seed, each)):
                plain = replace(scene, hand=None)
                frame, truth, given = (
                    render_frame(HeadModel.from_person(one), plain, SIDE_PX).image
                    for one in (a, toned, swapped)
                )
                faces = detector.detect(frame)
                if not faces:
                    continue
                alignment = align_face(faces[0].landmarks).center_crop(COVERAGE)
                size = SIZES[number % len(SIZES)]
                frame, truth = (simulate_camera(one, soft_px, grain, rng) for one in (frame, truth))
                yield Case(
                    frame=frame,
                    truth=truth,
                    swapped=shift_colors(alignment.crop(given, size), rng),
                    mask=face_mask(faces[0].landmarks, alignment),
                    alignment=alignment,
                )


def video_cases(clip: Path, *, each: int) -> Iterator[Case]:
    """Crop and degrade the faces of a clip: the frame itself is the true result."""
    rng = np.random.default_rng(1)
    info = probe(clip)
    count = info.frame_count or each
    times = [Fraction(number * count, each) / info.average_rate for number in range(each)]
    positions = [
        FramePosition(index=number, time=info.start_time + time)
        for number, time in enumerate(times)
    ]
    with MediaPipeDetector() as detector, VideoReader(clip) as reader:
        for number, frame in enumerate(reader.frames_at(positions)):
            for face in detector.detect(frame.image)[:1]:
                alignment = align_face(face.landmarks).center_crop(COVERAGE)
                yield Case(
                    frame=frame.image,
                    truth=frame.image,
                    swapped=shift_colors(
                        alignment.crop(frame.image, SIZES[number % len(SIZES)]), rng
                    ),
                    mask=face_mask(face.landmarks, alignment),
                    alignment=alignment,
                )


def simulate_camera(image: Image, soft_px: float, grain: float, rng: np.random.Generator) -> Image:
    """Return an image as a camera takes it out of focus or in poor light."""
    soft = cv2.GaussianBlur(image, (0, 0), soft_px) if soft_px else image
    noise = rng.normal(0, grain, image.shape[:2])[..., None] if grain else 0
    return np.asarray(np.clip(np.rint(soft + noise), 0, 255), dtype=np.uint8)


def shift_colors(image: Image, rng: np.random.Generator) -> Image:
    """Return a face with its colors off by up to a tenth, as models produce them."""
    gain, shift = rng.uniform(0.9, 1.1, 3), rng.uniform(-10, 10, 3)
    return np.asarray(np.clip(image * gain + shift, 0, 255), dtype=np.uint8)


@dataclass(frozen=True)
class Score:
    """Mean scores of a compositor."""

    psnr_db: float
    ssim: float
    edge: float
    """Slope along the mask's edge over the frame's own; 1 is no seam."""
    step: float
    """Step in color across the edge compared with the true swap's, delta E."""
    detail: float
    """Detail in the face over that of the true swap."""
    grain: float
    """Grain in the face less that of the true swap, levels."""
    milliseconds: float


def evaluate(compositor: Compositor, given: list[Case]) -> Score:
    """Composite every case and return the mean scores."""
    rows = []
    for case in given:
        start = time.process_time()
        made = compositor.paste(case.frame, case.swapped, case.mask, case.alignment)
        spent = time.process_time() - start
        around = case.alignment.center_crop(EVAL_SCALE)
        side = round(case.alignment.side_px * EVAL_SCALE)
        mine, true, own = (around.crop(one, side) for one in (made, case.truth, case.frame))
        mask = pad_mask(case.mask, side)
        zones = FaceZones.from_mask(mask)
        lab, true_lab = to_lab(mine), to_lab(true)
        face = zones.face.astype(np.uint8)
        near = np.asarray(cv2.dilate(mask, np.ones((2 * (side // 20) + 1,) * 2)) > 0, np.float32)
        rows.append(
            (
                psnr(mine, true, near),
                ssim(mine, true, near),
                edge_slope(mine, zones) / max(edge_slope(own, zones), 1e-6),
                seam_color_step(lab, true_lab, zones),
                sharpness_ratio(lab, true_lab, zones),
                estimate_grain(mine, face) - estimate_grain(true, face),
                1000 * spent,
            )
        )
    return Score(*np.mean(rows, axis=0).tolist())


def edge_slope(image: Image, zones: FaceZones) -> float:
    """Return the mean length of the luma's gradient along the mask's edge, levels a pixel."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, scale=1 / 8)
    return float(cv2.magnitude(across, down)[zones.seam].mean())


def pad_mask(mask: Mask, side: int) -> Mask:
    """Return a mask padded to the wider square that is evaluated."""
    inner = round(side / EVAL_SCALE)
    margin = (side - inner) // 2
    small = cv2.resize(mask, (inner, inner), interpolation=cv2.INTER_AREA)
    far = side - inner - margin
    padded = cv2.copyMakeBorder(small, margin, far, margin, far, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(padded, dtype=np.float32)


def print_table(title: str, compositors: Mapping[str, Compositor], given: list[Case]) -> None:
    """Print a table with a line for every compositor."""
    print(
        f"\n{title}\n| | PSNR dB | SSIM | edge | color step | detail | grain | ms |\n|"
        + " --- |" * 8
    )
    for name, compositor in compositors.items():
        score = evaluate(compositor, given)
        print(
            f"| {name} | {score.psnr_db:.2f} | {score.ssim:.4f} | {score.edge:.2f}"
            f" | {score.step:.2f} | {score.detail:.2f} | {score.grain:+.2f}"
            f" | {score.milliseconds:.1f} |"
        )


def write_grid(path: Path, given: list[Case]) -> None:
    """Write a grid: the frame, the truth, and every color transfer with every blend mode."""
    columns = ["frame", "true swap", *COLOR_TRANSFERS]
    rows: list[list[Image]] = []
    labels: list[str] = []
    for case in given[1:3]:
        around = case.alignment.center_crop(1.15)
        for name, blend in BLEND_MODES.items():
            tiles = [case.frame, case.truth]
            for match in COLOR_TRANSFERS.values():
                compositor = Compositor(color_transfer=match, blend=blend)
                tiles.append(compositor.paste(case.frame, case.swapped, case.mask, case.alignment))
            rows.append([around.crop(tile, TILE_PX) for tile in tiles])
            labels.append(name)
    grid = image_io.make_grid(rows, side=TILE_PX, columns=columns, labels=labels)
    Pillow.fromarray(grid).save(path, quality=82)


def compare_with_naive(given: list[Case]) -> None:
    """Print how much faster the compositor is than the same in float on the whole frame."""
    big = [enlarge(case) for case in given[:6]]
    ours = Compositor()
    times = {"region, uint8": 0.0, "whole frame, float": 0.0}
    for case in big * 3:
        for name, work in (("region, uint8", ours.paste), ("whole frame, float", naive_blend)):
            start = time.process_time()
            work(case.frame, case.swapped, case.mask, case.alignment)
            times[name] += time.process_time() - start
    for name, spent in times.items():
        print(f"{name}: {1000 * spent / len(big) / 3:.1f} ms a face of 300 px at 720p")
    print(f"ratio {times['whole frame, float'] / times['region, uint8']:.1f}")


def enlarge(case: Case) -> Case:
    """Return a case in a frame of 1280x720 px, its square 300 px wide."""
    scale = 300 / case.alignment.side_px
    wide = cv2.resize(case.frame, None, fx=scale, fy=scale)
    canvas = np.zeros((720, 1280, 3), np.uint8)
    part = wide[:720, :1280]
    canvas[: part.shape[0], : part.shape[1]] = part
    to_unit = case.alignment.to_unit.copy()
    to_unit[:, :2] /= scale
    return replace(case, frame=canvas, alignment=FaceAlignment(to_unit=to_unit))


def naive_blend(frame: Image, swap: Image, mask: Mask, alignment: FaceAlignment) -> AnyArray:
    """Composite the plain way: everything in float, on the whole frame."""
    height, width = frame.shape[:2]
    side = swap.shape[0]
    in_frame = cv2.warpAffine(
        swap.astype(np.float32),
        alignment.crop_to_frame(side),
        (width, height),
        flags=cv2.INTER_CUBIC,
    )
    alpha = cv2.warpAffine(mask, alignment.crop_to_frame(mask.shape[0]), (width, height))
    reach = alignment.side_px * 0.05
    alpha = cv2.GaussianBlur(alpha, (0, 0), reach / 2)[..., None]
    lab = [
        cv2.cvtColor(one.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for one in (in_frame, frame)
    ]
    inside = alpha[..., 0] > 0.5
    (mean, spread), (goal, wide) = (
        (one[inside].mean(axis=0), one[inside].std(axis=0)) for one in lab
    )
    matched = cv2.cvtColor((lab[0] - mean) / spread * wide + goal, cv2.COLOR_LAB2RGB) * 255
    return np.asarray(matched * alpha + frame * (1 - alpha), dtype=np.uint8)


def variants(
    change: Callable[[Compositor, float], Compositor], values: list[float]
) -> dict[str, Compositor]:
    """Return the default compositor with one number changed."""
    return {f"{value:g}": change(Compositor(), value) for value in values}


def print_tables(given: list[Case]) -> None:
    """Print the tables of color transfers, blend modes, feathers and shrinkages."""
    print_table(
        "color", {n: Compositor(color_transfer=m) for n, m in COLOR_TRANSFERS.items()}, given
    )
    print_table("blend", {n: Compositor(blend=b) for n, b in BLEND_MODES.items()}, given)
    print_table(
        "feather", variants(lambda c, v: replace(c, feather=v), [0.02, 0.05, 0.1, 0.15, 0.2]), given
    )
    print_table(
        "shrink", variants(lambda c, v: replace(c, shrink=v), [-0.05, -0.02, 0, 0.02, 0.05]), given
    )


def print_postprocessing(title: str, given: list[Case]) -> None:
    """Print the table of postprocessing steps."""
    kinds = {
        "none": Postprocessor(),
        "sharpen 0.25": Postprocessor(sharpen=0.25),
        "sharpen 0.5": Postprocessor(sharpen=0.5),
        "blur": Postprocessor(match_blur=True),
        "grain": Postprocessor(match_grain=True),
        "all of them": build_compositor(ConvertSettings()).postprocess,
    }
    compositors = {name: Compositor(postprocess=kind) for name, kind in kinds.items()}
    print_table(f"postprocessing, {title}", compositors, given)


def main() -> None:
    """Print the tables, then write the image."""
    parser = argparse.ArgumentParser()
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--each", type=int, default=3)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.clips:
        given = [case for clip in options.clips for case in video_cases(clip, each=options.each)]
        print(f"{len(given)} filmed faces")
        evaluate(Compositor(), given)  # the first calls of OpenCV are slow
        print_tables(given)
        print_postprocessing("as filmed", given)
        return
    given = list(synthetic_cases(options.pairs, each=options.each))
    print(f"{len(given)} synthetic faces")
    evaluate(Compositor(), given)
    print_tables(given)
    print_postprocessing("a clean camera", given)
    for title, soft, noise in (("soft by 2 px", 2.0, 0.0), ("grain of 5 levels", 0.0, 5.0)):
        some = list(
            synthetic_cases(options.pairs // 2, each=options.each, soft_px=soft, grain=noise)
        )
        print_postprocessing(f"a camera with {title}", some)
    compare_with_naive(given)
    if options.picture:
        write_grid(options.picture, given)


if __name__ == "__main__":
    main()
