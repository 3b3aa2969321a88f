"""Do seeds differ as real nodules do, is a training nodule copied, and do the features of many agree?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.metrics import structural_similarity
from tqdm import tqdm

from lesionbrush.evaluation import plots
from lesionbrush.evaluation.bench import Bench, Kind
from lesionbrush.evaluation.cases import SCORES, Nodule
from lesionbrush.evaluation.network import TrainingPlan, fit, network_features, tensor_of
from lesionbrush.evaluation.patches import Patch, resize
from lesionbrush.evaluation.results import Figure, Section
from lesionbrush.evaluation.statistics import (
    Estimate,
    by_patient,
    frechet_distance,
    mean,
    median,
    split_halves,
    squared_mmd,
)
from lesionbrush.systems.lesion_inpainting.request import SynthesisRequest

SIDE = 20
CLIP_HU = (-1000.0, 400.0)
COMPONENTS = 16
KIND: Kind = "readers"


def diversity(bench: Bench) -> Section:
    """Variants of one request against each other, and against the real nodule under the same mask."""
    chosen, apart, to_real, likeness, real_likeness = bench.spread(bench.plan.diversity_cases), [], [], [], []
    for nodule in tqdm(chosen, desc="seeds", unit="mask"):
        request = SynthesisRequest(
            attributes=nodule.readers,
            variants=bench.plan.diversity_seeds,
            seed=100,
            draw_shape=False,
            keep_vessels=False,
        )
        made = [nodule.patch(a) for a in bench.maker.make(nodule.case.crop, nodule.case.mask, request).arrays]
        pairs = [(a, b) for k, a in enumerate(made) for b in made[:k]]
        apart.append(mean(np.array([rms(a, b) for a, b in pairs])))
        to_real.append(mean(np.array([rms(a, nodule.real) for a in made])))
        likeness.append(mean(np.array([likeness_of(a, b) for a, b in pairs])))
        real_likeness.append(mean(np.array([likeness_of(a, nodule.real) for a in made])))
    patients = [nodule.patient for nodule in chosen]
    columns = [np.array(c) for c in (apart, to_real, likeness, real_likeness)]
    hu, real_hu, ssim, real_ssim = (by_patient(median, patients, c) for c in columns)
    ratio = by_patient(median, patients, columns[0] / columns[1])
    return Section(
        name="diversity",
        title="Do seeds differ?",
        text="Distances in the mask between variants of one request (readers' scores). The floor is the "
        "distance of the variants to the real nodule under the same mask: were ours drawn from what "
        "nature puts there, two of them would be as far apart as one of them and the real one (ratio "
        "1). Below 1: too little variety.",
        figures=(
            Figure(
                name="seeds_hu",
                what="RMS difference of two variants in the mask",
                unit="HU",
                value=hu,
                floor=real_hu,
            ),
            Figure(name="seeds_ssim", what="SSIM of two variants", unit="", value=ssim, floor=real_ssim),
            Figure(
                name="seeds_ratio",
                what="distance of two variants over that to the real one",
                unit="",
                value=ratio,
            ),
        ),
    )


def rms(a: Patch, b: Patch) -> float:
    """Root mean square difference of HU in the mask of `a`, of two patches on one grid."""
    return float(np.sqrt(np.mean((a.hu[a.inside] - b.hu[a.inside]) ** 2)))


def likeness_of(a: Patch, b: Patch) -> float:
    """Mean SSIM over the mask of two patches on one grid, HU clipped to `CLIP_HU`."""
    x, y = (np.clip(p.hu, *CLIP_HU).astype(np.float64) for p in (a, b))
    window = min(7, *(size - 1 + size % 2 for size in x.shape))
    _, local = structural_similarity(x, y, win_size=window, data_range=CLIP_HU[1] - CLIP_HU[0], full=True)
    return float(local[a.inside].mean())


@dataclass(frozen=True, eq=False)
class Nearest:
    """Per query: RMS HU to the nearest of a set of nodules, and which it is."""

    distance_hu: np.ndarray
    index: np.ndarray


def nearest(queries: Sequence[Patch], library: Sequence[Patch]) -> Nearest:
    """The nearest nodule of the library within each query's mask and 2 mm more, over 16 ways to turn it.

    All are centred on their masks' boxes at 1 mm; HU is clipped to `CLIP_HU`.
    """
    cubes = np.stack([_cube(patch) for patch in library])
    weights = np.stack([_weight(patch) for patch in queries]).reshape(len(queries), -1)
    wanted = np.stack([_cube(patch) for patch in queries]).reshape(len(queries), -1)
    weighted, own = weights * wanted, (weights * wanted**2).sum(axis=1)
    best = np.full((len(queries), len(library)), np.inf)
    for turned in _turns(cubes):
        flat = np.ascontiguousarray(turned).reshape(len(library), -1)
        square = own[:, None] - 2 * weighted @ flat.T + weights @ (flat**2).T
        best = np.minimum(best, np.maximum(square, 0) / weights.sum(axis=1)[:, None])
    index = best.argmin(axis=1)
    return Nearest(np.sqrt(best[np.arange(len(queries)), index]), index)


def _cube(patch: Patch) -> np.ndarray:
    cube: np.ndarray = np.clip(resize(patch, SIDE).hu, *CLIP_HU).astype(np.float32)
    return cube


def _weight(patch: Patch) -> np.ndarray:
    """1 in the mask and 2 mm around, where the query has data."""
    from lesionbrush.evaluation.measures import signed_distance_mm

    small = resize(patch, SIDE)
    return ((signed_distance_mm(small.inside) <= 2) & small.known).astype(np.float32)


def _turns(cubes: np.ndarray):  # type: ignore[no-untyped-def]
    for transposed in (cubes, cubes.swapaxes(2, 3)):
        for flips in range(8):
            yield np.flip(transposed, [axis + 1 for axis in range(3) if flips >> axis & 1])


def memorisation(bench: Bench) -> Section:
    """Are ours nearer to a training nodule than real nodules of other patients are?"""
    library = bench.training_patches
    ours, real = nearest(bench.patches(KIND), library), nearest(bench.real_patches, library)
    own_training = _to_own(bench, bench.spread(bench.plan.copied_cases, bench.training))
    own_held_out = _to_own(bench, bench.spread(bench.plan.copied_cases))
    close = np.percentile(real.distance_hu, 5)
    picture = bench.picture(
        plots.histograms(
            {"ours": ours.distance_hu.tolist(), "real, held out": real.distance_hu.tolist()},
            "RMS HU to the nearest training nodule",
        ),
        "memorisation.png",
        "Distance to the nearest training nodule.",
    )
    ratio = by_patient(median, bench.patients, ours.distance_hu / real.distance_hu)
    return Section(
        name="memorisation",
        title="Are training nodules copied?",
        text=f"RMS HU to the nearest of {len(library)} training nodules, centred at 1 mm, within the mask "
        "and 2 mm more, over mirror images and in-plane transposes. The floor is the same for the "
        "real held-out nodule. Then a harder question: under a training nodule's own mask, does that "
        "nodule come back? It would if it were nearer to its original there than on held-out patients"
        " (the floor).",
        figures=(
            Figure(
                name="nearest_training",
                what="distance of ours to the nearest training nodule",
                unit="HU",
                value=by_patient(median, bench.patients, ours.distance_hu),
                floor=by_patient(median, bench.patients, real.distance_hu),
            ),
            Figure(name="nearest_ratio", what="the same, ours over real", unit="", value=ratio),
            Figure(
                name="nearest_share",
                what="share of ours nearer than the nearest 5 % of real ones",
                unit="",
                value=by_patient(mean, bench.patients, (ours.distance_hu < close).astype(float)),
                floor=by_patient(mean, bench.patients, (real.distance_hu < close).astype(float)),
            ),
            Figure(
                name="own_mask",
                what="distance to the original under a training mask (floor: under held-out masks)",
                unit="HU",
                value=own_training,
                floor=own_held_out,
            ),
        ),
        pictures=(picture,),
    )


def _to_own(bench: Bench, nodules: Sequence[Nodule]) -> Estimate:
    made = bench.maker.all(nodules, [nodule.readers for nodule in nodules], "own masks")
    apart = [rms(nodule.real, nodule.patch(hu)) for nodule, hu in zip(nodules, made, strict=True)]
    return by_patient(median, [nodule.patient for nodule in nodules], np.array(apart))


def distributions(bench: Bench) -> Section:
    """FID and MMD between random halves of the patients: real against ours, and real against real."""
    reader = fit(
        tensor_of(bench.training_patches),
        _scores(bench.training),
        TrainingPlan(bench.plan.reader_epochs, bench.plan.least_steps),
    )
    real = network_features(reader, tensor_of(bench.real_patches))
    ours = network_features(reader, tensor_of(bench.patches(KIND)))
    known = network_features(reader, tensor_of(bench.training_patches))
    centre, axes = _principal(known)
    real, ours = (real - centre) @ axes, (ours - centre) @ axes
    rng, values = np.random.default_rng(0), []
    for _ in range(bench.plan.halvings):
        first, second = split_halves(bench.patients, rng)
        if min(len(first), len(second)) < 3:
            break
        sides = ((real[first], ours[second]), (real[first], real[second]))
        values.append([f(a, b) for f in (frechet_distance, squared_mmd) for a, b in sides])
    fid, fid_floor, mmd, mmd_floor = (
        Estimate.of(median(column), column.tolist(), len(real))
        for column in (np.array(values).T if values else np.full((4, 1), np.nan))
    )
    return Section(
        name="distributions",
        title="FID and MMD",
        text="Features of a small 3D network trained here to predict the readers' scores on real nodules "
        f"of training patients, on their first {COMPONENTS} principal axes (scaled to variance 1 over "
        "training nodules): no network for CT comes with this project, and a network that knows "
        "nodules looks at what readers look at. Real nodules of a random half of the patients against"
        " ours of the other half; the floor is real against real, over the same halves; intervals are"
        " over the halvings. Only to be compared with the floor beside it and other runs of this "
        "command, never with other papers.",
        figures=(
            Figure(name="fid", what="Frechet distance", unit="", value=fid, floor=fid_floor),
            Figure(name="mmd", what="squared MMD, Gaussian kernel", unit="", value=mmd, floor=mmd_floor),
        ),
    )


def _scores(nodules: Sequence[Nodule]) -> np.ndarray:
    """(N, 6) readers' scores, calcification as yes or no, and the logarithm of the volume; about -1 to 1."""
    rows = [[nodule.scores[name] for name in SCORES] for nodule in nodules]
    table = (np.array(rows) - 3) / 2
    table[:, SCORES.index("Calcification")] = [
        2.0 * (row[SCORES.index("Calcification")] != 6) - 1 for row in rows
    ]
    volume = np.log([nodule.real.inside.sum() + 1.0 for nodule in nodules])
    return np.column_stack((table, (volume - 6) / 2))


def _principal(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre, and (D, K) axes that scale the first components to variance 1."""
    centre = features.mean(axis=0)
    _, sizes, directions = np.linalg.svd(features - centre, full_matrices=False)
    kept = min(COMPONENTS, int((sizes > 1e-6 * sizes[0]).sum()))
    axes: np.ndarray = directions[:kept].T / sizes[:kept] * np.sqrt(max(1, len(features) - 1))
    return centre, axes
