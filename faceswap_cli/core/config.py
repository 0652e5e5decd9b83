"""Recipes: a backend and its settings, each value with its source; `resolve` makes one.

Importing this module is cheap: torch is imported only when a recipe is resolved.
"""

import dataclasses
import json
import math
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faceswap_cli.core.errors import (
    ConfigurationError,
    InputError,
    did_you_mean,
    translate_plugin_errors,
)
from faceswap_cli.core.fileio import DIGEST_NOTE, DamagedFileError, add_digest, has_changed

if TYPE_CHECKING:
    from faceswap_models.base import ModelSettings, SwapModel, TrainSettings
    from faceswap_models.registry import Preset

DEFAULT = "default"
"""Source of a value that neither the preset nor the command line sets."""
FROM_PRESET = "preset "
"""Source of a value that the preset sets, before the preset's name."""
FROM_SET_OPTION = "--set"
"""Source of a value from the command line."""
FROM_AUTO_BATCH_SIZE = "--batch-size auto"
"""Source of a batch size that was found by trials."""
SECTIONS = ("model", "train")

RENAMED_SETTINGS: Mapping[str, str] = {
    "train.clip_norm": "train.grad_clip_norm",
    "train.schedule": "train.lr_schedule",
    "train.threads": "train.num_threads",
    "train.warp": "train.warp_strength",
    "train.rotate_degrees": "train.rotate_deg",
    "train.zoom": "train.scale_jitter",
    "train.shift": "train.translate_jitter",
    "train.flip_probability": "train.flip_prob",
    "train.pose_match": "train.pose_pairing_prob",
    "train.colour_jitter": "train.color_jitter",
    "train.colour_match": "train.color_transfer_prob",
    "train.input_jitter": "train.input_color_jitter",
    "train.preview_images": "train.preview_interval_images",
    "train.save_images": "train.checkpoint_interval_images",
    "model.grid_px": "model.bottleneck_px",
    "model.encoder_widths": "model.encoder_channels",
    "model.code_size": "model.latent_dim",
    "model.shared_width": "model.shared_channels",
    "model.decoder_widths": "model.decoder_channels",
    "model.decoder_depth": "model.learned_upsamples",
    "model.encoder_kernel_px": "model.encoder_kernel_size",
    "model.decoder_kernel_px": "model.decoder_kernel_size",
    "model.output_kernel_px": "model.output_kernel_size",
    "model.normalise_code": "model.normalize_latent",
    "model.learns_mask": "model.predict_mask",
    "model.critic_width": "model.discriminator_base_channels",
    "train.feature_weight": "train.eyes_mouth_weight",
    "train.adversarial_after": "train.adversarial_start_images",
    "train.unfreeze_after": "train.unfreeze_start_images",
    "model.generator_widths": "model.generator_channels",
    "model.generator_stem": "model.stem_channels",
    "model.discriminator_widths": "model.discriminator_channels",
    "model.skips": "model.skip_connections",
    "model.history": "model.image_pool_size",
    "train.mask_weight": "train.outside_mask_weight",
    "train.d_augment": "train.diffaug_strength",
    "train.stage_images": "train.growth_stage_images",
    "train.fade_images": "train.growth_fade_images",
    "train.stage_by": "train.growth_trigger",
}
"""Name of a setting in files of format 1 -> its name now; `--set` takes the old ones as well."""
RENAMED_VALUES: Mapping[str, Mapping[str, str]] = {"model.encoder": {"halvings": "conv"}}
"""Setting -> value in files of format 1 -> the value now."""

Values = dict[str, dict[str, Any]]
"""Section -> key -> value."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A backend and all of its settings."""

    backend: str
    """Name of the backend, which is its file's."""
    preset: str
    """The preset's short name; empty for a backend without presets."""
    model: "ModelSettings"
    """Fixed for the life of a checkpoint."""
    train: "TrainSettings"
    """May change when a run is resumed."""
    sources: Mapping[str, str]
    """`section.key` -> source of the value: `default`, `preset NAME` or `--set`."""
    ignored: tuple[str, ...] = ()
    """`section.key` of stored training settings that this version does not have."""

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe in plain JSON values, for the header of a weights file."""
        return {
            "backend": self.backend,
            "preset": self.preset,
            "model": _to_json_values(self.model),
            "train": _to_json_values(self.train),
            "sources": dict(self.sources),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "Recipe":
        """Read a recipe back from `to_dict`'s values, of this version or an earlier one.

        Settings that were renamed since are mapped. Networks need every `[model]` setting; of
        `[train]`, what is missing or unknown takes the default, since weights do not depend on it.

        Raises:
            ConfigurationError: The backend, or a `[model]` setting, is unknown to this version.
        """
        backend = table["backend"]
        kind = _load_backend(backend)
        values: Values = {section: {} for section in SECTIONS}
        ignored = []
        for section in SECTIONS:
            types = _field_types(kind, section)
            for old_key, old_value in table.get(section, {}).items():
                key, value = rename_setting(section, old_key, old_value)
                try:
                    _check_key(backend, kind, section, key, origin="the stored recipe")
                    value = _coerce(value, types[key], origin=f"{section}.{key}")
                    _check_range(kind, section, key, value, origin="the stored recipe")
                    values[section][key] = value
                except ConfigurationError:
                    if section == "model":
                        raise
                    ignored.append(f"{section}.{key}")
        sources = {
            RENAMED_SETTINGS.get(name, name): origin
            for name, origin in table.get("sources", {}).items()
        }
        recipe = _build_recipe(backend, table.get("preset", ""), kind, values, sources)
        return dataclasses.replace(recipe, ignored=tuple(ignored))

    def to_toml(self) -> str:
        """Return the recipe as TOML, each line with the source of its value."""
        lines = [
            DIGEST_NOTE,
            f"backend = {json.dumps(self.backend)}",
            f"preset = {json.dumps(self.preset)}",
        ]
        for section, settings in (("model", self.model), ("train", self.train)):
            pairs = {
                key: _format_toml_value(value) for key, value in _to_json_values(settings).items()
            }
            width = max(len(key) + len(text) for key, text in pairs.items())
            lines += ["", f"[{section}]"]
            for key, text in pairs.items():
                padding = " " * (width - len(key) - len(text))
                lines.append(f"{key} = {text}{padding}  # {self.sources[f'{section}.{key}']}")
        return add_digest("\n".join(lines) + "\n")


def resolve(
    backend: str,
    preset: str | None,
    overrides: Sequence[str] = (),
    *,
    stored: Recipe | None = None,
) -> Recipe:
    """Make a recipe: defaults, under the preset's values, under `section.key=value` overrides.

    Args:
        backend: Name of a backend.
        preset: Short (`light`) or full (`autoencoder-light`) name; None takes the default one.
        overrides: Texts like `train.batch_size=32`; of the same key the last one counts.
        stored: Recipe of the run that is continued. If it has the same preset, its networks and
            what that preset set count: the preset may have had other values then.

    Raises:
        ConfigurationError: A name is unknown, or a value is not of its setting's type or range.
    """
    kind = _load_backend(backend)
    preset_found = _find_preset(backend, preset)
    values: Values = {section: {} for section in SECTIONS}
    sources: dict[str, str] = {}
    if preset_found is not None:
        for section, key, value in _preset_values(preset_found):
            origin = f"{FROM_PRESET}{preset_found.name}"
            _check_key(backend, kind, section, key, origin=origin)
            name = f"{origin}: {section}.{key}"
            values[section][key] = _coerce(value, _field_types(kind, section)[key], origin=name)
            sources[f"{section}.{key}"] = origin
    name = preset_found.name.removeprefix(f"{backend}-") if preset_found else ""
    if stored is not None and (stored.backend, stored.preset) == (backend, name):
        for section, key, value, origin in _kept_values(stored):
            values[section][key] = value
            sources[f"{section}.{key}"] = origin
    for text in overrides:
        section, key, raw = _split_override(text)
        key, raw = rename_setting(section, key, raw)
        _check_key(backend, kind, section, key, origin=FROM_SET_OPTION)
        values[section][key] = _parse_value(
            raw, _field_types(kind, section)[key], name=f"{section}.{key}"
        )
        sources[f"{section}.{key}"] = FROM_SET_OPTION
    for section, table in values.items():
        for key, value in table.items():
            _check_range(kind, section, key, value, origin=FROM_SET_OPTION)
    return _build_recipe(backend, name, kind, values, sources)


def read_recipe_file(path: Path) -> dict[str, Any]:
    """Return the content of a run's recipe.toml.

    Raises:
        InputError: It has changed since it was written, or cannot be read.
    """
    hint = "run the training again: it writes the file anew"
    try:
        text = path.read_text(encoding="utf-8")
        if not has_changed(text) and (table := tomllib.loads(text)):
            return table
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error
    except (ValueError, RecursionError):
        pass
    raise DamagedFileError(path, hint=hint)


def read_preset(path: Path, backend: str, *, stored: Recipe | None) -> str | None:
    """Return the preset in a run's recipe.toml; None if it has none that this version knows.

    Args:
        path: The file.
        backend: The run's backend.
        stored: The recipe in its checkpoint, which counts where the file cannot be read.
    """
    try:
        table = read_recipe_file(path)
    except InputError:
        table = {"backend": stored.backend, "preset": stored.preset} if stored else {}
    from faceswap_models import registry

    is_known = table.get("backend") == backend and table.get("preset") in registry.presets(backend)
    return str(table["preset"]) if is_known else None


def rename_setting(section: str, key: str, value: Any) -> tuple[str, Any]:  # noqa: ANN401
    """Return a setting's key and value by their names in this version."""
    name = RENAMED_SETTINGS.get(f"{section}.{key}", f"{section}.{key}")
    if isinstance(value, str):
        value = RENAMED_VALUES.get(name, {}).get(value, value)
    return name.partition(".")[2], value


def with_batch_size(recipe: Recipe, size: int) -> Recipe:
    """Return a recipe with a batch size that was found by trials."""
    return dataclasses.replace(
        recipe,
        train=dataclasses.replace(recipe.train, batch_size=size),
        sources={**recipe.sources, "train.batch_size": FROM_AUTO_BATCH_SIZE},
    )


def list_model_differences(old: Recipe, new: Recipe) -> list[str]:
    """Return what keeps a run of `old` from resuming as `new`, as `model.key: 64 -> 128`."""
    if old.backend != new.backend:
        return [f"backend: {old.backend} -> {new.backend}"]
    before, after = _to_json_values(old.model), _to_json_values(new.model)
    return [
        f"model.{key}: {value} -> {after[key]}"
        for key, value in before.items()
        if value != after[key]
    ]


def _load_backend(backend: str) -> "type[SwapModel]":
    """Import a backend's class by name."""
    from faceswap_models import registry  # imports torch

    if backend not in registry.names():
        raise ConfigurationError(
            f'--model: there is no backend called "{backend}"',
            hint=did_you_mean(backend, registry.names()),
        )
    with translate_plugin_errors():
        return registry.load(backend)


def _find_preset(backend: str, name: str | None) -> "Preset | None":
    """Return a preset by its short or full name; for None the default one, if there is one."""
    from faceswap_models import registry

    presets = registry.presets(backend)
    if name is None:
        return next((one for one in presets.values() if one.default), None)
    short = name.removeprefix(f"{backend}-")
    if short in presets:
        return presets[short]
    raise ConfigurationError(
        f'--preset: {backend} has no preset called "{name}"', hint=did_you_mean(short, presets)
    )


def _preset_values(preset: "Preset") -> Iterator[tuple[str, str, Any]]:
    """Yield section, key, value of a preset."""
    for section, table in (("model", preset.model), ("train", preset.train)):
        for key, value in table.items():
            yield section, key, value


def _kept_values(stored: Recipe) -> Iterator[tuple[str, str, Any, str]]:
    """Yield section, key, value and source of what a continued run keeps.

    That is all of `[model]`, and of `[train]` what no option set: options may change. A file is
    only ever named by an option: a run from elsewhere must not choose what is read.
    """
    for section, settings in (("model", stored.model), ("train", stored.train)):
        for key, value in vars(settings).items():
            origin = stored.sources[f"{section}.{key}"]
            is_option = origin != DEFAULT and not origin.startswith(FROM_PRESET)
            if section == "model" or not (is_option or key.endswith("_file")):
                yield section, key, value, origin


def _split_override(text: str) -> tuple[str, str, str]:
    """Split `section.key=value`."""
    name, equals, raw = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (equals and dot and section and key):
        raise ConfigurationError(
            f'--set: "{text}" is not of the form section.key=value',
            hint="for example: --set train.batch_size=32",
        )
    return section, key, raw.strip()


def _check_key(
    backend: str, kind: "type[SwapModel]", section: str, key: str, *, origin: str
) -> None:
    """Refuse a section or key that the backend does not have; the hint names the nearest one."""
    name = f"{section}.{key}"
    known = [f"{part}.{field}" for part in SECTIONS for field in _field_types(kind, part)]
    if name in known:
        return
    same_key = [other for other in known if other.endswith(f".{key}")]
    hint = f'did you mean "{same_key[0]}"?' if same_key else did_you_mean(name, known)
    raise ConfigurationError(f"{origin}: {name} is not a setting of {backend}", hint=hint)


def _field_types(kind: "type[SwapModel]", section: str) -> dict[str, Any]:
    """Return the types of a section's fields."""
    settings = kind.model_settings_type if section == "model" else kind.train_settings_type
    hints = typing.get_type_hints(settings)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings)}


def _parse_value(text: str, hint: Any, *, name: str) -> Any:  # noqa: ANN401 - any type of TOML
    """Parse the text of a value as the type of its setting."""
    if hint is str:
        return text.strip("\"'")
    try:
        value = tomllib.loads(f"value = {_normalize_toml_value(text, hint)}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text
    return _coerce(value, hint, origin=f"{FROM_SET_OPTION}: {name}")


def _normalize_toml_value(text: str, hint: Any) -> str:  # noqa: ANN401
    """Accept what users type: `True`, a list without brackets, and texts without quotes."""
    if hint is bool:
        return text.lower()
    if typing.get_origin(hint) is tuple and not text.startswith("["):
        parts = text.strip("()").split(",")
        if typing.get_args(hint)[0] is str:
            parts = [json.dumps(part.strip("\"' ")) for part in parts if part.strip()]
        return f"[{','.join(parts)}]"
    return text


def _coerce(value: Any, hint: Any, *, origin: str) -> Any:  # noqa: ANN401
    """Return `value` as the type `hint`; refuse what does not fit it exactly."""
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        part = typing.get_args(hint)[0]
        return tuple(_coerce(item, part, origin=origin) for item in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigurationError(f"{origin} takes {_type_name(hint)}, not {value!r}")


def _check_range(
    kind: "type[SwapModel]",
    section: str,
    key: str,
    value: Any,  # noqa: ANN401
    *,
    origin: str,
) -> None:
    """Refuse a number, or a list of numbers, outside of its setting's range."""
    from faceswap_models.base import MAX_LAYERS, MAX_MODEL_SETTING

    is_model = section == "model"
    settings = kind.model_settings_type if is_model else kind.train_settings_type
    least, largest = settings.ranges.get(key, (0, MAX_MODEL_SETTING if is_model else math.inf))
    numbers = value if isinstance(value, tuple) else (value,)
    if is_model and len(numbers) > MAX_LAYERS:
        raise ConfigurationError(
            f"{origin}: {section}.{key} has {len(numbers):,} values, {MAX_LAYERS} are possible"
        )
    for number in numbers:
        if isinstance(number, int | float) and not (least <= number <= min(largest, _MAX_NUMBER)):
            most = f" to {largest:g}" if largest < math.inf else " or more"
            raise ConfigurationError(
                f"{origin}: {section}.{key} may be {least:g}{most}, not {_format_number(number)}"
            )


_MAX_NUMBER = 1e18
"""Beyond every setting and every count of images."""


def _format_number(number: float) -> str:
    """Return a number of any size as a short text."""
    is_short = isinstance(number, float) or abs(number) <= _MAX_NUMBER
    return f"{number:g}" if is_short else "a number that large"


def _type_name(hint: Any) -> str:  # noqa: ANN401
    """Return the name of a type for users."""
    if typing.get_origin(hint) is tuple:
        return "a list like 1,2,3"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(hint, str(hint))


def _build_recipe(
    backend: str,
    preset: str,
    kind: "type[SwapModel]",
    values: Values,
    sources: Mapping[str, str],
) -> Recipe:
    """Build the settings and give every value a source."""
    try:
        model, train = (
            kind.model_settings_type(**values["model"]),
            kind.train_settings_type(**values["train"]),
        )
    except ValueError as error:  # a settings class may refuse a value itself
        raise ConfigurationError(str(error)) from error
    names = [f"{section}.{key}" for section in SECTIONS for key in _field_types(kind, section)]
    return Recipe(
        backend=backend,
        preset=preset,
        model=model,
        train=train,
        sources={name: sources.get(name, DEFAULT) for name in names},
    )


def _to_json_values(settings: "ModelSettings | TrainSettings") -> dict[str, Any]:
    """Return settings as JSON values, tuples as lists."""
    return {
        field.name: list(value) if isinstance(value, tuple) else value
        for field in dataclasses.fields(settings)
        for value in (getattr(settings, field.name),)
    }


def _format_toml_value(value: Any) -> str:  # noqa: ANN401
    """Return a value as TOML; JSON's strings, numbers, booleans and lists are valid in it."""
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
