"""More cases like a result: the route, the job, the cohort it leaves on the server, and the client's way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohort_kit import organ_labels
from fastapi.testclient import TestClient
from jobs_fixtures import V1, WAIT_S, Submit, code, done
from lesionbrush.anatomy.lungs import LEFT, RIGHT, Lungs
from lesionbrush.cohorts import hosts
from lesionbrush.cohorts.folder import CohortFolder
from lesionbrush.cohorts.verifying import verify
from lesionbrush.core.volume import Volume
from lesionbrush.errors import Cancelled, NoLungs
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.server.jobs.job import State
from lesionbrush.server.synthesis import likeness
from lesionbrush.server.synthesis.cohorts import CohortWork
from lesionbrush.server.synthesis.inference import Service
from lesionbrush.server.synthesis.likeness import stray
from LesionBrushLib.client import JobClient, Order, Watch, mask_upload
from server_kit import MODEL, STORED, Files, Server, make_ct

pytest_plugins = ("server_fixtures", "jobs_fixtures")


@pytest.fixture(autouse=True)
def models(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESIONBRUSH_MODELS", str(models_dir))


@pytest.fixture
def result(front: TestClient, service: Service, submit: Submit) -> str:
    """The place of a result on the stored CT."""
    return f"{done(front, service, submit({'seed': 4}, image=STORED))}/variants/1"


def made(front: TestClient, service: Service, result: str, **wanted: Any) -> tuple[str, Any]:
    """The name of a cohort whose job is over, and the status of that."""
    answer = front.post(f"{result}/cohort", json=wanted)
    assert answer.status_code == 202, answer.text
    place = answer.headers["location"]
    assert service.jobs.wait(service.jobs.get(place.rsplit("/", 1)[1]), WAIT_S)
    return answer.json()["cohort"], front.get(place).json()


def folder_of(service: Service, name: str) -> CohortFolder:
    assert service.vault is not None
    return CohortFolder.open(service.vault.studies / ".lesionbrush" / "cohorts" / name / "cohort")


def test_in_the_same_place_with_other_seeds(front: TestClient, service: Service, result: str) -> None:
    name, status = made(front, service, result, count=3, place="here", seed=1)
    assert (status["state"], status["step"], status["variants"]) == ("done", status["steps"], 0)
    assert status["remarks"] == [f"3 of 3 cases are in the cohort {name}."]
    cohort = folder_of(service, name)
    assert verify(cohort).complete
    records = list(cohort.records())
    lesion = front.get(result).json()
    masks = {record.lesions[0].truth.voxels for record in records}
    assert len(masks) == 1
    assert len({str(record.lesions[0].request["seed"]) for record in records}) == 3
    boxes = [read_volume(cohort.folder_of(record.id) / "box.nii.gz").array for record in records]
    assert not np.array_equal(boxes[0], boxes[1])
    assert {record.reference_sha256 for record in records} == {lesion["reference_sha256"]}
    listed = front.get(f"{V1}/cohorts").json()
    assert [(one["name"], one["made"], one["wanted"]) for one in listed] == [(name, 3, 3)]
    assert listed[0]["folder"].startswith(".lesionbrush/cohorts/")


def test_the_same_again_goes_on_and_one_can_be_removed(
    front: TestClient, service: Service, result: str
) -> None:
    name, _ = made(front, service, result, count=2, place="here")
    cohort = folder_of(service, name)
    first, second = (cohort.folder_of(case.id) / "case.json" for case in cohort.cases)
    kept = first.read_bytes()
    for path in second.parent.iterdir():
        path.unlink()
    second.parent.rmdir()
    assert made(front, service, result, count=2, place="here")[0] == name
    assert first.read_bytes() == kept
    assert second.is_file()
    left = front.delete(f"{V1}/cohorts/{name}")
    assert name not in [one["name"] for one in left.json()]
    assert not cohort.path.exists()
    assert code(front.delete(f"{V1}/cohorts/{name}")) == (404, "unknown_cohort")


def test_one_that_is_worked_on_stays(front: TestClient, service: Service, result: str) -> None:
    name, _ = made(front, service, result, count=1, place="here", seed=9)
    with folder_of(service, name).held():
        assert code(front.delete(f"{V1}/cohorts/{name}")) == (409, "cohort_in_use")
        assert made(front, service, result, count=1, place="here", seed=9)[1]["error"] == {
            "code": "cohort_in_use",
            "message": "another job works on this cohort: wait for it, or cancel it",
        }


def test_of_an_uploaded_ct_the_cohort_keeps_a_copy(
    front: TestClient, service: Service, submit: Submit
) -> None:
    place = f"{done(front, service, submit({'seed': 4}))}/variants/1"
    cohort = folder_of(service, made(front, service, place, count=1, place="here")[0])
    assert cohort.references[0].path.parent.name == "made_of"
    assert verify(cohort).complete


def test_a_cancelled_job_leaves_whole_cases(
    front: TestClient, service: Service, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled in the middle of the second case."""
    from lesionbrush.server.jobs.worker import JobWatch

    plain = JobWatch.on_step

    def on_step(watch: JobWatch, step: int, total: int) -> None:
        plain(watch, step, total)
        if step == 3:
            raise Cancelled("cancelled by its client")

    monkeypatch.setattr(JobWatch, "on_step", on_step)
    name, status = made(front, service, result, count=4, place="here", seed=5)
    assert status["state"] == "cancelled"
    monkeypatch.undo()
    verdict = verify(folder_of(service, name))
    assert (verdict.whole, verdict.wrong, len(verdict.missing)) == (1, [], 3)


@pytest.fixture
def lungs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Balls of the phantom stand for what would be found in a chest."""

    def find(ct: Volume) -> Lungs:
        found = organ_labels(ct)
        # The painted lesion is in the middle of the CT: one of the balls goes there.
        found.array[20:44, 22:46, 8:32] = RIGHT
        found.array[found.array > LEFT] = 0
        return Lungs(found, 1.0, 1.0, ())

    for module in (hosts, likeness):
        monkeypatch.setattr(module, "find_lungs", find)


def test_elsewhere_in_the_same_organ_of_all_that_is_stored(
    front: TestClient, service: Service, result: str, lungs: None
) -> None:
    assert service.vault is not None
    other = make_ct()
    write_volume(other.with_array(other.array + 1), service.vault.studies / "ct2.nii.gz")
    name, status = made(front, service, result, count=4, spread=0.2)
    assert status["state"] == "done", status
    cohort = folder_of(service, name)
    records = list(cohort.records())
    assert {record.reference for record in records} == {STORED, "ct2"}
    assert {record.lesions[0].organ for record in records} == {"lung_right"}
    moves = [record.lesions[0].wanted.move or {} for record in records]
    places = {tuple(move["centre_mm"]) for move in moves}
    assert len(places) == len(records) == 4
    only = folder_of(service, made(front, service, result, count=1, images=["ct2"])[0])
    assert [one.name for one in only.references] == ["ct2"]


def test_a_lesion_outside_of_what_is_found(
    front: TestClient, service: Service, result: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(ct: Volume) -> Lungs:
        return Lungs(ct.with_array(np.zeros(ct.shape, np.uint8)), 0.0, 0.0, ())

    monkeypatch.setattr(likeness, "find_lungs", nowhere)
    status = made(front, service, result, count=1)[1]
    assert status["error"]["code"] == "invalid_request"
    assert "lies in no lung" in status["error"]["message"]


def test_where_not_one_could_be_made_the_job_says_why(
    front: TestClient, service: Service, result: str, lungs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(ct: Volume) -> Lungs:
        raise NoLungs("nothing here looks like lung")

    monkeypatch.setattr(hosts, "find_lungs", none)
    name, status = made(front, service, result, count=2, images=[STORED])
    assert status["error"]["message"] == "none of 2 cases could be made: nothing here looks like lung"
    listed = {one["name"]: one for one in front.get(f"{V1}/cohorts").json()}
    assert (listed[name]["made"], listed[name]["problems"]) == (0, ["nothing here looks like lung"])


def test_a_damaged_cohort_is_not_listed_and_can_be_removed(
    front: TestClient, service: Service, result: str
) -> None:
    name, _ = made(front, service, result, count=1, place="here", seed=77)
    (folder_of(service, name).path / "cohort.json").write_text("{")
    assert name not in [one["name"] for one in front.get(f"{V1}/cohorts").json()]
    assert front.delete(f"{V1}/cohorts/{name}").status_code == 200
    assert code(front.delete(f"{V1}/cohorts/{name}")) == (404, "unknown_cohort")


def test_what_waits_with_a_job_is_small(front: TestClient, service: Service, result: str) -> None:
    answer = front.post(f"{result}/cohort", json={"count": 1, "place": "here"})
    work = service.jobs.get(answer.json()["job"]["id"]).work
    assert isinstance(work, CohortWork)
    assert work.like.inside.size < 20**3


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "count"),
        ({"count": 0}, "count"),
        ({"count": 501}, "count"),
        ({"count": 1, "spread": 2}, "spread"),
        ({"count": 1, "place": "there"}, "place"),
        ({"count": 1, "colour": "red"}, "colour"),
        ({"count": 1, "place": "here", "images": [STORED]}, "leave images out"),
    ],
)
def test_what_makes_no_sense_is_refused(front: TestClient, result: str, wanted: Any, said: str) -> None:
    answer = front.post(f"{result}/cohort", json=wanted)
    assert code(answer) == (422, "invalid_request")
    assert said in answer.json()["detail"]["message"]


def test_unknown_cts_jobs_and_whole_cts_are_refused(front: TestClient, service: Service, result: str) -> None:
    assert code(front.post(f"{result}/cohort", json={"count": 1, "images": ["x"]})) == (404, "unknown_image")
    nobody = f"{V1}/jobs/{'0' * 24}/variants/1/cohort"
    assert code(front.post(nobody, json={"count": 1})) == (404, "unknown_job")
    whole = done(front, service, front.post(f"{V1}/jobs", params={"model": "noise"}, data={"params": "{}"}))
    answer = front.post(f"{whole}/variants/1/cohort", json={"count": 1, "place": "here"})
    assert code(answer) == (422, "invalid_request")
    assert "whole new CT" in answer.json()["detail"]["message"]


def test_numbers_stray_as_far_as_the_system_takes_them() -> None:
    said = {"mean_hu": -50.0, "margin": 0.95, "texture": "solid", "lobulation": None}
    assert stray(said, 0.1, "lesion_inpainting") == {
        "mean_hu": {"uniform": [-60.0, -40.0]},
        "margin": {"uniform": [pytest.approx(0.855), 0.95]},
        "texture": "solid",
        "lobulation": None,
    }


@pytest.mark.server
def test_over_a_real_server_by_the_client(server: Server, files: Files) -> None:
    client, ct = JobClient(server.url), make_ct()
    mask = read_volume(files.mask).array
    made = client.synthesize(Order(MODEL, mask_upload(mask, ct.affine), STORED, {"steps": 2}))
    seen: list[Any] = []
    like = client.make_cohort(made.job_id, 1, {"count": 2, "place": "here"}, Watch(on_status=seen.append))
    assert like.remarks == (f"2 of 2 cases are in the cohort {like.cohort}.",)
    assert seen[-1].state == State.DONE.value
    assert seen[-1].steps == 4
    (listed,) = client.cohorts()
    assert (listed.name, listed.made, listed.wanted) == (like.cohort, 2, 2)
    assert verify(CohortFolder.open(server.studies / listed.folder)).complete
    client.remove_cohort(like.cohort)
    assert client.cohorts() == []
