"""The command line: fast help, options, errors and exit codes."""

import dataclasses
import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from faceswap_cli.cli.app import app, main
from faceswap_cli.cli.console import Terminal
from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import (
    RENAMED_OPTIONS,
    CommonOptions,
    expand_options,
    rename_old_options,
)
from faceswap_cli.cli.view.greeting import greeting
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core import image_io
from faceswap_cli.core.option import Option
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.video.writer import VideoWriter
from faceswap_models import registry

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
HEAVY = ("torch", "cv2", "mediapipe", "av", "skimage", "numpy")


def faceswap(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the program in `folder` as a user would."""
    command = [sys.executable, "-m", "faceswap_cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """`faceswap --help` does not wait for torch, OpenCV or MediaPipe."""
    code = (
        "import sys\n"
        "from faceswap_cli.cli.app import app\n"
        "try: app(['train', '--help'])\n"
        "except SystemExit: pass\n"
        f"print('loaded:', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert "loaded: []" == done.stdout.strip().splitlines()[-1]


def test_help_names_every_backend(tmp_path: Path) -> None:
    """Help of `train` lists every file of `backends`."""
    shown = faceswap("train", "--help", folder=tmp_path).stdout
    assert all(name in shown for name in registry.names())


@pytest.mark.parametrize(
    ("arguments", "code", "message", "hint"),
    [
        (["extract", "no.mp4"], 3, "no.mp4", ""),
        (["train", "--model", "autoencoder", "a", "b"], 2, 'no set called "a"', "faceswap extract"),
        (["train", "--model", "autoencodr", "a", "b"], 2, "autoencodr", '"autoencoder"'),
        (
            ["train", "--model", "autoencoder", "a", "b", "--set", "train.batchsize=3"],
            2,
            "train.batchsize is not a setting of autoencoder",
            '"train.batch_size"',
        ),
        (["train", "--model", "autoencoder", "--preset", "ligt", "a"], 2, "ligt", '"light"'),
        (["train", "--model", "autoencoder", "a", "b", "--batch-size", "-1"], 2, '"-1"', "16"),
        (["faces", "a"], 2, 'no set called "a"', "faceswap extract"),
        (["faces", "a", "--reject", "blury"], 2, 'no set called "a"', "faceswap extract"),
        (["convert", "no.mp4"], 3, "no.mp4", ""),
        (["convert", "no.mp4", "--model", "gone"], 3, "no.mp4", ""),
        (["convert", "face.png"], 2, "nothing was trained yet", "faceswap train"),
        (["convert", "face.png", "--model", "gone"], 2, '"gone"', "faceswap train"),
        (["evaluate", "no.mp4", "--original", "face.png", "--identity", "a"], 3, "no.mp4", ""),
        (["evaluate", "one.mp4", "--original", "one.mp4", "--identity", "a"], 2, '"a"', "extract"),
        (["evaluate", "one.mp4", "--original", "no.mp4", "--identity", "a"], 3, "no.mp4", ""),
        (["verify", "no.mp4"], 3, "no.mp4", ""),
        (["compare", "a", "b"], 2, '"a"', ""),
        (["benchmark", "--model", "cyclgan"], 2, "cyclgan", '"cyclegan"'),
        (["benchmark", "--self-swap", "no.mp4"], 3, "no.mp4", ""),
        (["demo", "--device", "gpu"], 2, '"gpu"', "cpu"),
        (["extract", "face.png", "--size", "1"], 2, "1 px", "16"),
        (["extract", "face.png", "--quiet"], 4, "no face", ""),
        (["extract", "empty"], 3, "empty", ""),
        (["extract", "face.png", "--name", ""], 2, "'' cannot be the name", "--name"),
        (["extract", "face.png", "--quiet", "--workspace", "one.mp4"], 3, "one.mp4 is a file", ""),
        (["extract", "face.png", "--quiet", "--workspace", "/dev/null/x"], 3, "/dev/null", ""),
        (["extract", "face.png", "--quiet", "--workspace", "/proc/x"], 3, "/proc/x", ""),
        (["extract", "x.mp4", "--name", "../up"], 2, "cannot be the name", "--name"),
        (["train", "--model"], 2, "--model", "--help"),
        (["extrat"], 2, "extract", "--help"),
        (["train", "--modl", "autoencoder"], 2, "--model", "--help"),
        (["extract"], 2, "INPUT", "extract --help"),
        (["extract", ""], 2, "a path cannot be empty", "extract --help"),
        (
            ["extract", "one.mp4", "--workspace", ""],
            2,
            "'--workspace': a path cannot be empty",
            "--help",
        ),
        (["convert", "one.mp4", "-o", ""], 2, "'-o': a path cannot be empty", "convert --help"),
        (["extract", "x.mp4", "--every", "0"], 2, "--every", "extract --help"),
    ],
)
def test_an_error_is_one_line_and_a_hint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
    hint: str,
) -> None:
    """Both on stderr, with the exit code of the error's kind; no file is left behind."""
    (tmp_path / "empty").mkdir()
    image_io.write_png(tmp_path / "face.png", np.full((64, 64, 3), 90, np.uint8))
    with VideoWriter(tmp_path / "one.mp4", size=(64, 64), rate=Fraction(25)) as video:
        video.write(np.full((64, 64, 3), 90, np.uint8), Fraction(0))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["faceswap", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    output = capsys.readouterr()
    error, *hints = output.err.splitlines()
    assert (code, "") == (ended.value.code, output.out)
    assert error.startswith("error: ")
    assert message in error
    assert hint in "".join(hints)
    assert len(hints) <= 1
    assert before == sorted(tmp_path.rglob("*"))


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_fits_the_terminal_and_its_paragraphs_flow(columns: int, name: str | None) -> None:
    """No line is too long, and each line of a paragraph is filled."""
    words = [*([name] if name else []), "-h"]
    shown = CliRunner().invoke(app, words, env={"COLUMNS": f"{columns}"})
    assert max(map(len, shown.stdout.splitlines())) < min(columns, 101)
    for paragraph in COMMANDS[name].help.split("\n\n") if name else []:
        filled = textwrap.wrap(paragraph, min(columns, 100) - 3, break_on_hyphens=False)
        assert "\n".join(f"  {line}" for line in filled) in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["extract", "LONG.mp4"], 3),
        (["extract", "one.mp4", "--name", "LONG"], 2),
        (["extract", "one.mp4", "--workspace", "LONG"], 3),
        (["train", "--model", "autoencoder", "LONG", "b"], 2),
        (["convert", "LONG.mp4"], 3),
        (["convert", "one.mp4", "--model", "LONG"], 3),
        (["evaluate", "LONG.mp4", "--original", "one.mp4", "--identity", "a"], 3),
        (["verify", "LONG.mp4"], 3),
        (["export", "LONG"], 3),
        (["export", "--faces", "LONG"], 2),
        (["import", "LONG"], 3),
        (["compare", "LONG", "b"], 3),
        (["demo", "--output", "LONG"], 3),
        (["benchmark", "--output", "LONG"], 3),
    ],
)
def test_a_name_that_no_file_can_have_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
) -> None:
    """Each of these was a traceback: the system refuses even to say whether such a file exists."""
    with VideoWriter(tmp_path / "one.mp4", size=(64, 64), rate=Fraction(25)) as video:
        video.write(np.full((64, 64, 3), 90, np.uint8), Fraction(0))
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    words = [word.replace("LONG", "x" * 300) for word in arguments]
    monkeypatch.setattr(sys, "argv", ["faceswap", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert code == ended.value.code
    assert capsys.readouterr().err.startswith("error: ")
    assert before == sorted(tmp_path.rglob("*"))


def test_every_argument_and_option_has_a_help_text() -> None:
    """Neither arguments nor options lack one."""
    for command in COMMANDS.values():
        assert all(one.help for one in command.params), command.name


@pytest.mark.parametrize(
    ("command", "settings", "not_options"),
    [("convert", ConvertSettings, {"batch_size"}), ("extract", ExtractSettings, set())],
)
def test_every_setting_is_an_option(
    command: str, settings: type[ConvertSettings | ExtractSettings], not_options: set[str]
) -> None:
    """Or is listed here; help, heading and default of the option are the field's."""
    params = {param.name: param for param in COMMANDS[command].params}
    hints = get_type_hints(settings, include_extras=True)
    for field in dataclasses.fields(settings):
        described = get_args(hints[field.name])[1:]
        if field.name in not_options:
            assert field.name not in params
            continue
        [option] = described
        shown = params[field.name]
        assert isinstance(option, Option)
        assert (option.help, option.panel or None) == (shown.help, shown.rich_help_panel)
        assert (list(field.default) if field.default == () else field.default) == shown.default


def test_settings_come_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is called with dataclasses of the given values and the defaults."""
    taken: list[object] = []

    def command(*, settings: ConvertSettings, common: CommonOptions) -> None:
        taken.extend([settings, common])

    program = typer.Typer()
    program.command()(expand_options(command))
    words = ["--face", "all", "--no-mouth", "--feather", "0.2", "--start", "2", "-q"]
    for args in ([], words):
        assert 0 == CliRunner().invoke(program, args).exit_code
    assert taken == [
        ConvertSettings(),
        CommonOptions(),
        ConvertSettings(faces=("all",), mouth=False, feather=0.2, start_s=2.0),
        CommonOptions(quiet=True),
    ]


def test_old_names_of_options_are_still_accepted() -> None:
    """They parse like the new ones, with `=` too, and are not in any help."""
    context = {"resilient_parsing": True}
    for name, renamed in RENAMED_OPTIONS.items():
        command = COMMANDS[name]
        options = {opt: one for one in command.params for opt in [*one.opts, *one.secondary_opts]}
        shown = CliRunner().invoke(app, [name, "--help"]).stdout
        for old, new in renamed.items():
            assert not re.search(rf"{old}\b", shown), old
            value = [] if options[new].is_flag else ["3"]
            parsed = [
                command.make_context(name, [flag, *value], **context).params for flag in (old, new)
            ]
            assert parsed[0] == parsed[1] != command.make_context(name, [], **context).params or (
                options[new].default is True and new in options[new].opts
            )
            if value:
                joined = command.make_context(name, [f"{old}=3"], **context).params
                assert parsed[0] == joined


def test_words_after_two_dashes_are_no_options() -> None:
    """Arguments after `--` are never renamed."""
    assert ["--reject=a", "--", "--drop"] == rename_old_options(
        "faces", ["--drop=a", "--", "--drop"]
    )


def test_the_program_alone_greets(tmp_path: Path) -> None:
    """Without a command it names the demo and the three stages; each command it names exists."""
    done = faceswap(folder=tmp_path)
    assert (0, "") == (done.returncode, done.stderr)
    named = re.findall(r"faceswap ([a-z]+) ", done.stdout.replace("\n", " "))
    assert ["demo", "extract", "train", "convert", "open"] == [n for n in named if n in COMMANDS]
    assert max(map(len, done.stdout.splitlines())) < 80
    assert len(done.stdout.splitlines()) < 20


def test_the_greeting_says_where_a_workspace_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is there, and the next stage: of the other person, training, conversion, none."""
    monkeypatch.chdir(tmp_path)
    space = Workspace.open(Path("workspace"))
    assert "Next" not in greeting()
    for name, expected in (
        ("anna", "Next: faceswap extract OTHER-PERSON.mp4"),
        ("bo b", "Next: faceswap train --model autoencoder anna 'bo b'"),
    ):
        space.set_folder(name).root.mkdir(parents=True)
        space.set_folder(name).records.write_text("")
        assert expected in greeting()
    space.set_folder("anna").source.write_text('[input]\nname = "anna at home.mov"\n')
    run = space.run_folder("my-run")
    run.root.mkdir(parents=True)
    run.weights.write_bytes(b"")
    assert "Next: faceswap convert 'anna at home.mov' --model my-run" in greeting()
    space.exports.mkdir()
    assert "Next" not in greeting()
    assert "sets anna, bo b; runs my-run." in greeting()
    space.version_file.write_text("format = 99\n")
    assert "anna" not in greeting()


def test_help_groups_every_command_by_its_purpose() -> None:
    """Each is below one heading, in one column of names."""
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "100"}).stdout
    names = re.findall(r"^  ([a-z]+) {2,}\w", shown, flags=re.M)
    assert sorted(COMMANDS) == sorted(names)
    headings = re.findall(r"^(\w[\w ,]+):$", shown, flags=re.M)
    assert headings[1:] == ["Without footage", "The three stages", *headings[3:]]
    assert 5 == len(headings[1:])


def test_quiet_and_verbose_exclude_each_other(tmp_path: Path) -> None:
    """One line says so."""
    done = faceswap("presets", "-q", "-v", folder=tmp_path)
    assert 2 == done.returncode
    assert "--quiet and --verbose exclude each other" in done.stderr


@pytest.mark.parametrize("is_verbose", [False, True])
def test_messages_of_libraries_are_shown_when_asked_for(
    is_verbose: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A library's warnings and log are off the screen during a command, unless it is verbose."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with command_context(CommonOptions(verbose=is_verbose)):
            warnings.warn("during", UserWarning, stacklevel=1)
            logging.getLogger("library").error("during")
        warnings.warn("after", UserWarning, stacklevel=1)
        logging.getLogger("library").error("after")
    expected = ["during", "after"] if is_verbose else ["after"]
    assert expected == [str(one.message) for one in seen] == [one.message for one in caplog.records]


@pytest.mark.slow
def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    """--debug prints the traceback."""
    done = faceswap("extract", "no.mp4", "--debug", folder=tmp_path)
    assert "Traceback" in done.stderr


def test_a_stop_while_the_program_is_loaded_is_one_line(tmp_path: Path) -> None:
    """Ctrl-C before any command has started prints no traceback."""
    code = (
        "import sys\n"
        "from faceswap_cli.__main__ import main\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (130, "stopped before anything was done\n") == (done.returncode, done.stderr)


def test_presets_are_listed_as_json(tmp_path: Path) -> None:
    """Every preset has its backend's name in its own, and a purpose."""
    shown = json.loads(faceswap("presets", "--json", folder=tmp_path).stdout)
    assert {"autoencoder-light", "autoencoder-original", "autoencoder-debug"} <= set(shown)
    assert all(shown.values())


def test_a_newer_workspace_is_refused(tmp_path: Path) -> None:
    """A workspace of an unknown format is not touched."""
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace/workspace.toml").write_text("format = 99\n")
    done = faceswap("convert", "x.mp4", folder=tmp_path)
    assert 3 == done.returncode
    assert "newer faceswap (format 99" in done.stderr


def test_every_command_prints_json() -> None:
    """`--json` is an option of each of them."""
    options = {
        name: {flag for one in command.params for flag in one.opts}
        for name, command in COMMANDS.items()
    }
    assert [] == [name for name, flags in options.items() if "--json" not in flags]


@pytest.mark.parametrize("arguments", [["verify", "no.mp4"], ["extract"], ["train", "--modl", "x"]])
def test_an_error_is_json_too(tmp_path: Path, arguments: list[str]) -> None:
    """With `--json` an error is one object on stdout, and still one line on stderr."""
    done = faceswap(*arguments, "--json", folder=tmp_path)
    result = json.loads(done.stdout)
    assert {"error", "hint", "exit_code"} == result.keys()
    assert done.returncode == result["exit_code"]
    assert result["error"] in done.stderr


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    """What JSON cannot hold is null or a text, however deep."""
    values = {"a": float("nan"), "b": [float("inf"), {"c": Path("x")}], "d": (1, True, None)}
    Terminal(as_json=True).print_result("result", values)
    expected = {"a": None, "b": ["inf", {"c": "x"}], "d": [1, True, None]}
    assert expected == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("faceswap con", {"convert"}),
        ("faceswap convert --side", {"--side-by-side"}),
        ("faceswap train --max-", {"--max-images", "--max-minutes"}),
    ],
)
def test_the_shell_completes_commands_and_options(
    tmp_path: Path, typed: str, expected: set[str]
) -> None:
    """What the script of `--install-completion` calls when Tab is pressed."""
    code = "import sys; sys.argv[0] = 'faceswap'; from faceswap_cli.__main__ import main; main()"
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | words | {"_FACESWAP_COMPLETE": "complete_bash"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert expected == set(done.stdout.split())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        ImportError("cv2.abi3.so: failed to map segment from shared object"),
    ],
)
def test_a_full_memory_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever library says so."""

    def diagnose(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("faceswap_cli.stages.doctor.diagnose", diagnose)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 5
    assert done.stderr.startswith("error: the memory of this computer is full")
    assert done.stderr.count("\n") == 2
