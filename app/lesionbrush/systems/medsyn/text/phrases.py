"""How people who type a prompt call what `ChestFindings` measures. The first way of each is said most often.

What an encoder knows is what can be said here and in reports: a synonym belongs here.
"""

from __future__ import annotations

from dataclasses import dataclass

PRESENT = (
    "{it}",
    "there is {it}",
    "there are {it}",
    "{it} is seen",
    "{it} seen",
    "{it} is present",
    "CT shows {it}",
    "chest CT with {it}",
    "CT of a patient with {it}",
    "evidence of {it}",
    "findings of {it}",
    "a {it}",
    "with {it}",
    "the patient has {it}",
    "CT scan with {it}",
    "CT of the thorax with {it}",
    "{it} are present",
    "{it} is noted",
)
ABSENT = (
    "no {it}",
    "there is no {it}",
    "no evidence of {it}",
    "without {it}",
    "without any {it}",
    "{it} is absent",
    "absent {it}",
    "{it} is not seen",
    "no {it} is seen",
    "{it} not present",
    "there is not any {it}",
    "negative for {it}",
    "free of {it}",
    "no sign of {it}",
    "no signs of {it}",
    "the patient has no {it}",
    "lack of {it}",
    "no {it} are seen",
    "no {it} is present",
)
BUT_NO = ("{it} without {no}", "{it}, no {no}", "{it} but no {no}", "{it}. No {no}", "{it}, without {no}")
AND = ("{it} and {also}", "{it} with {also}", "{it}, {also}", "{it}. {also}", "{it}; {also}")
OTHERWISE = ("otherwise normal", "otherwise unremarkable", "otherwise normal chest", "no other findings")
NORMAL = (
    "normal chest CT",
    "normal chest",
    "normal CT of the chest",
    "unremarkable chest CT",
    "unremarkable CT",
    "normal study",
    "normal findings",
    "no abnormality",
    "no abnormal findings",
    "the chest is normal",
    "healthy chest",
    "nothing abnormal is seen",
)

SIZES = {
    "small": ("small", "mild", "minor", "trace", "little", "minimal", "slight", "tiny"),
    "moderate": ("moderate", "medium", "moderately large", "moderate sized"),
    "large": ("large", "massive", "huge", "marked", "big", "extensive", "severe", "very large"),
}
EFFUSION = (
    "pleural effusion",
    "effusion",
    "pleural effusions",
    "effusions",
    "pleural fluid",
    "hydrothorax",
    "fluid in the pleural space",
    "pleural fluid collection",
)
EFFUSION_ON = (
    "{side} {it}",
    "{it} on the {side}",
    "{side}-sided {it}",
    "{side} sided {it}",
    "{it} on the {side} side",
    "{it} of the {side} lung",
    "{it} in the {side} hemithorax",
)
BOTH_SIDES = ("bilateral {it}", "{it} on both sides", "{it} bilaterally", "both {it}", "right and left {it}")
ONE_SIDE = ("{it} only on the {side}", "unilateral {side} {it}", "{side} {it} only")
LARGER_ON = ("{it}, larger on the {side}", "{it}, greater on the {side}", "{it}, {side} more than {other}")

NO_EMPHYSEMA = (
    "emphysema",
    "emphysematous change",
    "emphysematous changes",
    "bullae",
    "bullous emphysema",
    "low attenuation areas",
    "areas of low attenuation",
    "low attenuation",
    "COPD",
)
EMPHYSEMA = {
    "some": (
        "emphysema",
        "mild emphysema",
        "moderate emphysema",
        "some emphysema",
        "slight emphysema",
        "emphysematous change",
        "mild emphysematous changes",
        "emphysematous lungs",
        "mildly emphysematous lungs",
        "areas of low attenuation",
        "some low attenuation",
        "COPD",
    ),
    # Density alone does not tell bullae from other emphysema; the paper measures them by it, too.
    "marked": (
        "severe emphysema",
        "marked emphysema",
        "emphysema",
        "extensive emphysema",
        "advanced emphysema",
        "large emphysema",
        "massive emphysema",
        "bullous emphysema",
        "bullae",
        "large bullae",
        "severe emphysematous changes",
        "severely emphysematous lungs",
        "the lungs are markedly emphysematous",
        "emphysematous lungs",
        "extensive areas of low attenuation",
        "severe COPD",
    ),
}
NO_CARDIOMEGALY = ("cardiomegaly", "cardiac enlargement", "enlargement of the heart", "enlarged heart")
NORMAL_HEART = (
    "normal heart size",
    "heart of normal size",
    "normal heart",
    "heart size is normal",
    "the heart is normal in size",
    "the heart is not enlarged",
    "heart not enlarged",
    "normal cardiac size",
    "normal size of the heart",
    "normal cardiac silhouette",
)
CARDIOMEGALY = (
    "cardiomegaly",
    "enlarged heart",
    "an enlarged heart",
    "cardiac enlargement",
    "the heart is enlarged",
    "heart is enlarged",
    "heart enlarged",
    "large heart",
    "big heart",
    "enlarged cardiac silhouette",
    "dilated heart",
    "the heart is large",
    "heart size is increased",
    "increased heart size",
)
GRADED_HEART = {
    "some": (
        "mild cardiomegaly",
        "slight cardiomegaly",
        "moderate cardiomegaly",
        "borderline cardiomegaly",
        "mildly enlarged heart",
        "the heart is slightly enlarged",
        "the heart is moderately enlarged",
    ),
    "marked": (
        "severe cardiomegaly",
        "marked cardiomegaly",
        "massive cardiomegaly",
        "gross cardiomegaly",
        "extensive cardiomegaly",
        "huge heart",
        "very large heart",
        "markedly enlarged heart",
        "the heart is severely enlarged",
    ),
}
LUNGS = {
    "small": (
        "small lungs",
        "low lung volumes",
        "small lung volumes",
        "reduced lung volumes",
        "decreased lung volumes",
        "low lung volume",
        "poor inspiration",
        "shallow inspiration",
        "volume loss of both lungs",
    ),
    "normal": (
        "normal lung volumes",
        "lungs of normal volume",
        "normal lung volume",
        "lung volumes are normal",
        "normal inspiration",
    ),
    "large": (
        "large lungs",
        "hyperinflated lungs",
        "hyperinflation",
        "high lung volumes",
        "large lung volumes",
        "increased lung volumes",
        "overinflated lungs",
        "the lungs are hyperinflated",
        "deep inspiration",
        "expanded lungs",
    ),
}
ONE_LUNG = {
    "small": (
        "small {side} lung",
        "reduced volume of the {side} lung",
        "volume loss of the {side} lung",
        "low volume of the {side} lung",
        "collapsed {side} lung",
    ),
    "large": ("large {side} lung", "hyperinflated {side} lung", "high volume of the {side} lung"),
}
CONSOLIDATION = (
    "consolidation",
    "consolidations",
    "pneumonia",
    "pulmonary consolidation",
    "airspace consolidation",
    "dense lung",
    "airspace opacity",
    "opacities",
    "infiltrate",
    "infiltrates",
    "lung mass",
    "atelectasis",
)
CLEAR = ("clear lungs", "the lungs are clear", "lungs are clear", "lungs clear")


@dataclass(frozen=True)
class Statement:
    """One thing that is true of a chest, without a stop: what is there, or the noun of what is not.

    normal: whether it is of a healthy chest.
    """

    said: str
    absent: bool = False
    normal: bool = False

    @property
    def whole(self) -> bool:
        """It is a sentence by itself, which no other words fit."""
        return not {"is", "are"}.isdisjoint(self.said.split())
