"""Generated CTs with their labels as a dataset that nnU-Net takes: its rules, told again."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_kit import Command
from core_fixtures import grid
from lesionbrush.core.generate import generate
from lesionbrush.core.inputs import Inputs, Layout
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import write_volume
from lesionbrush.files.layouts import write_layout
from lesionbrush.systems.semantic.request import SemanticWholeRequest
from lesionbrush.systems.semantic.whole import SemanticWhole
from semantic_kit import painting
from test_promise import TURNS
from test_semantic_whole import with_body

pytest_plugins = "cli_fixtures"


@pytest.fixture
def generated(tmp_path: Path) -> list[Path]:
    """Two whole CTs as `generate` writes them, of another grid and other organs each."""
    paths = []
    for name, turn, without in (("new-1", "RAS", 1), ("new-2", "sagittal", 3)):
        whole = with_body()
        labels = np.where(whole.labels.array == without, 20, whole.labels.array)
        layout = Layout(Volume(labels, grid((5.0, 5.0, 5.0), TURNS[turn])), whole.names)
        wish, given = SemanticWholeRequest(steps=1), Inputs(layout=layout)
        (made,) = generate(wish, SemanticWhole(painting()), given)
        assert made.layout is not None
        paths.append(tmp_path / f"{name}.nii.gz")
        write_volume(made.ct, paths[-1], made.provenance.note)
        write_layout(made.layout, tmp_path / f"{name}_labels.nii.gz", made.provenance.note)
    return paths


def require_nnunet(folder: Path) -> dict[str, int]:
    """As nnU-Net v2 looks at a dataset before it plans: names, numbers, and every image with its label."""
    about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    ending, labels = about["file_ending"], about["labels"]
    assert sorted(labels.values()) == list(range(len(labels)))
    assert labels["background"] == 0
    cases = sorted(path.name.removesuffix(ending) for path in (folder / "labelsTr").iterdir())
    images = sorted(path.name for path in (folder / "imagesTr").iterdir())
    assert images == [
        f"{case}_{int(channel):04}{ending}" for case in cases for channel in about["channel_names"]
    ]
    assert len(cases) == about["numTraining"]
    for case in cases:
        image, label = (
            nib.load(folder / "imagesTr" / f"{case}_0000{ending}"),
            nib.load(folder / "labelsTr" / f"{case}{ending}"),
        )
        assert image.shape == label.shape
        assert np.allclose(image.header.get_zooms(), label.header.get_zooms())
        assert np.allclose(image.affine, label.affine)
        assert np.isfinite(image.get_fdata()).all()
        assert set(np.unique(label.get_fdata())) <= set(labels.values())
        assert b"GENERATED" in image.header["descrip"].item()
    found: dict[str, int] = labels
    return found


def test_generated_cts_pass_its_rules(command: Command, generated: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "Dataset501_New"
    outcome = command("export", "nnunet", "--ct", *generated, "-o", out)
    assert (outcome.code, outcome.err) == (0, "")
    labels = require_nnunet(out)
    organs = ["body", "left kidney", "liver", "right kidney", "spleen"]
    assert list(labels) == ["background", *organs]
    assert (
        f"2 CTs; 0 background, {', '.join(f'{n} {name}' for n, name in enumerate(organs, 1))}" in outcome.out
    )
    for path, missing in zip(generated, ("spleen", "left kidney"), strict=True):
        made = nib.load(out / "labelsTr" / path.name).get_fdata()
        assert set(np.unique(made)) == set(labels.values()) - {labels[missing]}
        assert np.array_equal(
            nib.load(out / "imagesTr" / f"{path.name[:5]}_0000.nii.gz").get_fdata(),
            nib.load(path).get_fdata(),
        )


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("New", (), "call it DatasetNNN_Name"),
        ("Dataset501_New", ("--deidentify",), "nnunet: --ct and -o are all that is needed"),
    ],
)
def test_refusals(
    command: Command, generated: list[Path], tmp_path: Path, name: str, more: tuple[str, ...], said: str
) -> None:
    outcome = command("export", "nnunet", "--ct", generated[0], "-o", tmp_path / name, *more)
    assert outcome.code == 2
    assert said in outcome.one_line
    assert not (tmp_path / name).exists()


def test_a_ct_without_labels_or_with_those_of_another_is_refused(
    command: Command, generated: list[Path], tmp_path: Path
) -> None:
    out, beside = tmp_path / "Dataset501_New", tmp_path / "new-2_labels.nii.gz"
    write_layout(Layout(Volume(np.ones((4, 4, 4), np.uint8), np.eye(4)), {1: "body"}), beside)
    outcome = command("export", "nnunet", "--ct", *generated, "-o", out)
    assert "the labels is 4 x 4 x 4 voxels" in outcome.one_line
    beside.unlink()
    outcome = command("export", "nnunet", "--ct", *generated, "-o", out)
    assert "new-2_labels.nii.gz is missing beside new-2.nii.gz: generate writes both" in outcome.one_line
    assert not out.exists()


def test_dicom_takes_one(command: Command, generated: list[Path], tmp_path: Path) -> None:
    outcome = command("export", "dicom", "--ct", *generated, "-o", tmp_path / "out")
    assert "dicom: 2 CTs were given; a series is made of one" in outcome.one_line
