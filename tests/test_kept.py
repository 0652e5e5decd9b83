"""What swaps keep and move, as models that read faces see it; and that they never stop training."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from faceswap_cli import weights
from faceswap_cli.arrays import Image
from faceswap_cli.errors import InputError
from faceswap_cli.faces.detect import Face
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.faces.sface import SFace
from faceswap_cli.learning import data, kept
from faceswap_cli.learning.feed import Feed, RemapFeed
from faceswap_cli.learning.kept import Eyes, Kept, KeptJudge, Pair, Reading
from faceswap_models.base import ModelSettings, SwapModel, Swapped, TrainSettings

ADA, BO = np.eye(128)[:2]


def face(*, pose: tuple[float, float, float] = (0, 0, 0), expression: float = 0.0) -> Face:
    """Return a face."""
    return Face(
        box=np.array([0, 0, 9, 9], np.float32),
        landmarks=np.zeros((478, 2), np.float32),
        score=1.0,
        expression=(expression,) * 52,
        pose=pose,
    )


class PaintedEyes(Eyes):
    """Reads a crop by its mean colours: red is ada, green is bo, blue opens the mouth."""

    def __init__(self, *, lost: Sequence[str] = ()) -> None:
        self.lost = lost

    def find(self, image: Image) -> Reading | None:
        """Read an original."""
        return None if "originals" in self.lost else self.read(image)

    def follow(self, image: Image, face: Face) -> Reading | None:
        """Read a swap."""
        return None if "swaps" in self.lost else self.read(image)

    def read(self, image: Image) -> Reading:
        """Read the colours in the middle."""
        red, green, blue = image[20:28, 20:28].mean(axis=(0, 1)) / 255
        direction = np.where(red > green, ADA, BO)
        return Reading(face=face(pose=(10 * blue, 0, 0), expression=blue), direction=direction)


class Exchange(SwapModel):
    """Shows everybody with red and green exchanged: ada becomes bo, and the mouth stays."""

    def __init__(self) -> None:
        super().__init__(ModelSettings(size_px=16), TrainSettings(), ("ada", "bo"))

    parameter_groups = train_step = None  # type: ignore[assignment]  # nothing is learnt here

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Exchange colours."""
        return Swapped(image=faces[:, [1, 0, 2]], mask=None)


class Copy(Exchange):
    """Shows everybody as they are."""

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Copy."""
        return Swapped(image=faces, mask=None)


@pytest.fixture
def feed(make_set: Callable[..., FaceSet], tmp_path: Path) -> Feed:
    """Return a feed of a reddish person and a greenish one."""
    people = [
        data.load_person(make_set(name, 24, hue=hue), cache=tmp_path / "cache", side_px=48)
        for name, hue in (("ada", 0), ("bo", 1))
    ]
    settings = ModelSettings(size_px=16)
    return RemapFeed(
        people, model=settings, train=TrainSettings(), seed=0, device=torch.device("cpu")
    )


def look(feed: Feed, model: SwapModel, eyes: Eyes) -> Kept | None:
    """Judge a model with given eyes."""
    return KeptJudge(feed, open_eyes=lambda _: eyes).look(model)


def test_a_true_swap_moves_the_person_and_keeps_the_rest(feed: Feed) -> None:
    """Who is shown changes wholly; the blue that stands for pose and mouth stays nearly."""
    found = look(feed, Exchange(), PaintedEyes())
    assert found is not None
    assert (1.0, 1.0, -1.0) == (found.found, found.identity, found.unswapped)
    assert found.expression is not None
    assert found.expression < 0.02
    assert found.pose_degrees is not None
    assert found.pose_degrees < 0.1


def test_a_copy_moves_nobody(feed: Feed) -> None:
    """What shows the input again is as far from the wanted person as the originals."""
    found = look(feed, Copy(), PaintedEyes())
    assert found is not None
    assert found.unswapped == found.identity == -1.0


def test_swaps_that_are_no_faces_are_counted(feed: Feed) -> None:
    """Where no swap is a face there is nothing to compare, and that is said."""
    found = look(feed, Exchange(), PaintedEyes(lost=["swaps"]))
    assert Kept(found=0, pose_degrees=None, expression=None, identity=None, unswapped=-1) == found
    assert "0% of swaps are faces" == str(found)


def test_differences_are_means_over_faces_found() -> None:
    """Angles go the short way round; one swap of two is a face."""
    before = Reading(face=face(pose=(0, 0, 179)), direction=ADA)
    after = Reading(face=face(pose=(6, -3, -178), expression=0.5), direction=(ADA + BO) / 2**0.5)
    pairs = [Pair(before=before, after=one, towards=BO - ADA) for one in (after, None)]
    found = kept.compared(pairs)
    assert (0.5, -1.0) == (found.found, found.unswapped)
    assert pytest.approx((4.0, 0.5, 0.0)) == (found.pose_degrees, found.expression, found.identity)
    assert "50% of swaps are faces, pose within 4.0 degrees, expression within 0.500, " in str(
        found
    )


def test_a_swap_is_put_where_it_was_cut_from(feed: Feed) -> None:
    """The cut of a crop, put back, is the crop, up to what the network's few pixels lose."""
    person = feed.people[0]
    pixels = np.dstack([person.pixels[0][..., :3], np.full((48, 48), 255, np.uint8)])
    sharp = RemapFeed(
        feed.people,
        model=ModelSettings(size_px=48, coverage=0.5),
        train=feed.train,
        seed=0,
        device=feed.device,
    )
    [cut] = kept.to_images(sharp.plain(person, np.array([0])).target[0])
    back = kept.placed(cut, pixels, mask=None, coverage=0.5)[14:34, 14:34]
    assert np.abs(back.astype(int) - pixels[14:34, 14:34, :3]).mean() < 1.5


def test_outside_the_outline_a_crop_stays(feed: Feed) -> None:
    """Only the face is replaced."""
    pixels = feed.people[0].pixels[0]
    white = kept.placed(np.full((16, 16, 3), 255, np.uint8), pixels, mask=None, coverage=0.8)
    outside, inside = pixels[..., 3] == 0, pixels[..., 3] >= data.FACE_LEVEL
    assert np.array_equal(pixels[outside, :3], white[outside])
    assert (white[inside] == 255).all()


def test_outside_the_learned_mask_a_crop_stays(feed: Feed) -> None:
    """Where the network saw no face nothing is replaced; where it saw one, as without a mask."""
    pixels = feed.people[0].pixels[0]
    swap = np.full((16, 16, 3), 255, np.uint8)
    nothing, everything = np.zeros((16, 16), np.float32), np.ones((16, 16), np.float32)
    assert np.array_equal(pixels[..., :3], kept.placed(swap, pixels, mask=nothing, coverage=0.8))
    assert np.array_equal(
        kept.placed(swap, pixels, mask=None, coverage=0.8),
        kept.placed(swap, pixels, mask=everything, coverage=0.8),
    )


def missing(held: ExitStack) -> Eyes:
    """Fail as a model file does that is nowhere to be had."""
    raise InputError("the model file sface.onnx is not on this machine")


def broken(held: ExitStack) -> Eyes:
    """Fail as no one expected."""
    raise RuntimeError("no operator")


@pytest.mark.parametrize(
    ("open_eyes", "reason"),
    [
        (missing, "the model file sface.onnx is not on this machine"),
        (broken, "the models that read faces failed: no operator"),
        (
            lambda _: PaintedEyes(lost=["originals"]),
            "no face is found in the held-out crops of ada",
        ),
    ],
)
def test_what_cannot_be_judged_has_a_reason(
    feed: Feed, open_eyes: Callable[[ExitStack], Eyes], reason: str
) -> None:
    """Nothing is raised; the reason stays, and nothing is tried again."""
    judge = KeptJudge(feed, open_eyes=open_eyes)
    assert judge.look(Exchange()) is None
    assert reason == judge.reason
    assert judge.look(Exchange()) is None


def test_directions_are_of_length_one_and_tell_pictures_apart() -> None:
    """The same face has the same direction, a different picture another."""
    sface = SFace(weights.find("sface"))
    chance = np.random.default_rng(0)
    landmarks = (chance.random((478, 2)) * 60 + 30).astype(np.float32)
    landmarks[[33, 133]], landmarks[[362, 263]] = (40, 50), (80, 50)
    landmarks[[1, 61, 291]] = (60, 70), (46, 90), (74, 90)
    one, other = chance.integers(0, 255, (2, 120, 120, 3), dtype=np.uint8)
    first = sface.direction(one, landmarks)
    assert (128,) == first.shape
    assert pytest.approx(1) == np.linalg.norm(first)
    assert np.array_equal(first, sface.direction(one, landmarks))
    assert first @ sface.direction(other, landmarks) < 0.999
