"""The verify command: its output and exit codes for all kinds of files."""

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

CLAIM = Claim(frames=5, swapped=4, model="ab" * 32, source="cd" * 32, settings={"color": "lab"})


@pytest.fixture
def clip(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that creates a video or an image with a given name."""

    def create(name: str) -> Path:
        path = tmp_path / name
        image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        if path.suffix in IMAGE_SUFFIXES:
            is_encoded, data = cv2.imencode(path.suffix, image)
            assert is_encoded
            path.write_bytes(data.tobytes())
            return path
        with VideoWriter(path, size=(64, 48), rate=Fraction(25)) as writer:
            for index in range(5):
                writer.write(np.roll(image, index, axis=1), Fraction(index, 25))
        return path

    return create


Clip = Callable[[str], Path]


def run(*words: object) -> Result:
    """Run the command on a terminal wide enough that no line is wrapped."""
    typed: Sequence[str] = ["verify", *map(str, words)]
    return CliRunner().invoke(app, typed, env={"COLUMNS": "400"})


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.png", "a.mkv", "a.webm", "a.bmp"])
def test_a_signed_file_is_described(clip: Clip, name: str) -> None:
    """The swap, that it is intact, the key, and that this identifies no person."""
    path = clip(name)
    is_inside = sign_file(path, CLAIM, source=path)
    write_sidecar(path, CLAIM)

    result = run(path)

    assert 0 == result.exit_code
    assert (
        "a face was replaced by a trained model; not changed since it was signed" in result.output
    )
    assert f"{path.name}.provenance.json: matches" in result.output
    assert "key of this installation); it does not identify a person" in result.output
    assert "replaced in 4 of 5 frames" in result.output
    assert "no statement is recorded" in result.output
    assert is_inside == ("Content Credentials of faceswap" in result.output)
    assert is_inside != ("its format cannot hold any" in result.output)


def test_settings_are_shown_for_people(clip: Clip) -> None:
    """Yes and no for switches, `default` for None, numbers without trailing digits."""
    path = clip("a.mp4")
    settings = ConvertSettings().render_settings() | {"feather": 0.15}
    sign_file(path, replace(CLAIM, settings=settings))

    shown = verify(path).to_rows()["settings"]

    expected = {"codec: default", "forehead: yes", "side by side: no", "feather: 0.15"}
    assert expected | {"shrink: 0", "color: mkl", "quality: 18"} <= set(shown.split(", "))
    assert not {"None", "True", "False"} & set(re.findall(r"\w+", shown))


@pytest.mark.parametrize("name", ["a.mp4", "a.png", "a.mkv", "a.bmp", "a.tif", "a.avif"])
def test_a_file_without_credentials_proves_nothing(clip: Clip, name: str) -> None:
    """It has an exit code of its own, and the output says what that means."""
    result = run(clip(name))

    assert EXIT_NO_CREDENTIALS == result.exit_code
    assert "no credentials found" in result.output
    assert "nothing either way" in result.output


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("has_sidecar", [True, False])
def test_a_changed_file_is_detected(clip: Clip, name: str, has_sidecar: bool) -> None:
    """By its credentials, by its sidecar, or by both."""
    path = clip(name)
    is_inside = sign_file(path, CLAIM)
    if has_sidecar:
        write_sidecar(path, CLAIM)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"mdat" if name == "a.mp4" else b"\x1f\x43\xb6\x75") + 40] ^= 1
    path.write_bytes(data)

    result = run(path)

    if not (is_inside or has_sidecar):
        assert EXIT_NO_CREDENTIALS == result.exit_code
        return
    assert EXIT_MODIFIED == result.exit_code
    assert "CHANGED SINCE IT WAS SIGNED" in result.output
    assert has_sidecar == ("it is for another file, or this one was changed" in result.output)
    assert is_inside == ("the file was changed (assertion.bmffHash.mismatch)" in result.output)


def test_a_changed_sidecar_is_detected(clip: Clip) -> None:
    """Although the file is unchanged."""
    path = clip("a.mkv")
    sidecar = write_sidecar(path, CLAIM)
    sidecar.write_text(
        sidecar.read_text().replace('"swapped": 4', '"swapped": 0'), encoding="utf-8"
    )

    result = run(path)

    assert EXIT_MODIFIED == result.exit_code
    assert "it was changed after it was signed" in result.output


def test_a_sidecar_of_another_file_is_detected(clip: Clip) -> None:
    """A file that was converted again does not match its old sidecar."""
    path = clip("a.mp4")
    write_sidecar(path, CLAIM)
    sign_file(path, CLAIM)

    result = run(path)

    assert EXIT_MODIFIED == result.exit_code
    assert "Content Credentials of faceswap 0.1.0: intact" in result.output
    assert "it is for another file" in result.output


def test_credentials_of_other_programs_are_not_called_a_swap(clip: Clip) -> None:
    """Such as a camera's."""
    path, signed = clip("a.mp4"), clip("b.mp4")
    builder = c2pa.Builder({"claim_generator_info": [{"name": "A Camera", "version": "2"}]})
    builder.set_intent(c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE)
    with path.open("rb") as old, signed.open("w+b") as new:
        builder.sign(_create_signer(load_or_create_key()), "video/mp4", old, new)

    result = run(signed)

    assert 0 == result.exit_code
    assert "credentials that do not mention a trained model" in result.output
    assert "Content Credentials of A Camera 2: intact" in result.output
    assert "a face was replaced" not in result.output


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm"])
def test_a_swap_comment_without_credentials_is_shown(tmp_path: Path, suffix: str) -> None:
    """As metadata that anyone can write."""
    spec = EncodeSpec(
        size=(64, 48),
        rate=Fraction(25),
        time_base=Fraction(1, 1000),
        color=BT709,
        codec="av1" if suffix == "webm" else "h264",
    )
    path = tmp_path / f"a.{suffix}"
    with SegmentedWriter(tmp_path / "segments", spec, key="") as segments:
        for index in range(3):
            segments.write(np.full((48, 64, 3), 40 * index, np.uint8), Fraction(index, 25))
    segments.finalize(path, metadata={"comment": metadata_comment()})

    result = run(path)

    assert EXIT_NO_CREDENTIALS == result.exit_code
    assert "states that it is a swap (not signed: anyone can write it)" in result.output


def test_xmp_metadata_without_credentials_is_shown(clip: Clip) -> None:
    """If the credentials of an image were removed."""
    path = clip("a.png")
    sign_file(path, CLAIM)
    data = path.read_bytes()
    begin = data.index(b"caBX") - 4
    length = int.from_bytes(data[begin : begin + 4], "big") + 12
    path.write_bytes(data[:begin] + data[begin + length :])
    assert COMPOSITE.encode() in path.read_bytes()

    result = run(path)

    assert EXIT_NO_CREDENTIALS == result.exit_code
    assert "states that it is a swap" in result.output


def test_json_output_has_all_values(clip: Clip) -> None:
    """One object, for programs."""
    path = clip("a.mp4")
    sign_file(path, CLAIM)

    found = json.loads(run(path, "--json").stdout)

    assert (True, True, True) == (found["found"], found["swap"], found["intact"])
    assert CLAIM.to_dict() == found["credentials"]["claim"]
    assert "intact" == found["credentials"]["state"]
    assert found["sidecar"] is None


def test_invalid_input_is_an_error(clip: Clip, tmp_path: Path) -> None:
    """A missing, empty or truncated file, a folder, a text, a truncated sidecar."""
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
