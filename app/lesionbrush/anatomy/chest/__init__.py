"""Lobes, airways and vessels of a chest CT, by thresholds, filters and fitted surfaces, without weights."""
