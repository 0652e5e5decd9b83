"""`ModulatedAutoencoder`: one decoder for many people, modulated by a learned vector of each.

It is taught what a swap is: the face of one person in, that of another in the same moment out. So
nothing is gained by encoding who it is, which the vector says. Afterwards the mean of the vectors
is folded into the decoder, and what is left is an `Autoencoder`, which new people start from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from faceswap_models.backends.autoencoder import (
    AUTOENCODER_GROUP,
    Autoencoder,
    AutoencoderModelSettings,
    AutoencoderTrainSettings,
)
from faceswap_models.base import FaceBatch, SwapModel, SwapOutput, TrainProgress, UpdateFn

VECTOR_DIM = 32
"""Length of a person's vector."""
VECTORS_NAME = "vectors.weight"
"""Name of the vectors' tensor, (people, VECTOR_DIM), in a state."""
VECTOR_STD, MODULATION_STD = 0.5, 0.05
"""Initial deviations of the vectors, and of the layers that turn them into factors and offsets:
everybody begins nearly alike."""


@dataclass(frozen=True, kw_only=True)
class PairBatch(FaceBatch):
    """Faces of people, and those of others in the same moments: (1, B, ...).

    `warped` shows the first, `target` and the masks the others.
    """

    people: Tensor
    """int64 (1, B): number of the person in `target`."""


class ModulatedAutoencoder(SwapModel):
    """An encoder, and a decoder each of whose convolutions is modulated by a person's vector.

    A convolution's output is scaled and shifted by channel before its activation (Perez et al.,
    "FiLM: Visual Reasoning with a General Conditioning Layer", 2018, equation 2). Scaling and
    shifting an output is scaling the weights and shifting the bias, so a vector can be folded in.

    Args:
        model: Settings of the autoencoder.
        train: Settings of the training.
        identities: One name, of everybody.
        num_people: Number of people that have a vector.
    """

    model_settings_type = AutoencoderModelSettings
    train_settings_type = AutoencoderTrainSettings
    model_settings: AutoencoderModelSettings
    train_settings: AutoencoderTrainSettings

    def __init__(
        self,
        model: AutoencoderModelSettings,
        train: AutoencoderTrainSettings,
        identities: Sequence[str],
        *,
        num_people: int,
    ) -> None:
        super().__init__(model, train, identities)
        [_] = self.identities
        self.autoencoder = Autoencoder(model, train, identities)
        self.vectors = nn.Embedding(num_people, VECTOR_DIM)
        self._convolutions = {
            name: layer
            for name, layer in self.autoencoder.decoders[0].named_modules()
            if isinstance(layer, nn.Conv2d)
        }
        self.modulations = nn.ModuleList(
            nn.Linear(VECTOR_DIM, 2 * layer.out_channels) for layer in self._convolutions.values()
        )
        nn.init.normal_(self.vectors.weight, std=VECTOR_STD)
        for modulation in self.modulations:
            assert isinstance(modulation, nn.Linear)
            nn.init.normal_(modulation.weight, std=MODULATION_STD)
            nn.init.zeros_(modulation.bias)

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return all parameters that are trained as one group."""
        trained = (
            self.autoencoder.encoder,
            self.autoencoder.decoders,
            self.vectors,
            self.modulations,
        )
        return {AUTOENCODER_GROUP: [one for part in trained for one in part.parameters()]}

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Train to show another person in the same moment; return the loss as `swap`."""
        assert isinstance(batch, PairBatch)
        del progress
        output = self.swap_to(batch.warped.flatten(0, 1), batch.people.flatten())
        loss = self.autoencoder.reconstruction_loss(
            output,
            batch.target.flatten(0, 1),
            batch.mask.flatten(0, 1),
            batch.feature_mask.flatten(0, 1),
        )
        update(AUTOENCODER_GROUP, loss)
        return {"swap": loss.detach()}

    def swap_to(self, faces: Tensor, people: Tensor) -> SwapOutput:
        """Return faces (B, 3, S, S) in [-1, 1] swapped to the people of numbers (B,)."""
        return self._decode(self.autoencoder.encoder(faces).features, self.vectors(people))

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return faces swapped to the mean of all people.

        Raises:
            KeyError: `identity` is not the one there is.
        """
        if identity not in self.identities:
            raise KeyError(identity)
        vectors = self.vectors.weight.mean(0, keepdim=True).expand(len(faces), -1)
        return self._decode(self.autoencoder.encoder(faces).features, vectors)

    def select_exported(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of an `Autoencoder` whose decoder draws the mean of all people."""
        inner = "autoencoder."
        weights = {
            name.removeprefix(inner): value
            for name, value in state.items()
            if name.startswith(inner)
        }
        mean = state[VECTORS_NAME].mean(0)
        for index, name in enumerate(self._convolutions):
            prefix = f"modulations.{index}."
            values = state[f"{prefix}weight"] @ mean + state[f"{prefix}bias"]
            scale, shift = values.chunk(2)
            weight, bias = (f"decoders.0.{name}.{kind}" for kind in ("weight", "bias"))
            weights[weight] = weights[weight] * (1 + scale)[:, None, None, None]
            weights[bias] = weights[bias] * (1 + scale) + shift
        return self.autoencoder.select_exported(weights)

    def _decode(self, features: Tensor, vectors: Tensor) -> SwapOutput:
        """Decode features (B, C, G, G) with the vectors (B, VECTOR_DIM) of people."""
        hooks = []
        for layer, modulation in zip(self._convolutions.values(), self.modulations, strict=True):
            scale, shift = modulation(vectors)[:, :, None, None].chunk(2, dim=1)

            def modulate(
                _: nn.Module,
                __: tuple[Tensor, ...],
                output: Tensor,
                scale: Tensor = scale,
                shift: Tensor = shift,
            ) -> Tensor:
                return output * (1 + scale) + shift

            hooks.append(layer.register_forward_hook(modulate))
        try:
            output: SwapOutput = self.autoencoder.decoders[0](features)
        finally:
            for hook in hooks:
                hook.remove()
        return output
