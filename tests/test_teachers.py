"""The comparison of synthetic people as teachers: rows differ in what their names say."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import teachers

from faceswap_cli import heads, synthetic
from faceswap_cli.cli.console import Terminal
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, FaceDetector
from faceswap_cli.pretraining.pairs import Group, PairSettings
from faceswap_models.base import ModelSettings, SwapOutput

COUNT = 40


def _coefficient(scene: heads.HeadScene, name: str) -> float:
    return scene.blendshapes[BLENDSHAPE_NAMES.index(name)]


def test_expressions_of_ellipsoids_are_all_that_changes() -> None:
    """Jaw, smile, lids, brows and gaze are the ellipsoids'; pose, light and camera stay."""
    changed = teachers.with_wide_expressions(5, COUNT)
    original = heads.random_head_scenes(5, COUNT)
    params = synthetic.random_scenes(5, COUNT)
    for scene, before, wanted in zip(changed, original, params, strict=True):
        assert replace(scene, blendshapes=before.blendshapes, gaze=before.gaze) == before
        assert _coefficient(scene, "jawOpen") == wanted.jaw
        assert _coefficient(scene, "mouthSmileLeft") == wanted.smile
        assert _coefficient(scene, "eyeBlinkRight") == wanted.blink
        assert (_coefficient(scene, "browDownLeft") > 0) == (wanted.brow < 0)
        assert (_coefficient(scene, "browInnerUp") > 0) == (wanted.brow > 0)


def test_scenes_of_ellipsoids_have_their_poses_and_lamps() -> None:
    """Poses and lamps are the ellipsoids' as well."""
    scenes, params = teachers.in_ellipsoid_scenes(5, COUNT), synthetic.random_scenes(5, COUNT)
    for scene, wanted in zip(scenes, params, strict=True):
        assert (scene.yaw, scene.pitch, scene.roll) == (wanted.yaw, wanted.pitch, wanted.roll)
        assert [lamp.direction for lamp in scene.lamps] == [wanted.light]


def test_moments_of_a_performance_share_its_place() -> None:
    """A performance has one place and one light, and a pose for each moment."""
    scenes = teachers.from_performances(5, COUNT)
    assert len(scenes) == COUNT
    assert len({(scene.lamps, scene.background, scene.camera) for scene in scenes}) == 1
    assert len({scene.yaw for scene in scenes}) == COUNT


def test_people_without_covers_keep_the_rest() -> None:
    """Beards and glasses go; shape and hair stay."""
    people = [heads.random_head_person(seed) for seed in range(COUNT)]
    assert any(one.face.beard_cm for one in people)
    assert any(one.head.glasses for one in people)
    for one in people:
        bare = teachers.without_covers(one)
        assert (bare.face.beard_cm, bare.face.mustache_cm, bare.head.glasses) == (0, 0, 0)
        assert (bare.face.shape, bare.head.hair) == (one.face.shape, one.head.hair)


def test_validation_groups_have_the_kind_of_the_people_they_share() -> None:
    """Kinds alternate over groups; a person is of one kind in all of them."""
    drawn: list[str] = []

    def kind(name: str) -> teachers.DrawGroup:
        def draw(settings: PairSettings, group: int, detector: FaceDetector) -> Group:
            drawn.append(name)
            return np.zeros(settings.group_shape, np.uint8)

        return draw

    draw, settings = teachers.draw_by_turns(kind("a"), kind("b")), teachers.SETTINGS
    for group in settings.group_numbers:
        draw(settings, group, None)  # type: ignore[arg-type]  # not used
    training, validation = drawn[: settings.groups], drawn[settings.groups :]
    assert training.count("a") == training.count("b")
    assert validation == training[: settings.validation_groups]


def test_rows_have_equally_many_training_crops() -> None:
    """A row is not better for having more to learn from."""
    sizes = {
        row.settings.groups * row.settings.people * row.settings.moments
        for row in teachers.ROWS.values()
    }
    assert len(sizes) == 1


def test_groups_in_the_folder_are_not_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was interrupted draws only what is missing."""
    drawn: list[int] = []

    def draw(settings: PairSettings, group: int, detector: FaceDetector) -> Group:
        drawn.append(group)
        return np.full(settings.group_shape, len(drawn), np.uint8)

    settings = PairSettings(groups=2, validation_groups=1, people=2, moments=1, side_px=16)
    monkeypatch.setitem(teachers.ROWS, "mesh", teachers.Row(draw=draw, settings=settings))
    monkeypatch.setattr(teachers, "LOCATION_DETECTORS", {"litert": nullcontext})
    first = teachers.draw("mesh", tmp_path, Terminal())
    (tmp_path / "mesh" / "000001.npy").unlink()
    again = teachers.draw("mesh", tmp_path, Terminal())
    assert drawn == [*settings.group_numbers, 1]
    assert [group[0, 0, 0, 0, 0] for group in first.groups] == [1, 2, 3]
    assert [group[0, 0, 0, 0, 0] for group in again.groups] == [1, 4, 3]


class _Brighter:
    """A base that draws every face white."""

    model_settings = ModelSettings(size_px=32, coverage=0.5)

    def swap(self, faces: torch.Tensor, identity: str) -> SwapOutput:
        """Return white images."""
        return SwapOutput(image=torch.ones_like(faces), mask=None)


def test_the_mean_person_is_drawn_in_the_middle_of_the_crop() -> None:
    """What the network sees is replaced by what it draws; around it the crop stays."""
    crop = np.zeros((40, 40, 3), np.uint8)
    drawn = teachers.draw_mean_person(_Brighter(), crop)  # type: ignore[arg-type]
    assert (drawn[10:30, 10:30] == 255).all()
    assert drawn.sum() == 20 * 20 * 3 * 255
    assert not crop.any()


def test_a_mean_person_that_never_moves_follows_nobody() -> None:
    """Correlations are 1, -1, and 0 where one of both stays the same."""
    moves = np.arange(5.0)
    assert teachers._correlation(np.stack([moves, 3 + 2 * moves], 1)) == pytest.approx(1)
    assert teachers._correlation(np.stack([moves, -moves], 1)) == pytest.approx(-1)
    assert teachers._correlation(np.stack([moves, np.ones(5)], 1)) == 0
