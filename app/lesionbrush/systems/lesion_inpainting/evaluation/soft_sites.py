"""Where a model of soft tissue is measured: free requests in a CT it never saw, and parts of real tumours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.volume import Volume
from lesionbrush.evaluation.hosts import Host
from lesionbrush.files.io import read_volume
from lesionbrush.systems.lesion_inpainting.evaluation.soft_fillers import FillSite
from lesionbrush.systems.lesion_inpainting.soft_tissue.pack import AMOS, MUSCLE_HU, sarcoma_names
from lesionbrush.systems.lesion_inpainting.soft_tissue.split import HELD_OUT_ABDOMENS

FREE: tuple[tuple[str, float, float], ...] = (
    *(
        ("liver", d, c)
        for d, c in ((8, -40), (12, -30), (16, -45), (20, 40), (24, -35), (30, -25), (36, -40))
    ),
    *(("liver", d, c) for d, c in ((10, -60), (14, 60), (18, -20), (22, -50), (28, 30))),
    *(("spleen", d, c) for d, c in ((10, -40), (14, -30), (18, -50), (22, 40))),
    *(("kidney", d, c) for d, c in ((10, -60), (12, -80), (16, -60), (20, -90), (24, -50), (14, 30))),
    *(("muscle", d, c) for d, c in ((10, -20), (14, 30), (18, -15), (12, 40))),
    *(("fat", d, c) for d, c in ((8, 130), (10, 140), (12, 150), (14, 120))),
)
"""30 of them: tissue, diameter in mm, contrast in HU."""
FAT_HU = (-130.0, -70.0)
PARTS_PER_TUMOUR, PART_MM, CONTEXT_MM = 5, (10.0, 14.0, 18.0, 22.0, 28.0), 30.0


def free_sites(data: Path, count: int = 0) -> list[FillSite]:
    """Masks where no lesion was; `count` spreads over them. DamagedFile when the CT is not there."""
    (patient,) = HELD_OUT_ABDOMENS
    ct = read_volume(data / "abdomen_ct" / f"{patient}.nii.gz")
    organs = read_volume(data / "abdomen_ct" / f"{patient}_organs.nii.gz").array
    found, host = [], Host(patient, ct, None, ())
    depths = {name: _depth_mm(ct, organs, name) for name in dict.fromkeys(name for name, _, _ in FREE)}
    for k in _spread(len(FREE), count):
        name, diameter_mm, contrast_hu = FREE[k]
        centre = _choose(depths[name], diameter_mm, np.random.default_rng(k))
        mask = host.blob(centre, diameter_mm / 2, seed=k)
        around = dilate(bounding_box(mask.array), CONTEXT_MM, np.array(ct.spacing_mm), ct.shape)
        found.append(
            FillSite(f"{name} {diameter_mm:g} mm", patient, ct.crop(around), mask.crop(around), contrast_hu)
        )
    return found


def _depth_mm(ct: Volume, organs: np.ndarray, name: str) -> np.ndarray:
    """How deep in an organ, muscle or fat each voxel lies."""
    codes = [code for code, organ in AMOS.items() if organ == name]
    if codes:
        there = np.isin(organs, codes)
    else:
        low, high = MUSCLE_HU if name == "muscle" else FAT_HU
        smooth = ndimage.gaussian_filter(ct.array.astype(np.float32), 1.5 / np.array(ct.spacing_mm))
        there = (smooth > low) & (smooth < high) & (organs == 0)
    there = np.pad(there, ((0, 0), (0, 0), (1, 1)))  # slices at both ends have no context
    depth: np.ndarray = ndimage.distance_transform_edt(there, sampling=ct.spacing_mm)[:, :, 1:-1]
    depth[:, :, :2] = depth[:, :, -2:] = 0
    return depth


def _choose(depth_mm: np.ndarray, diameter_mm: float, rng: np.random.Generator) -> np.ndarray:
    """A voxel about as deep as the lesion is wide, or as deep as the tissue allows."""
    wanted = min(0.6 * diameter_mm, 0.9 * float(depth_mm.max()))
    sites = np.argwhere((depth_mm >= wanted) & (depth_mm <= wanted + 12))
    return np.asarray(sites[int(rng.integers(len(sites)))])


def _spread(total: int, count: int) -> list[int]:
    chosen = total if not 0 < count < total else count
    return np.linspace(0, total - 1, chosen).round().astype(int).tolist()


def tumour_parts(data: Path, count: int = 0, *, trained: bool = False) -> list[FillSite]:
    """Balls inside the held-out sarcomas, or those of training, to be made anew as dense as they were.
    FileNotFoundError."""
    listed = [name for name in sarcoma_names(data) if name.endswith("(held out)") != trained]
    names = [name.split(" ")[0] for name in listed]
    found = []
    for k, name in enumerate(names):
        ct = read_volume(data / "sarcoma_ct" / f"{name}_ct.nii.gz")
        gtv = read_volume(data / "sarcoma_ct" / f"{name}_gtv.nii.gz").array > 0
        depth = ndimage.distance_transform_edt(gtv, sampling=ct.spacing_mm)
        host = Host(name, ct, None, ())
        for part in range(PARTS_PER_TUMOUR):
            diameter_mm = min(PART_MM[(k + part) % len(PART_MM)], 1.6 * float(depth.max()))
            centre = _choose(depth, diameter_mm, np.random.default_rng((k, part)))
            mask = host.blob(centre, diameter_mm / 2, seed=part)
            found.append(_as_it_is(FillSite(f"{name} {diameter_mm:.0f} mm", name, ct, mask, 0.0)))
    return [found[k] for k in _spread(len(found), count)]


def _as_it_is(site: FillSite) -> FillSite:
    """The site with the contrast and the heterogeneity that it has."""
    hu, inner = site.ct.array.astype(np.float32), site.inner()
    smooth = ndimage.gaussian_filter(hu, 3.0 / np.array(site.ct.spacing_mm))
    spread = float(np.clip(smooth[inner].std(), 0, 40))
    return FillSite(
        site.name, site.patient, site.ct, site.mask, float(hu[inner].mean()) - site.around_hu, spread
    )
