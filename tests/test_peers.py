"""`bench peers`: one evaluation is timed, a procedure is so many of them, ratios are to our default model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from core_fixtures import ball, box, make_ct, paints
from lesionbrush.cli.machine import this_machine
from lesionbrush.cli.peers import Peers, Subject, Timed, lines, time_evaluation
from lesionbrush.errors import InvalidRequest
from lesionbrush.evaluation.lung_mse import HELD_OUT, LungMSE, lung_mse, shifted_error, squared_error
from lesionbrush.files.io import write_volume
from lesionbrush.systems.lung_ddpm.hooks import WHOLE
from lesionbrush.systems.med_unet import MedUNetConfig

TINY = Subject("Tiny", MedUNetConfig(2, (32, 32), (False, True)), 8, 250)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_procedure_is_so_many_evaluations(precision: str) -> None:
    one = time_evaluation(TINY, precision, torch.device("cpu"), 2)
    assert one.evaluation_s > 0
    assert one.procedure_s == pytest.approx(250 * one.evaluation_s)
    assert (one.side, one.precision) == (8, precision)


def test_ratios_are_to_the_default_model() -> None:
    networks = [Timed("Lung-DDPM", 128, "fp32", 20.0, 5000.0), Timed("Lung-DDPM", 64, "fp32", 2.0, None)]
    report = Peers(
        this_machine(), networks, {"lung_lesion": 2.5, "lung_ddpm_plus": 20.0}, LungMSE(1, 0.02, 0.01)
    )
    assert report.ratios == {"Lung-DDPM, fp32": 2000.0}
    text = "\n".join(lines(report))
    assert "2000 times; goal: 1000 or more" in text
    assert "0.0200" in text
    assert "FID and MMD are not given" in text


def test_squared_error_is_of_intensities_from_minus_1_to_1() -> None:
    real, made = np.array([[-1000, 0]]), np.array([[-900, 500]])
    assert squared_error(real, made, np.array([[True, True]])) == pytest.approx((0.1**2 + 0.5**2) / 2)
    assert squared_error(real, made, np.array([[True, False]])) == pytest.approx(0.01)


def test_the_floor_is_lung_against_lung_20_mm_away() -> None:
    ct = make_ct((60, 8, 8), np.eye(4))
    inside = np.zeros(ct.shape, bool)
    inside[5:55] = True
    hu = ct.array.clip(-1000, 1000).astype(float)
    wanted = np.mean(((hu[25:55] - hu[5:35]) / 1000) ** 2)
    assert shifted_error(ct, inside) == pytest.approx(wanted)


def test_the_held_out_ct_is_measured_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=rf"no {HELD_OUT}\.nii\.gz"):
        lung_mse(tmp_path, paints(0.0))
    ct = make_ct()
    files = {"": ct, "_lungs": box(ct, (4, 36), (4, 32), (4, 26)), "_nodule_1": ball(ct, (20, 18, 15), 5)}
    (tmp_path / "chest_ct").mkdir()
    for part, volume in files.items():
        write_volume(volume, tmp_path / "chest_ct" / f"{HELD_OUT}{part}.nii.gz")
    model = paints(-800.0, WHOLE, system="lung_ddpm", roi_voxels=(32,), spacing_mm=1.0)
    found = lung_mse(tmp_path, model)
    assert found.volumes == 1
    assert 0 < found.made < 1
    assert 0 < found.floor < 1
