"""The split, the pack and the batches drawn from it."""

from __future__ import annotations

from dataclasses import fields
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from lesionbrush.core.volume import Volume
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES, healthy
from lesionbrush.systems.lesion_inpainting.data import (
    PATCHES,
    USUAL_NOISE,
    Batch,
    Batches,
    Pack,
    Sample,
    in_the_way,
    noise_level,
    stands_free,
)
from lesionbrush.systems.lesion_inpainting.network import LesionUNetConfig
from lesionbrush.systems.lesion_inpainting.pack import nodule_cases, write_pack
from lesionbrush.systems.lesion_inpainting.request import Attributes
from lesionbrush.training.split import VALIDATION_SHARE, is_validation
from training_kit import EVERYBODY, HELD_OUT, RADII_MM, SEEN, WINDOW

pytest_plugins = "training_fixtures"


def test_the_split_is_the_one_the_model_was_trained_with() -> None:
    """Frozen: another split would let patients that were trained on pass for new ones."""
    sides = "".join(str(int(is_validation(patient))) for patient in EVERYBODY)
    expected = "7298d6dee7c441d7caa98e1690e652977774796e3ff2afdd80f79031a81bc6d3"
    assert sha256(sides.encode()).hexdigest() == expected
    assert sides.count("1") / len(sides) == pytest.approx(VALIDATION_SHARE, abs=0.03)
    assert is_validation("LIDC-IDRI-0314")


def test_no_patient_is_on_both_sides(seen: Pack, held_out: Pack, training_pack: Path) -> None:
    with np.load(training_pack) as file:
        patients = {kind: file[f"{kind}_patients"] for kind in ("nodule", "host")}
    sides = [
        {str(p) for p in (*patients["nodule"][pack.nodules], *patients["host"][pack.hosts])}
        for pack in (seen, held_out)
    ]
    assert sides[0] == {SEEN[0], SEEN[1]}
    assert sides[1] == {*HELD_OUT, "LIDC-IDRI-0314"}


def test_the_pack_holds_what_was_read_and_healthy_lung(
    seen: Pack, held_out: Pack, training_pack: Path
) -> None:
    names = [pack.name(k) for pack in (seen, held_out) for k in pack.nodules]
    assert sorted(names) == sorted(f"{p}_R_{n}.nii.gz" for p in SEEN[:2] + HELD_OUT for n in (1, 2, 3))
    with np.load(training_pack) as file:
        hosts = sorted(file["host_names"])
    assert hosts == sorted([f"{SEEN[0]}.nii.gz", "LIDC-IDRI-0314.nii.gz", f"{SEEN[1]}_0.npz"])


def test_nodules_keep_their_size_and_hu_on_the_grid_of_the_model(seen: Pack) -> None:
    for k, radius in zip(seen.nodules[:3], RADII_MM, strict=True):
        image, mask = seen.nodule(k)
        assert image.dtype == np.int16
        assert mask.sum() / 255 == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.05)
        assert seen.extents[k - seen.nodules[0]] == pytest.approx(2 * radius, abs=1.5)
        assert np.median(image[mask == 255]) == pytest.approx(30, abs=10)  # the kernel overshoots at the edge
        np.testing.assert_allclose(seen.attributes(k)[:6], [1, 0.75, 0.75, 0.75, 0.75, 0])
        assert seen.attributes(k)[6] == pytest.approx(image[mask > 127].mean() / 1000, abs=0.002)


def test_the_order_in_which_a_nodule_is_stored_does_not_matter(tmp_path: Path, training_folder: Path) -> None:
    nodules = tmp_path / "lidc_nodules"
    for part in ("images", "masks"):
        (nodules / part).mkdir(parents=True)
        for file in (training_folder / "lidc_nodules" / part).glob(f"{SEEN[0]}_R_1*"):
            stored = read_volume(file)
            turn = np.diag([-1.0, -1, 1, 1])
            turn[:2, 3] = stored.shape[0] - 1, stored.shape[1] - 1
            write_volume(Volume(stored.array[::-1, ::-1], stored.affine @ turn), nodules / part / file.name)
    (nodules / "attributes.csv").write_bytes(
        (training_folder / "lidc_nodules" / "attributes.csv").read_bytes()
    )
    turned = next(iter(nodule_cases(tmp_path)))
    original = next(iter(nodule_cases(training_folder)))
    assert turned.name == original.name
    assert np.array_equal(turned.image, original.image)
    assert np.array_equal(turned.mask, original.mask)


def test_places_in_hosts_are_lung_with_room_around_them(seen: Pack) -> None:
    for k in seen.hosts:
        image, centres = seen.host(k)
        assert len(centres) > 100
        assert image[tuple(centres.T)].mean() < -650
        assert (centres >= 12).all()
        assert (centres < np.array(image.shape) - 12).all()


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"attributes\.csv: point --data"):
        write_pack(tmp_path, tmp_path / "pack.npz")
    assert not list(tmp_path.iterdir())


# --- batches ---


@pytest.fixture(scope="module")
def drawn(seen: Pack) -> list[Batch]:
    batches = Batches(seen, WINDOW, np.random.default_rng(0), PATCHES)
    return [batches.draw() for _ in range(8)]


def test_batches_come_in_all_sizes(drawn: list[Batch]) -> None:
    sides = {batch.image.shape[-1] for batch in drawn}
    assert sides == set(PATCHES.sides)
    for batch in drawn:
        side = batch.image.shape[-1]
        shape = (PATCHES.counts[PATCHES.sides.index(side)], 1, side, side, side)
        assert all(t.shape == shape for t in (batch.image, batch.visible, batch.mask, batch.scored))
        assert batch.attributes.shape == (len(batch.image), 2 * len(ATTRIBUTES))
        assert batch.weight.shape == (len(batch.image),)
        assert all(getattr(batch, part.name).dtype == torch.float32 for part in fields(batch))


def test_no_patch_is_so_small_that_gradients_are_random() -> None:
    """Below 3 voxels a side at the lowest level, oneDNN's bfloat16 gradients read memory nobody wrote."""
    assert min(PATCHES.sides) / LesionUNetConfig(len(ATTRIBUTES)).multiple >= 3


def test_what_is_visible_is_never_scored_and_the_lesion_is_never_visible(drawn: list[Batch]) -> None:
    for batch in drawn:
        assert not (batch.visible * batch.scored).any()
        assert not (batch.visible * (batch.mask > 0.5)).any()
        assert set(batch.visible.unique().tolist()) <= {0, 1}
        assert (batch.scored.flatten(1).sum(dim=1) > 0).all()
        assert batch.image.abs().max() <= 1
        assert (batch.mask >= 0).all()
        assert (batch.mask <= 1).all()


def test_the_conditions_show_the_context_and_nothing_under_the_edit_region(drawn: list[Batch]) -> None:
    for batch in drawn:
        context, visible, mask = batch.conditions.unbind(dim=1)
        assert not context[visible == 0].any()
        assert torch.equal(context[visible == 1], batch.image[:, 0][visible == 1])
        assert torch.equal(mask, batch.mask[:, 0])


def test_healthy_samples_say_so_and_nothing_else(drawn: list[Batch]) -> None:
    rows = torch.cat([batch.attributes for batch in drawn])
    given = rows[:, len(ATTRIBUTES) :]
    blind = given[:, 0] == 0
    assert blind.float().mean() < 0.3
    assert not given[blind].any()
    rows, given = rows[~blind], given[~blind]
    healthy = rows[:, 0] == 0
    assert 0.05 < healthy.float().mean() < 0.4
    assert not given[healthy][:, 1:].any()
    lesions = given[~healthy][:, 1:]
    assert 0.2 < lesions.mean() < 0.8  # some attributes are left open, some are not
    assert not rows[:, : len(ATTRIBUTES)][given == 0].any()


def test_composed_and_healthy_samples_are_known_everywhere_and_crops_are_not(seen: Pack) -> None:
    batches = Batches(seen, WINDOW, np.random.default_rng(3), PATCHES)
    nodule = batches._nodule(48)
    assert not nodule.known.all()
    batches._host_patch = lambda side: np.full((side,) * 3, -850.0)
    composed = batches._compose(nodule, 48)
    assert composed.known.all()
    core = (nodule.mask > 0.5) & nodule.known
    assert np.array_equal(composed.image_hu[core], nodule.image_hu[core])
    healthy = batches._healthy(24)
    assert healthy.known.all()
    assert healthy.attributes[0] == 0
    assert (healthy.mask > 0.5).any()


def nodule_sample(around_hu: np.ndarray, lesion_hu: float = 40.0) -> Sample:
    """A ball of 5 voxels in the middle of what is around it."""
    mask = BALL.astype(np.float32)
    hu = np.where(BALL, lesion_hu, around_hu).astype(np.float32)
    return Sample(hu, mask, np.ones(BALL.shape, bool), Attributes().vector())


GRID = np.mgrid[:32, :32, :32] - 15.5
BALL = (GRID**2).sum(axis=0) < 25
OPEN_LUNG = np.full(BALL.shape, -850.0)


def test_only_nodules_that_stand_free_are_composed() -> None:
    assert stands_free(nodule_sample(OPEN_LUNG))
    assert not stands_free(nodule_sample(np.where(GRID[2] > 2, 40.0, -850.0)))
    batches = Batches.__new__(Batches)
    batches._host_patch = lambda side: OPEN_LUNG
    attached = nodule_sample(np.where(GRID[2] > 2, 40.0, -850.0))
    assert batches._compose(attached, 32) is attached


def test_the_hosts_pleura_stays_right_up_to_the_nodule() -> None:
    """No rim of the nodule's own lung may lie between: a model would learn to put one there."""
    pleura = np.where(GRID[2] > 5, 50.0, -850.0)
    stays = in_the_way(pleura, nodule_sample(OPEN_LUNG))
    beside = (GRID[2] > 7) & ~BALL
    assert stays[beside].min() == 1
    assert stays[GRID[2] < 2].max() == 0


def test_a_vessel_runs_through_ground_glass_but_not_through_solid_tissue_or_a_cavity() -> None:
    vessel = np.where((np.abs(GRID[0]) < 2) & (np.abs(GRID[1]) < 2), 50.0, -850.0)
    inside = BALL & (vessel > 0)
    glass, solid, cavity = (nodule_sample(OPEN_LUNG, hu) for hu in (-550.0, 40.0, -950.0))
    assert in_the_way(vessel, glass)[inside].max() == 1
    assert in_the_way(vessel, solid)[inside].max() == 0
    assert in_the_way(vessel, cavity)[(GRID**2).sum(axis=0) < 6].max() == 0


def test_the_lesion_of_a_crop_is_scored_where_there_is_data_only(seen: Pack) -> None:
    batches = Batches(seen, WINDOW, np.random.default_rng(1), PATCHES)
    sample = batches._nodule(48)
    batch = batches.collate([sample])
    unknown = torch.from_numpy(~sample.known)
    assert not batch.visible[0, 0][unknown].any()
    assert not batch.scored[0, 0][unknown].any()
    around = batch.scored[0, 0] + batch.visible[0, 0]
    assert (around[~unknown] == 1).all()


def test_the_same_generator_draws_the_same_batches(seen: Pack) -> None:
    sources = (Batches(seen, WINDOW, np.random.default_rng(seed), PATCHES) for seed in (5, 5, 6))
    first, again, other = (source.draw() for source in sources)
    assert all(torch.equal(getattr(first, p.name), getattr(again, p.name)) for p in fields(Batch))
    assert first.image.shape != other.image.shape or not torch.equal(first.image, other.image)


def test_noise_is_measured_past_edges_and_in_what_is_visible() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.07, (20, 30, 30)).astype(np.float32)
    image[:, :, 15:] += 1
    visible = np.ones(image.shape, bool)
    assert noise_level(image, visible) == pytest.approx(0.07, rel=0.05)
    image[:10] = 0
    visible[:10] = False
    assert noise_level(image, visible) == pytest.approx(0.07, rel=0.05)
    assert noise_level(image, np.zeros_like(visible)) == USUAL_NOISE
    assert noise_level(np.zeros_like(image), visible) > 0


@pytest.mark.parametrize(("noise_hu", "expected"), [(5, 4.0), (20, 2.25), (30, 1.0), (45, 0.44), (90, 0.3)])
def test_calm_scans_weigh_more_up_to_a_limit(seen: Pack, noise_hu: float, expected: float) -> None:
    noise = np.random.default_rng(0).normal(-800, noise_hu, 3 * (32,))
    mask = np.zeros(noise.shape)
    mask[14:18, 14:18, 14:18] = 1
    batches = Batches(seen, WINDOW, np.random.default_rng(0), PATCHES)
    batch = batches.collate([Sample(noise, mask, np.ones(noise.shape, bool), healthy())])
    assert float(batch.weight) == pytest.approx(expected, rel=0.06)
