"""The law of the swap's core: only the face changes, and how the work is cut up changes nothing."""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from faceswap_cli.actors import CAST, Actor, draw, perform
from faceswap_cli.arrays import Image
from faceswap_cli.blend.composite import Compositor
from faceswap_cli.config import resolve
from faceswap_cli.errors import ConfigurationError
from faceswap_cli.faces.align import align
from faceswap_cli.faces.choose import Everyone, Largest, Like
from faceswap_cli.faces.detect import Face
from faceswap_cli.faces.litert import LiteRTDetector
from faceswap_cli.learning.checkpoint import TrainedModel
from faceswap_cli.learning.doors import to_images, to_tensor
from faceswap_cli.learning.hardware import find_hardware
from faceswap_cli.swap.flow import (
    REACH,
    Finished,
    Laid,
    cut_out,
    drawn,
    held_steady,
    laid_over,
)
from faceswap_cli.swap.frame import FaceSwap, FaceToSwap, Layer
from faceswap_cli.swap.network import DrawnFace, FaceNetwork
from faceswap_cli.swap.roles import NOBODY, parse_roles
from faceswap_cli.swap.survey import LEFT_ALONE, SETTLING, Found, Progress, Survey, paired, settled
from faceswap_cli.video.footage import Place
from faceswap_cli.video.reader import Frame
from faceswap_cli.views import Still
from faceswap_models import registry

SIDE_PX = 160
FRAMES = 20


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Pictures of a drawn person who moves."""
    actor = Actor.of(CAST["ada"])
    moments = perform(3, seconds=2).moments[::2]
    return [draw(actor, moment, SIDE_PX).image for moment in moments[:FRAMES]]


@pytest.fixture(scope="module")
def face(images: Sequence[Image]) -> Face:
    """The face in the first of them."""
    with LiteRTDetector() as detector:
        return detector.detect(images[0])[0]


def network(*, mask: float | None = None) -> FaceNetwork:
    """Return a network that shows everybody as squares as grey as their crop is bright."""

    def show(crops: Sequence[Image], to: str) -> list[DrawnFace]:
        learnt = None if mask is None else np.full((32, 32), mask, np.float32)
        tint = {"ada": (0, 255, 0), "bo": (0, 0, 255)}[to]
        return [
            DrawnFace(image=np.full_like(crop, tint) // 2 + crop // 2, mask=learnt)
            for crop in crops
        ]

    return FaceNetwork(people=("ada", "bo"), size_px=64, coverage=0.8, draw=show)


def swap(*, mask: float | None = None) -> FaceSwap:
    """Return a swap with that network."""
    return FaceSwap(network=network(mask=mask), compositor=Compositor())


def to_swap(face: Face, *, to: str = "bo", track: int = 0) -> FaceToSwap:
    """Return a face that is to become somebody's."""
    return FaceToSwap(to=to, track=track, landmarks=face.landmarks, alignment=align(face.landmarks))


def seen(
    images: Sequence[Image], faces: Sequence[Sequence[FaceToSwap]], *, since: int = 0
) -> Iterator[tuple[Frame, Sequence[FaceToSwap]]]:
    """Yield pictures as frames, with faces, from one on."""
    for index, (image, some) in enumerate(zip(images, faces, strict=True)):
        if index >= since:
            yield Frame(index=index, time=Fraction(index, 25), view=Still(image=image)), some


def finished(
    pairs: Iterator[tuple[Frame, Sequence[FaceToSwap]]],
    *,
    batch: int = 4,
    mask: float | None = None,
) -> list[Finished]:
    """Run the whole flow."""
    one = swap(mask=mask)
    return list(laid_over(held_steady(drawn(cut_out(pairs, one), one, batch=batch)), one))


# --- what changes, and what does not ------------------------------------------------------------


def test_frames_without_a_face_pass_through_untouched(images: Sequence[Image]) -> None:
    """Where nobody is to be swapped the very same picture comes out."""
    for image, frame in zip(images, finished(seen(images, [[]] * FRAMES)), strict=True):
        assert image is frame.image
        assert [] == frame.changed


def test_nothing_changes_outside_of_what_is_told(images: Sequence[Image], face: Face) -> None:
    """Every pixel beyond the rectangles is the source's, and these lie in the network's square."""
    for image, frame in zip(
        images, finished(seen(images, [[to_swap(face)]] * FRAMES)), strict=True
    ):
        outside = np.ones(image.shape[:2], bool)
        for left, top, right, bottom in frame.changed:
            outside[top:bottom, left:right] = False
        assert 0.2 < outside.mean() < 0.9
        np.testing.assert_array_equal(image[outside], frame.image[outside])
        assert np.any(image != frame.image)
        assert image is frame.frame.image


def test_the_size_of_the_batch_changes_nothing(images: Sequence[Image], face: Face) -> None:
    """Frames come out in order and alike, however many the network sees at a time."""
    other = to_swap(replace(face, landmarks=face.landmarks * 0.5), to="ada", track=1)
    mine = to_swap(face)
    faces = [[[mine], [], [mine, other]][index % 3] for index in range(FRAMES)]
    one_by_one = finished(seen(images, faces), batch=1)
    assert [len(some) for some in faces] == [len(frame.changed) for frame in one_by_one]
    for one, several in zip(one_by_one, finished(seen(images, faces), batch=7), strict=True):
        assert one.frame.index == several.frame.index
        np.testing.assert_array_equal(one.image, several.image)


@pytest.mark.parametrize("after", [8, 11, 16])
def test_a_flow_begun_later_comes_to_the_same_frames(
    after: int, images: Sequence[Image], face: Face
) -> None:
    """A batch and its lead drawn again are enough to go on as if nothing had happened."""
    faces = [[to_swap(face)]] * FRAMES
    whole = finished(seen(images, faces))
    begin = (after - REACH) // 4 * 4
    later = [one for one in finished(seen(images, faces, since=begin)) if one.frame.index >= after]
    assert FRAMES - after == len(later)
    for one, other in zip(whole[after:], later, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_everybody_gets_the_face_that_is_theirs(images: Sequence[Image], face: Face) -> None:
    """Two people in one frame are drawn as two others, in one batch."""
    one, two = to_swap(face), to_swap(face, to="ada", track=1)
    core = swap()
    layers = core.layers([core.target(Still(image=images[0]), some) for some in (one, two, one)])
    colours = [np.argmax(layer.drawn.mean(axis=(0, 1))) for layer in layers]
    assert [2, 1, 2] == colours


def test_a_mask_that_the_model_learned_limits_the_face(images: Sequence[Image], face: Face) -> None:
    """Where the model says there is no face, none is shown."""
    for image, frame in zip(
        images, finished(seen(images, [[to_swap(face)]] * FRAMES), mask=0.0), strict=True
    ):
        np.testing.assert_array_equal(image, frame.image)


# --- held steady ---------------------------------------------------------------------------------


def layer(value: float, *, track: int = 0) -> Layer:
    """Return a layer whose mask and colours are one number."""
    blank = np.zeros((4, 4, 3), np.uint8)
    return Layer(
        track=track,
        alignment=align(np.random.default_rng(0).normal(size=(478, 2)).astype(np.float32)),
        crop=blank,
        drawn=blank,
        mask=np.full((4, 4), value, np.float32),
        keep=None,
        colours=np.full((2, 3, 2), value),
    )


def steadied(values: Sequence[float], tracks: Sequence[int]) -> list[float]:
    """Return the colours of one layer a frame, held steady."""
    laid = (
        Laid(
            frame=Frame(index=0, time=Fraction(0), view=Still(image=np.zeros((2, 2, 3), np.uint8))),
            layers=[layer(value, track=track)],
        )
        for value, track in zip(values, tracks, strict=True)
    )
    return [float(item.layers[0].mask[0, 0]) for item in held_steady(laid)]


def test_a_flicker_is_spread_over_its_neighbours_alike() -> None:
    """Before and after count the same: nothing lags; what is constant stays."""
    values = [0.5] * 21
    values[10] = 1.0
    after = steadied(values, [0] * 21)
    np.testing.assert_allclose(after, after[::-1], atol=1e-6)
    assert 0.5 < max(after) < 0.65
    assert [0.5] * 5 == after[:5]
    np.testing.assert_allclose([0.3] * 9, steadied([0.3] * 9, [0] * 9), atol=1e-6)


def test_nothing_crosses_from_one_track_to_the_next() -> None:
    """After a cut masks and colours begin anew."""
    np.testing.assert_allclose(
        [0.2] * 6 + [0.8] * 6, steadied([0.2] * 6 + [0.8] * 6, [0] * 6 + [1] * 6), atol=1e-6
    )


def test_colours_of_a_hidden_face_say_little() -> None:
    """A frame whose mask is empty has no say in the colours of those beside it."""
    items = [layer(0.6), replace(layer(0.0), colours=np.full((2, 3, 2), 9.0)), layer(0.6)]
    blank = Frame(index=0, time=Fraction(0), view=Still(image=np.zeros((2, 2, 3), np.uint8)))
    out = list(held_steady(Laid(frame=blank, layers=[item]) for item in items))
    np.testing.assert_allclose(0.6, out[0].layers[0].colours, atol=1e-3)


# --- whose face ----------------------------------------------------------------------------------


def test_roles_are_read_as_they_are_typed(tmp_path: Path) -> None:
    """A choice, and after the last = whose face; a file's name may hold an = of its own."""
    photo = tmp_path / "a=b.jpg"
    photo.write_bytes(b"")
    typed = [f"like:{photo}=ada", f"like {photo}", "all=bo"]
    roles = [parse_roles([text], to=None, network=network())[0] for text in typed]
    assert [Like(photo=photo), Like(photo=photo), Everyone()] == [one.choice for one in roles]
    assert ["ada", "bo", "bo"] == [one.to for one in roles]
    (usual,) = parse_roles([], to="ada", network=network())
    assert (Largest(), "ada") == (usual.choice, usual.to)


@pytest.mark.parametrize(
    ("texts", "to", "message", "hint"),
    [
        (["largest=cy"], None, 'does not know "cy"', "there is: ada, bo"),
        ([], "adda", 'does not know "adda"', 'did you mean "ada"?'),
        (["smallest"], None, '"smallest"', ""),
        (["all=ada", "all=bo"], None, "cannot get two", "--face like:"),
    ],
)
def test_roles_that_make_no_sense_are_refused(
    texts: list[str], to: str | None, message: str, hint: str
) -> None:
    """An unknown person, an unknown choice, one face for two."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_roles(texts, to=to, network=network())
    assert hint in caught.value.hint


def test_the_face_put_on_is_of_somebody_else_than_is_shown() -> None:
    """Unless one is named, it is the last person whom the clip does not show."""
    assert "bo" == network().person(None)
    assert "ada" == network().person(None, shown={"bo"})
    assert "bo" == network().person(None, shown={"bo", "ada"})
    assert "bo" == network().person("bo", shown={"bo"})


def test_a_moments_doubt_does_not_show() -> None:
    """A face keeps the role that most of its neighbours in time have; a deleted one has none."""
    frames = np.arange(40)
    roles = np.zeros(40, np.int64)
    roles[[0, 1, 20]] = NOBODY
    roles[30] = LEFT_ALONE
    expected = np.where(np.arange(40) == 30, LEFT_ALONE, 0)
    np.testing.assert_array_equal(expected, settled(frames, np.zeros(40, np.int64), roles))


def test_a_change_that_lasts_is_kept_where_it_is() -> None:
    """Half a clip this way and half the other, and another track: every frame keeps its role."""
    frames, tracks = np.tile(np.arange(30), 2), np.repeat([0, 1], 30)
    order = np.argsort(frames, kind="stable")
    roles = np.concatenate([np.repeat([0, NOBODY], 15), np.repeat([NOBODY, 0], 15)])
    one = settled(frames[order], tracks[order], roles[order])
    np.testing.assert_array_equal(roles[order], one)
    assert SETTLING < 15


# --- the survey ----------------------------------------------------------------------------------


def found(value: float, *, track: int = 0, role: int = 0) -> Found:
    """Return a face of which everything is one number."""
    landmarks = np.full((478, 2), value, np.float32)
    landmarks[0] += 1
    rng = np.random.default_rng(int(value))
    return Found(
        track=track,
        role=role,
        alignment=align(rng.normal(size=(478, 2)).astype(np.float32)),
        landmarks=landmarks,
    )


def place(index: int) -> Place:
    """Return a frame's place at an uneven time."""
    return Place(index=index, time=Fraction(index, 7) + Fraction(1, 1001))


def test_what_was_found_is_read_back_in_order(tmp_path: Path) -> None:
    """Faces come back to the bit, frame by frame; those of nobody stay out."""
    survey = Survey(folder=tmp_path, key="k")
    with survey.going_on(Progress()) as writer:
        writer.write(place(3), [found(1), found(2, track=1, role=1)])
        writer.write(place(4), [])
        writer.write(place(5), [found(3), found(4, track=2, role=NOBODY)])
        writer.save(None, is_finished=True)
    told = list(survey.faces(["ada", "bo"]))
    assert [3, 5] == [number for number, _ in told]
    assert [["ada", "bo"], ["ada"]] == [[face.to for face in faces] for _, faces in told]
    np.testing.assert_array_equal(found(2).landmarks, told[0][1][1].landmarks)
    np.testing.assert_array_equal(found(2).alignment.to_unit, told[0][1][1].alignment.to_unit)
    assert frozenset({3, 5}) == survey.swapped()
    assert place(3) == survey.before(5)
    assert None is survey.before(3)
    frames = [
        Frame(index=i, time=place(i).time, view=Still(image=np.zeros((1, 1, 3), np.uint8)))
        for i in range(7)
    ]
    counts = [len(faces) for _, faces in paired(frames, survey.faces(["ada", "bo"]))]
    assert [0, 0, 0, 2, 0, 1, 0] == counts


def test_what_is_asked_of_a_long_survey_takes_little_memory(tmp_path: Path) -> None:
    """Of 2,000 faces, 8 MB on the disk, less than a quarter is ever held."""
    survey, one = Survey(folder=tmp_path, key="k"), found(1)
    with survey.going_on(Progress()) as writer:
        for index in range(2000):
            writer.write(place(index), [one])
        writer.save(None, is_finished=True)

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        told = (len(survey.swapped()), len(survey.boxes()), survey.tracks(), survey.missing(1))
        assert 2000 == sum(len(faces) for _, faces in survey.faces(["ada"]))
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert (2000, 2000, [0], []) == told
    assert peak < (tmp_path / "faces.bin").stat().st_size / 4


def test_a_survey_that_was_torn_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """What was written after the last save is cut off and done again."""

    def write(folder: Path, *, tear: bool) -> bytes:
        survey = Survey(folder=folder, key="k")
        with survey.going_on(Progress()) as writer:
            writer.write(place(0), [found(1)])
            writer.save(place(0), memory={"x": 1})
            writer.write(place(1), [found(2)])
        if tear:
            path = folder / "faces.bin"
            path.write_bytes(path.read_bytes()[:-17])
            begun = survey.progress()
            assert (1, place(0), {"x": 1}) == (begun.frames, begun.place, begun.memory)
            with survey.going_on(begun) as writer:
                writer.write(place(1), [found(2)])
        return (folder / "faces.bin").read_bytes()

    assert write(tmp_path / "one", tear=False) == write(tmp_path / "two", tear=True)


def test_a_survey_of_something_else_counts_for_nothing(tmp_path: Path) -> None:
    """Another key, lost rows or a damaged note: it begins anew."""
    survey = Survey(folder=tmp_path, key="k")
    with survey.going_on(Progress()) as writer:
        writer.write(place(0), [found(1)])
        writer.save(place(0))
    assert 1 == survey.progress().frames
    assert Progress() == replace(survey, key="other").progress()
    (tmp_path / "faces.bin").write_bytes(b"")
    assert Progress() == survey.progress()
    (tmp_path / "faces.json").write_text("{")
    assert Progress() == survey.progress()


# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", registry.names())
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_every_backend_runs_in_every_precision(backend: str, autocast: torch.dtype | None) -> None:
    """Lower precision changes a face by a few levels at most, whatever the networks are."""
    recipe = resolve(backend, "debug", [])
    torch.manual_seed(0)
    people = ("ada", "bo")
    model = registry.load(backend)(recipe.model, recipe.train, people).eval()
    hardware = replace(find_hardware("cpu"), autocast=autocast)
    side = recipe.model.size_px
    crops = list(np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = to_images(model.swap(to_tensor(crops), "bo").image)
    trained = TrainedModel(model=model, recipe=recipe, identities=people, images_seen=0)
    for image, face in zip(
        expected, FaceNetwork.of(trained, hardware).draw(crops, "bo"), strict=True
    ):
        np.testing.assert_allclose(image, face.image, atol=4 if autocast else 0)
