"""Reading, encoding and writing image files, and `make_grid` for grids of images."""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, ImageDraw, ImageFont, TiffImagePlugin

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import atomic_write
from faceswap_cli.core.types import AnyArray, Image

# Unreadable files raise an InputError; OpenCV would log its own lines as well.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
MAX_IMAGE_PIXELS = 1 << 28
"""Pixels of the largest image that is read, 268 million: phones have 200. A file of 50 kB can hold
one color of any size."""
MAX_IMAGE_BYTES = 8 * MAX_IMAGE_PIXELS + (1 << 24)
"""Size of the largest file: no compression, four channels of 16 bits, and metadata."""
# Pillow would refuse some phones' photos, and warn on the console: `_check_pixels` comes first.
Pillow.MAX_IMAGE_PIXELS = None

_BACKGROUND_LEVEL = 24
"""Gray level of a grid between its images."""
_TEXT_COLOR = (225, 225, 225)


ColorModel = Literal["gray", "rgb", "cmyk"]
"""Channels of an image file, transparency aside."""


@dataclass(frozen=True, kw_only=True)
class ImageHeader:
    """What an image file says of itself."""

    format_name: str
    """Pillow's name, such as JPEG."""
    color_model: ColorModel
    has_alpha: bool
    orientation: int
    """EXIF's number, 1 to 8, of how the pixels that OpenCV gives without it are stored."""
    color_profile: bytes | None
    """ICC."""


def read_image(path: Path) -> Image:
    """Read an image file as upright RGB; of several frames or pages, the first.

    Raises:
        InputError: It is missing or not an image.
    """
    data = _read_bytes(path)
    image: AnyArray | None = None
    if data[:12].tobytes()[4:] in _AVIF_BRANDS:
        # OpenCV turns by EXIF, which does not count in this format, and not by what does.
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        decoded, header = _decode(data, flags), parse_header(data)
        image = to_upright(decoded, header.orientation) if header and decoded is not None else None
    elif data[:2].tobytes() in _CMYK_MAGIC and b"CMYK" in data.tobytes():  # in a color profile
        image = _decode_cmyk(data)
    if image is None:
        image = _decode(data, cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise InputError(f"{path} is not an image", hint="delete it, or create it again")
    return np.asarray(image, dtype=np.uint8)


_AVIF_BRANDS = (b"ftypavif", b"ftypavis")
_CMYK_MAGIC = (b"\xff\xd8", b"II", b"MM")
"""First bytes of JPEG and of TIFF, the formats of printers."""


def read_stored_pixels(path: Path) -> AnyArray | None:
    """Return an image file's own pixels, upright, or None where they are not kept as they are.

    Gray (H, W), gray with alpha (H, W, 2), RGB or RGBA, each uint8 or uint16. None for CMYK, for
    floating point and for AVIF with more than 8 bits.
    """
    data = _read_bytes(path)
    header = parse_header(data)
    stored = _decode(data, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype not in (np.uint8, np.uint16):
        return None
    orientation = 1
    if header is not None:
        if header.color_model == "cmyk" or (header.format_name == "AVIF" and stored.itemsize > 1):
            return None
        orientation = header.orientation
        if header.color_model == "gray" and header.has_alpha and stored.itemsize == 1:
            # OpenCV makes RGBA of it, or drops the transparency (TIFF).
            with Pillow.open(BytesIO(data.data)) as opened:
                stored = np.asarray(opened.convert("LA"))
    if stored.ndim == 3 and stored.shape[2] > 2:
        order = cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB
        stored = cv2.cvtColor(stored, order)
    return to_upright(stored, orientation)


def read_header(path: Path) -> ImageHeader | None:
    """Return what an image file says of itself; None for a format that only OpenCV reads."""
    return parse_header(_read_bytes(path))


def parse_header(data: AnyArray) -> ImageHeader | None:
    """Return the header of an image file's bytes, uint8 (N,); None if Pillow does not read it."""
    try:
        with Pillow.open(BytesIO(data.data)) as opened:
            mode, name, info = opened.mode, opened.format or "", opened.info
            exif = Pillow.Exif()
            with suppress(Exception):  # damaged EXIF raises all kinds of errors, and costs nothing
                exif.load(info.get("exif", b""))
    except Exception:  # Pillow raises all kinds for a damaged file, which OpenCV may read
        return None
    return ImageHeader(
        format_name=name,
        color_model=_COLOR_MODELS.get(mode, "rgb"),
        has_alpha=mode.endswith("A") or "transparency" in info,
        # A TIFF's is no part of `info`: OpenCV turns it by itself, even when told not to.
        orientation=int(exif.get(_ORIENTATION, 1)),
        color_profile=info.get("icc_profile") or None,
    )


_COLOR_MODELS: dict[str, ColorModel] = {
    "1": "gray",
    "L": "gray",
    "LA": "gray",
    "I": "gray",
    "I;16": "gray",
    "I;16B": "gray",
    "CMYK": "cmyk",
}
"""By Pillow's modes; all others become RGB."""
_ORIENTATION = 0x0112
"""EXIF's number of the orientation tag."""


@dataclass(frozen=True, kw_only=True)
class FrameCount:
    """The frames of an animation, or the pages of a document."""

    format_name: str
    """Pillow's name, such as PNG."""
    count: int
    """At least 1."""


def count_frames(path: Path) -> FrameCount:
    """Return how many frames or pages an image file holds, without decoding them.

    Only whole pages count in a TIFF, not reduced copies and masks; previews in a JPEG do not count.
    A file that cannot be read counts as one frame.
    """
    try:
        with Pillow.open(path) as opened:
            name, count = opened.format or "", int(getattr(opened, "n_frames", 1))
            if name not in _FORMATS_WITH_FRAMES:
                count = 1
            elif isinstance(opened, TiffImagePlugin.TiffImageFile) and count > 1:
                count = sum(_is_page(opened, index) for index in range(count))
            return FrameCount(format_name=name, count=max(1, count))
    except Exception:  # Pillow raises all kinds for a damaged file, which OpenCV may read
        return FrameCount(format_name="", count=1)


_FORMATS_WITH_FRAMES = frozenset({"PNG", "WEBP", "AVIF", "GIF", "TIFF"})
_NEW_SUBFILE_TYPE = 254
"""TIFF's number of the tag whose bits 0 and 2 are set for reduced copies and for masks."""


def _is_page(opened: TiffImagePlugin.TiffImageFile, index: int) -> bool:
    """Return whether a directory of a TIFF is an image of its own."""
    opened.seek(index)
    return not int(opened.tag_v2.get(_NEW_SUBFILE_TYPE, 0)) & 0b101


def to_upright(image: AnyArray, orientation: int) -> AnyArray:
    """Return an image upright that is stored with one of EXIF's orientations, 1 to 8."""
    turned = cv2.transpose(image) if orientation in (5, 6, 7, 8) else image
    flip = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return turned if flip is None else cv2.flip(turned, flip)


def _read_bytes(path: Path) -> AnyArray:
    """Return the bytes of an image file, uint8 (N,).

    Raises:
        InputError: It cannot be read, or claims to be larger than any photo.
    """
    # cv2.imread crashes on some paths and only returns None on failure.
    try:
        size = path.stat().st_size
        if size > MAX_IMAGE_BYTES:
            raise InputError(f"{path} is too large for an image: {size / 1e9:.1f} GB")
        data: AnyArray = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    _check_pixels(data, path)
    return data


def _check_pixels(data: AnyArray, path: Path) -> None:
    """Refuse an image by the size that its header claims, before anything is decoded.

    Raises:
        InputError: It has more than `MAX_IMAGE_PIXELS`.
    """
    try:
        with Pillow.open(BytesIO(data.data)) as opened:
            width, height = opened.size
    except Exception:  # Pillow raises all kinds for a damaged file; OpenCV has a limit of its own
        return
    if width * height > MAX_IMAGE_PIXELS:
        raise InputError(
            f"{path} has {width:,} x {height:,} px, more than {MAX_IMAGE_PIXELS / 1e6:.0f} million",
            hint="make it smaller with an image editor",
        )


def _decode(data: AnyArray, flags: int) -> AnyArray | None:
    """Return the image that a file's bytes, uint8 (N,), hold, as OpenCV decodes it, or None."""
    if data[:4].tobytes() == b"\x89PNG":
        chunks = list(_iter_png_chunks(data.tobytes()))
        if not (chunks and _is_png_header(chunks[0]) and all(map(_is_whole_chunk, chunks))):
            return None  # OpenCV's library would say so on the console
        if any(one[4:8] == b"acTL" for one in chunks):
            data = _strip_animation(chunks)
    if data[:2].tobytes() == b"\xff\xd8" and _is_changed_jpeg(data.tobytes()):
        return None
    try:
        return cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # a damaged header claims an image larger than OpenCV's limit
        return None


def _iter_png_chunks(png: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG, each with its length, name and checksum; the last may be cut."""
    start = 8
    while start < len(png):
        end = start + 12 + int.from_bytes(png[start : start + 4], "big")
        yield png[start:end]
        start = end


def _is_png_header(chunk: bytes) -> bool:
    """Return whether a PNG's first chunk has a size, and a layout that the format knows."""
    if len(chunk) != 25 or chunk[4:8] != b"IHDR":
        return False
    width, height, depth, color, *methods = struct.unpack(">2I5B", chunk[8:21])
    depths = {0: (1, 2, 4, 8, 16), 3: (1, 2, 4, 8)}.get(color, (8, 16))
    is_known = color in (0, 2, 3, 4, 6) and depth in depths and methods in ([0, 0, 0], [0, 0, 1])
    return bool(is_known and width and height)


def _is_whole_chunk(chunk: bytes) -> bool:
    """Return whether a chunk's checksum is right, if it is one that pixels are made of."""
    if chunk[4:8] not in (b"IHDR", b"PLTE", b"IDAT"):
        return True
    return zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")


def _strip_animation(chunks: Iterable[bytes]) -> AnyArray:
    """Return the bytes, uint8 (N,), of a PNG without the chunks of its animation.

    OpenCV 5.0 crashes the process where these are damaged.
    """
    kept = [one for one in chunks if one[4:8] not in (b"acTL", b"fcTL", b"fdAT")]
    return np.frombuffer(_PNG_SIGNATURE + b"".join(kept), np.uint8)


_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _decode_cmyk(data: AnyArray) -> Image | None:
    """Return an image of printing inks as upright sRGB by its color profile.

    None if it is another image, or has no profile that can be used; OpenCV then assumes ideal inks.
    """
    header = parse_header(data)
    if header is None or header.color_model != "cmyk" or header.color_profile is None:
        return None
    try:
        with Pillow.open(BytesIO(data.data)) as opened:
            converted = ImageCms.profileToProfile(
                opened,
                ImageCms.ImageCmsProfile(BytesIO(header.color_profile)),
                ImageCms.createProfile("sRGB"),
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
    except (OSError, ImageCms.PyCMSError):
        return None
    return None if converted is None else to_upright(np.asarray(converted), header.orientation)


def encode_png(image: Image, *, is_photo: bool = False) -> bytes:
    """Return an RGB image as the bytes of a PNG file.

    Args:
        image: The image.
        is_photo: Whether nothing in it is flat or repeats. Then differences to the pixel above are
            Huffman coded, without a search for repetitions: a fifth faster, and on four clips 11 %
            smaller to 3 % larger.
    """
    # No explicit level otherwise: with one, OpenCV drops its fast strategy and takes twice as long.
    settings = _PHOTO_PNG_PARAMS if is_photo else []
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    assert done
    return data.tobytes()


_PHOTO_PNG_PARAMS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
]


def encode_jpeg(image: Image, *, quality: int = 88) -> bytes:
    """Return an RGB image as the bytes of a JPEG file without chroma subsampling (4:4:4).

    Args:
        image: The image.
        quality: 0 to 100; the default is for pages with many images, at 95 faces differ from a
            PNG by a level or two.
    """
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    assert done
    return data.tobytes()


def add_jpeg_checksum(jpeg: bytes) -> bytes:
    """Return a JPEG file with a checksum of itself, which reading it checks: the format has none.

    It is in an application segment, which image editors leave out of what they save.

    Args:
        jpeg: The file as `encode_jpeg` returns it.
    """
    assert jpeg[2:6] == b"\xff\xe0\0\x10", "no JFIF header, which comes first"
    segment = struct.pack(">2sH", b"\xff\xea", 2 + len(_JPEG_TAG) + 8)
    head, rest = jpeg[:_JFIF_BYTES] + segment + _JPEG_TAG, jpeg[_JFIF_BYTES:]
    return head + _jpeg_checksum(head, rest) + rest


def _is_changed_jpeg(data: bytes) -> bool:
    """Return whether a file of `add_jpeg_checksum` has changed since."""
    start = _JFIF_BYTES + 4 + len(_JPEG_TAG)
    head, checksum, rest = data[:start], data[start : start + 8], data[start + 8 :]
    return head.endswith(_JPEG_TAG) and checksum != _jpeg_checksum(head, rest)


def _jpeg_checksum(head: bytes, rest: bytes) -> bytes:
    """Return eight hexadecimal digits of what is before and after them in a file."""
    return f"{zlib.crc32(rest, zlib.crc32(head)):08x}".encode()


_JFIF_BYTES = 20
"""Of the start of a file and its JFIF header."""
_JPEG_TAG = b"faceswap crc32\0"
"""At the beginning of the segment, as such segments have it."""


def write_png(path: Path, image: Image) -> None:
    """Write an RGB image as a PNG file, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(encode_png(image))


def resize_square(image: Image, side: int) -> Image:
    """Return a square image resized to a side of `side` px."""
    interpolation = cv2.INTER_AREA if side < image.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side, side), interpolation=interpolation), dtype=np.uint8)


def make_grid(
    rows: Sequence[Sequence[Image]],
    *,
    side: int,
    columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    gap: int = 4,
) -> Image:
    """Return a grid of square images, with a caption above each column and left of each row.

    Args:
        rows: Images of any size; each is resized to a tile.
        side: Side of a tile, px.
        columns: Captions of the first columns; without any the grid has no space for them.
        labels: Captions of the rows; without any the grid has no space for them.
        gap: Space between tiles, px.
    """
    font = ImageFont.load_default(size=max(10, side // 9))
    top = 2 * max(10, side // 9) if columns else gap
    left = (gap + round(max(font.getlength(text) for text in labels)) + gap) if labels else gap
    count = max(len(row) for row in rows)
    height, width = top + len(rows) * (side + gap), left + count * (side + gap)
    canvas = np.full((height, width, 3), _BACKGROUND_LEVEL, dtype=np.uint8)
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            y0, x0 = top + y * (side + gap), left + x * (side + gap)
            canvas[y0 : y0 + side, x0 : x0 + side] = resize_square(image, side)
    page = Pillow.fromarray(canvas)
    pen = ImageDraw.Draw(page)
    for x, text in enumerate(columns):
        center = left + x * (side + gap) + side / 2
        pen.text((center, top / 2), text, fill=_TEXT_COLOR, font=font, anchor="mm")
    for y, text in enumerate(labels):
        middle = top + y * (side + gap) + side / 2
        pen.text((gap, middle), text, fill=_TEXT_COLOR, font=font, anchor="lm")
    return np.asarray(page)
