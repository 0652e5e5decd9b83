"""Synthetic people: exact ground truth, deterministic rendering, smooth animations."""

import os
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from faceswap_cli.synthetic import (
    CAST,
    PITCH_LIMIT,
    ROLL_LIMIT,
    YAW_LIMIT,
    HeadModel,
    Person,
    RenderedFrame,
    SceneParams,
    animate,
    parallel,
    random_person,
    random_scenes,
    render_frame,
    render_frames,
    synthesize_voice,
)
from faceswap_cli.synthetic.expression import Expression
from faceswap_cli.synthetic.geometry import SphereMap, directions, smooth_min

SIDE_PX = 96
TALKING_SCENE = SceneParams(yaw=18, pitch=-6, roll=5, jaw=0.5, smile=0.4, brow=0.3, gaze=(8, -3))


def render(
    person: Person, scene: SceneParams = TALKING_SCENE, *, size_px: int = SIDE_PX
) -> RenderedFrame:
    """Render one frame of a person."""
    return render_frame(HeadModel.from_person(person), scene, size_px)


def pixel_difference(first: RenderedFrame, second: RenderedFrame) -> npt.NDArray[np.int_]:
    """Return by how much each pixel differs, in 255ths, the largest channel."""
    return np.abs(first.image.astype(int) - second.image.astype(int)).max(axis=2)


@pytest.mark.parametrize("name", CAST)
def test_a_frame_has_the_documented_shapes_and_ranges(name: str) -> None:
    """Images are RGB bytes; masks are in [0, 1], and the face is a part of the head."""
    rendered = render(CAST[name])
    assert ((SIDE_PX, SIDE_PX, 3), np.uint8) == (rendered.image.shape, rendered.image.dtype)
    for mask in (rendered.face_mask, rendered.head_mask):
        assert ((SIDE_PX, SIDE_PX), np.float32) == (mask.shape, mask.dtype)
        assert (0.0, 1.0) == (mask.min(), mask.max())
    assert (rendered.face_mask <= rendered.head_mask).all()
    assert 0.05 < rendered.face_mask.mean() < rendered.head_mask.mean() < 0.6


def test_the_same_scene_gives_the_same_bytes() -> None:
    """Also with a head model that was built again."""
    first = render(CAST["ada"])
    second = render_frame(HeadModel.build(CAST["ada"]), TALKING_SCENE, SIDE_PX)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.face_mask.tobytes() == second.face_mask.tobytes()
    assert first.landmarks == second.landmarks


ALTERED_SCENE = SceneParams(
    yaw=10,
    pitch=2,
    roll=-2,
    blink=0.4,
    jaw=0.2,
    smile=0.9,
    brow=-0.2,
    gaze=(-8, 3),
    shift=(1, 1),
    scale=0.9,
    light=(0.8, 0.1, 1),
    key=0.8,
    ambient=0.6,
    warmth=1,
    background=2,
    noise=4,
    hand=(0, -2),
)
"""A scene that differs from TALKING_SCENE in every number."""


@pytest.mark.parametrize("field", [f.name for f in fields(SceneParams)])
def test_every_parameter_of_a_scene_changes_the_image(field: str) -> None:
    """By at least eight levels at some pixel."""
    quiet = replace(TALKING_SCENE, noise=0.0)
    changed = replace(quiet, **{field: getattr(ALTERED_SCENE, field)})
    assert pixel_difference(render(CAST["cy"], quiet), render(CAST["cy"], changed)).max() >= 8


def test_a_face_on_its_own_head_is_the_person() -> None:
    """Swapping a person with itself changes nothing."""
    for person in CAST.values():
        assert person == person.on_head_of(person)
        assert person == person.with_skin_of(person)


def test_a_swap_back_restores_the_person() -> None:
    """The face put on another's head and back again is the person."""
    ada, bo = CAST["ada"], CAST["bo"]
    assert bo == bo.on_head_of(ada).on_head_of(bo)
    assert ada.face.skin == bo.with_skin_of(ada).on_head_of(ada).face.skin


@pytest.mark.parametrize(("target", "source"), [("ada", "bo"), ("cy", "ed"), ("di", "ada")])
def test_a_true_swap_preserves_everything_but_the_face(target: str, source: str) -> None:
    """Room, clothes and the hair over the forehead are the target's, exactly or nearly so."""
    before = render(CAST[target], size_px=192)
    after = render(CAST[source].on_head_of(CAST[target]), size_px=192)
    differs = pixel_difference(before, after)
    heads = np.maximum(before.head_mask, after.head_mask)
    neck = np.zeros_like(heads, dtype=bool)
    chin_y = int(before.landmarks["chin"][1])
    neck[chin_y - 15 :, 96 - 40 : 96 + 40] = True
    around = (dilate(heads) == 0) & ~neck
    assert 0 == differs[around].max()
    faces = dilate(np.maximum(before.face_mask, after.face_mask))
    top = int(np.flatnonzero(faces.any(axis=1))[0])
    assert differs[:top].max() <= 4
    assert differs[before.face_mask > 0.9].mean() > 8


def dilate(mask: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return 1 within three pixels of a positive value in `mask`."""
    return np.asarray(cv2.dilate((mask > 0).astype(np.uint8), np.ones((7, 7), np.uint8)))


def test_all_people_have_the_same_background() -> None:
    """The background and the sensor noise of a scene do not depend on the person."""
    corners = {render(person).image[:12, :12].tobytes() for person in CAST.values()}
    assert 1 == len(corners)


def test_shut_lids_hide_the_iris() -> None:
    """With the eyes shut the gaze changes nothing; with them open it does."""
    for blink, hidden in ((1.0, True), (0.0, False)):
        left = replace(TALKING_SCENE, noise=0.0, blink=blink, gaze=(-15, 0))
        right = replace(left, gaze=(15, 0))
        moved = pixel_difference(render(CAST["ada"], left), render(CAST["ada"], right)).max()
        assert hidden == (moved <= 8)


@pytest.mark.parametrize(
    ("angle", "axis", "sign"), [("yaw", 0, 1), ("pitch", 1, 1), ("roll", 0, 1)]
)
def test_the_nose_follows_the_pose(angle: str, axis: int, sign: int) -> None:
    """Yaw + moves the nose to the right, pitch + down; roll + moves the chin to the right."""
    point = "chin" if angle == "roll" else "nose_tip"
    positions = [
        render(CAST["di"], SceneParams(**{angle: degrees})).landmarks[point][axis]
        for degrees in (-12.0, 0.0, 12.0)
    ]
    steps = np.diff(positions) * sign
    assert (steps > 1).all()


def test_landmarks_scale_with_the_image() -> None:
    """At twice the side the points are twice as far apart, with pixel centers on integers."""
    small, large = render(CAST["bo"]), render(CAST["bo"], size_px=2 * SIDE_PX)
    for name, (x, y) in small.landmarks.items():
        assert pytest.approx((2 * x + 0.5, 2 * y + 0.5), abs=0.01) == large.landmarks[name]


def test_the_jaw_moves_the_lower_lip_and_not_the_eyes() -> None:
    """Opening the mouth parts the lips by some centimeters, and moves no eye."""
    shut, wide = (render(CAST["ed"], SceneParams(jaw=jaw)).landmarks for jaw in (0.0, 1.0))
    pixel_cm = 78 / (2.2 * SIDE_PX)
    parted = (wide["lip_bottom"][1] - shut["lip_bottom"][1]) * pixel_cm
    assert 1.5 < parted < 4
    for eye in ("left_eye_outer", "right_eye_inner"):
        assert pytest.approx(shut[eye], abs=0.02) == wide[eye]


def test_to_deformed_inverts_to_canonical() -> None:
    """Up to 0.002 rad, outside the open mouth."""
    expression = Expression(scene=TALKING_SCENE, mouth=HeadModel.from_person(CAST["ada"]).mouth)
    rng = np.random.default_rng(5)
    azimuth = rng.uniform(-0.9, 0.9, 400).astype(np.float32)
    elevation = rng.uniform(-1.2, 0.8, 400).astype(np.float32)
    back_azimuth, back_elevation, opening = expression.to_canonical(
        *expression.to_deformed(azimuth, elevation)
    )
    is_outside = np.ones(azimuth.size, bool)
    is_outside[opening.index[opening.inside]] = False
    assert np.abs(back_azimuth - azimuth)[is_outside].max() < 2e-3
    assert np.abs(back_elevation - elevation)[is_outside].max() < 2e-3


def test_a_hand_covers_the_face() -> None:
    """Where a hand is, the face's mask is empty, and the image does not depend on the person."""
    scene = replace(TALKING_SCENE, hand=(0.0, -2.0))
    ada, bo = render(CAST["ada"], scene), render(CAST["bo"], scene)
    palm = (slice(64, 76), slice(48, 56))
    assert 0 == ada.face_mask[palm].max() == ada.head_mask[palm].max()
    assert ada.image[palm].tobytes() == bo.image[palm].tobytes()
    assert ada.face_mask.sum() < render(CAST["ada"]).face_mask.sum()


def test_glasses_stay_on_the_head() -> None:
    """Glasses belong to the head, so a swap preserves the target's."""
    ed = CAST["ed"]
    wearing = replace(ed, head=replace(ed.head, glasses=0.9))
    assert pixel_difference(render(ed), render(wearing)).max() > 40
    assert 0.9 == CAST["bo"].on_head_of(wearing).head.glasses


def test_an_animation_is_smooth_and_within_the_documented_range() -> None:
    """Poses change little from frame to frame and stay in the measured range."""
    animation = animate(7, seconds=20)
    scenes = animation.scenes
    assert (500, Fraction(25), 20) == (len(scenes), animation.rate, animation.seconds)
    for name, limit, step in (
        ("yaw", YAW_LIMIT, 4),
        ("pitch", PITCH_LIMIT, 2),
        ("roll", ROLL_LIMIT, 1),
    ):
        path = np.array([getattr(m, name) for m in scenes])
        assert np.abs(path).max() <= limit
        assert 0.05 < np.abs(np.diff(path)).max() <= step
        assert np.ptp(path) > limit / 2
    for name in ("blink", "jaw", "smile"):
        path = np.array([getattr(m, name) for m in scenes])
        assert (0, True) == (path.min(), path.max() <= 1)
    blinks = np.flatnonzero([m.blink == 1 for m in scenes])
    assert 40 <= np.diff(blinks).min() <= np.diff(blinks).max() <= 80


def test_animations_depend_on_their_seed_only() -> None:
    """The same seed gives the same animation; another seed another one."""
    assert animate(1, seconds=2) == animate(1, seconds=2)
    assert animate(1, seconds=2) != animate(2, seconds=2)
    assert random_scenes(1, 5) == random_scenes(1, 5)
    assert list(random_scenes(1, 5)) != list(random_scenes(2, 5))


def test_random_scenes_cover_the_documented_range() -> None:
    """Poses reach both ends of the range and do not exceed it."""
    scenes = random_scenes(3, 500)
    for name, limit in (("yaw", YAW_LIMIT), ("pitch", PITCH_LIMIT), ("roll", ROLL_LIMIT)):
        path = np.abs([getattr(m, name) for m in scenes])
        assert 0.95 * limit < path.max() <= limit


def test_random_people_depend_on_their_seed_only() -> None:
    """The same seed gives the same person; two seeds give visibly different ones."""
    assert random_person(4) == random_person(4)
    first, second = render(random_person(4)), render(random_person(5))
    assert pixel_difference(first, second)[first.face_mask > 0.9].mean() > 5


@pytest.mark.slow
def test_frames_rendered_in_parallel_are_the_same() -> None:
    """Two processes give the same bytes as one, in order."""
    scenes = random_scenes(9, 34)
    many = list(render_frames(CAST["ada"], scenes, size_px=48, processes=2))
    assert list(scenes) == [rendered.scene for rendered in many]
    for rendered in many[::11]:
        single = render(CAST["ada"], rendered.scene, size_px=48)
        assert single.image.tobytes() == rendered.image.tobytes()
        assert single.face_mask.tobytes() == rendered.face_mask.tobytes()


def test_rendering_continues_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """If workers cannot start, or die, this process renders all frames, in order."""
    scenes = random_scenes(9, 20)
    monkeypatch.setattr(parallel, "init_worker", os.abort)
    many = render_frames(CAST["ada"], scenes, size_px=24, processes=2)
    assert list(scenes) == [rendered.scene for rendered in many]


def test_a_few_frames_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting one would take longer than rendering them."""
    monkeypatch.delattr(parallel, "ProcessPoolExecutor")
    few = random_scenes(2, 5)
    assert few == [rendered.scene for rendered in render_frames(CAST["bo"], few, size_px=32)]


def test_frames_are_rendered_lazily() -> None:
    """The first frame does not need the last scene."""
    endless = (SceneParams(yaw=float(i % 30)) for i in range(10**9))
    frames = render_frames(CAST["bo"], endless, size_px=32, processes=1)
    assert [0.0, 1.0] == [next(frames).scene.yaw, next(frames).scene.yaw]


def test_equal_scenes_give_equal_images() -> None:
    """Integers and floats of the same value give the same image, including the noise."""
    whole, floating = SceneParams(yaw=10, roll=0), SceneParams(yaw=10.0, roll=-0.0)
    assert whole == floating
    assert render(CAST["bo"], whole).image.tobytes() == render(CAST["bo"], floating).image.tobytes()


@pytest.mark.parametrize("size_px", [17, 64, 97])
def test_any_size_can_be_rendered(size_px: int) -> None:
    """Sizes need not be even, nor divisible by anything."""
    rendered = render(CAST["ed"], size_px=size_px)
    assert (size_px, size_px, 3) == rendered.image.shape
    assert 0.1 < rendered.face_mask.mean() < 0.3


def test_a_head_outside_the_frame_has_empty_masks() -> None:
    """It is not an error."""
    outside = render(CAST["ed"], SceneParams(shift=(90, 0)))
    assert 0 == outside.head_mask.max() == outside.face_mask.max()
    assert outside.landmarks["nose_tip"][0] > SIDE_PX


def test_a_voice_is_as_long_as_its_animation_and_follows_the_jaw() -> None:
    """The sound has the animation's duration, is in range, and is louder with an open mouth."""
    animation = animate(2, seconds=4, rate=Fraction(30000, 1001))
    jaw = [scene.jaw for scene in animation.scenes]
    sound = synthesize_voice(jaw, rate=animation.rate, rate_hz=16_000)
    assert (round(animation.seconds * 16_000), 1) == sound.shape
    assert np.float32 == sound.dtype
    assert 0.05 < np.abs(sound).max() <= 0.3
    frames = np.array_split(sound[:, 0], len(animation.scenes))
    loudness = [float(np.sqrt(np.mean(frame**2))) for frame in frames]
    assert np.corrcoef(loudness, jaw)[0, 1] > 0.95


def test_a_smooth_minimum_is_bounded() -> None:
    """It is at most the minimum, and less by a quarter of its width at most."""
    first, second = np.random.default_rng(0).normal(size=(2, 500)).astype(np.float32)
    difference = np.minimum(first, second) - smooth_min(first, second, 0.8)
    assert -1e-6 < difference.min() <= difference.max() <= 0.2 + 1e-6


def test_a_sphere_map_returns_its_values() -> None:
    """Sampled at its cells, a map returns their values, also at the seam at the back."""
    azimuth, elevation = directions(64, 33)
    values = np.random.default_rng(1).normal(size=azimuth.shape).astype(np.float32)
    sampled = SphereMap(values=values).sample(azimuth.ravel(), elevation.ravel())
    assert sampled.reshape(values.shape) == pytest.approx(values, abs=2e-2)
    back = np.full(1, np.pi - 1e-4, np.float32)
    level = np.zeros(1, np.float32)
    seam = SphereMap(values=np.cos(azimuth)).sample(back, level)
    assert pytest.approx(-1, abs=5e-3) == float(seam[0])


def test_the_example_in_the_docs_runs() -> None:
    """The code in docs/guide/synthetic.md renders a person and a true swap."""
    page = Path(__file__).parents[1] / "docs/guide/synthetic.md"
    example = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(example, names)
    assert (256, 256, 3) == names["rendered"].image.shape == names["truth"].image.shape
