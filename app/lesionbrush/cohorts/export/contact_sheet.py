"""The worst cases of a dataset first: reference with outline, and what was made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image

from lesionbrush.cohorts.export.names import ExportedCase
from lesionbrush.cohorts.planning import lesion_panel
from lesionbrush.core.volume import Volume
from lesionbrush.montage import Panel, sheet

CONTACT = "contact_sheet.png"
_SHOWN, _COLUMNS = 24, 6


@dataclass
class ContactSheet:
    """Chosen beforehand by their records; drawn as their CTs come by."""

    chosen: Sequence[ExportedCase]
    panels: dict[str, list[Panel]] = field(default_factory=dict)

    @classmethod
    def of(cls, cases: Sequence[ExportedCase], shown: int = _SHOWN) -> ContactSheet:
        """Those with the largest seam and the HU furthest from those asked for, the worst first."""
        own = [case for case in cases if not case.healthy and case.record.lesions]
        return cls(sorted(own, key=lambda case: (-case.record.worst, case.name))[:shown])

    def show(self, case: ExportedCase, reference: Volume, synthetic: Volume, mask: Volume) -> None:
        """mask: the label of each lesion, on the grid of both. Only the chosen are drawn."""
        if case not in self.chosen:
            return
        worst = max(case.record.lesions, key=lambda one: (one.off_hu or 0.0, one.truth.voxels))
        shown = mask.with_array((mask.array == worst.label).astype(np.uint8))
        before = lesion_panel(reference, mask, shown, f"{case.name}, {worst.organ}")
        off = "" if worst.off_hu is None else f", HU off by {worst.off_hu:.0f}"
        after = lesion_panel(synthetic, mask, shown, f"seam {case.record.seam_hu:.1f} HU{off}")
        self.panels[case.name] = [
            before,
            replace(after, outline=None, window=before.window, badge="SYNTHETIC"),
        ]

    def draw(self, title: str) -> Image.Image | None:
        panels = [panel for case in self.chosen for panel in self.panels.get(case.name, [])]
        return sheet(panels, min(_COLUMNS, len(panels)), title=title, panel_px=220) if panels else None
