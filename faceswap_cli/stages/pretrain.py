"""The pretrain stage: synthetic people are drawn, and a network is taught what a swap is.

What comes out is an ordinary trained model with one identity, which `train --init-from` starts
from. See docs/guide/training.md.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import CheckpointError, ConfigurationError
from faceswap_cli.core.fileio import check_disk_space
from faceswap_cli.core.hardware import Hardware, limit_threads, set_up_hardware
from faceswap_cli.core.lock import run_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import StopFlag, graceful_interrupt
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.pretraining.drawing import draw_groups
from faceswap_cli.pretraining.loader import PairLoader
from faceswap_cli.pretraining.loop import PretrainSummary, pretraining_loop
from faceswap_cli.pretraining.pairs import RENDER_PX, PairSettings, SwapPairs
from faceswap_cli.pretraining.recipe import build_pretrain_model, resolve_pretrain_recipe
from faceswap_cli.training import checkpoint
from faceswap_cli.training.checkpoint import CheckpointWriter
from faceswap_cli.training.dataset import (
    POOLED_IDENTITY,
    IdentityDataset,
    cached_side_px,
    check_min_faces,
    crop_side_px,
    load_identity,
)
from faceswap_cli.training.estimate import (
    TrainEstimate,
    count_parameters,
    device_name,
    estimate_disk_bytes,
)
from faceswap_cli.training.state import StopCriterion, TrainState
from faceswap_cli.training.trainer import Trainer
from faceswap_models.backends.autoencoder import AutoencoderModelSettings
from faceswap_models.modulated import VECTORS_NAME

__all__ = ["PretrainJob", "PretrainSummary", "StopCriterion", "pretrain", "resolve_pretrain_recipe"]


@dataclass(frozen=True, kw_only=True)
class PretrainJob:
    """What is pretrained, on how many people, until when and where."""

    recipe: Recipe
    run: RunFolder
    pairs_folder: Path
    """Where the drawn crops are kept."""
    groups: int
    """Groups of four people."""
    stop_criterion: StopCriterion
    device: str
    """`auto`, `cpu`, `cuda` or `mps`."""
    seed: int
    processes: int = 1
    """Processes that draw."""
    sets: Sequence[FaceSet] = ()
    """Sets of faces of real people, to learn from besides."""

    @property
    def pair_settings(self) -> PairSettings:
        """What is drawn: crops large enough for the network."""
        model = self.recipe.model
        side = cached_side_px(model, RENDER_PX)
        return PairSettings(groups=self.groups, side_px=side, seed=self.seed)


def pretrain(job: PretrainJob, *, report: Reporter) -> PretrainSummary:
    """Draw the people that are missing, and train on them, resuming where the run stopped.

    Raises:
        ConfigurationError: The networks have no encoder of their own to pretrain.
        InputError: A file cannot be written.
        DeviceError: The device is not there.
        CheckpointError: The run is damaged, or was trained with other networks or people.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; everything is saved.
    """
    settings = job.recipe.model
    assert isinstance(settings, AutoencoderModelSettings)
    if settings.encoder != "conv":
        raise ConfigurationError(
            f"the encoder {settings.encoder} has published weights, and no base is made of it",
            hint="pretrain another preset, such as --preset light",
        )
    with ExitStack() as stack:
        hardware = set_up_hardware(job.device)
        stack.enter_context(limit_threads(job.recipe.train.num_threads))
        stack.enter_context(run_lock(job.run.root))
        interrupt = stack.enter_context(graceful_interrupt())
        saved = load_resumable(job)
        draw_pairs(job, interrupt, report)
        loader = PairLoader(
            SwapPairs.load(job.pair_settings, job.pairs_folder),
            model=job.recipe.model,
            train=job.recipe.train,
            seed=job.seed,
            device=hardware.device,
            identity=POOLED_IDENTITY,
            sets=load_sets(job, saved, report),
        )
        trainer, state = build_trainer(job, saved, hardware, num_people=loader.num_people)
        origins = checkpoint.read_origins(job.sets)
        files = CheckpointWriter(job.run, trainer, loader.faces, recipe=job.recipe, origins=origins)
        summary = pretraining_loop(
            trainer,
            loader,
            stack.enter_context(files),
            state=state,
            seed=job.seed,
            stop=job.stop_criterion,
            interrupt=interrupt,
            estimate=TrainEstimate(
                device=device_name(hardware.device),
                precision=hardware.precision,
                parameters=count_parameters(trainer),
                faces_per_identity={POOLED_IDENTITY: len(loader.dataset.train_indices)},
                images_per_step=loader.images_per_step,
                disk_bytes=estimate_disk_bytes(trainer, cache_bytes=loader.dataset.pixels.nbytes),
            ),
            report=report,
        )
    interrupt.raise_if_requested()
    return summary


def draw_pairs(job: PretrainJob, interrupt: StopFlag, report: Reporter) -> None:
    """Draw the groups of people that are missing.

    Raises:
        InputError: They do not fit on the disk.
        KeyboardInterrupt: It was interrupted; what is drawn stays.
    """
    settings = job.pair_settings
    check_disk_space(job.pairs_folder / settings.digest, needed_bytes=settings.nbytes)
    report.start_task("drawing people", total=len(settings.group_numbers), unit="groups")
    for done in draw_groups(settings, job.pairs_folder, processes=job.processes):
        report.update(done)
        interrupt.raise_if_requested()


def load_resumable(job: PretrainJob) -> checkpoint.Checkpoint | None:
    """Return the last checkpoint of a run that has one, before anything is drawn for it.

    Raises:
        CheckpointError: It was trained with other networks, people or sets.
    """
    saved = checkpoint.load_checkpoint(job.run)
    if saved is None:
        return None
    checkpoint.check_compatible(
        saved, recipe=job.recipe, identities=(POOLED_IDENTITY,), run=job.run
    )
    people = PairSettings.people * job.groups + len(job.sets)
    before = len(saved.tensors[f"model/{VECTORS_NAME}"])
    if before != people:
        raise CheckpointError(
            f'the run "{job.run.name}" knows {before} people, and would now have {people}',
            hint="give as many --groups and the same sets, or start another run with --name NEW",
        )
    return saved


def load_sets(
    job: PretrainJob, saved: checkpoint.Checkpoint | None, report: Reporter
) -> list[IdentityDataset]:
    """Decode the crops of the sets.

    Raises:
        NoFacesError: One has too few faces.
        InputError: A crop cannot be read.
    """
    model, datasets = job.recipe.model, []
    report.start_task("reading crops", total=sum(map(len, job.sets)), unit="faces")
    for faces in job.sets:
        check_min_faces(faces)
        name = f"set {faces.name}"  # a set may have the name of everybody
        side = cached_side_px(model, crop_side_px(faces))
        val_files = saved.validation_files.get(name, ()) if saved else ()
        dataset = load_identity(faces, cache=job.run.cache, side_px=side, val_files=val_files)
        datasets.append(replace(dataset, name=name))
        report.update(sum(len(one.pixels) for one in datasets))
    return datasets


def build_trainer(
    job: PretrainJob,
    saved: checkpoint.Checkpoint | None,
    hardware: Hardware,
    *,
    num_people: int,
) -> tuple[Trainer, TrainState]:
    """Build the networks, and restore what is saved of them.

    Raises:
        CheckpointError: It was trained by a version whose networks were built differently.
    """
    model = build_pretrain_model(job.recipe, num_people=num_people, seed=job.seed)
    model.to(memory_format=hardware.memory_format)  # type: ignore[call-overload]  # not in its stub
    model.to(hardware.device).train()
    trainer = Trainer(model, job.recipe.train, hardware)
    if saved is None:
        return trainer, TrainState()
    return trainer, checkpoint.restore_from(trainer, saved, run=job.run)
