"""The user's statement of consent for a set of faces, and its digest in models and claims.

The statement itself stays in the set's `source.toml`, since it may contain a name. It is recorded,
not verified.
"""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from faceswap_cli.core.errors import ConfigurationError, did_you_mean
from faceswap_cli.core.fileio import (
    DIGEST_NOTE,
    add_digest,
    has_changed,
    remove_digest,
    sha256_file,
    write_text,
)

CONSENT_SECTION = "consent"
"""Heading in a set's `source.toml`."""

CONSENT_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "myself": "the faces are the user's own",
        "written": "the person agreed in writing",
        "synthetic": "the faces are rendered or generated",
        "other": "another ground, given in the note",
    }
)
"""The kinds of consent and their meaning."""
NOT_STATED = "none"
"""Kind in a workspace whose user stated nothing: not a statement, and not asked again."""
_KIND_ALIASES = {"written consent": "written", "me": "myself"}
HINT = 'myself, written, synthetic or other, with a note if you like: "written: contract of 3 May"'


@dataclass(frozen=True, kw_only=True)
class Consent:
    """A statement about one set of faces."""

    kind: str
    """A name in `CONSENT_KINDS`."""
    note: str = ""
    """The user's note, such as where the signed document is."""

    def to_dict(self) -> dict[str, str]:
        """Return the statement as in `source.toml`."""
        return {"kind": self.kind} | ({"note": self.note} if self.note else {})

    @property
    def sha256(self) -> str:
        """Digest of the statement, in hexadecimal digits."""
        return sha256(json.dumps([self.kind, self.note]).encode()).hexdigest()


def parse_consent(text: str) -> Consent:
    """Return the statement typed as `KIND` or `KIND: note`.

    Raises:
        ConfigurationError: The kind is unknown, `other` has no note, or the note is no text.
    """
    if any("\ud800" <= character <= "\udfff" for character in text):  # bytes that are no UTF-8
        raise ConfigurationError(
            "--consent: the statement is not in the encoding of this terminal (locale)",
            hint="type it again, or set a UTF-8 locale: export LC_ALL=C.UTF-8",
        )
    typed, _, note = (part.strip() for part in text.partition(":"))
    kind = _KIND_ALIASES.get(typed.lower(), typed.lower())
    if kind not in CONSENT_KINDS:
        raise ConfigurationError(
            f'--consent: there is no kind of consent called "{typed}"',
            hint=did_you_mean(kind, CONSENT_KINDS) if typed else f"say {HINT}",
        )
    if kind == "other" and not note:
        raise ConfigurationError(
            "--consent other needs the ground", hint='such as --consent "other: public domain"'
        )
    return Consent(kind=kind, note=note)


def read_consent(source: Path) -> Consent | None:
    """Return the statement in a set's `source.toml`; None if there is no unchanged one."""
    try:
        text = source.read_text(encoding="utf-8")
        section = None if has_changed(text) else tomllib.loads(text).get(CONSENT_SECTION)
    except (OSError, ValueError):
        return None
    if not isinstance(section, dict) or section.get("kind") not in CONSENT_KINDS:
        return None
    return Consent(kind=str(section["kind"]), note=str(section.get("note", "")))


AskConsent = Callable[[], Consent | None]
"""Asks the user for a statement; None where there is no answer."""


@dataclass(frozen=True, kw_only=True)
class ConsentChoice:
    """What a command that makes sets records with them: its own statement, or the workspace's."""

    stated: Consent | None
    """For these sets alone, and in place of what they have."""
    default: Consent | None
    """For sets without a statement."""
    is_settled: bool
    """Whether the workspace has a default, or the user was told before that it has none."""

    @classmethod
    def resolve(
        cls, text: str | None, version_file: Path, ask: AskConsent | None = None
    ) -> "ConsentChoice":
        """Return the choice of a command; ask once a workspace, unless the user stated it.

        Args:
            text: What was typed; None: nothing.
            version_file: The workspace's `workspace.toml`, which holds its default.
            ask: Asks for the default; None where nobody can answer.

        Raises:
            ConfigurationError: The statement is invalid.
        """
        if text is not None:
            return cls(stated=parse_consent(text), default=None, is_settled=True)
        if _has_consent_section(version_file):
            return cls(stated=None, default=read_consent(version_file), is_settled=True)
        return cls(stated=None, default=ask() if ask else None, is_settled=False)

    def sections(self, source: Path) -> dict[str, dict[str, str]]:
        """Return what to add to a set's `source.toml` at this path."""
        statement = self.stated or (None if read_consent(source) else self.default)
        return {CONSENT_SECTION: statement.to_dict()} if statement else {}

    def settle(self, version_file: Path, sources: Mapping[str, Path]) -> str | None:
        """Record in a workspace that its user was asked; return a reminder, once, if it is due.

        Args:
            version_file: The workspace's `workspace.toml`, which exists.
            sources: Paths of the sets' `source.toml` by name.
        """
        if self.is_settled:
            return None
        values = self.default.to_dict() if self.default else {"kind": NOT_STATED}
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        text = remove_digest(version_file.read_text(encoding="utf-8")).rstrip("\n")
        section = f"# For sets without a statement of their own.\n[{CONSENT_SECTION}]"
        whole = "\n".join([DIGEST_NOTE, text, "", section, *lines, ""])
        write_text(version_file, add_digest(whole))
        return consent_reminder(sources)


def _has_consent_section(version_file: Path) -> bool:
    """Return whether a workspace's file has a section of consent, with a statement or without."""
    try:
        return CONSENT_SECTION in tomllib.loads(version_file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def consent_reminder(sources: Mapping[str, Path]) -> str | None:
    """Return a message about the sets without a statement; None if all have one.

    Args:
        sources: Paths of the sets' `source.toml` by name.
    """
    names = [f'"{name}"' for name, source in sources.items() if not read_consent(source)]
    if not names:
        return None
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"no consent is recorded for {listed}: run the command again with "
        "--consent myself|written|synthetic|other to state on what ground they are used"
    )


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The digests of a set that a model trained on it contains."""

    records: str
    """Digest of the set's records; empty for a set without a file of records."""
    consent: str | None
    """Digest of the statement of consent; None if none is recorded."""


def read_origin(*, records: Path, source: Path) -> Origin:
    """Return the origin of the set with these files."""
    consent = read_consent(source)
    return Origin(
        records=sha256_file(records) if records.is_file() else "",
        consent=consent.sha256 if consent else None,
    )


def origins_to_json(origins: Sequence[Origin]) -> str:
    """Return origins as JSON for a model's header."""
    return json.dumps([[origin.records, origin.consent] for origin in origins])


def origins_from_json(text: str) -> tuple[Origin, ...]:
    """Return the origins of `origins_to_json`; none if the text is something else."""
    try:
        return tuple(
            Origin(records=str(records), consent=None if consent is None else str(consent))
            for records, consent in json.loads(text)
        )
    except (ValueError, TypeError, RecursionError):
        return ()


def combined_consent_digest(origins: Sequence[Origin]) -> str | None:
    """Return the digest of all statements together; None unless every set has one."""
    statements = [origin.consent for origin in origins]
    if not statements or None in statements:
        return None
    return sha256("\n".join(map(str, statements)).encode()).hexdigest()
