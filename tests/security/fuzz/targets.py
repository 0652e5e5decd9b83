"""Every parser of ours as a function of bytes that raises nothing but the error it documents."""

import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow

from faceswap_cli.conversion.analysis import span_from_name
from faceswap_cli.conversion.assignment import parse_assignments
from faceswap_cli.conversion.face_index import FaceIndex
from faceswap_cli.conversion.finished import LOG_NAME, FinishedLog
from faceswap_cli.core import config, image_io
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.evaluation import read_values
from faceswap_cli.exchange.face_files import read_face_file
from faceswap_cli.exchange.plain_pickle import UnsafePickleError, read_plain_pickle
from faceswap_cli.faces.crop_writer import _read_progress
from faceswap_cli.faces.dataset import read_records
from faceswap_cli.faces.selection import parse_selection
from faceswap_cli.faces.set_source import read_source
from faceswap_cli.provenance.sidecar import read_sidecar
from faceswap_cli.provenance.xmp import has_swap_metadata
from faceswap_cli.stages.benchmark import _ResultStore
from faceswap_cli.stages.demo import DemoSummary
from faceswap_cli.stages.jobs import read_jobs
from faceswap_cli.training import checkpoint
from faceswap_cli.training.report import read_log
from faceswap_cli.video.segment_file import Segment


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parser, and inputs to begin with."""

    parse: Callable[[bytes], object]
    """Raises nothing but what its documentation says, which is caught here."""
    seeds: tuple[bytes, ...]


def of_file(
    read: Callable[[Path], object], name: str, error: type[Exception] = FaceswapError
) -> Callable[[bytes], None]:
    """Return a parser of bytes for one of a file, which may raise an error."""

    def parse(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            with suppress(error):
                read(path)

    return parse


def of_text(read: Callable[[str], object]) -> Callable[[bytes], None]:
    """Return a parser of bytes for one of a text, which may raise an error of ours."""

    def parse(data: bytes) -> None:
        with suppress(FaceswapError):
            read(data.decode(errors="replace"))

    return parse


def parse_pickle(data: bytes) -> None:
    """Read a pickle of plain values."""
    with suppress(UnsafePickleError):
        read_plain_pickle(data)


def parse_recipe(data: bytes) -> None:
    """Read a recipe from a header, whose checksum is right."""
    try:
        text = json.dumps(json.loads(data))
    except (ValueError, RecursionError):
        return
    header = {"format": "2", "recipe": text, "identities": '["a", "b"]', "images_seen": "1"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        checkpoint.write_safetensors(path, {"x": torch.zeros(1)}, header)
        with suppress(FaceswapError):
            checkpoint.load_weights(path, torch.device("cpu"))


def parse_checkpoint(path: Path) -> None:
    """Read a file of weights in every way."""
    for read in (checkpoint.read_metadata, checkpoint.read_layout, checkpoint.read_checkpoint):
        with suppress(FaceswapError):
            read(path)


def parse_segment_index(data: bytes) -> None:
    """Read a segment's index, whose checksum is right."""
    footer = struct.pack("<QII8s", 0, 0, zlib.crc32(data), b"FSPIECE1")
    of_file(Segment.read, "0.seg", ())(data + footer)  # type: ignore[arg-type]


def read_index_progress(path: Path) -> object:
    """Read how far the analysis of a clip was."""
    (path.parent / "faces.bin").touch()
    return FaceIndex(folder=path.parent, key="key").read_progress()


def read_extraction_progress(path: Path) -> object:
    """Read how far an extraction was."""
    records = path.with_name("faces.jsonl")
    records.touch()
    return _read_progress(path, records)


def read_finished(path: Path) -> object:
    """Read what was converted."""
    return FinishedLog(path.parent).find(path.parent / "a.mp4", key="key")


def encode_png(info: Mapping[str, str] | None = None) -> bytes:
    """Return a small PNG, with texts."""
    from io import BytesIO

    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for key, text in (info or {}).items():
        texts.add_itxt(key, text)
    file = BytesIO()
    Pillow.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG", pnginfo=texts)
    return file.getvalue()


RECORD = {
    "file": "000000-0.png",
    "frame": 0,
    "time": "1/25",
    "track": 0,
    "to_unit": [[0.01, 0, 0], [0, 0.01, 0]],
    "landmarks": [[1.5, 2.5]] * 478,
    "score": 1.0,
    "sharpness": 10.0,
    "pose": [0, 0, 0],
    "expression": [0.5] * 52,
    "mask": [[0, 0], [1, 0], [1, 1]],
}
FACE = {"source": {"source_filename": "a.png"}, "alignments": {"landmarks_xy": [[1, 2]] * 68}}
RECIPE = json.dumps(config.resolve("autoencoder", "debug").to_dict()).encode()
JOBS = b'[jobs]\nnight = ["extract a.mp4", "train --model autoencoder a b"]\n'
SOURCE = (
    b'[input]\nname = "a.mp4"\nbytes = 10\n\n[settings]\nsize_px = 256\n\n[result]\nfaces = 3\n'
)
SAFETENSORS = b'{"__metadata__":{"format":"2","sha256":"","recipe":"{}","identities":"[]",'
SAFETENSORS += (
    b'"images_seen":"1","state":"{}"},"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
)

TARGETS: Mapping[str, Target] = {
    "records": Target(
        parse=of_file(lambda path: list(read_records(path)), "faces.jsonl"),
        seeds=(json.dumps(RECORD).encode() + b"\n",),
    ),
    "recipe": Target(parse=parse_recipe, seeds=(RECIPE, b'{"backend": "cyclegan"}')),
    "checkpoint": Target(
        parse=of_file(parse_checkpoint, "resume.safetensors"),
        seeds=(struct.pack("<Q", len(SAFETENSORS)) + SAFETENSORS + bytes(16),),
    ),
    "settings": Target(
        parse=of_text(lambda text: config.resolve("autoencoder", "debug", [text])),
        seeds=(b"train.batch_size=32", b"model.encoder_channels=8,16,32", b"train.freeze=encoder"),
    ),
    "source": Target(parse=of_file(read_source, "source.toml"), seeds=(SOURCE,)),
    "workspace": Target(
        parse=of_file(lambda path: Workspace.from_path(path.parent), "workspace.toml"),
        seeds=(b"# faceswap workspace\nformat = 1\n",),
    ),
    "jobs": Target(parse=of_file(read_jobs, "night.toml"), seeds=(JOBS,)),
    "log": Target(
        parse=of_file(lambda path: list(read_log(path)), "log.jsonl"),
        seeds=(b'{"images_seen": 100, "losses": {"recon_ada": 0.5}, "event": "saved"}\n',),
    ),
    "finished": Target(
        parse=of_file(read_finished, LOG_NAME),
        seeds=(
            b'{"output": "a.mp4", "sha256": null, "key": "key", "summary": {}}\n',
            b'{"output": "a.mp4", "sha256": null, "key": "key"}\n',
        ),
    ),
    "face_index": Target(
        parse=of_file(read_index_progress, "faces.json"),
        seeds=(b'{"key": "key", "rows": 0, "frames": 1, "place": [0, "1/25"], "memory": {}}',),
    ),
    "progress": Target(
        parse=of_file(read_extraction_progress, "progress.json"),
        seeds=(b'{"bytes": 0, "faces": 0, "frame": 1, "time": "1/25", "input": 0}',),
    ),
    "segment_index": Target(
        parse=parse_segment_index,
        seeds=(b'{"key": "k", "first": 0, "ticks": [0], "sizes": [1], "keys": [1]}',),
    ),
    "segment": Target(parse=of_file(Segment.read, "0.seg"), seeds=(bytes(60), b"FSPIECE1" * 4)),
    "sidecar": Target(
        parse=of_file(lambda path: read_sidecar(path.parent / "a.mp4"), "a.mp4.provenance.json"),
        seeds=(b'{"claim": {"frames": 1}, "signature": "", "certificates": ""}',),
    ),
    "missing_time": Target(
        parse=of_text(span_from_name),
        seeds=(b"%5B%221%2F25%22%2C%20%222%2F5%22%2C%203%2C%20true%5D",),
    ),
    "evaluation": Target(
        parse=of_file(read_values, "evaluation.json"),
        seeds=(b'{"format": 2, "metrics": {"pose": {"value": 3.25}, "psnr": {"value": "inf"}}}',),
    ),
    "benchmark": Target(
        parse=of_file(lambda path: _ResultStore(path=path).load(), "results.json"),
        seeds=(
            b'{"version": 1, "rows": [{"name": "a", "psnr": 12.5, "ssim": 0.5, "trials": {},'
            b' "metrics": {"lpips": 0.1}, "settings": {"images": 64}}]}',
        ),
    ),
    "demo": Target(
        parse=of_file(lambda path: DemoSummary.load(path.parent), "summary.json"),
        seeds=(b'{"psnr_swap": 12.5, "ssim_swap": 0.5, "images_seen": 64, "files": {}}',),
    ),
    "xmp": Target(parse=has_swap_metadata, seeds=(encode_png({"XML:com.adobe.xmp": "<x/>"}),)),
    "image": Target(
        parse=of_file(image_io.read_image, "a.png"), seeds=(encode_png(), b"BM", b"GIF89a")
    ),
    "face_file": Target(
        parse=of_file(read_face_file, "a.png"), seeds=(encode_png({"faceswap": repr(FACE)}),)
    ),
    "pickle": Target(
        parse=parse_pickle,
        seeds=(b"\x80\x03}q\x00X\x01\x00\x00\x00aq\x01K\x01s.", b"(lp0\nI1\naF1.5\na."),
    ),
    "selection": Target(
        parse=of_text(parse_selection), seeds=(b"largest", b"all", b"track:3", b"match:a.png")
    ),
    "assignments": Target(
        parse=of_text(lambda text: parse_assignments([text], to=None, identities=["ada", "bo"])),
        seeds=(b"ada=bo", b"track:1=ada"),
    ),
}
"""Parsers by name."""
