"""Lung segmentation: on the phantom, on shapes with a known answer, on real CTs, and where it says no."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cli_kit import Command
from lesionbrush.anatomy.lungs import LEFT, RIGHT, find_lungs, segment_lungs
from lesionbrush.core.volume import Volume
from lesionbrush.errors import NoLungs, NotACT
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.phantom.chest import Phantom, chest_phantom
from PIL import Image

pytest_plugins = "cli_fixtures"

LPS_2MM = np.diag((-2.0, -2.0, 2.0, 1.0))
# name of the CT, name of its mask, and which nodule the lungs must hold
CHESTS = {
    "LIDC-IDRI-0001": ("LIDC-IDRI-0001_lungs", "LIDC-IDRI-0001_nodule_1"),
    "LIDC-IDRI-0132b_1mmxy": ("LIDC-IDRI-0132b_lungs_1mmxy", ""),
    "LIDC-IDRI-0314": ("LIDC-IDRI-0314_lungs", "LIDC-IDRI-0314_nodule_1"),
    "LungFCP-01-0001": ("LungFCP-01-0001_lungs", ""),
    "CMB-CRC-MSB-01068": ("CMB-CRC-MSB-01068_lungs", ""),
}


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return chest_phantom(shape=(128, 128, 64), spacing_mm=(2.6, 2.6, 4.0))


@pytest.fixture(scope="module")
def ct_file(chest: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chest") / "chest.nii.gz"
    write_volume(chest.volume, path)
    return path


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * ((a > 0) & (b > 0)).sum() / ((a > 0).sum() + (b > 0).sum()))


def stored_as(codes: str, volume: Volume) -> Volume:
    """The same volume with its axes stored in another order and direction."""
    own = nib.orientations.io_orientation(volume.affine)
    turn = nib.orientations.ornt_transform(own, nib.orientations.axcodes2ornt(codes))
    array = nib.orientations.apply_orientation(volume.array, turn)
    return Volume(array, volume.affine @ nib.orientations.inv_ornt_aff(turn, volume.shape))


def ellipsoid(shape: tuple[int, int, int], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    axes = np.indices(shape, sparse=True)
    return sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)) <= 1


def made_of(*parts: tuple[np.ndarray, float], spacing_mm: float = 2.0, start_hu: float = -1000) -> Volume:
    hu = np.full(parts[0][0].shape, start_hu, np.int16)
    for mask, value in parts:
        hu[mask] = value
    return Volume(hu, np.diag((-spacing_mm, -spacing_mm, spacing_mm, 1.0)))


SHAPE = (150, 110, 90)
BODY = ellipsoid(SHAPE, (75, 55, 45), (70, 48, 400))
RIGHT_LUNG = ellipsoid(SHAPE, (42, 55, 45), (24, 32, 40))
LEFT_LUNG = ellipsoid(SHAPE, (108, 55, 45), (24, 32, 40))


class TestPhantom:
    def test_both_lungs_are_found(self, chest: Phantom) -> None:
        lungs = find_lungs(chest.volume)
        assert dice(lungs.labels.array, chest.lungs.array) > 0.975
        assert lungs.labels.array.dtype == np.uint8
        assert set(np.unique(lungs.labels.array)) == {0, RIGHT, LEFT}
        chest.volume.require_same_grid(lungs.labels)
        assert lungs.remarks == ()

    def test_volumes_are_those_of_the_labels(self, chest: Phantom) -> None:
        lungs = find_lungs(chest.volume)
        ml = np.bincount(lungs.labels.array.ravel()) * chest.volume.voxel_volume_mm3 / 1000
        assert (lungs.right_ml, lungs.left_ml) == pytest.approx((ml[RIGHT], ml[LEFT]))
        assert 1500 < min(ml[1:]) < max(ml[1:]) < 2300

    def test_the_sides_are_the_patients(self, chest: Phantom) -> None:
        labels = segment_lungs(chest.volume)
        for label, sign in ((RIGHT, 1), (LEFT, -1)):
            centre = labels.affine[:3, :3] @ np.argwhere(labels.array == label).mean(axis=0)
            assert np.sign((centre + labels.affine[:3, 3])[0]) == sign  # RAS: x grows to the right

    @pytest.mark.parametrize("codes", ["RAS", "RPI", "SLA", "PIR"])
    def test_the_stored_orientation_does_not_matter(self, chest: Phantom, codes: str) -> None:
        expected = stored_as(codes, segment_lungs(chest.volume))
        found = segment_lungs(stored_as(codes, chest.volume))
        assert dice(found.array == RIGHT, expected.array == RIGHT) > 0.998
        assert dice(found.array == LEFT, expected.array == LEFT) > 0.998

    def test_thin_pixels_and_thick_slices(self) -> None:
        shape, spacing_mm = (416, 416, 51), (0.8, 0.8, 5.02)
        fine = chest_phantom(seed=1, shape=shape, spacing_mm=spacing_mm)
        assert dice(segment_lungs(fine.volume).array, fine.lungs.array) > 0.98

    def test_a_volume_of_the_upper_lungs_says_so(self, chest: Phantom) -> None:
        box = np.s_[:, :, 40:]
        lungs = find_lungs(chest.volume.crop(box))
        assert dice(lungs.labels.array, chest.lungs.array[box]) > 0.96
        assert lungs.remarks == ("cropped field of view: the lungs are cut at the bottom",)

    def test_a_volume_without_body_wall(self, chest: Phantom) -> None:
        box = np.s_[28:100, 40:90, 24:48]
        lungs = find_lungs(chest.volume.crop(box))
        assert dice(lungs.labels.array, chest.lungs.array[box]) > 0.96
        assert any("right, left" in remark for remark in lungs.remarks)

    @pytest.mark.parametrize(("part", "side"), [(np.s_[:60], "right"), (np.s_[68:], "left")])
    def test_one_lung_only(self, chest: Phantom, part: slice, side: str) -> None:
        lungs = find_lungs(chest.volume.crop((part, slice(0, 128), slice(0, 64))))
        assert (lungs.right_ml > 0, lungs.left_ml > 0) == (side == "right", side == "left")
        said = f"one lung only: {lungs.right_ml + lungs.left_ml:.0f} ml on the {side}"
        assert any(said in remark for remark in lungs.remarks)

    def test_the_windpipe_is_not_lung(self, chest: Phantom) -> None:
        i, j, k = np.indices(chest.volume.shape, sparse=True)
        x, y, z = (i + 0.5) * 2.6 - 166.4, (j + 0.5) * 2.6 - 161.4, (k + 0.5) * 4
        tube = (x**2 + (y + (z - 180) * 0.2) ** 2 < 36) & (z > 185) & (z < 250)
        assert (chest.volume.array[tube] < -900).mean() > 0.5
        assert not segment_lungs(chest.volume).array[tube].any()

    def test_a_lung_filled_up_to_the_wall_stays_one_with_its_nodule(self, chest: Phantom) -> None:
        nodule = self.at_the_wall(chest)
        hu = chest.volume.array.copy()
        hu[nodule] = 30
        labels = segment_lungs(chest.volume.with_array(hu)).array
        assert (labels[nodule & (chest.lungs.array > 0)] > 0).mean() > 0.9

    @staticmethod
    def at_the_wall(chest: Phantom) -> np.ndarray:
        """A ball of 20 mm that touches the outer wall of the right lung in the middle of its height."""
        k = 34
        column = np.argwhere(chest.lungs.array[:64, :, k])
        edge = column[column[:, 0].argmin()]
        x, y, z = np.indices(chest.volume.shape, sparse=True)
        return ((x - edge[0] - 3) * 2.6) ** 2 + ((y - edge[1]) * 2.6) ** 2 + ((z - k) * 4) ** 2 <= 100


class TestNo:
    def test_water(self) -> None:
        with pytest.raises(NoLungs, match="no air below -400 HU lies within a body"):
            segment_lungs(made_of((BODY, 0)))

    def test_air(self) -> None:
        with pytest.raises(NoLungs, match="300 x 220 x 180 mm"):
            segment_lungs(made_of((BODY, -1000)))

    def test_gas_in_a_body_is_no_lung(self) -> None:
        with pytest.raises(NoLungs, match="the air in it is gas, not lung"):
            segment_lungs(made_of((BODY, 30), (LEFT_LUNG, -1000)))

    def test_the_foam_of_a_table_is_no_lung(self) -> None:
        foam = np.zeros(SHAPE, dtype=bool)
        foam[:, 95:] = True
        with pytest.raises(NoLungs):
            segment_lungs(made_of((foam, -920), (BODY, 30)))

    def test_what_is_no_ct(self) -> None:
        with pytest.raises(NotACT):
            segment_lungs(Volume(np.zeros((20, 20, 20), np.uint8), LPS_2MM))

    def test_the_text_says_what_to_do(self) -> None:
        with pytest.raises(NoLungs, match="use a chest CT in HU, or send a mask of both as lungs") as caught:
            segment_lungs(made_of((BODY, 0)))
        assert caught.value.code == "no_lungs"


class TestRealChests:
    @pytest.mark.parametrize("name", CHESTS)
    def test_agrees_with_the_masks_of_the_data(self, data_dir: Path, name: str) -> None:
        mask, nodule = CHESTS[name]
        folder = data_dir / "chest_ct"
        ct = read_volume(folder / f"{name}.nii.gz")
        lungs = find_lungs(ct)
        expected = read_volume(folder / f"{mask}.nii.gz").array
        assert dice(lungs.labels.array, expected) > 0.97
        assert (lungs.labels.array[expected > 0] > 0).mean() > 0.98
        assert min(lungs.right_ml, lungs.left_ml) > 500
        assert not any("trachea" in remark or "one lung" in remark for remark in lungs.remarks)
        if nodule:
            inside = lungs.labels.array[read_volume(folder / f"{nodule}.nii.gz").array > 0] > 0
            assert inside.mean() > 0.95

    def test_one_half_of_a_chest_is_one_lung(self, data_dir: Path) -> None:
        ct = read_volume(data_dir / "chest_ct" / "LIDC-IDRI-0001.nii.gz")
        for side, part in (("right", np.s_[:180, :, :]), ("left", np.s_[210:, :, :])):
            lungs = find_lungs(ct.crop(part))
            assert (lungs.right_ml > 0, lungs.left_ml > 0) == (side == "right", side == "left")

    def test_an_abdomen_has_no_lungs(self, data_dir: Path) -> None:
        ct = read_volume(data_dir / "abdomen_ct" / "CRLM-CT-1004.nii.gz")
        with pytest.raises(NoLungs, match="gas"):
            segment_lungs(ct.crop(np.s_[:, :, :18]))

    def test_the_lung_bases_above_an_abdomen(self, data_dir: Path) -> None:
        folder = data_dir / "abdomen_ct"
        lungs = find_lungs(read_volume(folder / "CRLM-CT-1004.nii.gz"))
        assert dice(lungs.labels.array, read_volume(folder / "CRLM-CT-1004_lungs.nii.gz").array) > 0.97
        assert "no trachea found: check that no airway is in the lungs" in lungs.remarks
        assert "cropped field of view: the lungs are cut at the top" in lungs.remarks


class TestCommand:
    def test_writes_the_mask_and_the_picture(
        self, command: Command, chest: Phantom, ct_file: Path, tmp_path: Path
    ) -> None:
        out, picture = tmp_path / "new" / "lungs.nii.gz", tmp_path / "picture" / "lungs.png"
        outcome = command("lungs", ct_file, "-o", out, "--montage", picture)
        assert outcome.code == 0
        mask = read_volume(out)
        assert mask.array.dtype == np.uint8
        assert dice(mask.array, chest.lungs.array) > 0.97
        chest.volume.require_same_grid(mask)
        assert "right 1" in outcome.out
        assert Image.open(picture).width > 4 * 250

    def test_remarks_are_printed(self, command: Command, chest: Phantom, tmp_path: Path) -> None:
        write_volume(chest.volume.crop(np.s_[:, :, 40:]), tmp_path / "upper.nii.gz")
        outcome = command("lungs", tmp_path / "upper.nii.gz", "-o", tmp_path / "lungs.nrrd")
        assert "remark: cropped field of view: the lungs are cut at the bottom" in outcome.out

    def test_no_lungs_is_one_line_and_no_file(self, command: Command, tmp_path: Path) -> None:
        write_volume(made_of((BODY, 0)), tmp_path / "water.nii.gz")
        outcome = command("lungs", tmp_path / "water.nii.gz", "-o", tmp_path / "lungs.nii.gz")
        assert outcome.code == 2
        assert "no lungs found" in outcome.one_line
        assert not (tmp_path / "lungs.nii.gz").exists()

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("-o", "lungs.jpg"), "unknown file type"),
            (("-o", "lungs.nii", "--montage", "lungs.jpg"), "ends with .png"),
        ],
    )
    def test_bad_names_are_refused_first(
        self, command: Command, ct_file: Path, tmp_path: Path, monkeypatch, options, reason: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        outcome = command("lungs", ct_file, *options)
        assert outcome.code == 2
        assert reason in outcome.one_line
        assert not list(tmp_path.iterdir())

    def test_the_ct_is_never_replaced(self, command: Command, ct_file: Path) -> None:
        outcome = command("lungs", ct_file, "-o", ct_file)
        assert outcome.code == 2
        assert "is an input" in outcome.one_line
