"""`python -m monai.bundle run` makes what `run.py synthesize` makes, and says no in the same words."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_kit import MODELS, SYSTEMS, install_bundle, monai, read
from cli_kit import Command
from lesionbrush.bundles.configs import INFERENCE
from lesionbrush.cli.bundle import BundleSynthesis
from lesionbrush.core.inputs import Layout
from lesionbrush.core.registry import METADATA, WEIGHTS
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.layouts import write_layout
from monai.bundle import create_workflow
from semantic_kit import NAMES, make_abdomen, move
from server_kit import make_ct, make_mask

from run import child_environment

pytest_plugins = "cli_fixtures"

OF_THE_RUN = ("seconds", "created")
"""What a record says of the run itself, not of the result."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny bundle of every system."""
    root = tmp_path_factory.mktemp("models")
    for system in SYSTEMS[1:]:  # the first is `tiny`, which comes with mddpm_3d
        install_bundle(root, system)
    return root


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ct.nii.gz, mask.nii.gz, and volumes beside them."""
    folder = tmp_path_factory.mktemp("case")
    ct, mask = make_ct(), make_mask()
    halves = np.ones(ct.shape, np.uint8)
    halves[ct.shape[0] // 2 :] = 2
    volumes = {
        "ct": ct,
        "mask": mask,
        "lungs": ct.with_array(halves),
        "pathology": ct,
        "pathology_mask": mask,
    }
    for name, volume in volumes.items():
        write_volume(volume, folder / f"{name}.nii.gz")
    return folder


def require_same(one: Path, other: Path) -> None:
    """Both volumes byte for byte, and both records but for what is of the run."""
    assert one.read_bytes() == other.read_bytes()
    records = [
        read(path.with_name(path.name.replace(".nii.gz", ".provenance.json"))) for path in (one, other)
    ]
    assert all(record.pop(key) for record in records for key in OF_THE_RUN)
    assert records[0] == records[1]


class TestCommand:
    """MONAI's own command, with the model that ships."""

    PARAMS = '{"seed": 7, "steps": 2, "draw_shape": false, "attributes": {"texture": "part_solid"}}'

    def test_it_makes_the_voxels_of_synthesize(self, case: Path, tmp_path: Path) -> None:
        shutil.copytree(case, tmp_path, dirs_exist_ok=True)
        made = monai(
            *("run", "--config_file", MODELS / "lung_lesion" / INFERENCE, "--image", "ct.nii.gz"),
            *("--label", "mask.nii.gz", "--output", "made/bundle.nii.gz", "--params", self.PARAMS),
            *("--device", "cpu"),
            cwd=tmp_path,
        )
        assert made.returncode == 0, made.stderr
        assert "bundle.nii.gz  (seed 7, " in made.stdout
        asked = ("seed=7", "steps=2", "draw_shape=false", "attributes.texture=part_solid")
        options = [part for one in asked for part in ("--param", one)]
        command = [sys.executable, "-m", "lesionbrush.cli", "synthesize", "ct.nii.gz", "mask.nii.gz"]
        subprocess.run(
            [*command, "-o", "made/own.nii.gz", "--device", "cpu", *options],
            cwd=tmp_path,
            env=child_environment(),
            check=True,
            capture_output=True,
        )
        require_same(tmp_path / "made/bundle.nii.gz", tmp_path / "made/own.nii.gz")
        changed = read_volume(tmp_path / "made/bundle.nii.gz").array != read_volume(case / "ct.nii.gz").array
        assert changed.any()

    def test_it_ends_with_a_sentence(self, case: Path, tmp_path: Path) -> None:
        """From within another bundle, which must not be taken for this one."""
        made = monai(
            *(
                "run",
                "--config_file",
                "../lung_lesion/configs/inference.json",
                "--image",
                tmp_path / "no.nii.gz",
            ),
            *("--label", case / "mask.nii.gz", "--output", tmp_path / "made.nii.gz"),
            cwd=MODELS / "mddpm",
        )
        assert made.returncode == 2
        assert made.stderr.splitlines()[-1] == "monai.bundle run: no.nii.gz: there is no such file"
        assert "Traceback" not in made.stderr
        assert list(tmp_path.iterdir()) == []

    def test_away_from_the_package_it_says_what_to_do(self, models: Path, case: Path, tmp_path: Path) -> None:
        made = monai("run", "--config_file", models / "tiny" / INFERENCE, cwd=tmp_path)
        assert made.returncode == 1
        assert "needs the package lesionbrush" in made.stderr.splitlines()[-1]
        assert "PYTHONPATH" in made.stderr.splitlines()[-1]


@pytest.fixture
def workflow(models: Path, case: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`workflow("tiny", output=..., ...)` runs a bundle as a Python program does, in the case's folder."""
    monkeypatch.syspath_prepend(str(MODELS.parent / "app"))
    monkeypatch.chdir(case)

    def run(name: str, **options: Any) -> None:
        made = create_workflow(
            config_file=str(models / name / INFERENCE),
            workflow_type="infer",
            **{"image": "ct.nii.gz", "label": "mask.nii.gz", "device": "cpu", **options},
        )
        made.run()
        made.finalize()

    return run


class TestEverySystem:
    @pytest.mark.parametrize(
        ("name", "inputs"),
        [
            ("tiny", ()),
            ("lung_ddpm", ("lungs",)),
            ("lung_ddpm_plus", ()),
            ("mddpm", ("pathology", "pathology_mask")),
            ("mddpm_3d", ("pathology", "pathology_mask")),
            ("med_ddpm", ()),
            ("palette", ()),
        ],
    )
    def test_it_makes_what_the_command_makes(
        self,
        name: str,
        inputs: tuple[str, ...],
        workflow: Any,
        command: Command,
        models: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(models))
        files = {part: f"{part}.nii.gz" for part in inputs}
        options = [part for key, file in files.items() for part in (f"--{key.replace('_', '-')}", file)]
        made = command(
            *("synthesize", "ct.nii.gz", "mask.nii.gz", "-o", tmp_path / "own.nii.gz", "--model", name),
            *("--device", "cpu", "--seed", 3, "--variants", 2, "--param", "steps=2", *options),
        )
        assert made.code == 0, made.err
        params = {"seed": 3, "variants": 2, "steps": 2}
        workflow(name, output_dir=str(tmp_path), output="bundle.nii.gz", params=params, **files)
        for number in (1, 2):
            require_same(tmp_path / f"bundle-{number}.nii.gz", tmp_path / f"own-{number}.nii.gz")

    def test_a_changed_layout_needs_no_mask(
        self, workflow: Any, command: Command, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LESIONBRUSH_MODELS", str(models))
        ct, before = make_abdomen()
        write_volume(ct, tmp_path / "abdomen.nii.gz")
        for name, labels in (("layout", before), ("new_layout", move(before, 6, (0, -4, 0)))):
            write_layout(Layout(labels, NAMES), tmp_path / f"{name}.nii.gz")
        files = [tmp_path / f"{name}.nii.gz" for name in ("abdomen", "layout", "new_layout")]
        made = command(
            *("synthesize", files[0], "--layout", files[1], "--new-layout", files[2], "--model", "semantic"),
            *("-o", tmp_path / "own.nii.gz", "--device", "cpu", "--seed", 3, "--param", "steps=2"),
        )
        assert made.code == 0, made.err
        given = {"image": files[0], "label": None, "layout": files[1], "new_layout": files[2]}
        params = {"seed": 3, "steps": 2}
        workflow(
            "semantic",
            output=str(tmp_path / "bundle.nii.gz"),
            params=params,
            **{name: None if path is None else str(path) for name, path in given.items()},
        )
        require_same(tmp_path / "bundle.nii.gz", tmp_path / "own.nii.gz")

    def test_one_that_ran_before_is_not_taken_for_it(
        self, workflow: Any, models: Path, tmp_path: Path
    ) -> None:
        workflow("tiny", output=str(tmp_path / "made.nii.gz"), params={"steps": 2})
        other = create_workflow(config_file=str(models / "mddpm" / INFERENCE), workflow_type="infer")
        with pytest.raises(RuntimeError) as raised:
            other.parser.get_parsed_content("network")
        assert "is 'tiny', this config is of 'mddpm'" in str(raised.value.__cause__)


def synthesis(folder: Path, case: Path, **options: Any) -> BundleSynthesis:
    facts = {
        "image": "ct.nii.gz",
        "label": "mask.nii.gz",
        "output": "never.nii.gz",
        "device": "cpu",
        "dataset_dir": str(case),
        "output_dir": str(case),
    }
    return BundleSynthesis(folder=str(folder), model=folder.name, **{**facts, **options})


class TestSaysNo:
    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"params": {"stepz": 2}}, r"stepz: unknown parameter \(got 2\)"),
            ({"params": '{"steps": 2'}, "the parameters are not JSON"),
            ({"params": 7}, r"--params 7: give a JSON object"),
            ({"image": None}, "--image: not given"),
            ({"label": ("a", "b")}, r"--label: \('a', 'b'\) is no path"),
            ({"output": "ct.nii.gz"}, "ct.nii.gz is an input of this command"),
            ({"output": "made.png"}, "made.png: unknown file type"),
            ({"device": "gpu"}, "device 'gpu': this machine has cpu"),
            ({"inputs": {"lungs": "lungs.nii.gz"}}, "lungs: model 'tiny' takes no such volume"),
            ({"model": "other"}, "is 'tiny', this config is of 'other'"),
        ],
    )
    def test_in_the_words_of_the_command(
        self, models: Path, case: Path, options: dict[str, Any], problem: str
    ) -> None:
        before = sorted(case.iterdir())
        wanted = synthesis(models / "tiny", case)
        with pytest.raises(InvalidRequest, match=problem):
            BundleSynthesis(**{**vars(wanted), **options}).run()
        assert sorted(case.iterdir()) == before

    def test_to_missing_weights(self, models: Path, case: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(models / "tiny", tmp_path / "tiny"))
        (folder / WEIGHTS).unlink()
        with pytest.raises(WeightsError, match="the weights of 'tiny' are missing"):
            synthesis(folder, case).run()

    def test_to_a_damaged_card(self, models: Path, case: Path, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(models / "tiny", tmp_path / "tiny"))
        (folder / METADATA).write_text("{}")
        with pytest.raises(WeightsError, match=r"no valid configs/metadata.json"):
            synthesis(folder, case).run()


class TestOptions:
    """MONAI takes every option there is, and would leave a mistyped one unread."""

    @pytest.fixture
    def call(self, models: Path, case: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Any:
        def call(*options: str) -> str:
            program = str(Path("site-packages", "monai", "bundle", "__main__.py"))
            monkeypatch.setattr(sys, "argv", [program, "run", "--config_file", "x.json", *options])
            with pytest.raises(SystemExit) as left:
                synthesis(models / "tiny", case, image="missing.nii.gz").run()
            assert left.value.code == 2
            return str(capsys.readouterr().err)

        return call

    @pytest.mark.parametrize("option", ["--imagee=ct.nii.gz", "--lungs", "--parms::seed", "--seed"])
    def test_an_unknown_one_is_named(self, call: Any, option: str) -> None:
        name = option.partition("=")[0].partition("::")[0]
        assert f"monai.bundle run: {name}: bundle 'tiny' takes no such option; it takes --image" in call(
            option
        )

    @pytest.mark.parametrize(
        "option", ["--image", "--params::seed", "--device=cpu", "--bundle-root", "--network_def#config", "--"]
    )
    def test_a_known_one_is_not(self, call: Any, option: str) -> None:
        assert call(option) == "monai.bundle run: missing.nii.gz: there is no such file\n"

    def test_words_of_the_command_line_are_json(self, models: Path, case: Path) -> None:
        wanted = {"steps": 2, "draw_shape": "false", "attributes": {"mean_hu": "null"}}
        synthesis(models / "tiny", case, params=wanted, output="words.nii.gz").run()
        request = read(case / "words.provenance.json")["request"]
        assert request["draw_shape"] is False
        assert request["attributes"]["mean_hu"] is None
