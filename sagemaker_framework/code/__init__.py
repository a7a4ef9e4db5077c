"""The user's code: where it comes from, and what it requires."""
