"""The train stage: files of a run, resume, signals, rollback on failures, and refused inputs."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from faceswap_cli.core import config, fileio, image_io
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import (
    CheckpointError,
    ConfigurationError,
    FaceswapError,
    InputError,
    NoFacesError,
)
from faceswap_cli.core.fileio import append_line
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.lock import run_lock
from faceswap_cli.core.progress import Number, Reporter
from faceswap_cli.core.signals import graceful_interrupt
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.provenance.consent import Consent
from faceswap_cli.stages import train as stage
from faceswap_cli.stages.train import (
    SINGLE_PROCESS,
    InitConfig,
    StopCriterion,
    TrainJob,
    TrainSummary,
    dry_run,
    resolve_recipe,
    train,
)
from faceswap_cli.training import checkpoint, estimate, health, loop, run_log
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.swap_metrics import SwapEvaluator, SwapMetrics
from faceswap_cli.training.trainer import StepOutOfMemoryError, Tensors, Trainer
from faceswap_cli.training.validation import ValidationResult, validate
from faceswap_models import registry
from faceswap_models.base import FaceBatch, SwapModel, SwapOutput, TrainProgress

pytestmark = pytest.mark.usefixtures("no_face_models")
RECIPE = config.resolve(
    "autoencoder",
    "debug",
    [
        "train.batch_size=2",
        "train.checkpoint_interval_images=32",
        "train.preview_interval_images=64",
        "model.latent_dim=8",
    ],
)

Sets = tuple[FaceSet, FaceSet]
FaultInjector = Callable[[pytest.MonkeyPatch], None]
Fault = Callable[[Trainer, Tensors], Tensors]


class RecordingReporter(Reporter):
    """Records notes, images, tables and numbers."""

    def __init__(self, *, after_image: Callable[[float], None] = lambda _: None) -> None:
        self.notes: list[str] = []
        self.images: list[Path] = []
        self.tables: list[tuple[str, Mapping[str, str]]] = []
        self.metrics: list[Mapping[str, Number]] = []
        self.after_image = after_image

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Record numbers."""
        if numbers:
            self.metrics.append(dict(numbers))
            self.after_image(done)

    def show_image(self, path: Path, caption: str) -> None:
        """Record an image."""
        self.images.append(path)

    def note(self, text: str) -> None:
        """Record a note."""
        self.notes.append(text)

    def show_values(self, title: str, values: Mapping[str, str]) -> None:
        """Record a table."""
        self.tables.append((title, values))


@pytest.fixture
def sets(make_set: Callable[..., FaceSet]) -> Sets:
    """Return the sets of two identities."""
    return make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return an empty run."""
    return RunFolder(root=tmp_path / "runs" / "ada-bo")


def train_run(
    sets: Sets,
    run: RunFolder,
    images: int | None = None,
    *,
    minutes: float | None = None,
    recipe: Recipe = RECIPE,
    report: RecordingReporter | None = None,
) -> TrainSummary:
    """Train on the CPU."""
    return train(
        TrainJob(
            sets=sets,
            recipe=recipe,
            run=run,
            stop_criterion=StopCriterion(max_images=images, max_minutes=minutes),
            device="cpu",
            seed=1,
        ),
        report=report or RecordingReporter(),
    )


def make_job(sets: Sets, run: RunFolder, stop: StopCriterion) -> TrainJob:
    """Return a training job on the CPU."""
    return TrainJob(sets=sets, recipe=RECIPE, run=run, stop_criterion=stop, device="cpu", seed=1)


def read_log_lines(run: RunFolder) -> list[dict[str, object]]:
    """Return the run's log."""
    return [json.loads(line) for line in run.log.read_text(encoding="utf-8").splitlines()]


def test_a_run_writes_all_its_files(sets: Sets, run: RunFolder) -> None:
    """Recipe, log, previews, checkpoint and weights exist, and agree with the summary."""
    reporter = RecordingReporter()
    summary = train_run(sets, run, 64, report=reporter)
    assert (64, "ada-bo", "reached 64 images") == (
        summary.images_seen,
        summary.run,
        summary.stop_reason,
    )
    assert RECIPE.to_toml() == run.recipe.read_text(encoding="utf-8")
    assert [run.preview_path(64)] == reporter.images
    assert 3 == image_io.read_image(run.preview_path(64)).ndim
    page = run.report.read_text(encoding="utf-8")
    assert "after 64 images" in page
    assert 'http-equiv="refresh"' not in page
    assert 'class="chart"' in page
    trained = checkpoint.load_weights(run.weights, torch.device("cpu"))
    assert (("ada", "bo"), 64, RECIPE) == (
        trained.identities,
        trained.images_seen,
        trained.recipe,
    )
    assert summary.val_error is not None
    assert 0 < summary.val_error < 1
    json.dumps(vars(summary))


def test_a_model_has_only_digests_of_its_sets(sets: Sets, run: RunFolder) -> None:
    """The digest of a statement of consent is in the header, its text is not."""
    statement = '[consent]\nkind = "written"\nnote = "Ada Example, 3 May"\n'
    (sets[0].folder / "source.toml").write_text(statement, encoding="utf-8")
    (sets[0].folder / "faces.jsonl").write_text("{}\n", encoding="utf-8")
    consent = Consent(kind="written", note="Ada Example, 3 May")
    train_run(sets, run, 32)

    ada, bo = checkpoint.load_weights(run.weights, torch.device("cpu")).origins

    assert (consent.sha256, None) == (ada.consent, bo.consent)
    assert sha256(b"{}\n").hexdigest() == ada.records
    assert b"Ada Example" not in run.weights.read_bytes()


def test_the_log_has_the_numbers_of_the_console(sets: Sets, run: RunFolder) -> None:
    """The numbers of the progress bar are in the log, and include the validation error."""
    reporter = RecordingReporter()
    summary = train_run(sets, run, 32, report=reporter)
    values = dict(reporter.metrics[0])
    line = read_log_lines(run)[0]
    assert (32, values.pop("images/s"), values) == (
        line["images_seen"],
        line["images_per_second"],
        line["losses"],
    )
    assert {"recon_ada", "recon_bo", "images/s", "val error"} == set(reporter.metrics[-1])
    assert summary.val_error == pytest.approx(reporter.metrics[-1]["val error"], abs=1e-5)
    expected = {"images_seen": 32, "event": "end", "message": summary.stop_reason}
    assert expected.items() <= read_log_lines(run)[-1].items()


@pytest.mark.slow
def test_swap_metrics_are_reported(
    sets: Sets, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in summary, log and page, and measured at fixed positions and at the end only."""
    metrics = SwapMetrics(
        detection_rate=1.0,
        pose_error_deg=2.0,
        expression_error=0.1,
        identity_shift=0.2,
        identity_baseline=-0.3,
        sharpness=0.9,
    )
    calls: list[FaceLoader] = []

    class FakeEvaluator(SwapEvaluator):
        def evaluate(self, model: SwapModel) -> SwapMetrics:
            calls.append(self.loader)
            return metrics

    monkeypatch.setattr(loop, "SwapEvaluator", FakeEvaluator)
    monkeypatch.setattr(loop, "EARLY_IMAGES", (8, 16))
    summary = train_run(sets, run, 80)
    positions = (8, 16, 32, 64, 80)
    assert len(positions) == len(calls)
    assert asdict(metrics) == summary.swap_metrics
    assert [(images, asdict(metrics)) for images in positions] == [
        (line["images_seen"], line["swap_metrics"])
        for line in read_log_lines(run)
        if "swap_metrics" in line
    ]
    assert "pose error, degrees" in run.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_training_continues_without_face_models(sets: Sets, run: RunFolder) -> None:
    """A missing model file is noted once, and nothing else changes."""
    reporter = RecordingReporter()
    summary = train_run(sets, run, 160, report=reporter)
    reason = "the face models are not available"
    assert (160, reason) == (summary.images_seen, summary.swap_metrics)
    assert 1 == reporter.notes.count(f"no swap metrics: {reason}")
    assert "pose error" not in run.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_training_lowers_the_validation_error(sets: Sets, run: RunFolder) -> None:
    """To less than two thirds of an untrained network's."""
    recipe = config.resolve("autoencoder", "debug", ["train.checkpoint_interval_images=0"])
    first = train_run(sets, run, 8, recipe=recipe).val_error
    last = train_run(sets, run, 1200, recipe=recipe).val_error
    assert first is not None
    assert last is not None
    assert last < first * 2 / 3


@pytest.mark.slow
def test_the_same_command_resumes_bit_for_bit(sets: Sets, run: RunFolder, tmp_path: Path) -> None:
    """A run stopped twice, also between its intervals, ends as one that was not stopped."""
    whole = RunFolder(root=tmp_path / "runs" / "whole")
    train_run(sets, whole, 100)
    for images in (20, 44, 100):
        train_run(sets, run, images)
    expected, found = load_file(whole.resume), load_file(run.resume)
    assert set(expected) == set(found)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    for name, value in load_file(whole.weights).items():
        assert torch.equal(value, load_file(run.weights)[name]), name
    # Validations between the regular positions are not recorded: they must not change the rest.
    expected_state, state = (
        checkpoint.read_checkpoint(path).state for path in (whole.resume, run.resume)
    )
    assert replace(expected_state, seconds=0) == replace(state, seconds=0)


def test_the_first_previews_come_early(sets: Sets, run: RunFolder) -> None:
    """Besides the regular ones there are a few previews soon after the start."""
    reporter = RecordingReporter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "EARLY_IMAGES", (6, 20))
        train_run(sets, run, 64, report=reporter)
    assert [run.preview_path(images) for images in (8, 20, 64)] == reporter.images


def test_slow_runs_are_also_saved_by_time(sets: Sets, run: RunFolder) -> None:
    """Checkpoints by time are between the regular ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "CHECKPOINT_MAX_S", 0.0)
        train_run(sets, run, 20)
    assert [12, 16, 20] == [int(path.stem) for path in checkpoint.list_snapshots(run)]


def test_a_finished_run_trains_no_further(sets: Sets, run: RunFolder) -> None:
    """The same command trains nothing, changes no weights, and says why."""
    train_run(sets, run, 32)
    before = run.weights.read_bytes()
    reporter = RecordingReporter()
    summary = train_run(sets, run, 32, report=reporter)
    assert 32 == summary.images_seen
    assert before == run.weights.read_bytes()
    assert "reached 32 images; 32 images seen" in reporter.notes


@pytest.mark.slow
def test_minutes_count_over_the_whole_run(sets: Sets, run: RunFolder) -> None:
    """The limit counts over all sessions: the same command adds nothing, a longer one the rest."""
    summary = train_run(sets, run, minutes=0.01)
    assert "reached 0.01 minutes" == summary.stop_reason
    assert summary.images_seen > 0
    assert summary.images_seen == train_run(sets, run, minutes=0.01).images_seen
    longer = summary.seconds / 60 + 0.005
    assert train_run(sets, run, minutes=longer).images_seen > summary.images_seen


def test_without_limits_training_ends_when_validation_stops_improving(
    sets: Sets, run: RunFolder
) -> None:
    """With a learning rate near 0 nothing improves: the run ends by itself and says why."""
    recipe = config.resolve(
        "autoencoder",
        "debug",
        ["train.batch_size=2", "train.checkpoint_interval_images=8", "train.learning_rate=1e-30"],
    )
    summary = train_run(sets, run, recipe=recipe)
    assert "validation has stopped improving" == summary.stop_reason
    assert summary.images_seen < 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(
    sets: Sets, run: RunFolder, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM end training with everything saved, and the old handlers are back."""
    before = signal.getsignal(number)
    waiting = [number]
    reporter = RecordingReporter(
        after_image=lambda _: os.kill(os.getpid(), waiting.pop()) if waiting else None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_log, "STATUS_INTERVAL_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            train_run(sets, run, 10_000, report=reporter)
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert 4 == resume.state.images_seen
    assert "everything is saved; run the same command again to continue" in reporter.notes
    assert before == signal.getsignal(number)
    assert 32 == train_run(sets, run, 32).images_seen


def test_a_second_signal_acts_at_once() -> None:
    """The first Ctrl-C requests a stop; the second interrupts."""
    # A shell starts background jobs, which tests may be, with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), graceful_interrupt() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.requested
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_damaged_recipe_file_is_said_and_written_anew(sets: Sets, run: RunFolder) -> None:
    """The run keeps the preset that its checkpoint has, which is not the default one."""
    train_run(sets, run, 32)
    whole = run.recipe.read_text()
    run.recipe.write_text(whole.replace("0.002", "0.102"))
    resolved = resolve_recipe("autoencoder", None, [], run=run, init=InitConfig())
    assert "debug" == resolved.preset
    report = RecordingReporter()
    train_run(sets, run, 48, report=report)
    assert f"{run.recipe} is damaged: it is written anew" in report.notes
    assert whole == run.recipe.read_text()


def test_train_settings_may_change_on_resume(sets: Sets, run: RunFolder) -> None:
    """The new [train] settings count; images seen continue with any batch size."""
    train_run(sets, run, 32)
    recipe = config.resolve(
        "autoencoder",
        "debug",
        ["train.batch_size=4", "model.latent_dim=8", "train.warp_strength=0"],
    )
    assert 40 == train_run(sets, run, 40, recipe=recipe).images_seen
    assert "warp_strength = 0.0" in run.recipe.read_text(encoding="utf-8")


def test_the_order_of_sets_does_not_matter(sets: Sets, run: RunFolder) -> None:
    """`b a` resumes the run of `a b`, each identity with its own decoder."""
    train_run(sets, run, 8)
    train_run((sets[1], sets[0]), run, 16)
    assert ("ada", "bo") == checkpoint.load_weights(run.weights, torch.device("cpu")).identities


def test_other_networks_are_refused(sets: Sets, run: RunFolder) -> None:
    """[model] cannot change: the error says what differs, and the hint what to do."""
    train_run(sets, run, 8)
    recipe = config.resolve("autoencoder", "debug", ["model.latent_dim=16"])
    with pytest.raises(CheckpointError, match=r"model\.latent_dim: 8 -> 16") as caught:
        train_run(sets, run, 16, recipe=recipe)
    assert "--name NEW" in caught.value.hint


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused(sets: Sets, run: RunFolder) -> None:
    """A damaged file is never a new start; copying the named file over it resumes."""
    train_run(sets, run, 32)
    train_run(sets, run, 64)
    run.resume.write_bytes(run.resume.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        train_run(sets, run, 96)
    assert f"copy {run.snapshot_path(32)} over {run.resume}" in caught.value.hint
    run.resume.unlink()
    run.resume.write_bytes(run.snapshot_path(32).read_bytes())
    assert 96 == train_run(sets, run, 96).images_seen


def test_unsuitable_sets_are_refused(sets: Sets, run: RunFolder) -> None:
    """One set, the same set twice, and a set of seven faces."""
    ada, bo = sets
    with pytest.raises(ConfigurationError, match="at least two people, and got 1"):
        train_run((ada,), run, 8)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match='the set "ada" is named twice'):
        train_run((ada, ada), run, 8)
    few = FaceSet(name="bo", folder=bo.folder, records=bo.records[:7])
    with pytest.raises(NoFacesError, match='set "bo" has 7 faces'):
        train_run((ada, few), run, 8)
    assert not run.root.exists()


def test_a_full_disk_stops_and_loses_nothing(sets: Sets, run: RunFolder) -> None:
    """No space while saving: one clear error, and the last checkpoint is whole."""
    train_run(sets, run, 32)
    before = run.weights.read_bytes()

    def raise_no_space(*_: object) -> None:
        message = "Error while serializing: I/O error: No space left on device (os error 28)"
        raise SafetensorError(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save_file", raise_no_space)
        with pytest.raises(InputError, match="no space left on the disk while writing") as caught:
            train_run(sets, run, 64)
    assert "run the same command again: finished work is saved" in caught.value.hint
    assert before == run.weights.read_bytes()
    assert 64 == train_run(sets, run, 64).images_seen


def test_a_run_removed_during_its_last_save_is_not_finished(sets: Sets, run: RunFolder) -> None:
    """Between the model and the checkpoint: a checkpoint alone would look like a finished run."""
    save = checkpoint.save_checkpoint

    def remove_and_save(to: RunFolder, *args: Any, **options: Any) -> None:  # noqa: ANN401
        if options["state"].images_seen == 32:
            shutil.rmtree(to.root)
        save(to, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", remove_and_save)
        with pytest.raises(InputError, match=f"{run.name} is gone: it was removed while"):
            train_run(sets, run, 32)
    assert not run.root.exists()
    train_run(sets, run, 32)
    assert run.weights.exists()
    assert run.best.exists()


def test_one_run_is_trained_by_one_process(sets: Sets, run: RunFolder) -> None:
    """A second training of the same run is refused by name; a finished one leaves no lock."""
    message = f'the run "{run.name}" is being written by process {os.getpid()}$'
    with run_lock(run.root), pytest.raises(InputError, match=message) as caught:
        train_run(sets, run, 8)
    assert "--name NEW" in caught.value.hint
    assert 8 == train_run(sets, run, 8).images_seen
    assert not (run.root / ".lock").exists()


def test_temporary_files_of_a_killed_training_are_deleted(sets: Sets, run: RunFolder) -> None:
    """When training starts again, incomplete files are deleted, and nothing else."""
    train_run(sets, run, 8)
    before = list_files(run)
    run.snapshots.joinpath(".000000000004-x7abcd_1.safetensors").write_bytes(b"half")
    run.snapshots.joinpath(".tmpEwyXYK").write_bytes(b"half")
    run.root.joinpath(".report-00000000.html").write_bytes(b"half")
    train_run(sets, run, 8)
    assert before == list_files(run)


def list_files(run: RunFolder) -> list[Path]:
    """Return the run's files and folders except TensorBoard's: every session writes a new one."""
    return sorted(path for path in run.root.rglob("*") if run.tensorboard not in path.parents)


def test_tensorboard_files_can_be_read(sets: Sets, run: RunFolder) -> None:
    """Losses, rates, validation errors and previews are events, if TensorBoard is installed."""
    train_run(sets, run, 64)
    assert run.tensorboard.exists() == (find_spec("tensorboard") is not None)
    if not run.tensorboard.exists():
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.tensorboard)).Reload()
    tags = events.Tags()
    assert {"loss/recon_ada", "lr/autoencoder", "val/recon/bo", "val/cycle/ada"} <= {
        *tags["scalars"]
    }
    assert ["preview"] == tags["images"]
    assert 64 == events.Scalars("val/recon/bo")[-1].step


def test_tensorboard_gets_losses_rates_errors_and_previews(sets: Sets, run: RunFolder) -> None:
    """Losses, rates, validation errors and previews, each at its images seen."""

    class Recorder:
        calls: ClassVar[set[tuple[str, str, int]]] = set()

        def add_scalars(self, values: Mapping[str, float], *, group: str, images_seen: int) -> None:
            self.calls.update((group, name, images_seen) for name in values)

        def add_image(self, image: Image, images_seen: int) -> None:
            self.calls.add(("preview", str(image.ndim), images_seen))

        def close(self) -> None:
            self.calls.add(("close", "", 0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_log, "open_tensorboard", lambda *_: Recorder())
        train_run(sets, run, 64)
    assert {
        ("loss", "recon_ada", 32),
        ("lr", "autoencoder", 64),
        ("val/recon", "bo", 64),
        ("val/cycle", "bo", 64),
        ("preview", "3", 64),
        ("close", "", 0),
    } <= Recorder.calls


def test_without_tensorboard_nothing_is_written(tmp_path: Path) -> None:
    """TensorBoard is optional, and leaves no folder when it is missing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_log, "find_spec", lambda _: None)
        assert run_log.open_tensorboard(tmp_path / "x", 0) is None
    assert not (tmp_path / "x").exists()


def test_a_dry_run_measures_and_writes_nothing(sets: Sets, run: RunFolder) -> None:
    """Speed, memory, disk and remaining time, without any file of the run."""
    stop = StopCriterion(max_images=10_000)
    estimated = dry_run(make_job(sets, run, stop), report=RecordingReporter())
    assert not run.root.exists()
    assert ({"ada": 20, "bo": 24}, 4, 10_000) == (
        estimated.faces_per_identity,
        estimated.images_per_step,
        estimated.remaining_images,
    )
    assert estimated.remaining_seconds == pytest.approx(10_000 / estimated.images_per_second)
    assert estimated.memory_bytes > 50e6
    json.dumps(vars(estimated))


@pytest.mark.slow
def test_a_dry_run_estimates_disk_use(sets: Sets, run: RunFolder) -> None:
    """A run of several checkpoints has the estimated size, less one file in flight."""
    estimated = dry_run(make_job(sets, run, StopCriterion()), report=RecordingReporter())
    train_run(sets, run, 128)
    files = {
        path.stat().st_ino: path.stat().st_size
        for path in run.root.rglob("*.*")
        if path.suffix in (".safetensors", ".npy")
    }
    expected = estimated.disk_bytes - run.resume.stat().st_size
    assert expected == pytest.approx(sum(files.values()), rel=0.05)
    assert (None, None) == (estimated.remaining_images, estimated.remaining_seconds)


@pytest.mark.slow
def test_an_estimate_is_reported_after_the_first_seconds(
    sets: Sets, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Device, precision, parameters, speed, memory, disk and the time left, once a session."""
    monkeypatch.setattr(run_log, "ESTIMATE_AFTER_S", 0.0)
    report = RecordingReporter()
    train_run(sets, run, 64, report=report)
    train_run(sets, run, 128, report=report)
    first, second = (values for title, values in report.tables if title == "what ada-bo takes")
    assert [
        "device",
        "precision",
        "parameters",
        "faces",
        "faces a step",
        "speed",
        "memory",
        "disk",
    ] == [*first][:-1]
    assert "32 images, less than a minute" == first["remaining"] == second["remaining"]
    assert "ada 20, bo 24" == first["faces"]


def test_steps_that_size_micro_batches_are_undone(sets: Sets, run: RunFolder) -> None:
    """Trial steps of several processes before training do not change weights and moments."""
    train_run(sets, run, 32)
    job = make_job(sets, run, StopCriterion(max_images=64))
    session = stage.build_session(job, find_hardware(job.device), report=Reporter())
    before = {name: one.clone() for name, one in session.trainer.state_dict().items()}
    stage.synchronize(session, SINGLE_PROCESS)
    after = session.trainer.state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_a_run_that_does_not_fit_on_the_disk_is_refused(
    sets: Sets, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clear error before anything is written; files of the run count."""
    free = shutil.disk_usage(run.root.parent.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(InputError, match=r"the run needs .* MB more on the disk of") as caught:
        train_run(sets, run, 8)
    assert "--workspace" in caught.value.hint
    assert not run.root.exists()
    run.cache.mkdir(parents=True)
    (run.cache / "some").write_bytes(bytes(5000))
    fileio.check_disk_space(run.root, needed_bytes=6000)
    with pytest.raises(InputError):
        fileio.check_disk_space(run.root, needed_bytes=6100)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "until the validation error stops improving"),
        (7_500, "91,500 images, 2 h 5 min"),
        (20, "91,500 images, less than a minute"),
    ],
)
def test_rows_of_an_estimate(seconds: float | None, expected: str) -> None:
    """Numbers have units and separators."""
    rows = estimate.TrainEstimate(
        device="cpu (2 threads)",
        precision="float32",
        parameters=82_062_470,
        faces_per_identity={"ada": 1200, "bo": 900},
        images_per_step=32,
        images_per_second=12.2,
        memory_bytes=1_500_000_000,
        disk_bytes=20_000_000,
        remaining_images=None if seconds is None else 91_500,
        remaining_seconds=seconds,
    ).to_rows()
    assert expected == rows["remaining"]
    assert ["12 images/s", "1.5 GB", "20 MB", "82,062,470", "ada 1,200, bo 900"] == [
        rows[name] for name in ("speed", "memory", "disk", "parameters", "faces")
    ]


def test_an_incomplete_log_line_is_ended_first(tmp_path: Path) -> None:
    """After a crash in the middle of a line, the next line is complete."""
    path = tmp_path / "log.jsonl"
    append_line(path, "1")
    with path.open("ab") as file:
        file.write(b'{"images')
    append_line(path, "2")
    assert ["1", '{"images', "2"] == path.read_text().splitlines()


def train_with_fault(
    sets: Sets, run: RunFolder, inject_fault: FaultInjector, *, images: int = 200
) -> RecordingReporter:
    """Train with patches by `inject_fault`; return what was reported."""
    recipe = config.resolve(
        "autoencoder",
        "debug",
        ["train.batch_size=2", "train.checkpoint_interval_images=32", "model.latent_dim=8"],
    )
    reporter = RecordingReporter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_log, "STATUS_INTERVAL_S", 0.0)
        inject_fault(patch)
        train_run(sets, run, images, recipe=recipe, report=reporter)
    return reporter


def inject_from(images: int, *, min_lr_scale: float, fault: Fault) -> FaultInjector:
    """Return an injector of a fault into steps from `images` on, at `min_lr_scale` or above."""

    def inject(patch: pytest.MonkeyPatch) -> None:
        original = Trainer.step

        def step(
            self: Trainer, batch: FaceBatch, progress: TrainProgress, **options: float
        ) -> Tensors:
            losses = original(self, batch, progress, **options)  # type: ignore[arg-type]
            is_faulty = progress.images_seen >= images and options["lr_scale"] >= min_lr_scale
            return fault(self, losses) if is_faulty else losses

        patch.setattr(Trainer, "step", step)

    return inject


def nan_weights(trainer: Trainer, losses: Tensors) -> Tensors:
    """Make all weights and losses NaN, as an overflow would."""
    with torch.no_grad():
        for one in trainer.model.parameters():
            one.fill_(torch.nan)
    return {name: loss * torch.nan for name, loss in losses.items()}


def exploding_losses(trainer: Trainer, losses: Tensors) -> Tensors:
    """Return the losses, a thousand times as large."""
    del trainer
    return {name: loss * 1000 for name, loss in losses.items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (nan_weights, "the loss recon_ada is not a number any more (nan): back to 64 images"),
        (exploding_losses, "the loss recon_ada has exploded"),
    ],
)
def test_failures_roll_back_and_continue_at_a_lower_rate(
    sets: Sets, run: RunFolder, fault: Fault, problem: str
) -> None:
    """Bad losses after 64 images: back to the last checkpoint at half the rate, and to the end."""
    reporter = train_with_fault(sets, run, inject_from(80, min_lr_scale=0.9, fault=fault))
    rollbacks = [note for note in reporter.notes if "back to" in note]
    assert 1 == len(rollbacks)
    assert problem in rollbacks[0]
    assert "at 0.5 of the rate" in rollbacks[0]
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert (200, 0.5) == (resume.state.images_seen, resume.state.lr_scale)
    assert all(torch.isfinite(value).all() for value in resume.tensors.values())
    assert any("rollback" == line.get("event") for line in read_log_lines(run))


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1e30, float("inf"), float("nan")])
def test_a_bad_gradient_is_never_saved(sets: Sets, run: RunFolder, factor: float) -> None:
    """In the step before a save, whose losses are still good: every tensor of every file is finite.

    The run ends at its limit, from the save before it.
    """
    saved: list[Path] = []

    def inject(patch: pytest.MonkeyPatch) -> None:
        step, save = Trainer.step, checkpoint.save_file

        def bad_step(
            self: Trainer, batch: FaceBatch, progress: TrainProgress, **options: float
        ) -> Tensors:
            is_bad = progress.images_seen == 60 and options["lr_scale"] >= 0.9
            parameters = self.model.parameters() if is_bad else ()
            hooks = [one.register_hook(lambda grad: grad * factor) for one in parameters]
            losses = step(self, batch, progress, **options)  # type: ignore[arg-type]
            for hook in hooks:
                hook.remove()
            return losses

        def checked_save(tensors: Tensors, path: Path, header: Mapping[str, str]) -> None:
            bad = [name for name, one in tensors.items() if not torch.isfinite(one).all()]
            assert [] == bad
            saved.append(path)
            save(tensors, path, header)

        patch.setattr(Trainer, "step", bad_step)
        patch.setattr(checkpoint, "save_file", checked_save)

    reporter = train_with_fault(sets, run, inject, images=96)
    assert len(saved) >= 4
    assert checkpoint.load_weights(run.weights, torch.device("cpu")).images_seen == 96
    rollbacks = [note for note in reporter.notes if "back to" in note]
    assert 1 == len(rollbacks)
    assert "back to 32 images at 0.5 of the rate" in rollbacks[0]


def test_a_dead_group_rolls_back(sets: Sets, run: RunFolder) -> None:
    """If several groups train against each other, a loss of 0 is a failure."""

    def inject(patch: pytest.MonkeyPatch) -> None:
        original = Trainer.step

        def step(
            self: Trainer, batch: FaceBatch, progress: TrainProgress, **options: float
        ) -> Tensors:
            losses = original(self, batch, progress, **options)  # type: ignore[arg-type]
            is_dead = progress.images_seen > 64 and options["lr_scale"] == 1
            self.parameter_groups.setdefault("discriminator", [])
            healthy = torch.tensor(1 + progress.images_seen / 1000)
            self.group_losses["discriminator"] = torch.zeros(()) if is_dead else healthy
            return losses

        patch.setattr(Trainer, "step", step)
        patch.setattr(health, "DEAD_GROUP_READINGS", 3)

    reporter = train_with_fault(sets, run, inject, images=96)
    assert any("discriminator has nothing left to learn from" in note for note in reporter.notes)
    assert any("back to 64 images at 0.5 of the rate" in note for note in reporter.notes)


@pytest.mark.slow
def test_repeated_failures_end_training(sets: Sets, run: RunFolder) -> None:
    """After three rollbacks the error names the problem, and the last good checkpoint exists."""
    with pytest.raises(
        FaceswapError, match=r"again and again after \d+ images: the loss"
    ) as caught:
        train_with_fault(sets, run, inject_from(80, min_lr_scale=0, fault=nan_weights))
    assert "--set train.learning_rate=" in caught.value.hint
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert (64, 0.125, 3) == (
        resume.state.images_seen,
        resume.state.lr_scale,
        resume.state.rollbacks,
    )
    assert all(torch.isfinite(value).all() for value in resume.tensors.values())


@pytest.mark.slow
def test_collapsed_validation_faces_roll_back(sets: Sets, run: RunFolder) -> None:
    """A validation that no healthy run has rolls back before anything is saved."""
    diversities = iter([0.9, 0.8, 0.01, 0.7, 0.7, 0.7, 0.7, 0.7])

    def fake_validate(model: SwapModel, loader: FaceLoader) -> ValidationResult:
        result = validate(model, loader)
        return replace(result, mean_face_error=1.0, swap_diversity=next(diversities))

    reporter = train_with_fault(
        sets, run, lambda patch: patch.setattr(loop, "validate", fake_validate), images=128
    )
    expected = (
        "swaps of different faces are the same (diversity 0.01, before 0.90): back to 64 images"
    )
    assert any(expected in note for note in reporter.notes)
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert (128, 0.9) == (resume.state.images_seen, resume.state.health_baseline.swap_diversity)


def copy_swap(model: SwapModel, faces: Tensor, identity: str) -> SwapOutput:
    """Return the input."""
    del model, identity
    return SwapOutput(image=faces, mask=None)


def invert_swap(model: SwapModel, faces: Tensor, identity: str) -> SwapOutput:
    """Return the negative of the input."""
    del model, identity
    return SwapOutput(image=-faces, mask=None)


def collapsed_swap(model: SwapModel, faces: Tensor, identity: str) -> SwapOutput:
    """Return the same face for every input."""
    del model, identity
    return SwapOutput(image=faces[:1].expand_as(faces), mask=None)


def healthy_swap(model: SwapModel, faces: Tensor, identity: str) -> SwapOutput:
    """Return own faces, and others changed: each input gives another face."""
    is_own = faces.mean((0, 2, 3)).argmax() == model.identities.index(identity)
    return SwapOutput(image=faces if is_own else faces * 0.8 - 0.2, mask=None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faulty_swap", "problem"),
    [
        (copy_swap, "swaps are copies of their input"),
        (invert_swap, "faces come out inverted (correlation -1.00)"),
        (collapsed_swap, "swaps of different faces are the same"),
    ],
)
def test_failing_networks_roll_back(
    sets: Sets, run: RunFolder, faulty_swap: Callable[..., SwapOutput], problem: str
) -> None:
    """Validation detects each: back to the last checkpoint at half the rate, and healthy again."""
    is_faulty = False

    def inject(patch: pytest.MonkeyPatch) -> None:
        original = Trainer.step

        def step(
            self: Trainer, batch: FaceBatch, progress: TrainProgress, **options: float
        ) -> Tensors:
            nonlocal is_faulty
            is_faulty = progress.images_seen > 64 and options["lr_scale"] == 1
            return original(self, batch, progress, **options)  # type: ignore[arg-type]

        def swap(self: SwapModel, faces: Tensor, identity: str) -> SwapOutput:
            return (faulty_swap if is_faulty else healthy_swap)(self, faces, identity)

        patch.setattr(Trainer, "step", step)
        patch.setattr(registry.load("autoencoder"), "swap", swap)

    reporter = train_with_fault(sets, run, inject, images=128)
    [rollback] = [note for note in reporter.notes if "back to" in note]
    assert problem in rollback
    assert rollback.endswith("back to 64 images at 0.5 of the rate")
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert (128, 0.5) == (resume.state.images_seen, resume.state.lr_scale)


@pytest.mark.slow
def test_the_best_weights_are_saved(sets: Sets, run: RunFolder) -> None:
    """`best` is the model with the lowest validation error; later ones do not overwrite it."""
    errors = iter([0.5, 0.3, 0.4, 0.6, 0.6])  # the last one is of the end

    def fake_validate(model: SwapModel, loader: FaceLoader) -> ValidationResult:
        error = next(errors)
        return replace(
            validate(model, loader), reconstruction_error={"a": error}, cycle_error={"a": error}
        )

    train_with_fault(
        sets, run, lambda patch: patch.setattr(loop, "validate", fake_validate), images=128
    )
    assert 64 == checkpoint.load_weights(run.best, torch.device("cpu")).images_seen
    assert 128 == checkpoint.load_weights(run.weights, torch.device("cpu")).images_seen


@pytest.mark.slow
def test_a_group_is_slowed_by_its_own_validation_loss(
    sets: Sets, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constant loss slows its group though the validation error falls, over a resume too."""
    settings = [
        "train.batch_size=2",
        "train.checkpoint_interval_images=32",
        "train.lr_schedule=plateau",
    ]
    recipe = config.resolve("autoencoder", "debug", [*settings, "model.latent_dim=8"])
    errors = iter([0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.04, 0.03])

    def fake_validate(model: SwapModel, loader: FaceLoader) -> ValidationResult:
        error = {"a": next(errors)}
        return replace(
            validate(model, loader),
            reconstruction_error=error,
            cycle_error=error,
            losses={"autoencoder": 1.0},
        )

    monkeypatch.setattr(loop, "validate", fake_validate)
    train_run(sets, run, 96, recipe=recipe)
    train_run(sets, run, 160, recipe=recipe)
    rates = [
        line["learning_rate"]["autoencoder"]
        for line in read_log_lines(run)
        if "learning_rate" in line
    ]  # type: ignore[index]
    base = recipe.train.learning_rate
    assert pytest.approx([base, base / 10]) == [rates[0], rates[-1]]


@pytest.mark.slow
def test_out_of_memory_within_a_step_is_undone(sets: Sets, run: RunFolder) -> None:
    """A step that fails after it has changed networks and buffers has no effect.

    The run ends bit for bit as one that was stopped at the checkpoint before, and resumed with
    two micro-batches from there on.
    """
    changes = ["train.batch_size=2", "train.checkpoint_interval_images=32"]
    recipe = config.resolve("cyclegan", "debug", changes)
    other = RunFolder(root=run.root.with_name("other"))
    original = Trainer.step

    def fail_late(
        self: Trainer, batch: FaceBatch, progress: TrainProgress, **options: float
    ) -> Tensors:
        losses = original(self, batch, progress, **options)  # type: ignore[arg-type]
        if progress.images_seen == 44 and self.grad_accum_steps == 1:
            raise StepOutOfMemoryError("planted")
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", fail_late)
        report = RecordingReporter()
        train_run(sets, run, 64, recipe=recipe, report=report)
    assert "memory ran out: 2 micro-batches a step now" in report.notes
    train_run(sets, other, 32, recipe=recipe)

    def in_two_parts(self: Trainer, *args: Any, **options: Any) -> Tensors:  # noqa: ANN401
        self.grad_accum_steps = 2
        return original(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", in_two_parts)
        train_run(sets, other, 64, recipe=recipe)
    expected, found = load_file(other.resume), load_file(run.resume)
    assert set(expected) == set(found)
    assert [] == [name for name, value in expected.items() if not torch.equal(value, found[name])]


def test_validation_faces_stay_out_of_training(sets: Sets, run: RunFolder) -> None:
    """If crops are deleted or added, validation faces are still never trained on."""
    ada, bo = sets
    train_run(sets, run, 8)
    val_files = checkpoint.read_checkpoint(run.resume).validation_files
    assert {"ada", "bo"} == set(val_files)
    shorter = replace(ada, records=[one for one in ada.records if one.frame not in (0, 1, 2)])
    job = make_job((shorter, bo), run, StopCriterion(max_images=16))
    session = stage.build_session(job, find_hardware(job.device), report=Reporter())
    for dataset, faces in zip(session.loader.datasets, job.sets, strict=True):
        files = [record.file for record in faces.records]
        assert set(val_files[dataset.name]) == {files[index] for index in dataset.val_indices}
        assert set(files) - set(val_files[dataset.name]) == {
            files[k] for k in dataset.train_indices
        }
    train_run((shorter, bo), run, 16)
    assert val_files == checkpoint.read_checkpoint(run.resume).validation_files


def test_failures_in_the_first_images_roll_back_to_the_start(sets: Sets, run: RunFolder) -> None:
    """A new run has an initial checkpoint."""
    reporter = train_with_fault(
        sets, run, inject_from(0, min_lr_scale=0.9, fault=nan_weights), images=64
    )
    assert any("back to 0 images at 0.5 of the rate" in note for note in reporter.notes)
    assert 64 == checkpoint.load_weights(run.weights, torch.device("cpu")).images_seen


SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from faceswap_cli.core import config
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.core.signals import graceful_interrupt
from faceswap_cli.training.validation import ValidationResult, validate
from faceswap_cli.training.trainer import Trainer
from faceswap_cli.core.progress import Reporter
from faceswap_cli.stages import train as stage
from faceswap_cli.stages.train import SINGLE_PROCESS, StopCriterion, TrainJob, train
from faceswap_cli.core.workspace import RunFolder

faces, run, images = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
sets = [
    FaceSet.load(name, folder=faces / name, records=faces / name / "faces.jsonl")
    for name in ("ada", "bo")
]
changes = ["train.batch_size=2", "train.checkpoint_interval_images=8"]
changes += ["train.preview_interval_images=64"]
train(
    TrainJob(
        sets=sets,
        recipe=config.resolve("autoencoder", "debug", changes),
        run=RunFolder(root=run),
        stop_criterion=StopCriterion(max_images=images),
        device="cpu",
        seed=1,
    ),
    report=Reporter(),
)
"""


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_command(sets: Sets, run: RunFolder) -> None:
    """Kill -9 costs at most an interval and what was being written; files stay readable."""
    for faces in sets:
        text = "".join(record.to_json() + "\n" for record in faces.records)
        (faces.folder / "faces.jsonl").write_text(text)
    command = [sys.executable, "-c", SCRIPT, str(sets[0].folder.parent), str(run.root), "1000000"]
    rng = random.Random(0)
    reached = 0
    for _ in range(3):
        process = subprocess.Popen(command)
        wait_for(run, reached, process)
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        resume = checkpoint.load_checkpoint(run)
        assert resume is not None
        assert resume.state.images_seen >= max(reached, saved_images(run) - 8)
        logged = [
            int(str(line["images_seen"]))
            for line in read_log_lines(run)
            if "images_per_second" in line
        ]
        assert max(logged, default=0) - resume.state.images_seen <= 16
        # The lock, and what was being written: checkpoint, weights and snapshot.
        assert len(temp_files(run)) <= 4
        checkpoint.load_weights(run.weights, torch.device("cpu"))
        reached = resume.state.images_seen
    last = [*command[:-1], str(reached + 16)]
    assert 0 == subprocess.run(last, check=False).returncode
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    assert reached + 16 <= resume.state.images_seen
    assert [] == temp_files(run)


def temp_files(run: RunFolder) -> list[Path]:
    """Return the run's files whose names begin with a dot."""
    return [path for path in run.root.rglob(".*") if path.is_file()]


def saved_images(run: RunFolder) -> int:
    """Return the images seen that the newest snapshot names."""
    return max((int(path.stem) for path in checkpoint.list_snapshots(run)), default=0)


def wait_for(run: RunFolder, images: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until more than `images` are saved; fail if the process ends before."""
    while saved_images(run) <= images:
        assert process.poll() is None
        time.sleep(0.02)
