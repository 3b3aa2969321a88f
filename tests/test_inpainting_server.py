"""The systems that fill soft tissue, over a real server: a CT and a mask alone are enough for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from core_fixtures import edit_region
from infer_kit import infer
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from LesionBrushLib.client import JobClient, ServerError
from med_ddpm_kit import install_med
from own_server import Started, serving
from palette_kit import install_palette
from soft_tissue_kit import ball_in, body, install_soft

pytestmark = pytest.mark.server
MODELS = ("tiny_soft", "palette", "med_ddpm")
MARGIN_MM = 4.0
ALL = pytest.mark.parametrize("model", MODELS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    root = tmp_path_factory.mktemp("server")
    for install in (install_soft, install_palette, install_med):
        install(root / "models")
    with serving(root, root / "models") as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A CT of a body that the server does not store, and a mask of its liver."""
    folder = tmp_path_factory.mktemp("files")
    write_volume(body(), folder / "ct.nii.gz")
    write_volume(lesion(), folder / "mask.nii.gz")
    return folder / "ct.nii.gz", folder / "mask.nii.gz"


def lesion() -> Volume:
    return ball_in(body(), 10.0)


@ALL
def test_it_answers_keeps_the_promise_and_a_seed_is_a_ct(
    server: Started, files: tuple[Path, Path], tmp_path: Path, model: str
) -> None:
    ct, mask = files
    params = {"steps": 3, "seed": 7, "margin_mm": MARGIN_MM}
    made = []
    for name in ("first.nii.gz", "again.nii.gz"):
        infer(JobClient(server.url), model, tmp_path / name, mask_path=mask, reference_path=ct, params=params)
        made.append(read_volume(tmp_path / name))
    before, after = read_volume(ct), made[0]
    changed = after.array != before.array
    assert after.array.dtype == np.int16
    np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
    assert not changed[~edit_region(lesion().array, before.spacing_mm, MARGIN_MM)].any()
    assert changed[lesion().array > 0].mean() > 0.5
    assert np.array_equal(after.array, made[1].array)


@pytest.mark.parametrize(
    ("model", "params", "said"),
    [
        ("tiny_soft", {"attributes": {"contrast_hu": 900}}, "contrast_hu"),
        ("palette", {"fill": "lung"}, "was not trained to make lung"),
        ("palette", {"region": "sphere"}, "region"),
        ("med_ddpm", {"known": "forgotten"}, "known"),
        ("med_ddpm", {"fill": "liver"}, "fill"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    server: Started, files: tuple[Path, Path], tmp_path: Path, model: str, params: dict, said: str
) -> None:
    ct, mask = files
    with pytest.raises(ServerError, match=said):
        infer(
            JobClient(server.url),
            model,
            tmp_path / "no.nii.gz",
            mask_path=mask,
            reference_path=ct,
            params=params,
        )
    assert not (tmp_path / "no.nii.gz").exists()
