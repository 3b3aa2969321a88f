"""`evaluate lesions` on a made-up data folder and a tiny model: all parts run, and the report is whole."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from evaluation_kit import save_chest, save_nodules
from lesionbrush.evaluation import study
from lesionbrush.evaluation.results import Report
from lesionbrush.training.split import is_validation

pytest_plugins = "cli_fixtures"

PATIENTS = [f"LIDC-IDRI-{number:04d}" for number in range(1, 60)]
HELD_OUT = [patient for patient in PATIENTS if is_validation(patient)][:3]
SEEN = [patient for patient in PATIENTS if not is_validation(patient)][:4]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(2)
    save_nodules(folder, (*HELD_OUT, *SEEN), generator)
    save_chest(folder / "chest_ct", HELD_OUT[0], generator)
    return folder


@pytest.fixture
def less(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick run with hardly any training of its networks, and few settings."""
    plan = replace(study.QUICK, least_steps=2, critic_epochs=1, reader_epochs=1, steps=(2, 3), halvings=3)
    monkeypatch.setattr(study, "QUICK", plan)


@pytest.mark.slow
@pytest.mark.usefixtures("less")
def test_a_quick_run_answers_every_question(command: Command, data: Path, tmp_path: Path) -> None:
    options = ("lesions", "--model", "tiny", "--data", data, "--out", tmp_path, "--quick")
    outcome = command("evaluate", *options)
    assert outcome.code == 0, outcome.err
    report = Report.model_validate_json((tmp_path / "report.json").read_text())
    assert (report.nodules, report.patients, report.quick) == (3, 3, True)
    assert {section.name for section in report.sections} == {
        "critics", "fidelity", "attributes", "diversity", "memorisation", "distributions", "sampling",
        "removal", "pictures",
    }  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    shown = [picture.file for section in report.sections for picture in section.pictures]
    assert re.findall(r'<img [^>]*src="([^"]+)"', page) == shown
    assert len(shown) > 8
    assert all((tmp_path / file).is_file() for file in shown)
    assert len(page) < 100_000
    assert 'src="http' not in page
    assert "seam_ratio_readers" in outcome.out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--parts", "critics,beauty"), "beauty"),
        (("--cases", "-1"), "--cases -1"),
        (("--update-card",), "--update-card"),
        (("--model", "nobody"), "nobody"),
    ],
)
def test_bad_options_are_one_line(
    command: Command, data: Path, tmp_path: Path, options: tuple[str, ...], reason: str
) -> None:
    outcome = command("evaluate", "lesions", "--data", data, "--out", tmp_path / "out", *options)
    assert outcome.code == 2
    assert reason in outcome.one_line
    assert not (tmp_path / "out").exists()


def test_a_second_run_asks_the_model_nothing(
    command: Command, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (
        "lesions",
        "--model",
        "tiny",
        "--data",
        data,
        "--out",
        tmp_path,
        "--quick",
        "--parts",
        "fidelity",
    )
    assert command("evaluate", *options).code == 0
    first = Report.model_validate_json((tmp_path / "report.json").read_text())
    monkeypatch.setattr("lesionbrush.evaluation.syntheses.synthesize", None)
    assert command("evaluate", *options).code == 0
    second = Report.model_validate_json((tmp_path / "report.json").read_text())
    assert second.sections[0].figures == first.sections[0].figures


def test_without_held_out_nodules_nothing_is_measured(command: Command, tmp_path: Path) -> None:
    outcome = command("evaluate", "lesions", "--model", "tiny", "--data", tmp_path, "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "attributes.csv" in outcome.one_line
