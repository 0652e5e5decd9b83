"""`GrowingModel`: backends whose networks get more layers during training.

The trainer calls `growth_due` before every step and `grow` when its answer differs from
`growth_step`; both are steps of one sequence that ends at `final_growth_step`.
"""

from abc import abstractmethod

from faceswap_models.base import SwapModel, TrainProgress


class GrowingModel(SwapModel):
    """A model whose networks grow; the growth step must be a part of its state.

    `load_state_dict` first builds the networks of the state's growth step.
    """

    @property
    @abstractmethod
    def growth_step(self) -> int:
        """Number of growth steps taken, from 0: fixes the layers that exist now."""

    @property
    @abstractmethod
    def final_growth_step(self) -> int:
        """The growth step of the complete networks."""

    @property
    def is_growing(self) -> bool:
        """Whether the networks are not complete yet."""
        return self.growth_step != self.final_growth_step

    @property
    @abstractmethod
    def growth_stage(self) -> int:
        """Number of the current stage, from 1; a stage that is faded in counts already."""

    @property
    @abstractmethod
    def num_growth_stages(self) -> int:
        """Number of stages."""

    @property
    @abstractmethod
    def is_fading(self) -> bool:
        """Whether the newest layers are still being faded in."""

    @abstractmethod
    def growth_due(self, progress: TrainProgress) -> int:
        """Return the growth step that the next training step needs."""

    @abstractmethod
    def grow(self, growth_step: int, progress: TrainProgress) -> None:
        """Build the networks of `growth_step`; weights of layers that stay are unchanged.

        Afterwards the trainer collects the parameters again; those that stay keep their optimizer
        moments and averages.
        """

    @abstractmethod
    def on_validation(self, val_error: float) -> None:
        """Record the error of a scheduled validation; what it records must be in buffers."""
