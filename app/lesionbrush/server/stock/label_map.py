"""For programs that can show a label map and no CT, as MONAI Label's 3D Slicer plugin.

They ask for 8 bits and get the lesion. Its synthetic CT stays with the job, and becomes a case when the same
lesion is submitted: a lesion is no label of the CT without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lesionbrush.core.volume import Array, Volume, mask_on_grid
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.http.variant_routes import Variant, case_of, the_variant
from lesionbrush.server.jobs.errors import Gone, UnknownJob
from lesionbrush.server.jobs.job import JobRecord
from lesionbrush.server.stock.runs import UnseenRun
from lesionbrush.server.stock.words import SCRIBBLES, Words
from lesionbrush.server.storage.accept import AcceptedCase, accept_case
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.synthesis.inference import Answer, Service, SynthesisOutput

NOTE = (
    "This is the label map of the lesion. LesionBrush's own Slicer module shows the synthetic CT. It is "
    "kept for a while: Submit Label makes it a case of the server, and "
    "GET /lesionbrush/v1/jobs/{job}/variants/1/volume brings it."
)
KEPT = (
    "The synthetic CT with this lesion is a case of the server now; LesionBrush's own Slicer module shows it."
)


class LabelMapAnswer(Answer):
    """label_names: what its values mean; job: where the CT is; note: what to tell the user."""

    label_names: dict[str, int]
    job: str
    note: str


def extract_lesion(mask: Path, words: Words) -> Path:
    """What was drawn as the lesion, where the client says which values of its mask that are.

    The plugin sends all of its segments, and what its scribbles tool painted as one of them. The file is
    beside `mask`, or `mask` itself where nothing is said. Raises what `read_volume` and `write_volume` raise.
    """
    values = words.values_of(words.selected_label_name, SCRIBBLES)
    if not values:
        return mask
    volume = read_volume(mask)
    alone = mask.with_name("lesion.nii.gz")
    write_volume(volume.with_array(_lesion(volume.array, values)), alone, lasting=False)
    return alone


def label_map_of(service: Service, record: JobRecord, words: Words, path: Path) -> SynthesisOutput:
    """The lesion of a job that is done, at `path`. Raises as `the_variant` does, StorageFull."""
    variants = [the_variant(record, number) for number in range(1, record.variants + 1)]
    provenances = [variant.stored.provenance(variant.number) for variant in variants]
    first = variants[0]
    lesion, _ = first.stored.final_label(first.stored.result(1))
    wanted = np.dtype(words.result_dtype)
    source = replace(lesion.source, dtype=wanted) if lesion.source else None
    write_volume(Volume(lesion.array.astype(wanted), lesion.affine, source), path, lasting=False)
    answer = LabelMapAnswer(
        seconds=provenances[0].seconds,
        variants=provenances,
        label_names={words.selected_label_name: 1},
        job=record.id,
        note=NOTE.format(job=record.id),
    )
    return SynthesisOutput(answer, path)


class Submission(NamedTuple):
    """A lesion that was submitted for an image. stored: the file of that image, if it is in the studies."""

    image: str
    stored: Path | None
    mask: Path
    words: Words
    client: str


def submit(service: Service, studies: Studies, run: UnseenRun, sent: Submission) -> list[str]:
    """The variants of a run become cases; their ids. Sent twice it makes them once.

    Raises InvalidRequest when another lesion was submitted than the one that was run, Gone, GeometryMismatch,
    EmptyMask, StorageFull, and what `read_volume` raises.
    """
    try:
        record = service.jobs.get(run.job)
    except UnknownJob as error:
        raise Gone("the synthetic CT was kept for its time and is gone: run again, then submit") from error
    variants = [the_variant(record, number) for number in range(1, record.variants + 1)]
    _require_same_lesion(variants[0], run, sent)
    return [_accept(service, studies, variant, sent) for variant in variants]


def _require_same_lesion(variant: Variant, run: UnseenRun, sent: Submission) -> None:
    lesion, _ = variant.stored.final_label(variant.stored.result(variant.number))
    volume = read_volume(sent.mask)
    submitted = volume.with_array(_lesion(volume.array, sent.words.values_of(run.name)))
    if not np.array_equal(mask_on_grid(submitted, lesion).array, lesion.array):
        raise InvalidRequest(
            f"the label of image {sent.image!r} is not the lesion that was run last: run it again, then "
            "submit; under a tag other than 'final' it is stored as it is"
        )


def _lesion(array: Array, values: Sequence[int]) -> Array:
    inside = np.isin(array, values) if values else array != 0
    return inside.astype(np.uint8)


def _accept(service: Service, studies: Studies, variant: Variant, sent: Submission) -> str:
    case = case_of(variant, sent.client)
    image = accept_case(studies, replace(case, reference_id=_reference_id(service, case, variant, sent)))
    service.jobs.accept(variant.record, variant.number, image)
    return image


def _reference_id(service: Service, case: AcceptedCase, variant: Variant, sent: Submission) -> str | None:
    """The stored image, also where a session or a file was run and the same CT was stored since."""
    reference = variant.stored.order.reference
    if reference is not None and reference.image is None and sent.stored is not None:
        same = service.load_ct(sent.stored).voxel_sha256 == case.provenance.reference_sha256
        return sent.image if same else case.reference_id
    return case.reference_id
