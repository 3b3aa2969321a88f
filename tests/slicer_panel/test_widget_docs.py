"""docs/slicer.md says what the module does and says."""

from __future__ import annotations

import re

from panel_kit import MODULE, REPOSITORY, Bench

TEXT = (REPOSITORY / "docs" / "slicer.md").read_text(encoding="utf-8")


def table(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, without its head."""
    lines = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return rows[2:]


def test_the_table_of_keys_is_the_keys(bench: Bench) -> None:
    written = {key.strip() for row in table("Keys") for key in row[0].split(",")}
    assert written == set(dict(bench.panel.keys()))


def test_every_message_of_the_table_is_in_the_code() -> None:
    files = [MODULE / "LesionBrush.py", *(MODULE / "LesionBrushLib").rglob("*.py")]
    server = sorted((REPOSITORY / "app" / "lesionbrush" / "server").rglob("*.py"))
    code = " ".join(path.read_text(encoding="utf-8") for path in [*files, *server])
    code = re.sub(r'"\s*f?"', "", code)  # sentences broken over lines
    messages = [row[0].strip("`") for row in table("When it says no")]
    assert len(messages) > 12
    for message in messages:
        for part in re.split("…", message):
            words = part.strip(" .():")
            assert words in code, (message, words)


def test_what_the_docs_show_is_there() -> None:
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT):
        assert (REPOSITORY / "docs" / name).is_file(), name
    for path in re.findall(r"`((?:slicer_module|tests)/[\w./]+)`", TEXT):
        assert (REPOSITORY / path).exists(), path
