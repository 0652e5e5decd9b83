"""`PretrainedModel`: backends that start from trained weights, or whose loss needs a trained model.

The files are found and read by the caller; a model names them and takes their tensors.
"""

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor

from faceswap_models.base import SwapModel


class PretrainedModel(SwapModel):
    """A model that takes weights trained elsewhere."""

    @property
    @abstractmethod
    def pretrained_file(self) -> str:
        """Name of the model file that new networks of these settings start from, or empty."""

    @abstractmethod
    def load_pretrained(self, state: Mapping[str, Tensor]) -> None:
        """Copy the tensors of `pretrained_file` into new networks.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """

    @abstractmethod
    def init_from(self, other: SwapModel) -> None:
        """Copy the weights that a trained model shares with this one (`--init-from`).

        Raises:
            ValueError: It is of another kind, or its networks are built differently.
        """

    @property
    @abstractmethod
    def perceptual_file(self) -> str:
        """Name or path of the model file that a loss of these settings needs, or empty."""

    @abstractmethod
    def load_perceptual(self, state: Mapping[str, Tensor]) -> None:
        """Build the loss from the tensors of `perceptual_file`; called before the first step.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """
