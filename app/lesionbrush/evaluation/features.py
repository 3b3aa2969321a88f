"""Radiomic features of a nodule in its surroundings: what a critic without a network looks at.

All are measured on the 1 mm patch, with the painted mask; none knows whether the lesion is real.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

from lesionbrush.evaluation.measures import grain, signed_distance_mm
from lesionbrush.evaluation.patches import Patch

SHELLS_MM = ((-99.0, -2.5), (-2.5, -1.2), (-1.2, 0.0), (0.0, 1.2), (1.2, 2.5), (2.5, 4.0), (4.0, 6.0))
BANDS_MM = ((0.0, 0.7), (0.7, 1.2), (1.2, 2.0), (2.0, 3.5))
LEVELS = 16
LBP_POINTS = 8
GLCM_PROPERTIES = ("contrast", "homogeneity", "correlation", "energy")


def feature_names() -> tuple[str, ...]:
    """Names in the order of `features`."""
    names = [f"hu_{name}" for name in ("mean", "sd", "p10", "p50", "p90", "skew")]
    for low, high in SHELLS_MM:
        shell = f"{low:g}..{high:g} mm"
        names += [f"mean at {shell}", f"sd at {shell}", f"slope at {shell}"]
    names += [f"power {a:g}-{b:g} mm in {where}" for where in ("lesion", "border") for a, b in BANDS_MM]
    names += [f"grain {axis} in {where}" for where in ("lesion", "border", "ring") for axis in ("xy", "z")]
    names += [f"glcm {name}" for name in GLCM_PROPERTIES]
    names += [f"lbp {k}" for k in range(LBP_POINTS + 2)]
    return tuple(names)


def features(patch: Patch) -> np.ndarray:
    """(F,) float64, see `feature_names`. What cannot be measured is NaN: a critic puts the median there."""
    hu = np.clip(patch.hu.astype(np.float64), -1024, 1500)
    distance = np.where(patch.known, signed_distance_mm(patch.inside), np.inf)
    lesion, border = distance < 0, (distance >= 0) & (distance <= 3)
    ring = (distance > 3) & (distance <= 7)
    values = [*_histogram(hu[lesion]), *_profile(hu, distance), *_band_powers(hu, (lesion, border))]
    for where in (lesion, border, ring):
        values += [grain(hu, where), grain(hu, where, axes=(0,))]
    return np.array([*values, *_texture(hu, lesion | border)], dtype=np.float64)


def _histogram(values: np.ndarray) -> list[float]:
    spread = float(values.std())
    skew = float(((values - values.mean()) ** 3).mean() / spread**3) if spread > 0 else 0.0
    p10, p50, p90 = np.percentile(values, [10, 50, 90])
    return [float(values.mean()), spread, float(p10), float(p50), float(p90), skew]


def _profile(hu: np.ndarray, distance: np.ndarray) -> list[float]:
    """Mean and deviation of HU, and mean steepness, per shell around the mask's surface."""
    steep = np.sqrt(sum(np.gradient(hu, axis=axis) ** 2 for axis in range(3)))
    values: list[float] = []
    for low, high in SHELLS_MM:
        shell = (distance >= low) & (distance < high)
        enough = shell.sum() >= 5
        values += [float(f(x[shell])) if enough else np.nan for f, x in _moments(hu, steep)]
    return values


def _moments(hu: np.ndarray, steep: np.ndarray):  # type: ignore[no-untyped-def]
    return ((np.mean, hu), (np.std, hu), (np.mean, steep))


def _band_powers(hu: np.ndarray, regions: tuple[np.ndarray, ...]) -> list[float]:
    """Log power between two in-plane Gaussians, per region: the noise power spectrum in four bins."""
    blurred = {s: ndimage.gaussian_filter(hu, (0, s, s)) if s else hu for pair in BANDS_MM for s in pair}
    found: list[float] = []
    for where in regions:
        for fine, coarse in BANDS_MM:
            band = (blurred[fine] - blurred[coarse])[where]
            found.append(float(np.log(np.mean(band**2) + 1)) if band.size else np.nan)
    return found


def _texture(hu: np.ndarray, where: np.ndarray) -> list[float]:
    """GLCM properties and the LBP histogram in the slice with most of the lesion and its border."""
    z = int(where.sum(axis=(1, 2)).argmax())
    flat, inside = hu[z], where[z]
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    low, high = np.percentile(flat[inside], [2, 98])
    grey = np.clip((flat - low) / max(high - low, 1.0) * (LEVELS - 1), 0, LEVELS - 1).astype(np.uint8)
    pairs = graycomatrix(grey[box], [1], [0, np.pi / 2], levels=LEVELS, symmetric=True, normed=True)
    glcm = [float(graycoprops(pairs, name).mean()) for name in GLCM_PROPERTIES]
    codes = local_binary_pattern(np.rint(flat).astype(np.int32), LBP_POINTS, 1, method="uniform")
    lbp = np.bincount(codes[inside].astype(int), minlength=LBP_POINTS + 2) / inside.sum()
    return [*glcm, *lbp.tolist()]
