"""What `run.py` can do, by what one wants, in a line each.

`run.py` reads this before anything is installed, so nothing is imported here.
"""

from __future__ import annotations

GROUPS = {
    "Make a CT": {
        "demo": "a chest phantom gets a lesion over a real server: CT and pictures",
        "synthesize": "a CT and a mask in, the CT with the lesion out",
        "generate": "a whole new CT with its labels",
        "layout": "organs enlarged, moved or taken out in a label volume",
        "transfer": "lesion masks of one patient carried into another, with synthetic CTs",
    },
    "Look": {
        "montage": "reference, mask and result side by side",
        "lungs": "both lungs of a chest CT",
        "anatomy-masks": "lobes, airways and vessels of a chest CT",
        "describe": "a report of a chest CT, written from measurements",
    },
    "Many cases": {
        "cohort": "annotated cases from one specification: plan, run, verify, export",
        "export": "a synthetic CT and its mask as DICOM, generated CTs for nnU-Net",
    },
    "Serve": {
        "serve": "the server for 3D Slicer and other clients",
        "bench": "how long a request takes, phase by phase",
    },
    "Models": {
        "models": "which are installed, their parameters, whether their weights are whole",
        "train": "train one",
        "evaluate": "measure one on patients it never saw",
        "anatomy": "anatomy maps for mDDPM: fit, sample, draw",
        "annotate": "structures of CTs without annotations, learned from synthetic pairs",
        "variations": "one lesion, followed more and less strictly by mDDPM, as a sheet",
    },
}
"""A heading, then its commands. Each is a module of this package, with `_` where its name has `-`."""


def list_commands(groups: dict[str, dict[str, str]]) -> str:
    """Heading by heading, a command a line."""
    width = max(len(name) for commands in groups.values() for name in commands)
    lines = []
    for heading, commands in groups.items():
        lines += ["", heading, *(f"  {name:{width}}  {text}" for name, text in commands.items())]
    return "\n".join(lines[1:])
