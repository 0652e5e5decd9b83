"""Commands that check something and change nothing."""
