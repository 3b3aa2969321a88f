"""Lobes, airways and vessels: on the phantom, whose fissures are formulas, on shapes, and where cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from lesionbrush.anatomy.chest.airways import grow_airways
from lesionbrush.anatomy.chest.fissures import Fissure, fit_fissure
from lesionbrush.anatomy.chest.lobes import find_carina_mm
from lesionbrush.anatomy.chest.masks import ChestMasks, find_chest_masks, take_lungs
from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.anatomy.chest.vessels import find_vessels
from lesionbrush.anatomy.lung_steps.grid import CoarseGrid
from lesionbrush.core.volume import Volume
from lesionbrush.errors import EmptyMask, GeometryMismatch, InvalidRequest, NoLungs
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import read_layout
from lesionbrush.phantom.chest import FIELD_MM, Phantom, chest_phantom
from lesionbrush.phantom.parts.lungs import lobes
from PIL import Image
from test_lungs import dice, stored_as

pytest_plugins = "cli_fixtures"

SHAPE, SPACING_MM = (128, 128, 64), (2.6, 2.6, 4.0)
OF_FORMULAS = {-1: (3, 2, 1), 1: (5, 5, 4)}
"""By side, +1 the patient's left: labels of what the phantom calls lower, middle and upper."""
SMALL = (70, 80, 60)
LPS_1MM = np.diag((-1.0, -1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return chest_phantom(shape=SHAPE, spacing_mm=SPACING_MM)


@pytest.fixture(scope="module")
def masks(chest: Phantom) -> ChestMasks:
    return find_chest_masks(chest.volume)


@pytest.fixture(scope="module")
def truth(chest: Phantom) -> np.ndarray:
    """Labels by the formulas of the phantom's fissures, in its own mm."""
    labels, places = np.zeros(SHAPE, np.uint8), np.argwhere(chest.lungs.array > 0)
    points = (places + 0.5) / SHAPE * FIELD_MM - (FIELD_MM[0] / 2, FIELD_MM[1] / 2 - 5, 0)
    for side, names in OF_FORMULAS.items():
        mine = points[:, 0] * side > 0
        labels[tuple(places[mine].T)] = np.array(names)[lobes(points[mine], side)]
    return labels


def grid_of(hu: np.ndarray) -> CoarseGrid:
    return CoarseGrid.of(Volume(hu.astype(np.int16), LPS_1MM), 1.0)


class TestPhantom:
    def test_lobes_are_those_of_the_formulas(self, masks: ChestMasks, truth: np.ndarray) -> None:
        assert [name for name in masks.lobes.names.values()] == list(LOBES.values())[:5]
        for label in masks.lobes.names:
            assert dice(masks.lobes.labels.array == label, truth == label) > 0.91

    def test_lobes_fill_the_lungs(self, masks: ChestMasks) -> None:
        assert np.array_equal(masks.lobes.labels.array > 0, masks.lungs.array > 0)
        assert masks.remarks == (
            "horizontal fissure fitted across slices of 4 mm, which hardly show it: look at it",
        )

    def test_airways_are_gas_and_vessels_are_blood_in_the_lungs(
        self, chest: Phantom, masks: ChestMasks
    ) -> None:
        airways, vessels = (one.labels.array > 0 for one in (masks.airways, masks.vessels))
        hu = chest.volume.array
        assert 20 < airways.sum() * chest.volume.voxel_volume_mm3 / 1000 < 80
        assert np.median(hu[airways]) < -900
        assert (masks.lungs.array[vessels] > 0).all()
        assert np.median(hu[vessels]) > np.median(hu[masks.lungs.array > 0]) + 100
        assert not (airways & vessels).any()

    def test_one_volume_of_all(self, masks: ChestMasks) -> None:
        one = masks.as_one()
        one.require_named()
        assert np.array_equal(one.mask("lung vessels"), masks.vessels.labels.array > 0)
        assert np.array_equal(one.mask("airways"), masks.airways.labels.array > 0)

    def test_the_order_of_axes_does_not_matter(self, chest: Phantom, masks: ChestMasks) -> None:
        part = np.s_[:, :, 8:60]  # 4 mm slices become rows
        lungs = masks.lungs.crop(part)
        own = find_chest_masks(chest.volume.crop(part), lungs)
        turned = find_chest_masks(*(stored_as("SPR", one) for one in (chest.volume.crop(part), lungs)))
        for name in ("lobes", "airways", "vessels"):
            one, other = (getattr(found, name).labels for found in (own, turned))
            assert dice(stored_as("LPS", other).array, one.array) > 0.99


class TestCut:
    def test_above_the_carina_nothing_is_guessed(self, chest: Phantom) -> None:
        found = find_chest_masks(chest.volume.crop(np.s_[:, :, 50:]))
        assert set(found.lobes.names.values()) <= {"right lung", "left lung"}
        assert any("are not told apart: the volume cuts it, shows no carina" in one for one in found.remarks)

    def test_the_bases_have_no_windpipe(self, chest: Phantom) -> None:
        found = find_chest_masks(chest.volume.crop(np.s_[:, :, :26]))
        assert not found.airways.labels.array.any()
        assert any("trachea" in one or "windpipe" in one for one in found.remarks)

    def test_no_carina_without_a_fork(self) -> None:
        pipe = np.zeros((30, 30, 40), bool)
        pipe[12:18, 12:18, 10:] = True
        grid = grid_of(np.zeros(pipe.shape))
        assert find_carina_mm(grid, pipe) is None
        pipe[2:5, 2:5, 20:30] = True  # gas in the gullet, beside it
        assert find_carina_mm(grid, pipe) is None
        pipe[12:14, 12:18, 5:10] = pipe[16:18, 12:18, 5:10] = True
        assert find_carina_mm(grid, pipe) == 9


class TestFissure:
    def test_height_over_a_bowed_surface(self) -> None:
        fissure = Fissure(np.array((10.0, 20, 30)), 0.0, np.array((1.0, 0, 2, 0, 0, 3)))
        points = np.array(((10.0, 20, 36), (70.0, 80, 36)))
        assert fissure.height_mm(points) == pytest.approx((5, 0))

    @pytest.mark.parametrize("sheet_hu", [0, 70])
    def test_a_sheet_in_noise_is_found_where_it_is_and_none_is_not(self, sheet_hu: int) -> None:
        generator = np.random.default_rng(3)
        hu = generator.normal(-860, 25, SMALL)
        x, y, z = np.indices(SMALL)
        away_mm = z - (36 + 0.1 * (x - 35) - 0.05 * (y - 40))
        hu[np.abs(away_mm) < 0.6] += sheet_hu
        found = fit_fissure(grid_of(hu), np.ones(SMALL, bool), np.array((35.0, 40, 30)), 0.0)
        assert found.seen is (sheet_hu > 0)
        if found.seen:
            on_it = np.column_stack([axis[np.abs(away_mm) < 0.5] for axis in (x, y, z)])
            assert np.abs(found.height_mm(on_it)).max() < 2


class TestTubes:
    def test_a_vessel_is_found_and_a_mass_and_a_fissure_are_not(self) -> None:
        x, y, z = np.indices(SMALL)
        vessel = (x - 20) ** 2 + (z - 20) ** 2 <= 4
        mass = (x - 48) ** 2 + (y - 40) ** 2 + (z - 40) ** 2 <= 100
        sheet = z == 52
        hu = np.select([vessel | mass, sheet], [40, -740], -860)
        lung = np.zeros(SMALL, bool)
        lung[4:-4, 4:-4, 4:-4] = True
        found = find_vessels(grid_of(hu), lung, np.zeros(SMALL, bool))
        inside = lung & (y > 12) & (y < 68)
        assert found[vessel & inside].mean() > 0.9
        assert found[mass].mean() < 0.02
        assert found[sheet & inside & (x < 36)].mean() < 0.02

    def test_a_hole_in_a_bronchus_does_not_empty_the_lung(self) -> None:
        x, y, z = np.indices(SMALL)
        main = (x - 35) ** 2 + (y - 40) ** 2 <= 36
        branch = ((y - 40) ** 2 + (z - 30) ** 2 <= 5) & (x < 35) & (x > 12)
        lung = x < 28
        hu = np.select([main | branch, lung & (z < 20), lung], [-1000, -935, -860], 30)
        hu[branch & (x == 20)] = -990
        hu[20, 40, 18:29] = -1000  # from the branch into emphysema
        found = grow_airways(grid_of(hu), main, lung)
        assert found[main].mean() > 0.95
        assert found[branch].mean() > 0.7
        assert found[lung & (z < 20)].mean() < 0.05

    def test_no_windpipe_no_airways(self) -> None:
        nothing = np.zeros(SMALL, bool)
        assert not grow_airways(grid_of(np.full(SMALL, -1000)), nothing, ~nothing).any()


class TestGivenLungs:
    def test_one_label_is_parted(self, chest: Phantom, masks: ChestMasks) -> None:
        both = chest.volume.with_array((masks.lungs.array > 0).astype(np.uint8))
        parted = take_lungs(chest.volume, both)
        assert (parted.array == masks.lungs.array).mean() > 0.999

    def test_refusals(self, chest: Phantom) -> None:
        ct, array = chest.volume, np.zeros(SHAPE, np.uint8)
        with pytest.raises(EmptyMask, match="the mask of the lungs is empty: leave it out"):
            take_lungs(ct, ct.with_array(array))
        array[:2, 0, 0] = (1, 3)
        with pytest.raises(InvalidRequest, match="the mask of the lungs holds 1, 3: 1 is the right lung"):
            take_lungs(ct, ct.with_array(array))
        with pytest.raises(GeometryMismatch, match="the mask of the lungs is 128 x 128 x 60 voxels, the CT"):
            take_lungs(ct, Volume(array[:, :, :60], ct.affine))


class TestCommand:
    @pytest.fixture
    def files(self, chest: Phantom, masks: ChestMasks, tmp_path: Path) -> tuple[Path, Path]:
        paths = tmp_path / "ct.nii.gz", tmp_path / "lungs.nii.gz"
        for volume, path in zip((chest.volume, masks.lungs), paths, strict=True):
            write_volume(volume, path)
        return paths

    def test_a_folder_of_three_and_a_picture(
        self, command: Command, masks: ChestMasks, files: tuple[Path, Path], tmp_path: Path
    ) -> None:
        out, picture = tmp_path / "masks", tmp_path / "masks.png"
        outcome = command("anatomy-masks", files[0], "--lungs", files[1], "-o", out, "--montage", picture)
        assert outcome.code == 0
        lobes = read_layout(out / "lobes.nii.gz")
        assert np.array_equal(lobes.labels.array, masks.lobes.labels.array)
        assert "right lung middle lobe: 3" in outcome.out
        assert {read_layout(out / f"{one}.nii.gz").names[1] for one in ("airways", "vessels")} == {
            "airways",
            "lung vessels",
        }
        assert Image.open(picture).width > 4 * 250

    def test_no_lungs_is_one_line_and_no_file(self, command: Command, tmp_path: Path) -> None:
        water = Volume(np.pad(np.zeros((20, 20, 20), np.int16), 2, constant_values=-1000), LPS_1MM)
        with pytest.raises(NoLungs):
            find_chest_masks(water)
        write_volume(water, tmp_path / "water.nii.gz")
        outcome = command("anatomy-masks", tmp_path / "water.nii.gz", "-o", tmp_path / "masks")
        assert outcome.code == 2
        assert "no lungs found in this volume of 24 x 24 x 24 mm" in outcome.one_line
        assert not (tmp_path / "masks").exists()


class TestRealChests:
    def test_the_bases_in_the_example_body_are_not_told_apart(self, data_dir: Path) -> None:
        found = find_chest_masks(read_volume(data_dir / "example_body" / "ct.nii.gz"))
        assert set(found.lobes.names.values()) == {"right lung", "left lung"}
        assert not found.airways.labels.array.any()
        assert "no carina in the volume" in " ".join(found.remarks)

    @pytest.mark.slow
    def test_a_whole_chest_in_3_mm_slices(self, data_dir: Path) -> None:
        found = find_chest_masks(read_volume(data_dir / "chest_ct" / "C3N-00249.nii.gz"))
        ml = np.bincount(found.lobes.labels.array.ravel()) * found.lungs.voxel_volume_mm3 / 1000
        assert (ml[1:6] > 200).all()
        assert found.remarks == (
            "horizontal fissure fitted across slices of 3 mm, which hardly show it: look at it",
        )
        assert 30 < found.airways.labels.array.sum() * found.lungs.voxel_volume_mm3 / 1000 < 90
