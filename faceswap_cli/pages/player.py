"""`before_after_player`: two views of a scene over each other, divided at a line one can move."""

import base64
from collections.abc import Sequence
from html import escape


def before_after_player(
    mp4: bytes, *, panels: Sequence[str], frames_per_second: float, caption: str
) -> str:
    """Return a player of a side-by-side video, its bytes in the page.

    Without scripts the panels are seen side by side.

    Args:
        mp4: H.264 video; each frame has all panels from left to right, equally wide.
        panels: Their names, two or more; the first two are seen at first.
        frames_per_second: Of the video, for the time of a frame.
        caption: One line under the player.
    """
    data = base64.b64encode(mp4).decode("ascii")
    names = escape("|".join(panels), quote=True)
    return (
        f'<figure class="player" data-script="player"><video controls muted playsinline '
        f'preload="auto" data-panels="{names}" data-rate="{frames_per_second:g}" '
        f'src="data:video/mp4;base64,{data}"></video><figcaption>{escape(caption)}</figcaption>'
        "</figure>"
    )
