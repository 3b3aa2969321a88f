"""What may change can be found before there is a model: the same, and the work is done once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lesionbrush.cli import synthesize as command
from lesionbrush.core import volume
from lesionbrush.core.inputs import Inputs
from lesionbrush.core.registry import find_model
from lesionbrush.core.synthesize import find_scope, synthesize
from lesionbrush.core.volume import SourceHeader, Volume
from lesionbrush.errors import EmptyMask, GeometryMismatch, InvalidRequest, LesionBrushError
from lesionbrush.systems import load_model
from lesionbrush.systems.lesion_inpainting.hooks import HOOKS
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest
from server_kit import MODEL, Files, make_ct, make_mask

pytest_plugins = "server_fixtures"
REQUEST = SynthesisRequest(steps=2, seed=5, label=3)


def remarked(volume: Volume, remark: str) -> Volume:
    return replace(volume, source=SourceHeader(np.dtype(np.int16), volume.affine, remarks=(remark,)))


def test_with_it_the_voxels_and_the_record_are_the_same(models_dir: Path) -> None:
    installed = find_model(MODEL, models_dir)
    model = load_model(installed, "cpu")
    ct, mask = remarked(make_ct(), "gantry"), remarked(make_mask(3), "flipped")
    scope = find_scope(ct, mask, REQUEST, installed.card, HOOKS)
    assert scope.remarks == ("CT: gantry", "mask: flipped")
    alone, with_scope = (synthesize(ct, what, REQUEST, model)[0] for what in (mask, scope))
    assert np.array_equal(alone.box, with_scope.box)
    told = [one.provenance.model_dump(exclude={"seconds", "created"}) for one in (alone, with_scope)]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("mask", "inputs", "error"),
    [
        (None, Inputs(), EmptyMask),
        (make_mask(0), Inputs(), EmptyMask),
        (make_mask(3).crop((slice(0, 9), slice(0, 9), slice(0, 9))), Inputs(), EmptyMask),
        (Volume(make_mask(3).array, np.eye(4)), Inputs(), GeometryMismatch),
        (make_mask(3), Inputs(lungs=make_mask()), InvalidRequest),
    ],
)
def test_what_is_wrong_is_told_without_a_model(
    models_dir: Path, mask: Volume | None, inputs: Inputs, error: type[LesionBrushError]
) -> None:
    with pytest.raises(error):
        find_scope(make_ct(), mask, REQUEST, find_model(MODEL, models_dir).card, HOOKS, inputs)


def test_the_command_places_the_mask_once(
    models_dir: Path, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the early check, for the core, and for the picture."""
    placed, place = [], volume._lesion
    monkeypatch.setattr(volume, "_lesion", lambda *args: placed.append(args) or place(*args))
    picture = tmp_path / "out.png"
    command.carry_out(
        command.EditOrder(
            model=find_model(MODEL, models_dir),
            request=SynthesisRequest(steps=1),
            ct=files.ct,
            mask=files.mask,
            out=tmp_path / "out.nii",
            montage=picture,
            device="cpu",
        )
    )
    assert picture.exists()
    assert len(placed) == 1
