"""Files of a run: they are read back as written, and damage is always detected."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch

from faceswap_cli.core import config
from faceswap_cli.core.errors import CheckpointError, InputError
from faceswap_cli.core.hardware import Hardware
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.stages.train import build_model
from faceswap_cli.training import checkpoint
from faceswap_cli.training.loader import CpuLoader
from faceswap_cli.training.state import TrainState
from faceswap_cli.training.trainer import Tensors, Trainer
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
    """Return a trainer after some steps on noise."""
    trainer = Trainer(build_model(RECIPE, NAMES, HARDWARE, seed=seed), RECIPE.train, HARDWARE)
    rng = torch.Generator().manual_seed(seed)
    for step in range(steps):
        noise = torch.rand(2, 2, 3, 32, 32, generator=rng) * 2 - 1
        batch = FaceBatch(warped=noise, target=noise, mask=torch.ones(2, 2, 1, 32, 32))
        trainer.step(
            batch, TrainProgress(images_seen=step * 4, max_images=None), lr_scale=1.0, images=4
        )
    return trainer


def save_to_run(run: RunFolder, trainer: Trainer, images_seen: int) -> None:
    """Write a checkpoint of a trainer."""
    state = TrainState(images_seen=images_seen)
    checkpoint.save_checkpoint(
        run, trainer.state_dict(), recipe=RECIPE, identities=NAMES, state=state
    )


def save_trained_weights(path: Path, trainer: Trainer, *, images_seen: int = 8) -> Path:
    """Write a trainer's weights; return their path."""
    checkpoint.save_weights(
        path, trainer.export_weights(), recipe=RECIPE, identities=NAMES, images_seen=images_seen
    )
    return path


def make_writer(run: RunFolder, trainer: Trainer) -> checkpoint.CheckpointWriter:
    """Return a writer for a trainer that trains on no faces."""
    loader = CpuLoader(
        [], model=RECIPE.model, train=RECIPE.train, seed=0, device=torch.device("cpu")
    )
    return checkpoint.CheckpointWriter(run, trainer, loader, recipe=RECIPE)


def test_a_state_is_written_as_it_was_when_it_was_saved(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on while a thread writes; what it changes meanwhile is not in the file."""
    trainer, may_write = make_trainer(), Event()
    expected = {name: value.clone() for name, value in trainer.state_dict().items()}
    exported = {name: value.clone() for name, value in trainer.export_weights().items()}
    write = checkpoint.write_safetensors

    def write_later(path: Path, tensors: Tensors, header: Mapping[str, str]) -> None:
        assert may_write.wait(60)
        write(path, tensors, header)

    monkeypatch.setattr(checkpoint, "write_safetensors", write_later)
    with make_writer(run, trainer) as files:
        files.save(TrainState(images_seen=8), is_best=True)
        with torch.no_grad():
            for value in trainer.state_dict().values():
                value.fill_(7)
        may_write.set()
    resume = checkpoint.read_checkpoint(run.resume)
    assert set(expected) == set(resume.tensors)
    assert all(torch.equal(one, resume.tensors[name]) for name, one in expected.items())
    for path in (run.weights, run.best):
        stored, _ = checkpoint.read_safetensors(path)
        assert all(torch.equal(one.half(), stored[name]) for name, one in exported.items())


def test_a_failed_write_is_reported_once_and_leaves_the_last_checkpoint(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next save, or the end, raises what the thread met."""
    files = make_writer(run, make_trainer())
    files.save(TrainState(images_seen=8))
    files.wait()

    def fail(*_: object) -> None:
        raise InputError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_safetensors", fail)
        files.save(TrainState(images_seen=16))
        with pytest.raises(InputError, match="no space left"):
            files.save(TrainState(images_seen=24))
    assert 8 == checkpoint.read_checkpoint(run.resume).state.images_seen
    with files:
        files.save(TrainState(images_seen=32))
    assert 32 == checkpoint.read_checkpoint(run.resume).state.images_seen


def test_checkpoints_are_read_back_as_written(run: RunFolder) -> None:
    """Weights, averages and moments bit for bit, and recipe, identities and state."""
    trainer = make_trainer()
    state = TrainState(images_seen=8, seconds=1.5, best_images=4)
    checkpoint.save_checkpoint(
        run, trainer.state_dict(), recipe=RECIPE, identities=NAMES, state=state
    )
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert (RECIPE, NAMES, state) == (resume.recipe, resume.identities, resume.state)
    other = make_trainer(0, seed=9)
    other.load_state_dict(resume.tensors)
    expected, found = trainer.state_dict(), other.state_dict()
    assert set(expected) == set(found)
    assert any(name.endswith("exp_avg_sq") for name in expected)
    assert any(name.startswith("average/") for name in expected)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_new_run_has_no_checkpoint(run: RunFolder) -> None:
    """A folder without files is not an error."""
    assert checkpoint.load_checkpoint(run) is None


def test_the_last_checkpoints_stay(run: RunFolder) -> None:
    """Three snapshots stay, and `resume` is the last."""
    trainer = make_trainer(1)
    for images_seen in (4, 8, 12, 16, 20):
        save_to_run(run, trainer, images_seen)
    assert [12, 16, 20] == [int(path.stem) for path in checkpoint.list_snapshots(run)]
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert 20 == resume.state.images_seen


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_names_the_last_good_one(run: RunFolder, fraction: float) -> None:
    """A file truncated anywhere is refused, and the hint says which file to copy over it."""
    trainer = make_trainer(1)
    save_to_run(run, trainer, 4)
    save_to_run(run, trainer, 8)
    data = run.resume.read_bytes()
    run.resume.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(CheckpointError, match=r"resume\.safetensors is damaged") as caught:
        checkpoint.load_checkpoint(run)
    assert f"copy {run.snapshot_path(4)} over {run.resume}" in caught.value.hint
    assert "4 images" in caught.value.hint


@pytest.mark.parametrize("position", [0.02, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.9999])
def test_a_flipped_bit_is_detected(run: RunFolder, position: float) -> None:
    """Safetensors has no checksum; ours covers header and tensors."""
    save_to_run(run, make_trainer(1), 4)
    data = bytearray(run.resume.read_bytes())
    data[int(len(data) * position)] ^= 1
    run.resume.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"is damaged|was not written by faceswap"):
        checkpoint.load_checkpoint(run)


def test_a_changed_header_is_detected(tmp_path: Path) -> None:
    """The checksum covers the header too."""
    path = save_trained_weights(
        tmp_path / "weights.safetensors", make_trainer(0), images_seen=11111111
    )
    data = path.read_bytes()
    assert 1 == data.count(b"11111111")
    path.write_bytes(data.replace(b"11111111", b"11111119"))
    with pytest.raises(CheckpointError, match="its checksum does not match"):
        checkpoint.load_weights(path, HARDWARE.device)


def test_without_a_good_checkpoint_the_hint_says_so(run: RunFolder) -> None:
    """The only checkpoint is damaged: the hint is another name."""
    save_to_run(run, make_trainer(0), 4)
    run.snapshot_path(4).unlink()
    run.resume.write_bytes(b"")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_checkpoint(run)
    assert "there is no earlier one" in caught.value.hint
    assert "--name NEW" in caught.value.hint


def test_a_run_without_its_checkpoint_does_not_start_again(run: RunFolder) -> None:
    """A run with snapshots but without `resume` is an error, not a new run."""
    save_to_run(run, make_trainer(0), 4)
    save_to_run(run, make_trainer(1), 8)
    run.resume.unlink()
    with pytest.raises(CheckpointError, match="is missing, but the run has started") as caught:
        checkpoint.load_checkpoint(run)
    assert f"copy {run.snapshot_path(8)} over {run.resume}" in caught.value.hint


def test_weights_are_read_back_as_written(tmp_path: Path) -> None:
    """The averaged weights are the same to float16's precision, with all that `convert` needs."""
    trainer = make_trainer()
    path = save_trained_weights(tmp_path / "weights.safetensors", trainer)
    trained = checkpoint.load_weights(path, HARDWARE.device)
    assert (RECIPE, NAMES, 8) == (trained.recipe, trained.identities, trained.images_seen)
    assert not trained.model.training
    faces = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with trainer.ema_weights() as model, torch.no_grad():
        expected = model.swap(faces, "bo").image
        found = trained.model.swap(faces, "bo").image
    assert torch.allclose(expected, found, atol=2 / 255)
    assert not torch.equal(
        trainer.model.state_dict()["encoder.code.1.weight"],
        trainer.export_weights()["encoder.code.1.weight"],
    )


def test_weights_too_large_for_half_are_stored_in_full() -> None:
    """float16 ends at 65,504: larger values, and NaN, stay float32."""
    large = torch.tensor([1.0, 1e5])
    assert torch.float32 == checkpoint.to_fp16_if_safe(large).dtype
    assert torch.float32 == checkpoint.to_fp16_if_safe(torch.tensor([float("nan")])).dtype
    assert torch.float16 == checkpoint.to_fp16_if_safe(torch.tensor([1.0])).dtype
    assert torch.int64 == checkpoint.to_fp16_if_safe(torch.tensor([1])).dtype


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 64, b"<html>" * 50, b"\xff" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """Any other file, or a missing one, is one clear error."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.safetensors is damaged"):
        checkpoint.load_weights(path, HARDWARE.device)
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors does not exist"):
        checkpoint.load_weights(tmp_path / "nothing.safetensors", HARDWARE.device)


def test_safetensors_of_other_programs_are_refused(tmp_path: Path) -> None:
    """A file without our header is an error."""
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"other\.safetensors was not written by faceswap"):
        checkpoint.load_weights(path, HARDWARE.device)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    """The hint for a file of a newer version is to update."""
    path = tmp_path / "new.safetensors"
    checkpoint.write_safetensors(path, {"x": torch.zeros(1)}, {"format": "99"})
    with pytest.raises(CheckpointError, match="written by a newer faceswap"):
        checkpoint.read_safetensors(path)


def test_a_checkpoint_is_not_a_trained_model(run: RunFolder) -> None:
    """The error for resume.safetensors says which file to give instead."""
    save_to_run(run, make_trainer(0), 4)
    with pytest.raises(CheckpointError, match="is not a trained model") as caught:
        checkpoint.load_weights(run.resume, HARDWARE.device)
    assert "weights.safetensors of a run" in caught.value.hint


def test_metadata_are_read_without_the_weights(tmp_path: Path) -> None:
    """Identities, images seen and recipe, without loading tensors."""
    path = save_trained_weights(tmp_path / "weights.safetensors", make_trainer(0))
    metadata = checkpoint.read_metadata(path)
    assert (["ada", "bo"], 8, "autoencoder") == (
        metadata["identities"],
        metadata["images_seen"],
        metadata["recipe"]["backend"],
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
def test_other_networks_and_identities_do_not_resume_a_run(
    run: RunFolder, overrides: Sequence[str], names: Sequence[str], message: str
) -> None:
    """The error says what differs, and the hint what to do."""
    save_to_run(run, make_trainer(0), 4)
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    recipe = config.resolve("autoencoder", "debug", overrides)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.check_compatible(resume, recipe=recipe, identities=names, run=run)
    assert "start another run with --name NEW" in caught.value.hint


def test_training_settings_and_the_order_of_sets_may_change(run: RunFolder) -> None:
    """[train] may differ on resume, and `b a` is the same run as `a b`."""
    save_to_run(run, make_trainer(0), 4)
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    recipe = replace(RECIPE, train=replace(RECIPE.train, batch_size=9))
    checkpoint.check_compatible(resume, recipe=recipe, identities=("bo", "ada"), run=run)


def test_a_run_killed_before_its_first_checkpoint_was_linked_resumes(run: RunFolder) -> None:
    """The first snapshot is whole as soon as it has its name; `resume` may be missing."""
    save_to_run(run, make_trainer(0), 4)
    run.resume.unlink()
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert 4 == resume.state.images_seen
