"""`DistributedContext`: the processes that `torchrun` started to train one model together."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from faceswap_cli.core.errors import ConfigurationError, DeviceError
from faceswap_cli.training.loader import batch_slice


@dataclass(frozen=True, kw_only=True)
class DistributedContext:
    """This process among those that train together; by default there is no other."""

    rank: int = 0
    """Number of this process; 0 is the main one, which alone logs and writes."""
    world_size: int = 1
    """Number of processes, on all machines."""
    local_rank: int = 0
    """Number of this process on its machine: the index of its device."""

    @property
    def is_main(self) -> bool:
        """Whether this process logs and writes."""
        return self.rank == 0

    def shard_weight(self, batch_size: int) -> float:
        """Return this process's share of a batch of `batch_size` faces of each identity, 0 to 1."""
        local = batch_slice(batch_size, self.rank, self.world_size)
        return float(local.stop - local.start) / batch_size

    def all_reduce(self, gradients: Sequence[Tensor], *, shard_weight: float) -> None:
        """Replace gradients by their weighted sum over the processes, in place, in one message.

        Args:
            gradients: Of the mean loss over this process's faces.
            shard_weight: This process's share of the batch, 0 to 1.
        """
        if self.world_size == 1 or not gradients:
            return
        flat = torch.cat([one.flatten() for one in gradients]).mul_(shard_weight)
        with _translate_lost_process():
            distributed.all_reduce(flat)
        sizes = [one.numel() for one in gradients]
        for one, total in zip(gradients, torch.split(flat, sizes), strict=True):
            one.copy_(total.view_as(one))

    def broadcast_scalars(self, numbers: Sequence[float]) -> list[float]:
        """Return the main process's numbers in every process."""
        if self.world_size == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64)
        with _translate_lost_process():
            distributed.broadcast(values, src=0)
        return [float(number) for number in values]

    def largest(self, number: int) -> int:
        """Return the largest of all processes' numbers, in every process."""
        if self.world_size == 1:
            return number
        numbers = torch.tensor([number])
        with _translate_lost_process():
            distributed.all_reduce(numbers, op=distributed.ReduceOp.MAX)
        return int(numbers.item())

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Give every process the main one's values of tensors that all of them have, in place."""
        if self.world_size == 1:
            return
        for name in sorted(tensors):
            value = tensors[name].contiguous()
            with _translate_lost_process():
                distributed.broadcast(value, src=0)
            tensors[name].copy_(value)

    def barrier(self) -> None:
        """Wait until every process has come this far."""
        self.broadcast_scalars([0.0])

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process finish the block before the others begin it."""
        if not self.is_main:
            self.barrier()
        yield
        if self.is_main:
            self.barrier()


@contextmanager
def _translate_lost_process() -> Iterator[None]:
    """Translate the error of an exchange with a process that has ended.

    Raises:
        DeviceError: There is one.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise DeviceError(
            f"another process of this training has ended: {str(error).partition(chr(10))[0]}",
            hint="its own error says why; the same command resumes from the last checkpoint",
        ) from error


@contextmanager
def init_distributed(batch_size: int) -> Iterator[DistributedContext]:
    """Join the processes that `torchrun` started, and leave them at the end.

    Args:
        batch_size: Faces of each identity in a batch, of all processes together.

    Raises:
        ConfigurationError: There are more processes than faces of an identity in a batch.
        DeviceError: The others cannot be reached.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield DistributedContext()
        return
    if batch_size < count:
        raise ConfigurationError(
            f"{count} processes cannot share batches of {batch_size} faces of each person",
            hint=f"--set train.batch_size={count} or more",
        )
    # Scalars travel on the CPU, so that broadcasting them does not wait for a GPU's queue.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with _translate_lost_process():
        distributed.init_process_group(backend)
    try:
        yield DistributedContext(
            rank=distributed.get_rank(),
            world_size=distributed.get_world_size(),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        )
    finally:
        distributed.destroy_process_group()
