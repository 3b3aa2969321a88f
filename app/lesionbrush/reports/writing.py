"""Measurements in sentences, as a radiologist might dictate them: several ways to say each, one is drawn.

No sentence has a number that was not measured; what could not be measured is said so, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np

from lesionbrush.reports.findings import ChestFindings, Measurement, NoduleFinding

ReportPart = Literal[
    "technique", "lungs", "emphysema", "heart", "effusion", "consolidation", "airways", "nodules"
]
PARTS: tuple[ReportPart, ...] = get_args(ReportPart)
EFFUSION_ML = (10.0, 300.0, 1000.0)  # none below the first, then small, moderate, large
EMPHYSEMA_PERCENT = (5.0, 15.0)
WIDE_HEART = 0.5
LEAST_DENSE_ML = 5.0

UNMEASURED = ("{what} not measured: {why}.", "{what} could not be measured: {why}.")
TECHNIQUE = (
    "Slices every {slice:g} mm, noise {noise:.0f} HU.",
    "CT of the chest, one slice every {slice:g} mm; noise of {noise:.0f} HU in soft tissue.",
)
SLICES_ONLY = ("Slices every {slice:g} mm.", "CT of the chest, one slice every {slice:g} mm.")
VOLUMES = (
    "Lung volumes: right {right:.0f} ml, left {left:.0f} ml.",
    "The right lung has {right:.0f} ml, the left {left:.0f} ml.",
    "Right lung {right:.0f} ml, left lung {left:.0f} ml, {total:.0f} ml together.",
)
ONE_LUNG = ("The {side} lung has {ml:.0f} ml.", "{Side} lung: {ml:.0f} ml.")
CUT_VOLUMES = (
    "Lung in this volume, which cuts {cut}: right {right:.0f} ml, left {left:.0f} ml.",
    "In this volume, which cuts {cut}, lie {right:.0f} ml of the right lung and {left:.0f} ml of the left.",
)
CUT_LUNG = (
    "{ml:.0f} ml of the {side} lung lie in this volume, which cuts it.",
    "{Side} lung in this volume, which cuts it: {ml:.0f} ml.",
)
EMPHYSEMA = {
    "none": (
        "No emphysema: {value:.1f} % of the lung below -950 HU.",
        "There is no emphysema (LAA-950 {value:.1f} %).",
        "No low attenuation to speak of, %LAA-950 is {value:.1f}.",
    ),
    "some": (
        "Emphysema: {value:.1f} % of the lung below -950 HU.",
        "There is emphysema (LAA-950 {value:.1f} %).",
    ),
    "marked": (
        "Marked emphysema: {value:.1f} % of the lung below -950 HU.",
        "There is extensive emphysema (LAA-950 {value:.1f} %).",
    ),
}
HEART = {
    False: (
        "The heart is not enlarged: cardiothoracic ratio {ratio:.2f} ({heart:.0f} of {chest:.0f} mm).",
        "Heart of normal width, {heart:.0f} mm in a chest of {chest:.0f} mm (ratio {ratio:.2f}).",
        "No cardiomegaly (cardiothoracic ratio {ratio:.2f}).",
    ),
    True: (
        "The heart is enlarged: cardiothoracic ratio {ratio:.2f} ({heart:.0f} of {chest:.0f} mm).",
        "Cardiomegaly, {heart:.0f} mm in a chest of {chest:.0f} mm (ratio {ratio:.2f}).",
        "There is cardiomegaly (cardiothoracic ratio {ratio:.2f}).",
    ),
}
NO_EFFUSION = (
    "No {side}pleural effusion.",
    "There is no {side}pleural effusion.",
    "No fluid is seen in the {side}pleural space.",
)
EFFUSION = (
    "{Size} {side} pleural effusion of {ml:.0f} ml.",
    "There is a {size} {side} pleural effusion ({ml:.0f} ml).",
)
NO_DENSE = (
    "No consolidation.",
    "There is no consolidation within the lungs as outlined.",
    "No dense lung is seen.",
)
DENSE = (
    "Consolidation or mass within the lungs, {ml:.0f} ml.",
    "There is dense lung (consolidation or mass) of {ml:.0f} ml.",
)
AIRWAYS = (
    "Trachea and bronchi are followed over {ml:.0f} ml.",
    "The airways are open as far as they are followed ({ml:.0f} ml).",
)
NO_NODULES = ("No nodule.", "There is no nodule.", "No pulmonary nodule is marked.")
NODULE = (
    "{Texture} nodule of {long:.0f} x {short:.0f} mm {place}, mean {hu:.0f} HU.",
    "There is a {texture} nodule {place}, {long:.0f} mm long and {short:.0f} mm wide ({hu:.0f} HU).",
    "Nodule {place}: {texture}, {long:.0f} x {short:.0f} mm, {ml:.2f} ml.",
)


def write_report(
    findings: ChestFindings,
    generator: np.random.Generator,
    *,
    parts: Sequence[ReportPart] = PARTS,
    drop: float = 0.0,
) -> str:
    """One line for each part, in the order of `parts`.

    drop: the chance of each part to be left out, for training on text. Nodules that nobody looked for have no
    line. Equal generators give equal texts.
    """
    dictation = _Dictation(generator)
    lines = [dictation.write(part, findings) for part in parts if generator.random() >= drop]
    return "\n".join(line for line in lines if line)


def size_of_effusion(ml: float) -> str:
    """none, small, moderate or large."""
    return ("none", "small", "moderate", "large")[int(np.searchsorted(EFFUSION_ML, ml, side="right"))]


class _Dictation:
    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator

    def write(self, part: ReportPart, findings: ChestFindings) -> str:
        ways: dict[ReportPart, Callable[[ChestFindings], str]] = {
            "technique": self._technique,
            "lungs": self._lungs,
            "emphysema": self._emphysema,
            "heart": self._heart,
            "effusion": self._effusion,
            "consolidation": self._consolidation,
            "airways": self._airways,
            "nodules": self._nodules,
        }
        return ways[part](findings)

    def _say(self, ways: Sequence[str], **values: object) -> str:
        return ways[int(self._generator.integers(len(ways)))].format(**values)

    def _unmeasured(self, what: str, one: Measurement) -> str:
        return self._say(UNMEASURED, what=what, why=one.why_not)

    def _technique(self, findings: ChestFindings) -> str:
        noise = findings.noise_hu.value
        if noise is None:
            said = self._say(SLICES_ONLY, slice=findings.slice_mm)
            return f"{said} {self._unmeasured('Noise', findings.noise_hu)}"
        return self._say(TECHNIQUE, slice=findings.slice_mm, noise=noise)

    def _lungs(self, findings: ChestFindings) -> str:
        right, left, cut = findings.right_lung_ml, findings.left_lung_ml, findings.cut_lungs
        if right.value is not None and left.value is not None:
            values = {"right": right.value, "left": left.value, "total": right.value + left.value}
            which = "both lungs" if len(cut) > 1 else f"the {''.join(cut)} lung"
            return self._say(CUT_VOLUMES if cut else VOLUMES, **values, cut=which)
        said = [
            self._unmeasured(f"{side.capitalize()} lung", one)
            if one.value is None
            else self._say(
                CUT_LUNG if side in cut else ONE_LUNG, side=side, Side=side.capitalize(), ml=one.value
            )
            for side, one in (("right", right), ("left", left))
        ]
        return " ".join(said)

    def _emphysema(self, findings: ChestFindings) -> str:
        value = findings.laa950_percent.value
        if value is None:
            return self._unmeasured("Emphysema", findings.laa950_percent)
        some, marked = EMPHYSEMA_PERCENT
        grade = "none" if value < some else "some" if value < marked else "marked"
        return self._say(EMPHYSEMA[grade], value=value)

    def _heart(self, findings: ChestFindings) -> str:
        ratio = findings.cardiothoracic_ratio.value
        if ratio is None:
            return self._unmeasured("Cardiothoracic ratio", findings.cardiothoracic_ratio)
        heart, chest = findings.heart_width_mm.value, findings.chest_width_mm.value
        return self._say(HEART[ratio > WIDE_HEART], ratio=ratio, heart=heart, chest=chest)

    def _effusion(self, findings: ChestFindings) -> str:
        sides = {"right": findings.effusion_right_ml, "left": findings.effusion_left_ml}
        if all(one.value is not None and size_of_effusion(one.value) == "none" for one in sides.values()):
            return self._say(NO_EFFUSION, side="")
        return " ".join(self._effusion_of(side, one) for side, one in sides.items())

    def _effusion_of(self, side: str, one: Measurement) -> str:
        if one.value is None:
            return self._unmeasured(f"{side.capitalize()} pleural effusion", one)
        size = size_of_effusion(one.value)
        if size == "none":
            return self._say(NO_EFFUSION, side=f"{side} ")
        return self._say(EFFUSION, size=size, Size=size.capitalize(), side=side, ml=one.value)

    def _consolidation(self, findings: ChestFindings) -> str:
        ml = findings.consolidation_ml.value
        if ml is None:
            return self._unmeasured("Consolidation", findings.consolidation_ml)
        return self._say(NO_DENSE) if ml < LEAST_DENSE_ML else self._say(DENSE, ml=ml)

    def _airways(self, findings: ChestFindings) -> str:
        ml = findings.airways_ml.value
        return self._unmeasured("Airways", findings.airways_ml) if ml is None else self._say(AIRWAYS, ml=ml)

    def _nodules(self, findings: ChestFindings) -> str:
        if findings.nodules is None:
            return ""
        return " ".join(map(self._nodule, findings.nodules)) or self._say(NO_NODULES)

    def _nodule(self, nodule: NoduleFinding) -> str:
        truth = nodule.truth
        return self._say(
            NODULE,
            texture=nodule.texture,
            Texture=nodule.texture.capitalize(),
            long=truth.long_axis_mm,
            short=truth.short_axis_mm,
            ml=truth.volume_ml,
            hu=truth.mean_hu,
            place=f"in the {_spoken(nodule.lobe)}" if nodule.lobe else "outside the lungs as outlined",
        )


def _spoken(lobe: str) -> str:
    """ "right lung upper lobe" is spoken as "right upper lobe"; a whole lung keeps its name."""
    return lobe.replace(" lung", "") if lobe.endswith("lobe") else lobe
