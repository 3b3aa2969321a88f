"""A remark on what the mask lies in, on its way to who asked: record, command, job and result."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from fastapi.testclient import TestClient
from jobs_fixtures import V1, Submit, done
from lesionbrush.core.inputs import NO_INPUTS
from lesionbrush.core.recording import remarks_of_files
from lesionbrush.files.io import write_volume
from lesionbrush.files.records import read_sidecar
from lesionbrush.server.synthesis.inference import Service
from server_kit import FAST, MODEL, Files, make_ct

pytest_plugins = ("server_fixtures", "jobs_fixtures", "cli_fixtures")
SAID = "the mask lies in tissue of 57 HU"


@pytest.fixture(scope="module")
def liver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CT of the kit, but soft tissue, with some air in a corner."""
    ct = make_ct()
    noise = np.random.default_rng(3).normal(57, 10, ct.shape)
    noise[:4] = -1000
    path = tmp_path_factory.mktemp("liver") / "liver.nii.gz"
    write_volume(ct.with_array(np.rint(noise).astype(np.int16)), path)
    return path


def test_the_command_prints_and_records_it(
    command: Command, liver: Path, ct: Path, mask: Path, tmp_path: Path
) -> None:
    options = ("-o", tmp_path / "out.nii", "--model", MODEL, "--param", "steps=2")
    outcome = command("synthesize", liver, mask, *options)
    assert outcome.code == 0
    assert SAID in outcome.err
    (remark,) = read_sidecar(tmp_path / "out.nii").remarks
    assert remark.startswith(SAID)
    outcome = command("synthesize", ct, mask, "-o", tmp_path / "lung.nii", *options[2:])
    assert SAID not in outcome.err
    assert read_sidecar(tmp_path / "lung.nii").remarks == ()


def test_a_job_and_its_variants_have_it(
    front: TestClient, service: Service, submit: Submit, liver: Path
) -> None:
    content = liver.read_bytes()
    name = sha256(content).hexdigest()
    front.put(f"{V1}/references/{name}", params={"format": "nii.gz"}, content=content)
    place = done(front, service, submit({"variants": 2}, reference=name))
    (remark,) = front.get(place).json()["remarks"]
    assert remark.startswith(SAID)
    assert front.get(f"{place}/variants/2").json()["remarks"] == [remark]
    assert front.get(done(front, service, submit({}))).json()["remarks"] == []


def test_an_answer_in_one_request_has_it(front: TestClient, liver: Path, files: Files) -> None:
    sent = {
        "file": ("liver.nii.gz", liver.read_bytes()),
        "label": ("mask.nii.gz", files.mask.read_bytes()),
    }
    answer = front.post(
        f"/infer/{MODEL}?output=json", files=sent, data={"params": f'{{"steps": {FAST["steps"]}}}'}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["variants"][0]["remarks"][0].startswith(SAID)


@pytest.mark.parametrize(("scale", "said"), [(1.0, False), (0.01, True), (100.0, True)])
def test_a_ct_of_no_size_that_is_scanned_is_said(scale: float, said: bool) -> None:
    """Metres for millimetres, or the reverse."""
    reference = make_ct()
    affine = reference.affine @ np.diag([scale, scale, scale, 1.0])
    remarks = remarks_of_files(replace(reference, affine=affine), reference, NO_INPUTS)
    assert any("margins and sizes are wrong" in remark for remark in remarks) == said
