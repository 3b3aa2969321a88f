"""LesionBrush: paint a lesion on a CT, get the same CT with that lesion in it."""

__version__ = "0.1.0"
