"""What trainer and converter ask of a backend; knows nothing of files, video or the terminal."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The `[model]` section: fixed for the life of a checkpoint. Backends add their own fields."""

    size_px: int = 64
    """Side of the square the network sees and makes, px."""
    coverage: float = 0.8
    """Side of that square as a part of the crop's side, 0 to 1."""
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        "size_px": (1, math.inf),
        "coverage": (0.1, 1),
    }
    """The least and the largest value of settings; all others are 0 or more."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The `[train]` section: may change when a run is resumed. Backends add their own fields."""

    batch_size: int = 16
    """Faces of each person in a step."""
    learning_rate: float = 1e-4
    """Step length of the optimizer."""
    optimizer: str = "adam"
    """`adam` or `adamw`."""
    beta1: float = 0.9
    """Decay of the gradient's running mean (Adam)."""
    beta2: float = 0.999
    """Decay of the squared gradient's running mean (Adam)."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW only)."""
    grad_clip_norm: float = 0.0
    """Largest norm of a group's gradient; 0 does not clip."""
    lr_schedule: str = "constant"
    """How the learning rate goes: `constant`, `linear`, `cosine` or `plateau`."""
    warmup_images: int = 0
    """Images over which the learning rate rises from 0."""
    num_threads: int = 0
    """Processor threads of a training on a CPU; 0 takes all there are."""
    ema_halflife_images: int = 5_000
    """Half-life of the averaged weights that are exported, images; 0 exports the raw ones."""
    warp_strength: float = 1.0
    """Strength of the random warp of the inputs, as a multiple of the classic one; 0 is none."""
    rotate_deg: float = 10.0
    """Largest random rotation of a crop."""
    scale_jitter: float = 0.05
    """Largest random change of scale, as a fraction."""
    translate_jitter: float = 0.05
    """Largest random shift, as a fraction of the side."""
    flip_prob: float = 0.5
    """How often a crop is mirrored (first paper: 1/2)."""
    pose_pairing_prob: float = 0.0
    """How often a face comes with others' faces of like yaw, pitch and opening of the mouth."""
    color_jitter: float = 0.0
    """Largest random change of lightness and colour in LAB, as a fraction of their range."""
    color_transfer_prob: float = 0.0
    """How often a face takes on the colours of another person's, mean and deviation in LAB."""
    input_color_jitter: float = 0.0
    """Largest random change of brightness and of each colour in what the network is shown, as a
    fraction. The target keeps its colours: they become the decoder's business, not the code's."""
    compile: bool = False
    """Compile the networks before learning: some faster steps for minutes of compiling."""
    freeze: tuple[str, ...] = ()
    """Parts of the networks, such as `encoder`, that stay as they are."""
    preview_interval_images: int = 20_000
    """Images between two preview sheets."""
    checkpoint_interval_images: int = 20_000
    """Images between two saves."""
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
    }
    """The least and the largest value of settings; all others are 0 or more."""


@dataclass(frozen=True, kw_only=True)
class FaceBatch:
    """Faces of every person, people first: (P, B, ...), so `flatten(0, 1)` is one big batch."""

    warped: Tensor
    """float32 (P, B, 3, S, S) in [-1, 1]: what the network is shown."""
    target: Tensor
    """float32 (P, B, 3, S, S) in [-1, 1]: the same crops before the random warp."""
    mask: Tensor
    """float32 (P, B, 1, S, S) in [0, 1]: 1 inside the face's outline, in the target's place."""
    feature_mask: Tensor = None  # type: ignore[assignment]  # set below where it is not given
    """float32 (P, B, 1, S, S) in [0, 1]: 1 on eyes and mouth; 0 throughout where nobody says."""

    def __post_init__(self) -> None:
        """Mark no features where none are given."""
        if self.feature_mask is None:
            object.__setattr__(self, "feature_mask", torch.zeros_like(self.mask))


class SwapOutput(NamedTuple):
    """What a network made of some faces."""

    image: Tensor
    """(B, 3, S, S) in [-1, 1]."""
    mask: Tensor | None
    """(B, 1, S, S) in [0, 1], or None for a backend that learns no mask."""


@dataclass(frozen=True, kw_only=True)
class TrainProgress:
    """How far training has come, on its one clock."""

    images_seen: int
    """Crops shown so far, of all people together."""
    max_images: int | None
    """Images after which training ends; None when it ends otherwise."""


UpdateFn = Callable[[str, Tensor], None]
"""`update(group, loss)`: clear, backward, reduce, clip and step for that parameter group."""


class SwapModel(nn.Module, ABC):
    """A backend: networks for two or more people, and one training step.

    Args:
        model: What fixes the networks.
        train: What steers their training.
        identities: Names of the people, in the order of `FaceBatch`'s first dimension.
    """

    model_settings_type: ClassVar[type[ModelSettings]] = ModelSettings
    """The backend's own `[model]` section."""
    train_settings_type: ClassVar[type[TrainSettings]] = TrainSettings
    """The backend's own `[train]` section."""
    training_only_prefixes: ClassVar[tuple[str, ...]] = ()
    """How the names of weights and buffers begin that no swap needs: they are not exported."""

    def __init__(
        self, model: ModelSettings, train: TrainSettings, identities: Sequence[str]
    ) -> None:
        super().__init__()
        self.model_settings = model
        self.train_settings = train
        self.identities = tuple(identities)

    @abstractmethod
    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return the parameters by group; each group has its own optimizer state and `update`."""

    def learning_rate(self, group: str) -> float:
        """Return the base learning rate of a group; a GAN may want a faster discriminator."""
        del group
        return self.train_settings.learning_rate

    def compilable_networks(self) -> Sequence[nn.Module]:
        """Return the networks that `[train] compile` is about: each is called as a whole."""
        return ()

    @abstractmethod
    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Learn from one batch, calling `update` once per group; return named scalar losses.

        Randomness comes from torch's global generator, which the trainer seeds from the position
        before every step; any other state that outlives a step must be a registered buffer.
        """

    def validation_losses(self, batch: FaceBatch) -> Mapping[str, Tensor]:
        """Return what groups minimise, as scalars by group, on faces never learnt from.

        The plateau schedule slows each group by its own. A group that is left out, as all are
        here, goes by the held-out error that every backend has. Called without gradients, in
        evaluation mode, with the same faces, warps and seed every time.
        """
        del batch
        return {}

    @abstractmethod
    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Show `faces` (B, 3, S, S) in [-1, 1], of anybody, as the person called `identity`."""
