"""What the container file promises, as far as that can be read from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lesionbrush.server.settings import ServerSettings

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "Containerfile").read_text(encoding="utf-8")
FINAL = TEXT.rpartition("\nFROM ")[2]


def test_it_does_not_run_as_root() -> None:
    (user,) = re.findall(r"^USER (.+)$", FINAL, re.MULTILINE)
    assert user == "10001:10001"
    assert FINAL.index("USER ") < FINAL.index("ENTRYPOINT ")
    assert "--chown" not in TEXT  # the code is root's


def test_it_needs_a_token() -> None:
    assert '"--host", "0.0.0.0"' in FINAL
    assert "LESIONBRUSH_TOKEN_FILE=/run/secrets/" in FINAL


def test_what_it_copies_is_there_and_nothing_secret_is_baked_in() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert {"run.py", "requirements.txt", "app", "models", "slicer_module"} == set(names)
    assert all((REPOSITORY / name).exists() for name in names)


def test_its_variables_are_known_ones() -> None:
    known = {f"LESIONBRUSH_{name.upper()}" for name in ServerSettings.model_fields}
    assert set(re.findall(r"(LESIONBRUSH_\w+)=", FINAL)) <= known


def test_the_admin_page_names_every_setting() -> None:
    page = (REPOSITORY / "docs" / "server.md").read_text(encoding="utf-8")
    missing = [name for name in ServerSettings.model_fields if f"`{name.upper()}`" not in page]
    assert missing == []


@pytest.mark.parametrize(
    ("page", "least"), [("SECURITY.md", 20), ("docs/server.md", 8), ("docs/dicom.md", 2)]
)
def test_every_test_that_a_page_names_is_there(page: str, least: int) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)\.py(?:::(\w+))?`", text)
    assert len(named) >= least
    for file, item in named:
        text = (REPOSITORY / "tests" / f"{file}.py").read_text(encoding="utf-8")
        assert not item or re.search(rf"(def|class) {item}\b", text), (file, item)
