"""Studies that live in a DICOMweb archive: MONAI Label's datastore, with series fetched into a private cache.

The id of an image is its SeriesInstanceUID. What waits for the network (`fetch`, `update`, `take`) runs in
threads; what MONAI Label and the routes call in the event loop looks at the cache and the last listing alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from lesionbrush.core.inputs import Layout
from lesionbrush.core.volume import require_ct
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.dicom import read_dicom_series, read_slices
from lesionbrush.files.dicom_export.case import DicomCase, Reference
from lesionbrush.files.dicom_export.seg import Segments
from lesionbrush.files.dicom_export.series import DicomOptions, Uids
from lesionbrush.files.io import write_volume
from lesionbrush.server.archive.dicomweb import (
    Archive,
    ListedSeries,
    is_uid,
    require_uid,
    save,
)
from lesionbrush.server.archive.dicomweb_cache import (
    SLICES,
    SUFFIX,
    count_sent,
    file_in,
    strip_slices,
)
from lesionbrush.server.archive.dicomweb_facts import describe_series, in_dicom_words, synthetic
from lesionbrush.server.archive.dicomweb_labels import newest_seg, write_label
from lesionbrush.server.archive.dicomweb_push import push
from lesionbrush.server.doors.limits import SizeLimits
from lesionbrush.server.errors import (
    ArchiveUnreachable,
    NotInArchive,
    TooLarge,
    UnknownImage,
    naming_full_disk,
)
from lesionbrush.server.storage.accept import AcceptedCase
from lesionbrush.server.storage.cases import TAG
from lesionbrush.server.storage.durable import write_json
from lesionbrush.server.storage.references import ABOUT, read_ct
from lesionbrush.server.storage.retention import Bounds, Shelf, size_of
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.storage.uploads import MAX_SLICES

LABEL = f"label{SUFFIX}"
CACHE_BOUNDS = Bounds(limit_bytes=20_000_000_000, max_age_s=7 * 24 * 3600.0)
FRESH_S = 30.0
"""For how long a listing, and that a cached series is complete, is believed."""

logger = logging.getLogger(__name__)


class DicomWebStudies(Studies):
    """Cache: `<folder>/.lesionbrush/series/<uid>/<uid>.nrrd`, and `slices/`, the headers without pixels."""

    elsewhere = True

    def __init__(
        self,
        archive: Archive,
        folder: Path,
        bounds: Bounds = CACHE_BOUNDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(str(folder))
        self.archive, self._now = archive, clock
        place = self.private.path / "series"
        place.mkdir(mode=0o700, exist_ok=True)
        self.shelf = Shelf(place, self.private.tmp, bounds)
        self.shelf.sweep()
        self._fetching, self._asking = Lock(), Lock()
        self._listed: dict[str, ListedSeries] = {}
        self._listed_at = -FRESH_S
        self._complete_at: dict[str, float] = {}

    # --- waits for the network: for threads ---

    def update(self) -> None:
        """Ask the archive for its CT series, unless that was done a moment ago. Raises as `Archive` does."""
        with self._asking:
            if self._now() - self._listed_at >= FRESH_S:
                self._listed = {found.series: found for found in self.archive.find_ct()}
                self._listed_at = self._now()

    def fetch(self, image: str) -> Path:
        """Bring a series into the cache; one that has grown in the archive is fetched anew.

        Raises InvalidRequest (no UID), UnknownImage, TooLarge, StorageFull, what reading a series raises, and
        what `Archive` raises, unless the cache has the series.
        """
        require_uid(image)
        with self._fetching:
            cached = self.shelf.use(image)
            if cached and self._now() - self._complete_at.get(image, -FRESH_S) < FRESH_S:
                return file_in(cached)
            try:
                found = self._ask_for(image)
            except ArchiveUnreachable:
                if cached is None:
                    raise
                logger.warning("the archive does not answer: a cached series is used as it is")
                return file_in(cached)
            except UnknownImage:  # what was deleted there shall not live on here
                self.shelf.drop(image)
                raise
            if cached and found.instances not in (None, count_sent(cached)):
                self.shelf.drop(image)
                cached = None
            path = file_in(cached or self._fetch(found))
            self._complete_at[image] = self._now()
            return path

    def fetch_label(self, image: str, tag: str) -> None:
        """Bring the label of a series that `fetch` has brought: the newest SEG that refers to it, if any.

        Raises DamagedFile, TooLarge, StorageFull, and what `Archive` raises, unless a label is here already.
        """
        with self._fetching, self.shelf.holding(image) as cached:
            if cached is None or tag != TAG:
                return
            try:
                study = self._ask_for(image).study
                with naming_full_disk(), self.private.workspace() as folder:
                    seg = newest_seg(self.archive, study, image, folder)
                    if seg is None:
                        (cached / LABEL).unlink(missing_ok=True)
                    else:
                        write_label(seg, file_in(cached), cached / SLICES, cached / LABEL)
            except ArchiveUnreachable:
                if not (cached / LABEL).is_file():
                    raise
                logger.warning("the archive does not answer: a cached label is used as it is")

    def take(self, accepted: AcceptedCase) -> str:
        """Push an accepted case as series and SEG; returns the new SeriesInstanceUID, its id from now on.

        A case from a series of this archive joins that study; one from an upload gets a study of its own, a
        whole new CT a patient as well. The wanted id of the case does not matter here. Raises PushFailed,
        and what `fetch` and the checks raise.
        """
        original = accepted.reference_id
        if original is None:
            case = _make_case(accepted)
        else:
            if is_uid(original):
                self.fetch(original)
            with self.shelf.holding(original) as cached:
                case = _case(accepted, cached)
        with naming_full_disk(), self.private.workspace() as folder:
            push(self.archive, case, folder)
        self._listed_at = -FRESH_S
        return case.series.series_uid

    def _ask_for(self, image: str) -> ListedSeries:
        found = [one for one in self.archive.find_ct(image) if one.series == image]
        if not found:
            raise UnknownImage(f"the archive has no series {image}")
        return found[0]

    def _fetch(self, found: ListedSeries) -> Path:
        """The series as an entry of the cache, from the whole of what the archive sent."""
        with naming_full_disk(), self.private.workspace() as folder:
            slices = folder / SLICES
            slices.mkdir()
            try:
                receive(self.archive, found, slices)
            except NotInArchive as error:
                raise UnknownImage(f"the archive lists series {found.series} and does not have it") from error
            volume = require_ct(read_dicom_series(slices))
            remarks = volume.source.remarks if volume.source else ()
            write_json(folder / ABOUT, {"remarks": remarks, "instances": strip_slices(slices)})
            write_volume(volume, folder / f"{found.series}{SUFFIX}")
            self.shelf.sweep()
            with self.shelf.room_for(size_of(folder)):
                return self.shelf.publish(folder, found.series)

    # --- what the routes and MONAI Label call, without the network ---

    def locate(self, image: str) -> Path:
        """A series that `fetch` has brought. Raises InvalidRequest, UnknownImage."""
        path = self._find_cached(require_uid(image))
        if path is None:
            raise UnknownImage(
                f"no CT series {image} is here; GET /datastore/?output=all lists the archive's"
            )
        return path

    def _find_cached(self, image: str) -> Path | None:
        folder = self.shelf.use(image)
        return file_in(folder) if folder else None

    def get_image_uri(self, image_id: str) -> str:
        return str(self._find_cached(image_id) or "")

    def get_label_uri(self, label_id: str, label_tag: str) -> str:
        folder = self.shelf.use(label_id)
        there = folder is not None and label_tag == TAG and (folder / LABEL).is_file()
        return str(folder / LABEL) if folder and there else ""

    def get_label_info(self, label_id: str, label_tag: str) -> dict[str, Any]:
        return {"image": label_id, "source": "DICOM SEG"}

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        found = self._listed.get(image_id)
        return describe_series(found) if found else {}

    def place_for_image(self, image: str, file_name: str) -> Path:
        raise InvalidRequest(
            "the images of this server are in a DICOMweb archive: upload the CT as a reference"
        )

    def place_for_label(self, image: str, tag: str, file_name: str) -> Path:
        raise InvalidRequest("the labels of this server are in a DICOMweb archive: accept a result instead")

    def list_images(self) -> list[str]:
        return list(self._listed)

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        return [uid for uid, found in self._listed.items() if synthetic(found)]

    def get_unlabeled_images(
        self, label_tag: str | None = None, labels: list[str] | None = None
    ) -> list[str]:
        return [uid for uid, found in self._listed.items() if not synthetic(found)]

    def without_case(self) -> list[str]:
        """As `update` has found them: those in whose study there is no series of ours."""
        done = {found.study for found in self._listed.values() if synthetic(found)}
        return sorted(uid for uid, found in self._listed.items() if found.study not in done)

    def facts(self, image: str) -> dict[str, str]:
        """In the words of DICOM, which MONAI Label's OHIF plugin shows."""
        found = self._listed.get(image)
        if found is None:
            raise UnknownImage(f"the archive lists no CT series {image}")
        return {"name": f"{image}{SUFFIX}", **in_dicom_words(found)}

    def refresh(self) -> None:
        """`update` does it, away from the event loop."""

    def json(self) -> dict[str, Any]:
        """As MONAI Label lists a folder, with what the archive says of each series."""
        images = {
            uid: {"image": {"ext": SUFFIX, "info": describe_series(f)}, "labels": {}}
            for uid, f in self._listed.items()
        }
        return {"name": "DICOMweb", "description": "CT series of a DICOMweb archive", "objects": images}


def _make_case(accepted: AcceptedCase) -> DicomCase:
    """A patient of its own, with all that its labels name."""
    options = DicomOptions(uids=Uids(f"accept|{accepted.key}"))
    layout = Layout(accepted.mask, dict(accepted.label_names))
    segments = Segments.of_layout(layout) if layout.names else Segments.of_lesion(accepted.mask)
    return DicomCase.prepare_generated(accepted.synthetic, segments, accepted.provenance, options)


def _case(accepted: AcceptedCase, cached: Path | None) -> DicomCase:
    """cached: the original in the cache; None: it was uploaded. The case's key decides the UIDs."""
    options = DicomOptions(uids=Uids(f"accept|{accepted.key}"))
    mask = accepted.mask.with_array((accepted.mask.array != 0).astype(np.uint8))
    if cached is None:
        lesion = Segments.of_lesion(mask)
        return DicomCase.prepare_alone(accepted.synthetic, lesion, accepted.provenance, options)
    reference = Reference(read_ct(file_in(cached)), read_slices(cached / SLICES))
    return DicomCase.prepare(accepted.synthetic, mask, accepted.provenance, reference, options)


def receive(archive: Archive, found: ListedSeries, folder: Path) -> None:
    """A series as files, 00000.dcm and so on. TooLarge for more than a server takes; raises as `Archive`."""
    size, most_bytes = 0, SizeLimits.current().unpacked_bytes
    for number, instance in enumerate(archive.retrieve(found.study, found.series)):
        path = folder / f"{number:05d}.dcm"
        save(instance, path)
        size += path.stat().st_size
        if size > most_bytes or number >= MAX_SLICES:
            raise TooLarge(
                f"the series is larger than {most_bytes / 1e9:.1f} GB or has more than {MAX_SLICES} "
                "slices, the most this server takes"
            )
