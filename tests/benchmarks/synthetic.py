"""Measure synthetic people with a detector for real ones; render docs/pictures/cast.png.

Run by hand: `python tests/benchmarks/synthetic.py`. Prints the figures of docs/guide/synthetic.md.
"""

import time
from collections.abc import Iterator, Mapping
from itertools import permutations
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from faceswap_cli.core.fileio import atomic_write
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, Face
from faceswap_cli.synthetic import (
    CAST,
    HeadModel,
    Person,
    RenderedFrame,
    SceneParams,
    animate,
    random_person,
    random_scenes,
    render_frame,
)

SIDE_PX = 256
FRAMES_EACH = 35
TILE_PX = 190
FIGURE = Path(__file__).parents[2] / "docs/pictures/cast.png"

# fmt: off
MESH_INDICES = {
    "nose_tip": 1, "chin": 152, "lip_top": 0, "lip_bottom": 17,
    "left_eye_outer": 33, "right_eye_outer": 263, "left_eye_inner": 133, "right_eye_inner": 362,
    "left_mouth_corner": 61, "right_mouth_corner": 291,
}
"""Our landmarks and their indices in MediaPipe's mesh."""

BLENDSHAPES = {
    "jaw": ("jawOpen",), "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "smile": ("mouthSmileLeft", "mouthSmileRight"), "brow": ("browInnerUp",),
}
"""Our parameters and MediaPipe's blendshapes."""
# fmt: on

Detections = list[tuple[str, RenderedFrame, Face]]


def all_people() -> Mapping[str, Person]:
    """Return the cast and five random people."""
    return {**CAST, **{f"random {seed}": random_person(seed) for seed in range(100, 105)}}


def analyze_all(detector: MediaPipeDetector) -> tuple[int, Detections]:
    """Render all people at random scenes; return the number of frames, and the detections."""
    found: Detections = []
    num_frames = 0
    for seed, (name, person) in enumerate(all_people().items()):
        for scene in random_scenes(seed, FRAMES_EACH):
            rendered = render_frame(HeadModel.from_person(person), scene, SIDE_PX)
            num_frames += 1
            found += [(name, rendered, face) for face in detector.detect(rendered.image)[:1]]
    return num_frames, found


def print_pose(found: Detections) -> None:
    """Print how measured poses follow the true ones."""
    for index, name in enumerate(("yaw", "pitch", "roll")):
        true = np.array([getattr(rendered.scene, name) for _, rendered, _ in found])
        read = np.array([face.pose[index] for _, _, face in found])
        correlation, slope = np.corrcoef(true, read)[0, 1], np.polyfit(true, read, 1)[0]
        off, bias = np.abs(read - true).mean(), (read - true).mean()
        print(f"{name}: r {correlation:.3f}, off {off:.2f}, bias {bias:+.2f}, slope {slope:.2f}")


def print_expression(found: Detections) -> None:
    """Print how measured expressions follow the true ones: overall, and within each person."""
    names = np.array([name for name, _, _ in found])
    for field, coefficients in BLENDSHAPES.items():
        true = np.array([getattr(rendered.scene, field) for _, rendered, _ in found])
        columns = [BLENDSHAPE_NAMES.index(c) for c in coefficients]
        read = np.array([np.mean([face.blendshapes[c] for c in columns]) for _, _, face in found])
        within = [np.corrcoef(true[names == n], read[names == n])[0, 1] for n in set(names)]
        overall = np.corrcoef(true, read)[0, 1]
        print(f"{field}: r {overall:.3f}, within one person {np.mean(within):.3f}")


def print_landmarks(found: Detections) -> None:
    """Print the errors of landmarks relative to the eyes' distance."""
    for point, mesh in MESH_INDICES.items():
        errors = []
        for _, rendered, face in found:
            eyes = rendered.landmarks["left_eye_outer"], rendered.landmarks["right_eye_outer"]
            off = np.subtract(face.landmarks[mesh], rendered.landmarks[point])
            errors.append(np.hypot(*off) / np.hypot(*np.subtract(*eyes)))
        print(f"{point}: {100 * np.mean(errors):.1f} %")


def print_identity(detector: MediaPipeDetector, found: Detections) -> None:
    """Print how well SFace tells the people apart, and which person a true swap is nearest to."""
    sface = cv2.FaceRecognizerSF.create(str(find_model_file("sface")), "")
    embeddings = [(name, face_embedding(sface, rendered, face)) for name, rendered, face in found]
    names = sorted(all_people())
    right = 0
    for index, (name, one) in enumerate(embeddings):
        others = [p for i, p in enumerate(embeddings) if i != index]
        means = [np.mean([p for n, p in others if n == who], axis=0) for who in names]
        right += names[int(np.argmax([one @ m / np.linalg.norm(m) for m in means]))] == name
    print(
        f"identity: nearest mean is the right one of ten in {100 * right / len(embeddings):.1f} %"
    )
    means = {who: np.mean([p for n, p in embeddings if n == who], axis=0) for who in CAST}
    wins = [
        one @ means[source] / np.linalg.norm(means[source])
        > one @ means[target] / np.linalg.norm(means[target])
        for source, target, one in swap_embeddings(detector, sface)
    ]
    print(f"identity: {len(wins)} true swaps nearer to the source in {100 * np.mean(wins):.1f} %")


def swap_embeddings(
    detector: MediaPipeDetector, sface: cv2.FaceRecognizerSF
) -> Iterator[tuple[str, str, npt.NDArray[np.float64]]]:
    """Yield source, target and embedding of four true swaps for each ordered pair of the cast."""
    for source, target in permutations(CAST, 2):
        head_model = HeadModel.from_person(CAST[source].on_head_of(CAST[target]))
        for scene in random_scenes(7, 4):
            rendered = render_frame(head_model, scene, SIDE_PX)
            for face in detector.detect(rendered.image)[:1]:
                yield source, target, face_embedding(sface, rendered, face)


def face_embedding(
    sface: cv2.FaceRecognizerSF, rendered: RenderedFrame, face: Face
) -> npt.NDArray[np.float64]:
    """Return SFace's unit vector of a face, aligned by MediaPipe's points."""
    x0, y0, x1, y1 = face.box
    # YuNet's order: eyes, nose, mouth corners, the image's left first.
    eyes = [face.landmarks[[33, 133]].mean(axis=0), face.landmarks[[362, 263]].mean(axis=0)]
    points = [*eyes, face.landmarks[1], face.landmarks[61], face.landmarks[291]]
    row = np.array([x0, y0, x1 - x0, y1 - y0, *np.ravel(points), 1.0], np.float32)
    bgr = np.ascontiguousarray(rendered.image[..., ::-1])
    vector = sface.feature(sface.alignCrop(bgr, row))[0].astype(np.float64)
    return vector / np.linalg.norm(vector)


def print_speed() -> None:
    """Print the CPU time of the set-up and of one frame, on one core."""
    cv2.setNumThreads(1)
    start = time.process_time()
    head_models = [HeadModel.build(person) for person in CAST.values()]
    print(f"set-up: {(time.process_time() - start) / len(head_models):.2f} s")
    scenes = random_scenes(3, 20)
    for side_px in (128, 256, 384, 512):
        start = time.process_time()
        for head_model in head_models:
            for scene in scenes[:8]:
                render_frame(head_model, scene, side_px)
        print(
            f"{side_px} px: {1000 * (time.process_time() - start) / (8 * len(head_models)):.0f} ms"
        )


def print_baselines() -> None:
    """Print the PSNR of the unswapped frame against the true swap, in the face's mask, dB."""
    scenes = animate(3, seconds=6).scenes[::10]
    for target, source in (("ada", "bo"), ("cy", "ed"), ("di", "ada")):
        plain, color_matched = [], []
        for scene in scenes:
            before = render_frame(HeadModel.from_person(CAST[target]), scene, SIDE_PX)
            truth = render_frame(
                HeadModel.from_person(CAST[source].on_head_of(CAST[target])), scene, SIDE_PX
            )
            inside = truth.face_mask > 0.5
            old, new = before.image[inside].astype(float), truth.image[inside].astype(float)
            matched = (old - old.mean(0)) / old.std(0) * new.std(0) + new.mean(0)
            plain.append(psnr(old, new))
            color_matched.append(psnr(np.clip(matched, 0, 255), new))
        print(
            f"{source} onto {target}: no swap {np.mean(plain):.1f} dB, "
            f"no swap with matched color {np.mean(color_matched):.1f} dB"
        )


def psnr(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Return the peak signal-to-noise ratio of two sets of pixels, dB."""
    return float(10 * np.log10(255**2 / np.mean((first - second) ** 2)))


def write_figure() -> None:
    """Render the cast at a few scenes, and a true swap."""
    scenes = [
        SceneParams(smile=0.4, noise=0),
        SceneParams(
            yaw=28, pitch=4, jaw=0.6, gaze=(6, 0), light=(0.5, 0.5, 1), background=3, noise=0
        ),
        SceneParams(yaw=-24, pitch=-8, roll=6, smile=1, jaw=0.15, brow=0.4, background=14, noise=0),
    ]
    rows = [
        [
            render_frame(HeadModel.from_person(person), scene, TILE_PX).image
            for person in CAST.values()
        ]
        for scene in scenes
    ]
    bo, ada = CAST["bo"], CAST["ada"]
    last_scene = SceneParams(yaw=-14, smile=0.7, jaw=0.25, background=6, noise=0)
    swap = [ada, bo, bo.on_head_of(ada), bo.with_skin_of(ada).on_head_of(ada)]
    last = [
        render_frame(HeadModel.from_person(person), last_scene, TILE_PX).image for person in swap
    ]
    hand = SceneParams(yaw=-14, smile=0.7, background=6, noise=0, hand=(3, -4))
    last.append(render_frame(HeadModel.from_person(CAST["ed"]), hand, TILE_PX).image)
    grid = np.vstack([np.hstack(row) for row in [*rows, last]])
    FIGURE.parent.mkdir(exist_ok=True)
    with atomic_write(FIGURE) as temporary:
        Image.fromarray(grid).save(temporary, optimize=True)
    print(f"{FIGURE.name}: {FIGURE.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Print every figure and write the image."""
    write_figure()
    with MediaPipeDetector() as detector:
        num_frames, found = analyze_all(detector)
        print(f"found: {len(found)} of {num_frames}")
        print_pose(found)
        print_expression(found)
        print_landmarks(found)
        print_identity(detector, found)
    print_baselines()
    print_speed()


if __name__ == "__main__":
    main()
