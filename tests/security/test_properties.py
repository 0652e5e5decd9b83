"""Laws of geometry, records, recipes and headers, for any values that hypothesis finds."""

import json
import struct
import tempfile
import tomllib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faceswap_cli.core import config
from faceswap_cli.core.errors import CheckpointError, ConfigurationError
from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.faces.alignment import FRAMINGS, FaceAlignment, align_face
from faceswap_cli.faces.dataset import FaceRecord
from faceswap_cli.faces.set_source import to_toml
from faceswap_cli.training import checkpoint
from faceswap_cli.training.state import TrainState
from faceswap_models import registry

law = settings(max_examples=60, deadline=None, derandomize=True, database=None)
"""The same examples in every run: a failure is one of the change, not of the day."""

numbers = st.floats(-1e4, 1e4, allow_nan=False)
sides = st.floats(2, 4_000)
angles = st.floats(-np.pi, np.pi)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
"""Anything that JSON can hold."""


@st.composite
def similarities(draw: st.DrawFn) -> npt.NDArray[np.float64]:
    """Return a similarity of the plane, (2, 3)."""
    scale, angle = 1 / draw(sides), draw(angles)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([rotation, [draw(numbers), draw(numbers)]])


@st.composite
def rects(draw: st.DrawFn) -> Rect:
    """Return a rectangle of at least one pixel."""
    left, top = draw(st.integers(-50, 50)), draw(st.integers(-50, 50))
    return Rect(left, top, left + draw(st.integers(1, 60)), top + draw(st.integers(1, 60)))


@st.composite
def records(draw: st.DrawFn) -> FaceRecord:
    """Return a record, with values of any size that it can have."""
    shape = st.lists(st.tuples(numbers, numbers), min_size=3, max_size=20)
    return FaceRecord(
        file=f"{draw(st.integers(0, 10**9)):06d}-0.png",
        frame=draw(st.integers(0, 10**12)),
        time=draw(st.fractions(-(10**9), 10**9, max_denominator=10**9)),
        alignment=FaceAlignment(to_unit=draw(similarities())),
        landmarks=np.float32(np.resize(np.float64(draw(shape)), (478, 2))),
        score=draw(st.floats(0, 1)),
        sharpness=draw(st.floats(0, 1e6)),
        pose=(draw(numbers), draw(numbers), draw(numbers)),
        blendshapes=tuple(draw(st.lists(st.floats(0, 1), min_size=52, max_size=52))),
        input_index=draw(st.integers(0, 99)),
        cut_off=draw(st.floats(0, 1)),
        track=draw(st.integers(0, 10**6)),
        outline=np.float32(draw(shape)),
        framing=draw(st.sampled_from(sorted(FRAMINGS))),
        is_interpolated=draw(st.booleans()),
    )


def apply(matrix: npt.NDArray[np.float64], points: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return points (N, 2) mapped by an affine matrix (2, 3)."""
    return points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]


@law
@given(similarities(), st.integers(1, 512))
def test_the_way_back_from_a_crop_is_the_inverse(
    to_unit: npt.NDArray[np.float64], size: int
) -> None:
    """Frame to crop and back is where it was, and the square's corners are the crop's."""
    alignment = FaceAlignment(to_unit=to_unit)
    corners = alignment.corners()
    there = apply(alignment.frame_to_crop(size), corners)
    back = apply(alignment.crop_to_frame(size), there)
    reach = alignment.side_px + np.abs(corners).max()
    assert np.abs(back - corners).max() < 1e-4 * reach
    expected = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size - 0.5
    assert np.abs(there - expected).max() < 1e-3 * size * reach / alignment.side_px


@law
@given(similarities())
def test_a_head_shrinks_to_its_face(to_unit: npt.NDArray[np.float64]) -> None:
    """The two framings are inverse, and the whole square is the central one of coverage 1."""
    alignment = FaceAlignment(to_unit=to_unit)
    for same in (alignment.expand_to_head().shrink_to_face(), alignment.center_crop(1.0)):
        np.testing.assert_allclose(same.to_unit, to_unit, rtol=1e-9, atol=1e-9)


@law
@given(similarities(), st.integers(0, 2**32 - 1))
def test_a_face_that_moves_takes_its_square_along(move: npt.NDArray[np.float64], seed: int) -> None:
    """However landmarks are turned, scaled and shifted, the same points are in the unit square."""
    landmarks = np.random.default_rng(seed).uniform(0, 300, (478, 2))
    move = np.column_stack([move[:, :2] * 100, move[:, 2] / 100])  # a face of float32's precision
    moved = apply(move, landmarks)
    before = apply(align_face(np.float32(landmarks)).to_unit, landmarks)
    after = apply(align_face(np.float32(moved)).to_unit, moved)
    assert np.abs(before - after).max() < 2e-3 * max(1.0, np.abs(before).max())


@law
@given(rects(), rects())
def test_a_rectangle_is_what_is_left_and_the_hole(area: Rect, hole: Rect) -> None:
    """The parts outside of a hole cover each pixel once, and none inside."""
    counts = np.zeros((200, 200), int)
    for part in area.subtract(hole):
        counts[part.top + 60 : part.bottom + 60, part.left + 60 : part.right + 60] += 1
    expected = np.zeros_like(counts)
    expected[area.top + 60 : area.bottom + 60, area.left + 60 : area.right + 60] = 1
    expected[hole.top + 60 : hole.bottom + 60, hole.left + 60 : hole.right + 60] = 0
    np.testing.assert_array_equal(expected, counts)


@law
@given(rects(), st.integers(1, 40), st.integers(1, 40))
def test_a_clipped_rectangle_is_inside(area: Rect, width: int, height: int) -> None:
    """Of an image of any size; one of the two ways always has a pixel."""
    for clipped in (area.clip((width, height)), area.clip_nonempty((width, height))):
        assert 0 <= clipped.left <= clipped.right <= width
        assert 0 <= clipped.top <= clipped.bottom <= height
    assert min(area.clip_nonempty((width, height)).size) >= 1


@law
@given(records())
def test_a_record_is_read_as_it_was_written(record: FaceRecord) -> None:
    """To the digits that are written; once more changes nothing."""
    line = record.to_json()
    found = FaceRecord.from_json(line)
    assert line == found.to_json()
    assert (record.file, record.frame, record.time) == (found.file, found.frame, found.time)
    np.testing.assert_array_equal(record.alignment.to_unit, found.alignment.to_unit)
    assert np.abs(record.landmarks - found.landmarks).max() <= 0.006


@pytest.mark.slow
@law
@given(json_values, st.text())
def test_a_line_that_is_no_record_is_refused(value: object, text: str) -> None:
    """Any JSON, any text, and a record with any value of any kind in place of one of its own."""
    record = json.loads(SAMPLE)
    lines = [json.dumps(value), text, *(json.dumps({**record, key: value}) for key in record)]
    for line in lines:
        try:
            found = FaceRecord.from_json(line)
        except ValueError:
            continue
        assert found.landmarks.shape == (478, 2)
        assert isinstance(found.time, Fraction)
        assert Path(found.file).name == found.file


SAMPLE = FaceRecord(
    file="000000-0.png",
    frame=0,
    time=Fraction(0),
    alignment=FaceAlignment.from_square(64),
    landmarks=np.zeros((478, 2), np.float32),
    score=1.0,
    sharpness=1.0,
    pose=(0.0, 0.0, 0.0),
    blendshapes=(0.0,) * 52,
).to_json()


@pytest.mark.slow
@law
@given(st.data())
def test_a_recipe_is_read_as_it_was_written(data: st.DataObject) -> None:
    """From a header and from its TOML, of any preset and with any valid training settings."""
    backend = data.draw(st.sampled_from(registry.names()))
    preset = data.draw(st.sampled_from(sorted(registry.presets(backend))))
    overrides = [
        f"train.learning_rate={data.draw(st.floats(0, 1, allow_nan=False))!r}",
        f"train.batch_size={data.draw(st.integers(1, 10**6))}",
        f"train.warmup_images={data.draw(st.integers(0, 10**12))}",
        f"model.coverage={data.draw(st.floats(0.1, 1))!r}",
    ]
    recipe = config.resolve(backend, preset, overrides)
    assert recipe == config.Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    table = tomllib.loads(recipe.to_toml())
    stored = recipe.to_dict()
    assert (stored["model"], stored["train"]) == (table["model"], table["train"])


@pytest.mark.slow
@law
@given(st.sampled_from(["model", "train"]), st.data(), json_values)
def test_a_recipe_with_any_value_is_used_or_refused(
    section: str, data: st.DataObject, value: object
) -> None:
    """A setting of any kind and size ends in networks that fit into memory, or in one error."""
    table = config.resolve("autoencoder", "debug").to_dict()
    key = data.draw(st.sampled_from(sorted(table[section])))
    table[section][key] = value
    try:
        recipe = config.Recipe.from_dict(table)
    except (ConfigurationError, *checkpoint.MALFORMED):
        return
    assert recipe.model.size_px <= 4096


@pytest.mark.slow
@law
@given(st.text(max_size=60))
def test_a_setting_of_any_text_is_used_or_refused(text: str) -> None:
    """What is typed after `--set` is one error, or the setting."""
    for override in (text, f"train.{text}", f"train.batch_size={text}", f"model.{text}=1"):
        with suppress(ConfigurationError):
            config.resolve("autoencoder", "debug", [override])


@law
@given(st.dictionaries(st.text(max_size=12), st.text(max_size=30)), json_values, st.binary())
def test_a_header_of_any_content_is_refused(
    header: dict[str, str], value: object, data: bytes
) -> None:
    """Ours by its checksum or not, of any JSON, or of any bytes: an error of the file."""
    text = json.dumps(value)
    ours = {"format": "2", "recipe": text, "identities": text, "images_seen": text, "state": text}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        for content in (header, {**header, "format": "2"}, ours):
            checkpoint.write_safetensors(path, {"x": torch.zeros(2)}, content)
            _refuse(path)
        path.write_bytes(data)
        _refuse(path)
        path.write_bytes(struct.pack("<Q", len(data)) + data)
        _refuse(path)


def _refuse(path: Path) -> None:
    """Read a file that is no model, in each way that there is."""
    with suppress(CheckpointError):
        checkpoint.read_metadata(path)  # it may be the header of a model with other weights
    with pytest.raises(CheckpointError, match=path.name):
        checkpoint.read_checkpoint(path)
    with pytest.raises(CheckpointError, match=path.name):
        checkpoint.load_weights(path, torch.device("cpu"))


@pytest.mark.slow
@law
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), json_values))
def test_a_state_of_any_content_is_read_or_refused(table: dict[str, object]) -> None:
    """Training settings of other versions are dropped; what is no state is a plain error."""
    try:
        state = TrainState.from_dict(table)
    except checkpoint.MALFORMED:
        return
    assert isinstance(state, TrainState)


printable = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=40)


@law
@given(printable, printable, st.integers(-(2**62), 2**62), st.floats(allow_nan=False))
def test_a_source_is_read_as_it_was_written(
    name: str, partner: str, count: int, rate: float
) -> None:
    """Names of files may have any character that can be shown."""
    source = {
        "input": {"name": name, "partner": partner, "bytes": count},
        "settings": {"fps": rate if np.isfinite(rate) else 1.0, "use": True},
    }
    assert source == tomllib.loads(to_toml(source))
