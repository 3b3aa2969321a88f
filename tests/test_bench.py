"""The benchmark runs and adds up; how fast anything is, is nobody's business here."""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from lesionbrush.cli.latency import NODULE_MM, Memory, Samples, lung_like, nodule
from lesionbrush.cli.machine import resident_mb, this_machine
from lesionbrush.errors import InvalidRequest
from LesionBrushLib.client import Client
from server_kit import FAST

pytest_plugins = ("cli_fixtures", "server_fixtures")
TINY = ("--model", "tiny", "--param", f"steps={FAST['steps']}", "--cpu")


def test_every_phase_scaling_and_memory(command: Command, tmp_path: Path) -> None:
    options = (
        "--shape",
        40,
        40,
        36,
        "--repeats",
        2,
        "--scaling",
        "--memory",
        4,
        "--json",
        tmp_path / "b.json",
    )
    outcome = command("bench", "latency", *TINY, *options)
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "b.json").read_text())
    here, short, long = report["tables"]
    assert {len(values) for values in here["seconds"].values()} == {2}
    assert {"read CT (.nii)", "prepare", "sample", "compose", "copy whole CT"} <= here["seconds"].keys()
    box = ("read mask", "prepare", "sample", "compose", "record", "write box (.nii)")
    assert here["seconds"]["request to box"][0] == sum(here["seconds"][phase][0] for phase in box)
    assert short["title"].startswith("40 x 40 x 100")
    assert long["title"].startswith("40 x 40 x 800")
    medians = [report["medians"][table["title"]]["all but reading and sending"] for table in (short, long)]
    assert report["scaling_ratio"] == round(medians[1] / medians[0], 3)
    assert len(report["memory"][0]["resident_mb"]) == 4
    assert report["machine"]["cores"] >= 1
    assert "800 over 100 slices" in outcome.out
    assert "MB per request" in outcome.out


@pytest.mark.server
def test_over_http(command: Command, client: Client, tmp_path: Path, monkeypatch) -> None:
    """On the server that the other tests share, instead of one more of its own."""
    started = nullcontext((client, os.getpid()))
    monkeypatch.setattr("lesionbrush.cli.bench.local_server", lambda *_, **__: started)
    options = (
        "--shape",
        40,
        40,
        36,
        "--repeats",
        1,
        "--server",
        "--memory",
        4,
        "--json",
        tmp_path / "b.json",
    )
    outcome = command("bench", "latency", *TINY, *options)
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "b.json").read_text())
    _, start, files, jobs = report["tables"]
    assert "start of the server, until it answers" in start["seconds"]
    assert "first request, submit to box" in start["seconds"]
    parts = dict(report["medians"][files["title"]])
    assert parts.pop("request to result") == pytest.approx(sum(parts.values()), abs=1e-3)
    assert "server: sample" in parts
    assert list(jobs["seconds"]) == ["submit the mask", "follow to the end", "get the box", "submit to box"]
    assert [memory["title"] for memory in report["memory"]] == ["of this process", "of the server"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--shape", "20", "40", "40"), "32 voxels"),
        (("--repeats", "0"), "1 repeat"),
        (("--memory", "2"), "--memory 2"),
        (("--variants", "2"), "one variant"),
        (("--param", "output=box"), "chooses the output"),
    ],
)
def test_what_cannot_be_measured_is_refused(command: Command, options: tuple[str, ...], reason: str) -> None:
    outcome = command("bench", "latency", *TINY, *options)
    assert outcome.code == 2
    assert reason in outcome.one_line


def test_the_ct_is_of_the_size_asked_for_and_looks_like_a_chest() -> None:
    ct = lung_like((150, 70, 100))
    assert ct.shape == (150, 70, 100)
    assert ct.array.dtype == np.int16
    assert ct.array.flags.f_contiguous
    assert ct.array.min() < -900
    assert ct.array.max() > 200


def test_the_nodule_has_its_diameter() -> None:
    mask = nodule(lung_like((100, 100, 60)))
    volume_mm3 = np.pi / 6 * NODULE_MM**3
    assert mask.array.sum() * mask.voxel_volume_mm3 == pytest.approx(volume_mm3, rel=0.02)


def test_medians_and_totals() -> None:
    samples = Samples("x", {"a": [1.0, 2.0, 9.0], "b": [0.5, 0.5, 0.0]})
    samples.total("both", ("a", "b"))
    assert samples.medians() == {"a": 2.0, "b": 0.5, "both": 2.5}


def test_the_slope_is_that_of_the_second_half() -> None:
    leaking = Memory("x", [100.0, 300.0, 350.0, 352.0, 354.0, 356.0])
    assert leaking.slope_mb == pytest.approx(2.0)
    assert Memory("x", [100.0, 300.0, 300.0, 300.0]).slope_mb == pytest.approx(0.0)


def test_memory_is_that_of_the_process() -> None:
    before = resident_mb(os.getpid())
    ballast = np.ones(100_000_000, np.uint8)
    assert resident_mb(os.getpid()) - before == pytest.approx(ballast.nbytes / 1e6, rel=0.1)


def test_a_process_that_is_not_there() -> None:
    with pytest.raises(InvalidRequest, match="needs Linux"):
        resident_mb(2**31 - 1)


def test_the_machine_is_described() -> None:
    machine = this_machine()
    assert machine.torch_threads >= 1
    assert f"torch {machine.torch}" in str(machine)
