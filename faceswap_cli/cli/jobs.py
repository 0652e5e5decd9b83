"""`faceswap jobs`: a file of commands, one after the other."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import CommonOptions, parse_path
from faceswap_cli.core.errors import ConfigurationError, FaceswapError, did_you_mean

if TYPE_CHECKING:
    from faceswap_cli.stages.jobs import Job

MODEL_HINTS = {"convert": "convert ... --model RUN", "export": "export RUN ..."}
"""How the commands that take the latest model by default are told another one."""


def jobs(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="FILE", help="TOML file of jobs.")
    ],
    *,
    common: CommonOptions,
) -> None:
    """Run the commands of a file one after the other: extract, train, convert and others.

    The file has a list of commands for each job. They run in the folder of the file. A command that
    fails ends its job, and the next job begins. Run the same command again to resume.
    """
    with command_context(common) as terminal:
        from faceswap_cli.stages import jobs as stage

        listed = stage.read_jobs(file)
        assert context.parent is not None
        commands: Mapping[str, Any] = getattr(context.parent.command, "commands", {})
        for job in listed:
            check_job(job, commands)
        summary = stage.run_jobs(
            listed,
            folder=file.absolute().parent,
            report=terminal,
            options=["--quiet"] if common.quiet else [],
        )
        terminal.print_table(*summary.table())
        if common.as_json:
            terminal.print_result("jobs", summary.to_dict())
        for name, step in summary.failed:
            terminal.print_error(
                FaceswapError(f"{name}: {step.message}", hint=f"faceswap {step.step}")
            )
        if summary.failed:
            raise typer.Exit(max(1, summary.failed[0][1].exit_code or 0))


def check_job(job: "Job", commands: Mapping[str, Any]) -> None:
    """Refuse a job with a step that is no command line, before hours are spent on others.

    Args:
        job: The job.
        commands: The program's commands by name.

    Raises:
        ConfigurationError: A command or an option does not exist, or a `convert` or an `export`
            names no model.
    """
    for words in job.steps:
        values = _parse_step(job, words, commands)
        if words[0] in MODEL_HINTS and _takes_latest_model(values):
            # By then the latest run may be that of another job, or of last night.
            raise ConfigurationError(
                f'the job "{job.name}" takes the latest model, whichever that is then',
                hint=f"name it: {MODEL_HINTS[words[0]]}",
            )


def _takes_latest_model(values: Mapping[str, object]) -> bool:
    """Return whether a step takes the model that was trained last; an export of faces has none."""
    return values["model"] == "latest" or (values["model"] is None and values["faces"] is None)


def _parse_step(
    job: "Job", words: Sequence[str], commands: Mapping[str, Any]
) -> Mapping[str, object]:
    """Return the values of a step's options.

    Raises:
        ConfigurationError: It cannot be parsed.
    """
    name = words[0] if words else ""
    known = [one for one in commands if one != "jobs"]
    if name not in known:
        raise ConfigurationError(
            f'the job "{job.name}" has a step that is no command: "{" ".join(words)}"',
            hint=did_you_mean(name, known),
        )
    try:
        values: Mapping[str, object] = commands[name].make_context(name, list(words[1:])).params
    except typer.TyperException as error:
        message = error.format_message().rstrip(".")
        raise ConfigurationError(
            f'the job "{job.name}": {name}: {message[:1].lower()}{message[1:]}',
            hint=f"faceswap {name} --help",
        ) from error
    except typer.Exit as error:
        raise ConfigurationError(
            f'the job "{job.name}" has a step that only prints: {" ".join(words)}',
            hint="leave out --help",
        ) from error
    return values
