"""Statements of consent: typed, stored with the set, and published as digests only."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.provenance.consent import (
    CONSENT_KINDS,
    Consent,
    ConsentChoice,
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
    """The note is everything after the first colon."""
    assert consent == parse_consent(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("sinthetic", 'did you mean "synthetic"?'),
        ("", "say myself, written"),
        ("other", "other: public domain"),
        ("other:", "other: public domain"),
        ("yes", "there is: myself, other, synthetic, written"),
        ("written: \udce4", "export LC_ALL=C.UTF-8"),
    ],
)
def test_an_invalid_statement_is_refused(text: str, hint: str) -> None:
    """The hint says what to type instead."""
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
def test_a_statement_is_read_as_it_was_written(tmp_path: Path, consent: Consent) -> None:
    """In a set's `source.toml`."""
    assert consent == read_consent(write_source(tmp_path / "source.toml", consent))


def test_no_statement_is_none(tmp_path: Path) -> None:
    """If the file does not exist, has no statement, or an invalid one."""
    path = tmp_path / "source.toml"
    assert read_consent(path) is None
    assert read_consent(write_source(path, None)) is None
    for text in ("not toml [", '[consent]\nkind = "maybe"\n', "consent = 1\n", "[consent]\n"):
        path.write_text(text, encoding="utf-8")
        assert read_consent(path) is None


def test_the_sets_without_a_statement_are_named(tmp_path: Path) -> None:
    """One line, with what to type; None if each set has one."""
    with_consent = write_source(tmp_path / "a.toml", Consent(kind="myself"))
    without_consent = write_source(tmp_path / "b.toml", None)

    assert consent_reminder({"anna": with_consent}) is None
    assert consent_reminder({}) is None
    line = consent_reminder({"anna": with_consent, "bo": without_consent, "cy": without_consent})
    assert line is not None
    assert 'for "bo", "cy": run' in line
    assert "--consent myself|written|synthetic|other" in line
    assert "and 2 more" in str(consent_reminder(dict.fromkeys("abcde", without_consent)))


def test_a_models_header_has_digests_only(tmp_path: Path) -> None:
    """Neither the statement nor the records."""
    source = write_source(tmp_path / "source.toml", Consent(kind="written", note="Anna Example"))
    records = tmp_path / "faces.jsonl"
    records.write_text('{"landmarks": [[123.45, 6.7]]}\n', encoding="utf-8")

    origin = read_origin(records=records, source=source)

    text = origins_to_json([origin, Origin(records="", consent=None)])
    assert (origin, Origin(records="", consent=None)) == origins_from_json(text)
    assert all(secret not in text for secret in ("Anna", "written", "123.45", "a.mp4"))


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", '[["a"]]'])
def test_a_header_without_origins_is_read(text: str) -> None:
    """Models of older versions have none."""
    assert () == origins_from_json(text)


def test_the_combined_digest_needs_a_statement_for_every_set() -> None:
    """It is None if one is missing; other statements give another digest."""
    first, second, missing = (Origin(records="", consent=one) for one in ("a" * 64, "b" * 64, None))

    assert combined_consent_digest([]) is None
    assert combined_consent_digest([first, missing]) is None
    assert combined_consent_digest([first, second]) is not None
    assert combined_consent_digest([first, second]) != combined_consent_digest([first, first])


def workspace_file(folder: Path) -> Path:
    """Return the file of a new workspace."""
    path = folder / "workspace.toml"
    path.write_text("# faceswap workspace\nformat = 1\n", encoding="utf-8")
    return path


def test_consent_is_asked_for_once_a_workspace(tmp_path: Path) -> None:
    """The answer holds for sets without a statement, now and later; the format stays readable."""
    file, asked = workspace_file(tmp_path), []
    bare = write_source(tmp_path / "a.toml", None)
    own = write_source(tmp_path / "b.toml", Consent(kind="myself"))
    answer = Consent(kind="written", note='contract of "May"')

    def ask() -> Consent:
        asked.append(True)
        return answer

    for _ in range(2):
        choice = ConsentChoice.resolve(None, file, ask)
        assert {"consent": answer.to_dict()} == choice.sections(bare)
        assert {} == choice.sections(own), "a statement of its own stays"
        assert choice.settle(file, {"b": own}) is None
    assert [True] == asked
    assert answer == read_consent(file)
    assert 1 == tomllib.loads(file.read_text(encoding="utf-8"))["format"]


@pytest.mark.parametrize("ask", [None, lambda: None])
def test_a_missing_consent_is_said_once_a_workspace(
    tmp_path: Path, ask: Callable[[], None] | None
) -> None:
    """Where nobody can answer, and where nobody does."""
    file, bare = workspace_file(tmp_path), write_source(tmp_path / "a.toml", None)
    notes = []
    for _ in range(3):
        choice = ConsentChoice.resolve(None, file, ask)
        assert {} == choice.sections(bare)
        notes.append(choice.settle(file, {"anna": bare}))
    assert 'no consent is recorded for "anna"' in str(notes[0])
    assert [None, None] == notes[1:]
    assert read_consent(file) is None


def test_a_statement_for_a_set_is_not_the_workspace_s(tmp_path: Path) -> None:
    """It replaces what the set has, and the question is still open."""
    file, own = workspace_file(tmp_path), write_source(tmp_path / "b.toml", Consent(kind="myself"))
    choice = ConsentChoice.resolve("synthetic", file, lambda: pytest.fail("not asked"))
    assert {"consent": {"kind": "synthetic"}} == choice.sections(own)
    assert choice.settle(file, {"b": own}) is None
    answer = Consent(kind="written")
    assert answer == ConsentChoice.resolve(None, file, lambda: answer).default
