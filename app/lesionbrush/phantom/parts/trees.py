"""Bronchial and vascular trees that fill a lung.

Growth is level by level: every branch runs part of the way to the centre of the tissue it supplies, then that
tissue is split in two (the volume filling of Tawhai, Pullan and Hunter 2000, Ann Biomed Eng 28:793). Calibre
follows Murray's law: the cube of the radius is the sum of the children's cubes (Murray 1926, PNAS 12:207).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lesionbrush.core.volume import Array
from lesionbrush.phantom.parts.canvas import Canvas, draw_capsule

REACH = 0.4


@dataclass(frozen=True, eq=False)
class Tree:
    """Branches, parents before children.

    start, end: (N, 3) mm; supplies: (N,) number of tips; parent: (N,) index of the branch before, -1: none.
    """

    start: Array
    end: Array
    supplies: Array
    parent: Array

    def radius_mm(self, tip_radius_mm: float) -> Array:
        """(N,) by Murray's law, all tips alike."""
        return tip_radius_mm * np.cbrt(self.supplies)

    def trunk(self, min_supplies: int) -> Tree:
        """The branches with at least that many tips."""
        keep = self.supplies >= min_supplies
        number = np.cumsum(keep) - 1
        parent = np.where(self.parent[keep] >= 0, number[self.parent[keep]], -1)
        return Tree(self.start[keep], self.end[keep], self.supplies[keep], parent)


def grow_tree(root: Array, tips: Array, lobe: Array, generator: np.random.Generator) -> Tree:
    """A binary tree from `root` (3,) to all `tips` (N, 3), mm; one trunk for each value of `lobe` (N,)."""
    _, group = np.unique(lobe, return_inverse=True)
    start = np.tile(root, (group.max() + 1, 1))
    parent = np.full(len(start), -1)
    levels: list[Tree] = []
    grown = 0
    while len(tips):
        supplies = np.bincount(group)
        end = start + np.where(supplies == 1, 1.0, REACH)[:, None] * (_mean(tips, group) - start)
        levels.append(Tree(start, end, supplies, parent))
        alive = supplies[group] > 1
        halves = 2 * group + _upper_half(tips, group, generator)
        tips, halves = tips[alive], halves[alive]
        names, group = np.unique(halves, return_inverse=True)
        start, parent = end[names // 2], names // 2 + grown
        grown += len(supplies)
    return _join(levels)


def _join(trees: list[Tree]) -> Tree:
    fields = zip(*((tree.start, tree.end, tree.supplies, tree.parent) for tree in trees), strict=True)
    return Tree(*map(np.concatenate, fields))


def _mean(values: Array, group: Array) -> Array:
    sums = np.stack([np.bincount(group, column) for column in values.T], axis=1)
    return sums / np.bincount(group)[:, None]


def _upper_half(tips: Array, group: Array, generator: np.random.Generator) -> Array:
    """Per tip 0 or 1: its side of an uneven cut across the longest axis of its group; no side is empty."""
    spread = tips - _mean(tips, group)[group]
    moments = _mean((spread[:, :, None] * spread[:, None, :]).reshape(-1, 9), group).reshape(-1, 3, 3)
    longest = np.linalg.eigh(moments)[1][:, :, -1]
    rank = _rank_in_group(np.einsum("ij,ij->i", spread, longest[group]), group)
    size = np.bincount(group)
    cut = np.round(size * generator.uniform(0.22, 0.78, len(size)))
    return (rank >= np.clip(cut, 1, np.maximum(size - 1, 1))[group]).astype(np.int64)


def _rank_in_group(values: Array, group: Array) -> Array:
    order = np.lexsort((values, group))
    size = np.bincount(group)
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values)) - np.repeat(np.cumsum(size) - size, size)
    return rank


def beside(tree: Tree, distance_mm: Array, direction: Array) -> Tree:
    """The tree moved sideways by `distance_mm` (N,) to `direction` (3,): a bronchus beside its artery."""
    axis = tree.end - tree.start
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-6)
    shift = distance_mm[:, None] * (direction - (axis @ direction)[:, None] * axis)
    end = tree.end + shift
    start = np.where(tree.parent[:, None] >= 0, end[tree.parent], tree.start + shift)
    return Tree(start, end, tree.supplies, tree.parent)


def draw_tree(canvas: Canvas, tree: Tree, radius_mm: Array, hu: float) -> None:
    """Blend every branch in as a tube that narrows towards the calibre of its children."""
    narrower = np.where(tree.supplies > 1, 0.88, 0.8) * radius_mm
    for start, end, wide, narrow in zip(tree.start, tree.end, radius_mm, narrower, strict=True):
        draw_capsule(canvas, start, end, (float(wide), float(narrow)), hu)
