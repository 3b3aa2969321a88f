"""`evaluate ablation`: which lesions a law is tried on, what a change says, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from evaluation_kit import save_nodules
from lesionbrush.evaluation import ablation, comparison
from lesionbrush.evaluation.ablation import Ablation, LawFigures, request_of
from lesionbrush.evaluation.cases import load_nodules
from lesionbrush.evaluation.classifiers import Linear
from lesionbrush.evaluation.comparison import Change, MadeNodules
from lesionbrush.evaluation.statistics import Estimate
from lesionbrush.systems.lesion_inpainting.laws import LAWS
from lesionbrush.training.split import is_validation

pytest_plugins = "cli_fixtures"

PATIENTS = [f"LIDC-IDRI-{number:04d}" for number in range(1, 80)]
HELD_OUT = [patient for patient in PATIENTS if is_validation(patient)][:6]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six held-out nodules: ground glass, part-solid, solid, and so on."""
    folder = tmp_path_factory.mktemp("data")
    save_nodules(folder, HELD_OUT, np.random.default_rng(2))
    return folder


def change(low: float | None, high: float | None) -> Change:
    middle = None if low is None or high is None else (low + high) / 2
    same = Estimate(value=1.0, low=1.0, high=1.0, n=40)
    return Change(default=same, otherwise=same, change=Estimate(value=middle, low=low, high=high, n=40))


def figures(lesions: int = 40, **changes: Change) -> LawFigures:
    return LawFigures(
        law="haze", about="", asked="", lesions=lesions, patients=30, changed=3, figures=changes
    )


@pytest.mark.parametrize(
    ("low", "high", "sign"), [(0.1, 0.3, 1), (-3, -1, -1), (-1, 1, 0), (0.0, 1.0, 0), (None, None, 0)]
)
def test_a_law_earns_where_the_interval_of_the_change_holds_no_0(
    low: float | None, high: float | None, sign: int
) -> None:
    assert change(low, high).sign == sign


def test_the_verdict_names_what_a_law_lowers_and_raises_and_few_lesions_decide_nothing() -> None:
    mixed = {"seam": change(0.1, 0.2), "auc_linear": change(-0.2, -0.1), "auc_boosted": change(-1, 1)}
    assert figures(**mixed).verdict == "lowers seam; raises auc_linear"
    assert figures(seam=change(-1, 1)).verdict == "no difference is shown"
    assert figures(29, **mixed).verdict == "fewer than 30 lesions: decides nothing"


def test_a_critic_and_medians_see_which_of_two_is_worse() -> None:
    """What is made with the law is as real ones are; without it, it is far off."""
    rng, patients = np.random.default_rng(0), [f"p{k}" for k in range(40)]
    real, like, unlike = rng.normal(size=(3, 40, 2))
    pair = (MadeNodules(like, {}), MadeNodules(unlike + 4, {}))
    found = comparison._critic_change(Linear, patients, real, pair)
    assert found.sign == 1
    assert found.change.value == pytest.approx(found.otherwise.value - found.default.value, abs=1e-3)
    errors = np.abs(rng.normal(size=40))
    medians = comparison._median_change(patients, errors, errors + 10)
    assert (medians.change.value, medians.sign) == (pytest.approx(10), 1)
    assert comparison._median_change(patients, errors, errors).sign == 0


def test_what_is_asked_lets_every_law_act_on_its_lesions(data: Path) -> None:
    glass, part, solid = load_nodules(data, validation=True)[:3]
    assert [n.texture for n in (glass, part, solid)] == ["ground_glass", "part_solid", "solid"]
    plain, typical = request_of("haze", glass), request_of("haze", glass, variety=0.0)
    assert (plain.draw_shape, plain.keep_vessels, plain.attributes) == (False, False, glass.readers)
    assert (typical.variety, plain.variety) == (0.0, 0.5)
    assert request_of("moments", solid).attributes == solid.measured
    assert request_of("vessels", glass).keep_vessels
    assert request_of("outline", solid).draw_shape
    concerned = {name for name in LAWS if LAWS[name].concerns(request_of(name, solid))}
    assert concerned == {"rim", "shape", "outline", "uncalcified", "core", "small_solid", "moments"}


def test_the_command_tries_the_laws_and_writes_what_they_earn(
    command: Command, data: Path, tmp_path: Path
) -> None:
    options = ("ablation", "--model", "tiny", "--data", data, "--out", tmp_path, "--laws", "moments,calcium")
    outcome = command("evaluate", *options, "--cases", "4")
    assert outcome.code == 0, outcome.err
    found = Ablation.model_validate_json((tmp_path / ablation.FILE).read_text())
    moments, calcium = found.laws
    assert (found.nodules, moments.lesions, moments.changed, calcium.lesions) == (6, 4, 4, 0)
    assert set(moments.figures) == {*comparison.CRITICS, "seam", "hu_error_readers_hu", "hu_error_typical_hu"}
    assert moments.figures["hu_error_readers_hu"].default.value < 2
    assert calcium.figures == {}
    assert "1 of 2: without moments" in outcome.out
    assert "moments (4 lesions): fewer than 30 lesions: decides nothing" in outcome.out


@pytest.mark.parametrize(
    ("what", "options", "reason"),
    [
        ("ablation", ("--laws", "core,gravity"), "laws gravity: known are rim"),
        ("ablation", ("--update-card",), "--update-card"),
        ("ablation", ("--quick",), "--quick"),
        ("lesions", ("--laws", "core"), "--laws core"),
        ("tiny", ("--laws", "core"), "--laws core"),
    ],
)
def test_bad_options_are_one_line(
    command: Command, data: Path, tmp_path: Path, what: str, options: tuple[str, ...], reason: str
) -> None:
    outcome = command("evaluate", what, "--data", data, "--out", tmp_path / "out", *options)
    assert outcome.code == 2
    assert reason in outcome.one_line
    assert not (tmp_path / "out").exists()
