"""The bases in the package: what they saw, that they fit, and that training begins with them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from benchmarks import make_bases

from faceswap_cli import heads, synthetic
from faceswap_cli.core import config
from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.pretraining.drawing import draw_person, draw_scenes
from faceswap_cli.pretraining.mesh_groups import draw_mesh_person, draw_mesh_scenes
from faceswap_cli.pretraining.pairs import SEED_OFFSET, PairSettings
from faceswap_cli.pretraining.recipe import PRETRAIN_SETTINGS
from faceswap_cli.training.checkpoint import load_weights
from faceswap_cli.training.pretrained import InitConfig, initialize_weights
from faceswap_models import bases, registry
from faceswap_models.backends.autoencoder import Autoencoder

CARD = Path(__file__).parents[1] / "docs/guide/base.md"
MAX_BYTES = 12_000_000
"""Size of all bases together."""


def list_files() -> Iterator[Path]:
    """Yield the bases' files."""
    for folder in bases.__path__:
        yield from sorted(Path(folder).glob("*.safetensors"))


def build_model(*overrides: str, preset: str = "light") -> tuple[Autoencoder, config.Recipe]:
    """Return new networks for two people, and their recipe."""
    recipe = config.resolve("autoencoder", preset, overrides)
    torch.manual_seed(0)
    return Autoencoder(recipe.model, recipe.train, ("ada", "bo")), recipe  # type: ignore[arg-type]


def test_the_card_has_the_digest_of_every_base() -> None:
    """What is shipped is what the card describes, and no more than the package can hold."""
    assert {file.stem for file in list_files()} == {
        f"autoencoder-{one}" for one in make_bases.BASES
    }
    card = CARD.read_text(encoding="utf-8")
    for file in list_files():
        assert sha256_file(file) in card, (
            f"docs/guide/base.md does not have the digest of {file.name}"
        )
        assert f"`{file.name}`" in card
    assert sum(file.stat().st_size for file in list_files()) <= MAX_BYTES


@pytest.mark.parametrize("preset", make_bases.BASES)
def test_a_base_was_made_as_the_command_says(preset: str) -> None:
    """Its header has the settings and the number of pairs of make_bases.py; it is in float16."""
    path = registry.find_base("autoencoder", preset)
    assert path is not None
    trained = load_weights(path, torch.device("cpu"))
    assert trained.images_seen == make_bases.BASES[preset].images
    assert trained.identities == ("everybody",)
    assert trained.recipe.preset == preset
    for setting in PRETRAIN_SETTINGS:
        section, name, value = re.fullmatch(r"(\w+)\.(\w+)=(\w+)", setting).groups()  # type: ignore[union-attr]
        if name != "detail_px":  # added afterwards: see base_detail.py
            assert str(getattr(getattr(trained.recipe, section), name)) == value
    recipe = config.resolve("autoencoder", preset, [])
    assert trained.recipe.model.output_px == recipe.model.output_px
    parameters = sum(one.numel() for one in trained.model.parameters())
    assert path.stat().st_size < 2.1 * parameters


@pytest.mark.parametrize("preset", make_bases.BASES)
def test_nobody_who_is_judged_is_in_a_base(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its people and moments have seeds from `SEED_OFFSET` on; the others' are small."""
    seeds: list[int] = []

    def note(seed: int, count: int = 0) -> list[heads.HeadScene]:
        seeds.append(seed)
        return [heads.HeadScene()] * count

    monkeypatch.setattr(synthetic, "random_person", note)
    monkeypatch.setattr(heads, "random_head_person", note)
    monkeypatch.setattr(heads, "random_head_scenes", note)
    monkeypatch.setattr(
        synthetic, "random_scenes", lambda seed, _: note(seed) or [synthetic.SceneParams()] * 50
    )
    settings = PairSettings(groups=make_bases.BASES[preset].groups, seed=make_bases.SEED)
    for group in settings.group_numbers:
        is_mesh = settings.is_mesh_group(group)
        (draw_mesh_scenes if is_mesh else draw_scenes)(settings, group)
        for number in settings.person_numbers(group):
            (draw_mesh_person if is_mesh else draw_person)(settings, number)
    assert len(set(seeds)) > 4 * settings.groups
    assert min(seeds) >= SEED_OFFSET
    # The demo, the benchmark and the studies draw the cast, and few performances each.
    assert not {one.face.seed for one in synthetic.CAST.values()} & set(seeds)


@pytest.mark.parametrize("preset", make_bases.BASES)
def test_new_runs_begin_with_the_base(preset: str) -> None:
    """Encoder and both decoders are its own, unless the run is to start from scratch."""
    path = registry.find_base("autoencoder", preset)
    assert path is not None
    base = load_weights(path, torch.device("cpu")).model
    assert isinstance(base, Autoencoder)
    model, recipe = build_model(preset=preset)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    text = initialize_weights(model, InitConfig(from_scratch=True), recipe=recipe)
    assert "from scratch" in text
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert "base" in initialize_weights(model, InitConfig(), recipe=recipe)
    for name, value in base.encoder.state_dict().items():
        assert torch.equal(value, model.encoder.state_dict()[name])
    for decoder in model.decoders:
        for name, value in base.decoders[0].state_dict().items():
            assert torch.equal(value, decoder.state_dict()[name])
    faces = torch.rand(1, 3, 96, 96) * 2 - 1
    expected = base.add_detail(faces, "everybody")
    assert expected.shape[-1] == recipe.model.output_px
    assert all(torch.equal(expected, model.add_detail(faces, one)) for one in model.identities)


@pytest.mark.parametrize(
    "change", ["model.size_px=64", "model.latent_dim=64", "model.coverage=0.7"]
)
def test_other_networks_start_from_scratch(change: str) -> None:
    """Settings that do not fit the base are no error: the run starts at random and says so."""
    model, recipe = build_model(change)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert "from scratch" in initialize_weights(model, InitConfig(), recipe=recipe)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("preset", ["original", "vgg19", "debug"])
def test_published_presets_have_no_base(preset: str) -> None:
    """The papers' networks start as published."""
    assert registry.find_base("autoencoder", preset) is None
