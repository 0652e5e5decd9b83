"""Reads pickles of plain values and numpy arrays, and refuses all others: `read_plain_pickle`.

DeepFaceLab stores pickles in its images, and a pickle can run any code where it is loaded by
Python's own unpickler. This one is an interpreter of the few instructions that plain values need;
it imports nothing, and calls nothing that the file names.
"""

import math
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

MAX_BYTES = 1 << 20
"""Longest pickle that is read. Those of DeepFaceLab are in a segment of a JPEG, of 64 KiB."""
MAX_DIMENSIONS = 4

_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_GLOBALS: Mapping[str, str] = MappingProxyType(
    {
        "numpy ndarray": "ndarray",
        "numpy dtype": "dtype",
        **{f"{module} _reconstruct": "array" for module in _NUMPY},
        **{f"{module} scalar": "scalar" for module in _NUMPY},
    }
)
"""What a pickle may name, by module and name; none of it is imported."""


class UnsafePickleError(ValueError):
    """A pickle that has more than plain values, or is damaged."""


@dataclass(frozen=True)
class _Global:
    """A name that a pickle may have, in place of what it names."""

    name: str


@dataclass
class _Dtype:
    """A numeric data type: `f8`, and its byte order."""

    code: str
    order: str = "="

    def build(self, state: Any) -> None:  # noqa: ANN401
        """Take over the byte order of a stored state."""
        self.order = {"<": "<", ">": ">"}.get(state[1], "=")

    def resolve(self) -> np.dtype[Any]:
        """Return the data type, if it is one of numbers."""
        if not (len(self.code) == 2 and self.code[0] in "fiub" and self.code[1] in "1248"):
            raise UnsafePickleError(f"arrays of {self.code!r} are not read")
        return np.dtype(self.order + self.code)


@dataclass
class _Array:
    """An array that is being read."""

    value: np.ndarray[Any, Any] | None = None

    def build(self, state: Any) -> None:  # noqa: ANN401
        """Make the array of a stored state: version, shape, data type, order of axes, bytes."""
        _, shape, dtype, is_fortran, raw = state
        kind = dtype.resolve()
        is_plain = all(isinstance(one, int) and one >= 0 for one in shape)
        if not is_plain or len(shape) > MAX_DIMENSIONS or not isinstance(raw, bytes):
            raise UnsafePickleError("an array is damaged")
        if math.prod(shape) * kind.itemsize != len(raw):
            raise UnsafePickleError("an array is damaged")
        flat = np.frombuffer(raw, kind)
        self.value = flat.reshape(shape, order="F" if is_fortran else "C")


def read_plain_pickle(data: bytes) -> Any:  # noqa: ANN401
    """Return the value of a pickle.

    Raises:
        UnsafePickleError: It is damaged or too long, or has anything but None, booleans, numbers,
            strings, bytes, lists, tuples, dictionaries and numeric arrays.
    """
    if len(data) > MAX_BYTES:
        raise UnsafePickleError("a pickle is too long")
    try:
        return _Reader().read(data)
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle can fail anywhere
        raise UnsafePickleError("a pickle is damaged") from error


class _Reader:
    """A machine with a stack and a memory of values, as `pickletools` describes it."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def read(self, data: bytes) -> Any:  # noqa: ANN401
        """Run a pickle's instructions and return its value."""
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return _resolve(self.stack.pop())
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _PUSHED:
                self.stack.append(argument)
            elif opcode.name in _ACTIONS:
                _ACTIONS[opcode.name](self, argument)
            elif opcode.name not in _IGNORED:
                raise UnsafePickleError(f"the instruction {opcode.name} is not allowed")
        raise UnsafePickleError("a pickle has no end")

    def pop_marked(self) -> list[Any]:
        """Return the values since the last mark, and remove them."""
        start = self.marks.pop()
        values, self.stack[start:] = self.stack[start:], []
        return values

    def pop(self, count: int) -> list[Any]:
        """Return the last values, and remove them."""
        if count > len(self.stack):
            raise UnsafePickleError("a pickle is damaged")
        values, self.stack[-count:] = self.stack[-count:], []
        return values

    def push_global(self, name: str) -> None:
        """Push what stands for a name."""
        if name not in _GLOBALS:
            raise UnsafePickleError(f"it names {name.replace(' ', '.')[:80]!r}")
        self.stack.append(_Global(_GLOBALS[name]))

    def push_new(self) -> None:
        """Push what a known constructor makes of its arguments."""
        constructor, arguments = self.pop(2)
        if constructor == _Global("array"):
            self.stack.append(_Array())
        elif constructor == _Global("dtype"):
            if not isinstance(arguments[0], str):
                raise UnsafePickleError("a pickle is damaged")
            self.stack.append(_Dtype(arguments[0]))
        elif constructor == _Global("scalar"):
            dtype, raw = arguments
            self.stack.append(np.frombuffer(raw, dtype.resolve())[0].item())
        else:
            raise UnsafePickleError("a pickle calls what is not known")

    def build(self) -> None:
        """Give an array or a data type its state."""
        target, state = self.pop(2)
        if not isinstance(target, _Array | _Dtype):
            raise UnsafePickleError("a pickle changes what is not known")
        target.build(state)
        self.stack.append(target)

    def append(self, values: list[Any]) -> None:
        """Append values to the list on the stack."""
        target = self.stack[-1]
        if not isinstance(target, list):
            raise UnsafePickleError("a pickle is damaged")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Add keys and values to the dictionary on the stack."""
        target = self.stack[-1]
        if not isinstance(target, dict) or len(values) % 2:
            raise UnsafePickleError("a pickle is damaged")
        # The hash of a tuple visits all that is in it, and what is shared again and again.
        if not all(isinstance(key, str | int) for key in values[::2]):
            raise UnsafePickleError("a key is neither a string nor a number")
        target.update(zip(values[::2], values[1::2], strict=True))

    def push_named(self) -> None:
        """Push what stands for the name that is on the stack, in two parts."""
        self.push_global(" ".join(self.pop(2)))

    def memorize(self, index: int | None) -> None:
        """Remember the last value; by default under the next number."""
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]


def _resolve(value: Any) -> Any:  # noqa: ANN401
    """Return the dictionary that was read, with its arrays; anything else as it is.

    Only the dictionary's own values are resolved: what is shared inside a deep structure could
    take forever.
    """
    if isinstance(value, dict):
        return {key: one.value if isinstance(one, _Array) else one for key, one in value.items()}
    return value.value if isinstance(value, _Array) else value


_CONSTANTS: Mapping[str, Any] = MappingProxyType({"NONE": None, "NEWTRUE": True, "NEWFALSE": False})
# fmt: off
_PUSHED = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES",
))
# fmt: on
"""Instructions that push their argument."""
_IGNORED = frozenset(("PROTO", "FRAME"))
_ACTIONS: Mapping[str, Callable[[_Reader, Any], None]] = MappingProxyType(
    {
        "MARK": lambda reader, _: reader.marks.append(len(reader.stack)),
        "EMPTY_LIST": lambda reader, _: reader.stack.append([]),
        "EMPTY_DICT": lambda reader, _: reader.stack.append({}),
        "EMPTY_TUPLE": lambda reader, _: reader.stack.append(()),
        "TUPLE": lambda reader, _: reader.stack.append(tuple(reader.pop_marked())),
        "TUPLE1": lambda reader, _: reader.stack.append(tuple(reader.pop(1))),
        "TUPLE2": lambda reader, _: reader.stack.append(tuple(reader.pop(2))),
        "TUPLE3": lambda reader, _: reader.stack.append(tuple(reader.pop(3))),
        "APPEND": lambda reader, _: reader.append(reader.pop(1)),
        "APPENDS": lambda reader, _: reader.append(reader.pop_marked()),
        "SETITEM": lambda reader, _: reader.set_items(reader.pop(2)),
        "SETITEMS": lambda reader, _: reader.set_items(reader.pop_marked()),
        "PUT": lambda reader, index: reader.memorize(index),
        "BINPUT": lambda reader, index: reader.memorize(index),
        "LONG_BINPUT": lambda reader, index: reader.memorize(index),
        "MEMOIZE": lambda reader, _: reader.memorize(None),
        "GET": lambda reader, index: reader.stack.append(reader.memo[index]),
        "BINGET": lambda reader, index: reader.stack.append(reader.memo[index]),
        "LONG_BINGET": lambda reader, index: reader.stack.append(reader.memo[index]),
        "GLOBAL": lambda reader, name: reader.push_global(name),
        "STACK_GLOBAL": lambda reader, _: reader.push_named(),
        "REDUCE": lambda reader, _: reader.push_new(),
        "BUILD": lambda reader, _: reader.build(),
    }
)
"""Instructions that change the stack."""
