"""What covers a face: the shipped network, what it was taught on, and where it is used."""

import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from benchmarks import make_occlusion_model
from typer.testing import CliRunner

from faceswap_cli import synthetic
from faceswap_cli.cli.app import app
from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.conversion.model import FaceModel, SwappedFace
from faceswap_cli.conversion.pipeline import LayeredFrame, smooth_over_time
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import FaceSwapper, FaceTask, build_swapper
from faceswap_cli.core import image_io
from faceswap_cli.core.errors import CheckpointError, InputError
from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.metrics.artifacts import FaceZones, painted_over
from faceswap_cli.faces.alignment import (
    FaceAlignment,
    align_face,
)
from faceswap_cli.faces.dataset import MASK_FOLDER, FaceRecord, FaceSet
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.masks import MASK_MODES, face_mask
from faceswap_cli.faces.occlusion import INPUT_PX, VisibleFaceModel, decide_hidden, shipped_weights
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.pretraining import grimaces, occluded_faces
from faceswap_cli.pretraining.mask_training import (
    MaskSchedule,
    save_masks,
    score_masks,
    train_masks,
)
from faceswap_cli.pretraining.occluded_faces import OcclusionData, OcclusionSize, complete_chin
from faceswap_cli.pretraining.pairs import SEED_OFFSET
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.faces import inspect_sets
from faceswap_cli.stages.train_visible_face import train_visible_face
from faceswap_cli.video.frame import Frame
from faceswap_models.occlusion import VisibleFaceNet, load_folded, mask_loss

WHOLE_CROP = FaceAlignment.from_square(160)
WHOLE_FACE = np.ones((INPUT_PX, INPUT_PX), np.float32)
CARD = Path(__file__).parents[1] / "docs/guide/occlusion.md"
MAX_BYTES, MAX_PARAMETERS = 4_000_000, 2_000_000
SMALL = OcclusionSize(
    people=2,
    validation_people=2,
    mesh_people=2,
    validation_mesh_people=2,
    moments=3,
    occluders=12,
    validation_occluders=24,
    marks=10,
)


def random_net() -> VisibleFaceNet:
    """Return a network whose normalizations do something."""
    torch.manual_seed(0)
    net = VisibleFaceNet()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def random_crop() -> np.ndarray:
    """Return an image of the network's size."""
    return np.random.default_rng(0).integers(0, 256, (INPUT_PX, INPUT_PX, 3), dtype=np.uint8)


def draw_data(folder: Path, *, is_validation: bool = False) -> OcclusionData:
    """Draw a few people and things."""
    for _ in OcclusionData.draw(SMALL, folder, is_validation=is_validation):
        pass
    return OcclusionData.load(SMALL, folder, is_validation=is_validation)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> OcclusionData:
    """A few people and things that the shipped network has never learned from."""
    return draw_data(tmp_path_factory.mktemp("occlusion"), is_validation=True)


# --- the network ---------------------------------------------------------------------------------


def test_numpy_computes_what_torch_does() -> None:
    """The folded weights, run without torch, give the masks of the network with normalization."""
    net, crop = random_net(), random_crop()
    image = torch.from_numpy(crop.transpose(2, 0, 1).astype(np.float32) / 127.5 - 1)[None]
    with torch.inference_mode():
        expected = net(image).sigmoid()[0, 0].numpy()
        folded = load_folded(net.fold()).eval()(image).sigmoid()[0, 0].numpy()
    model = VisibleFaceModel({name: value.numpy() for name, value in net.fold().items()})
    np.testing.assert_allclose(expected, folded, atol=1e-5)
    np.testing.assert_allclose(expected, model.infer(crop), atol=1e-5)
    assert expected.std() > 1e-4


def test_patches_without_a_sure_pixel_are_seen() -> None:
    """What is doubtful everywhere is not hidden; what is sure in a part is hidden as a whole."""
    visible = np.ones((INPUT_PX, INPUT_PX), np.float32)
    visible[20:40, 20:40] = 0.15
    visible[20:40, 70:90] = 0.15
    visible[20:40, 70:80] = 0.001
    hidden = decide_hidden(visible, WHOLE_FACE)
    assert (hidden[20:40, 20:40] == 0).all()
    assert (hidden[20:40, 70:90] == 1).all()
    assert 400 == (hidden > 0).sum()
    # What is sure outside of the face says nothing of a patch inside.
    left = WHOLE_FACE * (np.arange(INPUT_PX) < 80)
    visible[20:40, 20:40] = 0.15
    visible[20:40, 40:128] = 0.001
    left[:, 40:] = 0
    assert (decide_hidden(visible, left)[20:40, 20:40] == 0).all()


def test_the_loss_is_least_at_the_truth() -> None:
    """The truth itself costs less than a mask without what is hidden, and than half of it."""
    visible = torch.zeros(1, 1, 16, 16)
    visible[..., :8] = 1
    face = torch.ones_like(visible)
    costs = [
        float(mask_loss(20 * (one - 0.5), visible, face))
        for one in (visible, torch.ones_like(visible), torch.full_like(visible, 0.5))
    ]
    assert costs[0] < 0.01
    assert min(costs[1:]) > 0.3


@pytest.mark.slow
def test_training_lowers_the_loss(drawn: OcclusionData) -> None:
    """Some steps on one batch fit it, at both sides."""
    torch.manual_seed(0)
    net = VisibleFaceNet().train()
    schedule = MaskSchedule(images=120, batch_size=4, small_fraction=0.5)
    losses = [
        loss for _, loss in train_masks(net, lambda n, side: drawn.sample(n % 4, side), schedule)
    ]
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


# --- what it is taught on ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mesh_prob", [0.0, 1.0])
def test_samples_depend_on_their_number_alone(drawn: OcclusionData, mesh_prob: float) -> None:
    """The same number gives the same crop; what is hidden is a part of the face."""
    hidden = []
    drawn = replace(drawn, mesh_prob=mesh_prob, is_bent=mesh_prob > 0)
    for number in range(20):
        one, again = drawn.sample(number), drawn.sample(number)
        np.testing.assert_array_equal(one.image, again.image)
        np.testing.assert_array_equal(one.visible, again.visible)
        assert (one.visible <= one.face).all()
        assert one.face.mean() > 0.15
        hidden.append(1 - one.visible.sum() / one.face.sum())
    assert np.mean(np.array(hidden) > 0.02) > 0.4
    assert np.mean(np.array(hidden) < (0.02 if mesh_prob else 1e-6)) > 0.05


def test_the_underside_of_a_chin_belongs_to_the_face() -> None:
    """What a true swap fades out is added; background and a fringe are not."""
    face, head = np.zeros((80, 80), np.uint8), np.zeros((80, 80), np.uint8)
    cv2.ellipse(face, (40, 40), (20, 30), 0, 0, 360, 255, -1)
    head[:] = face
    face[64:69, 36:44] = 0
    face[:, :24] = 0
    head[:, :24] = 0
    face[8:20, 36:44] = 0
    whole = complete_chin(np.dstack([face, head]))
    assert (whole[..., 1] == head).all()
    assert whole[66, 40, 0] > 250
    assert whole[12, 40, 0] == 0
    np.testing.assert_array_equal(whole[:, :22, 0], face[:, :22])


def test_mouths_and_temples_belong_to_the_face_and_own_hair_does_not() -> None:
    """All of a head within the landmarks' outline is the face, but for what is in front of it."""
    face, head, front, outline = np.zeros((4, 60, 60), np.float32)
    outline[10:50, 15:45] = 1
    head[5:60, 12:50] = 1
    face[15:50, 20:45] = 1
    face[38:42, 25:35] = 0  # the opening of the mouth
    front[:20, :] = 1  # a fringe, above and beside the head as well
    face[front > 0] = 0
    whole, _, hides = grimaces.face_levels(np.dstack([face, head, front]), outline).T
    assert (whole.T == 255 * outline).all()
    assert (hides.T == 255 * front).all()
    head[:, :25] = 0  # beyond a turned cheek
    beyond = grimaces.face_levels(np.dstack([face * (head > 0), head, front]), outline)
    assert (beyond[:, :25, 0] == 0).all()


def test_grimaces_are_strong_and_on_either_side() -> None:
    """Jaws go aside as far as they can, both ways, and some faces are calm."""
    rng = np.random.default_rng(0)
    table = np.array([grimaces.random_grimace(rng).blendshapes for _ in range(200)])
    left, right, wide = (
        table[:, BLENDSHAPE_NAMES.index(name)] for name in ("jawLeft", "jawRight", "jawOpen")
    )
    for values in (left, right, wide):
        assert (values > 0.8).mean() > 0.03
    assert (np.maximum(left, right) < 0.2).mean() > 0.3
    assert table.min() >= 0
    assert table.max() <= grimaces.STRONGEST


def test_rough_crops_have_the_same_masks(drawn: OcclusionData) -> None:
    """Folds and distance change what is seen of a crop, not what is true of it."""
    rough = replace(drawn, is_rough=True)
    changed = 0
    for number in range(12):
        one, other = drawn.sample(number), rough.sample(number)
        np.testing.assert_array_equal(one.face, other.face)
        changed += (one.image != other.image).any()
    assert changed > 4


@pytest.mark.slow
def test_what_is_drawn_is_not_drawn_again(tmp_path: Path) -> None:
    """A second call draws nothing, and its files are those of the first."""
    first = draw_data(tmp_path)
    assert [] == list(OcclusionData.draw(SMALL, tmp_path))
    np.testing.assert_array_equal(first.faces, OcclusionData.load(SMALL, tmp_path).faces)


@pytest.mark.slow
def test_what_has_changed_since_it_was_drawn_is_refused(tmp_path: Path) -> None:
    """One bit is enough; the error names the file."""
    draw_data(tmp_path)
    for path in tmp_path.rglob("*.npy"):
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        with pytest.raises(InputError, match=f"{path.name} is damaged"):
            OcclusionData.load(SMALL, tmp_path)
        path.write_bytes(whole)


def test_nobody_who_is_judged_is_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """All people, moments and things have seeds from `SEED_OFFSET` on; the others' are small."""
    size = make_occlusion_model.SIZE
    seeds = [
        seed
        for is_validation in (False, True)
        for group in (
            size.person_seeds,
            size.mesh_person_seeds,
            size.occluder_seeds,
            size.mark_seeds,
        )
        for seed in group(is_validation=is_validation)
    ]
    assert min(seeds) >= SEED_OFFSET
    assert len(set(seeds)) == len(seeds)
    used: list[int] = []
    monkeypatch.setattr(synthetic, "random_scenes", lambda seed, _: used.append(seed) or [])
    with LiteRTDetector() as detector:
        assert [] == list(occluded_faces.draw_person(seeds[0], 1, detector))
        monkeypatch.setattr(grimaces, "grimacing_person", lambda seed: used.append(seed))
        monkeypatch.setattr(grimaces.HeadModel, "from_person", lambda _: None)
        drawn = grimaces.draw_grimaces(seeds[1], 0, detector, render_px=64, crop_px=32)
        assert [] == list(drawn)
    assert used == seeds[:2]


# --- the shipped weights -------------------------------------------------------------------------


def test_the_card_has_the_digest() -> None:
    """What is shipped is what the card describes, and it is small."""
    assert sha256_file(shipped_weights()) in CARD.read_text(encoding="utf-8")
    assert shipped_weights().stat().st_size <= MAX_BYTES
    assert sum(one.numel() for one in VisibleFaceNet().parameters()) <= MAX_PARAMETERS


def test_it_finds_what_covers_people_never_seen(drawn: OcclusionData) -> None:
    """On other people and things than it learned from, most of what is hidden is found."""
    score = score_masks(VisibleFaceModel.load(), [drawn.sample(number) for number in range(40)])
    assert score.face_iou > 0.92
    assert score.hidden_iou > 0.7
    assert score.edge_percent < 3.5
    assert score.false_percent < 1


def test_faces_that_grimace_are_left_whole(
    drawn: OcclusionData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Puckers, jaws pulled aside and hard light hide nothing: little of the skin is called hidden.

    It was a tenth before the network learned from people who do this.
    """
    monkeypatch.setattr(occluded_faces, "OCCLUDER_PROB", 0.0)
    bare = replace(drawn, mesh_prob=1.0)
    model, wrong = VisibleFaceModel.load(), []
    for sample in (bare.sample(number) for number in range(30)):
        skin = cv2.erode(np.asarray(sample.visible > 0.95, np.uint8), np.ones((5, 5))) > 0
        wrong.append((decide_hidden(model.infer(sample.image), sample.face)[skin] > 0.5).mean())
    assert np.mean(wrong) < 0.02


def test_the_mask_of_a_still_face_is_still() -> None:
    """Other grain moves less than half a percent of the mask from frame to frame."""
    swapper = build_swapper(ConvertSettings(mask="visible"), green_model())
    image, rng = render((3.0, -4.0)), np.random.default_rng(0)
    noisy = [
        np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8) for _ in range(8)
    ]
    layers = [swapper.run([swapper.prepare(ArrayImage(image=one), face_task())]) for one in noisy]
    frames = [
        LayeredFrame(
            frame=Frame(index=0, time=Fraction(0), view=ArrayImage(image=one)), layers=layer
        )
        for one, layer in zip(noisy, layers, strict=True)
    ]
    shown = [
        layer.mask * (1 - layer.preserved)
        for frame in smooth_over_time(iter(frames))
        for layer in frame.layers
    ]
    changes = [np.abs(a - b).sum() / a.sum() for a, b in pairwise(shown)]
    assert len(changes) == 7
    assert 0 < np.mean(changes) < 0.005


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection over the union of two masks."""
    return float(((one > 0.5) & (other > 0.5)).sum() / ((one > 0.5) | (other > 0.5)).sum())


@pytest.mark.slow
def test_a_forehead_ends_at_the_hair() -> None:
    """Of people never seen, most of what the landmarks' outline leaves out of it is found."""
    model, before, after, upper = VisibleFaceModel.load(), [], [], slice(0, 45)
    with LiteRTDetector(location_only=True) as detector:
        for seed in range(900, 912):
            head = synthetic.HeadModel.from_person(synthetic.random_person(seed))
            frame = synthetic.render_frame(head, synthetic.random_scenes(seed, 1)[0], 256)
            for face in detector.detect(frame.image)[:1]:
                alignment = align_face(face.landmarks)
                square = alignment.center_crop(0.8)
                seen = model.analyze(ArrayImage(image=frame.image), alignment)
                found = seen.find_face(square, INPUT_PX, face.landmarks)
                outline = face_mask(face.landmarks, square, INPUT_PX)
                truth = cv2.warpAffine(
                    frame.face_mask, square.frame_to_crop(INPUT_PX), (INPUT_PX, INPUT_PX)
                )
                assert (found >= outline).all()
                before.append(overlap(outline[upper], truth[upper]))
                after.append(overlap(found[upper], truth[upper]))
    assert len(after) > 8
    assert np.mean(after) > np.mean(before) + 0.08
    assert np.mean(after) > 0.85


def test_a_face_without_forehead_ends_above_the_brows() -> None:
    """`--no-forehead` swaps no more of it than without the network."""
    view = ArrayImage(image=render(None))
    areas = [
        build_swapper(ConvertSettings(mask=mask, forehead=forehead), green_model())
        .prepare(view, face_task())
        .face_mask.sum()
        for mask, forehead in (
            ("visible", True),
            ("both", True),
            ("visible", False),
            ("both", False),
        )
    ]
    assert areas[0] > 1.02 * areas[1]
    assert areas[2] == areas[3] < areas[1]


def test_weights_survive_their_file(tmp_path: Path) -> None:
    """Weights are stored in half precision, and a mask changes by less than a level."""
    net = random_net()
    save_masks(net, tmp_path / "weights.safetensors")
    crop = random_crop()
    exact = VisibleFaceModel({name: value.numpy() for name, value in net.fold().items()})
    stored = VisibleFaceModel.load(tmp_path / "weights.safetensors")
    np.testing.assert_allclose(exact.infer(crop), stored.infer(crop), atol=1 / 255)


# --- conversion ----------------------------------------------------------------------------------


def render_scene(hand: tuple[float, float] | None) -> synthetic.RenderedFrame:
    """Return a synthetic person, with a hand or without, and what is true of the image."""
    head = synthetic.HeadModel.from_person(synthetic.CAST["ada"])
    return synthetic.render_frame(head, synthetic.SceneParams(hand=hand, noise=0.5), 256)


def render(hand: tuple[float, float] | None) -> np.ndarray:
    """Return a synthetic person, with a hand or without."""
    return render_scene(hand).image


def green_model() -> FaceModel:
    """Return a model that makes every face green."""
    green = np.array([0, 255, 0], np.uint8)
    return FaceModel(
        identities=("bo",),
        size_px=64,
        coverage=0.8,
        infer=lambda crops, _: [
            SwappedFace(image=np.zeros_like(crop) + green, mask=None) for crop in crops
        ],
    )


def masking_model() -> FaceModel:
    """Return a model that returns every face with a mask."""
    return replace(
        green_model(),
        infer=lambda crops, _: [
            SwappedFace(image=crop, mask=np.ones(crop.shape[:2], np.float32)) for crop in crops
        ],
    )


@cache
def face_task() -> FaceTask:
    """Return where the face of `render` is."""
    with LiteRTDetector() as detector:
        [face] = detector.detect(render(None))
    return FaceTask(
        identity="bo", track=0, landmarks=face.landmarks, alignment=align_face(face.landmarks)
    )


def swap(image: np.ndarray, *, mask: str) -> np.ndarray:
    """Return the image with its face made green."""
    settings = ConvertSettings(mask=mask, color="none", match_blur=False, match_grain=False)
    swapper = build_swapper(settings, green_model())
    view = ArrayImage(image=image)
    return swapper.composite(view, swapper.run([swapper.prepare(view, face_task())])).to_array()


def test_a_hand_stays_in_front() -> None:
    """With the mask `visible` the hand is not swapped, and the rest of the face is."""
    covered = render((0.0, -1.0))
    is_hand = np.abs(covered.astype(int) - render(None)).max(axis=2) > 30
    is_face = render_scene((0.0, -1.0)).face_mask > 0.9
    plain, visible = (
        np.abs(swap(covered, mask=mask).astype(int) - covered).max(axis=2) > 30
        for mask in ("both", "visible")
    )
    assert visible[plain & is_hand].mean() < 0.2
    assert visible[plain & is_face].mean() > 0.95


def test_only_the_default_mask_asks_for_occlusion() -> None:
    """Other masks do not run the network."""
    assert "visible" == ConvertSettings().mask
    for mask in MASK_MODES:
        asks = build_swapper(ConvertSettings(mask=mask), masking_model()).occlusion is not None
        assert asks == (mask == "visible")


def test_what_is_in_front_is_mapped_to_the_model_s_square() -> None:
    """A model that sees a smaller square gets the part of the mask that is in it."""

    class Left(VisibleFaceModel):
        """Says that the left half of its square is covered."""

        def infer(self, crop: np.ndarray) -> np.ndarray:
            """Return the mask."""
            return np.tile(np.arange(INPUT_PX) >= INPUT_PX // 2, (INPUT_PX, 1)).astype(np.float32)

    square = FaceAlignment.from_square(100, left=20, top=20)
    view = ArrayImage(image=np.zeros((140, 140, 3), np.uint8))
    swapper = FaceSwapper(
        model=replace(green_model(), coverage=0.4, center=(0.6, 0.5)),
        compositor=Compositor(),
        occlusion=Left({}),
    )
    landmarks = np.random.default_rng(0).uniform(40, 90, (478, 2)).astype(np.float32)
    task = FaceTask(identity="bo", track=0, landmarks=landmarks, alignment=square)
    mask = swapper.prepare(view, task).occlusion_mask
    assert mask is not None
    # The model's square is 0.4 to 0.8 across: its first quarter is left of the middle.
    assert (mask[:, :30] == 1).all()
    assert (mask[:, 34:] == 0).all()


# --- sets ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a set of one person: four plain images, and one with a hand."""
    folder = tmp_path_factory.mktemp("covered")
    for number, hand in enumerate([None, None, None, None, (0.0, 0.0)]):
        head = synthetic.HeadModel.from_person(synthetic.CAST["ada"])
        scene = synthetic.SceneParams(hand=hand, yaw=3.0 * number, noise=0.5)
        image = synthetic.render_frame(head, scene, 256).image
        image_io.write_png(folder / "shots" / f"{number:02d}.png", image)
    space = Workspace.open(folder / "workspace")
    settings = ExtractSettings(size_px=160)
    extract(folder / "shots", folder=space.set_folder("ada"), settings=settings, report=Reporter())
    return space


def test_extraction_records_what_is_covered(extracted: Workspace) -> None:
    """The part that a hand hides is in the record, and `faces` lists such faces."""
    [*plain, covered] = FaceSet.from_folder(extracted.set_folder("ada")).records
    assert max(record.covered for record in plain) < 0.12  # hair
    assert 0.2 < covered.covered < 0.95
    assert FaceRecord.from_json(covered.to_json()).covered == round(covered.covered, 3)
    assert "covered" not in plain[0].to_json() or plain[0].covered > 0
    [summary] = inspect_sets(["ada"], workspace=extracted, report=Reporter()).sets
    assert 1 == summary.outlier_counts["covered"]


def wear_veil(image: np.ndarray) -> np.ndarray:
    """Draw a thin veil before the lower face, which looks like a tint of skin; return its mask."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] / image.shape[0]
    veil = (rows > 0.55) & (rows < 0.95) & (abs(columns - 0.5) < 0.4)
    image[veil] = 0.65 * image[veil] + 0.35 * np.array([40, 160, 90])
    return veil


def paint_masks(space: Workspace, count: int) -> None:
    """Put a veil before all faces, and mark it on some crops."""
    folder = space.set_folder("ada")
    for number, record in enumerate(FaceSet.from_folder(folder).records):
        crop = image_io.read_image(folder.root / record.file)
        veil = wear_veil(crop)
        image_io.write_png(folder.root / record.file, crop)
        if number < count:
            mask = np.where(veil[..., None], 0, np.full_like(crop, 255))
            image_io.write_png(folder.root / MASK_FOLDER / record.file, mask)


@pytest.fixture
def marked(extracted: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the workspace, with three masks."""
    shutil.copytree(extracted.root, tmp_path / "workspace")
    space = Workspace.open(tmp_path / "workspace")
    paint_masks(space, 3)
    return space


@pytest.mark.slow
def test_painted_masks_are_learned(marked: Workspace) -> None:
    """The workspace's network says afterwards what was painted; the package's does not change."""
    before = sha256_file(shipped_weights())
    folder = marked.set_folder("ada")
    summary = train_visible_face([folder], marked, images=480, report=Reporter())
    assert 3 == summary.masks
    assert summary.after.face_iou > summary.before.face_iou
    assert summary.after.hidden_iou > summary.before.hidden_iou + 0.2
    assert before == sha256_file(shipped_weights())
    taught = VisibleFaceModel.load(folder.visible_face_weights)
    crop = image_io.read_image(folder.root / FaceSet.from_folder(folder).records[3].file)
    seen = taught.analyze(ArrayImage(image=crop), WHOLE_CROP)
    hidden = seen.find_occlusion(WHOLE_CROP, 160, WHOLE_FACE)
    assert hidden[100:120, 60:100].mean() > 0.8
    assert hidden[55:80, 60:100].mean() < 0.2
    assert taught.digest == sha256_file(marked.visible_face_weights) != before
    assert build_swapper(ConvertSettings(mask="visible"), green_model(), marked).occlusion is taught


@pytest.mark.parametrize(
    ("break_masks", "message"),
    [
        (lambda masks: shutil.rmtree(masks), "has 0 masks; at least 3 are needed"),
        (lambda masks: next(masks.iterdir()).unlink(), "has 2 masks"),
        (lambda masks: next(masks.iterdir()).rename(masks / "99.png"), "is the mask of no crop"),
        (lambda masks: (masks / "000000-0.png").rename(masks / "000000-0.jpg"), "is no PNG"),
        (
            lambda masks: image_io.write_png(
                masks / "000000-0.png", np.zeros((80, 90, 3), np.uint8)
            ),
            "has 90x80 px, and its crop 160x160",
        ),
        (lambda masks: (masks / "000000-0.png").write_bytes(b"x"), "is not an image"),
    ],
)
def test_masks_that_do_not_fit_are_told(
    marked: Workspace, break_masks: Callable[[Path], object], message: str
) -> None:
    """The error names the file and what is wrong; nothing is written."""
    break_masks(marked.set_folder("ada").root / MASK_FOLDER)
    with pytest.raises(InputError, match=message) as caught:
        train_visible_face([marked.set_folder("ada")], marked, images=8, report=Reporter())
    assert caught.value.hint
    assert not marked.visible_face_weights.exists()


def test_damaged_weights_are_told(marked: Workspace) -> None:
    """A file that is no network is an error of the file, with what to do."""
    marked.visible_face_weights.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        build_swapper(ConvertSettings(mask="visible"), green_model(), marked)
    assert "visible-face" in caught.value.hint


def test_the_command_teaches(marked: Workspace) -> None:
    """`faceswap train --model visible-face` learns the masks of a set."""
    arguments = ["train", "--model", "visible-face", "ada", "--max-images", "16"]
    result = CliRunner().invoke(app, [*arguments, "--workspace", str(marked.root)])
    assert 0 == result.exit_code, result.output
    assert marked.visible_face_weights.exists()


# --- evaluation ----------------------------------------------------------------------------------


def test_what_was_painted_over_is_counted() -> None:
    """All of a hand that was swapped, none of one that was not; no hand has no value."""
    original = np.full((64, 64, 3), 100, np.uint8)
    zones = FaceZones.from_mask(np.pad(np.ones((40, 40), np.float32), 12))
    hand = np.zeros((64, 64), np.float32)
    hand[20:30, 20:40] = 1
    swapped = original.copy()
    swapped[25:30, 20:40] += 50
    assert 50 == painted_over(swapped, original, zones, hand)
    assert 0 == painted_over(original, original, zones, hand)
    assert math.isnan(painted_over(swapped, original, zones, 0 * hand))


def test_the_card_says_what_is_measured() -> None:
    """The card has a figure for each score."""
    text = CARD.read_text(encoding="utf-8")
    for name in ("visible face", "hidden", "edges"):
        assert re.search(rf"{name}.*\d", text)
