"""What a video file tells of its frames without decoding them: how many there are, how long."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError

from faceswap_cli.video.open import find_video_stream, open_media


def count_frames_before(path: Path, time: Fraction) -> int | None:
    """Return how many frames are shown before `time` s, told without decoding; None: untold.

    Raises:
        InputError: There is no such file, or it holds no picture.
    """
    with open_media(path) as container:
        stream = find_video_stream(container, path)
        if container.format.name == "avi" or stream.time_base is None:
            return None
        limit, count = time / stream.time_base, 0
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if packet.pts is None or packet.dts is None:
                return None
            if packet.dts >= limit:  # shown later still, and so are all that follow
                return count
            count += packet.pts < limit
        return count


def read_frame_duration(path: Path, time: Fraction) -> Fraction | None:
    """Return how long the frame shown at `time` stays, s; None if the file does not say."""
    with open_media(path) as container:
        stream = find_video_stream(container, path)
        if container.format.name == "avi" or not stream.time_base:
            return None  # AVI stores no times of showing
        with suppress(FFmpegError):
            container.seek(max(0, int((time - 1) * av.time_base)), backward=True)
        own: Fraction | None = None
        following: list[Fraction] = []
        with suppress(FFmpegError):
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    shown = packet.pts * packet.time_base
                    if shown == time:
                        own = (packet.duration or 0) * packet.time_base
                    elif shown > time:
                        following.append(shown)
                if len(following) > MAX_REORDER_DEPTH:
                    break
        if own is None:
            return None
        return min(following) - time if following else own or None


MAX_REORDER_DEPTH = 16
"""Frames that may be stored between one and the next that is shown: H.264's and H.265's limit."""
