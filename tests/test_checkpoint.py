"""Files of a run: there and back, and damage is found and never stepped over."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from faceswap_cli.core import config
from faceswap_cli.core.errors import CheckpointError
from faceswap_cli.core.hardware import Hardware
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.stages.train import build_model
from faceswap_cli.training import checkpoint
from faceswap_cli.training.state import TrainState
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import FaceBatch, TrainProgress

NAMES = ("ada", "bo")
RECIPE = config.resolve("autoencoder", "debug", ["model.latent_dim=8", "train.batch_size=2"])
HARDWARE = Hardware(
    device=torch.device("cpu"), autocast_dtype=None, memory_format=torch.contiguous_format
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return an empty run."""
    return RunFolder(root=tmp_path / "runs" / "ada-bo")


def make_trainer(steps: int = 2, *, seed: int = 0) -> Trainer:
    """Return a trainer that has learnt from noise for some steps."""
    made = Trainer(build_model(RECIPE, NAMES, HARDWARE, seed=seed), RECIPE.train, HARDWARE)
    chance = torch.Generator().manual_seed(seed)
    for step in range(steps):
        noise = torch.rand(2, 2, 3, 32, 32, generator=chance) * 2 - 1
        batch = FaceBatch(warped=noise, target=noise, mask=torch.ones(2, 2, 1, 32, 32))
        made.step(
            batch, TrainProgress(images_seen=step * 4, max_images=None), lr_scale=1.0, images=4
        )
    return made


def save_state(run: RunFolder, made: Trainer, images_seen: int) -> None:
    """Save a trainer as it is."""
    state = TrainState(images_seen=images_seen)
    checkpoint.save_checkpoint(run, made, recipe=RECIPE, identities=NAMES, state=state)


def save_trained(path: Path, made: Trainer, *, images_seen: int = 8) -> Path:
    """Write a trainer's weights."""
    checkpoint.save_weights(path, made, recipe=RECIPE, identities=NAMES, images_seen=images_seen)
    return path


def test_a_state_there_and_back(run: RunFolder) -> None:
    """Weights, averages and moments come back bit for bit, with recipe, people and clock."""
    made = make_trainer()
    state = TrainState(images_seen=8, seconds=1.5, best_images=4)
    checkpoint.save_checkpoint(run, made, recipe=RECIPE, identities=NAMES, state=state)
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert (RECIPE, NAMES, state) == (resume.recipe, resume.identities, resume.state)
    other = make_trainer(0, seed=9)
    other.load_state_dict(resume.tensors)
    expected, found = made.state_dict(), other.state_dict()
    assert set(expected) == set(found)
    assert any(name.endswith("exp_avg_sq") for name in expected)
    assert any(name.startswith("average/") for name in expected)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_run_that_has_not_begun_has_no_state(run: RunFolder) -> None:
    """No files are no error."""
    assert checkpoint.load_checkpoint(run) is None


def test_the_last_states_are_kept(run: RunFolder) -> None:
    """Three snapshots stay, and `resume` is the last."""
    made = make_trainer(1)
    for images_seen in (4, 8, 12, 16, 20):
        save_state(run, made, images_seen)
    assert [12, 16, 20] == [int(path.stem) for path in checkpoint.list_snapshots(run)]
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert 20 == resume.state.images_seen


@pytest.mark.parametrize("part", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_torn_state_names_the_last_good_one(run: RunFolder, part: float) -> None:
    """A file cut anywhere is refused, and the hint says which file to copy over it."""
    made = make_trainer(1)
    save_state(run, made, 4)
    save_state(run, made, 8)
    data = run.resume.read_bytes()
    run.resume.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(CheckpointError, match=r"resume\.safetensors is damaged") as caught:
        checkpoint.load_checkpoint(run)
    assert f"copy {run.snapshot_path(4)} over {run.resume}" in caught.value.hint
    assert "4 images" in caught.value.hint


@pytest.mark.parametrize("place", [0.02, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.9999])
def test_one_flipped_bit_is_found(run: RunFolder, place: float) -> None:
    """Safetensors has no checksum; ours covers header and tensors."""
    save_state(run, make_trainer(1), 4)
    data = bytearray(run.resume.read_bytes())
    data[int(len(data) * place)] ^= 1
    run.resume.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"is damaged|was not written by faceswap"):
        checkpoint.load_checkpoint(run)


def test_a_flipped_bit_in_the_header_is_found(tmp_path: Path) -> None:
    """What the header says of the run is covered too."""
    path = save_trained(tmp_path / "weights.safetensors", make_trainer(0), images_seen=11111111)
    data = path.read_bytes()
    assert 1 == data.count(b"11111111")
    path.write_bytes(data.replace(b"11111111", b"11111119"))
    with pytest.raises(CheckpointError, match="its checksum does not match"):
        checkpoint.load_weights(path, HARDWARE.device)


def test_without_a_good_state_the_hint_says_so(run: RunFolder) -> None:
    """The only state is damaged: start anew under another name."""
    save_state(run, make_trainer(0), 4)
    run.snapshot_path(4).unlink()
    run.resume.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_checkpoint(run)
    assert "there is no earlier one" in caught.value.hint
    assert "--name NEW" in caught.value.hint


def test_a_missing_state_is_no_fresh_start(run: RunFolder) -> None:
    """A run with snapshots but without `resume` is not begun again behind the user's back."""
    save_state(run, make_trainer(0), 4)
    save_state(run, make_trainer(1), 8)
    run.resume.unlink()
    with pytest.raises(CheckpointError, match="is missing, but the run has begun") as caught:
        checkpoint.load_checkpoint(run)
    assert f"copy {run.snapshot_path(8)} over {run.resume}" in caught.value.hint


def test_weights_there_and_back(tmp_path: Path) -> None:
    """The averaged weights come back to float16's precision, with all that `convert` needs."""
    made = make_trainer()
    path = save_trained(tmp_path / "weights.safetensors", made)
    trained = checkpoint.load_weights(path, HARDWARE.device)
    assert (RECIPE, NAMES, 8) == (trained.recipe, trained.identities, trained.images_seen)
    assert not trained.model.training
    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with made.ema_weights() as model, torch.no_grad():
        expected = model.swap(faces, "bo").image
        found = trained.model.swap(faces, "bo").image
    assert torch.allclose(expected, found, atol=2 / 255)
    assert not torch.equal(
        made.model.state_dict()["encoder.code.1.weight"],
        made.export_weights()["encoder.code.1.weight"],
    )


def test_weights_too_large_for_half_are_stored_in_full() -> None:
    """float16 ends at 65,504: beyond, and for what is no number, nothing is rounded."""
    large = torch.tensor([1.0, 1e5])
    assert torch.float32 == checkpoint.to_fp16_if_safe(large).dtype
    assert torch.float32 == checkpoint.to_fp16_if_safe(torch.tensor([float("nan")])).dtype
    assert torch.float16 == checkpoint.to_fp16_if_safe(torch.tensor([1.0])).dtype
    assert torch.int64 == checkpoint.to_fp16_if_safe(torch.tensor([1])).dtype


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 64, b"<html>" * 50, b"\xff" * 100])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    """Any other file is one clear error."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
        checkpoint.load_weights(path, HARDWARE.device)
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors does not exist"):
        checkpoint.load_weights(tmp_path / "nothing.safetensors", HARDWARE.device)


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    """A file without our header is not guessed at."""
    from safetensors.torch import save_file

    path = tmp_path / "theirs.safetensors"
    save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"theirs\.safetensors was not written by faceswap"):
        checkpoint.load_weights(path, HARDWARE.device)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """A file of the future says: update."""
    path = tmp_path / "new.safetensors"
    checkpoint.write_safetensors(path, {"x": torch.zeros(1)}, {"format": "99"})
    with pytest.raises(CheckpointError, match="written by a newer faceswap"):
        checkpoint.read_safetensors(path)


def test_a_state_is_not_a_model(run: RunFolder) -> None:
    """Asking `convert` to read resume.safetensors says what to give instead."""
    save_state(run, make_trainer(0), 4)
    with pytest.raises(CheckpointError, match="is not a trained model") as caught:
        checkpoint.load_weights(run.resume, HARDWARE.device)
    assert "weights.safetensors of a run" in caught.value.hint


def test_a_header_can_be_read_without_the_weights(tmp_path: Path) -> None:
    """What a model is, is known without loading it."""
    path = save_trained(tmp_path / "weights.safetensors", make_trainer(0))
    told = checkpoint.read_metadata(path)
    assert (["ada", "bo"], 8, "autoencoder") == (
        told["identities"],
        told["images_seen"],
        told["recipe"]["backend"],
    )


@pytest.mark.parametrize(
    ("overrides", "names", "message"),
    [
        (
            ["model.latent_dim=16"],
            NAMES,
            r"trained with other networks \(model.latent_dim: 8 -> 16\)",
        ),
        (
            ["model.latent_dim=8"],
            ("ada", "cy"),
            r'trained on "ada" and "bo", not on "ada" and "cy"',
        ),
    ],
)
def test_another_run_is_told_apart(
    run: RunFolder, overrides: Sequence[str], names: Sequence[str], message: str
) -> None:
    """Other networks or people are refused with what differs and how to go on."""
    save_state(run, make_trainer(0), 4)
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    recipe = config.resolve("autoencoder", "debug", overrides)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.check_compatible(resume, recipe=recipe, identities=names, run=run)
    assert "start another run with --name NEW" in caught.value.hint


def test_training_settings_and_the_order_of_sets_may_change(run: RunFolder) -> None:
    """[train] is free on resume, and `b a` is the run that `a b` was."""
    save_state(run, make_trainer(0), 4)
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    recipe = replace(RECIPE, train=replace(RECIPE.train, batch_size=9))
    checkpoint.check_compatible(resume, recipe=recipe, identities=("bo", "ada"), run=run)


def test_killed_between_the_names_of_the_first_state_a_run_goes_on(run: RunFolder) -> None:
    """The first state is whole as soon as it has a name; its second name may never have come."""
    save_state(run, make_trainer(0), 4)
    run.resume.unlink()
    found = checkpoint.load_checkpoint(run)
    assert found is not None
    assert 4 == found.state.images_seen
