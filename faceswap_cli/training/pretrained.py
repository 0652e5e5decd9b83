"""Initialization from files: bases, pretrained VGG weights, trained runs, and frozen parts.

`initialize_weights` starts new networks; `load_perceptual_weights` loads what a loss needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from faceswap_cli.core import model_files
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import ConfigurationError, InputError, did_you_mean
from faceswap_cli.training.checkpoint import load_weights
from faceswap_models import registry
from faceswap_models.base import SwapModel
from faceswap_models.pretrained import PretrainedModel

VGG16_LAYERS = (
    (0, 208, 7170, (3, 3, 3, 64)),
    (2, 7492, 154989, (3, 3, 64, 64)),
    (5, 155311, 450264, (3, 3, 64, 128)),
    (7, 450842, 1040707, (3, 3, 128, 128)),
    (10, 1041286, 2220976, (3, 3, 128, 256)),
    (12, 2222068, 4581406, (3, 3, 256, 256)),
)
"""Layout of vgg16.ckpt: torchvision's layer number, byte offsets of kernel and bias, and the
kernel's shape (height, width, in, out); two convolutions of each of the first three blocks."""


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """How a new run is initialized; by default from its preset's base, for at least two people."""

    encoder_weights: Path | None = None
    """File of the weights that the networks need by name; None looks for it, or downloads it."""
    init_from: Path | None = None
    """A trained model to copy weights from."""
    from_scratch: bool = False
    """Whether to begin with random weights where there is a base."""
    pool_identities: bool = False
    """Whether all sets are trained as one identity, for an encoder that has seen many faces."""
    min_identities: int = 2
    """Least number of identities."""


def initialize_weights(model: SwapModel, init: InitConfig, *, recipe: Recipe) -> str:
    """Load what new networks are not to start with at random; return what that is, for the user.

    Raises:
        ConfigurationError: The networks take no such file, or not the trained model's weights.
        InputError: A file is missing, or does not fit the networks.
        CheckpointError: The trained model is damaged.
    """
    if init.init_from is not None:
        _load_from_trained(model, init.init_from)
        return f"starts from {init.init_from}"
    if isinstance(model, PretrainedModel) and model.pretrained_file:
        _load_pretrained_file(model, init.encoder_weights)
        return f"the encoder starts from the weights of {model.pretrained_file}"
    if init.encoder_weights is not None:
        raise ConfigurationError(
            "--encoder-weights: these networks have no use for them",
            hint="leave it out, or add --preset vgg19",
        )
    if not init.from_scratch and _load_base(model, recipe):
        return f"starts from the base of {recipe.preset}, taught on synthetic people"
    if model.train_settings.freeze:
        raise ConfigurationError(
            f"--freeze {model.train_settings.freeze[0]}: a new run has nothing trained to freeze",
            hint="start from a trained run: --init-from RUN",
        )
    return "starts from scratch, with random weights"


def load_perceptual_weights(model: SwapModel) -> None:
    """Load the weights of the perceptual loss, if networks have one; they are on their device.

    Raises:
        InputError: The file is missing, or does not fit the loss.
    """
    if not isinstance(model, PretrainedModel) or not model.perceptual_file:
        return
    name = model.perceptual_file
    state = (
        read_vgg16(model_files.find_model_file(name))
        if name in model_files.MODEL_FILES
        else read_tensors(Path(name))
    )
    try:
        model.load_perceptual(state)
    except ValueError as error:
        raise InputError(
            f"{name} does not hold VGG by torchvision's names: {error}",
            hint="give torchvision's file of vgg16 or vgg19",
        ) from error


def freeze_parts(model: SwapModel, names: Sequence[str]) -> None:
    """Exclude parts of a model from training.

    Raises:
        ConfigurationError: It has no such part, or nothing is left to train.
    """
    parts = {
        name: part for name, part in model.named_children() if any(True for _ in part.parameters())
    }
    for name in names:
        if name not in parts:
            raise ConfigurationError(
                f'--freeze: these networks have no part called "{name}"',
                hint=did_you_mean(name, parts),
            )
        parts[name].requires_grad_(False)
    if not any(one.requires_grad for one in model.parameters()):
        raise ConfigurationError("--freeze: nothing is left to train", hint="freeze fewer parts")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file of named tensors, `.safetensors` or one of `torch.save`.

    Of the latter only tensors are read: a file from an untrusted source cannot run code.

    Raises:
        InputError: It is missing, damaged, or holds other things.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise InputError(
            f"{path} is not a file of weights", hint="give a .safetensors or a .pth of tensors"
        ) from error
    if not isinstance(tensors, dict):
        raise InputError(f"{path} does not hold tensors by name")
    return {str(name): value for name, value in tensors.items() if isinstance(value, Tensor)}


def read_vgg16(path: Path) -> dict[str, Tensor]:
    """Read VGG16's first layers, by torchvision's names, from the verified vgg16.ckpt."""
    data = path.read_bytes()
    state = {}
    for number, kernel, bias, shape in VGG16_LAYERS:
        weight = torch.from_numpy(model_files.read_array(data, kernel, shape))
        state[f"features.{number}.weight"] = weight.permute(3, 2, 0, 1).contiguous()
        values = model_files.read_array(data, bias, shape[-1:])
        state[f"features.{number}.bias"] = torch.from_numpy(values)
    return state


def _load_base(model: SwapModel, recipe: Recipe) -> bool:
    """Copy the weights of the preset's base, if it has one that fits; return whether it has."""
    path = registry.find_base(recipe.backend, recipe.preset)
    if path is None or not isinstance(model, PretrainedModel):
        return False
    base = load_weights(path, torch.device("cpu"))
    if (base.recipe.model.size_px, base.recipe.model.coverage) != (
        recipe.model.size_px,
        recipe.model.coverage,
    ):
        return False
    try:
        model.init_from(base.model.to(next(model.parameters()).device))
    except ValueError:  # settings were changed, and with them the networks
        return False
    return True


def _load_from_trained(model: SwapModel, path: Path) -> None:
    """Copy the weights of a trained model."""
    if not isinstance(model, PretrainedModel):
        raise ConfigurationError(
            "--init-from: these networks cannot start from trained ones", hint="leave it out"
        )
    trained = load_weights(path, torch.device("cpu"))
    device = next(model.parameters()).device
    try:
        model.init_from(trained.model.to(device))
    except ValueError as error:
        raise ConfigurationError(
            f"--init-from: {path} does not fit: {error}",
            hint=f"its preset is {trained.recipe.preset!r}; leave --preset and --set model.* out",
        ) from error


def _load_pretrained_file(model: PretrainedModel, path: Path | None) -> None:
    """Load the pretrained file that a model needs."""
    path = path or _find_model_file(model.pretrained_file)
    try:
        model.load_pretrained(read_tensors(path))
    except ValueError as error:
        raise InputError(
            f"{path} does not hold {model.pretrained_file} by torchvision's names: {error}",
            hint="give its state dict, such as torchvision's own file",
        ) from error


def _find_model_file(name: str) -> Path:
    """Find a model file by name; if it is missing, the hint names both ways to get it."""
    try:
        return model_files.find_model_file(name)
    except InputError as error:
        hint = f"{error.hint}, or give the file with --encoder-weights FILE"
        raise InputError(error.message, hint=hint) from error
