"""Face sets of other programs become ours; what is unsafe in them is refused."""

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from fakes import FakeDetector, RecordingReporter, square

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.exchange.face_files import read_face_file
from faceswap_cli.exchange.plain_pickle import UnsafePickleError, read_plain_pickle
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, Face
from faceswap_cli.provenance.consent import read_consent
from faceswap_cli.stages.export_faces import export_faces
from faceswap_cli.stages.imports.import_faces import ImportSummary, import_faces

POINTS = np.random.default_rng(0).uniform(0, 200, (68, 2)).astype(np.float32)
SMALL_X, LARGE_X = 45.0, 0.0
"""Where the small face, which is in the middle, and the large one begin, px."""


class TwoFaceDetector(FakeDetector):
    """Finds a large face at the edge, and a small one in the middle; none in a black image."""

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return both."""
        return [] if image.max() < 40 else [square(LARGE_X, 60.0), square(SMALL_X, 20.0)]

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return both."""
        return self.detect(view.to_array())


def make_image(level: int) -> Image:
    """Return a noisy image of 110 px."""
    noise = np.random.default_rng(level).integers(0, 30, (110, 110, 3))
    return (noise + level).astype(np.uint8)


def write_faceswap_png(
    path: Path, *, level: int = 100, source: str = "clip_000001.png", text: str | None = None
) -> Path:
    """Write an aligned face as deepfakes/faceswap does."""
    stored = {
        "alignments": {"x": 1, "landmarks_xy": POINTS.tolist(), "mask": {}},
        "source": {"source_filename": source, "face_index": 0, "source_is_video": True},
    }
    content = b"faceswap\0\0\0\0\0" + (text or str(stored)).encode()
    return write_png_with_chunk(path, make_image(level), content)


def write_png_with_chunk(path: Path, image: Image, content: bytes) -> Path:
    """Write a PNG with a chunk iTXt in front of its pixels."""
    png = image_io.encode_png(image)
    start = png.index(b"IDAT") - 4
    body = b"iTXt" + content
    chunk = struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(png[:start] + chunk + png[start:])
    return path


def write_deepfacelab_jpeg(
    path: Path, *, level: int = 100, source: str = "00001.png", stored: bytes | None = None
) -> Path:
    """Write an aligned face as DeepFaceLab does."""
    values = {
        "face_type": "whole_face",
        "landmarks": POINTS.tolist(),
        "source_filename": source,
        "source_rect": [1, 2, 3, 4],
        "source_landmarks": POINTS,
        "image_to_face_mat": np.eye(2, 3),
    }
    data = pickle.dumps(values, protocol=3) if stored is None else stored
    segment = struct.pack(">BBH", 0xFF, 0xEF, len(data) + 2) + data
    jpeg = cv2.imencode(".jpg", make_image(level))[1].tobytes()
    path.write_bytes(jpeg[:2] + segment + jpeg[2:])
    return path


def run_import(folder: Path, report: RecordingReporter | None = None) -> ImportSummary:
    """Import a folder into the workspace next to it."""
    return import_faces(
        folder,
        name="ada",
        workspace=Workspace.open(folder.parent / "workspace"),
        settings=ExtractSettings(size_px=32),
        report=report or RecordingReporter(),
        consent="synthetic",
        detector=TwoFaceDetector,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    path = tmp_path / "theirs"
    path.mkdir()
    return path


# --- sets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "write", "suffix"),
    [
        ("faceswap", write_faceswap_png, ".png"),
        ("DeepFaceLab", write_deepfacelab_jpeg, ".jpg"),
    ],
)
def test_an_aligned_set_is_imported(
    folder: Path, program: str, write: Callable[..., Path], suffix: str
) -> None:
    """The face in the middle of each image, in the order of their frames; a rest is named."""
    write(folder / f"a{suffix}", level=180, source="clip_10.png")
    write(folder / f"b{suffix}", level=120, source="clip_9.png")
    write(folder / f"dark{suffix}", level=1, source="clip_2.png")
    report = RecordingReporter()
    summary = run_import(folder, report)
    assert (program, 3, 2) == (summary.format, summary.images, summary.faces)
    assert (f"dark{suffix}",) == summary.not_found
    assert any(f"no face was found in 1 of the images: dark{suffix}" in one for one in report.notes)
    target = Workspace(root=folder.parent / "workspace").set_folder("ada")
    faces = FaceSet.from_folder(target)
    levels = [image_io.read_image(faces.path(one)).mean() for one in faces.records]
    assert sorted(levels) == levels  # clip_9, then clip_10
    for record in faces.records:
        assert record.landmarks[:, 0].min() > SMALL_X - 1
    consent = read_consent(target.source)
    assert consent
    assert "synthetic" == consent.kind


def test_an_import_is_repeated_without_work(folder: Path) -> None:
    """The second run changes nothing, and names what was not found again."""
    write_faceswap_png(folder / "a.png")
    write_faceswap_png(folder / "dark.png", level=1)
    first = run_import(folder)
    report = RecordingReporter()
    assert first == run_import(folder, report)
    assert any("nothing left to do" in one for one in report.notes)


def test_photos_are_imported_by_their_largest_face(folder: Path) -> None:
    """Images without face data are photos."""
    image_io.write_png(folder / "a.png", make_image(100))
    assert "photos" == run_import(folder).format
    target = Workspace(root=folder.parent / "workspace").set_folder("ada")
    (record,) = FaceSet.from_folder(target).records
    assert record.landmarks[:, 0].min() < SMALL_X


def test_a_folder_without_images_is_refused(folder: Path) -> None:
    """Videos are for `extract`."""
    (folder / "a.mp4").write_bytes(b"")
    with pytest.raises(InputError):
        run_import(folder)


# --- what other programs store ----------------------------------------------------------------


def test_landmarks_and_source_are_read(tmp_path: Path) -> None:
    """From either program."""
    for path in (
        write_faceswap_png(tmp_path / "a.png", source="frame.png"),
        write_deepfacelab_jpeg(tmp_path / "a.jpg", source="frame.png"),
    ):
        found = read_face_file(path)
        assert found
        assert "frame.png" == found.source
        assert np.allclose(POINTS, found.landmarks)


def test_ordinary_images_have_no_face_data(tmp_path: Path) -> None:
    """Neither have files that are no images."""
    image_io.write_png(tmp_path / "a.png", make_image(50))
    (tmp_path / "a.jpg").write_bytes(cv2.imencode(".jpg", make_image(50))[1].tobytes())
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff")
    for name in ("a.png", "a.jpg", "b.jpg"):
        assert read_face_file(tmp_path / name) is None


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch canary')",
        "[1, 2]",
        "{'alignments': {}}",
        "{'source': {'source_filename': 'a'}, 'alignments': {'landmarks_xy': [[1, 2]]}}",
        "(" * 5000,
    ],
    ids=["call", "list", "keys", "landmarks", "nested"],
)
def test_text_that_is_no_literal_is_refused(tmp_path: Path, text: str) -> None:
    """Nothing in it is run."""
    path = write_faceswap_png(tmp_path / "a.png", text=text)
    with pytest.raises(InputError, match=r"a\.png has face data that cannot be read"):
        read_face_file(path)
    assert not Path("canary").exists()


def test_compressed_text_is_read_to_a_limit(tmp_path: Path) -> None:
    """A chunk may be compressed; one that would fill the memory is refused."""
    header = b"faceswap\0\1\0\0\0"
    bomb = zlib.compress(b"[" * (64 << 20), 9)
    path = write_png_with_chunk(tmp_path / "bomb.png", make_image(9), header + bomb)
    with pytest.raises(InputError, match="damaged or too long"):
        read_face_file(path)


# --- pickles ----------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {
    "none": None,
    "flags": [True, False],
    "numbers": (1, -2, 300, 70_000, 2**40, 1.5),
    "text": "größer",
    "bytes": b"\x00\xff",
    "nested": {"a": [1, (2, 3, 4, 5)], "b": {}},
}


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_values_are_read_as_they_were_written(protocol: int) -> None:
    """Without bytes in protocol 2, which had none."""
    value = {key: one for key, one in PLAIN.items() if key != "bytes" or protocol > 2}
    assert value == read_plain_pickle(pickle.dumps(value, protocol=protocol))


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f8", "i4", "u1", "b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_they_were_written(dtype: str, order: Literal["C", "F"]) -> None:
    """Numbers of any kind, byte order and order of axes."""
    array = np.asarray(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    for protocol in (3, 4):
        read = read_plain_pickle(pickle.dumps({"array": array}, protocol=protocol))["array"]
        assert np.array_equal(array, read)
        assert array.dtype == read.dtype


def test_numpy_scalars_become_numbers() -> None:
    """A float of numpy is one of Python."""
    assert {"a": 1.5} == read_plain_pickle(pickle.dumps({"a": np.float64(1.5)}, protocol=3))


class Attack:
    """Runs a command where it is unpickled by Python."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the command."""
        return os.system, ("touch canary",)


@pytest.mark.parametrize(
    "value",
    [
        Attack(),
        {"a": [Attack()]},
        np.array([object()], dtype=object),
        np.array(["text"]),
        io.BytesIO(b""),
        1j,
        {1, 2},
        RecordingReporter,
    ],
    ids=["call", "inside", "objects", "strings", "stream", "complex", "set", "class"],
)
def test_other_values_are_refused(value: object, tmp_path: Path) -> None:
    """No name is imported and nothing is called, in any protocol."""
    for protocol in (2, 3, 4):
        with pytest.raises(UnsafePickleError):
            read_plain_pickle(pickle.dumps(value, protocol=protocol))
    path = write_deepfacelab_jpeg(tmp_path / "a.jpg", stored=pickle.dumps(value, protocol=3))
    with pytest.raises(InputError, match="cannot be read"):
        read_face_file(path)
    assert not Path("canary").exists()


def test_damaged_pickles_are_refused() -> None:
    """Cut off anywhere, or with any byte changed, a pickle is read or refused, never worse."""
    data = pickle.dumps({**PLAIN, "array": np.arange(3.0)}, protocol=3)
    for end in range(len(data)):
        with pytest.raises(UnsafePickleError):
            read_plain_pickle(data[:end])
    rng = np.random.default_rng(0)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] = rng.integers(256)
        try:
            read_plain_pickle(bytes(changed))
        except UnsafePickleError:
            continue


def test_a_pickle_with_a_huge_index_or_length_costs_nothing() -> None:
    """Neither a number nor a length in it allocates memory."""
    for data in (b"N" + b"r" + struct.pack("<I", 2**31) + b".", b"B" + struct.pack("<I", 2**31)):
        try:
            read_plain_pickle(data)
        except UnsafePickleError:
            continue
    with pytest.raises(UnsafePickleError, match="too long"):
        read_plain_pickle(bytes(2 << 20))


def nest(value: object, depth: int) -> object:
    """Return a value that is in a list twice, which is in a list twice, and so on."""
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source_landmarks", nest(1.0, 60)),
        ("source_landmarks", [nest(1.0, 60)] * 68),
        ("source_filename", nest("a", 60)),
        ("source_filename", "1" * 5000),
    ],
)
def test_what_is_shared_in_a_pickle_is_not_multiplied(
    tmp_path: Path, key: str, value: object
) -> None:
    """A kilobyte can stand for 2**60 values, which nothing may visit."""
    values = {"source_landmarks": POINTS, "source_filename": "1.png", key: value}
    stored = pickle.dumps(values, protocol=3)
    with pytest.raises(InputError, match="cannot be read"):
        read_face_file(write_deepfacelab_jpeg(tmp_path / "a.jpg", stored=stored))


def test_keys_of_a_pickle_are_plain() -> None:
    """A tuple could take forever to hash: this one has 2**60 values."""
    nested = b"N" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60))
    with pytest.raises(UnsafePickleError, match="key"):
        read_plain_pickle(b"}" + nested + b"Ns.")
    with pytest.raises(UnsafePickleError, match="damaged"):
        read_plain_pickle(b"cnumpy\ndtype\n" + nested + b"\x85R.")


# --- export of faces --------------------------------------------------------------------------


def test_a_set_is_exported_as_images_and_lines(
    make_set: Callable[..., FaceSet], tmp_path: Path
) -> None:
    """Each line describes an image that is there; landmarks are px in it."""
    faces = make_set("ada", 3, side=48)
    folder = Workspace(root=tmp_path).set_folder("ada")
    folder.records.write_text("".join(f"{one.to_json()}\n" for one in faces.records))
    (folder.root / "000001-0.png").unlink()
    output = tmp_path / "out"
    assert 2 == export_faces(folder, output=output).faces
    lines = [json.loads(line) for line in (output / "faces.jsonl").read_text().splitlines()]
    assert ["000000-0.png", "000002-0.png"] == [one["file"] for one in lines]
    for line, record in zip(lines, faces.records[::2], strict=True):
        assert (output / line["file"]).read_bytes() == (folder.root / line["file"]).read_bytes()
        # Each frame of this set is the crop itself.
        assert np.allclose(record.landmarks, line["landmarks"], atol=0.02)
        assert set(BLENDSHAPE_NAMES) == set(line["blendshapes"])


def test_an_export_of_faces_resumes_and_overwrites_nothing(
    make_set: Callable[..., FaceSet], tmp_path: Path
) -> None:
    """The same command finishes what is missing; a crop that was painted on is not ours."""
    faces = make_set("ada", 3, side=48)
    folder = Workspace(root=tmp_path).set_folder("ada")
    folder.records.write_text("".join(f"{one.to_json()}\n" for one in faces.records))
    output = tmp_path / "out"
    export_faces(folder, output=output)
    whole = {path.name: path.read_bytes() for path in output.iterdir()}
    (output / "000001-0.png").unlink()
    (output / "faces.jsonl").unlink()
    export_faces(folder, output=output)
    assert whole == {path.name: path.read_bytes() for path in output.iterdir()}
    (output / "000001-0.png").write_bytes(b"painted")
    with pytest.raises(InputError, match="already has files"):
        export_faces(folder, output=output)
    assert b"painted" == (output / "000001-0.png").read_bytes()
