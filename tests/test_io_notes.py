"""What a file says of itself: that it is synthetic goes through all formats, and into what is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from core_fixtures import QUICK, ball, make_ct, tiny_model
from dicom_fixtures import Series, write_series
from lesionbrush.core.provenance import EDITED, GENERATED, MARK, MARK_GENERATED, Provenance
from lesionbrush.core.synthesize import synthesize
from lesionbrush.core.volume import Volume
from lesionbrush.files.dicom.headers import SYNTHETIC_DATA
from lesionbrush.files.io import read_volume, write_volume
from pydicom.dataset import Dataset
from volume_fixtures import SUFFIXES, random_hu

EDIT_NOTE, GENERATED_NOTE = f"{MARK} 1.0 tiny seed 4", f"{MARK_GENERATED} 1.0 maker seed 4"


@pytest.mark.parametrize("first", SUFFIXES)
@pytest.mark.parametrize("second", SUFFIXES)
def test_goes_from_format_to_format(tmp_path: Path, first: str, second: str) -> None:
    write_volume(Volume(random_hu(), np.eye(4)), tmp_path / f"a{first}", EDIT_NOTE)
    write_volume(read_volume(tmp_path / f"a{first}"), tmp_path / f"b{second}")
    assert read_volume(tmp_path / f"b{second}").source.note == EDIT_NOTE


def test_another_note_replaces_it(tmp_path: Path) -> None:
    write_volume(Volume(random_hu(), np.eye(4)), tmp_path / "a.nrrd", EDIT_NOTE)
    write_volume(read_volume(tmp_path / "a.nrrd"), tmp_path / "b.nii", GENERATED_NOTE)
    assert read_volume(tmp_path / "b.nii").source.note == GENERATED_NOTE


def test_what_others_write_there_is_none(tmp_path: Path) -> None:
    image = nib.Nifti1Image(random_hu(), np.eye(4))
    image.header["descrip"] = b"Dr. Doe\xff"
    image.to_filename(tmp_path / "a.nii")
    assert read_volume(tmp_path / "a.nii").source.note == ""


@pytest.mark.parametrize(
    ("tags", "note"),
    [
        ({}, ""),
        ({"SeriesDescription": "Thorax 2.0"}, ""),
        ({"SeriesDescription": f"{MARK} tiny: Thorax 2.0"}, f"{MARK} tiny"),
        ({"SeriesDescription": "renamed", "ImageComments": f"{MARK}. {EDITED}"}, f"{MARK}. {EDITED}"),
        (
            {"SeriesDescription": f"{MARK} tiny", "ImageComments": f"{MARK_GENERATED}. {GENERATED}"},
            f"{MARK_GENERATED}. {GENERATED}",
        ),
        ({SYNTHETIC_DATA: "NO"}, ""),
        ({SYNTHETIC_DATA: "YES"}, "SYNTHETIC, as Synthetic Data (0008,001C) says"),
    ],
    ids=["nothing", "real", "edit", "renamed", "generated", "not synthetic", "of others"],
)
def test_a_dicom_series_says_it_in_its_tags(tmp_path: Path, tags: dict[object, str], note: str) -> None:
    def edit(_: int, header: Dataset) -> None:
        for key, text in tags.items():
            if isinstance(key, str):
                setattr(header, key, text)
            else:
                header.add_new(key, "CS", text)

    write_series(tmp_path / "series", Series(random_hu(), edit=edit))
    assert read_volume(tmp_path / "series").source.note == note


class TestMadeFromIt:
    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[..., Provenance]:
        def make(note: str, made_from: Provenance | None = None) -> Provenance:
            write_volume(make_ct(), tmp_path / "ct.nii.gz", note)
            ct = read_volume(tmp_path / "ct.nii.gz")
            mask = ball(ct, (20, 17, 14), 6.0)
            (made,) = synthesize(ct, mask, QUICK, tiny_model(), made_from=made_from)
            return made.provenance

        return make

    def test_a_synthetic_ct_without_its_record_is_told(self, make) -> None:
        made = make(EDIT_NOTE)
        told = [remark for remark in made.remarks if "synthetic itself" in remark]
        assert told == [f"CT: it is synthetic itself ({EDIT_NOTE}); its record was not sent"]
        assert (made.generated, made.notice) == (False, EDITED)

    def test_a_generated_one_makes_the_result_generated(self, make) -> None:
        made = make(GENERATED_NOTE)
        assert sum("its record was not sent" in remark for remark in made.remarks) == 1
        assert (made.generated, made.notice) == (True, GENERATED)
        assert made.note.startswith(MARK_GENERATED)

    def test_also_where_a_record_says_nothing_of_it(self, make) -> None:
        made = make(GENERATED_NOTE, made_from=make(""))
        assert made.generated
        assert not [remark for remark in made.remarks if "synthetic itself" in remark]

    def test_a_record_that_was_sent_is_enough(self, make) -> None:
        made = make(EDIT_NOTE, made_from=make(""))
        assert not made.generated
        assert not [remark for remark in made.remarks if "synthetic itself" in remark]

    def test_of_a_real_ct_nothing_is_said(self, make) -> None:
        made = make("")
        assert not made.generated
        assert not [remark for remark in made.remarks if "synthetic" in remark]
