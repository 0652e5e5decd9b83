"""Credentials, sidecars, XMP and keys: written, read, and checked for changes."""

import base64
import json
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import av
import c2pa
import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from faceswap_cli.core import image_io
from faceswap_cli.core.app_dirs import data_folder
from faceswap_cli.core.errors import InputError
from faceswap_cli.provenance import credentials, signing_key
from faceswap_cli.provenance.claim import COMPOSITE, Claim, metadata_comment, package_versions
from faceswap_cli.provenance.credentials import (
    ASSERTION_LABEL,
    ValidationState,
    read_credentials,
    sign_file,
)
from faceswap_cli.provenance.sidecar import read_sidecar, sidecar_path, write_sidecar
from faceswap_cli.provenance.signing_key import (
    KEY_FILE,
    LocalKey,
    load_key,
    load_or_create_key,
)
from faceswap_cli.provenance.xmp import embed_xmp, has_swap_metadata
from faceswap_cli.video.writer import VideoWriter

CLAIM = Claim(
    frames=8,
    swapped=7,
    model="ab" * 32,
    source="cd" * 32,
    sets=("01" * 32, "23" * 32),
    consent=True,
    consent_sha256="45" * 32,
    settings={"color": "lab", "feather": 0.1, "label": False, "to": None},
    versions=package_versions(),
)

Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that creates a small video or image with a given file name."""

    def create(name: str) -> Path:
        path = tmp_path / name
        rng = np.random.default_rng(len(name))
        image = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        if path.suffix in (".mp4", ".mov", ".m4v", ".mkv"):
            with VideoWriter(path, size=(64, 48), rate=Fraction(25)) as writer:
                for index in range(8):
                    writer.write(np.roll(image, index, axis=1), Fraction(index, 25))
        elif path.suffix != ".txt":
            done, data = cv2.imencode(path.suffix, image)
            assert done
            path.write_bytes(data.tobytes())
        return path

    return create


def packets(path: Path) -> list[bytes]:
    """Return the encoded packets of a video."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux()]


@pytest.mark.parametrize(
    "name", ["a.mp4", "a.mov", "a.m4v", "a.png", "a.jpg", "a.webp", "a.tif", "a.avif"]
)
def test_a_signed_file_has_its_claim(make: Make, name: str) -> None:
    """It is read as it was written, and takes a few kilobytes."""
    path, source = make(name), make("source.mp4")
    before = path.stat().st_size
    assert read_credentials(path) is None

    assert sign_file(path, CLAIM, source=source)

    found = read_credentials(path)
    assert found is not None
    assert (ValidationState.INTACT, ()) == (found.state, found.problems)
    assert CLAIM == found.claim
    assert found.is_swap
    assert found.is_own
    assert found.made_with.startswith("faceswap ")
    assert 0 < path.stat().st_size - before < 12_000


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.png", "a.webp"])
def test_signing_preserves_packets_and_pixels(make: Make, name: str) -> None:
    """Every packet of a video, or every pixel of an image, is unchanged."""
    path = make(name)
    is_image = path.suffix in (".png", ".webp")
    before = [image_io.read_image(path).tobytes()] if is_image else packets(path)

    sign_file(path, CLAIM)

    after = [image_io.read_image(path).tobytes()] if is_image else packets(path)
    assert before == after


@pytest.mark.parametrize("kind", ["png", "jpeg", "lossy webp", "lossless webp", "clear webp"])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 1), (1, 47)])
def test_images_have_xmp_metadata_too(tmp_path: Path, kind: str, width: int, height: int) -> None:
    """Another library reads the XMP, before signing and after, and the same pixels."""
    values = np.random.default_rng(1).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Pillow.fromarray(values, "RGBA")
    plain = BytesIO()
    suffix = kind.split()[-1]
    (image if kind == "clear webp" else image.convert("RGB")).save(
        plain, suffix, **({"lossless": True} if "less" in kind else {})
    )
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(plain.getvalue())
    assert not has_swap_metadata(plain.getvalue())

    sign_file(path, CLAIM)

    found = read_credentials(path)
    assert found is not None
    assert ValidationState.INTACT == found.state
    for data in (embed_xmp(plain.getvalue()), path.read_bytes()):
        assert has_swap_metadata(data)
        assert data == embed_xmp(data), "it is not added twice"
        with Pillow.open(BytesIO(data)) as again, Pillow.open(plain) as before:
            xmp = again.info.get("xmp") or again.info["XML:com.adobe.xmp"].encode()
            assert COMPOSITE in ElementTree.fromstring(xmp)[0][0].attrib.values()
            assert before.mode == again.mode
            assert (np.asarray(before) == np.asarray(again)).all()


def test_the_manifest_follows_the_standard(make: Make) -> None:
    """The source is opened as the parent, then edited by a trained model; no other details.

    C2PA 2.4, section on actions: the first one is `opened` or `created`.
    """
    path, source = make("secretname.mp4"), make("alsosecret.mp4")
    sign_file(path, CLAIM, source=source)

    with c2pa.Reader(str(path)) as reader:
        store = json.loads(reader.json())
    manifest = store["manifests"][store["active_manifest"]]
    assertions = {one["label"]: one["data"] for one in manifest["assertions"]}
    opened, edited = assertions["c2pa.actions.v2"]["actions"]
    assert {ASSERTION_LABEL, "c2pa.actions.v2", "c2pa.hash.bmff.v3"} == set(assertions)
    assert "c2pa.opened" == opened["action"]
    assert ("c2pa.edited", COMPOSITE) == (edited["action"], edited["digitalSourceType"])
    assert ["parentOf"] == [one["relationship"] for one in manifest["ingredients"]]
    assert "thumbnail" not in json.dumps(store)
    for secret in ("secret", str(path.parent)):
        assert secret.encode() not in path.read_bytes()


def test_without_a_source_the_first_action_is_created(make: Make) -> None:
    """An image composed of many, such as a grid, has no parent."""
    path = make("grid.png")
    sign_file(path, CLAIM)

    with c2pa.Reader(str(path)) as reader:
        store = json.loads(reader.json())
    manifest = store["manifests"][store["active_manifest"]]
    actions = {one["label"]: one["data"] for one in manifest["assertions"]}["c2pa.actions.v2"]
    assert ["c2pa.created", "c2pa.edited"] == [one["action"] for one in actions["actions"]]
    assert COMPOSITE == actions["actions"][0]["digitalSourceType"]


def test_the_credentials_of_the_source_are_preserved(make: Make) -> None:
    """A converted file has its source's manifest too."""
    source, path = make("source.mp4"), make("a.mp4")
    sign_file(source, replace(CLAIM, model="99" * 32))
    sign_file(path, CLAIM, source=source)

    with c2pa.Reader(str(path)) as reader:
        store = json.loads(reader.json())
    found = read_credentials(path)
    assert 2 == len(store["manifests"])
    assert found is not None
    assert (ValidationState.INTACT, CLAIM) == (found.state, found.claim)


@pytest.mark.parametrize("name", ["source.mkv", "source.txt", "truncated.mp4", "forged.mp4"])
def test_any_source_can_be_the_parent(make: Make, name: str) -> None:
    """Also one that cannot hold credentials, or has truncated or forged ones."""
    path, source = make("a.mp4"), make(name)
    if name == "source.txt":
        source.write_text("not a video", encoding="utf-8")
    if name == "truncated.mp4":
        signed = make("source.mp4")
        sign_file(signed, CLAIM)
        source.write_bytes(signed.read_bytes()[:3000])
    if name == "forged.mp4":
        sign_file(source, CLAIM)
        source.write_bytes(source.read_bytes().replace(b"compositeWith", b"compositeWhat"))

    sign_file(path, CLAIM, source=source)

    found = read_credentials(path)
    assert found is not None
    assert ValidationState.INTACT == found.state


@pytest.mark.parametrize(
    ("name", "mark", "state"),
    [
        ("a.mp4", b"mdat", ValidationState.CHANGED),
        ("a.mov", b"mdat", ValidationState.CHANGED),
        ("a.png", b"IDAT", ValidationState.CHANGED),
        ("a.jpg", b"\xff\xda", ValidationState.CHANGED),
        ("a.webp", b"VP8L", ValidationState.CHANGED),
        ("a.mp4", b"compositeWith", ValidationState.CHANGED),
        ("a.mp4", ASSERTION_LABEL.encode(), ValidationState.CHANGED),
        ("a.mp4", b"faceswap local key", ValidationState.CHANGED),
    ],
)
def test_one_changed_byte_is_detected(
    make: Make, name: str, mark: bytes, state: ValidationState
) -> None:
    """In the streams or pixels, in the claim, in the certificate."""
    path = make(name)
    sign_file(path, CLAIM, source=make("source.mp4"))
    data = bytearray(path.read_bytes())
    offset = data.rfind(mark)
    assert offset > 0
    data[offset + len(mark) + 12] ^= 1
    path.write_bytes(data)

    found = read_credentials(path)

    assert found is not None
    assert state == found.state
    assert found.problems


def append_bytes(path: Path, count: int) -> None:
    """Extend the last box of a video, its media data, by `count` bytes."""
    data = path.read_bytes()
    start = data.rindex(b"mdat") - 4
    assert len(data) - start == int.from_bytes(data[start : start + 4], "big")
    with path.open("r+b") as file:
        file.seek(start)
        file.write((len(data) - start + count).to_bytes(4, "big"))
        file.truncate(len(data) + count)


@pytest.mark.parametrize("count", [2**20 - 9000, 2**20, 2**22 + 1])
def test_videos_are_hashed_to_their_last_byte(make: Make, count: int) -> None:
    """At sizes below and above the chunks of the hash, changes at both ends are detected."""
    path = make("a.mp4")
    append_bytes(path, count)

    sign_file(path, CLAIM)

    assert ValidationState.INTACT is _state(path)
    data = bytearray(path.read_bytes())
    for offset in (data.rindex(b"mdat") + 4, len(data) - 1):
        changed = data.copy()
        changed[offset] ^= 1
        path.write_bytes(changed)
        assert ValidationState.CHANGED is _state(path)


def _state(path: Path) -> ValidationState:
    """Return the state of a signed file."""
    found = read_credentials(path)
    assert found is not None
    return found.state


_PEAK_MEMORY_SCRIPT = """
import re, sys
from pathlib import Path
from faceswap_cli.provenance.claim import Claim
from faceswap_cli.provenance.credentials import read_credentials, sign_file
for path in map(Path, sys.argv[1:]):
    sign_file(path, Claim(frames=1, swapped=1, model=""))
    assert read_credentials(path).state.value == "intact"
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_signing_memory_does_not_depend_on_the_size(make: Make) -> None:
    """A quarter of a gigabyte takes at most 48 MB more than a small file, to sign and to check."""
    small, large = make("small.mp4"), make("large.mp4")
    append_bytes(large, 2**28)

    done = subprocess.run(
        [sys.executable, "-c", _PEAK_MEMORY_SCRIPT, str(small), str(large)],
        stdout=subprocess.PIPE,
        check=True,
    )

    before, after = (int(line) / 1024 for line in done.stdout.split())
    assert after < before + 48


def test_a_truncated_file_is_not_intact(make: Make) -> None:
    """It is changed if its credentials can be read, and refused otherwise."""
    path = make("a.mp4")
    sign_file(path, CLAIM)
    data = path.read_bytes()

    path.write_bytes(data[:-100])
    found = read_credentials(path)
    assert found is not None
    assert ValidationState.CHANGED == found.state

    path.write_bytes(data[:2500])
    with pytest.raises(InputError, match="cannot be read"):
        read_credentials(path)


def test_a_remux_loses_the_credentials_and_nothing_else(make: Make, tmp_path: Path) -> None:
    """Packets copied to a new container come without the manifest, so `sign_file` is last."""
    path, copy = make("a.mp4"), tmp_path / "copy.mp4"
    sign_file(path, CLAIM)
    with av.open(str(path)) as old, av.open(str(copy), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)

    assert read_credentials(path) is not None
    assert read_credentials(copy) is None


def test_a_key_of_another_installation_is_not_own(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file signed there is intact and not signed by this installation."""
    path = make("a.mp4")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    sign_file(path, CLAIM)
    write_sidecar(path, CLAIM)

    for here in ("empty", "here"):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / here))
        if here == "here":
            load_or_create_key()
        found, sidecar = read_credentials(path), read_sidecar(path)
        assert found is not None
        assert (ValidationState.INTACT, False) == (found.state, found.is_own)
        assert sidecar is not None
        assert (True, True, False) == (sidecar.matches, sidecar.is_intact, sidecar.is_own)
    assert not (tmp_path / "empty" / "faceswap").exists(), "reading creates no key"


def test_the_key_is_created_once_and_readable_by_its_owner_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One file with mode 0600, without a person's name; no temporary file is left."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert load_key() is None

    first, second = load_or_create_key(), load_or_create_key()

    assert first == second
    assert first.is_persistent
    assert [KEY_FILE] == [path.name for path in data_folder().iterdir()]
    assert 0o600 == stat.S_IMODE((data_folder() / KEY_FILE).stat().st_mode)
    assert all("faceswap local key" in str(one.subject) for one in first.chain)


def test_a_key_that_others_can_read_is_taken_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy or a backup has lost the permissions: they are set when the key is read."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    load_or_create_key()
    path = data_folder() / KEY_FILE
    path.chmod(0o644)
    assert not signing_key.is_private(path)
    assert load_key() is not None
    assert signing_key.is_private(path)


def test_of_two_keys_created_at_once_one_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two concurrent first conversions sign with the same key."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    create_key = signing_key._create_key

    def create_second() -> signing_key.LocalKey:
        monkeypatch.setattr(signing_key, "_create_key", create_key)
        load_or_create_key()
        return create_key()

    monkeypatch.setattr(signing_key, "_create_key", create_second)

    assert load_or_create_key() == load_key()


def test_signing_works_without_a_writable_folder(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The key is then used for this process only."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    path = make("a.png")

    assert not load_or_create_key().is_persistent
    sign_file(path, CLAIM)

    found = read_credentials(path)
    assert found is not None
    assert (ValidationState.INTACT, False) == (found.state, found.is_own)


def rename_key_kind(pem: bytes) -> bytes:
    """Return a key or a certificate whose key is of a kind that nobody knows."""
    elliptic_curve, unknown = bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0205")
    first, *lines, last = pem.decode().splitlines()
    der = base64.b64decode("".join(lines))
    assert elliptic_curve in der
    text = base64.encodebytes(der.replace(elliptic_curve, unknown)).decode()
    return f"{first}\n{text}{last}\n".encode()


DAMAGED_KEYS: Mapping[str, Callable[[LocalKey], bytes]] = {
    "empty": lambda _: b"",
    "nonsense": lambda _: b"nonsense",
    "another key's certificates": lambda own: own.private_pem + signing_key._create_key().chain_pem,
    "an unknown kind of key": lambda own: rename_key_kind(own.private_pem) + own.chain_pem,
}


@pytest.mark.parametrize("damage", DAMAGED_KEYS)
def test_a_damaged_key_is_an_error(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    """It is not replaced; the hint says what to do."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = make("a.png")
    before = path.read_bytes()
    (data_folder() / KEY_FILE).write_bytes(DAMAGED_KEYS[damage](load_or_create_key()))

    with pytest.raises(InputError, match="does not hold a signing key") as caught:
        sign_file(path, CLAIM)

    assert "delete it" in caught.value.hint
    assert before == path.read_bytes()


def test_a_file_without_credentials_has_a_sidecar(make: Make) -> None:
    """Matroska is not changed; the signed sidecar identifies it by its digest."""
    path = make("a.mkv")
    before = path.read_bytes()

    assert not sign_file(path, CLAIM)
    assert before == path.read_bytes()
    assert read_credentials(path) is None
    assert read_sidecar(path) is None
    assert sidecar_path(path) == write_sidecar(path, CLAIM)

    found = read_sidecar(path)
    assert found is not None
    assert (True, True, True) == (found.matches, found.is_intact, found.is_own)
    assert CLAIM == found.claim


def test_changes_of_the_file_and_of_the_sidecar_are_distinguished(make: Make) -> None:
    """By `matches` and `is_intact`."""
    path = make("a.mkv")
    sidecar = write_sidecar(path, CLAIM)
    text = sidecar.read_text(encoding="utf-8")

    path.write_bytes(path.read_bytes()[:-1] + b"!")
    found = read_sidecar(path)
    assert found is not None
    assert (False, True) == (found.matches, found.is_intact)

    sidecar.write_text(text.replace('"consent": true', '"consent": false'), encoding="utf-8")
    found = read_sidecar(path)
    assert found is not None
    assert (False, False) == (found.is_intact, found.is_own)


def test_a_certificate_with_an_unknown_kind_of_key_is_not_trusted(make: Make) -> None:
    """One changed bit of a certificate can name a kind of key that nobody knows."""
    path = make("clip.mkv")
    sidecar = write_sidecar(path, CLAIM)
    content = json.loads(sidecar.read_text(encoding="utf-8"))
    end = "-----END CERTIFICATE-----\n"
    first, rest = content["signature"]["certificates"].split(end, 1)
    changed = rename_key_kind((first + end).encode()).decode()
    content["signature"]["certificates"] = changed + rest
    sidecar.write_text(json.dumps(content), encoding="utf-8")
    found = read_sidecar(path)
    assert found is not None
    assert not found.is_intact


def test_a_reformatted_sidecar_is_intact(make: Make) -> None:
    """The signature covers the contents, not the formatting."""
    path = make("a.mkv")
    sidecar = write_sidecar(path, CLAIM)
    content = json.loads(sidecar.read_text(encoding="utf-8"))
    sidecar.write_text(json.dumps(dict(reversed(content.items()))), encoding="utf-8")

    found = read_sidecar(path)

    assert found is not None
    assert found.is_intact


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_a_file_that_is_not_a_sidecar_is_refused(make: Make, text: str) -> None:
    """With an InputError that names it."""
    path = make("a.png")
    sidecar_path(path).write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=r"provenance\.json"):
        read_sidecar(path)


def test_a_claim_has_no_path() -> None:
    """A setting that is a path is a bug and fails an assertion."""
    with pytest.raises(AssertionError, match="looks like a path"):
        replace(CLAIM, settings={"face": "match /home/user/anna.jpg"})


def test_the_comment_has_the_disclosure_and_the_source_type() -> None:
    """For people and for programs."""
    assert metadata_comment().startswith("A face was replaced by a trained model")
    assert COMPOSITE in metadata_comment()


def test_a_remote_manifest_is_not_fetched(make: Make, tmp_path: Path) -> None:
    """A file may have a URL of its credentials; no connection is opened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/manifest.c2pa"
        plain, path = make("a.jpg"), tmp_path / "remote.jpg"
        builder = c2pa.Builder({"claim_generator_info": [{"name": "x", "version": "1"}]})
        builder.set_intent(
            c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE
        )
        builder.set_no_embed()
        builder.set_remote_url(url)
        with plain.open("rb") as old, path.open("w+b") as new:
            builder.sign(credentials._create_signer(load_or_create_key()), "image/jpeg", old, new)
        assert url.encode() in path.read_bytes()

        with pytest.raises(InputError, match="not in it but at http://127"):
            read_credentials(path)
        sign_file(plain, CLAIM, source=path)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_signing_and_reading_open_no_socket(make: Make, tmp_path: Path) -> None:
    """Neither the program nor its libraries make a network system call."""
    path = make("a.mp4")
    program = (
        "from pathlib import Path\n"
        "from faceswap_cli.provenance.claim import Claim\n"
        "from faceswap_cli.provenance.credentials import read_credentials, sign_file\n"
        f"path = Path({str(path)!r})\n"
        "sign_file(path, Claim(frames=1, swapped=1, model=''), source=path)\n"
        "assert read_credentials(path).is_swap\n"
    )
    trace = ["strace", "-f", "-e", "trace=socket,connect,sendto", "-o", str(tmp_path / "calls")]

    subprocess.run([*trace, sys.executable, "-c", program], check=True)

    calls = (tmp_path / "calls").read_text().splitlines()
    assert [] == [line for line in calls if "(" in line]
