"""Opening a local video file: what is none is refused in one line; nothing of its frames."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from faceswap_cli.core.errors import InputError, did_you_mean

_ALLOWED_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,mxf,h264"
)


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open one local media file, and nothing that points elsewhere.

    Playlists and URLs make FFmpeg open other files and connections; the white lists shut that.
    """
    _check_file(path)
    try:
        container = av.open(
            str(path.absolute()),
            container_options={"protocol_whitelist": "file", "format_whitelist": _ALLOWED_FORMATS},
            metadata_errors="replace",
        )
    except (FFmpegError, OSError) as error:
        raise InputError(
            f"{path} is not a video that can be read: {_diagnose(path)}",
            hint="videos in mp4, mov, mkv, webm, avi and a dozen more forms are understood",
        ) from error
    with container:
        yield container


def _check_file(path: Path) -> None:
    """Refuse what cannot be a video before anything is opened.

    Raises:
        InputError: Nothing there, a folder, no ordinary file, empty, or not ours to read.
    """
    try:
        found = path.stat()
    except OSError as error:
        names = _list_siblings(path.parent)
        hint = did_you_mean(path.name, names) if len(names) <= 12 else _suggest(path.name, names)
        raise InputError(f"there is no file {path}", hint=hint) from error
    if stat.S_ISDIR(found.st_mode):
        raise InputError(f"{path} is a folder, not a video", hint="name a video inside it")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path} is not an ordinary file", hint="copy it to a file first")
    if not found.st_size:
        raise InputError(f"{path} is empty (0 bytes)", hint="copy it again from where it came from")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read", hint=f"try: chmod u+r {path.name}")


def _list_siblings(folder: Path) -> list[str]:
    """Return the names beside a missing file, hidden ones left out."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
    except OSError:
        return []


def _suggest(wrong: str, names: list[str]) -> str:
    """Return a proposal, but no list of a whole folder."""
    proposal = did_you_mean(wrong, names)
    return proposal if proposal.startswith("did you mean") else ""


def _diagnose(path: Path) -> str:
    """Return what a file is that FFmpeg cannot make sense of."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        return (error.strerror or "it cannot be opened").lower()
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "its index is missing, the recording or the copy was cut off"
    if b"\0" not in head and _is_text(head):
        return "it is a text file"
    return "its form is unknown, or it is damaged from its first bytes"


def _is_text(head: bytes) -> bool:
    """Return whether bytes read as UTF-8, a character cut at the end aside."""
    for cut in range(4):
        try:
            head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return True
    return False


def find_video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the moving picture, not a cover image.

    Raises:
        InputError: There is none, or no decoder for it.
    """
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not moving:
        what = "sound but no picture" if container.streams.audio else "no picture"
        raise InputError(f"{path} holds {what}", hint="name a video with moving pictures")
    # Streams whose codec this FFmpeg does not know come without a context.
    if getattr(moving[0], "codec_context", None) is None:
        raise InputError(
            f"{path} is in a form this program has no decoder for",
            hint="convert it to H.264 first, with any video editor",
        )
    return moving[0]
