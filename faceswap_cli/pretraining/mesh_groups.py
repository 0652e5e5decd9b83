"""What groups of people of a mesh show: `draw_mesh_person` and `draw_mesh_scenes`.

See docs/guide/base.md for what they teach, beside ellipsoid people.
"""

from collections.abc import Sequence
from dataclasses import replace

from faceswap_cli import heads, synthetic
from faceswap_cli.heads import HeadPerson, HeadScene
from faceswap_cli.heads.random_scenes import both_sides
from faceswap_cli.pretraining.pairs import PairSettings, derive_pair_seed


def draw_mesh_person(settings: PairSettings, number: int) -> HeadPerson:
    """Return the person of a mesh of a number."""
    return heads.random_head_person(derive_pair_seed(settings.seed, "mesh person", number))


def draw_mesh_scenes(settings: PairSettings, group: int) -> Sequence[HeadScene]:
    """Return the moments of a group of people of a mesh.

    Every other one has any of the 52 blendshapes mixed; those between have few, and strong ones, as
    ellipsoid people do: mouths that open as wide as real ones do.
    """
    seed = derive_pair_seed(settings.seed, "mesh scenes", group)
    mixed = heads.random_head_scenes(seed, settings.moments)
    strong = with_ellipsoid_expressions(mixed, seed)
    return [(mixed, strong)[index % 2][index] for index in range(settings.moments)]


def with_ellipsoid_expressions(scenes: Sequence[HeadScene], seed: int) -> Sequence[HeadScene]:
    """Return scenes with jaws, smiles, lids, brows and gazes of random ellipsoid people's.

    Each is at its least in a part of the scenes, and else anywhere up to its most.
    """
    return [
        replace(scene, blendshapes=_blendshapes_of(params), gaze=params.gaze)
        for scene, params in zip(scenes, synthetic.random_scenes(seed, len(scenes)), strict=True)
    ]


def _blendshapes_of(params: synthetic.SceneParams) -> tuple[float, ...]:
    """Return the coefficients that show on a mesh what an ellipsoid person shows."""
    raised, lowered = 1.4 * max(0.0, params.brow), 3 * max(0.0, -params.brow)
    shapes = both_sides(
        mouthSmile=params.smile,
        mouthUpperUp=0.3 * params.smile,
        eyeBlink=params.blink,
        browOuterUp=raised,
        browDown=lowered,
    )
    return heads.blendshapes({"jawOpen": params.jaw, "browInnerUp": raised} | shapes)
