"""The findings that a text is read for, as numbers of about the same spread. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from lesionbrush.reports.findings import ChestFindings

READ: Mapping[str, tuple[float, float]] = {
    "effusion_right_ml": (0.0, 500.0),
    "effusion_left_ml": (0.0, 500.0),
    "laa950_percent": (0.0, 15.0),
    "cardiothoracic_ratio": (0.5, 0.1),
    "consolidation_ml": (0.0, 100.0),
}
"""What is read off a prompt: findings, each with what is taken off it and by what it is divided."""
MOST_READ = 3.0


def scale_findings(findings: ChestFindings) -> list[float]:
    """In the order of READ; nan where nothing was measured."""
    scaled = []
    for name, (middle, spread) in READ.items():
        value = getattr(findings, name).value
        scaled.append(float("nan") if value is None else min((value - middle) / spread, MOST_READ))
    return scaled
