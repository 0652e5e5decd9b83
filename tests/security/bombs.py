"""Small files that claim, or hold, images of any size."""

import struct
import zlib


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def make_png(width: int, height: int, *, rows: int | None = None, frames: int = 0) -> bytes:
    """Return a black PNG, compressed a thousand times.

    Args:
        width: Side, px.
        height: Side, px.
        rows: How many rows it holds; by default all that it claims.
        frames: Of an animation; 0 is none.
    """
    packer = zlib.compressobj(9)
    row = bytes(width * 3 + 1)
    parts = [packer.compress(row) for _ in range(height if rows is None else rows)]
    data = b"".join(parts) + packer.flush()
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header)]
    if frames:
        chunks.append(png_chunk(b"acTL", struct.pack(">2I", frames, 0)))
        control = struct.pack(">5I2H2B", 0, width, height, 0, 0, 1, 25, 0, 0)
        chunks.append(png_chunk(b"fcTL", control))
    chunks.append(png_chunk(b"IDAT", data))
    for number in range(1, frames):
        control = struct.pack(">5I2H2B", 2 * number - 1, width, height, 0, 0, 1, 25, 0, 0)
        chunks.append(png_chunk(b"fcTL", control))
        chunks.append(png_chunk(b"fdAT", struct.pack(">I", 2 * number) + data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


def make_bmp(width: int, height: int) -> bytes:
    """Return a BMP that claims a size, with 64 bytes of pixels."""
    info = struct.pack("<I2i2H6I", 40, width, height, 1, 24, 0, 64, 0, 0, 0, 0)
    return struct.pack("<2sI2HI", b"BM", 118, 0, 0, 54) + info + bytes(64)


def make_gif(width: int, height: int) -> bytes:
    """Return a GIF that claims a size, with no data."""
    screen = b"GIF89a" + struct.pack("<2H3B", width, height, 0, 0, 0)
    return screen + b"," + struct.pack("<4HB", 0, 0, width, height, 0) + b"\x02\x01\x44\x00;"


def make_tiff(width: int, height: int) -> bytes:
    """Return a TIFF that claims a size in one strip of 64 bytes."""
    # LONG entries: width, height, bits, compression, photometric, offset, samples, rows, bytes.
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 64}
    entries = b"".join(struct.pack("<2H2I", tag, 4, 1, value) for tag, value in tags.items())
    folder = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 72) + bytes(64) + folder


def make_jpeg(data: bytes, width: int, height: int) -> bytes:
    """Return a JPEG with another size in its header."""
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">2H", height, width) + data[start + 4 :]
