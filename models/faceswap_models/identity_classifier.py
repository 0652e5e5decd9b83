"""A classifier that tells identities apart by their latents, and the loss of the encoder it trains.

An autoencoder's latent holds whose face it is, unless something is gained by leaving that out. A
swap gives a decoder the latents of another identity, and what they hold of it shows in the face.
So the encoder is trained to leave the classifier in doubt (Lample et al., "Fader Networks", 2017,
section 3.2; here for any number of identities, as the divergence from equal odds).
"""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

SLOPE = 0.2
"""Slope of the activations below 0."""


class IdentityClassifier(nn.Sequential):
    """Two hidden layers: latents (B, D) -> logits of identities (B, P).

    Args:
        latent_dim: D.
        hidden_dim: Width of the hidden layers.
        num_identities: P.
    """

    def __init__(self, latent_dim: int, hidden_dim: int, num_identities: int) -> None:
        super().__init__(
            nn.Linear(latent_dim, hidden_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden_dim, num_identities),
        )


def classification_loss(classifier: IdentityClassifier, latents: Tensor) -> Tensor:
    """Return the classifier's cross entropy, nats; the latents get no gradient.

    Args:
        classifier: The classifier.
        latents: (P, B, D), identity by identity.
    """
    count, size = latents.shape[:2]
    labels = torch.arange(count, device=latents.device).repeat_interleave(size)
    return functional.cross_entropy(classifier(latents.detach().flatten(0, 1)), labels)


def confusion_loss(classifier: IdentityClassifier, latents: Tensor) -> Tensor:
    """Return the divergence of the classifier's odds from equal ones, nats: 0 is all in doubt.

    The Kullback-Leibler divergence from equal odds to the classifier's, so that its gradient is
    largest where the classifier is certain. The classifier gets no gradient.

    Args:
        classifier: The classifier.
        latents: (P, B, D).
    """
    weights = {name: one.detach() for name, one in classifier.named_parameters()}
    logits: Tensor = functional_call(classifier, weights, (latents.flatten(0, 1),))
    log_odds = functional.log_softmax(logits.float(), dim=1)
    return (-log_odds).mean() - math.log(logits.shape[1])
