"""What is measured of Palette, on networks of one answer, where every figure is known beforehand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lesionbrush.errors import InvalidRequest
from lesionbrush.systems.palette.evaluation import evaluate_fills, fill_organ, held_out_organs
from lesionbrush.systems.palette.pack import HELD_OUT_SARCOMAS
from palette_kit import SARCOMAS, palette_model, saying, write_palette_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_palette_data(tmp_path_factory.mktemp("data"))


def test_the_held_out_abdomen_alone_in_organs_the_model_fills(folder: Path) -> None:
    found = list(held_out_organs(folder, palette_model()))
    assert [fill for _, _, fill in found] == ["liver"]
    ((ct, mask, _),) = found
    assert 0 < np.count_nonzero(mask.array.any(axis=(0, 1))) <= 5
    assert ct.shape == mask.shape
    assert len(SARCOMAS) > HELD_OUT_SARCOMAS


def test_a_network_of_one_density_is_that_far_from_the_real_organ(folder: Path) -> None:
    """Real tissue of 60 HU with grain of 10, made of 50 HU; what is finer than a model's pixel stays."""
    ((ct, mask, fill),) = held_out_organs(folder, palette_model())
    found = fill_organ(saying(0.0), ct, mask, fill, seeds=2)
    assert found.bias_hu == pytest.approx(-10, abs=1.5)
    assert found.neighbours_real_hu == pytest.approx(10 * 2 / np.sqrt(np.pi), rel=0.1)
    assert found.neighbours_hu == found.neighbours_alone_hu
    assert "liver: mean -" in str(found)


def test_every_slice_on_its_own_differs_more(folder: Path) -> None:
    ((ct, mask, fill),) = held_out_organs(folder, palette_model())
    found = fill_organ(palette_model(), ct, mask, fill, seeds=1)
    assert found.neighbours_alone_hu > found.neighbours_hu


def test_figures_for_a_card_and_a_folder_without_data(folder: Path, tmp_path: Path, capsys) -> None:
    figures = evaluate_fills(saying(0.0), folder, 1, tmp_path / "out")
    assert (tmp_path / "out" / "fills.png").is_file()
    assert figures["fill_bias_hu"] == pytest.approx(10, abs=1.5)
    assert "liver: mean" in capsys.readouterr().out
    (tmp_path / "sarcoma_ct").mkdir()
    (tmp_path / "sarcoma_ct" / "index.csv").write_text("id,nx\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="holds no held-out abdomen with an organ that 'palette' fills"):
        evaluate_fills(palette_model(), tmp_path, 1, tmp_path)
