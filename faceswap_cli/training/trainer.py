"""The training loop: one clock, one way to update, for every backend alike.

Knows steps, optimizers, averaged weights and precision; refuses to know files, folders and what
the user is told. Time is counted in images seen, and every step draws its chance from its own
position, so a run that was stopped anywhere goes on as if it had not been.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from faceswap_cli.core.errors import ConfigurationError, DeviceError, did_you_mean
from faceswap_cli.training.compiling import compile_networks, eager_mode, raise_if_compile_error
from faceswap_cli.training.dataset import derive_seed
from faceswap_cli.training.distributed import DistributedContext
from faceswap_cli.training.hardware import Hardware
from faceswap_cli.training.health import HealthBaseline
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.schedule import PlateauState, get_schedule, warmup_factor
from faceswap_models.base import FaceBatch, SwapModel, TrainProgress, TrainSettings
from faceswap_models.growing import GrowingModel

EMA_RAMPUP_RATIO = 0.05
"""The averaged weights' half-life is at most this part of the images seen, so that the first
random weights are soon forgotten (Karras et al. 2024, EDM2's rampup ratio)."""

Tensors = dict[str, Tensor]
"""Name -> tensor, as safetensors stores them."""


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """All that changes during training besides weights and optimizer moments."""

    images_seen: int = 0
    """Crops shown so far, of all people together: the clock."""
    seconds: float = 0.0
    """Time spent training, of all sittings together."""
    rate_factor: float = 1.0
    """What rollbacks have left of the learning rate."""
    rollbacks: int = 0
    """How often training went back to an earlier state without getting well past the trouble."""
    trouble_images: int = 0
    """Where the last trouble was, images seen."""
    best_images: int = 0
    """Where the lowest held-out error was, images seen."""
    vitals: HealthBaseline = field(default_factory=HealthBaseline)
    """The best that held-out faces have shown."""
    plateaus: Mapping[str, PlateauState] = field(default_factory=dict)
    """What the plateau schedule remembers, by group of parameters."""

    def to_dict(self) -> dict[str, Any]:
        """Return the state in plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "TrainState":
        """Read a state back."""
        plateaus = {group: PlateauState(**one) for group, one in table.get("plateaus", {}).items()}
        inner = {"plateaus": plateaus, "vitals": HealthBaseline(**table["vitals"])}
        # Runs that began when all groups had one plateau begin to wait anew.
        rest = {name: value for name, value in table.items() if name != "plateau"}
        return cls(**{**rest, **inner})


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Some of the faces of a batch, where memory is too small for all of them at once."""

    indices: slice = field(default_factory=lambda: slice(None))
    """Which faces of each person."""
    weight: float = 1.0
    """How many they are, as a part of the batch."""
    is_first: bool = True
    is_last: bool = True

    def select(self, batch: FaceBatch) -> FaceBatch:
        """Return this part of a batch."""
        return FaceBatch(**{name: value[:, self.indices] for name, value in vars(batch).items()})


def split_micro_batches(size: int, count: int) -> list[MicroBatch]:
    """Divide a batch of `size` faces of each person into `count` parts as equal as can be."""
    edges = [size * place // count for place in range(count + 1)]
    return [
        MicroBatch(
            indices=slice(start, end),
            weight=(end - start) / size,
            is_first=start == 0,
            is_last=end == size,
        )
        for start, end in pairwise(edges)
    ]


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out; a CPU says so in words only."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


class Trainer:
    """A model that learns: its optimizers, its averaged weights, its precision.

    Args:
        model: On its device already.
        train: The settings.
        hardware: The device, and the precision to compute in.
        all_reduce: Averages gradients over processes, in place; None where there is one process.

    Raises:
        ConfigurationError: There is no optimizer, or no schedule, of that name.
    """

    def __init__(
        self,
        model: SwapModel,
        train: TrainSettings,
        hardware: Hardware,
        *,
        all_reduce: Callable[[Sequence[Tensor]], None] | None = None,
    ) -> None:
        self.model = model
        self.train = train
        self.hardware = hardware
        self.all_reduce = all_reduce
        self.schedule = get_schedule(train.lr_schedule)
        self.grad_accum_steps = 1
        self.micro_batch = MicroBatch()
        self.group_losses: Tensors = {}
        self.parameter_groups = self._collect_parameter_groups()
        self.optimizers = {
            group: create_optimizer(parameters, train, lr=model.learning_rate(group))
            for group, parameters in self.parameter_groups.items()
        }
        self.ema = (
            {name: one.detach().clone() for name, one in model.named_parameters()}
            if train.ema_halflife_images
            else {}
        )
        compile_networks(model, train)

    def step(
        self,
        batch: FaceBatch,
        progress: TrainProgress,
        *,
        lr_scale: float,
        images: int,
        group_lr_scales: Mapping[str, float] | None = None,
    ) -> Tensors:
        """Learn from one batch, at `lr_scale` of each group's learning rate.

        Args:
            batch: Faces of everybody.
            progress: How far training has come.
            lr_scale: What every rate is multiplied by.
            images: Faces in the batch, of all processes together.
            group_lr_scales: What single groups' rates are multiplied by besides.

        Returns:
            Named scalar losses, still on the device: reading one would make the host wait.
        """
        for group, optimizer in self.optimizers.items():
            rate = (
                self.model.learning_rate(group) * lr_scale * (group_lr_scales or {}).get(group, 1.0)
            )
            optimizer.param_groups[0]["lr"] = rate
        losses = self._step_with_oom_retry(batch, progress)
        self._update_ema(progress.images_seen, images)
        return losses

    def grow(self, structure: int, progress: TrainProgress) -> None:
        """Have the networks built anew, and learn with what they are then.

        Parameters that stay keep their moments and averages; new ones begin without.
        """
        assert isinstance(self.model, GrowingModel)
        self.model.grow(structure, progress)
        self._rebind_parameters()

    def grow_to_final(self) -> None:
        """Have the networks built on to the end at once: to learn what training will take."""
        assert isinstance(self.model, GrowingModel)
        for structure in range(self.model.growth_step + 1, self.model.final_growth_step + 1):
            self.grow(structure, TrainProgress(images_seen=0, max_images=None))

    def update(self, group: str, loss: Tensor) -> None:
        """Step one group down the gradient of `loss`: what a backend is handed as `update`.

        Where a batch is learnt from in parts, gradients add up and the last part steps.
        """
        parameters, optimizer = self.parameter_groups[group], self.optimizers[group]
        # Backward runs in the precisions that forward chose; autocast would choose once more.
        with torch.autocast(self.hardware.device.type, enabled=False):
            if self.micro_batch.is_first:
                optimizer.zero_grad(set_to_none=True)
            # Naming the inputs keeps a generator's loss from leaving gradients in its critic.
            learnt = [one for one in parameters if one.requires_grad]
            torch.autograd.backward(loss * self.micro_batch.weight, inputs=learnt)
            self.group_losses[group] = loss.detach()
            if not self.micro_batch.is_last:
                return
            if self.all_reduce is not None:
                self.all_reduce([one.grad for one in parameters if one.grad is not None])
            if self.train.grad_clip_norm > 0:
                nn.utils.clip_grad_norm_(parameters, self.train.grad_clip_norm)
            optimizer.step()
        # Autocast keeps bfloat16 copies of weights, which have just changed.
        torch.clear_autocast_cache()

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rate of the last step, by group."""
        return {group: float(one.param_groups[0]["lr"]) for group, one in self.optimizers.items()}

    def autocast(self) -> torch.autocast:
        """Return the context that computes in the hardware's native precision."""
        return torch.autocast(
            self.hardware.device.type,
            dtype=self.hardware.autocast_dtype,
            enabled=self.hardware.autocast_dtype is not None,
        )

    @contextmanager
    def ema_weights(self) -> Iterator[SwapModel]:
        """Lend the model with its averaged weights, for judging and showing, not for learning."""
        self._swap_ema()
        self.model.eval()
        try:
            with torch.no_grad(), self.autocast(), eager_mode(self.train):
                yield self.model
        finally:
            self.model.train()
            self._swap_ema()

    def export_weights(self) -> Tensors:
        """Return what `convert` needs: the model's state, averaged where it is averaged."""
        every = {**_model_state(self.model), **{k: v.detach() for k, v in self.ema.items()}}
        left_out = self.model.training_only_prefixes
        return {name: value for name, value in every.items() if not name.startswith(left_out)}

    def state_dict(self) -> Tensors:
        """Return everything that training changes, by name."""
        found = {f"model/{name}": value for name, value in _model_state(self.model).items()}
        found |= {f"average/{name}": value for name, value in self.ema.items()}
        for group, optimizer in self.optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                for name, value in moments.items():
                    found[f"optimizer/{group}/{index}/{name}"] = value
        return found

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up where `tensors()` left off.

        Raises:
            KeyError, RuntimeError: They are of other networks.
        """
        self.model.load_state_dict(_strip_prefix(tensors, "model/"))
        self._rebind_parameters()
        for name, value in _strip_prefix(tensors, "average/").items():
            if name in self.ema:
                self.ema[name].copy_(value)
        for group, optimizer in self.optimizers.items():
            moments: dict[int, Tensors] = {}
            for name, value in _strip_prefix(tensors, f"optimizer/{group}/").items():
                index, key = name.split("/")
                moments.setdefault(int(index), {})[key] = value.clone()
            table = optimizer.state_dict()
            optimizer.load_state_dict({**table, "state": moments})

    def _collect_parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return what the model learns now, by group."""
        return {
            # Frozen ones too: their places hold when a run goes on with other parts frozen.
            group: list(parameters)
            for group, parameters in self.model.parameter_groups().items()
        }

    def _rebind_parameters(self) -> None:
        """Take up the parameters there are now, where the model's networks were built anew."""
        groups = self._collect_parameter_groups()
        if all(_are_same_parameters(groups[name], self.parameter_groups[name]) for name in groups):
            return
        self.model.to(memory_format=self.hardware.memory_format)  # type: ignore[call-overload]  # not in its stub
        self.parameter_groups = groups
        for group, parameters in groups.items():
            before = self.optimizers[group].state
            after = create_optimizer(parameters, self.train, lr=self.model.learning_rate(group))
            after.state.update({one: before[one] for one in parameters if one in before})
            self.optimizers[group] = after
        if self.ema:
            self.ema = {
                name: self.ema.get(name, one.detach().clone())
                for name, one in self.model.named_parameters()
            }
        compile_networks(self.model, self.train)

    def _step_with_oom_retry(self, batch: FaceBatch, progress: TrainProgress) -> Tensors:
        """Learn from a batch in as many parts as memory needs, finding that number by failing.

        The effective batch stays what it is: gradients add up over the parts.
        """
        size = batch.target.shape[1]
        while True:
            try:
                return self._step_micro_batches(
                    batch, progress, split_micro_batches(size, self.grad_accum_steps)
                )
            except (torch.OutOfMemoryError, RuntimeError) as error:
                raise_if_compile_error(error)
                if not is_out_of_memory(error):
                    raise
                if self.grad_accum_steps >= size:
                    raise DeviceError(
                        "memory is too small for one face of each person",
                        hint="choose a lighter preset, or a smaller --set model.size_px",
                    ) from error
            # Outside `except`, whose traceback would keep the failed step's tensors alive.
            self.grad_accum_steps = min(size, self.grad_accum_steps * 2)
            for optimizer in self.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            if self.hardware.device.type == "cuda":
                torch.cuda.empty_cache()

    def _step_micro_batches(
        self, batch: FaceBatch, progress: TrainProgress, micro_batches: Sequence[MicroBatch]
    ) -> Tensors:
        """Show the model a batch part by part; return the losses of the whole."""
        total: Tensors = {}
        for self.micro_batch in micro_batches:
            with self.autocast():
                losses = self.model.train_step(
                    self.micro_batch.select(batch), self.update, progress
                )
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + loss.detach() * self.micro_batch.weight
        return total

    def _update_ema(self, images_seen: int, images: int) -> None:
        """Move the averaged weights towards the weights after a step of `images`."""
        if not self.ema:
            return
        halflife = min(self.train.ema_halflife_images, EMA_RAMPUP_RATIO * images_seen)
        keep = 0.5 ** (images / halflife) if halflife else 0.0
        now = [one.detach() for _, one in self.model.named_parameters()]
        torch._foreach_lerp_(list(self.ema.values()), now, 1 - keep)

    def _swap_ema(self) -> None:
        """Exchange the model's weights with the averaged ones."""
        for name, one in self.model.named_parameters():
            if name in self.ema:
                one.data, self.ema[name] = self.ema[name], one.data


def training_loop(
    should_stop: Callable[[TrainState], bool],
    *,
    trainer: Trainer,
    loader: FaceLoader,
    state: TrainState,
    seed: int,
    max_images: int | None,
    fraction_done: Callable[[TrainState], float],
    on_step_end: Callable[[TrainState, Tensors], TrainState],
    dist: DistributedContext | None = None,
    reload_state: Callable[[], TrainState] = TrainState,
    on_growth: Callable[[TrainState], None] | None = None,
) -> TrainState:
    """Train until `should_stop` says so: the loop that every backend stands on.

    Args:
        should_stop: Asked before every step.
        trainer: What learns.
        loader: Where batches come from.
        state: Where to begin.
        seed: Seed of the run; with the images seen it gives every step its own chance.
        max_images: Images after which training ends, or None: told to the backend.
        fraction_done: Part of the run that is done, 0 to 1, for the schedule.
        on_step_end: Hears of every step, with losses still on the device; what it returns is where
            training goes on, which is an earlier state after a rollback.
        dist: The processes that train together; the leader's answers hold for all.
        reload_state: Puts the trainer where the leader went back to, in the processes that follow.
        on_growth: Hears when networks that grow have come to the end of a stage.

    Returns:
        Where training ended.
    """
    images, model = loader.images_per_step, trainer.model
    dist = dist or DistributedContext()
    while True:
        factor = trainer.schedule(fraction_done(state)) * state.rate_factor
        factor *= warmup_factor(state.images_seen, trainer.train.warmup_images)
        plateaus = [
            state.plateaus.get(group, PlateauState()).factor for group in trainer.parameter_groups
        ]
        progress = TrainProgress(images_seen=state.images_seen, max_images=max_images)
        due = model.growth_due(progress) if isinstance(model, GrowingModel) else 0
        is_over, place, structure, factor, *plateaus = dist.broadcast_scalars(
            [should_stop(state), state.images_seen, due, factor, *plateaus]
        )
        if is_over:
            return state
        if place != state.images_seen:
            state = reload_state()
            progress = replace(progress, images_seen=state.images_seen)
        if isinstance(model, GrowingModel) and structure != model.growth_step:
            if on_growth is not None:
                on_growth(state)
            # The same new weights in every process.
            torch.manual_seed(derive_seed(seed, state.images_seen, "growth"))
            trainer.grow(int(structure), progress)
        began = time.monotonic()
        batch = loader.batch(state.images_seen)
        torch.manual_seed(derive_seed(seed, state.images_seen, f"step of process {dist.rank}"))
        by_group = dict(zip(trainer.parameter_groups, plateaus, strict=True))
        losses = trainer.step(
            batch, progress, lr_scale=factor, images=images, group_lr_scales=by_group
        )
        state = replace(
            state,
            images_seen=state.images_seen + images,
            seconds=state.seconds + time.monotonic() - began,
        )
        state = on_step_end(state, losses)


class RunningMean:
    """Adds losses up where they are, and reads them off when asked."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.total: Tensor | None = None
        self.steps = 0

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one step."""
        if not losses:
            return
        if self.names != tuple(losses):  # a phase began, and with it another loss
            self.names, self.total, self.steps = tuple(losses), None, 0
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        self.total = values if self.total is None else self.total + values
        self.steps += 1

    def compute(self) -> dict[str, float]:
        """Return the mean of each loss since the last reading, and begin anew."""
        if self.total is None:
            return {}
        means = (self.total / self.steps).tolist()
        self.total, self.steps = None, 0
        return dict(zip(self.names, means, strict=True))


OPTIMIZERS: Mapping[str, type[torch.optim.Adam]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def create_optimizer(
    parameters: Sequence[nn.Parameter], train: TrainSettings, *, lr: float
) -> torch.optim.Optimizer:
    """Return the optimizer that the settings ask for, fused where the device can.

    Raises:
        ConfigurationError: There is no optimizer of that name.
    """
    if train.optimizer not in OPTIMIZERS:
        raise ConfigurationError(
            f'train.optimizer: there is no optimizer called "{train.optimizer}"',
            hint=did_you_mean(train.optimizer, OPTIMIZERS),
        )
    decay = train.weight_decay if train.optimizer == "adamw" else 0.0
    return OPTIMIZERS[train.optimizer](
        parameters,
        lr=lr,
        betas=(train.beta1, train.beta2),
        weight_decay=decay,
        # One pass over memory instead of several: three times as fast on a CPU.
        fused=all(one.device.type in ("cpu", "cuda") for one in parameters),
    )


def _model_state(model: SwapModel) -> Tensors:
    """Return the parameters and buffers of a model."""
    return {name: value.detach() for name, value in model.state_dict().items()}


def _are_same_parameters(some: Sequence[nn.Parameter], others: Sequence[nn.Parameter]) -> bool:
    """Say whether two rows are of the very same parameters."""
    return [id(one) for one in some] == [id(one) for one in others]


def _strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
