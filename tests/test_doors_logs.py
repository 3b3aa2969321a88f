"""What the log keeps to itself."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator

import pytest
from lesionbrush.errors import DamagedFile
from lesionbrush.server.doors.gate import DOORS, Visit
from lesionbrush.server.operation.logs import Discreet, Trusted, configure, digest, log_visit, scrub

PATIENT = "DOE^JANE"
FOLDER = "/srv/ct/DOE^JANE"
SECRETS = (PATIENT, "DOE", "JANE", "/srv", "10.0.0.7")


@pytest.fixture
def told() -> Iterator[Callable[[], str]]:
    """All loggers write to one place, set up as in a server; returns what came there."""
    stream, root = io.StringIO(), logging.getLogger()
    handler, before = logging.StreamHandler(stream), root.level
    handler.setFormatter(Discreet())
    handler.addFilter(Trusted())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield stream.getvalue
    root.removeHandler(handler)
    root.setLevel(before)


def none_of_it(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text], text


def test_what_others_say_is_cut(told: Callable[[], str]) -> None:
    monai, pydicom = logging.getLogger("monailabel.endpoints.infer"), logging.getLogger("pydicom")
    monai.info(f"Infer Request: {FOLDER}/ct.nii.gz")
    monai.info("Image: %s", FOLDER)
    monai.warning(f"Image: {PATIENT}; File: {FOLDER}")
    pydicom.warning("Invalid value for PN: %s in %s after %d bytes", PATIENT, FOLDER, 17)
    logging.getLogger("py.warnings").warning("%s", f"{FOLDER}/x.py:1: UserWarning: {PATIENT}")
    pydicom.error({"patient": PATIENT})
    lines = told().splitlines()
    none_of_it(told())
    assert len(lines) == 4
    assert "(text withheld: it may name files or patients)" in lines[0]
    assert "Invalid value for PN: … in … after 17 bytes" in lines[1]


def test_uvicorn_may_say_how_it_is(told: Callable[[], str]) -> None:
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.info("Application startup complete.")
    uvicorn.info("Started server process [%d]", 42)
    uvicorn.info("%s:%s - connected", "10.0.0.7", 99)
    uvicorn.error(f'Traceback (most recent call last):\n  File "{FOLDER}/x.py"\nValueError: {PATIENT}')
    none_of_it(told())
    assert "Application startup complete." in told()
    assert "process [42]" in told()
    assert "failed with ValueError" in told()


def test_a_traceback_is_places_in_code(told: Callable[[], str]) -> None:
    for logger, error in (
        (logging.getLogger("uvicorn.error"), FileNotFoundError(f"no such file: {FOLDER}/ct.nii.gz")),
        (logging.getLogger("lesionbrush.server"), DamagedFile(f"{PATIENT} cannot be read")),
    ):
        try:
            raise error
        except type(error):
            logger.exception("Exception in ASGI application\n")
    none_of_it(told())
    assert re.search(r"error=FileNotFoundError in test_doors_logs\.py:\d+ test_a_traceback", told())
    assert "error=DamagedFile(damaged_file) in" in told()
    assert len(told().splitlines()) == 2


@pytest.mark.parametrize(
    "text",
    [
        f"read {FOLDER}/ct.nii.gz and went on",
        f"'{FOLDER}/a/b'",
        "C:\\Users\\DOE^JANE\\ct.nii went",
        "\\\\server\\DOE^JANE\\ct.nii went",
        "DOE^JANE.nii.gz went",
        "DOE_JANE.DCM went",
        f"file://{FOLDER}/x went",
        f"uri={FOLDER}/x went",
    ],
)
def test_paths_and_file_names_go_even_from_our_own_words(told: Callable[[], str], text: str) -> None:
    logging.getLogger("lesionbrush.server.storage.vault").warning(text)
    none_of_it(told())


def test_what_stays() -> None:
    for text in (
        "POST /infer/{model} took 3/4 s",
        "GET /lesionbrush/v1/jobs/{id}/events",
        "2 and/or 1.5 GB",
    ):
        assert scrub(text) == text
    assert scrub('File "/home/me/lesionbrush/server/doors/gate.py", line 3') == 'File "gate.py", line 3'


def test_no_line_is_forged(told: Callable[[], str]) -> None:
    logging.getLogger("lesionbrush").info("one\n2026 INFO lesionbrush: two\r\x1b[31m" + "x" * 9000)
    assert len(told().splitlines()) == 1
    assert "\x1b" not in told()
    assert len(told()) < 2200


def test_a_visit_is_told_by_its_route(told: Callable[[], str]) -> None:
    door = next(door for door in DOORS if door.template.endswith("/jobs/{id}"))
    log_visit(Visit("r1", "GET", door, "abc", "10.0.0.7", 200, 0.0123))
    log_visit(Visit("r2", "GET", None, "", "10.0.0.7", 404, 0.0))
    none_of_it(told())
    first, second = told().splitlines()
    expected = f"GET /lesionbrush/v1/jobs/{{id}} request=r1 status=200 ms=12 peer={digest('10.0.0.7')} id=abc"
    assert first.endswith(f"lesionbrush.access: {expected}")
    assert "GET (not offered) request=r2 status=404" in second


def test_json_lines() -> None:
    record = logging.LogRecord("lesionbrush.access", logging.INFO, "", 1, "GET /info/", None, None)
    record.fields = {"status": 200}
    said = json.loads(Discreet("json").format(record))
    assert said.pop("time").startswith("20")
    assert said == {"level": "INFO", "logger": "lesionbrush.access", "message": "GET /info/", "status": 200}


def test_handlers_that_are_there_already_are_made_discreet(told: Callable[[], str]) -> None:
    """As MONAI Label's, which it sets up before our code is loaded."""
    stream, root = io.StringIO(), logging.getLogger()
    theirs, logger = logging.StreamHandler(stream), logging.getLogger("task_batch_infer")
    kept = [(handler, handler.formatter, list(handler.filters)) for handler in root.handlers]
    logger.addHandler(theirs)
    try:
        with warnings.catch_warnings():
            configure("json")
            configure("json")
        logger.warning(f"{FOLDER} and {PATIENT}")
        assert [type(found) for found in theirs.filters] == [Trusted]
    finally:
        logger.removeHandler(theirs)
        logging.captureWarnings(False)
        logging.getLogger("uvicorn.access").disabled = False
        for handler, formatter, filters in kept:
            handler.setFormatter(formatter)
            handler.filters = filters
    none_of_it(stream.getvalue())
    assert json.loads(stream.getvalue())["level"] == "WARNING"
