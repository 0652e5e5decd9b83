"""The wheel contains the two packages with their presets, and nothing else."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from faceswap_cli import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the names of the files in a wheel built from the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl"))).namelist()


def test_the_wheel_has_two_packages_and_no_models_folder(wheel: list[str]) -> None:
    """`models` is only a source root: installed, it would overwrite other packages' folders."""
    tops = {name.partition("/")[0] for name in wheel}
    assert {"faceswap_cli", "faceswap_models"} == {
        top for top in tops if not top.endswith(".dist-info")
    }


def test_the_wheel_has_presets_and_type_markers(wheel: list[str]) -> None:
    """Data files are packaged with the code."""
    expected = {
        "faceswap_models/presets/autoencoder-light.toml",
        "faceswap_models/py.typed",
        "faceswap_cli/py.typed",
        "faceswap_cli/pages/assets/chart.js",
        "faceswap_cli/pages/assets/uplot.js",
        "faceswap_cli/pages/assets/uplot-license.txt",
    }
    assert expected <= set(wheel)


def test_the_version_is_one_number() -> None:
    """The package says the version that its metadata has, and the changelog has it too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert __version__ == project["version"]
    assert f"## {__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
