"""`SwapModel`, the interface of a backend, with its settings, batches and outputs."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

MAX_MODEL_SETTING = 16_384
"""Largest number of channels and the like: sixteen times those of the largest preset."""
MAX_LAYERS = 32
"""Longest list of a `[model]` setting, which has one value for each layer."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The `[model]` section: fixed for the life of a checkpoint. Backends add their own fields."""

    size_px: int = 64
    """Side of the network's square input and output, px."""
    coverage: float = 0.8
    """Side of that square as a fraction of the crop's side, 0 to 1."""

    @property
    def output_px(self) -> int:
        """Side of the faces that `SwapModel.add_detail` returns, px."""
        return self.size_px

    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "size_px": (1, 4096),
        "coverage": (0.1, 1),
    }
    """Minimum and maximum by setting; all others are from 0 to `MAX_MODEL_SETTING`."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The `[train]` section: may change when a run is resumed. Backends add their own fields."""

    batch_size: int = 16
    """Faces of each identity in a step."""
    learning_rate: float = 1e-4
    """Learning rate of the optimizer."""
    optimizer: str = "adam"
    """`adam` or `adamw`."""
    beta1: float = 0.9
    """Decay of the gradient's running mean (Adam)."""
    beta2: float = 0.999
    """Decay of the squared gradient's running mean (Adam)."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW only)."""
    grad_clip_norm: float = 0.0
    """Maximum norm of a group's gradient; 0 does not clip."""
    lr_schedule: str = "constant"
    """Schedule of the learning rate: `constant`, `linear`, `cosine` or `plateau`."""
    warmup_images: int = 0
    """Images over which the learning rate rises from 0."""
    num_threads: int = 0
    """CPU threads of a training on a CPU; 0 uses all."""
    ema_halflife_images: int = 5_000
    """Half-life of the averaged weights (EMA) that are exported, images; 0 exports the raw ones."""
    warp_strength: float = 1.0
    """Strength of the random warp of the inputs, relative to the original network's; 0 disables."""
    rotate_deg: float = 10.0
    """Maximum random rotation of a crop, degrees."""
    scale_jitter: float = 0.05
    """Maximum random change of scale, as a fraction."""
    translate_jitter: float = 0.05
    """Maximum random translation, as a fraction of the side."""
    flip_prob: float = 0.5
    """Probability of mirroring a crop (first paper: 1/2)."""
    pose_pairing_prob: float = 0.0
    """Probability of pairing a face with other identities' faces of similar yaw, pitch and mouth
    opening."""
    color_jitter: float = 0.0
    """Maximum random change of lightness and color in LAB, as a fraction of their range."""
    color_transfer_prob: float = 0.0
    """Probability of giving a face another identity's color mean and deviation in LAB."""
    input_color_jitter: float = 0.0
    """Maximum random change of brightness and of each channel of the network's input, as a
    fraction. The target keeps its colors, so the decoder learns them instead of the latent."""
    input_degradation_prob: float = 0.0
    """Probability of changing an input as footage does (gamma, saturation, shading, sharpness,
    grain); the target stays as it is."""
    occlusion_prob: float = 0.0
    """Probability of drawing a hand or another thing in front of the face in the network's input.
    The target keeps the whole face, so the decoder learns to draw what is behind."""
    compile: bool = False
    """Compile the networks before training: somewhat faster steps for minutes of compiling."""
    freeze: tuple[str, ...] = ()
    """Parts of the networks, such as `encoder`, that are not trained."""
    preview_interval_images: int = 20_000
    """Images between two previews."""
    checkpoint_interval_images: int = 20_000
    """Images between two checkpoints."""
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "batch_size": (1, math.inf),
        "beta1": (0, 0.9999),
        "beta2": (0, 0.999999),
        "rotate_deg": (0, 180),
        "scale_jitter": (0, 1),
        "translate_jitter": (0, 1),
        "flip_prob": (0, 1),
        "pose_pairing_prob": (0, 1),
        "color_transfer_prob": (0, 1),
        "input_degradation_prob": (0, 1),
        "occlusion_prob": (0, 1),
    }
    """Minimum and maximum by setting; all others are 0 or more."""


@dataclass(frozen=True, kw_only=True)
class FaceBatch:
    """B faces of each of P identities: (P, B, ...), so `flatten(0, 1)` is one big batch."""

    warped: Tensor
    """float32 (P, B, 3, S, S) in [-1, 1]: the network's input."""
    target: Tensor
    """float32 (P, B, 3, S, S) in [-1, 1]: the same crops before the random warp."""
    mask: Tensor
    """float32 (P, B, 1, S, S) in [0, 1]: 1 inside the face's outline in `target`."""
    feature_mask: Tensor = None  # type: ignore[assignment]  # set below if it is not given
    """float32 (P, B, 1, S, S) in [0, 1]: 1 on eyes and mouth of `target`; default: all 0."""
    detail_target: Tensor = None  # type: ignore[assignment]  # as above
    """float32 (P, B, 5, Q, Q): a square part of each target at the size of the output with detail:
    the image in [-1, 1], its mask and its feature mask. Q is 0 in a step without any."""
    detail_position: Tensor = None  # type: ignore[assignment]  # as above
    """int64 (P, B, 2): top and left of that part in the whole output, px."""

    def __post_init__(self) -> None:
        """Set the defaults."""
        shape = self.target.shape[:-3]
        defaults = {
            "feature_mask": torch.zeros_like(self.mask),
            "detail_target": self.target.new_zeros(*shape, 5, 0, 0),
            "detail_position": self.target.new_zeros(*shape, 2, dtype=torch.int64),
        }
        for name, default in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)


class SwapOutput(NamedTuple):
    """Output of a network for a batch of faces."""

    image: Tensor
    """(B, 3, S, S) in [-1, 1]."""
    mask: Tensor | None
    """(B, 1, S, S) in [0, 1], or None for a backend that predicts no mask."""


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """Progress of training, counted in images."""

    images_seen: int
    """Crops shown so far, over all identities."""
    max_images: int | None
    """Images after which training ends; None without such a limit."""


UpdateFn = Callable[[str, Tensor], None]
"""`update(group, loss)`: zero gradients, backward, all-reduce, clip and step for that group."""


class SwapModel(nn.Module, ABC):
    """A backend: networks for one or more identities, and one training step.

    Args:
        model: The `[model]` section.
        train: The `[train]` section.
        identities: Names of the identities, in the order of `FaceBatch`'s first dimension.
    """

    model_settings_type: ClassVar[type[ModelSettings]] = ModelSettings
    """The backend's own `[model]` section."""
    train_settings_type: ClassVar[type[TrainSettings]] = TrainSettings
    """The backend's own `[train]` section."""
    training_only_prefixes: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the names of weights and buffers that `swap` does not need: not exported."""
    opposed_losses: ClassVar[tuple[str, ...]] = ()
    """Names of losses that rise where another network learns: a jump of theirs is no failure."""

    def __init__(
        self, model: ModelSettings, train: TrainSettings, identities: Sequence[str]
    ) -> None:
        super().__init__()
        self.model_settings = model
        self.train_settings = train
        self.identities = tuple(identities)

    @abstractmethod
    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return the parameters by group; each group has its own optimizer and `update`."""

    def learning_rate(self, group: str) -> float:
        """Return the base learning rate of a group; a GAN may want a faster discriminator."""
        del group
        return self.train_settings.learning_rate

    def compilable_networks(self) -> Sequence[nn.Module]:
        """Return the networks that `[train] compile` compiles; each is called as a whole."""
        return ()

    @abstractmethod
    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Train on one batch, calling `update` once per group; return scalar losses by name.

        Randomness comes from torch's global generator, which the trainer seeds from the images
        seen before every step; any other state that outlives a step must be a registered buffer.
        """

    def select_exported(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what a trained model consists of: a state without `training_only_prefixes`."""
        left_out = self.training_only_prefixes
        return {name: value for name, value in state.items() if not name.startswith(left_out)}

    def validation_losses(self, batch: FaceBatch) -> Mapping[str, Tensor]:
        """Return the losses that groups minimize, as scalars by group, on validation faces.

        The plateau schedule lowers the rate of each group by its own loss; groups that are left
        out, as all are here, use the validation error. Called without gradients, in evaluation
        mode, with the same faces, warps and seed every time.
        """
        del batch
        return {}

    @abstractmethod
    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return `faces` (B, 3, S, S) in [-1, 1], of any identity, swapped to `identity`.

        Raises:
            KeyError: `identity` was not trained.
        """

    def swap_with_detail(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return `faces` as `swap` does, the image with detail, (B, 3, D, D): what is shown.

        Raises:
            KeyError: `identity` was not trained.
        """
        output = self.swap(faces, identity)
        return output._replace(image=self.add_detail(output.image, identity))

    def add_detail(self, images: Tensor, identity: str) -> Tensor:
        """Return swapped faces (B, 3, S, S) in [-1, 1] with the detail of `identity`: (B, 3, D, D).

        D is the settings' `output_px`. Backends without networks for it return `images`.
        """
        del identity
        return images
