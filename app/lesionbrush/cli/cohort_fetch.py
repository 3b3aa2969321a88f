"""`run.py cohort fetch`: CT series of a DICOMweb archive as folders, for a specification's `references`."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lesionbrush.cli.outputs import check_folder
from lesionbrush.errors import InvalidRequest, LesionBrushError
from lesionbrush.server.archive.dicomweb import Archive, ListedSeries, is_uid
from lesionbrush.server.archive.dicomweb_studies import receive

PARTIAL = ".partial"


def fetch(options: Namespace) -> int:
    """Credentials come from the environment, see docs/server.md. 1 where a series could not be had; what is
    there already is left as it is, so that the same command goes on."""
    for uid in options.series or ():
        if not is_uid(uid):
            raise InvalidRequest(f"--series {uid[:70]!r} is no DICOM UID: it has up to 64 digits and dots")
    check_folder(options.out)
    archive = Archive(options.address)
    wanted = find_series(archive, options.series)
    options.out.mkdir(mode=0o700, parents=True, exist_ok=True)
    failed, fetched = [], 0
    for one in tqdm(wanted, desc="fetch", unit="series", disable=not wanted):
        try:
            fetched += fetch_series(archive, one, options.out)
        except LesionBrushError as error:
            failed.append(f"{one.series}: {error}")
    for line in failed:
        print(line, file=sys.stderr)
    print(f"{options.out}  ({fetched} of {len(wanted)} series fetched, {len(failed)} failed)")
    return int(bool(failed))


def find_series(archive: Archive, series: Sequence[str] | None) -> list[ListedSeries]:
    """InvalidRequest for one that the archive does not have, or that is no CT, and for none at all."""
    if not series:
        found = archive.find_ct()
        if not found:
            raise InvalidRequest("the archive has no CT series")
        return found
    chosen = [(uid, archive.find_ct(uid)) for uid in dict.fromkeys(series)]
    for uid, found in chosen:
        if not any(one.modality == "CT" for one in found):
            raise InvalidRequest(f"--series {uid}: the archive has no CT series of this UID")
    return [found[0] for _, found in chosen]


def fetch_series(archive: Archive, one: ListedSeries, out: Path) -> bool:
    """Into a folder named after the series, whole or not at all; whether it was not there before."""
    folder, partial = out / one.series, out / f"{one.series}{PARTIAL}"
    if folder.is_dir():
        return False
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    try:
        receive(archive, one, partial)
        if not any(partial.iterdir()):
            raise InvalidRequest("the archive sent no slice of it")
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return True
