"""Measure the network that tells what covers a face: python tests/benchmarks/occlusion.py.

Prints the time of a face, the scores by kind of occluder on people and occluders never learned
from, how far the mask of a still face moves, and trials of the benchmark with and without it: in
`hand` something is in front of the face, in `talking` nothing. There the network that swaps is a
perfect one, which returns the true swap, or the person herself without the hand (self): all errors
are the mask's and the size's.
"""

import time
from dataclasses import replace
from functools import partial
from itertools import pairwise

import cv2
import numpy as np

from faceswap_cli.conversion.model import FaceModel, SwappedFace
from faceswap_cli.conversion.pipeline import OCCLUSION_RADIUS
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import FaceTask, build_swapper
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.types import Image
from faceswap_cli.evaluation.metrics.lpips import Lpips
from faceswap_cli.evaluation.metrics.reconstruction import cropped_ssim, psnr
from faceswap_cli.evaluation.trials import TEST_SEED, TRIALS, select_identities
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.faces.occlusion import COVERAGE, INPUT_PX, VisibleFaceModel, decide_hidden
from faceswap_cli.pretraining.mask_training import score_masks
from faceswap_cli.pretraining.occluded_faces import (
    CROP_PX,
    OccludedSample,
    complete_chin,
    draw_person,
    random_move,
)
from faceswap_cli.pretraining.pairs import SEED_OFFSET, VALIDATION_OFFSET
from faceswap_cli.synthetic import HeadModel, Person, SceneParams, render_frame
from faceswap_cli.synthetic.occluders import OCCLUDERS, cover_crop

PEOPLE, MOMENTS, OF_EACH = 6, 4, 30
"""People, moments of each, and crops behind each kind of occluder."""
SIDE_PX, NETWORK_PX, FRAMES = 384, 96, 12


def main() -> None:
    """Print all of it."""
    model = VisibleFaceModel.load()
    cv2.setNumThreads(1)
    print(f"{measure_ms(model):.1f} ms a face")
    measure_kinds(model)
    for radius in (0, OCCLUSION_RADIUS):
        moved = measure_jitter(model, radius=radius)
        print(f"a still face, averaged over {radius}: {moved:.2f} % of the mask moves a frame")
    with LiteRTDetector() as detector:
        lpips = Lpips.open()
        for name in ("hand", "talking"):
            measure_trial(name, detector, lpips)


def measure_ms(model: VisibleFaceModel) -> float:
    """Return the least processor time of one face, milliseconds."""
    crop = np.zeros((INPUT_PX, INPUT_PX, 3), np.uint8)
    times = []
    for _ in range(50):
        started = time.process_time()
        model.infer(crop)
        times.append(time.process_time() - started)
    return 1000 * min(times)


def measure_kinds(model: VisibleFaceModel) -> None:
    """Print the scores by kind of occluder, without what cameras do to images."""
    with LiteRTDetector() as detector:
        faces = [
            face
            for number in range(PEOPLE)
            for face in draw_person(SEED_OFFSET + 2 * VALIDATION_OFFSET + number, MOMENTS, detector)
        ]
    print(f"{'':<16}{'visible':>9}{'hidden':>9}{'hidden, all':>13}{'edges, %':>10}{'false, %':>10}")
    for kind, (draw, _) in OCCLUDERS.items():
        samples = []
        for number in range(OF_EACH):
            rng = np.random.default_rng(number)
            packed, to_face = faces[number % len(faces)]
            to_crop = random_move(rng, INPUT_PX)
            whole = np.dstack([packed[..., :3], complete_chin(packed[..., 3:])])
            moved = cv2.warpAffine(
                whole[..., :4], to_crop, (INPUT_PX, INPUT_PX), borderMode=cv2.BORDER_REPLICATE
            )
            face = moved[..., 3].astype(np.float32) / 255
            layer = draw(np.random.default_rng(SEED_OFFSET + number), CROP_PX)
            covered = cover_crop(
                np.ascontiguousarray(moved[..., :3]),
                face,
                layer,
                rng,
                to_face=np.asarray(to_face, np.float64),
                to_crop=to_crop,
            )
            samples.append(OccludedSample(image=covered.image, visible=covered.visible, face=face))
        score = score_masks(model, samples)
        print(
            f"{kind:<16}{score.face_iou:>9.3f}{score.hidden_iou:>9.3f}{score.pooled_hidden_iou:>13.3f}"
            f"{score.edge_percent:>10.2f}{score.false_percent:>10.2f}"
        )


def measure_jitter(model: VisibleFaceModel, *, radius: int) -> float:
    """Return by how much of its area the mask of a still face changes a frame, percent.

    Args:
        model: The network.
        radius: Frames before and after over which masks are averaged, weighted by a triangle.
    """
    scene = replace(SceneParams(hand=(2.0, -3.0)), noise=0.0)
    weights = np.array([radius + 1 - abs(one) for one in range(-radius, radius + 1)], np.float32)
    changes = []
    for person in select_identities(5).values():
        image = render_frame(HeadModel.from_person(person), scene, SIDE_PX).image
        crop = cv2.resize(image[60:330, 57:327], (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA)
        rng = np.random.default_rng(0)
        whole = np.ones((INPUT_PX, INPUT_PX), np.float32)
        noisy = [np.clip(crop + rng.normal(0, 2, crop.shape), 0, 255) for _ in range(12)]
        masks = [1 - decide_hidden(model.infer(one.astype(np.uint8)), whole) for one in noisy]
        windows = [masks[one : one + len(weights)] for one in range(13 - len(weights))]
        averages = [np.tensordot(weights / weights.sum(), one, 1) for one in windows]
        changes += [np.abs(a - b).sum() / a.sum() for a, b in pairwise(averages)]
    return 100 * float(np.mean(changes))


def measure_trial(name: str, detector: LiteRTDetector, lpips: Lpips) -> None:
    """Print PSNR, SSIM and LPIPS of a trial, inside the outline, by mask."""
    (first, one), (second, two) = select_identities(2).items()
    number = list(TRIALS).index(name)
    print(f"{name:<16}{'mask':<10}{'PSNR':>8}{'SSIM':>8}{'LPIPS':>8}")
    pairs = {
        f"{first} as {second}": (one, two),
        f"{second} as {first}": (two, one),
        f"{first}, self": (one, one),
    }
    for index, (label, (driving, target)) in enumerate(pairs.items()):
        scenes = TRIALS[name](TEST_SEED + len(TRIALS) * index + number, FRAMES)
        for mask in ("both", "visible"):
            scores = [
                score_frame(scene, driving, target, detector, lpips, mask=mask) for scene in scenes
            ]
            decibels, similarity, distance = np.mean(scores, axis=0)
            print(f"{label:<16}{mask:<10}{decibels:>8.2f}{similarity:>8.4f}{distance:>8.4f}")


def score_frame(
    scene: SceneParams,
    driving: Person,
    target: Person,
    detector: LiteRTDetector,
    lpips: Lpips,
    *,
    mask: str,
) -> tuple[float, float, float]:
    """Return PSNR, SSIM and LPIPS of a frame that the true swap, without the hand, is put into."""
    wanted = HeadModel.from_person(target.on_head_of(driving))
    frame = render_frame(HeadModel.from_person(driving), scene, SIDE_PX).image
    truth = render_frame(wanted, scene, SIDE_PX).image
    bare = render_frame(wanted, replace(scene, hand=None), SIDE_PX).image
    [face, *_] = detector.detect(frame)
    alignment = align_face(face.landmarks)
    output = alignment.center_crop(COVERAGE).crop(bare, NETWORK_PX)
    swapper = build_swapper(
        ConvertSettings(mask=mask, color="none"),
        FaceModel(
            identities=("target",),
            size_px=NETWORK_PX,
            coverage=COVERAGE,
            infer=partial(_return_face, output),
        ),
    )
    task = FaceTask(identity="target", track=0, landmarks=face.landmarks, alignment=alignment)
    view = ArrayImage(image=frame)
    swapped = swapper.composite(view, swapper.run([swapper.prepare(view, task)])).to_array()
    inside = face_mask(face.landmarks, alignment, 256)
    image, true = alignment.crop(swapped, 256), alignment.crop(truth, 256)
    distance = lpips(np.where(inside[..., None] > 0.5, image, true), true)
    return psnr(image, true, inside), cropped_ssim(image, true, inside), distance


def _return_face(face: Image, crops: list[Image], _: str) -> list[SwappedFace]:
    """Return the same face for every crop."""
    return [SwappedFace(image=face, mask=None) for _ in crops]


if __name__ == "__main__":
    main()
