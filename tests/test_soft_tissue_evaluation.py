"""What is measured of a model of soft tissue: ways to fill, where, and figures known in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lesionbrush.core.boxes import bounding_box
from lesionbrush.errors import DamagedFile
from lesionbrush.evaluation.sheets import field
from lesionbrush.evaluation.syntheses import Maker
from lesionbrush.montage import SOFT, Panel
from lesionbrush.systems.lesion_inpainting.evaluation.soft_copies import find_copies
from lesionbrush.systems.lesion_inpainting.evaluation.soft_fillers import FillSite, by_plan, flat, healing
from lesionbrush.systems.lesion_inpainting.evaluation.soft_sites import FREE, free_sites, tumour_parts
from lesionbrush.systems.lesion_inpainting.evaluation.soft_tissue import draw_sheet, measure
from lesionbrush.systems.lesion_inpainting.soft_tissue.split import HELD_OUT_SARCOMAS
from PIL import Image
from soft_tissue_kit import LIVER_HU, ball_in, body, soft_model, write_soft_data


@pytest.fixture(scope="module")
def site() -> FillSite:
    ct = body()
    return FillSite("liver", "phantom", ct, ball_in(ct, 10.0), -40.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_soft_data(tmp_path_factory.mktemp("data"))


class TestFillers:
    def test_around_and_wanted(self, site: FillSite) -> None:
        assert site.around_hu == pytest.approx(LIVER_HU, abs=2)
        assert site.wanted_hu == pytest.approx(LIVER_HU - 40, abs=2)

    def test_a_flat_fill_has_the_density_and_the_grain_that_was_there(self, site: FillSite) -> None:
        found = measure("flat", [site], [flat(site, 0)])
        assert found.hu_error.value == pytest.approx(0, abs=2)
        assert found.grain.value == pytest.approx(1, abs=0.1)

    def test_the_ct_itself_is_wrong_by_what_was_asked(self, site: FillSite) -> None:
        found = measure("nothing", [site], [site.ct.array])
        assert found.hu_error.value == pytest.approx(40, abs=3)
        assert found.seam.value == pytest.approx(1, abs=0.1)
        assert found.grain.value == 1

    def test_a_blurred_fill_has_no_grain(self, site: FillSite) -> None:
        hu = np.where(site.inside, 70, site.ct.array).astype(np.int16)
        assert measure("blurred", [site], [hu]).grain.value == 0

    def test_the_model_is_asked_for_the_contrast(self, site: FillSite, tmp_path: Path) -> None:
        maker = Maker(soft_model(), tmp_path)
        made = by_plan(maker)(site, 0)
        assert measure("ours", [site], [made]).hu_error.value < 6
        assert not np.array_equal(healing(maker)(site, 0), made)


class TestSites:
    def test_free_requests_lie_in_their_tissue(self, data: Path) -> None:
        found = free_sites(data)
        assert len(found) == len(FREE) == 30
        for site in found:
            density = {"liver": 110, "spleen": 115, "kidney": 170, "muscle": 60, "fat": -100}[
                site.name.split()[0]
            ]
            centre = tuple((part.start + part.stop) // 2 for part in bounding_box(site.mask.array))
            assert site.ct.array[centre] == pytest.approx(density, abs=30)

    def test_fewer_spread_over_all(self, data: Path) -> None:
        names = {site.name.split()[0] for site in free_sites(data, 5)}
        assert {"liver", "fat"} <= names

    def test_parts_lie_in_held_out_tumours_and_ask_for_what_is_there(self, data: Path) -> None:
        found = tumour_parts(data)
        assert len({site.patient for site in found}) == HELD_OUT_SARCOMAS
        assert "STS_000" not in {site.patient for site in found}
        assert all(measure("real", [site], [site.ct.array]).hu_error.value < 1e-3 for site in found[:3])

    def test_data_that_are_not_there_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DamagedFile, match="CRLM-CT-1004"):
            free_sites(tmp_path)


def test_a_critic_tells_a_plain_fill_from_real_tumours(data: Path) -> None:
    parts = tumour_parts(data)
    plain = [np.where(site.inside, np.int16(60), site.ct.array) for site in parts]
    found = measure("plain", parts, plain, judged=True)
    assert found.linear is not None
    assert found.linear.value > 0.9
    assert "AUC linear" in found.line()
    assert dict(found.figures("x"))["x_linear"] == found.linear.value


def test_a_copy_of_a_training_tumour_is_told_from_a_new_one(data: Path) -> None:
    held_out, trained = tumour_parts(data, 4), tumour_parts(data, 4, trained=True)
    assert not {site.patient for site in held_out} & {site.patient for site in trained}
    real = [site.ct.array for site in held_out]
    copied = find_copies(held_out, real, trained, [site.ct.array for site in trained])
    assert copied.own_hu.value == copied.floor_hu.value == 0
    assert copied.nearest_hu == copied.real_hu
    flat_ones = [np.where(site.inside, 300, site.ct.array).astype(np.int16) for site in trained]
    new = find_copies(held_out, real, trained, flat_ones)
    assert new.own_hu.value is not None
    assert new.own_hu.value > 100
    assert "of training parts" in list(new.lines())[1]
    assert set(new.figures()) >= {"copies_own_hu", "copies_nearest_hu"}


def test_the_sheet_has_a_panel_for_each_way(site: FillSite, tmp_path: Path) -> None:
    draw_sheet([site, site], {"flat": [flat(site, 0)] * 2}, tmp_path / "new" / "sheet.png")
    width, height = Image.open(tmp_path / "new" / "sheet.png").size
    assert width > 4 * 160
    assert height > 160


def test_an_outline_is_cut_with_its_picture() -> None:
    hu = np.zeros((80, 100))
    outline = np.zeros((80, 100), bool)
    outline[60:64, 20:30] = True
    cut = field(Panel(np.where(outline, 1.0, hu), (1.0, 1.0), SOFT, outline=outline), outline, 40.0)
    assert cut.outline is not None
    assert cut.hu.shape == (40, 40)
    np.testing.assert_array_equal(cut.outline, cut.hu > 0)
