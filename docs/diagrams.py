"""Draw the diagrams of docs/backends as SVG: `python docs/diagrams.py`."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "pictures" / "diagrams"
BOX_WIDTH, BOX_HEIGHT = 132, 46
COLUMN, ROW = 176, 72
MARGIN = 16
COLORS = {"data": "#e8eef2", "network": "#bfe3dd", "loss": "#f7d9b5"}
"""Fill by kind of box: images and latents, what is trained, what is minimized."""


class Box(NamedTuple):
    """A box at a column and a row, counted from the top left; halves are between."""

    column: float
    row: float
    kind: str
    lines: Sequence[str]


class Arrow(NamedTuple):
    """An arrow from one box to another, by name."""

    start: str
    end: str
    dashed: bool = False


class Diagram(NamedTuple):
    """Boxes by name, and the arrows between them."""

    title: str
    boxes: dict[str, Box]
    arrows: Sequence[Arrow]


def box(column: float, row: float, kind: str, text: str) -> Box:
    """Return a box; a line break in its text is a slash."""
    return Box(column, row, kind, text.split("/"))


DIAGRAMS = {
    "autoencoder-training.svg": Diagram(
        "Training: one encoder, one decoder each; every decoder undoes the warp of its own person",
        {
            "a": box(0, 0, "data", "A, warped"),
            "b": box(0, 2, "data", "B, warped"),
            "encoder": box(1, 1, "network", "encoder/(shared)"),
            "latent": box(2, 1, "data", "latent/what, not who"),
            "da": box(3, 0, "network", "decoder of A"),
            "db": box(3, 2, "network", "decoder of B"),
            "la": box(4, 0, "loss", "loss against/A, not warped"),
            "lb": box(4, 2, "loss", "loss against/B, not warped"),
            "classifier": box(3, 1, "loss", "classifier:/whose latent?"),
        },
        [
            Arrow("a", "encoder"),
            Arrow("b", "encoder"),
            Arrow("encoder", "latent"),
            Arrow("latent", "da"),
            Arrow("latent", "db"),
            Arrow("da", "la"),
            Arrow("db", "lb"),
            Arrow("latent", "classifier", dashed=True),
        ],
    ),
    "autoencoder-swap.svg": Diagram(
        "Swap: the latent of A through the decoder of B",
        {
            "a": box(0, 0, "data", "A, as filmed"),
            "encoder": box(1, 0, "network", "encoder/(shared)"),
            "latent": box(2, 0, "data", "latent/of A's moment"),
            "db": box(3, 0, "network", "decoder of B"),
            "out": box(4, 0, "data", "B in A's/moment, mask"),
        },
        [
            Arrow("a", "encoder"),
            Arrow("encoder", "latent"),
            Arrow("latent", "db"),
            Arrow("db", "out"),
        ],
    ),
    "cyclegan.svg": Diagram(
        "One of the two directions: x becomes y and x again; the other is its mirror image",
        {
            "x": box(0, 1, "data", "face x of A"),
            "g": box(1, 1, "network", "G: A to B"),
            "fake": box(2, 1, "data", "G(x)"),
            "f": box(3, 1, "network", "F: B to A"),
            "back": box(4, 1, "data", "F(G(x))"),
            "y": box(1, 0, "data", "real face y of B"),
            "d": box(2, 0, "network", "discriminator/of B"),
            "adversarial": box(3, 0, "loss", "adversarial loss"),
            "cycle": box(4, 2, "loss", "cycle loss:/F(G(x)) = x"),
            "keep": box(2, 2, "loss", "outside, structure:/G(x) as x"),
        },
        [
            Arrow("x", "g"),
            Arrow("g", "fake"),
            Arrow("fake", "f"),
            Arrow("f", "back"),
            Arrow("fake", "d"),
            Arrow("y", "d"),
            Arrow("d", "adversarial"),
            Arrow("back", "cycle"),
            Arrow("fake", "keep", dashed=True),
        ],
    ),
    "progressive.svg": Diagram(
        "A generator grows at its bottleneck; new layers are faded in",
        {
            "one": box(0, 0, "data", "stage 1"),
            "d1": box(1, 0, "network", "down 1"),
            "u1": box(3, 0, "network", "up 1"),
            "fading": box(0, 1, "data", "stage 2/fading in"),
            "d1b": box(1, 1, "network", "down 1"),
            "new": box(2, 1, "loss", "down 2, up 2/times the fade"),
            "u1b": box(3, 1, "network", "up 1"),
            "two": box(0, 2, "data", "stage 2"),
            "d1c": box(1, 2, "network", "down 1"),
            "full": box(2, 2, "network", "down 2, up 2"),
            "u1c": box(3, 2, "network", "up 1"),
        },
        [
            Arrow("one", "d1"),
            Arrow("d1", "u1"),
            Arrow("fading", "d1b"),
            Arrow("d1b", "new"),
            Arrow("new", "u1b"),
            Arrow("two", "d1c"),
            Arrow("d1c", "full"),
            Arrow("full", "u1c"),
        ],
    ),
}


def render(diagram: Diagram) -> str:
    """Return a diagram as SVG, readable on light and dark pages."""
    columns = max(one.column for one in diagram.boxes.values())
    rows = max(one.row for one in diagram.boxes.values())
    width = int(columns * COLUMN + BOX_WIDTH + 2 * MARGIN)
    height = int(rows * ROW + BOX_HEIGHT + 2 * MARGIN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="13">',
        f"<title>{escape(diagram.title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
        'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#5b6b75"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
        *(
            render_arrow(diagram.boxes[one.start], diagram.boxes[one.end], one.dashed)
            for one in diagram.arrows
        ),
        *(render_box(one) for one in diagram.boxes.values()),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def render_box(one: Box) -> str:
    """Return a box and its words."""
    x, y = MARGIN + one.column * COLUMN, MARGIN + one.row * ROW
    middle = y + BOX_HEIGHT / 2 + 5 - 8 * (len(one.lines) - 1)
    words = "".join(
        f'<text x="{x + BOX_WIDTH / 2:g}" y="{middle + 16 * index:g}" text-anchor="middle" '
        f'fill="#1c2327">{escape(line)}</text>'
        for index, line in enumerate(one.lines)
    )
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" '
        f'fill="{COLORS[one.kind]}" stroke="#5b6b75"/>{words}'
    )


def render_arrow(start: Box, end: Box, dashed: bool) -> str:
    """Return an arrow from a box's right side to another's left, or straight up or down."""
    x1, y1 = (MARGIN + start.column * COLUMN, MARGIN + start.row * ROW + BOX_HEIGHT / 2)
    x2, y2 = (MARGIN + end.column * COLUMN, MARGIN + end.row * ROW + BOX_HEIGHT / 2)
    if start.column == end.column:
        half = BOX_HEIGHT / 2 if end.row > start.row else -BOX_HEIGHT / 2
        x1, x2, y1, y2 = x1 + BOX_WIDTH / 2, x2 + BOX_WIDTH / 2, y1 + half, y2 - half
    else:
        x1 += BOX_WIDTH
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#5b6b75" '
        f'stroke-width="1.4" marker-end="url(#tip)"{dash}/>'
    )


def write_diagrams() -> None:
    """Write every diagram."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, diagram in DIAGRAMS.items():
        (FOLDER / name).write_text(render(diagram), encoding="utf-8")


if __name__ == "__main__":
    write_diagrams()
