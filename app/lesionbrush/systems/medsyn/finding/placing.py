"""Where in the lungs of a CT a finding comes to lie: what two chests differ in, put into a third.

Where lung becomes less dense, as in emphysema, the CT is shifted, and keeps its vessels; where it becomes
denser, as by fluid, it is replaced. Arrays are (Z, Y, X).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from lesionbrush.core.boxes import bounding_box, dilate
from lesionbrush.core.roi import axis_weights, resample, triangle
from lesionbrush.core.rois import RoiBatch
from lesionbrush.systems.medsyn.channels import CHANNELS, CT, WINDOW
from lesionbrush.systems.medsyn.field import ChestField
from lesionbrush.systems.medsyn.finding.averages import average
from lesionbrush.systems.medsyn.finding.giving_way import TISSUE_HU, GivingWay, give_way
from lesionbrush.systems.medsyn.finding.hooks import AskedOfLungs
from lesionbrush.systems.medsyn.finding.topics import Side, falls, fills, find_side, lowers
from lesionbrush.systems.medsyn.held import HeldChannels

LEAST_COVERED = 0.02
"""Of a voxel: with less lung it is held as the CT has it."""
DENSE_HU, NOISE_HU, SEEN_HU = 15.0, 20.0, (10.0, 30.0)
"""What lung becomes where it is replaced: fluid. Smaller differences are the network's noise. A shift is
nothing up to the first of the last two, and itself from the second on."""
LIKELY, FALL, REACH_MM, WALL_MM = 0.08, 0.3, 30.0, 12.0
"""Of what fluid makes: a place that differs by so much is as likely as any; and what 100 mm away from the
wall take off that; how far beside such places it may lie; and from how far on from the wall they are told."""
HEIGHT_COUNTS, BASE_COUNTS, MENISCUS_MM = 0.4, 0.2, 25.0
"""How much height above the back and above the base counts beside distance to the wall, and up to about which
distance: the middle of a large amount is level."""
LEAST_VOXELS, LEAST_PART, EDGE_VOXELS, POCKET_VOXELS = 40.0, 0.15, 1.5, 8
"""Of what is replaced: less is nothing, as are parts smaller than this share of the largest; how soft its
border is; and how far pockets of air are filled that it closes off."""
LEAST_ML, MET, ROUNDS, SMOOTH_VOXELS = 3.0, 0.9, 3, 1.5
USUAL_LUNG_HU, SMOOTH_SHARE, AROUND_MM = -850.0, 0.02, 10.0
"""The second is of the field: how far the difference is averaged; the last how far around the lungs goes what
is looked at."""


@dataclass(frozen=True, eq=False)
class ChestInRoi:
    """One CT in the model's field. spacing_mm: of the ROI; covered: the share of a voxel that may change;
    lungs: that is lung, also where it may not."""

    field: ChestField
    hu: np.ndarray
    covered: np.ndarray
    lungs: np.ndarray
    inside: np.ndarray
    spacing_mm: np.ndarray

    @property
    def voxel_ml(self) -> float:
        """Of the ROI."""
        return float(np.prod(self.spacing_mm)) / 1000

    @property
    def middle_x(self) -> int:
        """From here on x is in the right half of the field."""
        middle_mm = self.field.first_mm[2] + self.field.size_mm[2] / 2
        return int(np.clip(np.ceil(middle_mm / self.spacing_mm[2]), 0, self.hu.shape[2]))

    @property
    def lung_hu(self) -> float:
        """The median of what may change."""
        whole = self.hu[self.covered > 0.9]
        return float(np.median(whole)) if whole.size else USUAL_LUNG_HU

    @classmethod
    def of(cls, rois: RoiBatch, asked: AskedOfLungs) -> ChestInRoi:
        """Raises NoLungs. Beyond its end a mask goes on in a ROI: there is no lung there that counts."""
        spacing_mm, inside = np.full(3, rois.spacing_mm), rois.inside[0]
        there = bounding_box(inside)
        field = ChestField.around(asked.lungs[there] >= 0.5, spacing_mm)
        z, y, x = (mm + part.start * rois.spacing_mm for mm, part in zip(field.first_mm, there, strict=True))
        laid = ChestField((z, y, x), field.size_mm)
        covered, lungs = (one * inside for one in (rois.mask[0], asked.lungs))
        return cls(laid, rois.reference_hu[0], covered, lungs, inside, spacing_mm)

    def hold(self, side: int) -> HeldChannels:
        """The CT outside the lungs, as far as there is one; see `HeldChannels`."""
        unit = np.full((1, len(CHANNELS), side, side, side), -1.0, np.float32)
        editable = np.ones_like(unit)
        known = self.field.known(self.hu.shape, self.spacing_mm, side)
        there = self.field.take(self.inside, self.spacing_mm, side, triangle)[known] > 0.99
        held = there & (self.cover(side)[known] < LEAST_COVERED)
        unit[0, CT][known] = WINDOW.to_unit(self.field.take(self.hu, self.spacing_mm, side)[known])
        editable[0, CT][known] = ~held
        return HeldChannels(torch.from_numpy(unit), torch.from_numpy(editable))

    def cover(self, side: int) -> np.ndarray:
        """`covered` in the field."""
        return np.clip(self.field.take(self.covered, self.spacing_mm, side, triangle), 0, 1)

    def back(self, values: np.ndarray) -> np.ndarray:
        """What lies in the field, (side, side, side), on the ROI."""
        sides = zip(values.shape, self.hu.shape, self.spacing_mm, strict=True)
        weights = [
            axis_weights(self.field.positions_mm(axis, side), np.arange(n) * mm)
            for axis, (side, n, mm) in enumerate(sides)
        ]
        return resample(values, weights)


@dataclass(frozen=True)
class FindingWish:
    """fills, lowers: whether lung may be replaced, and shifted; falls: by fluid; side, low_side: where, None
    for both lungs; amount_ml: of what is replaced, None for as much as the chests say."""

    fills: bool = True
    falls: bool = True
    lowers: bool = True
    side: Side | None = None
    low_side: Side | None = None
    amount_ml: float | None = None

    @classmethod
    def of(cls, text: str, amount_ml: float | None) -> FindingWish:
        """What a text does not speak of is not changed, whatever the networks take it for."""
        sides = find_side(text), find_side(text, low=True)
        return cls(fills(text), falls(text), lowers(text), *sides, amount_ml)


ANY = FindingWish()


@dataclass(frozen=True, eq=False)
class PutIn:
    """(Z, Y, X) on the ROI. hu: what takes the place of the CT; kept: 0..1, where the CT stays; shift: HU
    that it is shifted by there; pull_mm: (3, Z, Y, X), from where it is taken before; replaced: 0..1, where
    there is no lung any more."""

    hu: np.ndarray
    kept: np.ndarray
    shift: np.ndarray
    pull_mm: np.ndarray
    replaced: np.ndarray

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> PutIn:
        """The CT stays as it is."""
        zeros, ones = (value * np.ones(shape, np.float32) for value in (0, 1))
        return cls(DENSE_HU * ones, ones, zeros, np.zeros((3, *shape), np.float32), zeros.copy())

    def describe(self, chest: ChestInRoi, wish: FindingWish) -> str:
        """How much of the lungs it is, and what to do where it is nothing."""
        ml = chest.covered * chest.voxel_ml
        shares = (self.replaced, np.abs(self.shift) >= 1, self._pressed())
        replaced, shifted, pressed = ((ml * share).sum() for share in shares)
        right = (ml * self.replaced)[..., chest.middle_x :].sum()
        said = (
            f"{replaced:.0f} of {ml.sum():.0f} ml of lung replaced ({right:.0f} right, "
            f"{replaced - right:.0f} left), {shifted:.0f} ml shifted in HU"
        )
        if pressed:
            said += f", {pressed:.0f} ml pressed together beside it"
        if wish.fills and replaced < LEAST_ML:
            said += ": ask for large fluid, and give amount_ml"
        elif wish.amount_ml is not None and replaced < MET * wish.amount_ml:
            said += f"; {wish.amount_ml:.0f} ml were asked for, for which the text names no place"
        return said

    def _pressed(self) -> np.ndarray:
        """bool: lung that gave way."""
        pressed: np.ndarray = (np.linalg.norm(self.pull_mm, axis=0) > 0) & (self.replaced < 0.5)
        return pressed


def put_in(chest: ChestInRoi, with_it: np.ndarray, without: np.ndarray, wish: FindingWish = ANY) -> PutIn:
    """What two chests in the field, (N, N, N) HU, differ in, put into the CT."""
    side = with_it.shape[0]
    covered = chest.cover(side)
    deep = ndimage.gaussian_filter(covered, SMOOTH_SHARE * side)
    trusted = covered * np.clip(2 * deep - 1, LEAST_COVERED, 1)  # at the wall coarse voxels are half wall
    share = (with_it - without) / np.maximum(covered, 0.1)
    differs = average(share, trusted, SMOOTH_SHARE * side)
    box = dilate(bounding_box(chest.lungs > 0), AROUND_MM, chest.spacing_mm, chest.hu.shape)
    change, low = (chest.back(on_side(differs, one))[box] for one in (wish.side, wish.low_side))
    cropped = (chest.hu, chest.covered, chest.lungs)
    hu, covered, lungs = (one[box] for one in cropped)
    near = _put_near(replace(chest, hu=hu, covered=covered, lungs=lungs), change, low, wish)
    whole = PutIn.none(chest.hu.shape)
    for name, part in vars(near).items():
        getattr(whole, name)[..., box[0], box[1], box[2]] = part
    return whole


def on_side(change: np.ndarray, side: Side | None) -> np.ndarray:
    """change, (Z, Y, X) in the field, whose middle is between the lungs and whose x runs to the right."""
    if side is None:
        return change
    middle, kept = change.shape[2] // 2, np.zeros_like(change)
    there = slice(middle, None) if side == "right" else slice(None, middle)
    kept[:, :, there] = change[:, :, there]
    return kept


def _put_near(chest: ChestInRoi, change: np.ndarray, low: np.ndarray, wish: FindingWish) -> PutIn:
    """Of the part of a ROI around the lungs. change, low: of what fills and of what lowers, on its side."""
    replaced, shift = np.zeros_like(change), np.zeros_like(change)
    way = GivingWay.none(change.shape)
    if wish.fills:
        full_hu = DENSE_HU - chest.lung_hu
        amount_ml = expect_ml(change, chest, full_hu) if wish.amount_ml is None else wish.amount_ml
        order = let_fall(change, chest.lungs, chest.spacing_mm, full_hu) if wish.falls else change
        replaced = settle(order, chest.covered, amount_ml / chest.voxel_ml)
    if wish.falls:
        fluid = (replaced > 0.5) & (chest.covered >= 0.5)
        way = give_way(fluid, chest.lungs >= 0.5, chest.spacing_mm)
    if wish.lowers:
        shift = np.minimum(low, 0) * _rise(-low, *SEEN_HU) * (1 - replaced)
    pressed = (1 - replaced) * way.dense
    full = replaced + pressed
    hu = DENSE_HU + (TISSUE_HU - DENSE_HU) * pressed / np.maximum(full, 1e-6)
    return PutIn(hu, 1 - full, shift, way.pull_mm, replaced)


def expect_ml(change: np.ndarray, chest: ChestInRoi, full_hu: float) -> float:
    """How much of the lungs a difference comes to: a tenth of what fluid makes is no thin fluid, but fluid in
    one of ten chests like this."""
    likely = chest.covered * np.clip(change - NOISE_HU, 0, full_hu) / full_hu
    return float(likely.sum()) * chest.voxel_ml


def let_fall(change: np.ndarray, lungs: np.ndarray, spacing_mm: np.ndarray, full_hu: float) -> np.ndarray:
    """Where fluid goes first: where it is likely, and of such places to those at the wall and the back of a
    supine patient, from which it tapers off along the wall. lungs: shares 0..1, whose border is the wall."""
    inside = lungs >= 0.5
    if not inside.any():
        return change
    low, back, _ = bounding_box(inside)
    z_mm, y_mm = (np.arange(n) * mm for n, mm in zip(change.shape[:2], spacing_mm, strict=False))
    deep_mm = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    change = _from_within(change, deep_mm >= min(WALL_MM, float(deep_mm.max())))
    away_mm = MENISCUS_MM * (1 - np.exp(-deep_mm / MENISCUS_MM))
    away_mm += HEIGHT_COUNTS * (y_mm - y_mm[back.start])[None, :, None]
    away_mm += BASE_COUNTS * (z_mm - z_mm[low.start])[:, None, None]
    likely = np.clip(change, 0, LIKELY * full_hu) - FALL * full_hu * away_mm / 100
    if (change > NOISE_HU).any():
        beside_mm = ndimage.distance_transform_edt(change <= NOISE_HU, sampling=spacing_mm)
        order = np.where(beside_mm <= REACH_MM, likely + full_hu, change)
        return average(order, inside, SMOOTH_VOXELS)  # places are told in steps of voxels
    return change


def _from_within(change: np.ndarray, within: np.ndarray) -> np.ndarray:
    """At the wall, where coarse voxels are half wall, as the nearest place away from it has it."""
    nearest = ndimage.distance_transform_edt(~within, return_distances=False, return_indices=True)
    taken: np.ndarray = change[tuple(nearest)]
    return taken


def settle(order: np.ndarray, covered: np.ndarray, voxels: float) -> np.ndarray:
    """0..1: so many voxels of lung that are replaced, the highest of `order` first, but for small parts."""
    inside = covered > LEAST_COVERED
    wanted = min(voxels, float(covered[inside & (order > NOISE_HU)].sum()))
    share = np.zeros_like(order)
    if wanted < LEAST_VOXELS:
        return share
    asked = wanted
    for _ in range(ROUNDS):  # what small parts and soft borders take off goes to the others
        from_hu = _find_level(order, covered, asked)
        order = _without_small_parts(order, covered, from_hu)
        filled = _without_pockets(inside & (order >= from_hu), inside).astype(np.float64)
        share = _rise(average(filled, covered, EDGE_VOXELS), 0.3, 0.7)
        asked *= float(np.clip(wanted / max(float((covered * share).sum()), 1.0), 0.5, 2.0))
    return share


def _without_pockets(filled: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """filled, and what of the lungs it closes off."""
    parts, count = ndimage.label(inside & ~filled)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    is_pocket = sizes < LEAST_PART * sizes[1:].max(initial=0)
    is_pocket[0] = False
    closed: np.ndarray = filled | (
        is_pocket[parts] & ndimage.binary_dilation(filled, iterations=POCKET_VOXELS)
    )
    return closed


def _find_level(change: np.ndarray, covered: np.ndarray, wanted: float) -> float:
    """From where on so many voxels are filled."""
    inside = covered > LEAST_COVERED
    order = np.argsort(-change[inside], kind="stable")
    filled = np.cumsum(covered[inside][order])
    return float(change[inside][order[min(int(np.searchsorted(filled, wanted)), filled.size - 1)]])


def _without_small_parts(change: np.ndarray, covered: np.ndarray, from_hu: float) -> np.ndarray:
    """change, not above 0 in and around parts above a level that are small beside the largest."""
    parts, count = ndimage.label((change >= from_hu) & (covered > LEAST_COVERED))
    sizes = ndimage.sum_labels(covered, parts, np.arange(count + 1))
    is_small = sizes < LEAST_PART * sizes[1:].max(initial=0)
    is_small[0] = False
    around = ndimage.binary_dilation(is_small[parts], iterations=2) & ((parts == 0) | is_small[parts])
    return np.where(around, np.minimum(change, 0), change)


def _rise(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 up to low, 1 from high on, smooth between."""
    share = np.clip((values - low) / (high - low), 0, 1)
    smooth: np.ndarray = share * share * (3 - 2 * share)
    return smooth
