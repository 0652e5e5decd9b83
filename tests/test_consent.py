"""What is said of consent: typed, kept with the set, carried on as a digest and as nothing else."""

import json
import tomllib
from pathlib import Path

import pytest

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.provenance.consent import (
    CONSENT_KINDS,
    Consent,
    Origin,
    combined_consent_digest,
    consent_reminder,
    origins_from_json,
    origins_to_json,
    parse_consent,
    read_consent,
    read_origin,
)


@pytest.mark.parametrize(
    ("text", "consent"),
    [
        ("myself", Consent(kind="myself")),
        ("Written consent", Consent(kind="written")),
        (
            "written: contract of 3 May: page 2",
            Consent(kind="written", note="contract of 3 May: page 2"),
        ),
        (" synthetic ", Consent(kind="synthetic")),
        ("other: in the public domain", Consent(kind="other", note="in the public domain")),
    ],
)
def test_consent_is_typed_as_a_kind_and_a_note(text: str, consent: Consent) -> None:
    """The note is whatever follows the first colon."""
    assert consent == parse_consent(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("sinthetic", 'did you mean "synthetic"?'),
        ("", "say myself, written"),
        ("other", "other: public domain"),
        ("other:", "other: public domain"),
        ("yes", "there is: myself, other, synthetic, written"),
    ],
)
def test_what_says_nothing_is_refused(text: str, hint: str) -> None:
    """With what to type instead; the exit code of a wrong setting."""
    with pytest.raises(ConfigurationError, match="--consent") as caught:
        parse_consent(text)
    assert hint in caught.value.hint


def write_source(path: Path, consent: Consent | None) -> Path:
    """Write a `source.toml` as extract does."""
    lines = ["[input]", 'name = "a.mp4"']
    if consent:
        lines += ["[consent]", *(f"{k} = {json.dumps(v)}" for k, v in consent.to_dict().items())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert tomllib.loads(path.read_text(encoding="utf-8"))
    return path


@pytest.mark.parametrize(
    "consent", [Consent(kind=kind, note=note) for kind in CONSENT_KINDS for note in ("", "Ä “b”")]
)
def test_a_statement_is_kept_and_found_again(tmp_path: Path, consent: Consent) -> None:
    """There and back through a set's file."""
    assert consent == read_consent(write_source(tmp_path / "source.toml", consent))


def test_no_statement_is_none(tmp_path: Path) -> None:
    """Whether the file says nothing, nonsense, or is not there."""
    path = tmp_path / "source.toml"
    assert read_consent(path) is None
    assert read_consent(write_source(path, None)) is None
    for text in ("not toml [", '[consent]\nkind = "maybe"\n', "consent = 1\n", "[consent]\n"):
        path.write_text(text, encoding="utf-8")
        assert read_consent(path) is None


def test_the_sets_without_a_statement_are_named(tmp_path: Path) -> None:
    """One line, with what to type; nothing where each set has one."""
    said = write_source(tmp_path / "said.toml", Consent(kind="myself"))
    silent = write_source(tmp_path / "silent.toml", None)

    assert consent_reminder({"anna": said}) is None
    assert consent_reminder({}) is None
    line = consent_reminder({"anna": said, "bo": silent, "cy": silent})
    assert line is not None
    assert 'for "bo", "cy": run' in line
    assert "--consent myself|written|synthetic|other" in line
    assert "and 2 more" in str(consent_reminder(dict.fromkeys("abcde", silent)))


def test_only_digests_travel(tmp_path: Path) -> None:
    """A model's header tells that there is a statement, and not what it says."""
    source = write_source(tmp_path / "source.toml", Consent(kind="written", note="Anna Example"))
    records = tmp_path / "faces.jsonl"
    records.write_text('{"landmarks": [[123.45, 6.7]]}\n', encoding="utf-8")

    origin = read_origin(records=records, source=source)

    text = origins_to_json([origin, Origin(records="", consent=None)])
    assert (origin, Origin(records="", consent=None)) == origins_from_json(text)
    assert all(secret not in text for secret in ("Anna", "written", "123.45", "a.mp4"))


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '[["a"]]'])
def test_a_header_of_another_kind_tells_nothing(text: str) -> None:
    """Models trained before this was recorded are read as before."""
    assert () == origins_from_json(text)


def test_consent_holds_only_if_everybody_gave_it() -> None:
    """One set without a statement is enough for none; another statement is another digest."""
    yes, also, missing = (Origin(records="", consent=one) for one in ("a" * 64, "b" * 64, None))

    assert combined_consent_digest([]) is None
    assert combined_consent_digest([yes, missing]) is None
    assert combined_consent_digest([yes, also]) is not None
    assert combined_consent_digest([yes, also]) != combined_consent_digest([yes, yes])
