"""What a finished file says of itself: signed on this machine, read back, and not to be forged."""

import json
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
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
from faceswap_cli.provenance.signing_key import KEY_FILE, load_key, load_or_create_key
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
    settings={"colour": "lab", "feather": 0.1, "label": False, "to": None},
    versions=package_versions(),
)

Make = Callable[[str], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes a small video or picture of a given file name."""

    def made(name: str) -> Path:
        path = tmp_path / name
        chance = np.random.default_rng(len(name))
        image = chance.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        if path.suffix in (".mp4", ".mov", ".m4v", ".mkv"):
            with VideoWriter(path, size=(64, 48), rate=Fraction(25)) as writer:
                for index in range(8):
                    writer.write(np.roll(image, index, axis=1), Fraction(index, 25))
        elif path.suffix != ".txt":
            done, data = cv2.imencode(path.suffix, image)
            assert done
            path.write_bytes(data.tobytes())
        return path

    return made


def packets(path: Path) -> list[bytes]:
    """Return what the streams of a video hold, as it is encoded."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux()]


@pytest.mark.parametrize(
    "name", ["a.mp4", "a.mov", "a.m4v", "a.png", "a.jpg", "a.webp", "a.tif", "a.avif"]
)
def test_a_signed_file_says_what_was_done_to_it(make: Make, name: str) -> None:
    """Signing and reading is there and back, and costs a few kilobytes."""
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
def test_signing_changes_nothing_of_the_picture(make: Make, name: str) -> None:
    """Only what is beside the streams grows: every packet, or every pixel, is the one before."""
    path = make(name)
    is_picture = path.suffix in (".png", ".webp")
    before = [image_io.read_image(path).tobytes()] if is_picture else packets(path)

    sign_file(path, CLAIM)

    after = [image_io.read_image(path).tobytes()] if is_picture else packets(path)
    assert before == after


@pytest.mark.parametrize("kind", ["png", "jpeg", "lossy webp", "lossless webp", "clear webp"])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (63, 1), (1, 47)])
def test_pictures_say_it_in_their_ordinary_metadata_too(
    tmp_path: Path, kind: str, width: int, height: int
) -> None:
    """Another library finds the XMP, before signing and after, and the very same pixels."""
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
        assert data == embed_xmp(data), "once is enough"
        with Pillow.open(BytesIO(data)) as again, Pillow.open(plain) as before:
            xmp = again.info.get("xmp") or again.info["XML:com.adobe.xmp"].encode()
            assert COMPOSITE in ElementTree.fromstring(xmp)[0][0].attrib.values()
            assert before.mode == again.mode
            assert (np.asarray(before) == np.asarray(again)).all()


def test_the_manifest_follows_the_standard(make: Make) -> None:
    """The source is opened as the parent; then a trained model made a part. Nothing else is told.

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
    """A picture made of many, such as a sheet, has no one parent."""
    path = make("sheet.png")
    sign_file(path, CLAIM)

    with c2pa.Reader(str(path)) as reader:
        store = json.loads(reader.json())
    manifest = store["manifests"][store["active_manifest"]]
    actions = {one["label"]: one["data"] for one in manifest["assertions"]}["c2pa.actions.v2"]
    assert ["c2pa.created", "c2pa.edited"] == [one["action"] for one in actions["actions"]]
    assert COMPOSITE == actions["actions"][0]["digitalSourceType"]


def test_the_credentials_of_the_source_are_kept(make: Make) -> None:
    """What a source says of itself is still there in what was made of it."""
    source, path = make("source.mp4"), make("a.mp4")
    sign_file(source, replace(CLAIM, model="99" * 32))
    sign_file(path, CLAIM, source=source)

    with c2pa.Reader(str(path)) as reader:
        store = json.loads(reader.json())
    found = read_credentials(path)
    assert 2 == len(store["manifests"])
    assert found is not None
    assert (ValidationState.INTACT, CLAIM) == (found.state, found.claim)


@pytest.mark.parametrize("name", ["source.mkv", "source.txt", "torn.mp4", "forged.mp4"])
def test_any_source_will_do(make: Make, name: str) -> None:
    """One that cannot hold credentials, or whose own are torn or forged, is the parent as well."""
    path, source = make("a.mp4"), make(name)
    if name == "source.txt":
        source.write_text("not a video", encoding="utf-8")
    if name == "torn.mp4":
        whole = make("source.mp4")
        sign_file(whole, CLAIM)
        source.write_bytes(whole.read_bytes()[:3000])
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
def test_one_changed_byte_is_noticed(
    make: Make, name: str, mark: bytes, state: ValidationState
) -> None:
    """In the pictures, in what is said, in who says it."""
    path = make(name)
    sign_file(path, CLAIM, source=make("source.mp4"))
    data = bytearray(path.read_bytes())
    place = data.rfind(mark)
    assert place > 0
    data[place + len(mark) + 12] ^= 1
    path.write_bytes(data)

    found = read_credentials(path)

    assert found is not None
    assert state == found.state
    assert found.problems


def append_bytes(path: Path, by: int) -> None:
    """Make the last box of a video, its pictures and sound, so much longer."""
    data = path.read_bytes()
    start = data.rindex(b"mdat") - 4
    assert len(data) - start == int.from_bytes(data[start : start + 4], "big")
    with path.open("r+b") as file:
        file.seek(start)
        file.write((len(data) - start + by).to_bytes(4, "big"))
        file.truncate(len(data) + by)


@pytest.mark.parametrize("by", [2**20 - 9000, 2**20, 2**22 + 1])
def test_videos_are_sealed_to_their_last_byte(make: Make, by: int) -> None:
    """Shorter or longer than the pieces they are hashed in: intact, and not when an end changed."""
    path = make("a.mp4")
    append_bytes(path, by)

    sign_file(path, CLAIM)

    assert ValidationState.INTACT is _state(path)
    data = bytearray(path.read_bytes())
    for place in (data.rindex(b"mdat") + 4, len(data) - 1):
        changed = data.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        assert ValidationState.CHANGED is _state(path)


def _state(path: Path) -> ValidationState:
    """Return whether a signed file holds."""
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


@pytest.mark.skipif(sys.platform != "linux", reason="where memory is told differs")
def test_a_long_video_takes_no_more_memory_to_sign(make: Make) -> None:
    """A quarter of a gigabyte is signed, and checked, in a few megabytes more than a small file."""
    small, large = make("small.mp4"), make("large.mp4")
    append_bytes(large, 2**28)

    done = subprocess.run(
        [sys.executable, "-c", _PEAK_MEMORY_SCRIPT, str(small), str(large)],
        stdout=subprocess.PIPE,
        check=True,
    )

    before, after = (int(line) / 1024 for line in done.stdout.split())
    assert after < before + 48


def test_a_file_cut_short_is_not_intact(make: Make) -> None:
    """Changed while its credentials can be read, refused when not even they can."""
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
    """Why `sign` comes last: packets copied into a new container leave the manifest behind."""
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


def test_another_machines_key_is_not_our_own(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A file signed elsewhere is intact, and not by us."""
    path = make("a.mp4")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    sign_file(path, CLAIM)
    write_sidecar(path, CLAIM)

    for here in ("empty", "here"):
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / here))
        if here == "here":
            load_or_create_key()
        found, beside = read_credentials(path), read_sidecar(path)
        assert found is not None
        assert (ValidationState.INTACT, False) == (found.state, found.is_own)
        assert beside is not None
        assert (True, True, False) == (beside.matches, beside.is_intact, beside.is_own)
    assert not (tmp_path / "empty" / "faceswap").exists(), "reading makes no key"


def test_the_key_is_made_once_and_is_its_owners_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One key, with the mode 0600, named after nobody; nothing else is left in the folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert load_key() is None

    first, second = load_or_create_key(), load_or_create_key()

    assert first == second
    assert first.is_persistent
    assert [KEY_FILE] == [path.name for path in data_folder().iterdir()]
    assert 0o600 == stat.S_IMODE((data_folder() / KEY_FILE).stat().st_mode)
    assert all("faceswap local key" in str(one.subject) for one in first.chain)


def test_of_two_keys_made_at_once_one_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two first conversions side by side end up signing with the same key."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    make_new = signing_key._create_key

    def overtaken() -> signing_key.LocalKey:
        monkeypatch.setattr(signing_key, "_create_key", make_new)
        load_or_create_key()
        return make_new()

    monkeypatch.setattr(signing_key, "_create_key", overtaken)

    assert load_or_create_key() == load_key()


def test_a_folder_that_cannot_be_written_does_not_stop_the_signing(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The key then lasts for this file only."""
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    path = make("a.png")

    assert not load_or_create_key().is_persistent
    sign_file(path, CLAIM)

    found = read_credentials(path)
    assert found is not None
    assert (ValidationState.INTACT, False) == (found.state, found.is_own)


@pytest.mark.parametrize("text", ["", "nonsense", "swapped"])
def test_a_damaged_key_is_said_and_never_replaced_silently(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    """One line, with what to do."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = make("a.png")
    before = path.read_bytes()
    ours = load_or_create_key()
    if text == "swapped":
        text = (ours.private_pem + signing_key._create_key().chain_pem).decode()
    (data_folder() / KEY_FILE).write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match="does not hold a signing key") as caught:
        sign_file(path, CLAIM)

    assert "delete it" in caught.value.hint
    assert before == path.read_bytes()


def test_where_a_container_holds_no_credentials_a_sidecar_stands_in(make: Make) -> None:
    """Matroska is left as it is; the signed file beside it knows it by its digest."""
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


def test_a_sidecar_notices_both_kinds_of_change(make: Make) -> None:
    """Another video under it, and another claim in it, are told apart."""
    path = make("a.mkv")
    beside = write_sidecar(path, CLAIM)
    text = beside.read_text(encoding="utf-8")

    path.write_bytes(path.read_bytes()[:-1] + b"!")
    found = read_sidecar(path)
    assert found is not None
    assert (False, True) == (found.matches, found.is_intact)

    beside.write_text(text.replace('"consent": true', '"consent": false'), encoding="utf-8")
    found = read_sidecar(path)
    assert found is not None
    assert (False, False) == (found.is_intact, found.is_own)


def test_a_sidecar_laid_out_anew_is_still_intact(make: Make) -> None:
    """It is what is said that is signed, not the spaces."""
    path = make("a.mkv")
    beside = write_sidecar(path, CLAIM)
    told = json.loads(beside.read_text(encoding="utf-8"))
    beside.write_text(json.dumps(dict(reversed(told.items()))), encoding="utf-8")

    found = read_sidecar(path)

    assert found is not None
    assert found.is_intact


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 99}'])
def test_a_sidecar_of_another_kind_is_refused(make: Make, text: str) -> None:
    """One line, never a traceback."""
    path = make("a.png")
    sidecar_path(path).write_text(text, encoding="utf-8")

    with pytest.raises(InputError, match=r"provenance\.json"):
        read_sidecar(path)


def test_a_claim_carries_no_path() -> None:
    """A setting that is a place on somebody's machine is our own mistake, and loud."""
    with pytest.raises(AssertionError, match="looks like a path"):
        replace(CLAIM, settings={"face": "like /home/somebody/anna.jpg"})


def test_the_comment_says_it_to_people_and_programs() -> None:
    """A sentence, and IPTC's word for it."""
    assert metadata_comment().startswith("A face was replaced by a trained model")
    assert COMPOSITE in metadata_comment()


def test_a_manifest_elsewhere_is_not_fetched(make: Make, tmp_path: Path) -> None:
    """A file may name an address to load its credentials from; nobody calls there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/manifest.c2pa"
        plain, path = make("a.jpg"), tmp_path / "remote.jpg"
        builder = c2pa.Builder({"claim_generator_info": [{"name": "x", "version": "1"}]})
        builder.set_intent(
            c2pa.C2paBuilderIntent.CREATE, c2pa.C2paDigitalSourceType.DIGITAL_CAPTURE
        )
        builder.set_no_embed()
        builder.set_remote_url(address)
        with plain.open("rb") as old, path.open("w+b") as new:
            builder.sign(credentials._create_signer(load_or_create_key()), "image/jpeg", old, new)
        assert address.encode() in path.read_bytes()

        with pytest.raises(InputError, match="not in it but at http://127"):
            read_credentials(path)
        sign_file(plain, CLAIM, source=path)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_signing_and_reading_open_no_socket(make: Make, tmp_path: Path) -> None:
    """Neither the library nor its native part asks the system for a connection."""
    path = make("a.mp4")
    program = (
        "from pathlib import Path\n"
        "from faceswap_cli.provenance.claim import Claim\n"
        "from faceswap_cli.provenance.credentials import read_credentials, sign_file\n"
        f"path = Path({str(path)!r})\n"
        "sign_file(path, Claim(frames=1, swapped=1, model=''), source=path)\n"
        "assert read_credentials(path).is_swap\n"
    )
    watch = ["strace", "-f", "-e", "trace=socket,connect,sendto", "-o", str(tmp_path / "calls")]

    subprocess.run([*watch, sys.executable, "-c", program], check=True)

    calls = (tmp_path / "calls").read_text().splitlines()
    assert [] == [line for line in calls if "(" in line]
