"""A cohort that is made, for tests of its exports. Load with `pytest_plugins = "cohort_fixtures"`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import pytest
from cohort_kit import PATIENT, TWO_NODULES, begin, make_here, write_references
from lesionbrush.cohorts.folder import CohortFolder

pytest_plugins = "cli_fixtures"
SPLITS = {"train": 0.5, "val": 0.25, "test": 0.25}


@pytest.fixture(scope="session")
def cohort(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> CohortFolder:
    """Four patients of one case each, with healed twins; a CT's header names its patient."""
    base = tmp_path_factory.mktemp("cohort")
    write_references(base / "cts", 4)
    for ct in (base / "cts").glob("*_ct.nii.gz"):
        image = nibabel.load(ct)
        image.header["descrip"] = PATIENT.encode()
        image.header["db_name"] = PATIENT.encode()
        nibabel.save(image, ct)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LESIONBRUSH_MODELS", str(tiny_models))
        asked: dict[str, Any] = {"cases": {"per_reference": 1}, "splits": SPLITS, "findings": TWO_NODULES}
        folder = begin(base, base / "out", healthy_twins="healed", **asked)
        make_here(folder)
    return folder


@pytest.fixture(scope="session")
def nnunet(cohort: CohortFolder) -> Path:
    """Its export for nnU-Net."""
    from lesionbrush.cli.__main__ import main

    out = cohort.path.parent / "Dataset501_Tiny"
    assert main(["cohort", "export", str(cohort.path), "--format", "nnunet", "-o", str(out)]) == 0
    return out
