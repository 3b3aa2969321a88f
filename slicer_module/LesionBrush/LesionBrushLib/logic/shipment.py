"""What is sent to the server: copies, so that a worker thread may read them while the user goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..client.answers import Take
from ..client.inputs import Input
from ..client.orders import Order
from ..client.uploads import Upload, ct_upload, mask_upload
from .choices import chosen_reference, chosen_segment, painted_segment
from .compose import is_synthetic, provenance_of
from .masks import segment_mask
from .parameters import Parameters
from .problems import NotReady
from .steering import Steering, exported
from .voxels import Grid, hu_array


@dataclass(frozen=True, eq=False)
class Shipment:
    """What steers a model that makes whole CTs. Touches no MRML: made for a worker."""

    inputs: Mapping[str, Steering | str]
    lesion_ijk = None

    def order(self, model: str, params: dict[str, Any], image_id: str = "") -> Order:
        """image_id: the CT as the server knows it, else its voxels are sent."""
        return Order(model, params=params, inputs=self.uploads())

    def uploads(self) -> dict[str, Input]:
        """What steers, by name."""
        return {n: value if isinstance(value, str) else value.upload() for n, value in self.inputs.items()}


@dataclass(frozen=True, eq=False)
class PaintedShipment(Shipment):
    """A CT and a mask on its grid as well. hu_kji: int16; mask_kji: uint8 0/1, None where nothing is painted
    and nothing has to be; record: of a synthetic CT."""

    hu_kji: np.ndarray
    mask_kji: np.ndarray | None
    grid: Grid
    record: dict[str, Any] | None = None

    @classmethod
    def of(cls, chosen: Parameters, takes: Sequence[Take], needs_mask: bool = True) -> PaintedShipment:
        """Main thread. takes: what the model takes beside CT and mask. Raises NotReady, NotACT, EmptyMask."""
        segment = chosen_segment(chosen) if needs_mask else painted_segment(chosen)
        if needs_mask and not segment:
            raise NotReady("paint a lesion first, or propose one")
        reference = chosen_reference(chosen)
        inputs = exported(chosen, takes, reference)
        mask = segment_mask(chosen.segmentation, segment, reference) if segment else None
        record = provenance_of(reference) if is_synthetic(reference) else None
        return cls(inputs, np.array(hu_array(reference)), mask, Grid.of(reference), record)

    def order(self, model: str, params: dict[str, Any], image_id: str = "") -> Order:
        record = None if image_id else self.record
        return Order(model, self.mask(), image_id or self.reference(), params, self.uploads(), record)

    @property
    def voxels(self) -> int:
        """Painted voxels."""
        return 0 if self.mask_kji is None else int(np.count_nonzero(self.mask_kji))

    @property
    def lesion_ijk(self) -> tuple[float, float, float] | None:  # type: ignore[override]
        """Centre of mass of the mask, in voxels of the CT."""
        if self.mask_kji is None:
            return None
        i, j, k = (float(at) for at in np.argwhere(self.mask_kji).mean(axis=0)[::-1])
        return i, j, k

    def reference(self) -> Upload:
        """The CT as NIfTI: the same bytes for the same voxels, so that the server knows it again."""
        return ct_upload(self.hu_kji.T, self.grid.ijk_to_ras)

    def mask(self) -> Upload | None:
        """The mask as NIfTI, cut to its bounding box."""
        return None if self.mask_kji is None else mask_upload(self.mask_kji.T, self.grid.ijk_to_ras)
