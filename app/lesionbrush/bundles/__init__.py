"""A model folder as a MONAI bundle."""
