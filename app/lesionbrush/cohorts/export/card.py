"""The card of an exported dataset: what it is, how it was made, whose it is, what it is for and not for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from lesionbrush import __version__
from lesionbrush.cohorts.export.names import ExportedCase
from lesionbrush.cohorts.export.tables import edits_of
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.records import LesionRecord
from lesionbrush.core.provenance import Provenance

CARD = "README.md"


def write_card(folder: CohortFolder, cases: Sequence[ExportedCase], whole: bool) -> str:
    """In Markdown. whole: CTs, not boxes."""
    return (
        "\n".join([*_what(folder, cases, whole), *_how(folder, cases), *_figures(cases), *_use(folder)])
        + "\n"
    )


def licenses_of(folder: CohortFolder) -> str:
    """Of the references, in one line."""
    return "; ".join(sorted({one.license for one in folder.references}))


def _what(folder: CohortFolder, cases: Sequence[ExportedCase], whole: bool) -> Iterator[str]:
    specification = folder.specification
    splits = Counter(case.record.split for case in cases)
    records = {case.record.id: case.record for case in cases}
    lesions = Counter(record.kind for record in records.values() for _ in record.lesions)
    yield f"# {specification.name}"
    yield ""
    yield specification.description or "Synthetic lesions in CT, with masks."
    yield ""
    yield f"- {len(cases)} images: " + ", ".join(f"{count} {name}" for name, count in sorted(splits.items()))
    if lesions["removal"]:
        yield f"- {lesions['removal']} real lesions, each also taken out of its CT, in a healthy twin"
    twins = sum(case.healthy for case in cases)
    yield f"- {lesions['lesions']} synthetic lesions; {twins} images are healthy twins"
    yield f"- images are {'whole CTs' if whole else 'boxes around the lesions'}, int16 HU; label 1 is lesion"
    missing = len(folder.cases) - len(records)
    if missing:
        yield f"- {missing} of {len(folder.cases)} planned cases could not be made and are not in it"
    yield "- splits are by patient: all images of one patient are in one split"


def _how(folder: CohortFolder, cases: Sequence[ExportedCase]) -> Iterator[str]:
    specification = folder.specification
    yield ""
    yield "## How it was made"
    yield ""
    yield (
        f"By LesionBrush {__version__} from one specification, seed {specification.seed}: lesions are drawn "
        "or carried over by their masks, placed in organs, and filled by a model. Every voxel outside the "
        "edit region is the reference CT's, bit by bit. `provenance/` has a record for each image, "
        "`truth.csv` what was asked for and what was measured afterwards."
    )
    if specification.healthy_twins != "none":
        how = {
            "untouched": "the reference itself, a real CT without a synthetic lesion",
            "healed": "the same edit regions filled with healthy tissue by the same model",
        }[specification.healthy_twins]
        yield ""
        yield f"Healthy twins (`..._healthy`) are {how}."
    yield ""
    yield "| model | weights' licence | attribution |"
    yield "| --- | --- | --- |"
    edits = [edit for case in cases if not case.healthy for edit in edits_of(case.record)]
    for model, edit in sorted({edit.model: edit for edit in edits}.items()):
        yield f"| {model} | {edit.weights_license} | {_in_cell(edit)} |"
    yield ""
    counts = Counter(one.license for one in folder.references)
    listed = "; ".join(f"{count} CTs: {license_}" for license_, count in sorted(counts.items()))
    yield f"Licences of the references: {listed}. Their terms hold for the images of this dataset too."


def _in_cell(edit: Provenance) -> str:
    return " ".join(edit.attribution.replace("|", "/").split())


def _figures(cases: Sequence[ExportedCase]) -> Iterator[str]:
    lesions = [one for case in cases if not case.healthy for one in case.record.lesions]
    if not lesions:
        return
    yield ""
    yield "## Figures"
    yield ""
    yield "| measured | 10 % | median | 90 % |"
    yield "| --- | --- | --- | --- |"
    for name in ("volume_ml", "long_axis_mm", "short_axis_mm", "mean_hu", "contrast_hu"):
        yield _figure(name, [getattr(one.truth, name) for one in lesions])
    yield _figure("seam_hu", [case.record.seam_hu for case in cases if case.record.lesions])
    yield _figure("off_hu", [one.off_hu for one in lesions])
    yield ""
    yield (
        "`seam_hu`: how much larger steps between voxels are where an edit ends; `off_hu`: how far HU are "
        "from those asked for. The contact sheet shows the worst of both first."
    )
    organs = Counter(_organ(one) for one in lesions)
    yield ""
    yield "Lesions: " + ", ".join(f"{count} in {organ}" for organ, count in sorted(organs.items())) + "."


def _organ(one: LesionRecord) -> str:
    return one.organ


def _figure(name: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return f"| {name} | | | |"
    return f"| {name} | " + " | ".join(f"{q:.4g}" for q in np.quantile(known, (0.1, 0.5, 0.9))) + " |"


def _use(folder: CohortFolder) -> Iterator[str]:
    yield ""
    yield "## Intended use, and limits"
    yield ""
    yield "- For training and testing of software, and for teaching. Not for diagnosis; no medical device."
    yield "- Whether it helps a task has to be measured on real patients that no part of it has seen."
    yield (
        "- Names and tables carry no patient and no path, but the voxels around lesions are a patient's: "
        "whoever passes the images on needs the right to do so for the references."
    )
    yield "- Lesions look as their models have learned or drawn them; the models' cards say where they fail."
    yield "- Organs are those of the label volumes, or lungs found by thresholds: not corrected by hand here."
    if any(rule.transfer is not None for rule in folder.specification.findings):
        yield "- Masks of donors are in all splits: shapes of one donor can be in training and in test."
