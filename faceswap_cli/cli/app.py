"""Parse what was typed, call a stage, show the result. Nothing else."""


def main() -> None:
    """Run the command line."""
