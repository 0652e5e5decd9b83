"""The disclosure as XMP metadata of an image, for programs without C2PA: `embed_xmp`.

Social networks and picture agencies read IPTC's digital source type there. Pixels are unchanged: a
packet is inserted into the file.
"""

import struct
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from faceswap_cli.provenance.claim import COMPOSITE, metadata_comment

_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    Iptc4xmpExt:DigitalSourceType="{source_type}">
   <dc:description>
    <rdf:Alt><rdf:li xml:lang="x-default">{sentence}</rdf:li></rdf:Alt>
   </dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def xmp_packet() -> bytes:
    """Return the XMP packet: IPTC's digital source type, and the disclosure."""
    return _PACKET.format(source_type=COMPOSITE, sentence=metadata_comment()).encode()


def has_swap_metadata(data: bytes) -> bool:
    """Return whether an image's bytes contain an XMP packet with IPTC's type of a composite."""
    return b"Iptc4xmpExt:DigitalSourceType" in data and COMPOSITE.encode() in data


def embed_xmp(data: bytes) -> bytes:
    """Return an image's bytes with the packet in them; other formats are returned unchanged."""
    if has_swap_metadata(data):
        return data
    for magic, embed in _EMBEDDERS.items():
        if data.startswith(magic):
            return embed(data)
    return data


def _embed_in_png(data: bytes) -> bytes:
    """Insert an iTXt chunk after the header (PNG specification, 11.3.3.4; XMP part 3, 1.1.5)."""
    header_end = 8 + 4 + 4 + 13 + 4
    body = b"XML:com.adobe.xmp\0" + b"\0\0" + b"\0\0" + xmp_packet()
    typed = b"iTXt" + body
    chunk = struct.pack(">I", len(body)) + typed + struct.pack(">I", zlib.crc32(typed))
    return data[:header_end] + chunk + data[header_end:]


def _embed_in_jpeg(data: bytes) -> bytes:
    """Insert an APP1 segment at the start, or after a JFIF header (XMP part 3, 1.1.3)."""
    offset = 2
    if data[2:4] == b"\xff\xe0":
        offset = 4 + int.from_bytes(data[4:6], "big")
    body = b"http://ns.adobe.com/xap/1.0/\0" + xmp_packet()
    return data[:offset] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[offset:]


def _embed_in_webp(data: bytes) -> bytes:
    """Append an XMP chunk, and give a simple file the extended header that announces it."""
    if data[8:12] != b"WEBP":
        return data
    has_xmp = 0x04
    chunks = bytearray(data[12:])
    if chunks[:4] == b"VP8X":
        chunks[8] |= has_xmp
    else:
        width, height, has_alpha = _webp_size_and_alpha(bytes(chunks))
        flags = has_xmp | (0x10 if has_alpha else 0)
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        chunks[:0] = b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0]) + sides
    body = xmp_packet()
    chunks += b"XMP " + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + bytes(chunks)


def _webp_size_and_alpha(chunks: bytes) -> tuple[int, int, bool]:
    """Return width and height, px, of a simple WebP's image, and whether it has transparency.

    RFC 9649, 2.5 (lossy: the VP8 frame header) and 3.4 (lossless).
    """
    if chunks[:4] == b"VP8L":
        bits = int.from_bytes(chunks[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    width, height = struct.unpack("<HH", chunks[14:18])
    return width & 0x3FFF, height & 0x3FFF, False


_EMBEDDERS: Mapping[bytes, Callable[[bytes], bytes]] = MappingProxyType(
    {b"\x89PNG\r\n\x1a\n": _embed_in_png, b"\xff\xd8\xff": _embed_in_jpeg, b"RIFF": _embed_in_webp}
)
"""The first bytes of each format, and the function that embeds the packet in it."""
