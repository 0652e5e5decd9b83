"""Mesh heads: exact true swaps, units that move what they name, shadows, cameras, performances."""

from dataclasses import replace
from fractions import Fraction
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from faceswap_cli.faces.alignment import (
    FaceAlignment,
    align_face,
    fit_similarity,
    transform_points,
)
from faceswap_cli.faces.dataset import FaceRecord
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.heads import (
    CameraTraits,
    HeadModel,
    HeadPerson,
    HeadScene,
    Lamp,
    RenderedHead,
    blendshapes,
    head_cast,
    invent_performance,
    performance_from_records,
    random_head_person,
    random_head_scenes,
    render_head,
    render_head_frames,
)
from faceswap_cli.heads.camera import _sensor_noise, view
from faceswap_cli.heads.light import ShadowMap
from faceswap_cli.heads.mesh import ALIGNMENT_VERTICES, HEAD_CENTER_CM, SKIN, base_mesh
from faceswap_cli.heads.pose import deform, rotation, turn, with_gaze
from faceswap_cli.heads.raster import FAR_CM, is_front_facing, rasterize
from faceswap_cli.heads.shading import LABELS
from faceswap_cli.heads.shape import rest_points, shape_axes
from faceswap_cli.heads.strands.ribbons import HAIR
from faceswap_cli.synthetic.occluders import cover_crop, random_occluder

SIDE_PX = 96
QUIET = CameraTraits(noise=0, blur=0)
SCENE = HeadScene(yaw=12, camera=QUIET)


@cache
def person(seed: int) -> HeadPerson:
    """Return a random person without glasses."""
    found = random_head_person(seed)
    return replace(found, head=replace(found.head, glasses=0.0))


@cache
def model(seed: int, on: int | None = None) -> HeadModel:
    """Return a person's model, on the head of another if there is one."""
    face = person(seed)
    return HeadModel.build(face if on is None else face.on_head_of(person(on)))


def difference(first: RenderedHead, second: RenderedHead) -> npt.NDArray[np.int_]:
    """Return by how much each pixel differs, in 255ths, the largest channel."""
    return np.abs(first.image.astype(int) - second.image.astype(int)).max(axis=2)


@pytest.mark.slow
def test_an_image_has_the_documented_shapes_and_ranges() -> None:
    """Images are RGB bytes; masks are in [0, 1], and face and hair are parts of the head."""
    rendered = render_head(model(1), SCENE, SIDE_PX)
    assert ((SIDE_PX, SIDE_PX, 3), np.uint8) == (rendered.image.shape, rendered.image.dtype)
    assert LABELS == tuple(rendered.masks)
    for mask in rendered.masks.values():
        assert ((SIDE_PX, SIDE_PX), np.float32) == (mask.shape, mask.dtype)
        assert 0 <= mask.min() <= mask.max() <= 1 + 1e-5
    masks = rendered.masks
    assert (masks["face"] + masks["hair"] <= masks["head"] + 1e-4).all()
    assert (masks["eyes"] <= masks["face"] + 1e-4).all()
    assert 0.04 < masks["face"].mean() < masks["head"].mean() < 0.6
    assert 0 < masks["eyes"].mean() < 0.02


@pytest.mark.slow
def test_the_same_scene_gives_the_same_bytes() -> None:
    """Also with a model that was built again."""
    scene = random_head_scenes(4, 1)[0]
    first, second = (render_head(HeadModel.build(person(1)), scene, SIDE_PX) for _ in range(2))
    assert first.image.tobytes() == second.image.tobytes()
    assert all(np.array_equal(first.masks[name], second.masks[name]) for name in LABELS)
    assert first.landmarks == second.landmarks


def test_a_swap_back_restores_the_person() -> None:
    """The face put on another's head and back again is the person; the skin can be chosen."""
    assert person(1) == person(1).on_head_of(person(2)).on_head_of(person(1))
    swapped = person(1).with_skin_of(person(2)).on_head_of(person(2))
    assert person(2).face.skin == swapped.face.skin
    assert person(1).face.shape == swapped.face.shape


def test_a_true_swap_leaves_skull_and_shoulders() -> None:
    """Vertices outside the face are the head's owner's; its middle has the source's form."""
    source, target = rest_points(person(1)), rest_points(person(2))
    swapped = rest_points(person(1).on_head_of(person(2)))
    mesh = base_mesh()
    skin = mesh.vertices_of(SKIN)
    x, y, z = mesh.points[skin].T
    outside = skin[(z < -9) | (y < -14)]
    middle = skin[(np.abs(x) < 2) & (y > -7) & (y < 1) & (z > 1)]
    assert len(outside) > 500
    assert len(middle) > 300
    np.testing.assert_allclose(target[outside], swapped[outside], atol=1e-5)
    similarity = fit_similarity(source[middle, :2], swapped[middle, :2])
    moved = transform_points(source[middle, :2], similarity)
    np.testing.assert_allclose(moved, swapped[middle, :2], atol=1e-4)
    assert np.abs(source - target).max() > 0.3


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_true_swap_keeps_the_alignment_of_the_face(seed: int) -> None:
    """A swap moves the aligned square by less than a millimeter, and hardly scales it."""
    target, swapped = (rest_points(one) for one in (person(2), person(seed).on_head_of(person(2))))
    points = list(ALIGNMENT_VERTICES.values())
    similarity = fit_similarity(swapped[points, :2], target[points, :2])
    center = target[points, :2].mean(axis=0)
    assert np.linalg.norm(transform_points(center[None], similarity) - center) < 0.1
    assert np.hypot(*similarity[:, 0]) == pytest.approx(1, abs=0.02)


def test_a_face_can_be_moved_on_its_head() -> None:
    """Its middle moves by just that much, skull and shoulders stay."""
    moved = replace(person(1), face_shift_cm=(0.1, -0.2))
    change = rest_points(moved) - rest_points(person(1))
    x, y, z = base_mesh().points.T
    middle = (np.abs(x) < 2) & (y > -7) & (y < 1) & (z > 1)
    np.testing.assert_allclose(
        np.broadcast_to((0.1, -0.2, 0), change.shape)[middle], change[middle], atol=1e-5
    )
    assert 0 == np.abs(change[(z < -9) | (y < -14)]).max()
    assert (0.0, 0.0) == moved.on_head_of(person(2)).face_shift_cm


@pytest.mark.slow
def test_a_true_swap_changes_no_pixel_of_the_room() -> None:
    """What is neither head nor its shadow is the same."""
    before = render_head(model(2), SCENE, 128)
    after = render_head(model(1, on=2), SCENE, 128)
    room = (before.masks["head"] + after.masks["head"] == 0) & (np.indices((128, 128))[0] < 60)
    assert room.mean() > 0.2
    assert 0 == difference(before, after)[room].max()
    assert difference(before, after)[after.masks["face"] > 0.9].mean() > 4


@pytest.mark.parametrize("name", [one for one in BLENDSHAPE_NAMES if "Look" not in one])
def test_every_unit_moves_a_head(name: str) -> None:
    """By a millimeter at least, and most on the side of the face that its name says."""
    rest = base_mesh().points
    moved = deform(rest, HeadScene(blendshapes=blendshapes({name: 1.0}))) - rest
    length = np.linalg.norm(moved, axis=1)
    assert length.max() > 0.1
    if name.endswith(("Left", "Right")) and name not in (
        "mouthLeft",
        "jawLeft",
        "mouthRight",
        "jawRight",
    ):
        side = np.sign(rest[:, 0]) if name.endswith("Left") else -np.sign(rest[:, 0])
        assert (length * side).sum() > 0.2 * length.sum()


def test_the_cast_is_told_apart() -> None:
    """Of different age, both sexes, and complexions that differ; the same every time."""
    cast = head_cast()
    assert list(cast) == ["lea", "ken", "sam", "nia", "max"]
    ages = sorted(one.face.body.age for one in cast.values())
    assert min(np.diff(ages)) > 1
    assert {one.face.body.male > 0.5 for one in cast.values()} == {True, False}
    skins = [np.mean(one.face.skin) for one in cast.values()]
    assert max(skins) - min(skins) > 0.25
    assert all(one.head.glasses == 0 for one in cast.values())


@pytest.mark.slow
def test_frames_rendered_in_parallel_are_the_same() -> None:
    """Two processes give the same bytes as one, in order."""
    scenes = invent_performance(3, seconds=0.48)
    frames = list(render_head_frames(person(1), scenes, size_px=48, processes=2))
    assert len(frames) == len(scenes) == 12
    for scene, frame in list(zip(scenes, frames, strict=True))[::5]:
        rendered = render_head(model(1), scene, 48)
        np.testing.assert_array_equal(rendered.image, frame.image)
        np.testing.assert_array_equal(rendered.masks["face"], frame.face_mask)


def test_unknown_units_are_refused() -> None:
    """A misspelled name is an error, not a face at rest."""
    with pytest.raises(KeyError):
        blendshapes({"jawOpened": 1.0})


def test_lids_close_and_jaws_open() -> None:
    """A blink hides the eyeballs; an open mouth shows teeth."""
    rest = render_head(model(1), SCENE, 160).masks
    blink = blendshapes({"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0, "jawOpen": 0.7})
    closed = render_head(model(1), replace(SCENE, blendshapes=blink), 160).masks
    assert closed["eyes"].sum() < 0.35 * rest["eyes"].sum()
    assert closed["mouth"].sum() > rest["mouth"].sum() + 10


def test_gaze_turns_the_iris_and_moves_the_lids() -> None:
    """To the image's right by a gaze to the right; the gaze is written into the coefficients."""

    def darkest_column(degrees: float) -> float:
        scene = replace(SCENE, yaw=0, gaze=(degrees, 0.0), scale=2.5)
        rendered = render_head(model(1), scene, 256)
        dark = rendered.masks["eyes"] * (255 - rendered.image.mean(axis=2))
        dark = dark * (dark > np.percentile(dark[rendered.masks["eyes"] > 0.9], 70))
        return float((dark.sum(0) * np.arange(256)).sum() / dark.sum())

    assert darkest_column(25) > darkest_column(0) + 1.5 > darkest_column(-25) + 3
    c = dict(zip(BLENDSHAPE_NAMES, with_gaze(HeadScene(gaze=(15, -10))).blendshapes, strict=True))
    assert 0.5 == pytest.approx(c["eyeLookOutLeft"]) == pytest.approx(c["eyeLookInRight"])
    assert 0.4 == pytest.approx(c["eyeLookDownLeft"])
    assert 0 == c["eyeLookUpLeft"] == c["eyeLookInLeft"]


def test_lids_follow_the_gaze() -> None:
    """The edge of the upper lid rises with a gaze up by 3 mm, and falls with a gaze down by 5."""
    rest = base_mesh().points
    blink = base_mesh().units[BLENDSHAPE_NAMES.index("eyeBlinkLeft")]
    edge = np.argsort(blink[:, 1])[:12]

    def rise(gaze: str) -> float:
        moved = deform(rest, HeadScene(blendshapes=blendshapes({f"{gaze}Left": 1.0})))
        return float((moved - rest)[edge, 1].mean())

    assert rise("eyeLookUp") > 0.3
    assert rise("eyeLookDown") < -0.5


def test_a_face_at_rest_has_its_brows_below_the_forehead() -> None:
    """Brows are painted where the units of brows move the mesh: they rise with the skin."""
    from faceswap_cli.heads.skin.canvas import canvas
    from faceswap_cli.heads.skin.features import paint_brows

    x, y = canvas()
    face = replace(person(1).face, brow_rise_cm=0.0, brow_density=1.0)
    color = np.ones((3, *x.shape), np.float32)
    paint_brows(color, face, np.random.default_rng(1))
    dark = color.mean(axis=0) < 0.5
    assert dark.any()
    moved = base_mesh().units[BLENDSHAPE_NAMES.index("browOuterUpLeft")][:, 1]
    center = float(np.average(base_mesh().points[:, 1], weights=moved.clip(0)))
    assert abs(float(y[dark & (x > 0)].mean()) - center) < 0.5


def test_poses_follow_the_conventions() -> None:
    """Yaw to the image's right, pitch down, roll counter-clockwise; shoulders stay."""
    nose = np.array([[0, 0, 1]], np.float32)
    right = nose @ rotation(20, 0, 0).T
    down = nose @ rotation(0, 20, 0).T
    up = np.array([[0, 1, 0]], np.float32) @ rotation(0, 0, 20).T
    assert right[0, 0] > 0.3
    assert down[0, 1] < -0.3
    assert up[0, 0] < -0.3
    points = np.array([[0, 0, 0], [0, -25, 0]], np.float32)
    moved = turn(points, np.array([1, 0], np.float32), HeadScene(yaw=30))
    np.testing.assert_array_equal(points[1], moved[1])
    assert moved[0, 0] > 3


def test_landmarks_are_where_the_face_is() -> None:
    """The nose's tip is on the face, and eyes and mouth corners have their sides."""
    rendered = render_head(model(1), replace(SCENE, yaw=0), 128)
    points = rendered.landmarks
    x, y = points["nose_tip"]
    assert rendered.masks["face"][round(y), round(x)] > 0.9
    assert points["left_eye_outer"][0] < points["left_eye_inner"][0] < x
    assert x < points["right_eye_inner"][0] < points["right_eye_outer"][0]
    assert points["left_mouth_corner"][0] < x < points["right_mouth_corner"][0]
    assert points["left_eye_outer"][1] < y < points["lip_top"][1] < points["chin"][1]


def test_the_rasterizer_agrees_with_geometry() -> None:
    """Depth and weights of one triangle are those of rays through pixel centers."""
    corners = np.array([[-0.8, -0.8, -3], [0.8, -0.7, -3.5], [-0.1, 0.9, -2.5]], np.float32)
    fov, side = 0.65, 33
    raster = rasterize(corners, np.array([[0, 1, 2]]), size=(side, side), fov_rad=fov)
    rows, columns = np.nonzero(raster.triangle == 0)
    assert 0 < len(rows) < side * side
    step = 2 * np.tan(fov / 2) / side
    rays = np.stack(
        [(columns + 0.5 - side / 2) * step, (side / 2 - rows - 0.5) * step, -np.ones(len(rows))]
    )
    shares = np.linalg.solve(corners.T.astype(float), rays)
    depth = 1 / shares.sum(0)
    np.testing.assert_allclose(raster.depth[rows, columns], depth, atol=1e-4)
    np.testing.assert_allclose(raster.weights[rows, columns], (shares[1:] * depth).T, atol=1e-4)
    assert (raster.depth[raster.triangle < 0] > 0.999 * FAR_CM).all()
    front, back = (is_front_facing(corners, np.array([order])) for order in ([0, 1, 2], [0, 2, 1]))
    assert [True, False] == [bool(front[0]), bool(back[0])]


def test_shadows_fall_away_from_the_lamp() -> None:
    """Light from one side leaves the other in the dark; without a shadow less so."""

    def sides(shadow: bool) -> tuple[float, float]:
        lamp = Lamp(direction=(1.5, 0.2, 0.4), color=(1, 1, 1), size=0.1, shadow=shadow)
        scene = replace(SCENE, yaw=0, lamps=(lamp,), sky=(0.02,) * 3, ground=(0.02,) * 3)
        rendered = render_head(model(1), scene, SIDE_PX)
        weight = rendered.masks["face"]
        middle = round(rendered.landmarks["nose_tip"][0])
        light = rendered.image.mean(axis=2) * weight
        left = light[:, :middle].sum() / weight[:, :middle].sum()
        right = light[:, middle:].sum() / weight[:, middle:].sum()
        return float(left), float(right)

    dark, lit = sides(True)
    assert lit > 1.4 * dark
    assert sides(False)[0] > dark


def test_the_side_that_faces_a_lamp_casts_its_shadow() -> None:
    """The shadow map is nearly that of all triangles of the mesh, with fewer of them."""
    posed = model(1).pose(SCENE, view(SCENE))
    points, lamp = posed.all_points(), (0.8, 0.4, 1.0)
    center = np.array(HEAD_CENTER_CM, np.float32)
    facing = posed.shadow_triangles(lamp)
    ribbons = posed.strands.shadow_triangles + len(posed.points)
    whole = np.concatenate([base_mesh().visible_triangles, ribbons])
    nearer, all_of_it = (
        ShadowMap.create(points, triangles, direction=lamp, center=center, size=0.0).moments[..., 0]
        for triangles in (facing, whole)
    )
    assert len(facing) < 0.85 * len(whole)
    assert (np.abs(nearer - all_of_it) < 0.3).mean() > 0.98


def test_noise_depends_on_its_seed_alone() -> None:
    """Two seeds differ, one repeats itself, and images larger than the table get noise as well."""
    shape = (900, 900, 3)
    first, second, again = (_sensor_noise(seed, shape) for seed in (1, 2, 1))
    assert first.shape == shape
    np.testing.assert_array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.01
    assert 0.99 < first.std() < 1.01


@pytest.mark.parametrize(
    "change",
    [
        {"blur": 2.0},
        {"motion": (6.0, 0.0)},
        {"depth_blur": 3.0},
        {"noise": 6.0},
        {"white_balance": (1.2, 1.0, 0.8)},
        {"exposure": 0.6},
        {"contrast": 1.3},
        {"jpeg_quality": 20},
        {"interlaced": True},
        {"distance_cm": 40.0},
    ],
)
def test_every_trait_of_the_camera_changes_the_image(change: dict[str, float]) -> None:
    """By at least eight levels at some pixel."""
    plain = render_head(model(1), SCENE, SIDE_PX)
    altered = replace(SCENE, camera=replace(QUIET, **change))  # type: ignore[arg-type]
    assert difference(plain, render_head(model(1), altered, SIDE_PX)).max() >= 8


def test_people_differ_and_axes_have_two_ends() -> None:
    """No two seeds give one face; an axis moves the other way when its weight is negative."""
    people = [random_head_person(seed) for seed in range(12)]
    assert 12 == len({one.face.shape for one in people}) == len({one.face.skin for one in people})
    two_sided = [name for name, axis in shape_axes().items() if axis.negative and axis.positive]
    assert len(two_sided) > 90
    for name in ("nose/nose-scale-depth", "chin/chin-width", "mouth/mouth-scale-horiz"):
        faces = [replace(person(1).face, shape=((name, value),)) for value in (-1.0, 0.0, 1.0)]
        low, mid, high = (rest_points(replace(person(1), face=face)) for face in faces)
        assert ((high - mid) * (low - mid)).sum() < 0


def test_performances_are_smooth_and_blink() -> None:
    """Poses and coefficients move little from scene to scene; every few seconds the lids close."""
    scenes = invent_performance(3, seconds=8, rate=Fraction(25))
    assert scenes == invent_performance(3, seconds=8, rate=Fraction(25))
    assert 200 == len(scenes)
    poses = np.array([(one.yaw, one.pitch, one.roll) for one in scenes])
    values = np.array([one.blendshapes for one in scenes])
    assert np.abs(np.diff(poses, axis=0)).max() < 4
    slow = [number for number, name in enumerate(BLENDSHAPE_NAMES) if "eye" not in name]
    assert np.abs(np.diff(values[:, slow], axis=0)).max() < 0.35
    assert 0 <= values.min() <= values.max() <= 1
    assert values[:, BLENDSHAPE_NAMES.index("eyeBlinkLeft")].max() > 0.8
    assert values[:, BLENDSHAPE_NAMES.index("jawOpen")].std() > 0.03


def test_footage_gives_a_performance_without_its_resting_face() -> None:
    """Poses are the records'; what a person shows at rest is subtracted."""
    jaw = BLENDSHAPE_NAMES.index("jawOpen")
    records = []
    for number in range(20):
        values = np.full(len(BLENDSHAPE_NAMES), 0.3)
        values[jaw] = 0.2 + 0.04 * number
        records.append(
            FaceRecord(
                file=f"{number}.png",
                frame=number,
                time=Fraction(number, 25),
                alignment=FaceAlignment.from_square(64),
                landmarks=np.zeros((478, 2), np.float32),
                score=1.0,
                sharpness=1.0,
                pose=(float(number), 2.0, -3.0),
                blendshapes=tuple(values),
            )
        )
    scenes = performance_from_records(records)
    assert [float(n) for n in range(20)] == [one.yaw for one in scenes]
    assert {2.0} == {one.pitch for one in scenes}
    opened = [one.blendshapes[jaw] for one in scenes]
    assert 0 == opened[0]
    assert opened == sorted(opened)
    assert opened[-1] > 0.7
    assert all(one.blendshapes[BLENDSHAPE_NAMES.index("cheekPuff")] < 1e-6 for one in scenes)
    elsewhere = performance_from_records(records, place=HeadScene(gaze=(9, 9), background=7))
    assert {(None, 7)} == {(one.gaze, one.background) for one in elsewhere}
    assert () == performance_from_records([])


def test_random_people_are_found_and_aligned_as_faces_are() -> None:
    """Two people, three scenes each: yaw to within 12 degrees, and the square of their face."""
    from faceswap_cli.faces.detectors.litert import LiteRTDetector

    cv2.setNumThreads(1)
    with LiteRTDetector() as detector:
        for seed in (1, 2):
            for scene in random_head_scenes(seed, 3):
                rendered = render_head(model(seed), scene, 192)
                faces = detector.detect(rendered.image)
                assert 1 == len(faces)
                assert abs(faces[0].pose[0] - scene.yaw) < 12
                found = align_face(faces[0].landmarks)
                apart = np.linalg.norm(found.corners() - rendered.alignment.corners(), axis=1)
                assert apart.mean() < 0.08 * found.side_px


def test_occluders_cover_crops_of_heads() -> None:
    """What is put before a face is out of its mask, exactly, and changes nothing else."""
    rendered = render_head(model(1), SCENE, 160)
    image = rendered.alignment.crop(rendered.image, 96)
    levels = np.repeat((255 * rendered.masks["face"]).astype(np.uint8)[..., None], 3, axis=2)
    face = rendered.alignment.crop(levels, 96)[..., 0].astype(np.float32) / 255
    assert face[48, 48] == 1
    layer = random_occluder(3, 96)
    covered = cover_crop(image, face, layer, np.random.default_rng(1))
    hidden = face - covered.visible
    assert 0 <= hidden.min()
    assert hidden.sum() > 0.02 * face.sum()
    assert np.abs(covered.image.astype(int) - image)[hidden > 0.9].mean() > 5


def test_long_hair_leaves_the_face_free() -> None:
    """Without a fringe none of it comes as far to the front as eyes and cheeks."""
    hair = replace(person(1).head.hair, length_cm=26.0, fringe_cm=0.0, curl=0.2, recession=0.0)
    head = replace(person(1), head=replace(person(1).head, hair=hair))
    strands = HeadModel.build(head).strands
    y, z = strands.points[np.unique(strands.triangles[strands.kind == HAIR])].T[1:]
    low = (y < 1) & (y > -9)
    assert low.sum() > 300
    assert (low & (z > 0)).sum() < 0.002 * low.sum()


def test_teeth_meet_and_lenses_glare() -> None:
    """Teeth have darker gaps, and glasses change what is behind their lenses, not the labels."""
    smile = _open_smile()
    rendered = render_head(model(1), replace(SCENE, blendshapes=smile, scale=3.0), 256)
    teeth = rendered.masks["mouth"] > 0.99
    light = rendered.image.astype(float).mean(axis=2)
    rows = np.flatnonzero(teeth.sum(axis=1) > 20)
    assert max(light[row][teeth[row]].std() for row in rows) > 8
    plain = model(1)
    traits = replace(person(1).head, glasses=0.9)
    glasses = HeadModel.build(replace(person(1), head=traits))
    scene = replace(SCENE, sky=(3.0, 3.0, 3.0), camera=replace(QUIET, exposure=0.3))
    before, after = (render_head(one, scene, 160) for one in (plain, glasses))
    behind = (after.masks["eyes"] > 0.99) & (before.masks["eyes"] > 0.99)
    assert behind.any()
    brighter = after.image[behind].astype(int) - before.image[behind]
    assert brighter.mean() > 2


def _open_smile() -> tuple[float, ...]:
    sides = ("Left", "Right")
    return blendshapes(
        {"jawOpen": 0.4}
        | {f"{name}{s}": 0.7 for name in ("mouthSmile", "mouthUpperUp") for s in sides}
    )
