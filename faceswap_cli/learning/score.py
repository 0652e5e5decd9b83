"""How well a run does on faces it never learnt from: a number for every backend alike.

Knows what networks make of held-out faces; refuses to know what is done about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from faceswap_cli.learning.data import Person, position_seed, spread
from faceswap_cli.learning.feed import Feed
from faceswap_models.base import FaceBatch, SwapModel

MOST_FACES = 48
"""Held-out faces of each person that are looked at; more change the score by less than noise."""
LOSS_SEED = 0
"""Held-out losses always meet the same warps and the same chance, so that they can be compared."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What networks make of held-out faces; errors are parts of the full range, 0 to 1."""

    reconstruction: Mapping[str, float]
    """Mean absolute error inside the face, shown as the person it is, by person."""
    cycle: Mapping[str, float]
    """The same after being shown as somebody else and back, by person."""
    diversity: float
    """How much swaps of different faces differ, as a part of how much the faces do."""
    change: float
    """Mean absolute difference between faces and their swaps, inside the face; 1 where there is
    nobody to swap with."""
    likeness: float
    """Correlation of faces with their reconstructions, -1 to 1; negative means inverted."""
    swap_likeness: float = 1.0
    """Correlation of faces with their swaps, -1 to 1; negative means inverted."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """What groups of parameters minimise, by group, for those that the backend tells of."""

    @property
    def error(self) -> float:
        """The one number runs are compared by: lower is better."""
        every = [*self.reconstruction.values(), *self.cycle.values()]
        return sum(every) / len(every)


def score(model: SwapModel, feed: Feed) -> Score:
    """Look at held-out faces of everybody, unwarped.

    Args:
        model: In evaluation mode, without gradients.
        feed: Gives the people and their faces.
    """
    people = feed.people
    views = {
        person.name: _views(model, feed, person, other.name)
        for person, other in zip(people, [*people[1:], people[0]], strict=True)
    }
    return Score(
        reconstruction={name: _error(view.own, view) for name, view in views.items()},
        cycle={name: _error(view.back, view) for name, view in views.items()},
        diversity=_mean([_diversity(view.swapped, view.faces) for view in views.values()]),
        # Shown as themselves is all that one person alone can be.
        change=_mean([_error(view.swapped, view) for view in views.values()])
        if len(people) > 1
        else 1.0,
        likeness=_mean([_correlation(view.own, view.faces) for view in views.values()]),
        swap_likeness=_mean([_correlation(view.swapped, view.faces) for view in views.values()]),
        losses=held_out_losses(model, feed),
    )


def held_out_losses(model: SwapModel, feed: Feed) -> dict[str, float]:
    """Return what each group minimises on held-out faces, for the groups the backend tells of."""
    count = min(MOST_FACES, *(len(person.held_out) for person in feed.people))
    size = feed.train.batch_size
    total: dict[str, float] = {}
    torch.manual_seed(position_seed(LOSS_SEED, 0, "held-out losses"))
    for start in range(0, count, size):
        end = min(start + size, count)
        for group, loss in model.held_out_losses(_everybody(feed, count, start, end)).items():
            total[group] = total.get(group, 0.0) + float(loss) * (end - start) / count
    return total


def _everybody(feed: Feed, count: int, start: int, end: int) -> FaceBatch:
    """Return everybody's held-out faces from `start` to `end` of `count`, the inputs warped."""
    everyone = [
        feed.warped(person, spread(person.held_out, count)[start:end], seed=LOSS_SEED + start)
        for person in feed.people
    ]
    names = vars(everyone[0])
    return FaceBatch(
        **{name: torch.cat([getattr(one, name) for one in everyone]) for name in names}
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Views:
    """One person's held-out faces (N, 3, S, S) in [-1, 1], and what became of them."""

    faces: Tensor
    mask: Tensor
    own: Tensor
    swapped: Tensor
    back: Tensor


def _views(model: SwapModel, feed: Feed, person: Person, other: str) -> _Views:
    """Show one person's held-out faces as the person, as another, and back again."""
    indices = spread(person.held_out, MOST_FACES)
    size = feed.train.batch_size
    parts = [
        _view(model, feed.plain(person, indices[start : start + size]), person.name, other)
        for start in range(0, len(indices), size)
    ]
    names = vars(parts[0])
    return _Views(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _view(model: SwapModel, batch: FaceBatch, name: str, other: str) -> _Views:
    """Do so with one batch of them."""
    faces = batch.target[0]
    swapped = model.swap(faces, other).image
    own, back = model.swap(faces, name).image, model.swap(swapped, name).image
    return _Views(
        faces=faces.cpu(),
        mask=batch.mask[0].cpu(),
        own=own.float().cpu(),
        swapped=swapped.float().cpu(),
        back=back.float().cpu(),
    )


def _error(images: Tensor, view: _Views) -> float:
    """Return the mean absolute error inside the face, as a part of the full range."""
    difference = (images - view.faces).abs().mean(1, keepdim=True) / 2
    return float((difference * view.mask).sum() / view.mask.sum().clamp(min=1))


def _diversity(images: Tensor, faces: Tensor) -> float:
    """Return the deviation over different images as a part of that over the faces."""
    if len(faces) < 2:
        return 1.0
    return float(images.std(0).mean() / faces.std(0).mean().clamp(min=1e-6))


def _correlation(images: Tensor, faces: Tensor) -> float:
    """Return the correlation of two batches' values."""
    pair = torch.stack([images.flatten(), faces.flatten()])
    return float(torch.corrcoef(pair)[0, 1].nan_to_num())


def _mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
