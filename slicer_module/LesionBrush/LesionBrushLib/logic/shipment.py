"""What is sent to the server: copies, so that a worker thread may read them while the user goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..client.boxes import voxel_sha256
from ..client.uploads import Upload, ct_upload, mask_upload
from .masks import segment_mask
from .steering import Steering
from .voxels import Grid, hu_array


@dataclass(frozen=True, eq=False)
class Shipment:
    """A CT and a mask on its grid, and what else goes with them. hu_kji: int16; mask_kji: uint8 0/1.

    Touches no MRML: made for a worker.
    """

    hu_kji: np.ndarray
    mask_kji: np.ndarray
    grid: Grid
    inputs: Mapping[str, Steering] = field(default_factory=dict)

    @classmethod
    def of(cls, reference: Any, segmentation: Any, segment_id: str) -> Shipment:
        """Main thread. Raises NotACT, NotReady, EmptyMask."""
        mask = segment_mask(segmentation, segment_id, reference)
        return cls(np.array(hu_array(reference)), mask, Grid.of(reference))

    @property
    def voxels(self) -> int:
        """Painted voxels."""
        return int(np.count_nonzero(self.mask_kji))

    @property
    def lesion_ijk(self) -> tuple[float, float, float]:
        """Centre of mass of the mask, in voxels of the CT."""
        i, j, k = (float(at) for at in np.argwhere(self.mask_kji).mean(axis=0)[::-1])
        return i, j, k

    @property
    def volume_ml(self) -> float:
        return self.voxels * self.grid.voxel_ml

    @cached_property
    def voxel_sha256(self) -> str:
        """What the server calls the voxels of this CT."""
        return voxel_sha256(self.hu_kji.T)

    def reference(self, compress: bool = False) -> Upload:
        """The CT as NIfTI: the same bytes for the same voxels, so that the server knows it again."""
        return ct_upload(self.hu_kji.T, self.grid.ijk_to_ras, compress=compress)

    def mask(self) -> Upload:
        """The mask as NIfTI, cut to its bounding box."""
        return mask_upload(self.mask_kji.T, self.grid.ijk_to_ras)

    def uploads(self) -> dict[str, Upload]:
        """The other volumes, by name."""
        return {name: steering.upload() for name, steering in self.inputs.items()}
