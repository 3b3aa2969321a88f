"""The report as an HTML page with its pictures beside it, and as JSON."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lesionbrush.evaluation.results import Report
from lesionbrush.evaluation.statistics import Estimate
from lesionbrush.files.durable import whole_files

PAGE = "report.html.j2"


def text(estimate: Estimate) -> str:
    """1.23 (1.1 to 1.4), or a word where it could not be measured."""
    if estimate.value is None:
        return "not measurable"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3g}"
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def html(report: Report) -> str:
    """The page, which shows the pictures of its own folder. Everything that is not ours is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    trained = ", ".join(f"{name} {value:g}" for name, value in report.trained.items())
    page = environment.get_template(PAGE)
    return page.render(report=report, trained=trained, text=text)


def write(report: Report, folder: Path) -> tuple[Path, Path]:
    """report.json and report.html, whole or not at all. FileNotFoundError when a picture is not there."""
    for picture in (picture for section in report.sections for picture in section.pictures):
        (folder / picture.file).stat()
    files = (folder / "report.json", folder / "report.html")
    with whole_files(*files) as drafts:
        for draft, content in zip(drafts, (report.model_dump_json(indent=1), html(report)), strict=True):
            draft.write_text(content, encoding="utf-8")
    return files
