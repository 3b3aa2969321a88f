"""In CI a test is skipped for want of a GPU, a display or data; any other skip fails the run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
CONFTEST = Path(__file__).with_name("conftest.py")


@pytest.fixture
def run_in_ci(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch):
    def run(test: str, *options: str, ci: str = "true") -> pytest.RunResult:
        monkeypatch.setenv("CI", ci)
        pytester.makeconftest(CONFTEST.read_text(encoding="utf-8"))
        pytester.makeini("[pytest]\nmarkers =\n    gpu: x\n    data: x\n")
        pytester.makepyfile(test_subject=test, test_other="def test_that_passes(): pass")
        return pytester.runpytest_inprocess("-rs", "-p", "no:cacheprovider", *options)

    return run


@pytest.mark.parametrize("reason", ["no GPU", "no display: needs Xvfb", "no data: nothing there"])
def test_an_accepted_excuse_passes(run_in_ci, reason: str) -> None:
    result = run_in_ci(f"import pytest\ndef test_it(): pytest.skip({reason!r})")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize(
    "test",
    [
        "import pytest\ndef test_it(): pytest.skip('flaky today')",
        "import pytest\n@pytest.mark.skip(reason='flaky today')\ndef test_it(): pass",
        "import pytest\npytest.skip('flaky today', allow_module_level=True)",
    ],
)
def test_any_other_skip_fails_and_is_named(run_in_ci, test: str) -> None:
    require_named(run_in_ci(test))


def test_nor_is_one_in_another_process_passed_over(run_in_ci) -> None:
    require_named(run_in_ci("import pytest\ndef test_it(): pytest.skip('flaky today')", "-n", "1"))


def require_named(result: pytest.RunResult) -> None:
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*skipped in CI for another reason than*", "*: flaky today"])


def test_outside_ci_a_skip_is_only_counted(run_in_ci) -> None:
    result = run_in_ci("import pytest\ndef test_it(): pytest.skip('flaky today')", ci="")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == pytest.ExitCode.OK


def test_an_expected_failure_is_no_skip(run_in_ci) -> None:
    result = run_in_ci("import pytest\n@pytest.mark.xfail(reason='known')\ndef test_it(): assert False")
    assert result.ret == pytest.ExitCode.OK


def test_a_missing_data_folder_is_a_counted_skip(run_in_ci, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LESIONBRUSH_DATA", "nowhere-at-all")
    result = run_in_ci("def test_it(data_dir): raise AssertionError")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*no data: nowhere-at-all does not exist*"])
    assert result.ret == pytest.ExitCode.OK


def test_a_missing_gpu_is_a_counted_skip(run_in_ci, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    result = run_in_ci("import pytest\n@pytest.mark.gpu\ndef test_it(): raise AssertionError")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*no GPU: needs a CUDA device*"])
    assert result.ret == pytest.ExitCode.OK
