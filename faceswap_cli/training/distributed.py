"""Several processes that train one model: who leads, and how all do the same thing.

Knows torch.distributed; refuses to know what is learnt. Started by `torchrun`, which tells each
process its place by environment variables; without it a team is one process.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.training.loader import BatchShard


@dataclass(frozen=True, kw_only=True)
class DistributedContext:
    """This process's place among those that train together."""

    rank: int = 0
    """Number of this process; 0 leads: it alone writes and tells."""
    world_size: int = 1
    """How many processes there are, on all machines."""
    local_rank: int = 0
    """Number of this process on its machine: which of its devices it takes."""

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and tells."""
        return self.rank == 0

    @property
    def shard(self) -> BatchShard:
        """This process's part of every batch."""
        return BatchShard(rank=self.rank, world_size=self.world_size)

    def all_reduce(self, gradients: Sequence[Tensor], *, shard_weight: float) -> None:
        """Replace gradients by their weighted sum over the processes, in place, in one message.

        Args:
            gradients: Of the mean loss over this process's faces.
            shard_weight: This process's faces as a part of the batch.
        """
        if self.world_size == 1 or not gradients:
            return
        flat = torch.cat([one.flatten() for one in gradients]).mul_(shard_weight)
        distributed.all_reduce(flat)
        sizes = [one.numel() for one in gradients]
        for one, total in zip(gradients, torch.split(flat, sizes), strict=True):
            one.copy_(total.view_as(one))

    def broadcast_scalars(self, numbers: Sequence[float]) -> list[float]:
        """Return the leader's numbers in every process."""
        if self.world_size == 1:
            return list(numbers)
        told = torch.tensor(numbers, dtype=torch.float64)
        distributed.broadcast(told, src=0)
        return [float(number) for number in told]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Give every process the leader's values of tensors that all of them have, in place."""
        if self.world_size == 1:
            return
        for name in sorted(tensors):
            value = tensors[name].contiguous()
            distributed.broadcast(value, src=0)
            tensors[name].copy_(value)

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.broadcast_scalars([0.0])


@contextmanager
def init_distributed(batch_size: int) -> Iterator[DistributedContext]:
    """Join the processes that `torchrun` started, and leave them at the end.

    Args:
        batch_size: Faces of each person in a batch, of all processes together.

    Raises:
        ConfigurationError: There are more processes than faces of a person in a batch.
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
    # Numbers to agree on travel on the CPU, so that agreeing does not wait for a GPU's queue.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend)
    try:
        yield DistributedContext(
            rank=distributed.get_rank(),
            world_size=distributed.get_world_size(),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        )
    finally:
        distributed.destroy_process_group()
