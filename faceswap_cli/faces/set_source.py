"""What a set of faces was made of, as its `source.toml` says; nothing of how faces are found.

Two extractions are the same if the content of their inputs and their settings are. What else the
file holds (the result, what the user declares) does not count.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from faceswap_cli.core.errors import ConfigurationError, InputError

Section = Mapping[str, str | int | float | bool]
NON_CONTENT_KEYS = frozenset({"name", "partner"})
"""What is written of an input and does not make it another one."""
Source = Mapping[str, Section]
"""Heading -> names and values: `[input]`, `[input-2]`, ..., `[settings]`, `[result]` and others."""


def build_source(inputs: Sequence[Section], settings: Section) -> dict[str, Section]:
    """Return what is written before the first face."""
    titles = ["input", *(f"input-{number}" for number in range(2, len(inputs) + 1))]
    return {**dict(zip(titles, inputs, strict=True)), "settings": settings}


def check_same_source(
    existing: Source, requested: Source, *, name: str, root: Path, defaults: Section
) -> None:
    """Refuse to go on with a set that is of something else.

    Args:
        existing: What the set is of.
        requested: What is asked for.
        name: The set's.
        root: Its folder.
        defaults: Settings that are not written down have these values.

    Raises:
        ConfigurationError: They differ.
    """
    if _content_keys(existing) != _content_keys(requested):
        raise ConfigurationError(
            f'the set "{name}" holds the faces of another {_describe_inputs(existing)}',
            hint="choose another name with --name",
        )
    if differences := _describe_differences(
        existing.get("settings", {}), requested["settings"], defaults=defaults
    ):
        raise ConfigurationError(
            f'the set "{name}" was extracted with other settings ({differences})',
            hint=f"choose another name with --name, or delete {root} first",
        )


def user_sections(source: Source) -> dict[str, Section]:
    """Return the sections that only say something: they change nothing about the faces."""
    return {
        title: section
        for title, section in source.items()
        if title not in ("settings", "result") and not title.startswith("input")
    }


def _content_keys(source: Source) -> list[dict[str, str | int | float]]:
    """Return what the inputs are known by: the same content under another name is the same."""
    inputs = [section for title, section in source.items() if title.startswith("input")]
    return [{key: one[key] for key in one.keys() - NON_CONTENT_KEYS} for one in inputs]


def _describe_inputs(source: Source) -> str:
    """Return what a set was made of, as `video, a.mp4` or `3 inputs, a.mp4 to c.mp4`."""
    inputs = [section for title, section in source.items() if title.startswith("input")]
    names = [str(section.get("name", "of an unknown name")) for section in inputs]
    if len(inputs) > 1:
        return f"{len(inputs)} inputs, {names[0]} to {names[-1]}"
    kind = "album" if inputs and "pictures" in inputs[0] else "video"
    return f"{kind}, {names[0] if names else 'of an unknown name'}"


def _describe_differences(old: Section, new: Section, *, defaults: Section) -> str:
    """Return the settings that differ, as `size_px 256, now 128`."""
    keys = dict.fromkeys([*defaults, *old, *new])
    pairs = [
        (key, old.get(key, defaults.get(key)), new.get(key, defaults.get(key))) for key in keys
    ]
    return ", ".join(
        f"{key} {_format_value(before)}, now {_format_value(now)}"
        for key, before, now in pairs
        if before != now
    )


def _format_value(value: object) -> object:
    """Return the value, or the word for none."""
    return "none" if value is None else value


def read_source(path: Path) -> Source:
    """Read a `source.toml` back.

    Raises:
        InputError: It is not TOML, or may not be read.
    """
    hint = "choose another name with --name, or delete the set's folder"
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}", hint=hint
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=hint) from error


def to_toml(source: Source) -> str:
    """Return the sections as TOML; the keys are plain words."""
    lines = ["# What the faces in this folder come from; written by faceswap extract."]
    for title, section in source.items():
        lines += ["", f"[{title}]"]
        # JSON's numbers and printable strings are TOML's, but for its way of writing emoji.
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in section.items()
        ]
    return "\n".join(lines) + "\n"
