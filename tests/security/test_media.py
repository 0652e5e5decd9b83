"""Media from a stranger: only that file is opened, and no more is decoded than a photo holds."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_clip
from PIL import Image as Pillow
from security import bombs

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.video import probe

READERS = (image_io.read_image, image_io.read_stored_pixels, image_io.read_header)


@pytest.mark.fault("image or video bomb")
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("wide.png", bombs.make_png(20_000, 20_000, rows=10)),
        ("wide.bmp", bombs.make_bmp(40_000, 40_000)),
        ("wide.gif", bombs.make_gif(65_535, 65_535)),
        ("wide.tif", bombs.make_tiff(100_000, 100_000)),
        ("wider.png", bombs.make_png(2**31 - 1, 1, rows=0)),
        ("both.png", bombs.make_png(100_000, 100_000, rows=0)),
    ],
)
def test_an_image_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes
) -> None:
    """By the pixels that its header claims."""

    def decode(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(image_io.cv2, "imdecode", decode)
    monkeypatch.setattr(Pillow.Image, "load", decode)
    (tmp_path / name).write_bytes(data)
    for read in READERS:
        with pytest.raises(InputError, match=r"more than 268 million"):
            read(tmp_path / name)


def test_a_large_photo_is_read(tmp_path: Path) -> None:
    """The limit is above the largest photos; here, of a thin one."""
    path = tmp_path / "thin.png"
    path.write_bytes(bombs.make_png(200, 60_000))
    assert (60_000, 200, 3) == image_io.read_image(path).shape


@pytest.mark.fault("image or video bomb")
def test_opencv_has_the_same_limit(tmp_path: Path) -> None:
    """What Pillow cannot read, OpenCV refuses by itself; it reads the limit when it is loaded."""
    (tmp_path / "wide.png").write_bytes(bombs.make_png(20_000, 20_000, rows=10))
    code = (
        "import faceswap_cli.core.image_io as image_io, numpy as np, os, sys\n"
        "assert str(image_io.MAX_IMAGE_PIXELS) == os.environ['OPENCV_IO_MAX_IMAGE_PIXELS']\n"
        "image_io.cv2.imdecode(np.fromfile('wide.png', np.uint8), 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "CV_IO_MAX_IMAGE_PIXELS" in done.stderr


@pytest.mark.fault("image or video bomb")
def test_a_file_larger_than_any_image_is_not_read(tmp_path: Path) -> None:
    """A sparse file of four gigabytes takes no space on the disk, and would in memory."""
    path = tmp_path / "huge.png"
    path.touch()
    os.truncate(path, 4 << 30)
    for read in READERS:
        with pytest.raises(InputError, match=r"too large for an image: 4\.3 GB"):
            read(path)


@pytest.mark.slow
@pytest.mark.fault("image or video bomb")
def test_a_video_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """An animation of two frames of 144 million pixels, in 1 MB; one of 1 million is read."""
    for side in (12_000, 1_000):
        path = tmp_path / f"{side}.apng"
        path.write_bytes(bombs.make_png(side, side, frames=2))
    assert (1_000, 1_000) == probe.probe(tmp_path / "1000.apng").size
    with pytest.raises(InputError, match=r"not one frame of .*12000\.apng") as caught:
        probe.probe(tmp_path / "12000.apng")
    assert "more than 134 million px" in caught.value.hint


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Yield a socket that notices if anything connects."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


REFERENCES = {
    "playlist.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{there}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{there}'\n",
    "manifest.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1" bandwidth="1"><BaseURL>{there}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ),
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "list.cpl": (
        '<?xml version="1.0"?><CompositionPlaylist '
        'xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>{there}</Id></CompositionPlaylist>'
    ),
    "image.svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{there}"/></svg>',
    "list.pls": "[playlist]\nFile1={there}\n",
    "redirect.mov": "RTSPtext\n{there}\n",
    "list.wpl": '<smil><body><seq><media src="{there}"/></seq></body></smil>',
}
"""Files that refer to others, by their usual name."""


@pytest.mark.fault("playlist or reference to other files")
@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("suffix", ["", ".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("kind", ["neighbor", "file", "http"])
def test_a_file_that_refers_to_others_is_refused(
    tmp_path: Path, listener: socket.socket, name: str, suffix: str, kind: str
) -> None:
    """Under its own name or a video's: no neighbor is played, and nothing is requested."""
    port = listener.getsockname()[1]
    clip = write_clip(tmp_path / "clip.mp4", frames=2)
    there = {
        "neighbor": clip.name,
        "file": f"file:{clip}",
        "http": f"http://127.0.0.1:{port}/clip.mp4",
    }[kind]
    path = tmp_path / f"{name}{suffix}"
    path.write_text(REFERENCES[name].format(there=there, port=port))
    with pytest.raises(InputError, match=r"is not a video that can be read: it is a text file"):
        probe.probe(path)
    with pytest.raises(TimeoutError):
        listener.accept()


@pytest.mark.fault("playlist or reference to other files")
@pytest.mark.parametrize(
    "argument",
    [
        "http://127.0.0.1:{port}/clip.mp4",
        "https://127.0.0.1:{port}/clip.mp4",
        "rtsp://127.0.0.1:{port}/clip",
        "rtmp://127.0.0.1:{port}/clip",
        "tcp://127.0.0.1:{port}",
        "concat:clip.mp4|clip.mp4",
        "subfile,,start,0,end,9999,,:clip.mp4",
        "file:clip.mp4",
        "data:video/mp4;base64,AAAA",
        "pipe:0",
        "cache:clip.mp4",
        "crypto:clip.mp4",
        "lavfi:testsrc",
        "/dev/video0",
    ],
)
def test_an_address_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: socket.socket, argument: str
) -> None:
    """A path is a path: of what FFmpeg would open instead nothing is."""
    write_clip(tmp_path / "clip.mp4", frames=2)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no file"):
        probe.probe(Path(argument.format(port=listener.getsockname()[1])))
    with pytest.raises(TimeoutError):
        listener.accept()


def test_names_that_look_like_addresses_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file may have any of these names."""
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "http:a.mp4", "subfile,,start,0,end,1,,:a.mp4", "%03d.mp4"):
        clip = write_clip(tmp_path / "clip.mp4", frames=2)
        clip.rename(tmp_path / name)
        assert (160, 120) == probe.probe(Path(name)).size


@pytest.mark.fault("no ordinary file")
@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "loop", "folder", "empty"])
def test_what_is_no_ordinary_file_is_refused(tmp_path: Path, kind: str) -> None:
    """At once: nothing waits for what never comes."""
    path = tmp_path / "clip.mp4"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.touch()
    with pytest.raises(InputError, match=r"clip\.mp4"):
        probe.probe(path)
