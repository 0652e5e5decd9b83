"""Write a page for each error class: every message, its cause, and what to do.

They are read from the source when the site is built (`site_hooks.py`), and not in the repository:
so they are never out of date.
"""

import ast
import html
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from faceswap_cli.core import errors
from faceswap_cli.core.errors import FaceswapError

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "faceswap_cli"

ROOMS = {
    "cli": "The command line",
    "api": "Values of options and arguments",
    "stages": "The commands",
    "conversion": "Conversion",
    "evaluation": "Evaluation",
    "exchange": "Files of other programs",
    "pretraining": "Pretraining",
    "training": "Training",
    "compositing": "Compositing",
    "synthetic": "Synthetic people",
    "video": "Videos and images",
    "faces": "Faces and sets",
    "provenance": "Credentials and consent",
    "parallel": "Several processes and clusters",
    "core": "Workspace, settings, files",
}
"""Packages and modules in the order of the page, with their headings; others come last."""


SYSTEM_NAMES = {"strerror": "reason", "error": "reason", "stderr": "reason"}
"""Words for variables that the system fills."""


class Message(NamedTuple):
    """One error message of the program.

    Attributes:
        error: Name of the error class.
        text: The message; what differs from case to case is in angle brackets.
        hint: What the program says to do; empty if it says nothing or it is put together elsewhere.
        cause: What the function that raises it says of it.
        module: Where it is raised, dotted.
        task: What that function does.
    """

    error: str
    text: str
    hint: str
    cause: str
    module: str
    task: str


@cache
def error_classes() -> dict[str, type[FaceswapError]]:
    """Return the error classes by name, those with the lowest exit codes first."""
    found = [
        one
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, FaceswapError)
    ]
    return {one.__name__: one for one in sorted(found, key=lambda one: one.exit_code)}


def page_name(error: str) -> str:
    """Return the file name of a class's page: `InputError` -> `input-error.md`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error).lower() + ".md"


@cache
def render_error_pages() -> dict[str, str]:
    """Return the text of each class's page by file name."""
    messages = list(find_messages())
    return {
        page_name(name): render_page(one, [each for each in messages if each.error == name])
        for name, one in error_classes().items()
    }


def render_page(error: type[FaceswapError], messages: list[Message]) -> str:
    """Return the page of one error class."""
    title = re.sub(r"(?<!^)(?=[A-Z])", " ", error.__name__).capitalize()
    parts = [
        f"# {title}\n",
        f"{inspect.cleandoc(error.__doc__ or '').splitlines()[0]} "
        f"Exit code **{error.exit_code}**; in Python `{error.__module__}.{error.__name__}`.\n",
        "Words in &lt;angle brackets&gt; differ from case to case.\n",
    ]
    others = [one.module.split(".")[1] for one in messages]
    for room in dict.fromkeys([*ROOMS, *others]):
        here = [one for one in messages if one.module.split(".")[1] == room]
        if here:
            parts.append(f"## {ROOMS.get(room, room)}\n")
            parts += [render_message(one) for one in sorted(here)]
    return "\n".join(parts)


def render_message(message: Message) -> str:
    """Return the section of one message."""
    lines = [f"### {escape(message.text)}\n"]
    if message.cause:
        lines.append(f"Cause: {escape(message.cause)}\n")
    if message.hint:
        lines.append(f"What to do: {escape(message.hint)}\n")
    lines.append(f"Raised in `{message.module}`: {escape(message.task)}\n")
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return a text with the characters escaped that Markdown reads."""
    return html.escape(re.sub(r"([\\*_\[\]#])", r"\\\1", text), quote=False)


def find_messages() -> Iterator[Message]:
    """Yield every message that the program's source raises with a text of its own."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                yield from messages_in(function, module)


def messages_in(function: ast.FunctionDef, module: str) -> Iterator[Message]:
    """Yield the messages of one function, without those of functions inside it."""
    for node in own_nodes(function):
        if isinstance(node, ast.Call) and is_error(node) and node.args:
            text = render_text(node.args[0])
            if text:
                error = node.func.id  # type: ignore[attr-defined]
                hints = [render_text(one.value) for one in node.keywords if one.arg == "hint"]
                doc = ast.get_docstring(function) or ""
                task = doc.partition("\n")[0]
                yield Message(error, text, "".join(hints), find_cause(doc, error), module, task)


def own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Yield the nodes of a function's body, those of nested functions left out."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop(0)
        yield node
        waiting += [one for one in ast.iter_child_nodes(node) if not is_function(one)]


def is_function(node: ast.AST) -> bool:
    """Whether a node defines a function."""
    return isinstance(node, ast.FunctionDef)


def is_error(call: ast.Call) -> bool:
    """Whether a call makes one of the errors."""
    return isinstance(call.func, ast.Name) and call.func.id in error_classes()


def render_text(node: ast.expr) -> str:
    """Return a text of the source, with <words> for its variables; empty if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            one.value if isinstance(one, ast.Constant) else f"<{describe_variable(one)}>"
            for one in node.values
            if isinstance(one, ast.Constant | ast.FormattedValue)
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return render_text(node.left) + render_text(node.right)
    if isinstance(node, ast.IfExp):
        both = [render_text(one) for one in (node.body, node.orelse)]
        return " / ".join(one for one in both if one)
    return ""


def describe_variable(node: ast.expr) -> str:
    """Return words for a variable of a message: the last name of the expression."""
    match node:
        case ast.FormattedValue(value=value) | ast.Subscript(value=value):
            return describe_variable(value)
        case ast.Call(args=[first, *_]):
            return describe_variable(first)
        case ast.Call(func=ast.Attribute(value=value)) | ast.Attribute(value=value, attr="name"):
            return describe_variable(value)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return SYSTEM_NAMES.get(name, name.strip("_").replace("_", " ").lower())
    return "value"


def find_cause(docstring: str, error: str) -> str:
    """Return what a docstring's `Raises:` says of an error class; empty if nothing."""
    section = re.search(r"^Raises:\n((?:    .*\n?)+)", docstring, flags=re.M)
    entry = section and re.search(rf"^    {error}: (.+(?:\n        .+)*)", section[1], flags=re.M)
    if entry:
        text = " ".join(entry[1].split())
        return text[:1].upper() + text[1:]
    return ""
