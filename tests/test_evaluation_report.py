"""The report page: it holds everything, and nothing in it can break out of its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from lesionbrush.evaluation.report import html, text, write
from lesionbrush.evaluation.results import Figure, Picture, Report, Section, Table, at_least, at_most
from lesionbrush.evaluation.statistics import Estimate
from PIL import Image
from pydantic import ValidationError


def estimate(value: float | None) -> Estimate:
    return Estimate(value=value, low=value, high=value, n=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    return tmp_path


def report(figure: Figure) -> Report:
    section = Section(
        name="s",
        title="<script>alert(1)</script>",
        text="a & b",
        figures=(figure,),
        tables=(Table(title="t", columns=("c",), rows=(("<b>",),)),),
        pictures=(Picture(file="p.png", caption='"quoted"'),),
    )
    return Report(
        model="tiny",
        weights_sha256="0" * 64,
        trained={"steps": 5},
        created="2026-01-01",
        quick=True,
        nodules=3,
        patients=2,
        seconds=1.0,
        machine="2 cores",
        sections=(section,),
    )


@pytest.mark.parametrize(("value", "word"), [(0.5, "met"), (0.7, "missed"), (None, "not measurable")])
def test_a_goal_is_met_or_missed_and_the_page_says_so(value: float | None, word: str) -> None:
    figure = Figure(name="f", what="a figure", unit="", value=estimate(value), goal=at_most(0.6))
    assert f"{word}<" in html(report(figure)) or word in html(report(figure))
    assert figure.met is (None if value is None else value <= 0.6)
    assert at_least(0.6).is_met(0.7)


def test_what_comes_from_outside_is_escaped() -> None:
    page = html(report(Figure(name="f", what="x<y", unit="", value=estimate(1.0))))
    assert "<script>" not in page
    assert "x&lt;y" in page
    assert "<td>&lt;b&gt;</td>" in page
    assert 'src="p.png"' in page


def test_both_files_are_written_and_the_json_reads_back(folder: Path) -> None:
    made = report(Figure(name="f", what="x", unit="HU", value=estimate(1.0), floor=estimate(2.0)))
    as_json, as_html = write(made, folder)
    assert Report.model_validate_json(as_json.read_text()) == made
    assert as_html.stat().st_size > 1000
    assert made.figure("f").floor == estimate(2.0)
    with pytest.raises(KeyError):
        made.figure("g")


def test_a_missing_picture_leaves_no_half_report(folder: Path) -> None:
    (folder / "p.png").unlink()
    with pytest.raises(FileNotFoundError):
        write(report(Figure(name="f", what="x", unit="", value=estimate(1.0))), folder)
    assert not list(folder.glob("*report*"))


def test_a_report_takes_no_unknown_key() -> None:
    with pytest.raises(ValidationError):
        Figure.model_validate({"name": "f", "what": "x", "unit": "", "value": {"value": 1}})


def test_an_interval_in_words() -> None:
    assert text(Estimate(value=1.234, low=1.0, high=2.0, n=1)) == "1.23 (1 to 2)"
    assert text(Estimate(value=1.234, low=None, high=None, n=1)) == "1.23"
