"""What is looked at: pages in the user's browser."""
