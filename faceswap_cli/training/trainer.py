"""Trainer: a model with its optimizers, averaged weights and precision; `step` trains on a batch.

Time is counted in images seen, and the loop seeds every step from its position, so a run that was
stopped anywhere continues as if it had not been.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from faceswap_cli.core.errors import (
    ConfigurationError,
    DeviceError,
    did_you_mean,
    is_memory_error,
)
from faceswap_cli.core.hardware import Hardware, release_cached_memory
from faceswap_cli.training.schedule import get_schedule
from faceswap_models.base import FaceBatch, SwapModel, TrainProgress, TrainSettings
from faceswap_models.growing import GrowingModel

EMA_RAMPUP_RATIO = 0.05
"""The averaged weights' half-life is at most this part of the images seen, so that the first
random weights are soon forgotten (Karras et al. 2024, EDM2's rampup ratio)."""
COMPILE_BACKEND = "inductor"
"""torch's own. Measured on one CPU thread: steps of the light CycleGAN are a tenth shorter, after
two minutes of compiling; those of the light autoencoder are not. So `[train] compile` is off by
default."""

Tensors = dict[str, Tensor]
"""Name -> tensor, as safetensors stores them."""


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """A part of a batch: memory may be too small for all of its faces at once."""

    indices: slice = field(default_factory=lambda: slice(None))
    """Which faces of each identity."""
    weight: float = 1.0
    """Their share of the batch, 0 to 1."""
    is_first: bool = True
    is_last: bool = True

    def select(self, batch: FaceBatch) -> FaceBatch:
        """Return this part of a batch."""
        parts = {name: value[:, self.indices] for name, value in vars(batch).items()}
        return replace(batch, **parts)


def split_micro_batches(size: int, count: int) -> list[MicroBatch]:
    """Divide a batch of `size` faces of each identity into `count` parts of nearly equal size."""
    edges = [size * index // count for index in range(count + 1)]
    return [
        MicroBatch(
            indices=slice(start, end),
            weight=(end - start) / size,
            is_first=start == 0,
            is_last=end == size,
        )
        for start, end in pairwise(edges)
    ]


class StepOutOfMemoryError(RuntimeError):
    """A step ran out of memory; networks and buffers may have been changed by a part of it."""


class Trainer:
    """A model with its optimizers, averaged weights and precision.

    Args:
        model: Already on its device.
        train: The settings.
        hardware: The device, and the precision to compute in.
        all_reduce: Averages gradients over processes, in place; None for a single process.

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
        self.group_losses: Tensors = {}
        """Loss that each parameter group minimized in the last step, on the device."""
        self.parameter_groups = self._collect_parameter_groups()
        self.optimizers = {
            group: create_optimizer(parameters, train, lr=model.learning_rate(group))
            for group, parameters in self.parameter_groups.items()
        }
        self.ema: Tensors = (
            {name: one.detach().clone() for name, one in model.named_parameters()}
            if train.ema_halflife_images
            else {}
        )
        self._compile()

    def step(
        self,
        batch: FaceBatch,
        progress: TrainProgress,
        *,
        lr_scale: float,
        images: int,
        group_lr_scales: Mapping[str, float] | None = None,
    ) -> Tensors:
        """Train on one batch, in `grad_accum_steps` micro-batches whose gradients add up.

        Args:
            batch: Faces of every identity.
            progress: How far training is.
            lr_scale: Factor of every learning rate.
            images: Faces in the batch, of all processes together.
            group_lr_scales: Further factors of single groups' rates.

        Returns:
            Named scalar losses, still on the device: reading one would make the host wait.

        Raises:
            StepOutOfMemoryError: See `split_further`. The step may have been taken in part.
        """
        for group, optimizer in self.optimizers.items():
            rate = self.model.learning_rate(group) * lr_scale
            optimizer.param_groups[0]["lr"] = rate * (group_lr_scales or {}).get(group, 1.0)
        losses: Tensors = {}
        self.group_losses = {}
        try:
            for part in split_micro_batches(batch.target.shape[1], self.grad_accum_steps):
                with self._autocast():
                    update = partial(self._update, part)
                    part_losses = self.model.train_step(part.select(batch), update, progress)
                for name, loss in part_losses.items():
                    losses[name] = losses.get(name, 0) + loss.detach() * part.weight
        except (torch.OutOfMemoryError, RuntimeError) as error:
            _raise_compiler_error(error)
            if not is_out_of_memory(error):
                raise
            message = str(error).partition("\n")[0]
        else:
            self._update_ema(progress.images_seen, images)
            return losses
        # Outside `except`, whose traceback would keep the failed step's tensors alive.
        raise StepOutOfMemoryError(message)

    def split_further(self, batch_size: int) -> None:
        """Double the number of micro-batches, after a step ran out of memory.

        The effective batch stays the same. Networks must be restored before the next step.

        Args:
            batch_size: Faces of each identity in this process's part of a batch.

        Raises:
            DeviceError: A micro-batch is a single face already.
        """
        if self.grad_accum_steps >= batch_size:
            raise DeviceError(
                "memory is too small for one face of each person",
                hint="choose a lighter preset, or a smaller --set model.size_px",
            )
        self.grad_accum_steps = min(batch_size, self.grad_accum_steps * 2)
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        release_cached_memory(self.hardware.device)

    @property
    def growth_step(self) -> int:
        """Growth step of the networks; 0 throughout for networks that do not grow."""
        return self.model.growth_step if isinstance(self.model, GrowingModel) else 0

    def growth_due(self, progress: TrainProgress) -> int:
        """Return the growth step that the next training step needs."""
        return self.model.growth_due(progress) if isinstance(self.model, GrowingModel) else 0

    def grow(self, growth_step: int, progress: TrainProgress) -> None:
        """Rebuild the networks as those of `growth_step`.

        Parameters that stay keep their moments and averages; new ones begin without.
        """
        assert isinstance(self.model, GrowingModel)
        self.model.grow(growth_step, progress)
        self._rebind_parameters()

    def learning_rates(self) -> dict[str, float]:
        """Return the learning rates of the last step, by group."""
        return {group: float(one.param_groups[0]["lr"]) for group, one in self.optimizers.items()}

    def _autocast(self) -> torch.autocast:
        """Return the context that computes in the hardware's native precision."""
        return torch.autocast(
            self.hardware.device.type,
            dtype=self.hardware.autocast_dtype,
            enabled=self.hardware.autocast_dtype is not None,
        )

    @contextmanager
    def ema_weights(self) -> Iterator[SwapModel]:
        """Lend the model with its averaged weights, in evaluation mode and without gradients."""
        self._swap_ema()
        self.model.eval()
        try:
            with torch.no_grad(), self._autocast(), _uncompiled(self.train):
                yield self.model
        finally:
            self.model.train()
            self._swap_ema()

    def export_weights(self) -> Tensors:
        """Return what `convert` needs of the state."""
        return select_exported(self.state_dict(), self.model)

    def state_dict(self) -> Tensors:
        """Return everything that training changes, by name."""
        tensors = {f"model/{name}": value for name, value in _model_state(self.model).items()}
        tensors |= {f"average/{name}": value.detach() for name, value in self.ema.items()}
        for group, optimizer in self.optimizers.items():
            for index, moments in optimizer.state_dict()["state"].items():
                for name, value in moments.items():
                    tensors[f"optimizer/{group}/{index}/{name}"] = value
        return tensors

    def is_finite(self) -> bool:
        """Return whether all that training changes are numbers, as losses do not show.

        The square of a gradient of 1e20 is infinite as a moment, and its weight never moves again.
        Buffers may be infinite: the best error of a model that has not been judged yet is.
        """
        buffers = {f"model/{name}" for name, _ in self.model.named_buffers()}
        finite = [
            (~torch.isnan(value) if name in buffers else torch.isfinite(value)).all()
            for name, value in self.state_dict().items()
        ]
        return all(torch.stack([one.cpu() for one in finite]).tolist())

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            KeyError, RuntimeError: The tensors belong to other networks.
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

    def _update(self, part: MicroBatch, group: str, loss: Tensor) -> None:
        """Step one group down the gradient of `loss`: the `update` that a backend is given.

        Gradients of micro-batches add up, and the last one steps.
        """
        parameters, optimizer = self.parameter_groups[group], self.optimizers[group]
        # Backward runs in the precisions that forward chose; autocast would choose once more.
        with torch.autocast(self.hardware.device.type, enabled=False):
            if part.is_first:
                optimizer.zero_grad(set_to_none=True)
            # With these inputs a generator's loss leaves no gradients in its discriminator.
            trained = [one for one in parameters if one.requires_grad]
            weighted = loss * part.weight
            torch.autograd.backward(weighted, inputs=trained)
            self.group_losses[group] = self.group_losses.get(group, 0) + weighted.detach()
            if not part.is_last:
                return
            if self.all_reduce is not None:
                self.all_reduce([one.grad for one in parameters if one.grad is not None])
            if self.train.grad_clip_norm > 0:
                nn.utils.clip_grad_norm_(parameters, self.train.grad_clip_norm)
            optimizer.step()
        # Autocast keeps bfloat16 copies of weights, which have just changed.
        torch.clear_autocast_cache()

    def _collect_parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the model's parameters by group, as its networks are now."""
        return {
            # Frozen ones too: their indices hold when a run resumes with other parts frozen.
            group: list(parameters)
            for group, parameters in self.model.parameter_groups().items()
        }

    def _rebind_parameters(self) -> None:
        """Give optimizers and averages the current parameters, after networks were rebuilt."""
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
        self._compile()

    def _compile(self) -> None:
        """Compile networks of final structure, if set to; weights keep their names."""
        if self.train.compile and not (
            isinstance(self.model, GrowingModel) and self.model.is_growing
        ):
            for network in self.model.compilable_networks():
                network.compile(backend=COMPILE_BACKEND)

    def _update_ema(self, images_seen: int, images: int) -> None:
        """Move the averaged weights towards the weights after a step of `images`."""
        if not self.ema:
            return
        halflife = min(self.train.ema_halflife_images, EMA_RAMPUP_RATIO * images_seen)
        decay = 0.5 ** (images / halflife) if halflife else 0.0
        current = [one.detach() for _, one in self.model.named_parameters()]
        torch._foreach_lerp_(list(self.ema.values()), current, 1 - decay)

    def _swap_ema(self) -> None:
        """Exchange the model's weights with the averaged ones."""
        for name, one in self.model.named_parameters():
            if name in self.ema:
                one.data, self.ema[name] = self.ema[name], one.data


def select_exported(state: Tensors, model: SwapModel) -> Tensors:
    """Return what `convert` needs of a trainer's state: the model, averaged where it is averaged.

    Args:
        state: See `Trainer.state_dict`.
        model: The model of the trainer.
    """
    return model.select_exported(_strip_prefix(state, "model/") | _strip_prefix(state, "average/"))


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out; CPU and MPS say so in words only."""
    return (
        isinstance(error, torch.OutOfMemoryError)
        or is_memory_error(error)
        or "MPS backend out of memory" in str(error)
    )


OPTIMIZERS: Mapping[str, type[torch.optim.Adam]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def create_optimizer(
    parameters: Sequence[nn.Parameter], train: TrainSettings, *, lr: float
) -> torch.optim.Optimizer:
    """Return the optimizer that the settings name, fused where the device can.

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


def _uncompiled(train: TrainSettings) -> AbstractContextManager[object]:
    """Return the context in which networks are not compiled anew for every other batch size."""
    # Asked only where it matters: the compiler takes seconds to import.
    return torch.compiler.set_stance("force_eager") if train.compile else nullcontext()


def _raise_compiler_error(error: BaseException) -> None:
    """Explain an error of the compiler: it is not installed, or does not support the networks.

    Raises:
        DeviceError: It is one.
    """
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # "backend='inductor' raised:" does not say what.
        reason = next((line for line in lines if not line.endswith(":")), type(error).__name__)
        raise DeviceError(
            f"the networks cannot be compiled here: {reason}",
            hint="train without --set train.compile=true",
        ) from error


def _model_state(model: SwapModel) -> Tensors:
    """Return the parameters and buffers of a model."""
    return {name: value.detach() for name, value in model.state_dict().items()}


def _are_same_parameters(some: Sequence[nn.Parameter], others: Sequence[nn.Parameter]) -> bool:
    """Return whether two lists hold the very same parameters."""
    return [id(one) for one in some] == [id(one) for one in others]


def _strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """Return the tensors whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
