"""Random changes of bytes: `mutate`."""

import random
from collections.abc import Callable, Sequence

TOKENS: Sequence[bytes] = (
    *(
        b"null",
        b"true",
        b"NaN",
        b"1e400",
        b"-1",
        b"0",
        b"[]",
        b"{}",
        b'""',
        b'"..\\/x"',
        b"1e999999",
    ),
    *(b"9" * 400, b"[" * 2_000, b"\x00", b"\xff" * 8, b"\x7f\xff\xff\xff", b"\xed\xa0\x80", b"1/0"),
    *(b"../", b"\n", b"=", b'"', b"'", b"\\", b"[[", b"#", b"nan", b"inf", b"__class__"),
)
"""Values that parsers stumble over."""


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with one to six changes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        rng.choice(_CHANGES)(changed, rng)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> slice:
    """Return a place of up to eight bytes."""
    start = rng.randint(0, len(data))
    return slice(start, start + rng.randint(0, 8))


def _flip(data: bytearray, rng: random.Random) -> None:
    """Flip a bit."""
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _insert(data: bytearray, rng: random.Random) -> None:
    """Replace a place by a token."""
    data[_place(data, rng)] = rng.choice(TOKENS)


def _value(data: bytearray, rng: random.Random) -> None:
    """Replace a number or a quoted text by a token."""
    digits = [index for index, value in enumerate(data) if chr(value).isdecimal()]
    if digits:
        start = rng.choice(digits)
        end = start
        while end < len(data) and chr(data[end]) in "0123456789.":
            end += 1
        data[start:end] = rng.choice(TOKENS)


def _remove(data: bytearray, rng: random.Random) -> None:
    """Remove a place."""
    del data[_place(data, rng)]


def _cut(data: bytearray, rng: random.Random) -> None:
    """Remove the end."""
    del data[rng.randint(0, len(data)) :]


def _repeat(data: bytearray, rng: random.Random) -> None:
    """Repeat a part."""
    start = rng.randint(0, len(data))
    part = data[start : start + rng.randint(1, 200)]
    data[start:start] = part * rng.randint(1, 4)


_CHANGES: Sequence[Callable[[bytearray, random.Random], None]] = (
    *(_flip, _insert, _insert, _value, _value, _value, _remove, _cut, _repeat),
)
