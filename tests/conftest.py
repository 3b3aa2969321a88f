"""What every test shares: the data folder, the gpu marker, and the rule that CI skips nothing in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
if "PYTEST_XDIST_WORKER" in os.environ:
    # A process a core: threads of several processes on the same cores wait for each other, spinning. Read by
    # the libraries when they are loaded, and by processes that tests start.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

EXCUSES = ("no GPU", "no display", "no data", "no bfloat16", "no Ray")
CONTENT = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with real CTs: $LESIONBRUSH_DATA, else shared/data beside the repository."""
    default = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("LESIONBRUSH_DATA") or default)
    if not folder.is_dir():
        pytest.skip(f"no data: {folder} does not exist (set LESIONBRUSH_DATA)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "data_dir" in getattr(item, "fixturenames", ()):
            item.add_marker("data")
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not has_cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no GPU: needs a CUDA device"))


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_configure(config: pytest.Config) -> None:
    if in_ci():
        config.pluginmanager.register(SkipRule(), "skip-rule")
    os.environ.setdefault("LESIONBRUSH_SYSTEMS", str(Path(__file__).with_name("toy_systems")))
    # Tiny and fake networks, which take longer to convert than to run; `engines_apart.py` has all engines.
    os.environ.setdefault("LESIONBRUSH_ENGINE", "pytorch")


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


class SkipRule:
    """Fails the run for a skip without an accepted excuse; hears of the skips of xdist's processes, too."""

    def __init__(self) -> None:
        self.unexcused: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.note(report)

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Remember a skip that has no accepted excuse (an expected failure is none)."""
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        _, _, reason = report.longrepr
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(EXCUSES):
            self.unexcused.append(f"{report.nodeid}: {reason}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unexcused and session.exitstatus in CONTENT:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unexcused:
            title = f"skipped in CI for another reason than {', '.join(EXCUSES)}"
            terminalreporter.section(title, red=True)
            terminalreporter.write_line("\n".join(self.unexcused))
