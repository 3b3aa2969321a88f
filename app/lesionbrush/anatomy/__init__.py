"""Anatomy found in a CT by thresholds and shapes, for every system that asks for it."""
