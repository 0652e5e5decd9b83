"""Options that several commands share, and those made from the fields of a settings dataclass."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from faceswap_cli.core.option import Option
from faceswap_models import registry

COMMON_PANEL = "Common options"
"""Heading in help of the options that nearly every command takes."""


def parse_path(text: str) -> Path:
    """Parse a path of the command line.

    Raises:
        BadParameter: It is empty, like an unset shell variable; to Python an empty path is the
            current folder.
    """
    if not str(text):
        raise typer.BadParameter('a path cannot be empty ("." is this folder)')
    return Path(text)


def make_parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser of the command line whose errors are in the words of `parse`'s."""

    @functools.wraps(parse)
    def run(text: str) -> Any:  # noqa: ANN401
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error

    return run


WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        parser=parse_path,
        metavar="DIR",
        help="Folder of sets, runs and results.",
        rich_help_panel=COMMON_PANEL,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|mps",
        help="Device to compute on; auto takes a GPU if there is one.",
        rich_help_panel=COMMON_PANEL,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option("--model", metavar="NAME", help=f"Model: {', '.join(registry.names())}."),
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="Named settings; `faceswap presets` lists them."),
]
SettingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Override one setting, such as train.batch_size=8; repeatable.",
    ),
]
MaxImagesOption = Annotated[
    int | None,
    typer.Option(
        "--max-images",
        metavar="N",
        min=1,
        help="Stop after N images of all identities, counted over the whole run.",
    ),
]
MaxMinutesOption = Annotated[
    float | None,
    typer.Option(
        "--max-minutes",
        metavar="M",
        min=0.01,
        help="Stop after M minutes of training, counted over the whole run.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", metavar="N", min=0, help="Seed of random numbers: the same N gives the same run."
    ),
]

DEFAULT_WORKSPACE = Path("workspace")


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every command takes."""

    as_json: Annotated[
        bool, Option("Print the result as one JSON object.", flags="--json", panel=COMMON_PANEL)
    ] = False
    quiet: Annotated[bool, Option("Show errors only.", flags="--quiet -q", panel=COMMON_PANEL)] = (
        False
    )
    verbose: Annotated[
        bool,
        Option(
            "Show the time of each task, and what libraries print.",
            flags="--verbose -v",
            panel=COMMON_PANEL,
        ),
    ] = False
    debug: Annotated[bool, Option("Show the traceback of an error.", panel=COMMON_PANEL)] = False


def expand_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that has an option for every field of its dataclass parameters.

    `settings: ConvertSettings` becomes `--color`, `--blend` and so on; `command` is called with
    the dataclass. A field without an `Option` keeps its default.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., object], list[str]]] = {}
    for parameter in signature.parameters.values():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            options = list(_make_parameters(parameter.annotation))
            groups[parameter.name] = (parameter.annotation, [option.name for option in options])
            parameters += options
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def run(**values: object) -> None:
        for name, (make, names) in groups.items():
            given = {field: values.pop(field) for field in names}
            values[name] = make(
                **{
                    field: tuple(value) if isinstance(value, list) else value
                    for field, value in given.items()
                }
            )
        command(**values)

    run.__dict__["__signature__"] = signature.replace(parameters=parameters)
    return run


def _make_parameters(settings: type) -> Iterator[inspect.Parameter]:
    """Yield a parameter as typer reads them for every field of a dataclass that has an `Option`."""
    hints = get_type_hints(settings, include_extras=True)
    for field in fields(settings):
        if get_origin(hints[field.name]) is not Annotated:
            continue
        kind, option = get_args(hints[field.name])
        if get_origin(kind) is tuple:  # typer repeats an option for a list only
            kind = list[get_args(kind)[0]]  # type: ignore[misc]
        yield inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=list(field.default) if isinstance(field.default, tuple) else field.default,
            annotation=Annotated[
                kind,
                typer.Option(
                    *(option.flags or _default_flags(field.name, field.default)).split(),
                    help=option.help,
                    metavar=option.metavar or None,
                    rich_help_panel=option.panel or None,
                    min=option.minimum,
                    parser=option.parser and make_parser(option.parser),
                ),
            ],
        )


def _default_flags(name: str, default: object) -> str:
    """Return the names of an option that has none of its own: `--mouth/--no-mouth`."""
    flag = name.replace("_", "-")
    return f"--{flag}/--no-{flag}" if default is True else f"--{flag}"


RENAMED_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "train": {"--images": "--max-images", "--minutes": "--max-minutes"},
    "benchmark": {
        "--images": "--max-images",
        "--minutes": "--max-minutes",
        "--people": "--identities",
    },
    "demo": {"--minutes": "--max-minutes"},
    "convert": {
        "--colour": "--color",
        "--own-mouth": "--no-mouth",
        "--hardware": "--hwaccel",
        "--software": "--no-hwaccel",
        "--label": "--visible-label",
    },
    "evaluate": {
        "--source": "--original",
        "--other": "--distractor",
        "--truth": "--ground-truth",
    },
    "faces": {"--drop": "--reject", "--undo": "--restore"},
}
"""Old names of options by command: still accepted, never shown."""


def rename_old_options(command: str, args: list[str]) -> list[str]:
    """Return what was typed with the present names of options in place of old ones."""
    renamed = RENAMED_OPTIONS.get(command, {})
    end = args.index("--") if "--" in args else len(args)
    parts = [arg.partition("=") for arg in args[:end]]
    return [renamed.get(name, name) + equals + value for name, equals, value in parts] + args[end:]
