"""Segmentations as 3D Slicer saves them: overlapping segments in layers, with terminology."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from lesionbrush.core.volume import Array, Volume
from lesionbrush.files.itk import write_itk


def write_segmentation(
    path: Path, like: Volume, segments: Mapping[str, Array], tags: Mapping[str, str] | None = None
) -> Path:
    """A layer for each segment where any two overlap, else one of them all. tags: of segments, by name."""
    overlap = bool((sum(mask.astype(int) for mask in segments.values()) > 1).any())
    fields = {"Segmentation_MasterRepresentation": "Binary labelmap"}
    for number, name in enumerate(segments):
        of = {
            "ID": f"Segment_{number + 1}",
            "Name": name,
            "Layer": str(number if overlap else 0),
            "LabelValue": "1" if overlap else str(number + 1),
            "Extent": " ".join(f"0 {n - 1}" for n in like.shape),
            "Tags": (tags or {}).get(name, ""),
        }
        fields |= {f"Segment{number}_{key}": value for key, value in of.items()}
    if not overlap:
        labels = sum((k + 1) * mask.astype(np.uint8) for k, mask in enumerate(segments.values()))
        write_itk(like.with_array(np.asarray(labels, np.uint8)), path, "", fields)
        return path
    _write_layers(path, like, list(segments.values()), fields)
    return path


def _write_layers(path: Path, like: Volume, layers: list[Array], fields: Mapping[str, str]) -> None:
    """As Slicer does: one vector for each voxel, which is a list axis of the file."""
    one = path.with_name(f"one-{path.name}")
    write_itk(like.with_array(layers[0].astype(np.uint8)), one, "")
    images = []
    for mask in layers:
        image = sitk.GetImageFromArray(mask.astype(np.uint8).T)
        image.CopyInformation(sitk.ReadImage(str(one)))
        images.append(image)
    one.unlink()
    joined = sitk.Compose(images)
    for key, text in fields.items():
        joined.SetMetaData(key, text)
    sitk.WriteImage(joined, str(path), useCompression=False)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"kinds: vector", b"kinds: list", 1))
