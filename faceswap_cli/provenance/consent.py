"""What the user says of the consent to a set's faces, and how that travels on: as a digest.

The statement itself stays in the set's `source.toml`; it may hold a name. Nothing here checks that
it is true: it is there to be thought of, and to be found again.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType

from faceswap_cli.core.errors import ConfigurationError, did_you_mean
from faceswap_cli.core.fileio import sha256_file

CONSENT_SECTION = "consent"
"""Heading in a set's `source.toml`."""

CONSENT_KINDS: Mapping[str, str] = MappingProxyType(
    {
        "myself": "the faces are the user's own",
        "written": "the person agreed in writing",
        "synthetic": "the faces are nobody's: drawn or generated",
        "other": "another ground, told in the note",
    }
)
"""What may be said, and what it means."""
_KIND_ALIASES = {"written consent": "written", "me": "myself"}
HINT = 'myself, written, synthetic or other, with a note if you like: "written: contract of 3 May"'


@dataclass(frozen=True, kw_only=True)
class Consent:
    """A statement about one set of faces."""

    kind: str
    """A name in `KINDS`."""
    note: str = ""
    """What the user adds, such as where a signed paper lies."""

    def to_dict(self) -> dict[str, str]:
        """Return the statement as `source.toml` keeps it."""
        return {"kind": self.kind} | ({"note": self.note} if self.note else {})

    @property
    def sha256(self) -> str:
        """Digest of the statement."""
        return sha256(json.dumps([self.kind, self.note]).encode()).hexdigest()


def parse_consent(text: str) -> Consent:
    """Return the statement typed as `KIND` or `KIND: note`.

    Raises:
        ConfigurationError: There is no such kind, or `other` without a note.
    """
    typed, _, note = (part.strip() for part in text.partition(":"))
    kind = _KIND_ALIASES.get(typed.lower(), typed.lower())
    if kind not in CONSENT_KINDS:
        raise ConfigurationError(
            f'--consent: there is no kind of consent called "{typed}"',
            hint=did_you_mean(kind, CONSENT_KINDS) if typed else f"say {HINT}",
        )
    if kind == "other" and not note:
        raise ConfigurationError(
            "--consent other: say on what ground", hint='such as --consent "other: public domain"'
        )
    return Consent(kind=kind, note=note)


def read_consent(source: Path) -> Consent | None:
    """Return what the `source.toml` of a set says; None if it says nothing that can be read."""
    try:
        section = tomllib.loads(source.read_text(encoding="utf-8")).get(CONSENT_SECTION)
    except (OSError, ValueError):
        return None
    if not isinstance(section, dict) or section.get("kind") not in CONSENT_KINDS:
        return None
    return Consent(kind=str(section["kind"]), note=str(section.get("note", "")))


def consent_reminder(sources: Mapping[str, Path]) -> str | None:
    """Return a line for people about the sets with no statement; None if each has one.

    Args:
        sources: The sets' names, and where their `source.toml` lie.
    """
    names = [f'"{name}"' for name, source in sources.items() if not read_consent(source)]
    if not names:
        return None
    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"no consent is recorded for {listed}: run the command again with "
        "--consent myself|written|synthetic|other to say on what ground it is used"
    )


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What is told of a set to whoever gets a model that was trained on it: two digests."""

    records: str
    """Digest of the set's records; empty for a set that was never on a disk."""
    consent: str | None
    """Digest of the statement of consent; None where none is recorded."""


def read_origin(*, records: Path, source: Path) -> Origin:
    """Return the origin of the set with these files."""
    consent = read_consent(source)
    return Origin(
        records=sha256_file(records) if records.is_file() else "",
        consent=consent.sha256 if consent else None,
    )


def origins_to_json(origins: Sequence[Origin]) -> str:
    """Return origins as one line for a model's header, which `origins_from_json` reads."""
    return json.dumps([[origin.records, origin.consent] for origin in origins])


def origins_from_json(text: str) -> tuple[Origin, ...]:
    """Read origins back; none from a header of another kind."""
    try:
        return tuple(
            Origin(records=str(records), consent=None if consent is None else str(consent))
            for records, consent in json.loads(text)
        )
    except (ValueError, TypeError):
        return ()


def combined_consent_digest(origins: Sequence[Origin]) -> str | None:
    """Return the digest of all statements together; None unless there is one for every set."""
    statements = [origin.consent for origin in origins]
    if not statements or None in statements:
        return None
    return sha256("\n".join(map(str, statements)).encode()).hexdigest()
