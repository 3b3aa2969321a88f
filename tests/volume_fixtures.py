"""Small volumes, and readers and writers of files that share no code with ours."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from lesionbrush.core.volume import Volume

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
OBLIQUE = np.array([[0.96, -0.224, 0.168], [0.28, 0.768, -0.576], [0.0, 0.6, 0.8]])
ORIENTATIONS = list(product(permutations(range(3)), product((1, -1), repeat=3)))
GEOMETRY = (slice(76, 92), slice(123, 124), slice(252, 328))  # NIfTI-1: pixdim[0:4], units, q- and s-form


def random_hu(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1500, (6, 5, 4), dtype=np.int16)


def affine_of(rotation: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing_mm
    affine[:3, 3] = (-120.5, 33.25, 801.0)
    return affine


@dataclass(frozen=True)
class Grid:
    """array: (I, J, K); affine: to RAS mm."""

    array: np.ndarray
    affine: np.ndarray


def by_nibabel(path: Path) -> Grid:
    image = nib.load(path)
    return Grid(np.asarray(image.dataobj), image.affine)


def by_itk(path: Path) -> Grid:
    image = sitk.ReadImage(str(path))
    points = [image.TransformIndexToPhysicalPoint(i) for i in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    first, *steps = (np.array(point) * [-1, -1, 1] for point in points)
    affine = np.eye(4)
    affine[:3] = np.column_stack([*(step - first for step in steps), first])
    return Grid(sitk.GetArrayFromImage(image).transpose(2, 1, 0), affine)


def independently(path: Path) -> Grid:
    return by_nibabel(path) if ".nii" in path.name else by_itk(path)


def assert_same_hu_in_space(one: Grid, other: Grid) -> None:
    """Every voxel centre of `one` is a voxel centre of `other`, to 0.001 voxel, with the same value."""
    index = np.indices(one.array.shape).reshape(3, -1)
    mapped = np.linalg.inv(other.affine) @ one.affine @ np.vstack([index, np.ones(index.shape[1])])
    nearest = np.rint(mapped[:3]).astype(int)
    assert one.array.size == other.array.size
    assert np.abs(mapped[:3] - nearest).max() < 1e-3
    assert np.array_equal(one.array[tuple(index)], other.array[tuple(nearest)])


def itk_image(array: np.ndarray, affine: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing_mm = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing_mm.tolist())
    image.SetDirection((lps[:3, :3] / spacing_mm).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def write_foreign(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a reference with other code than ours."""
    if ".nii" in path.name:
        nib.Nifti1Image(array, affine).to_filename(path)
    else:
        sitk.WriteImage(itk_image(array, affine), str(path), useCompression=True)


def geometry_bytes(path: Path) -> list[bytes]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as stream:
        header = stream.read(348)
    return [header[part] for part in GEOMETRY]


def moved(volume: Volume, by_voxels: tuple[float, float, float]) -> Volume:
    return replace(volume, affine=shifted(volume.affine, by_voxels))


def shifted(affine: np.ndarray, by_voxels: tuple[float, float, float]) -> np.ndarray:
    return affine @ np.block([[np.eye(3), np.array(by_voxels)[:, None]], [np.zeros(3), 1.0]])


def nrrd(affine: np.ndarray, extra: str = "", space: str = "space: right-anterior-superior\n") -> bytes:
    vectors = " ".join(f"({','.join(map(repr, map(float, column)))})" for column in affine[:3, :3].T)
    origin = ",".join(map(repr, map(float, affine[:3, 3])))
    fields = f"type: short\ndimension: 3\nsizes: 6 5 4\nendian: little\nencoding: raw\n{space}"
    where = f"space directions: {vectors}\nspace origin: ({origin})\n" if space else ""
    return f"NRRD0004\n{fields}{where}{extra}\n".encode() + random_hu().tobytes(order="F")


def metaimage(affine: np.ndarray, extra: str = "") -> bytes:
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    matrix = " ".join(map(repr, map(float, (lps[:3, :3] / spacing).T.ravel())))
    offset = " ".join(map(repr, map(float, lps[:3, 3])))
    fields = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = 6 5 4\n"
    )
    where = f"TransformMatrix = {matrix}\nOffset = {offset}\nElementSpacing = {' '.join(map(str, spacing))}\n"
    end = "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    return f"{fields}{where}{extra}{end}".encode() + random_hu().tobytes(order="F")
