"""Conversion: only the face changes, and batches and interruptions change nothing."""

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.conversion.assignment import UNASSIGNED, parse_assignments, select_identity
from faceswap_cli.conversion.face_index import (
    EXCLUDED,
    VOTE_RADIUS,
    FaceIndex,
    IndexedFace,
    IndexProgress,
    join_faces,
    smooth_assignments,
)
from faceswap_cli.conversion.model import FaceModel, SwappedFace
from faceswap_cli.conversion.pipeline import (
    TEMPORAL_RADIUS,
    LayeredFrame,
    OutputFrame,
    composite_faces,
    crop_faces,
    run_model,
    smooth_over_time,
)
from faceswap_cli.conversion.swapper import FaceLayer, FaceSwapper, FaceTask
from faceswap_cli.core.config import resolve
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.fileio import DamagedFileError
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.types import Image
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.selection import SelectAll, SelectLargest, SelectMatching
from faceswap_cli.faces.types import Face
from faceswap_cli.synthetic import CAST, HeadModel, animate, render_frame
from faceswap_cli.training.checkpoint import TrainedModel
from faceswap_cli.video.frame import Frame, FramePosition
from faceswap_models import registry
from faceswap_models.tensors import to_images, to_tensor

SIDE_PX = 160
IDENTITIES = ("ada", "bo")
FRAMES = 20


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """Images of a moving synthetic face."""
    actor = HeadModel.from_person(CAST["ada"])
    scenes = animate(3, seconds=2).scenes[::2]
    return [render_frame(actor, scene, SIDE_PX).image for scene in scenes[:FRAMES]]


@pytest.fixture(scope="module")
def face(images: Sequence[Image]) -> Face:
    """The face in the first of them."""
    with LiteRTDetector() as detector:
        return detector.detect(images[0])[0]


def fake_model(*, mask: float | None = None) -> FaceModel:
    """Return a model that tints each crop, green for ada and blue for bo."""

    def infer(crops: Sequence[Image], to: str) -> list[SwappedFace]:
        predicted = None if mask is None else np.full((32, 32), mask, np.float32)
        tint = {"ada": (0, 255, 0), "bo": (0, 0, 255)}[to]
        return [
            SwappedFace(image=np.full_like(crop, tint) // 2 + crop // 2, mask=predicted)
            for crop in crops
        ]

    return FaceModel(identities=IDENTITIES, size_px=64, coverage=0.8, infer=infer)


def make_swapper(*, mask: float | None = None) -> FaceSwapper:
    """Return a swapper with that model."""
    return FaceSwapper(model=fake_model(mask=mask), compositor=Compositor())


def make_task(face: Face, *, to: str = "bo", track: int = 0) -> FaceTask:
    """Return a face to swap to `to`."""
    return FaceTask(
        identity=to, track=track, landmarks=face.landmarks, alignment=align_face(face.landmarks)
    )


def frames_with_tasks(
    images: Sequence[Image], tasks: Sequence[Sequence[FaceTask]], *, start: int = 0
) -> Iterator[tuple[Frame, Sequence[FaceTask]]]:
    """Yield images as frames with their tasks, from index `start` on."""
    for index, (image, some) in enumerate(zip(images, tasks, strict=True)):
        if index >= start:
            yield Frame(index=index, time=Fraction(index, 25), view=ArrayImage(image=image)), some


def run_pipeline(
    pairs: Iterator[tuple[Frame, Sequence[FaceTask]]],
    *,
    batch_size: int = 4,
    mask: float | None = None,
) -> list[OutputFrame]:
    """Run the whole pipeline."""
    one = make_swapper(mask=mask)
    return list(
        composite_faces(
            smooth_over_time(run_model(crop_faces(pairs, one), one, batch_size=batch_size)), one
        )
    )


# --- what changes, and what does not ------------------------------------------------------------


def test_frames_without_a_face_pass_through_untouched(images: Sequence[Image]) -> None:
    """Without a face to swap, the image itself comes out."""
    for image, frame in zip(
        images, run_pipeline(frames_with_tasks(images, [[]] * FRAMES)), strict=True
    ):
        assert image is frame.image
        assert [] == frame.changed_areas


def test_nothing_changes_outside_the_changed_areas(images: Sequence[Image], face: Face) -> None:
    """Every pixel outside the changed areas is the source's; they are about the face's size."""
    for image, frame in zip(
        images, run_pipeline(frames_with_tasks(images, [[make_task(face)]] * FRAMES)), strict=True
    ):
        outside = np.ones(image.shape[:2], bool)
        for left, top, right, bottom in frame.changed_areas:
            outside[top:bottom, left:right] = False
        assert 0.2 < outside.mean() < 0.9
        np.testing.assert_array_equal(image[outside], frame.image[outside])
        assert np.any(image != frame.image)
        assert image is frame.frame.image


def test_batch_size_does_not_change_the_output(images: Sequence[Image], face: Face) -> None:
    """Frames come out in order and identical for any batch size."""
    other = make_task(replace(face, landmarks=face.landmarks * 0.5), to="ada", track=1)
    mine = make_task(face)
    faces = [[[mine], [], [mine, other]][index % 3] for index in range(FRAMES)]
    one_by_one = run_pipeline(frames_with_tasks(images, faces), batch_size=1)
    assert [len(some) for some in faces] == [len(frame.changed_areas) for frame in one_by_one]
    for one, several in zip(
        one_by_one, run_pipeline(frames_with_tasks(images, faces), batch_size=7), strict=True
    ):
        assert one.frame.index == several.frame.index
        np.testing.assert_array_equal(one.image, several.image)


@pytest.mark.parametrize("after", [8, 11, 16])
def test_a_resumed_pipeline_yields_the_same_frames(
    after: int, images: Sequence[Image], face: Face
) -> None:
    """Running one batch and the smoothing radius again is enough to resume identically."""
    faces = [[make_task(face)]] * FRAMES
    whole = run_pipeline(frames_with_tasks(images, faces))
    begin = (after - TEMPORAL_RADIUS) // 4 * 4
    later = [
        one
        for one in run_pipeline(frames_with_tasks(images, faces, start=begin))
        if one.frame.index >= after
    ]
    assert FRAMES - after == len(later)
    for one, other in zip(whole[after:], later, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


def test_each_face_gets_its_assigned_identity(images: Sequence[Image], face: Face) -> None:
    """Two faces of one frame are swapped to two identities in one batch."""
    one, two = make_task(face), make_task(face, to="ada", track=1)
    swapper = make_swapper()
    layers = swapper.run(
        [swapper.prepare(ArrayImage(image=images[0]), some) for some in (one, two, one)]
    )
    channels = [np.argmax(layer.swapped.mean(axis=(0, 1))) for layer in layers]
    assert [2, 1, 2] == channels


def test_the_predicted_mask_limits_the_face(images: Sequence[Image], face: Face) -> None:
    """Where the model predicts no face, none is visible."""
    for image, frame in zip(
        images,
        run_pipeline(frames_with_tasks(images, [[make_task(face)]] * FRAMES), mask=0.0),
        strict=True,
    ):
        np.testing.assert_array_equal(image, frame.image)


# --- smoothing -----------------------------------------------------------------------------------


def make_layer(value: float, *, track: int = 0) -> FaceLayer:
    """Return a layer with one value as its mask and statistics."""
    blank = np.zeros((4, 4, 3), np.uint8)
    return FaceLayer(
        track=track,
        alignment=align_face(np.random.default_rng(0).normal(size=(478, 2)).astype(np.float32)),
        swapped=blank,
        mask=np.full((4, 4), value, np.float32),
        protect_mask=None,
        color_statistics=np.full((2, 3, 2), value),
    )


def smoothed_values(values: Sequence[float], tracks: Sequence[int]) -> list[float]:
    """Return the smoothed masks of frames with one layer each."""
    frames = (
        LayeredFrame(
            frame=Frame(
                index=0, time=Fraction(0), view=ArrayImage(image=np.zeros((2, 2, 3), np.uint8))
            ),
            layers=[make_layer(value, track=track)],
        )
        for value, track in zip(values, tracks, strict=True)
    )
    return [float(item.layers[0].mask[0, 0]) for item in smooth_over_time(frames)]


def test_smoothing_is_symmetric_in_time() -> None:
    """Smoothing has no lag, and constant values stay."""
    values = [0.5] * 21
    values[10] = 1.0
    after = smoothed_values(values, [0] * 21)
    np.testing.assert_allclose(after, after[::-1], atol=1e-6)
    assert 0.5 < max(after) < 0.65
    assert [0.5] * 5 == after[:5]
    np.testing.assert_allclose([0.3] * 9, smoothed_values([0.3] * 9, [0] * 9), atol=1e-6)


def test_smoothing_does_not_cross_tracks() -> None:
    """Values before a cut do not affect those after it."""
    np.testing.assert_allclose(
        [0.2] * 6 + [0.8] * 6, smoothed_values([0.2] * 6 + [0.8] * 6, [0] * 6 + [1] * 6), atol=1e-6
    )


def test_colors_of_a_hidden_face_have_little_weight() -> None:
    """A frame with an empty mask does not affect the statistics of its neighbors."""
    items = [
        make_layer(0.6),
        replace(make_layer(0.0), color_statistics=np.full((2, 3, 2), 9.0)),
        make_layer(0.6),
    ]
    blank = Frame(index=0, time=Fraction(0), view=ArrayImage(image=np.zeros((2, 2, 3), np.uint8)))
    out = list(smooth_over_time(LayeredFrame(frame=blank, layers=[item]) for item in items))
    np.testing.assert_allclose(0.6, out[0].layers[0].color_statistics, atol=1e-3)


# --- assignments ---------------------------------------------------------------------------------


def test_assignments_are_parsed(tmp_path: Path) -> None:
    """A selection, and an identity after the last =; a file name may contain an = too."""
    photo = tmp_path / "a=b.jpg"
    photo.write_bytes(b"")
    specs = [f"match:{photo}=ada", f"match {photo}", f"like:{photo}=bo", "all=bo"]
    assignments = [parse_assignments([text], to=None, identities=IDENTITIES)[0] for text in specs]
    assert [*[SelectMatching(photo=photo)] * 3, SelectAll()] == [
        one.selector for one in assignments
    ]
    assert ["ada", "bo", "bo", "bo"] == [one.identity for one in assignments]
    (usual,) = parse_assignments([], to="ada", identities=IDENTITIES)
    assert (SelectLargest(), "ada") == (usual.selector, usual.identity)


@pytest.mark.parametrize(
    ("texts", "to", "message", "hint"),
    [
        (["largest=cy"], None, 'does not know "cy"', "there is: ada, bo"),
        ([], "adda", 'does not know "adda"', 'did you mean "ada"?'),
        (["smallest"], None, '"smallest"', ""),
        (["all=ada", "all=bo"], None, "cannot get two", "--face match:"),
    ],
)
def test_invalid_assignments_are_refused(
    texts: list[str], to: str | None, message: str, hint: str
) -> None:
    """An unknown identity, an unknown selection, one face for two identities."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        parse_assignments(texts, to=to, identities=IDENTITIES)
    assert hint in caught.value.hint


def test_default_identity_is_not_in_the_clip() -> None:
    """By default it is the last identity that the clip does not show."""
    assert "bo" == select_identity(None, IDENTITIES)
    assert "ada" == select_identity(None, IDENTITIES, exclude={"bo"})
    assert "bo" == select_identity(None, IDENTITIES, exclude={"bo", "ada"})
    assert "bo" == select_identity("bo", IDENTITIES, exclude={"bo"})


def test_short_misassignments_are_outvoted() -> None:
    """A face gets the assignment of most of its neighbors in time; an excluded one stays so."""
    frames = np.arange(40)
    assignments = np.zeros(40, np.int64)
    assignments[[0, 1, 20]] = UNASSIGNED
    assignments[30] = EXCLUDED
    expected = np.where(np.arange(40) == 30, EXCLUDED, 0)
    np.testing.assert_array_equal(
        expected, smooth_assignments(frames, np.zeros(40, np.int64), assignments)
    )


def test_a_lasting_change_of_assignment_is_preserved() -> None:
    """An assignment that changes in the middle of a clip, on two tracks, is not smoothed away."""
    frames, tracks = np.tile(np.arange(30), 2), np.repeat([0, 1], 30)
    order = np.argsort(frames, kind="stable")
    assignments = np.concatenate([np.repeat([0, UNASSIGNED], 15), np.repeat([UNASSIGNED, 0], 15)])
    one = smooth_assignments(frames[order], tracks[order], assignments[order])
    np.testing.assert_array_equal(assignments[order], one)
    assert VOTE_RADIUS < 15


# --- face index ----------------------------------------------------------------------------------


def indexed_face(value: float, *, track: int = 0, assignment: int = 0) -> IndexedFace:
    """Return a face made of one value."""
    landmarks = np.full((478, 2), value, np.float32)
    landmarks[0] += 1
    rng = np.random.default_rng(int(value))
    return IndexedFace(
        track=track,
        assignment=assignment,
        alignment=align_face(rng.normal(size=(478, 2)).astype(np.float32)),
        landmarks=landmarks,
    )


def frame_position(index: int) -> FramePosition:
    """Return a frame's position at an uneven time."""
    return FramePosition(index=index, time=Fraction(index, 7) + Fraction(1, 1001))


def test_face_index_round_trip(tmp_path: Path) -> None:
    """Faces are read back bit for bit, frame by frame, without unassigned ones."""
    face_index = FaceIndex(folder=tmp_path, key="k")
    with face_index.resume(IndexProgress()) as writer:
        writer.write(frame_position(3), [indexed_face(1), indexed_face(2, track=1, assignment=1)])
        writer.write(frame_position(4), [])
        writer.write(
            frame_position(5), [indexed_face(3), indexed_face(4, track=2, assignment=UNASSIGNED)]
        )
        writer.save(None, is_finished=True)
    tasks = list(face_index.iter_tasks(["ada", "bo"]))
    assert [3, 5] == [number for number, _ in tasks]
    assert [["ada", "bo"], ["ada"]] == [[face.identity for face in faces] for _, faces in tasks]
    np.testing.assert_array_equal(indexed_face(2).landmarks, tasks[0][1][1].landmarks)
    np.testing.assert_array_equal(
        indexed_face(2).alignment.to_unit, tasks[0][1][1].alignment.to_unit
    )
    assert frozenset({3, 5}) == face_index.frames_to_swap()
    assert frame_position(3) == face_index.position_before(5)
    assert None is face_index.position_before(3)
    frames = [
        Frame(
            index=i,
            time=frame_position(i).time,
            view=ArrayImage(image=np.zeros((1, 1, 3), np.uint8)),
        )
        for i in range(7)
    ]
    counts = [len(faces) for _, faces in join_faces(frames, face_index.iter_tasks(["ada", "bo"]))]
    assert [0, 0, 0, 2, 0, 1, 0] == counts


def test_reading_a_long_face_index_takes_little_memory(tmp_path: Path) -> None:
    """Of 2,000 faces, 8 MB on disk, less than a quarter is in memory at once."""
    face_index, one = FaceIndex(folder=tmp_path, key="k"), indexed_face(1)
    with face_index.resume(IndexProgress()) as writer:
        for index in range(2000):
            writer.write(frame_position(index), [one])
        writer.save(None, is_finished=True)

    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        sizes = (
            len(face_index.frames_to_swap()),
            len(face_index.boxes()),
            face_index.tracks(),
        )
        assert 2000 == sum(len(faces) for _, faces in face_index.iter_tasks(["ada"]))
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert (2000, 2000, [0]) == sizes
    assert peak < (tmp_path / "faces.bin").stat().st_size / 4


def test_a_truncated_face_index_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """Rows after the last save are cut off and written again."""

    def write(folder: Path, *, tear: bool) -> bytes:
        face_index = FaceIndex(folder=folder, key="k")
        with face_index.resume(IndexProgress()) as writer:
            writer.write(frame_position(0), [indexed_face(1)])
            writer.save(frame_position(0), state={"x": 1})
            writer.write(frame_position(1), [indexed_face(2)])
        if tear:
            path = folder / "faces.bin"
            path.write_bytes(path.read_bytes()[:-17])
            progress = face_index.read_progress()
            assert (1, frame_position(0), {"x": 1}) == (
                progress.frames,
                progress.position,
                progress.state,
            )
            with face_index.resume(progress) as writer:
                writer.write(frame_position(1), [indexed_face(2)])
        return (folder / "faces.bin").read_bytes()

    assert write(tmp_path / "one", tear=False) == write(tmp_path / "two", tear=True)


def test_a_face_index_of_another_clip_or_damaged_is_not_used(tmp_path: Path) -> None:
    """With another key, progress is empty; lost rows or a damaged state file are an error."""
    face_index = FaceIndex(folder=tmp_path, key="k")
    with face_index.resume(IndexProgress()) as writer:
        writer.write(frame_position(0), [indexed_face(1)])
        writer.save(frame_position(0))
    assert 1 == face_index.read_progress().frames
    assert IndexProgress() == replace(face_index, key="other").read_progress()
    (tmp_path / "faces.bin").write_bytes(b"")
    with pytest.raises(DamagedFileError, match=r"faces\.bin is damaged"):
        face_index.read_progress()
    (tmp_path / "faces.json").write_text("{")
    with pytest.raises(DamagedFileError, match=r"faces\.json is damaged"):
        face_index.read_progress()


def test_a_new_face_index_drops_the_state_of_an_older_one(tmp_path: Path) -> None:
    """Rows of a set, written into the folder of a finished index, are never taken for its own."""
    own = FaceIndex(folder=tmp_path, key="own")
    with own.resume(IndexProgress()) as writer:
        writer.write(frame_position(0), [indexed_face(1)])
        writer.save(None, is_finished=True)
    with FaceIndex(folder=tmp_path, key="").resume(IndexProgress()) as writer:
        writer.write(frame_position(0), [indexed_face(2)])
    assert IndexProgress() == own.read_progress()


# --- model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", registry.names())
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_every_backend_runs_in_every_precision(backend: str, autocast: torch.dtype | None) -> None:
    """Lower precision changes a face by a few levels at most, with every backend."""
    recipe = resolve(backend, "debug", [])
    torch.manual_seed(0)
    identities = ("ada", "bo")
    model = registry.load(backend)(recipe.model, recipe.train, identities).eval()
    hardware = replace(find_hardware("cpu"), autocast_dtype=autocast)
    side = recipe.model.size_px
    crops = list(np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    with torch.inference_mode():
        expected = to_images(model.swap(to_tensor(crops), "bo").image)
    trained = TrainedModel(model=model, recipe=recipe, identities=identities, images_seen=0)
    for image, face in zip(
        expected, FaceModel.from_trained(trained, hardware).infer(crops, "bo"), strict=True
    ):
        np.testing.assert_allclose(image, face.image, atol=4 if autocast else 0)
