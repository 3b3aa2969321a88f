"""What a real server cannot be brought to: full disks, limits, caches, MONAI Label's own calls."""

from __future__ import annotations

import errno
import importlib
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, ZipFile

import numpy as np
import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from lesionbrush.core.volume import Volume
from lesionbrush.errors import Cancelled, DamagedFile, InvalidRequest, LesionBrushError
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.doors import gate
from lesionbrush.server.errors import STATUS
from lesionbrush.server.http import routes
from lesionbrush.server.storage import uploads
from lesionbrush.server.storage.references import ReferenceCache
from lesionbrush.server.storage.studies import Studies
from lesionbrush.server.synthesis import making, models
from lesionbrush.server.synthesis.inference import Service
from server_kit import FAST, MODEL, REPOSITORY, STORED, Files, make_ct, make_model, snapshot
from starlette.datastructures import UploadFile

pytest_plugins = "server_fixtures"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; checked to be empty in the end."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    folder = tmp_path / "studies"
    folder.mkdir()
    write_volume(make_ct(), folder / f"{STORED}.nii.gz")
    return Studies(str(folder))


@pytest.fixture
def front(scratch: Path, studies: Studies, models_dir: Path) -> Iterator[TestClient]:
    """Our routes on a folder of their own; no request of a test that uses it may change that folder."""
    folder = Path(studies._datastore_path)
    before = snapshot(folder)
    yield TestClient(routes.front_app(Service(models_dir), studies), raise_server_exceptions=False)
    assert snapshot(folder) == before


def infer(front: TestClient, files: Files, **sent: Any) -> tuple[int, str]:
    form = {"label": ("mask.nii.gz", files.mask.read_bytes()), **sent}
    image = "" if "file" in sent else STORED
    answer = front.post(
        f"/infer/{MODEL}", params={"image": image}, files=form, data={"params": '{"steps": 1}'}
    )
    return answer.status_code, answer.json()["detail"]["code"] if answer.status_code != 200 else ""


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def full_in_the_framework(*_: object) -> None:
    full()


@pytest.mark.parametrize("call", [(shutil, "copyfileobj"), (UploadFile, "write")])
def test_a_full_disk_is_said_and_leaves_nothing(
    front: TestClient, files: Files, monkeypatch: pytest.MonkeyPatch, call: tuple[Any, str]
) -> None:
    """While an upload is put in place, while the framework receives one."""
    monkeypatch.setattr(*call, full_in_the_framework if call[1] == "write" else full)
    assert infer(front, files) == (507, "storage_full")
    assert put(front, files) == (507, "storage_full")


def test_a_disk_that_is_full_when_a_file_is_there_but_for_its_name(
    front: TestClient, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        assert infer(front, files) == (507, "storage_full")
    monkeypatch.setattr(os, "fsync", full)
    assert put(front, files) == (507, "storage_full")
    assert infer(front, files)[0] == 200  # its answer goes once it is sent


def put(front: TestClient, files: Files) -> tuple[int, str]:
    form = {"file": ("ct.nii.gz", files.ct.read_bytes())}
    answer = front.put("/datastore/image", params={"image": "new"}, files=form)
    return answer.status_code, answer.json()["detail"]["code"]


def test_another_fault_of_the_disk_is_a_crash(
    front: TestClient, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "replace", broken)
    assert infer(front, files) == (500, "internal_error")


def test_a_cancelled_synthesis(front: TestClient, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def cancelled(*_: object, **__: object) -> None:
        raise Cancelled("cancelled")

    monkeypatch.setattr(making, "synthesize", cancelled)
    assert infer(front, files) == (499, "cancelled")


@pytest.mark.parametrize("limit", ["bytes", "slices"])
def test_an_archive_that_unpacks_to_too_much(
    front: TestClient, files: Files, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    if limit == "bytes":
        monkeypatch.setenv("LESIONBRUSH_UNPACKED_GB", "1e-8")
    else:
        monkeypatch.setattr(uploads, "MAX_SLICES", 1)
    archive = io.BytesIO()
    with ZipFile(archive, "w") as zipped:
        zipped.writestr("1.dcm", b"x" * 20)
        zipped.writestr("2.dcm", b"x")
    assert infer(front, files, file=("ct.zip", archive.getvalue())) == (413, "too_large")


@pytest.mark.parametrize("kind", [ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA])
def test_a_damaged_archive_is_only_ever_damaged(tmp_path: Path, kind: int) -> None:
    random, archive, whole = np.random.default_rng(kind), tmp_path / "a.zip", io.BytesIO()
    with ZipFile(whole, "w", kind) as zipped:
        zipped.writestr("ä.dcm", b"slice" * 100)
    for _ in range(150):
        content = bytearray(whole.getvalue())
        content[random.integers(len(content))] = random.integers(256)
        archive.write_bytes(content[: None if random.random() < 0.8 else random.integers(len(content))])
        with suppress(DamagedFile):  # a changed byte may also be a harmless one
            uploads.unpack(archive, tmp_path / "series")
        shutil.rmtree(tmp_path / "series")


def test_every_error_has_a_status() -> None:
    def kinds(error: type[LesionBrushError]) -> list[type[LesionBrushError]]:
        return [kind for child in error.__subclasses__() for kind in (child, *kinds(child))]

    never_served = ("lesionbrush.cli", "lesionbrush.cohorts")
    ours = {kind for kind in kinds(LesionBrushError) if not kind.__module__.startswith(never_served)}
    assert ours == set(STATUS)
    assert all(400 <= status < 600 and status != 500 for status in STATUS.values())


def test_the_cache_keeps_what_was_used_last(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.nii" for name in "abc"]
    for path in paths:
        write_volume(make_ct(), path)
    size = make_ct().array.nbytes
    cache = ReferenceCache(limit_bytes=2 * size)
    a, b = cache.get(paths[0]), cache.get(paths[1])
    assert cache.get(paths[0]) is a
    cache.get(paths[2])  # pushes b out
    assert cache.get(paths[0]) is a
    assert cache.get(paths[1]) is not b
    assert ReferenceCache(limit_bytes=size - 1).get(paths[0]).array.nbytes == size


def test_the_cache_reads_a_changed_file_again_and_nobody_changes_its_voxels(tmp_path: Path) -> None:
    path, cache = tmp_path / "ct.nii", ReferenceCache()
    write_volume(make_ct(), path)
    first = cache.get(path)
    with pytest.raises(ValueError, match="read-only"):
        first.array[0, 0, 0] = 0
    write_volume(Volume(make_ct().array - 1, make_ct().affine), path)
    assert np.array_equal(cache.get(path).array, first.array - 1)


def test_a_model_is_loaded_once_and_again_when_its_card_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load = models.load_model
    monkeypatch.setattr(
        models, "load_model", lambda model, device: loaded.append(model.card.title) or load(model, device)
    )
    make_model(tmp_path)
    pool = models.ModelPool(tmp_path)
    with ThreadPoolExecutor(4) as threads:
        warm = [kept.model for kept in threads.map(pool.warm, [MODEL] * 4)]
    assert loaded == ["Tiny"]
    assert all(model is warm[0] for model in warm)
    shutil.rmtree(tmp_path / MODEL)
    make_model(tmp_path, title="Other")
    assert pool.warm(MODEL).model is not warm[0]
    assert loaded == ["Tiny", "Other"]


@pytest.fixture
def app(tmp_path: Path, models_dir: Path, studies: Studies, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The app object as MONAI Label makes it."""
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(models_dir))
    return importlib.import_module("main").LesionBrush(str(REPOSITORY / "app"), studies._datastore_path, {})


def test_monai_labels_own_call(app: Any, files: Files, scratch: Path) -> None:
    """As its batch inference does it: the request dict in, a file that is its own to delete out."""
    result = app.infer({"model": MODEL, "image": STORED, "label": str(files.mask), "synthesis": FAST})
    path = Path(result["file"])
    assert path.name.endswith(".nii.gz")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    changed = (read_volume(path).array != make_ct().array).sum()
    assert changed == result["params"]["variants"][0]["voxels_changed"] > 100
    path.unlink()


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"model": MODEL}, 422, "invalid_request"),
        ({"model": MODEL, "label": "no_such_mask.nii"}, 422, "damaged_file"),
        ({"model": MODEL, "label": "x.nii", "synthesis": {"steps": 0}}, 422, "invalid_request"),
        ({"model": "bare", "label": "x.nii"}, 503, "weights_error"),
        ({"model": "noise"}, 422, "invalid_request"),
    ],
)
def test_monai_labels_own_call_refused(
    app: Any, scratch: Path, request_: dict[str, Any], status: int, code: str
) -> None:
    with pytest.raises(HTTPException) as refused:
        app.infer({"image": STORED, **request_})
    assert (refused.value.status_code, refused.value.detail["code"]) == (status, code)


def test_a_model_of_whole_cts_is_not_listed_where_drawings_are_sent(app: Any) -> None:
    models = app.info()["models"]
    assert (models[MODEL]["type"], models["noise"]["type"]) == ("scribbles", "others")
    assert models["noise"]["card"]["kind"] == "volume"


def test_restored_weights_are_noticed(app: Any, models_dir: Path) -> None:
    weights, aside = app._infers[MODEL].installed.weights, models_dir / "aside"
    assert app.info()["models"][MODEL]["problem"] is None
    weights.rename(aside)
    assert "missing" in app.info()["models"][MODEL]["problem"]
    aside.rename(weights)
    assert app.info()["models"][MODEL]["problem"] is None


def test_the_gate_takes_the_place_of_all_other_middleware(monkeypatch: pytest.MonkeyPatch) -> None:
    from monailabel.app import app

    monkeypatch.setattr(app, "user_middleware", list(app.user_middleware))
    monkeypatch.setattr(app, "middleware_stack", app.middleware_stack)
    for _ in range(2):
        gate.install(app)
        assert [layer.cls for layer in app.user_middleware] == [gate.Gate]


def test_studies_are_a_folder() -> None:
    with pytest.raises(InvalidRequest, match="a folder of CTs on this machine"):
        Studies("https://pacs.example/dicom-web")
