"""What `faceswap` says without a command: the demo, the three stages, and where this folder is."""

from pathlib import Path

from faceswap_cli.cli.view.next_step import WORKSPACE, next_command

GREETING = """\
faceswap swaps faces in video with models you train on your own footage.

Try it without any footage, in some minutes:
  faceswap demo

With two clips, one of each person:
  1  faceswap extract a.mp4 b.mp4              finds the faces
  2  faceswap train --model autoencoder a b    trains a network on both
  3  faceswap convert a.mp4                    puts b's face into a's clip
"""
END = """\
faceswap open shows what came out. faceswap --help lists all commands.
Swap only the faces of people who agree to it."""


def greeting() -> str:
    """Return the greeting in the current folder, with the next command if a workspace is there."""
    state = _workspace_state(Path(WORKSPACE))
    return "\n".join([GREETING, *([state, ""] if state else []), END])


def _workspace_state(root: Path) -> str:
    """Return what a workspace holds, and what to type next; empty if there is nothing in it.

    A workspace that cannot be read is no reason not to greet.
    """
    from faceswap_cli.core.errors import FaceswapError
    from faceswap_cli.core.workspace import Workspace

    try:
        space = Workspace.from_path(root)
        command = next_command(space)
        sets, runs = space.set_names(), space.run_names()
    except (FaceswapError, OSError):
        return ""
    if not sets:
        return ""
    line = f"In {root}/: sets {', '.join(sets)}; runs {', '.join(runs) or 'none'}."
    return "\n".join([line, *([f"Next: {command}"] if command else [])])
