"""`python -m faceswap_cli` is the same program as `faceswap`."""

from faceswap_cli.cli.app import main

if __name__ == "__main__":
    main()
