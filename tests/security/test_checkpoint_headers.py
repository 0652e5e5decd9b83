"""A trained model from a stranger is data: what it claims is refused before it takes memory."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_checkpoint import HARDWARE, NAMES, RECIPE, make_trainer

from faceswap_cli.core.errors import CheckpointError
from faceswap_cli.training import checkpoint
from faceswap_cli.training.trainer import Tensors
from faceswap_models import registry

WEIGHTS = make_trainer(0).export_weights()


def write_model(path: Path, *, tensors: Tensors | None = None, **changes: Any) -> Path:  # noqa: ANN401
    """Write a trained model with a valid checksum; `changes` replace entries of the recipe."""
    recipe = RECIPE.to_dict()
    identities = changes.pop("identities", list(NAMES))
    for name, value in changes.items():
        section, _, key = name.partition("__")
        table = recipe[section] if key else recipe
        table[key or section] = value
    header = {
        "format": "2",
        "recipe": json.dumps(recipe),
        "identities": json.dumps(identities),
        "images_seen": "8",
    }
    checkpoint.write_safetensors(path, WEIGHTS if tensors is None else tensors, header)
    return path


def load(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load a model that must be refused before any weight is read or built."""

    def allocate(*_: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(checkpoint, "read_safetensors", allocate)
    checkpoint.load_weights(path, HARDWARE.device)


def test_a_model_that_fits_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a change, the checks below pass and the weights are read."""
    path = write_model(tmp_path / "model.safetensors")
    assert checkpoint.load_weights(path, HARDWARE.device).identities == NAMES
    with pytest.raises(AssertionError, match="weights were read"):
        load(path, monkeypatch)


@pytest.mark.fault("hostile trained model")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "os.system"}, 'no backend called "os.system"'),
        ({"backend": "../../evil"}, 'no backend called "../../evil"'),
        ({"backend": None}, ""),
        ({"model__encoder_channels": [10**12, 16, 32]}, "may be 0 to 16384"),
        ({"model__encoder_channels": [16_384, 16_384, 16_384]}, ""),
        ({"model__encoder_channels": [8] * 10_000}, "10,000 values, 32 are possible"),
        ({"model__encoder_channels": "x"}, "takes a list"),
        ({"model__latent_dim": 16_384}, ""),
        ({"model__latent_dim": 10**400}, "a number that large"),
        ({"model__latent_dim": -1}, "may be 0 to"),
        ({"model__residual_blocks": 10**9}, "may be 0 to 32"),
        ({"model__bottleneck_px": 0}, "may be 1 to"),
        ({"model__size_px": 2**40}, "may be 1 to 4096"),
        ({"model__coverage": float("nan")}, "may be 0.1 to 1"),
        ({"model__discriminator_base_channels": 16_384}, ""),
        ({"model__identity_classifier_dim": 16_384}, ""),
        ({"model": []}, ""),
        ({"identities": ["a", "b", "c"]}, ""),
        ({"identities": []}, ""),
        ({"identities": "ab"}, ""),
        ({"identities": ["ada", "ada"]}, ""),
        ({"identities": ["ada", "../../bo"]}, "cannot be the name of a folder"),
        ({"identities": [f"p{number}" for number in range(10**5)]}, ""),
    ],
)
def test_an_absurd_recipe_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, Any], message: str
) -> None:
    """Backend, layer sizes and identities: one clear error, with no weight read or built."""
    path = write_model(tmp_path / "model.safetensors", **changes)
    with pytest.raises(CheckpointError, match=r"model\.safetensors") as caught:
        load(path, monkeypatch)
    assert message in caught.value.message


@pytest.mark.fault("hostile trained model")
@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {**tensors, "encoder.code.1.bias": torch.zeros(9)},
        lambda tensors: {**tensors, "encoder.code.1.bias": torch.zeros(8, dtype=torch.int64)},
        lambda tensors: {**tensors, "encoder.code.1.bias": torch.zeros(())},
        lambda tensors: {**tensors, "another": torch.zeros(8)},
        lambda tensors: dict(list(tensors.items())[1:]),
        lambda _: {},
    ],
)
def test_other_shapes_types_and_names_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Any,  # noqa: ANN401
) -> None:
    """A tensor of another shape, of whole numbers, too many or too few."""
    path = write_model(tmp_path / "model.safetensors", tensors=change(WEIGHTS))
    with pytest.raises(CheckpointError, match="is not a trained model"):
        load(path, monkeypatch)


@pytest.mark.fault("hostile trained model")
@pytest.mark.parametrize("backend", registry.names())
def test_networks_of_every_backend_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Its own model passes; with twice the channels it is refused with nothing read."""
    from faceswap_cli.core import config

    recipe = config.resolve(backend, "debug")
    model = registry.load(backend)(recipe.model, recipe.train, NAMES)
    path = tmp_path / "model.safetensors"

    def write(tensors: Tensors) -> None:
        checkpoint.save_weights(path, tensors, recipe=recipe, identities=NAMES, images_seen=8)

    weights = model.select_exported(model.state_dict())
    write(weights)
    assert checkpoint.load_weights(path, HARDWARE.device).recipe == recipe
    name, value = next((n, v) for n, v in weights.items() if v.ndim == 4)
    write({**weights, name: torch.cat([value, value])})
    with pytest.raises(CheckpointError, match="is not a trained model"):
        load(path, monkeypatch)


def write_raw(path: Path, header: bytes, *, length: int | None = None) -> Path:
    """Write a safetensors file of any header, with 64 bytes of data."""
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)
    with path.open("ab") as file:
        file.write(bytes(64))
    return path


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    """Return one tensor's entry of a safetensors header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.fault("hostile trained model")
@pytest.mark.parametrize(
    "header",
    [
        json.dumps({"x": entry([2**40], 0, 2**42)}).encode(),  # terabytes that the file lacks
        json.dumps({"x": entry([16], -64, 0)}).encode(),
        json.dumps({"x": entry([16], 0, 64), "y": entry([16], 0, 64)}).encode(),  # overlap
        json.dumps({"x": entry([2**63, 2**63], 0, 64)}).encode(),
        json.dumps({"x": entry([16], 0, 64, "OBJECT")}).encode(),
        b'{"x":' * 20_000,
        json.dumps({f"t{i}": entry([0], 0, 0) for i in range(100_000)}).encode(),
        b'{"__metadata__":{"format":"two","sha256":""},'
        b'"x":{"dtype":"F32","shape":[16],"data_offsets":[0,64]}}',
        b"\xff" * 200,
    ],
)
def test_header_bombs_are_refused(tmp_path: Path, header: bytes) -> None:
    """Sizes that the file does not have, overlaps, unknown types, depth and numbers of entries."""
    path = write_raw(tmp_path / "model.safetensors", header)
    for read in (checkpoint.read_safetensors, checkpoint.read_layout, checkpoint.read_metadata):
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            read(path)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.load_weights(path, HARDWARE.device)


@pytest.mark.fault("hostile trained model")
def test_a_header_longer_than_its_file_is_refused(tmp_path: Path) -> None:
    """Its length is the first thing in a file."""
    path = write_raw(tmp_path / "model.safetensors", b"{}", length=2**63)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read_layout(path)


@pytest.mark.fault("hostile trained model")
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.complex64, torch.int8])
def test_types_that_no_network_has_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    """Safetensors knows more types than networks have."""
    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(4).to(dtype)}, path, {"format": "2", "sha256": ""})
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read_layout(path)


@pytest.mark.fault("hostile trained model")
@pytest.mark.parametrize(
    "text", ["[" * 100_000, "null", "[]", '"x"', "{}", '{"backend": {}}', '{"backend": [1]}']
)
def test_a_recipe_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    """JSON of any form, and as deep as it likes, is an error of the file and no crash."""
    path = tmp_path / "model.safetensors"
    header = {"format": "2", "recipe": text, "identities": '["a"]', "images_seen": "1"}
    checkpoint.write_safetensors(path, WEIGHTS, {**header, "state": text})
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.load_weights(path, HARDWARE.device)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        checkpoint.read_checkpoint(path)
