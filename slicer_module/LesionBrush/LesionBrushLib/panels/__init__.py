"""The six steps of the panel, from top to bottom."""
