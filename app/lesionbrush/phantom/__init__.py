"""A chest of simple shapes, for demonstrations and tests."""
