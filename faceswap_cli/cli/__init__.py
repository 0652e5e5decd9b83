"""The command line: commands, options, and output on the terminal."""
