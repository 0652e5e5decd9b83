"""Recipes: typed values, each with its source, and errors that help with typos."""

import subprocess
import sys
import tomllib
from dataclasses import fields

import pytest

from faceswap_cli.core import config
from faceswap_cli.core.errors import ConfigurationError
from faceswap_models import registry


def test_later_sources_override_earlier_ones() -> None:
    """The preset overrides defaults, --set overrides the preset, and the last --set counts."""
    recipe = config.resolve(
        "autoencoder",
        "debug",
        ["train.batch_size=6", "train.batch_size=7", "train.warp_strength=0.5"],
    )
    assert (32, 7, 0.5, 0.999) == (
        recipe.model.size_px,
        recipe.train.batch_size,
        recipe.train.warp_strength,
        recipe.train.beta2,
    )


def test_every_value_has_a_source() -> None:
    """Each setting has one source: the default, the preset or --set."""
    recipe = config.resolve("autoencoder", "debug", ["train.warp_strength=0.5"])
    assert {f"model.{key}" for key in vars(recipe.model)} | {
        f"train.{key}" for key in vars(recipe.train)
    } == set(recipe.sources)
    assert "preset autoencoder-debug" == recipe.sources["model.size_px"]
    assert "--set" == recipe.sources["train.warp_strength"]
    assert "default" == recipe.sources["train.beta2"]


def test_presets_have_a_short_and_a_full_name() -> None:
    """`debug`, `autoencoder-debug`, and the default preset if none is given."""
    short = config.resolve("autoencoder", "debug")
    assert short == config.resolve("autoencoder", "autoencoder-debug")
    assert "light" == config.resolve("autoencoder", None).preset


def test_values_have_the_type_of_their_setting() -> None:
    """Whole numbers, numbers, texts and lists are parsed as their setting's type."""
    recipe = config.resolve(
        "autoencoder",
        "debug",
        [
            "train.checkpoint_interval_images=1_000",
            "train.learning_rate=1e-3",
            "train.scale_jitter=1",
            "train.lr_schedule=cosine",
            "model.encoder_channels=8,16,32",
            "model.decoder_channels=[16, 8]",
        ],
    )
    assert (1000, 1e-3, 1.0, "cosine", (8, 16, 32), (16, 8)) == (
        recipe.train.checkpoint_interval_images,
        recipe.train.learning_rate,
        recipe.train.scale_jitter,
        recipe.train.lr_schedule,
        recipe.model.encoder_channels,  # type: ignore[attr-defined]
        recipe.model.decoder_channels,  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize(
    ("backend", "preset", "override", "message", "hint"),
    [
        ("autoencoders", None, "", 'there is no backend called "autoencoders"', '"autoencoder"'),
        ("autoencoder", "lite", "", 'autoencoder has no preset called "lite"', '"light"'),
        (
            "autoencoder",
            "debug",
            "train.batchsize=3",
            "--set: train.batchsize is not a setting of autoencoder",
            'did you mean "train.batch_size"?',
        ),
        (
            "autoencoder",
            "debug",
            "model.batch_size=3",
            "--set: model.batch_size is not a setting of autoencoder",
            'did you mean "train.batch_size"?',
        ),
        (
            "autoencoder",
            "debug",
            "tarin.warp_strength=3",
            "--set: tarin.warp_strength is not a setting of autoencoder",
            'did you mean "train.warp_strength"?',
        ),
        (
            "autoencoder",
            "debug",
            "train.batch_size=many",
            "--set: train.batch_size takes a whole number, not 'many'",
            "",
        ),
        (
            "autoencoder",
            "debug",
            "train.batch_size=2.5",
            "--set: train.batch_size takes a whole number, not 2.5",
            "",
        ),
        (
            "autoencoder",
            "debug",
            "train.warp_strength=true",
            "--set: train.warp_strength takes a number, not True",
            "",
        ),
        (
            "autoencoder",
            "debug",
            "model.encoder_channels=8,x",
            "--set: model.encoder_channels takes a list like 1,2,3, not '8,x'",
            "",
        ),
        (
            "autoencoder",
            "debug",
            "batch_size",
            '--set: "batch_size" is not of the form section.key=value',
            "for example: --set train.batch_size=32",
        ),
        ("autoencoder", "debug", "model.size_px=33", "size_px = 33 cannot be halved", ""),
        ("autoencoder", "debug", "train.batch_size=0", "train.batch_size may be 1 or more", ""),
        ("autoencoder", "debug", "train.learning_rate=-1", "may be 0 or more, not -1", ""),
        ("autoencoder", "debug", "train.learning_rate=nan", "may be 0 or more, not nan", ""),
        (
            "autoencoder",
            "debug",
            "train.translate_jitter=inf",
            "train.translate_jitter may be 0 to 1, not inf",
            "",
        ),
        ("autoencoder", "debug", "train.beta1=1", "train.beta1 may be 0 to 0.9999, not 1", ""),
        ("autoencoder", "debug", "model.coverage=0", "model.coverage may be 0.1 to 1", ""),
        ("autoencoder", "debug", "model.encoder_channels=8,-8", "may be 0 to 16384, not -8", ""),
    ],
)
def test_typos_are_refused_with_a_hint(
    backend: str, preset: str | None, override: str, message: str, hint: str
) -> None:
    """Unknown names and invalid values are refused with one line that helps."""
    with pytest.raises(ConfigurationError) as caught:
        config.resolve(backend, preset, [override] if override else [])
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_recipes_are_read_back_as_written() -> None:
    """The header of a file gives the same recipe, with tuples and sources."""
    recipe = config.resolve("autoencoder", "debug", ["train.learning_rate=1e-5"])
    assert recipe == config.Recipe.from_dict(recipe.to_dict())


def test_unknown_model_settings_of_a_stored_recipe_are_refused() -> None:
    """Networks depend on them: a setting that this version does not have is named."""
    table = config.resolve("autoencoder", "debug").to_dict()
    table["model"]["brightness"] = 1
    with pytest.raises(ConfigurationError, match=r"stored recipe: model\.brightness is not a"):
        config.Recipe.from_dict(table)


def test_unknown_train_settings_of_a_stored_recipe_are_ignored() -> None:
    """Weights do not depend on them: unknown ones are dropped, missing ones take the default."""
    table = config.resolve("autoencoder", "debug").to_dict()
    table["train"] |= {"brightness": 1, "batch_size": "many"}
    del table["train"]["beta1"]
    recipe = config.Recipe.from_dict(table)
    assert ("train.batch_size", "train.brightness") == tuple(sorted(recipe.ignored))
    assert (16, 0.9) == (recipe.train.batch_size, recipe.train.beta1)


def test_renamed_settings_are_read_by_their_old_names() -> None:
    """Every old name maps to a setting of a backend, in files and with `--set`."""
    settings = {
        f"{section}.{key.name}"
        for name in registry.names()
        for section, kind in (
            ("model", registry.load(name).model_settings_type),
            ("train", registry.load(name).train_settings_type),
        )
        for key in fields(kind)
    }
    assert set() == set(config.RENAMED_SETTINGS.values()) - settings
    assert set() == set(config.RENAMED_SETTINGS) & settings
    table = {
        "backend": "autoencoder",
        "preset": "debug",
        "model": {"encoder": "halvings", "code_size": 8},
        "train": {"save_images": 7},
        "sources": {"train.save_images": "--set"},
    }
    recipe = config.Recipe.from_dict(table)
    values = vars(recipe.model) | vars(recipe.train)
    expected = ("conv", 8, 7)
    assert expected == tuple(
        values[key] for key in ("encoder", "latent_dim", "checkpoint_interval_images")
    )
    assert "--set" == recipe.sources["train.checkpoint_interval_images"]
    assert (
        7
        == config.resolve(
            "autoencoder", "debug", ["train.save_images=7"]
        ).train.checkpoint_interval_images
    )


def test_toml_has_values_with_their_sources() -> None:
    """recipe.toml parses to the values, and each line ends with the source."""
    recipe = config.resolve("autoencoder", "debug", ["train.learning_rate=1e-5"])
    text = recipe.to_toml()
    table = tomllib.loads(text)
    stored = recipe.to_dict()
    assert (stored["backend"], stored["model"], stored["train"]) == (
        table["backend"],
        table["model"],
        table["train"],
    )
    line = next(line for line in text.splitlines() if line.startswith("learning_rate"))
    assert line.endswith("# --set")


def test_differences_name_the_model_settings() -> None:
    """Only [model] and the backend keep a run from resuming; [train] may change."""
    old = config.resolve("autoencoder", "debug")
    assert [] == config.list_model_differences(
        old, config.resolve("autoencoder", "debug", ["train.warp_strength=0"])
    )
    assert ["model.latent_dim: 32 -> 64"] == config.list_model_differences(
        old, config.resolve("autoencoder", "debug", ["model.latent_dim=64"])
    )


def test_importing_config_does_not_import_torch() -> None:
    """The command line reads recipes without the time that importing torch takes."""
    code = "import sys, faceswap_cli.core.config; sys.exit('torch' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
