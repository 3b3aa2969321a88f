"""A write replaces the whole file or leaves the old one, whatever fails."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from lesionbrush.core.volume import Volume
from lesionbrush.errors import InvalidRequest, StorageFull
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.itk import write_itk
from lesionbrush.files.nifti import write_nifti
from volume_fixtures import (
    SUFFIXES,
    random_hu,
)

DiskUsage = namedtuple("DiskUsage", "total used free")


class TestAtomicity:
    @pytest.fixture
    def target(self, tmp_path: Path, suffix: str) -> Path:
        path = tmp_path / f"ct{suffix}"
        path.write_bytes(b"the old file")
        return path

    def assert_untouched(self, target: Path) -> None:
        assert target.read_bytes() == b"the old file"
        assert list(target.parent.iterdir()) == [target]

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_a_write_replaces_and_leaves_nothing_else(self, target: Path) -> None:
        write_volume(Volume(random_hu(), np.eye(4)), target)
        assert np.array_equal(read_volume(target).array, random_hu())
        assert list(target.parent.iterdir()) == [target]

    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("step", ["replace", "fsync"])
    def test_a_failing_step_leaves_the_old_file(
        self, target: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "broken disk")

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(OSError, match="broken disk"):
            write_volume(Volume(random_hu(), np.eye(4)), target)
        self.assert_untouched(target)

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_a_full_disk_while_nibabel_writes(
        self, target: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def half(self: nib.Nifti1Image, path: Path) -> None:
            path.write_bytes(b"half")
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(nib.Nifti1Image, "to_filename", half)
        with pytest.raises(StorageFull, match=r"ct.nii.* needs up to 0.0 MB; nothing was written"):
            write_volume(Volume(random_hu(), np.eye(4)), target)
        self.assert_untouched(target)

    @pytest.mark.parametrize(("free", "error"), [(10, StorageFull), (10**9, OSError)])
    @pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
    def test_a_full_disk_while_itk_writes(
        self, target: Path, monkeypatch: pytest.MonkeyPatch, free: int, error: type[Exception]
    ) -> None:
        def half(image: sitk.Image, path: str, useCompression: bool) -> None:
            Path(path).write_bytes(b"half")
            raise RuntimeError("fwrite wrote only 12 things")

        monkeypatch.setattr(sitk, "WriteImage", half)
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: DiskUsage(10**9, 0, free))
        with pytest.raises(error):
            write_volume(Volume(random_hu(), np.eye(4)), target)
        self.assert_untouched(target)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_no_writer_passes_over_a_full_disk(self, tmp_path: Path, suffix: str) -> None:
        """ITK's NIfTI writer, which is not used, returns as if all was well."""
        full = tmp_path / f"full{suffix}"
        full.symlink_to("/dev/full")
        write = write_nifti if ".nii" in suffix else write_itk
        volume = Volume(np.random.default_rng(0).integers(-999, 999, (64, 64, 64), dtype=np.int16), np.eye(4))
        with pytest.raises(OSError, match=r"No space left|could not write"):
            write(volume, full, "")

    @pytest.mark.parametrize("suffix", [".nii"])
    def test_voxels_are_on_disk_before_the_name_is(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps = []
        fsync, rename = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda handle: steps.append("fsync") or fsync(handle))
        monkeypatch.setattr(os, "replace", lambda *paths: steps.append("replace") or rename(*paths))
        write_volume(Volume(random_hu(), np.eye(4)), target)
        assert steps[:2] == ["fsync", "replace"]
        assert steps[2:] == ([] if os.name == "nt" else ["fsync"])

    @pytest.mark.parametrize("suffix", [".nii"])
    def test_what_need_not_last_does_not_wait_for_the_disk(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fsync", lambda handle: pytest.fail("it waited"))
        volume = Volume(random_hu(), np.eye(4))
        write_volume(volume, target, lasting=False)
        assert np.array_equal(read_volume(target).array, volume.array)
        assert list(target.parent.iterdir()) == [target]

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
    @pytest.mark.parametrize("suffix", [".nii"])
    def test_the_written_file_has_ordinary_permissions(self, target: Path) -> None:
        write_volume(Volume(random_hu(), np.eye(4)), target)
        mask = os.umask(0)
        os.umask(mask)
        assert target.stat().st_mode & 0o777 == 0o666 & ~mask

    def test_an_unknown_suffix_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match=r"ct\.png: unknown file type"):
            write_volume(Volume(random_hu(), np.eye(4)), tmp_path / "ct.png")
        assert not list(tmp_path.iterdir())
