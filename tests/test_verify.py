"""Verify: plain words and an exit code for whatever a file says of itself, or does not."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import c2pa
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from faceswap_cli.cli.app import app
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.errors import InputError
from faceswap_cli.provenance.claim import COMPOSITE, Claim, metadata_comment
from faceswap_cli.provenance.credentials import _create_signer, sign_file
from faceswap_cli.provenance.sidecar import sidecar_path, write_sidecar
from faceswap_cli.provenance.signing_key import load_or_create_key
from faceswap_cli.stages.verify import EXIT_MODIFIED, EXIT_NO_CREDENTIALS, verify
from faceswap_cli.video.color import BT709
from faceswap_cli.video.encoder import EncodeSpec
from faceswap_cli.video.segments import SegmentedWriter
from faceswap_cli.video.source import IMAGE_SUFFIXES
from faceswap_cli.video.writer import VideoWriter

CLAIM = Claim(frames=5, swapped=4, model="ab" * 32, source="cd" * 32, settings={"colour": "lab"})


@pytest.fixture
def clip(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a video or a picture of a given name."""

    def made(name: str) -> Path:
        path = tmp_path / name
        image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        if path.suffix in IMAGE_SUFFIXES:
            done, data = cv2.imencode(path.suffix, image)
            assert done
            path.write_bytes(data.tobytes())
            return path
        with VideoWriter(path, size=(64, 48), rate=Fraction(25)) as writer:
            for index in range(5):
                writer.write(np.roll(image, index, axis=1), Fraction(index, 25))
        return path

    return made


Clip = Callable[[str], Path]


def run(*words: object) -> Result:
    """Type the command; wide enough that no line is broken."""
    typed: Sequence[str] = ["verify", *map(str, words)]
    return CliRunner().invoke(app, typed, env={"COLUMNS": "400"})


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.png", "a.mkv", "a.webm", "a.bmp"])
def test_a_signed_file_is_told_in_plain_words(clip: Clip, name: str) -> None:
    """What was done, that it holds, who signed, and that this proves no person."""
    path = clip(name)
    is_inside = sign_file(path, CLAIM, source=path)
    write_sidecar(path, CLAIM)

    done = run(path)

    assert 0 == done.exit_code
    assert "a face was replaced by a trained model; not changed since it was signed" in done.output
    assert f"{path.name}.provenance.json: matches" in done.output
    assert "key of this installation); it does not identify a person" in done.output
    assert "replaced in 4 of 5 frames" in done.output
    assert "no statement is recorded" in done.output
    assert is_inside == ("Content Credentials of faceswap" in done.output)
    assert is_inside != ("its format cannot hold any" in done.output)


def test_settings_are_told_as_a_user_would(clip: Clip) -> None:
    """Yes and no for switches, nothing called None, numbers without idle digits."""
    path = clip("a.mp4")
    told = ConvertSettings().render_settings() | {"feather": 0.15}
    sign_file(path, replace(CLAIM, settings=told))

    said = verify(path).to_rows()["settings"]

    expected = {"codec: default", "forehead: yes", "side by side: no", "feather: 0.15"}
    assert expected | {"shrink: 0", "color: mkl", "quality: 18"} <= set(said.split(", "))
    assert not {"None", "True", "False"} & set(re.findall(r"\w+", said))


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.mkv", "a.bmp", "a.tif", "a.avif"])
def test_a_file_that_tells_nothing_is_no_proof(clip: Clip, name: str) -> None:
    """Another exit code, and what it means."""
    done = run(clip(name))

    assert EXIT_NO_CREDENTIALS == done.exit_code
    assert "no credentials found" in done.output
    assert "nothing either way" in done.output


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("beside", [True, False])
def test_a_tampered_file_is_told_from_an_intact_one(clip: Clip, name: str, beside: bool) -> None:
    """With the sidecar, without it, or with nothing else."""
    path = clip(name)
    is_inside = sign_file(path, CLAIM)
    if beside:
        write_sidecar(path, CLAIM)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"mdat" if name == "a.mp4" else b"\x1f\x43\xb6\x75") + 40] ^= 1
    path.write_bytes(data)

    done = run(path)

    if not (is_inside or beside):
        assert EXIT_NO_CREDENTIALS == done.exit_code
        return
    assert EXIT_MODIFIED == done.exit_code
    assert "CHANGED SINCE IT WAS SIGNED" in done.output
    assert beside == ("it is for another file, or this one was changed" in done.output)
    assert is_inside == ("the file was changed (assertion.bmffHash.mismatch)" in done.output)


def test_a_changed_sidecar_is_told(clip: Clip) -> None:
    """The file is as it was; what is said of it is not."""
    path = clip("a.mkv")
    beside = write_sidecar(path, CLAIM)
    beside.write_text(beside.read_text().replace('"swapped": 4', '"swapped": 0'), encoding="utf-8")

    done = run(path)

    assert EXIT_MODIFIED == done.exit_code
    assert "it was changed after it was signed" in done.output


def test_a_sidecar_of_another_file_is_told(clip: Clip) -> None:
    """A file that was converted again is not the one its old sidecar speaks of."""
    path = clip("a.mp4")
    write_sidecar(path, CLAIM)
    sign_file(path, CLAIM)

    done = run(path)

    assert EXIT_MODIFIED == done.exit_code
    assert "Content Credentials of faceswap 0.1.0: intact" in done.output
    assert "it is for another file" in done.output


def test_other_peoples_credentials_are_not_called_a_swap(clip: Clip) -> None:
    """A camera's credentials say other things; so does the answer."""
    path, signed = clip("a.mp4"), clip("b.mp4")
    builder = c2pa.Builder({"claim_generator_info": [{"name": "A Camera", "version": "2"}]})
    builder.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE)
    with path.open("rb") as old, signed.open("w+b") as new:
        builder.sign(_create_signer(load_or_create_key()), "video/mp4", old, new)

    done = run(signed)

    assert 0 == done.exit_code
    assert "credentials that do not mention a trained model" in done.output
    assert "Content Credentials of A Camera 2: intact" in done.output
    assert "a face was replaced" not in done.output


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_what_the_metadata_says_outlives_the_credentials(tmp_path: Path, suffix: str) -> None:
    """A comment in the container is told, as something that anybody can write."""
    picture = EncodeSpec(
        size=(64, 48),
        rate=Fraction(25),
        time_base=Fraction(1, 1000),
        color=BT709,
        codec="av1" if suffix == "webm" else "h264",
    )
    path = tmp_path / f"a.{suffix}"
    with SegmentedWriter(tmp_path / "pieces", picture, key="") as segments:
        for index in range(3):
            segments.write(np.full((48, 64, 3), 40 * index, np.uint8), Fraction(index, 25))
    segments.finalize(path, metadata={"comment": metadata_comment()})

    done = run(path)

    assert EXIT_NO_CREDENTIALS == done.exit_code
    assert "states that it is a swap (not signed: anyone can write it)" in done.output


def test_a_picture_keeps_its_metadata_when_only_the_credentials_go(clip: Clip) -> None:
    """The XMP alone is told as such."""
    path = clip("a.png")
    sign_file(path, CLAIM)
    data = path.read_bytes()
    begin = data.index(b"caBX") - 4
    length = int.from_bytes(data[begin : begin + 4], "big") + 12
    path.write_bytes(data[:begin] + data[begin + length :])
    assert COMPOSITE.encode() in path.read_bytes()

    done = run(path)

    assert EXIT_NO_CREDENTIALS == done.exit_code
    assert "states that it is a swap" in done.output


def test_programs_read_json(clip: Clip) -> None:
    """One object, with what the words are made of."""
    path = clip("a.mp4")
    sign_file(path, CLAIM)

    found = json.loads(run(path, "--json").stdout)

    assert (True, True, True) == (found["found"], found["swap"], found["intact"])
    assert CLAIM.to_dict() == found["credentials"]["claim"]
    assert "intact" == found["credentials"]["state"]
    assert found["sidecar"] is None


def test_bad_input_is_one_line(clip: Clip, tmp_path: Path) -> None:
    """Nothing there, a folder, a text, an empty file, a torn one, a torn sidecar."""
    text, empty, torn, odd = (tmp_path / f"{name}.mp4" for name in ("text", "empty", "torn", "odd"))
    text.write_text("hello", encoding="utf-8")
    empty.write_bytes(b"")
    whole = clip("a.mp4")
    torn.write_bytes(whole.read_bytes()[:900])
    odd.write_bytes(whole.read_bytes())
    sidecar_path(odd).write_text("{", encoding="utf-8")
    fake = tmp_path / "fake.png"
    fake.write_text("hello", encoding="utf-8")
    for path in (
        tmp_path / "none.mp4",
        tmp_path / "none.png",
        tmp_path,
        text,
        empty,
        torn,
        odd,
        fake,
    ):
        with pytest.raises(InputError) as caught:
            verify(path)
        assert "\n" not in caught.value.message
        assert 3 == run(path).exit_code
