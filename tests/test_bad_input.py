"""Bad input over real HTTP: a status, a code, a text that says what is wrong; nothing written or left."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import nibabel as nib
import numpy as np
import pytest
import requests
import SimpleITK as sitk  # noqa: N813
from dicom_fixtures import Series, write_series
from lesionbrush.core.volume import Volume
from LesionBrushLib.client import Result, ServerError
from server_kit import MODEL, STORED, Files, Server, affine, make_ct, make_mask, post, snapshot

pytest_plugins = "server_fixtures"
pytestmark = pytest.mark.server

Infer = Callable[..., Result]


@pytest.fixture(autouse=True)
def nothing_written(server: Server, tmp_path: Path) -> Iterator[None]:
    assert server.leftovers() == []
    before = snapshot(server.studies)
    yield
    assert server.leftovers() == []
    assert snapshot(server.studies) == before
    assert not list(tmp_path.glob("out*"))


@pytest.fixture
def refused(infer: Infer) -> Callable[..., None]:
    """`refused(422, "a_code", "some words", ...)`: what `infer` is told is refused in this way."""

    def check(status: int, code: str, words: str, model: str = MODEL, **given: Any) -> None:
        with pytest.raises(ServerError) as caught:
            infer("out.nii", model, **given)
        assert (caught.value.status, caught.value.code) == (status, code)
        assert words in str(caught.value)
        assert not any(secret in str(caught.value) for secret in ("Traceback", "lesionbrush-", "scratch"))

    return check


def nifti(path: Path, array: np.ndarray, matrix: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(array, affine() if matrix is None else matrix), path)
    return path


def moved(volume: Volume, offset_voxels: float) -> Volume:
    """Along the second axis."""
    matrix = volume.affine.copy()
    matrix[:3, 3] += offset_voxels * matrix[:3, 1]
    return replace(volume, affine=matrix)


def with_voxel(value: float) -> np.ndarray:
    array = make_ct().array.astype(np.float32)
    array[3, 4, 5] = value
    return array


def test_an_empty_mask(refused, files: Files) -> None:
    empty = files.save(make_mask(0), "empty.nii.gz")
    refused(422, "empty_mask", "the mask is empty: paint at least one voxel", mask_path=empty)


@pytest.mark.parametrize("offset_voxels", [0.6, 300])
def test_a_mask_of_another_grid_or_patient(refused, files: Files, offset_voxels: float) -> None:
    mask = files.save(moved(make_mask(), offset_voxels), f"moved{offset_voxels}.nii.gz")
    refused(422, "geometry_mismatch", f"({offset_voxels} voxels)", mask_path=mask)


def test_a_mask_within_half_a_voxel_is_taken(infer: Infer, files: Files, tmp_path: Path) -> None:
    result = infer("taken.nii", mask_path=files.save(moved(make_mask(), 0.4), "near.nii.gz"))
    assert result.provenance["voxels_changed"] > 0


def test_a_mask_outside_the_volume(refused, files: Files) -> None:
    part = make_mask().crop((slice(20, 40), slice(20, 40), slice(10, 30)))
    mask = files.save(moved(part, 64), "outside.nii.gz")
    refused(422, "geometry_mismatch", "does not lie on the grid of the CT", mask_path=mask)


def test_several_labels(refused, infer: Infer, files: Files) -> None:
    array = make_mask().array
    array[2, 2, 2] = 7
    mask = files.save(Volume(array, affine()), "labels.nii.gz")
    refused(422, "ambiguous_mask", "2 labels (1, 7): choose one", mask_path=mask)
    refused(422, "empty_mask", "no voxel of label 3; it holds 1, 7", mask_path=mask, params={"label": 3})
    chosen = infer("chosen.nii", mask_path=mask, params={"label": 7, "steps": 1})
    assert chosen.provenance["in_mask"]["voxels"] == 1


@pytest.mark.parametrize(
    ("array", "code", "words"),
    [
        pytest.param(make_mask().array * 5.3, "not_a_ct", "these are not HU", id="PET"),
        pytest.param(make_ct().array + 1024, "not_a_ct", "these are not HU", id="no rescale"),
        pytest.param(with_voxel(0.5), "not_a_ct", "not whole HU (for example 0.5)", id="fractions"),
        pytest.param(with_voxel(1e6), "not_a_ct", "beyond 16 bits", id="beyond int16"),
        pytest.param(make_ct().array[:, :, 0], "not_a_ct", "2-D", id="2D"),
        pytest.param(np.stack([make_ct().array] * 2, -1), "not_a_ct", "4-D (64 x 64 x 40 x 2)", id="4D"),
        pytest.param(with_voxel(np.nan), "damaged_file", "1 voxels are NaN or infinite", id="NaN"),
        pytest.param(with_voxel(-np.inf), "damaged_file", "NaN or infinite", id="infinity"),
    ],
)
def test_what_is_not_a_ct(refused, tmp_path: Path, array: np.ndarray, code: str, words: str) -> None:
    refused(422, code, words, reference_path=nifti(tmp_path / "ct.nii.gz", array))


@pytest.mark.parametrize(
    ("suffix", "words"),
    [(".nii.gz", "5-D (6 x 5 x 4 x 1 x 3)"), (".nrrd", "3 values per voxel"), (".mha", "3 values per voxel")],
)
def test_colours(refused, tmp_path: Path, suffix: str, words: str) -> None:
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / f"rgb{suffix}"))
    refused(422, "not_a_ct", words, reference_path=tmp_path / f"rgb{suffix}")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("what", ["reference", "mask"])
def test_truncated_and_damaged_files(refused, files: Files, tmp_path: Path, suffix: str, what: str) -> None:
    whole = files.save(make_ct() if what == "reference" else make_mask(), f"{what}{suffix}").read_bytes()
    broken = tmp_path / f"broken{suffix}"
    for content in (whole[: len(whole) // 2], b"", b"\x1f\x8b\x08 no volume at all"):
        broken.write_bytes(content)
        refused(422, "damaged_file", f"{what}{suffix} cannot be read", **{f"{what}_path": broken})


def test_a_checksum_that_does_not_hold(refused, files: Files, tmp_path: Path) -> None:
    content = bytearray(gzip.compress(gzip.decompress(files.ct.read_bytes()), 0))
    content[len(content) // 2] ^= 0xFF
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(content)
    refused(422, "damaged_file", "CRC", reference_path=broken)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"stepz": 3}, "stepz: unknown parameter (got 3)"),
        ({"attributes": {"colour": "red"}}, "attributes.colour: unknown parameter (got 'red')"),
        ({"steps": 0}, "steps: Input should be greater than or equal to 1 (got 0)"),
        ({"margin_mm": 1000}, "margin_mm"),
        ({"seed": -1}, "seed"),
        ({"sampler": "magic"}, "sampler"),
        ({"attributes": {"mean_hu": 5000}}, "attributes.mean_hu"),
        ({"image": "/etc/passwd"}, "image: unknown parameter"),
        ({"label": "/etc/passwd"}, "label: "),
        ({"model": "other"}, "model: unknown parameter"),
        ({"save_label": True, "label_tag": "../x"}, "save_label: unknown parameter"),
        ({"result_extension": ".py"}, "result_extension: Input should be '.nii'"),
        ({"session": {}, "timeout": 1}, "timeout: unknown parameter"),
        ([1, 2], "parameters"),
    ],
)
def test_parameters(server: Server, files: Files, params: Any, words: str) -> None:
    answer = post(server, files.mask, params=params)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (422, "invalid_request")
    assert words in answer.json()["detail"]["message"]


def test_parameters_that_are_no_json_or_too_long(server: Server, files: Files) -> None:
    url, query = f"{server.url}/infer/{MODEL}", {"image": STORED}
    for text, status, words in (("{", 422, "not JSON"), (" " * 1_100_000, 400, "maximum size")):
        form = {"label": ("mask.nii.gz", files.mask.read_bytes())}
        answer = requests.post(url, params=query, data={"params": text}, files=form, timeout=30)
        assert answer.status_code == status
        assert words in answer.json()["detail"]["message"]


def test_unknown_models_and_bad_weights(refused) -> None:
    refused(404, "unknown_model", "no model is called 'nobody'; installed are:", "nobody")
    refused(503, "weights_error", "the file is damaged or another version", "altered")
    refused(503, "weights_error", "the weights of 'bare' are missing", "bare")


@pytest.mark.parametrize("image", ["nobody", "../ct1", "/etc/passwd", "labels/ct1", "ct1.nii.gz", "."])
def test_only_ids_of_stored_images(refused, image: str) -> None:
    refused(404, "unknown_image", f"no image is called {image!r} on this server", image_id=image)


def test_one_mask_and_one_reference(server: Server, files: Files) -> None:
    def send(query: dict[str, str], names: tuple[str, ...]) -> str:
        form = {name: ("x.nii.gz", files.mask.read_bytes()) for name in names}
        answer = requests.post(f"{server.url}/infer/{MODEL}", params=query, files=form, timeout=30)
        assert answer.status_code == 422
        return str(answer.json()["detail"]["message"])

    assert "there is no mask" in send({"image": STORED}, ("file",))
    assert "send one reference CT" in send({}, ("label",))
    assert "send one reference CT" in send({"image": STORED}, ("label", "file"))
    assert "session_id: String should match pattern" in send({"session_id": "/etc"}, ("label",))
    assert "output: " in send({"image": STORED, "output": "dicom_seg"}, ("label",))
    assert "format: " in send({"image": STORED, "format": "py"}, ("label",))


@pytest.mark.parametrize(
    "name", ["mask", "mask.zip", "mask.bin", "mask.nhdr", "../../mask.py", "mask.nii.gz/x", ""]
)
def test_file_types(server: Server, files: Files, name: str) -> None:
    form = {"label": (name, files.mask.read_bytes())}
    answer = requests.post(f"{server.url}/infer/{MODEL}", params={"image": STORED}, files=form, timeout=30)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (422, "invalid_request")


def test_a_volume_that_names_another_file(refused, files: Files, tmp_path: Path) -> None:
    header = files.save(make_ct(), "reference.mha").read_bytes().partition(b"ElementDataFile")[0]
    thief = tmp_path / "thief.mha"
    thief.write_bytes(header + b"ElementDataFile = /etc/passwd\n")
    refused(422, "damaged_file", "its voxels are in another file", reference_path=thief)


def series_zip(folder: Path, names: Callable[[int], str], **changes: Any) -> bytes:
    paths = write_series(folder / "series", Series(make_ct().array[:8, :8, :4], **changes))
    with ZipFile(folder / "series.zip", "w") as zipped:
        for number, path in enumerate(paths):
            zipped.write(path, names(number))
    shutil.rmtree(folder / "series")
    return (folder / "series.zip").read_bytes()


def send_zip(server: Server, files: Files, content: bytes) -> dict[str, str]:
    form = {"label": ("m.nii.gz", files.mask.read_bytes()), "file": ("series.zip", content)}
    answer = requests.post(f"{server.url}/infer/{MODEL}", files=form, timeout=30)
    assert answer.status_code == 422
    detail: dict[str, str] = answer.json()["detail"]
    return detail


def test_series_in_a_zip(server: Server, files: Files, tmp_path: Path) -> None:
    """Names that lead elsewhere are not used: the series is read, and it is the mask that does not fit."""
    for names in ("../../{}.dcm", "/abs/{}.dcm", "C:\\{}.dcm", "sub/._x/{}.dcm"):
        read = send_zip(server, files, series_zip(tmp_path, names.format))
        assert read["code"] == "geometry_mismatch"
    whole = series_zip(tmp_path, "{}.dcm".format)
    assert send_zip(server, files, whole[: len(whole) // 2])["code"] == "damaged_file"
    assert (
        send_zip(server, files, b"no zip")["message"]
        == "the .zip is damaged or has a password: pack the series again"
    )
    assert "no DICOM image" in send_zip(server, files, series_zip(tmp_path, ".{}".format))["message"]
    tilted = series_zip(
        tmp_path, "{}.dcm".format, edit=lambda _, slice_: slice_.ImagePositionPatient.reverse()
    )
    assert send_zip(server, files, tilted)["code"] == "unsupported_series"


def test_a_series_in_a_zip_by_its_own_names(server: Server, files: Files, tmp_path: Path) -> None:
    """What is wrong with a file is said of it as the archive calls it, before anything waits in the queue."""
    wrong = series_zip(tmp_path, "Doe{:03d}".format, edit=lambda _, s: s.update({"RescaleSlope": 0}))
    read = send_zip(server, files, wrong)
    assert read["code"] == "not_a_ct"
    assert read["message"].startswith("Doe000 has RescaleSlope 0")


def test_a_form_that_ends_early(server: Server, files: Files) -> None:
    """Its length is as announced, but the last part has no end."""
    head = b'--x\r\nContent-Disposition: form-data; name="label"; filename="m.nii.gz"\r\n\r\n'
    url, kind = (
        f"{server.url}/infer/{MODEL}?image={STORED}",
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    answer = requests.post(url, data=head + files.mask.read_bytes(), headers=kind, timeout=30)
    assert answer.status_code == 422
    assert json.loads(answer.text)["detail"]["message"].startswith("there is no mask")
