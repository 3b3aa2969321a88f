"""`run.py anatomy` and `run.py variations`: what they write, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lesionbrush.cli.__main__ import main
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from mddpm_kit import install_guided
from PIL import Image
from server_kit import make_ct, make_mask
from test_anatomy_maps import HU, fitted


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    path = tmp_path / "shapes.npz"
    fitted().save(path)
    return path


class TestAnatomy:
    def test_samples_are_maps_of_one_slice_and_follow_the_seed(
        self, shapes: Path, tmp_path: Path, capsys
    ) -> None:
        command = ["anatomy", "sample", "--shapes", str(shapes), "--count", "2", "--within", "1"]
        for seed, name in ((0, "a"), (0, "b"), (1, "c")):
            assert main([*command, "--seed", str(seed), "-o", str(tmp_path / f"{name}.nii.gz")]) == 0
        one, two, again, other = (
            read_volume(tmp_path / f"{name}.nii.gz").array for name in ("a-1", "a-2", "b-1", "c-1")
        )
        assert one.shape[2] == 1
        assert set(np.unique(one)) <= {-1000, *HU.astype(int)}
        assert np.array_equal(one, again)
        assert not np.array_equal(one, two)
        assert not np.array_equal(one, other)
        assert "impossible draws refused" in capsys.readouterr().out

    def test_a_sheet(self, shapes: Path, tmp_path: Path) -> None:
        assert main(["anatomy", "sheet", "--shapes", str(shapes), "-o", str(tmp_path / "sheet.png")]) == 0
        with Image.open(tmp_path / "sheet.png") as picture:
            assert picture.width > 800

    def test_the_shapes_that_come_with_mddpm_are_possible_at_their_mean(self, tmp_path: Path) -> None:
        out = tmp_path / "mean.nii"
        assert main(["anatomy", "sample", "--within", "0", "-o", str(out)]) == 0
        lungs = np.count_nonzero(read_volume(out).array < -700) - np.count_nonzero(
            read_volume(out).array == -1000
        )
        assert 150 < lungs * 1.5**2 / 100 < 500  # cm2

    @pytest.mark.parametrize(
        ("command", "said"),
        [
            (("sample", "--count", "0", "-o", "x.nii"), "1 or more"),
            (("sample", "-o", "x.txt"), "unknown file type"),
            (("sample", "--within", "-1", "-o", "x.nii"), "0 or more"),
            (("sheet", "-o", "x.jpg"), "PNG"),
            (("fit", "ct.nii", "-o", "x.txt"), ".npz"),
        ],
    )
    def test_refusals(self, command: tuple[str, ...], said: str, tmp_path: Path, monkeypatch, capsys) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["anatomy", *command]) == 2
        assert said in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []


class TestVariations:
    @pytest.fixture
    def command(self, tmp_path: Path, monkeypatch) -> list[str]:
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(tmp_path / "models"))
        install_guided(tmp_path / "models", "mddpm_3d")
        lesion = np.zeros((20, 18, 16), np.uint8)
        lesion[8:13, 7:11, 5:9] = 1
        other = np.where(lesion > 0, 35, -870).astype(np.int16)
        grid = np.diag((-2.0, 2.0, 2.0, 1.0))
        volumes = {"ct": make_ct(), "mask": make_mask(), "p": Volume(other, grid), "m": Volume(lesion, grid)}
        for name, volume in volumes.items():
            write_volume(volume, tmp_path / f"{name}.nii.gz")
        ct, mask, p, m = (str(tmp_path / f"{name}.nii.gz") for name in volumes)
        given = ["--pathology", p, "--pathology-mask", m, "--param", "steps=2", "--device", "cpu"]
        return ["variations", ct, mask, "-o", str(tmp_path / "sheet.png"), *given]

    def test_a_sheet_and_every_ct_with_its_record(self, command: list[str], tmp_path: Path) -> None:
        more = ["--factors", "1", "4", "--stops", "0", "0.5", "--volumes", str(tmp_path / "cts")]
        assert main([*command, *more]) == 0
        with Image.open(tmp_path / "sheet.png") as picture:
            assert picture.height > picture.width  # reference, two rows; two columns
        names = sorted(path.name for path in (tmp_path / "cts").glob("*.nii.gz"))
        assert names == ["n1-a0.5.nii.gz", "n1-a0.nii.gz", "n4-a0.5.nii.gz", "n4-a0.nii.gz"]
        free, one, also_free, four = (read_volume(tmp_path / "cts" / name).array for name in names)
        assert not np.array_equal(one, four)
        assert not np.array_equal(one, free)
        assert np.array_equal(free, also_free)  # in two steps there is no level above one half to guide at

    @pytest.mark.parametrize(
        ("more", "said"),
        [
            (("--factors", "-1"), "greater than or equal to 0"),
            (("--stops", "1.5"), "less than or equal to 1"),
            (("--model", "tiny"), "no model of mDDPM"),
            (("--factors", "7"), "does not divide"),
        ],
    )
    def test_refusals(
        self, command: list[str], more: tuple[str, ...], said: str, tmp_path: Path, capsys
    ) -> None:
        assert main([*command, *more]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "sheet.png").exists()
