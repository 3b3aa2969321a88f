"""What steers a synthesis, by its kinds: read from files, checked before the work, found by its name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from core_fixtures import ball, box, grid, make_ct
from lesionbrush.core.inputs import OWN, Input, Inputs, Layout, check_inputs, require_accepted
from lesionbrush.core.volume import Volume
from lesionbrush.errors import DamagedFile, EmptyMask, GeometryMismatch, InvalidRequest
from lesionbrush.files.inputs import list_sent, read_inputs
from lesionbrush.files.io import write_volume
from volume_fixtures import itk_image

CT = make_ct((12, 10, 8))
ORGANS = Input("organs", "layout", "the organs with their names")
REPORT = Input("report", "text", "what a radiologist dictates")
OTHER = Input("other", "volume", "the CT of another case", on=OWN)
OTHER_MASK = Input("other_mask", "mask", "the lesion in the other CT", on="other")
ON_ORGANS = Input("vessels", "mask", "vessels on the grid of the organs", on="organs")
ALL = (ORGANS, REPORT, OTHER, OTHER_MASK, ON_ORGANS)
NAMES = {1: "liver", 4: "spleen", 7: "liver"}


def labels(reference: Volume = CT) -> Volume:
    """Two parts of the liver and a spleen."""
    array = np.zeros(reference.shape, np.uint8)
    array[1:4], array[5:7], array[8:9] = 1, 4, 7
    return reference.with_array(array)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_volume(labels(), tmp_path / "organs.nii.gz")
    return tmp_path / "organs.nii.gz"


def segmentation(path: Path, **said: str) -> Path:
    """A label volume with what 3D Slicer writes into its header."""
    image = itk_image(labels().array, CT.affine)
    for key, value in said.items():
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(path))
    return path


class TestLayoutsAreRead:
    @pytest.mark.parametrize(
        "table",
        [{"1": "liver", "4": "spleen", "7": "liver"}, {"1": " liver ", "4": "spleen\n", "7": "liver"}],
    )
    def test_with_a_table_of_names(self, file: Path, table: dict[str, str]) -> None:
        found = read_inputs({"organs": file, "organs_names": json.dumps(table)}, ALL).layout("organs")
        assert found is not None
        assert found.names == NAMES
        assert np.array_equal(found.labels.array, labels().array)
        assert np.array_equal(found.mask("liver"), np.isin(labels().array, (1, 7)))
        assert not found.mask("stomach").any()

    def test_with_a_table_the_other_way_round_in_a_file(self, file: Path, tmp_path: Path) -> None:
        (tmp_path / "names.json").write_text(
            '{"liver": 1, "spleen": 4, "Leber, Rest \u00fc": 7}', encoding="utf-8"
        )
        found = read_inputs({"organs": file, "organs_names": tmp_path / "names.json"}, ALL).layout("organs")
        assert found is not None
        assert found.names == {1: "liver", 4: "spleen", 7: "Leber, Rest \u00fc"}

    def test_a_segmentation_of_slicer_has_its_names_with_it(self, tmp_path: Path) -> None:
        said = {"Segment0_Name": "liver", "Segment0_LabelValue": "1", "Segment1_Name": "spleen"}
        said |= {"Segment1_LabelValue": "4", "Segment1_Color": "1 0 0", "Segment12_Name": "lost"}
        path = segmentation(tmp_path / "organs.seg.nrrd", **said)
        found = read_inputs({"organs": path}, ALL).layout("organs")
        assert found is not None
        assert found.names == {1: "liver", 4: "spleen"}
        np.testing.assert_allclose(found.labels.affine, CT.affine, atol=1e-6)

    def test_a_table_overrules_the_names_of_a_segmentation(self, tmp_path: Path) -> None:
        path = segmentation(tmp_path / "a.seg.nrrd", Segment0_Name="x", Segment0_LabelValue="1")
        found = read_inputs({"organs": path, "organs_names": '{"1": "liver"}'}, ALL).layout("organs")
        assert found is not None
        assert found.names == {1: "liver"}

    @pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
    def test_without_any_names_it_is_refused(self, tmp_path: Path, suffix: str) -> None:
        write_volume(labels(), tmp_path / f"a{suffix}")
        with pytest.raises(
            InvalidRequest, match=rf"^organs: a{suffix} does not say .* send a table of names"
        ):
            read_inputs({"organs": tmp_path / f"a{suffix}"}, ALL)

    @pytest.mark.parametrize(
        "table",
        [
            *("", "liver", "[]", "3", "null", '{"1": null}', '{"one": "liver"}', '{"liver": [1]}'),
            *(
                '{"liver": 1.5}',
                '{"liver": true}',
                '{"liver": 1e999}',
                '{"1": " "}',
                '{"": 1}',
                "[" * 100_000,
            ),
        ],
    )
    def test_what_is_no_table_is_refused(self, file: Path, table: str) -> None:
        with pytest.raises(
            InvalidRequest, match=r"^organs: the names of labels .* are no JSON table such as"
        ):
            read_inputs({"organs": file, "organs_names": table}, ALL)

    def test_two_names_of_one_label_are_refused(self, file: Path) -> None:
        with pytest.raises(InvalidRequest, match=r"organs: .* call one label by two names"):
            read_inputs({"organs": file, "organs_names": '{"liver": 1, "spleen": 1}'}, ALL)

    def test_fractions_are_no_labels(self, tmp_path: Path) -> None:
        sitk.WriteImage(itk_image(labels().array + np.float32(0.5), CT.affine), str(tmp_path / "a.mha"))
        with pytest.raises(InvalidRequest, match=r"organs: a\.mha holds float32 values; labels are whole"):
            read_inputs({"organs": tmp_path / "a.mha", "organs_names": '{"1": "liver"}'}, ALL)

    def test_a_damaged_file_is_refused_under_its_name(self, tmp_path: Path) -> None:
        (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\nwhat")
        with pytest.raises(DamagedFile, match=r"^organs: "):
            read_inputs({"organs": tmp_path / "a.nrrd"}, ALL)


class TestTextsAreRead:
    def test_as_it_is_or_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "report.txt").write_text("A nodule of 8 mm, \u00fc.", encoding="utf-8")
        for sent in ("A nodule of 8 mm, \u00fc.", tmp_path / "report.txt"):
            inputs = read_inputs({"report": sent}, ALL)
            assert inputs.text("report") == "A nodule of 8 mm, \u00fc."
            assert inputs.volume("report") is inputs.layout("report") is None

    @pytest.mark.parametrize(
        ("content", "why"),
        [(b"\xff\xfe\x00", "cannot be read as a text in UTF-8"), (None, "there is no such file")],
    )
    def test_what_cannot_be_read_is_refused(self, tmp_path: Path, content: bytes | None, why: str) -> None:
        if content is not None:
            (tmp_path / "report.txt").write_bytes(content)
        with pytest.raises(DamagedFile, match=rf"report: report\.txt:? {why}"):
            read_inputs({"report": tmp_path / "report.txt"}, ALL)

    def test_a_file_too_long_for_a_report_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "report.txt").write_bytes(b"a" * ((1 << 20) + 1))
        with pytest.raises(InvalidRequest, match=r"report: report\.txt has more than 1048576 bytes"):
            read_inputs({"report": tmp_path / "report.txt"}, ALL)


def test_the_names_of_labels_are_no_input_of_their_own() -> None:
    assert ORGANS.parts == ("organs", "organs_names")
    assert REPORT.parts == ("report",)
    assert list_sent({"organs": 1, "organs_names": 2, "report": 3}, ALL) == ["organs", "report"]
    assert list_sent({"organs_names": 2, "report_names": 4, "report": 3}, ALL) == [
        "organs_names",
        "report_names",
        "report",
    ]


def test_only_what_the_system_takes_is_read(tmp_path: Path) -> None:
    assert list(read_inputs({"organs": tmp_path / "missing.nii", "report": "x"}, (REPORT,)).names()) == [
        "report"
    ]


class TestWhatIsTaken:
    def test_a_name_that_the_model_does_not_take(self) -> None:
        with pytest.raises(
            InvalidRequest, match=r"^lungs: model 'm' takes no such volume; it takes organs, report"
        ):
            require_accepted("m", ["lungs"], (ORGANS, REPORT))
        with pytest.raises(InvalidRequest, match=r"it takes none beside CT and mask"):
            require_accepted("m", ["lungs"], ())
        with pytest.raises(InvalidRequest, match=r"takes no such volume \(a, b would\); it takes none"):
            require_accepted("m", ["lungs"], (), lambda name: ["a", "b"] if name == "lungs" else [])

    def test_one_that_is_needed(self) -> None:
        needed = Input("organs", "layout", "the organs with their names", required=True)
        with pytest.raises(
            InvalidRequest, match=r"^organs is missing: model 'm' needs the organs with their names$"
        ):
            require_accepted("m", ["report"], (needed, REPORT))
        require_accepted("m", ["organs"], (needed, REPORT))

    @pytest.mark.parametrize("half", ["other", "other_mask"])
    def test_half_a_pair(self, half: str) -> None:
        with pytest.raises(
            InvalidRequest, match=r"^other and other_mask belong together: send the CT of another"
        ):
            require_accepted("m", [half], (OTHER, OTHER_MASK))
        require_accepted("m", ["other", "other_mask"], (OTHER, OTHER_MASK))
        require_accepted("m", [], (OTHER, OTHER_MASK))


class TestWhatIsChecked:
    def test_what_fits_passes(self) -> None:
        other = make_ct((14, 9, 11), grid((2.0, 1.0, 1.0)), seed=1)
        sent = Inputs(
            organs=Layout(labels(), NAMES),
            report="A nodule.",
            other=other,
            other_mask=ball(other, (6, 5, 5), 3),
            vessels=box(CT, (1, 3), (1, 3), (1, 3)),
        )
        check_inputs(sent, ALL, CT)
        check_inputs(sent, ALL, None)

    def test_a_layout_of_a_generation_lies_on_its_own_grid(self) -> None:
        check_inputs(Inputs(organs=Layout(labels(make_ct((9, 9, 9))), NAMES)), ALL, None)

    def test_labels_without_names(self) -> None:
        with pytest.raises(
            InvalidRequest,
            match=r"^organs: the labels 4, 7 have no name: .* a table of them as organs_names$",
        ):
            check_inputs(Inputs(organs=Layout(labels(), {1: "liver"})), ALL, CT)
        many = CT.with_array(np.arange(CT.array.size, dtype=np.int16).reshape(CT.shape))
        with pytest.raises(InvalidRequest, match=r"the labels 1, 2, 3, 4, 5, 6, 7, 8, \.\.\. have no name"):
            check_inputs(Inputs(organs=Layout(many, {})), ALL, CT)

    @pytest.mark.parametrize(
        "elsewhere",
        [
            labels(make_ct((12, 10, 9))),
            Volume(labels().array, CT.affine + np.array([[0, 0, 0, 2.0], *np.zeros((3, 4))])),
        ],
    )
    def test_a_layout_on_another_grid(self, elsewhere: Volume) -> None:
        with pytest.raises(GeometryMismatch, match=r"^organs: the layout"):
            check_inputs(Inputs(organs=Layout(elsewhere, NAMES)), ALL, CT)

    @pytest.mark.parametrize("text", ["", " \n\t"])
    def test_an_empty_text(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match=r"^report: there is no text in it$"):
            check_inputs(Inputs(report=text), ALL, CT)

    def test_another_kind(self) -> None:
        with pytest.raises(
            InvalidRequest, match=r"^organs: a label volume with the names of its labels is needed"
        ):
            check_inputs(Inputs(organs=labels()), ALL, CT)
        with pytest.raises(InvalidRequest, match=r"^report: there is no text in it"):
            check_inputs(Inputs(report=labels()), ALL, CT)
        with pytest.raises(InvalidRequest, match=r"^other: a volume is needed"):
            check_inputs(Inputs(other="a CT"), ALL, CT)

    def test_a_mask_on_the_grid_of_another_input(self) -> None:
        away = Volume(labels().array, CT.affine + np.array([[0, 0, 0, 99.0], *np.zeros((3, 4))]))
        organs = Layout(labels(), NAMES)
        one = (labels().array == 1).astype(np.uint8)
        with pytest.raises(GeometryMismatch, match=r"^vessels: the mask does not lie on the grid"):
            check_inputs(Inputs(organs=organs, vessels=Volume(one, away.affine)), ALL, CT)
        with pytest.raises(EmptyMask, match=r"^other_mask: the mask is empty"):
            check_inputs(Inputs(other=CT, other_mask=CT.with_array(one * 0)), ALL, CT)


class TestDigests:
    def test_a_layout_is_its_voxels_and_its_names(self) -> None:
        same = [Layout(labels(), dict(reversed(NAMES.items()))), Layout(labels(), NAMES)]
        assert len({one.voxel_sha256 for one in same}) == 1
        others = [Layout(labels(), {**NAMES, 4: "kidney"}), Layout(labels(make_ct((12, 10, 9))), NAMES)]
        assert len({one.voxel_sha256 for one in [*same, *others]}) == 3

    def test_by_name(self) -> None:
        inputs = Inputs(organs=Layout(labels(), NAMES), report="x", other=CT, other_mask=None)
        assert list(inputs.names()) == ["organs", "report", "other"]
        assert list(inputs.volumes()) == ["organs", "other"]
        assert inputs.voxel_sha256() == {
            "organs": Layout(labels(), NAMES).voxel_sha256,
            "report": hashlib.sha256(b"x").hexdigest(),
            "other": CT.voxel_sha256,
        }
