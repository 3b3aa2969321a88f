"""MedSyn's own networks, for users who were given their weights: their layers, their chests, their files."""
