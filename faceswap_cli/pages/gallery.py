"""`gallery`: small images that the reader of a page sorts and filters."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image of a gallery."""

    jpeg: bytes
    title: str
    """Tooltip."""
    numbers: Sequence[float]
    """Values to sort by; NaN where unknown."""
    tags: Sequence[str] = ()
    """Words without spaces; a tagged image has a border."""


def gallery(tiles: Sequence[Tile], *, numbers: Sequence[str], tags: Sequence[str]) -> str:
    """Return small images that the reader can sort by numbers and filter by tags.

    Without scripts they are in the given order.

    Args:
        tiles: The images.
        numbers: Names of the tiles' numbers.
        tags: The tags to filter by.
    """
    buttons = "".join(f'<button value="1">{escape(name)}</button>' for name in numbers)
    boxes = "".join(
        f'<label><input type="checkbox" value="{escape(tag, quote=True)}"> {escape(tag)} '
        f"({sum(tag in tile.tags for tile in tiles):,})</label>"
        for tag in tags
    )
    figures = "".join(map(_tile_figure, tiles))
    return (
        f'<div class="gallery" data-script="gallery"><p>sort by {buttons}</p>'
        f"<p>show only {boxes}</p>"
        f'<div class="tiles">{figures}</div></div>'
    )


def _tile_figure(tile: Tile) -> str:
    """Return one image of a gallery as a figure."""
    data = base64.b64encode(tile.jpeg).decode("ascii")
    numbers = " ".join(f"{number:.4g}" for number in tile.numbers)
    title, tags = escape(tile.title, quote=True), escape(" ".join(tile.tags), quote=True)
    css_class = ' class="marked"' if tile.tags else ""
    return (
        f'<figure data-n="{numbers}" data-m="{tags}" title="{title}"{css_class}>'
        f'<img src="data:image/jpeg;base64,{data}" alt="{title}" loading="lazy">'
        "<figcaption></figcaption></figure>"
    )
