"""The contract of all backends.

Each backend is built from its own `debug` preset, so a module copied into `backends/` and its
`debug` preset are tested with no edit here.
"""

import ast
import importlib.util
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors import torch as safetensors
from torch import Tensor

from faceswap_models import registry
from faceswap_models.base import FaceBatch, ModelSettings, SwapModel, TrainProgress, TrainSettings
from faceswap_models.growing import GrowingModel

IDENTITIES = ("ada", "bo b.", "c/d")
"""Names as users choose them: any characters must work."""
Settings = TypeVar("Settings", ModelSettings, TrainSettings)


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A backend and its `debug` settings."""

    model_type: type[SwapModel]
    model: ModelSettings
    train: TrainSettings

    def make(self, *, identities: int = 2, size_px: int | None = None) -> SwapModel:
        """Return untrained networks, the same ones every time."""
        torch.manual_seed(7)
        model = replace(self.model, size_px=size_px or self.model.size_px)
        return self.model_type(model, self.train, IDENTITIES[:identities])


@pytest.fixture(params=registry.names())
def name(request: pytest.FixtureRequest) -> str:
    """Return each backend's name."""
    return str(request.param)


@pytest.fixture
def backend(name: str) -> Backend:
    """Return the backend with its `debug` settings."""
    build, preset = registry.load(name), registry.presets(name)["debug"]
    return Backend(
        model_type=build,
        model=settings(build.model_settings_type, preset.model),
        train=settings(build.train_settings_type, preset.train),
    )


def settings(section: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Return a section from TOML values, with lists as tuples."""
    return section(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )


def faces(model: SwapModel, *, seed: int, count: int = 4) -> FaceBatch:
    """Return `count` faces per identity: an oval of the identity's color, two eyes, a mouth."""
    identities, size = len(model.identities), model.model_settings.size_px
    rng = torch.Generator().manual_seed(seed)
    shift = torch.rand((2, identities, count, 1, 1, 1), generator=rng) * 0.3 - 0.15
    openness = 0.04 + 0.1 * torch.rand((identities, count, 1, 1, 1), generator=rng)
    skin = torch.linspace(-0.6, 0.8, 3 * identities).reshape(identities, 1, 3, 1, 1)
    line = torch.linspace(-1, 1, size)

    def draw(dx: Tensor | float, dy: Tensor | float) -> tuple[Tensor, Tensor]:
        y, x = line[:, None] - dy, line[None, :] - dx
        oval = torch.sigmoid(12 * (1 - (x / 0.6) ** 2 - (y / 0.8) ** 2))
        eyes = torch.exp(-(((x.abs() - 0.25) / 0.1) ** 2) - ((y + 0.2) / 0.08) ** 2)
        mouth = torch.exp(-((x / 0.25) ** 2) - ((y - 0.4) / openness) ** 2)
        return oval * (skin - skin.sign() * (eyes + mouth)) - (1 - oval), oval

    target, oval = draw(shift[0], shift[1])
    return FaceBatch(
        warped=draw(shift[0] + 0.05, shift[1] - 0.05)[0].clamp(-1, 1),
        target=target.clamp(-1, 1),
        mask=oval.expand(identities, count, 1, size, size).clamp(0, 1),
    )


class MinimalTrainer:
    """A minimal trainer: one Adam per group, seeded by the step."""

    def __init__(self, model: SwapModel) -> None:
        self.model = model.train()
        self.optimizers: dict[str, torch.optim.Adam] = {}
        self.updated: list[str] = []
        self.rebind_parameters()

    def rebind_parameters(self) -> None:
        """Create optimizers of the current parameters; existing ones keep their moments."""
        train = self.model.train_settings
        for group, parameters in self.model.parameter_groups().items():
            before = self.optimizers[group].state if group in self.optimizers else {}
            self.optimizers[group] = torch.optim.Adam(
                list(parameters),
                lr=self.model.learning_rate(group),
                betas=(train.beta1, train.beta2),
            )
            for one in self.optimizers[group].param_groups[0]["params"]:
                if one in before:
                    self.optimizers[group].state[one] = before[one]

    def update(self, group: str, loss: Tensor) -> None:
        """Step one group, as the trainer does."""
        self.updated.append(group)
        self.optimizers[group].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[group].step()

    def run(self, first: int, last: int) -> dict[str, Tensor]:
        """Run the steps from `first` up to `last`; return the last one's losses."""
        losses: dict[str, Tensor] = {}
        for step in range(first, last):
            batch = faces(self.model, seed=step)
            torch.manual_seed(step)
            seen = step * batch.target.shape[:2].numel()
            progress = TrainProgress(images_seen=seen, max_images=None)
            if isinstance(self.model, GrowingModel):
                due = self.model.growth_due(progress)
                if due != self.model.growth_step:
                    self.model.grow(due, progress)
                    self.rebind_parameters()
            losses = self.model.train_step(batch, self.update, progress)
        return losses

    def moments(self) -> dict[str, Tensor]:
        """Return the optimizers' tensors by name."""
        return {
            f"{group}.{index}.{key}": value
            for group, optimizer in self.optimizers.items()
            for index, state in optimizer.state_dict()["state"].items()
            for key, value in state.items()
        }


@pytest.mark.parametrize("identities", [1, 2, 3])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_swap_has_the_shape_and_range_of_its_input(
    backend: Backend, identities: int, scale: int
) -> None:
    """Swaps are float32 (B, 3, S, S) in [-1, 1], masks float32 in [0, 1], for all identities."""
    model = backend.make(identities=identities, size_px=scale * backend.model.size_px).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)  # with large weights the output must still be in range
    inputs = faces(model, seed=0, count=5).target[-1]
    for identity in model.identities:
        with torch.inference_mode():
            swapped = model.swap(inputs, identity)
        assert inputs.shape == swapped.image.shape
        assert torch.float32 == swapped.image.dtype
        assert -1 <= swapped.image.min() <= swapped.image.max() <= 1
        if swapped.mask is not None:
            assert (5, 1, *inputs.shape[-2:]) == swapped.mask.shape
            assert torch.float32 == swapped.mask.dtype
            assert 0 <= swapped.mask.min() <= swapped.mask.max() <= 1


def test_a_swap_does_not_depend_on_the_rest_of_the_batch(backend: Backend) -> None:
    """A face swapped in a batch equals the face swapped by itself."""
    model = backend.make().eval()
    inputs = faces(model, seed=0).target[0]
    with torch.inference_mode():
        together = model.swap(inputs, IDENTITIES[1]).image
        single = model.swap(inputs[2:3], IDENTITIES[1]).image
    torch.testing.assert_close(together[2:3], single, rtol=0, atol=1e-4)


def test_swaps_to_two_identities_differ(backend: Backend) -> None:
    """The same face swapped to two identities gives two images."""
    model = backend.make().eval()
    inputs = faces(model, seed=0).target[0]
    with torch.inference_mode():
        first, second = (model.swap(inputs, identity).image for identity in IDENTITIES[:2])
    assert not torch.equal(first, second)


def test_an_unknown_identity_is_a_key_error(backend: Backend) -> None:
    """The error names it."""
    model = backend.make()
    with pytest.raises(KeyError, match="zoe"):
        model.swap(faces(model, seed=0).target[0], "zoe")


@pytest.mark.parametrize("identities", [1, 2, 3])
def test_losses_are_finite_scalars_with_names(backend: Backend, identities: int) -> None:
    """A step returns at least one loss; each is a scalar without a gradient."""
    losses = MinimalTrainer(backend.make(identities=identities)).run(0, 1)
    assert losses
    for name, loss in losses.items():
        assert isinstance(name, str)
        assert torch.Size([]) == loss.shape
        assert loss.isfinite(), name
        assert not loss.requires_grad, name


def test_validation_losses_are_finite_scalars_of_existing_groups(backend: Backend) -> None:
    """They can be computed without gradients."""
    model = backend.make().eval()
    with torch.no_grad():
        losses = model.validation_losses(faces(model, seed=0))
    assert set(losses) <= set(model.parameter_groups())
    for loss in losses.values():
        assert torch.Size([]) == loss.shape
        assert loss.isfinite()


def test_bfloat16_autocast_works_and_swaps_are_float32(backend: Backend) -> None:
    """Losses are finite, and a swap is float32 in [-1, 1]."""
    steps = MinimalTrainer(backend.make())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = steps.run(0, 2)
        swapped = steps.model.swap(faces(steps.model, seed=0).target[0], IDENTITIES[1])
    assert all(loss.isfinite() for loss in losses.values())
    assert torch.float32 == swapped.image.dtype
    assert -1 <= swapped.image.min() <= swapped.image.max() <= 1


def test_every_trainable_parameter_is_in_exactly_one_group(backend: Backend) -> None:
    """Groups neither overlap nor leave out a parameter."""
    model = backend.make(identities=3)
    grouped = [id(p) for group in model.parameter_groups().values() for p in group]
    assert sorted(id(p) for p in model.parameters() if p.requires_grad) == sorted(grouped)


def test_each_group_is_updated_once_with_all_gradients(backend: Backend) -> None:
    """A step calls `update` once per group, and every parameter of the group has a gradient."""
    model = backend.make(identities=3)
    steps = MinimalTrainer(model)
    without_gradient: list[str] = []
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    def update(group: str, loss: Tensor) -> None:
        steps.update(group, loss)
        without_gradient.extend(
            names[id(p)] for p in model.parameter_groups()[group] if p.grad is None
        )

    model.train_step(faces(model, seed=0), update, TrainProgress(images_seen=0, max_images=None))
    assert sorted(model.parameter_groups()) == sorted(steps.updated)
    assert without_gradient == []


def test_a_network_grows_only_when_growth_is_due(backend: Backend) -> None:
    """Nothing is due at the start; afterwards at most one step, and the groups hold all layers."""
    model = backend.make()
    if not isinstance(model, GrowingModel):
        pytest.skip("these networks do not grow")
    before = model.growth_step
    assert before == model.growth_due(TrainProgress(images_seen=0, max_images=None))
    MinimalTrainer(model).run(0, 6)
    images_seen = 6 * faces(model, seed=0).target.shape[:2].numel()
    due = model.growth_due(TrainProgress(images_seen=images_seen, max_images=None))
    assert before <= model.growth_step <= due <= model.growth_step + 1
    grouped = [p for group in model.parameter_groups().values() for p in group]
    assert {id(p) for p in model.parameters()} == {id(p) for p in grouped}


def test_learning_rates_are_positive(backend: Backend) -> None:
    """For every group."""
    model = backend.make()
    assert all(model.learning_rate(group) > 0 for group in model.parameter_groups())


@pytest.mark.slow
def test_training_lowers_the_reconstruction_error(backend: Backend) -> None:
    """After some steps it is at most 80 % of the initial one, for each identity."""
    steps = MinimalTrainer(backend.make())
    before = reconstruction_error(steps.model)
    steps.run(0, 60)
    after = reconstruction_error(steps.model)
    assert all(late < 0.8 * early for early, late in zip(before, after, strict=True))


def reconstruction_error(model: SwapModel) -> list[float]:
    """Return each identity's mean absolute reconstruction error on validation faces."""
    inputs = faces(model, seed=999_999, count=8).target
    with torch.inference_mode():
        return [
            float((model.swap(own, identity).image - own).abs().mean())
            for own, identity in zip(inputs, model.identities, strict=True)
        ]


def test_weights_can_be_saved_and_loaded(backend: Backend) -> None:
    """Loaded weights and a swap with them are equal, bit for bit."""
    trained, other = MinimalTrainer(backend.make()), backend.make().eval()
    trained.run(0, 2)
    other.load_state_dict(safetensors.load(safetensors.save(trained.model.state_dict())))
    assert_equal(trained.model.state_dict(), other.state_dict())
    inputs = faces(other, seed=0).target[0]
    with torch.inference_mode():
        expected = trained.model.eval().swap(inputs, IDENTITIES[1]).image
        assert torch.equal(expected, other.swap(inputs, IDENTITIES[1]).image)


def test_a_resumed_run_equals_an_uninterrupted_one(backend: Backend) -> None:
    """Six steps equal three, a reload and three more, bit for bit: weights and Adam's moments."""
    whole, first, second = (MinimalTrainer(backend.make()) for _ in range(3))
    whole.run(0, 6)
    first.run(0, 3)
    second.model.load_state_dict(safetensors.load(safetensors.save(first.model.state_dict())))
    second.rebind_parameters()
    for group, optimizer in second.optimizers.items():
        optimizer.load_state_dict(first.optimizers[group].state_dict())
    second.run(3, 6)
    assert_equal(whole.model.state_dict(), second.model.state_dict())
    assert_equal(whole.moments(), second.moments())


def test_the_same_seed_gives_the_same_step(backend: Backend) -> None:
    """Randomness comes from torch's seeded global generator only."""
    one, other = MinimalTrainer(backend.make()), MinimalTrainer(backend.make())
    torch.manual_seed(1)
    one.run(0, 2)
    torch.manual_seed(2)
    other.run(0, 2)
    assert_equal(one.model.state_dict(), other.model.state_dict())


def assert_equal(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> None:
    """Compare two sets of named tensors bit for bit."""
    assert expected.keys() == actual.keys()
    different = [key for key in expected if not torch.equal(expected[key], actual[key])]
    assert different == []


@pytest.mark.parametrize("section", ["model", "train"])
def test_settings_can_be_written_as_toml_and_read(backend: Backend, section: str) -> None:
    """They are plain values, with lists for tuples."""
    values: ModelSettings | TrainSettings = getattr(backend, section)
    text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in asdict(values).items())
    assert values == settings(type(values), tomllib.loads(text))


def test_every_setting_has_a_docstring(name: str, backend: Backend) -> None:
    """The reference page consists of them."""
    body = ast.parse(_file(name).read_text(encoding="utf-8")).body
    sections = [
        node
        for node in body
        if isinstance(node, ast.ClassDef)
        and node.name
        in {
            backend.model_type.model_settings_type.__name__,
            backend.model_type.train_settings_type.__name__,
        }
    ]
    for section in sections:
        for field, after in zip(section.body, [*section.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(after, ast.Expr), ast.unparse(field)


def test_every_preset_is_valid(name: str) -> None:
    """All settings exist, and exactly one preset is the default, which is not `debug`."""
    build, presets = registry.load(name), registry.presets(name)
    for preset in presets.values():
        settings(build.model_settings_type, preset.model)
        settings(build.train_settings_type, preset.train)
        assert preset.description
        assert preset.training_time
    assert 1 == sum(preset.default for preset in presets.values())
    assert not presets["debug"].default


def test_a_backend_needs_torch_and_numpy_at_most(name: str) -> None:
    """A backend's file imports torch, numpy, the standard library and its own package."""
    allowed = {"torch", "numpy", "faceswap_models", *sys.stdlib_module_names}
    assert set() == {*imported(_file(name))} - allowed


def _file(name: str) -> Path:
    """Return the file of a backend."""
    spec = importlib.util.find_spec(f"faceswap_models.backends.{name}")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin)


def imported(file: Path) -> Iterator[str]:
    """Yield the top-level packages a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
