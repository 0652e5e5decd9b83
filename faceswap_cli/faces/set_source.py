"""A set's `source.toml`: which inputs and settings its faces were extracted with.

Two extractions are the same if the content of their inputs and their settings are. The rest of the
file (the result, the user's own sections) does not count.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.fileio import DIGEST_NOTE, add_digest, has_changed, write_text
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.alignment import TEMPLATE_VERSION
from faceswap_cli.faces.selection import parse_selection
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.tracker import TRACKER_VERSION

Section = Mapping[str, str | int | float | bool]
Source = Mapping[str, Section]
"""Title -> section: `[input]`, `[input-2]`, ..., `[settings]`, `[result]` and the user's own."""
RECORDS_DIGEST = "records_sha256"
"""Key of `[result]`: the digest of the set's records."""
NON_CONTENT_KEYS = frozenset({"name", "partner"})
"""Keys of an input that do not belong to its content."""


def build_source(inputs: Sequence[Section], settings: ExtractSettings) -> dict[str, Section]:
    """Return the sections that are written before the first face."""
    titles = ["input", *(f"input-{number}" for number in range(2, len(inputs) + 1))]
    sections = dict(zip(titles, inputs, strict=True))
    return {**sections, "settings": settings_fingerprint(settings)}


def settings_fingerprint(settings: ExtractSettings) -> Section:
    """Return the values that two extractions must share to be the same."""
    given = {key: value for key, value in asdict(settings).items() if value is not None}
    return {
        **given,
        "faces": parse_selection(settings.faces).canonical_text(),
        "template": TEMPLATE_VERSION,
        "follower": TRACKER_VERSION,
    }


def write_source(folder: SetFolder, source: Source) -> None:
    """Write a set's `source.toml`.

    Raises:
        InputError: The folder cannot be written to.
    """
    write_text(folder.source, to_toml(source))


def read_user_sections(folder: SetFolder) -> dict[str, Section]:
    """Return the sections that the user gave a set before, if it exists.

    Raises:
        InputError: Its `source.toml` cannot be read.
    """
    return user_sections(read_source(folder.source)) if folder.source.exists() else {}


def check_set(folder: SetFolder, source: Source, declared: Source) -> dict[str, float] | None:
    """Check that a set is of `source` or new, and write the user's sections if they changed.

    Returns:
        The counts of a finished set; None if there is work to do.

    Raises:
        ConfigurationError: The set is of another source, or was made with other settings.
        InputError: Its `source.toml` cannot be read.
    """
    if not folder.source.exists():
        if folder.records.exists() and folder.records.stat().st_size:
            raise ConfigurationError(
                f'the set "{folder.name}" holds faces but has no source.toml',
                hint="choose another name with --name",
            )
        return None
    existing = read_source(folder.source)
    check_same_source(existing, source, folder=folder)
    if user_sections(existing) != declared:
        write_source(folder, {**existing, **declared})
    result = existing.get("result") if folder.records.exists() else None
    if result:
        folder.remove_progress()
    counts = {key: value for key, value in (result or {}).items() if key != RECORDS_DIGEST}
    return {key: float(value) for key, value in counts.items()} or None


def check_same_source(existing: Source, requested: Source, *, folder: SetFolder) -> None:
    """Refuse to continue a set of another source.

    Raises:
        ConfigurationError: The inputs or the settings differ.
    """
    if _content_keys(existing) != _content_keys(requested):
        raise ConfigurationError(
            f'the set "{folder.name}" holds the faces of another {_describe_inputs(existing)}',
            hint="choose another name with --name",
        )
    if differences := _describe_differences(existing.get("settings", {}), requested["settings"]):
        raise ConfigurationError(
            f'the set "{folder.name}" was extracted with other settings ({differences})',
            hint=f"choose another name with --name, or delete {folder.root} first",
        )


def user_sections(source: Source) -> dict[str, Section]:
    """Return the sections that do not determine the faces: those the user gave."""
    return {
        title: section
        for title, section in source.items()
        if title not in ("settings", "result") and not title.startswith("input")
    }


def _content_keys(source: Source) -> list[dict[str, str | int | float]]:
    """Return what identifies the content of each input, under whatever name."""
    inputs = [section for title, section in source.items() if title.startswith("input")]
    return [{key: one[key] for key in one.keys() - NON_CONTENT_KEYS} for one in inputs]


def _describe_inputs(source: Source) -> str:
    """Return the inputs of a set, as `video, a.mp4` or `3 inputs, a.mp4 to c.mp4`."""
    inputs = [section for title, section in source.items() if title.startswith("input")]
    names = [str(section.get("name", "of an unknown name")) for section in inputs]
    if len(inputs) > 1:
        return f"{len(inputs)} inputs, {names[0]} to {names[-1]}"
    kind = "image sequence" if inputs and "pictures" in inputs[0] else "video"
    return f"{kind}, {names[0] if names else 'of an unknown name'}"


def _describe_differences(old: Section, new: Section) -> str:
    """Return the settings that differ, as `size_px 256, now 128`; missing ones have defaults."""
    defaults = {**asdict(ExtractSettings()), "template": TEMPLATE_VERSION}
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
    """Return the value, or `none` for None."""
    return "none" if value is None else value


def read_source(path: Path) -> Source:
    """Read a `source.toml`; those of older versions have no digest.

    Raises:
        InputError: It is not TOML, has changed since it was written, or may not be read.
    """
    hint = "choose another name with --name, or delete the set's folder"
    try:
        text = path.read_text(encoding="utf-8")
        if has_changed(text) or not (source := tomllib.loads(text)):
            raise InputError(
                f"{path} is damaged: its digest does not match",
                hint=f"{hint}; if you changed the file yourself, delete its second and last line",
            )
        return source
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}", hint=hint
        ) from error
    except (ValueError, RecursionError) as error:  # of TOML, and of UTF-8
        raise InputError(f"{path} cannot be read: {error}", hint=hint) from error


def to_toml(source: Source) -> str:
    """Return the sections as TOML; the keys are plain words."""
    lines = [
        "# What the faces in this folder come from; written by faceswap extract.",
        DIGEST_NOTE,
    ]
    for title, section in source.items():
        lines += ["", f"[{title}]"]
        # JSON's numbers and printable strings are TOML's, but for its way of writing emoji.
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in section.items()
        ]
    return add_digest("\n".join(lines) + "\n")
