"""Entry point of `faceswap` and `python -m faceswap_cli`."""

import sys

from faceswap_cli.core.errors import EXIT_INTERRUPTED


def main() -> None:
    """Run the command line; Ctrl-C prints one line, even while Python still imports it."""
    try:
        from faceswap_cli.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("stopped before anything was done", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
