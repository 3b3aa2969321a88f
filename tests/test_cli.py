"""The commands that need no server: what they write, and what they refuse."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from cli_kit import Command
from lesionbrush import cli
from lesionbrush.cli.__main__ import COMMANDS
from lesionbrush.cli.files import changes_on_disk, number_paths
from lesionbrush.cli.options import json_table, name_options, nest
from lesionbrush.cli.serve import greeting
from lesionbrush.errors import InvalidRequest
from lesionbrush.files.io import read_volume, write_volume
from lesionbrush.files.records import read_sidecar
from lesionbrush.systems import request_of
from PIL import Image
from server_kit import MARGIN_MM, edit_region, make_ct, make_mask

pytest_plugins = "cli_fixtures"
TINY = ("--model", "tiny", "--param", "steps=2")


def test_an_unknown_command_is_named(command: Command) -> None:
    outcome = command("paint")
    assert outcome.code == 2
    assert "'paint'" in outcome.one_line


@pytest.mark.parametrize("arguments", [(), ("--out",), ("a", "b", "--nonsense")])
def test_wrong_options_are_refused_in_one_line(command: Command, arguments: tuple[str, ...]) -> None:
    outcome = command("synthesize", *arguments)
    assert outcome.code == 2
    assert "run.py synthesize --help" in outcome.one_line


@pytest.mark.parametrize(
    "name",
    [
        *(
            "demo",
            "serve",
            "synthesize",
            "montage",
            "models",
            "train",
            "evaluate",
            "bench",
            "export",
            "lungs",
        ),
        *("anatomy", "variations"),
    ],
)
def test_every_command_explains_itself(command: Command, name: str) -> None:
    outcome = command(name, "--help")
    assert outcome.code == 0
    assert f"usage: run.py {name}" in outcome.out


@pytest.mark.parametrize("asked", [["--help"], ["-h"], []])
def test_the_commands_are_listed_without_run_py(command: Command, asked: list[str]) -> None:
    outcome = command(*asked)
    assert outcome.code == 0
    assert all(f"\n  {name} " in outcome.out for name in COMMANDS)
    assert all((Path(cli.__file__).parent / f"{name.replace('-', '_')}.py").exists() for name in COMMANDS)


def test_a_table_may_be_typed() -> None:
    assert json_table(' {"1": "liver"}') == ' {"1": "liver"}'
    assert json_table("names.json") == Path("names.json")


class TestParameters:
    def test_json_where_it_is_json_and_text_where_not(self) -> None:
        given = ["seed=3", "sampler=ddim", "attributes.texture=solid", "attributes.calcification=solid"]
        attributes = {"texture": "solid", "calcification": "solid"}
        assert nest(given) == {"seed": 3, "sampler": "ddim", "attributes": attributes}

    def test_text_may_hold_an_equals_sign(self) -> None:
        assert nest(["a=b=c"]) == {"a": "b=c"}

    @pytest.mark.parametrize("bad", ["seed", "=3", "attributes.=3", ".x=1"])
    def test_what_is_no_assignment_is_refused(self, bad: str) -> None:
        with pytest.raises(InvalidRequest, match="KEY=VALUE"):
            nest([bad])

    def test_a_value_is_not_also_a_group(self) -> None:
        with pytest.raises(InvalidRequest, match="a value of its own"):
            nest(["attributes=1", "attributes.texture=solid"])


class TestNamesOfOptions:
    TAKEN = "--layout FILE --layout-names JSON --new-layout FILE --lungs FILE --pathology-mask FILE"

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("layout: the labels 3 have no name", "--layout: the labels 3 have no name"),
            ("layout is missing: a layout is needed", "--layout is missing: a layout is needed"),
            ("layout and new_layout say the same", "--layout and --new-layout say the same"),
            ("send a table as layout_names", "send a table as --layout-names"),
            ("no lungs found; send a mask as lungs", "no lungs found; send a mask as --lungs"),
            ("x: 'm' takes none; it takes lungs, layout", "x: 'm' takes none; it takes --lungs, --layout"),
            ("anatomy: as body_of, as anatomy", "anatomy: as body_of, as anatomy"),  # no options of this one
        ],
    )
    def test_stand_for_those_of_parts(self, said: str, told: str) -> None:
        assert name_options(said, self.TAKEN) == told


class TestSynthesize:
    def test_writes_the_ct_the_record_and_the_picture(
        self, command: Command, ct: Path, mask: Path, tmp_path: Path
    ) -> None:
        out, picture = tmp_path / "new" / "out.nii.gz", tmp_path / "picture.png"
        options = ("--seed", 4, "--param", "attributes.texture=solid", "--montage", picture)
        outcome = command("synthesize", ct, mask, "-o", out, *TINY, *options)
        assert outcome.code == 0
        assert str(out) in outcome.out
        changed = read_volume(out).array != read_volume(ct).array
        assert changed[edit_region()].sum() > 100
        assert not changed[~edit_region()].any()
        record = read_sidecar(out)
        assert (record.seed, request_of(record).attributes.texture) == (4, "solid")
        assert Image.open(picture).width > 3 * 300

    def test_several_variants_are_numbered(
        self, command: Command, ct: Path, mask: Path, tmp_path: Path
    ) -> None:
        options = ("--variants", 2, "--montage", tmp_path / "m.png")
        assert command("synthesize", ct, mask, "-o", tmp_path / "out.nrrd", *TINY, *options).code == 0
        names = {"out-1.nrrd", "out-2.nrrd", "m-1.png", "m-2.png"}
        names |= {f"out-{number}.provenance.json" for number in (1, 2)}
        assert {path.name for path in tmp_path.iterdir()} == names
        first, second = (read_volume(tmp_path / f"out-{number}.nrrd").array for number in (1, 2))
        assert (first != second).any()

    def test_one_of_several_labels(self, command: Command, ct: Path, tmp_path: Path) -> None:
        both = make_mask(2)
        both.array[5:9, 5:9, 5:9] = 1
        write_volume(both, tmp_path / "labels.nii")
        options = ("--param", "label=2", "--montage", tmp_path / "m.png")
        outcome = command(
            "synthesize", ct, tmp_path / "labels.nii", "-o", tmp_path / "out.nii", *TINY, *options
        )
        assert outcome.code == 0
        changed = read_volume(tmp_path / "out.nii").array != read_volume(ct).array
        assert changed.any()
        assert not changed[~edit_region()].any()

    def test_only_the_box(self, command: Command, ct: Path, mask: Path, tmp_path: Path) -> None:
        out = tmp_path / "box.mha"
        assert command("synthesize", ct, mask, "-o", out, *TINY, "--param", "output=box").code == 0
        assert read_volume(out).shape == read_sidecar(out).box_shape

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (("--param", "stepz=3"), "stepz: unknown parameter"),
            (("--param", "attributes.texture=hairy"), "attributes.texture"),
            (("--variants", "99"), "variants"),
            (("--param", "steps"), "KEY=VALUE"),
            (("--model", "nobody"), "no model is called 'nobody'"),
            (("-o", "out.jpg"), "unknown file type"),
            (("--montage", "picture.jpg"), "ends with .png"),
        ],
    )
    def test_bad_input_is_one_line_and_no_file(
        self, command: Command, ct: Path, mask: Path, tmp_path: Path, monkeypatch, options, reason: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        outcome = command("synthesize", ct, mask, "-o", "out.nii", *TINY, *options)
        assert outcome.code == 2
        assert reason in outcome.one_line
        assert not list(tmp_path.iterdir())

    def test_a_missing_ct(self, command: Command, mask: Path, tmp_path: Path) -> None:
        outcome = command("synthesize", "nowhere.nii", mask, "-o", tmp_path / "out.nii", *TINY)
        assert outcome.code == 2
        assert "nowhere.nii: there is no such file" in outcome.one_line

    def test_an_input_is_never_replaced(self, command: Command, ct: Path, mask: Path) -> None:
        before = ct.read_bytes()
        outcome = command("synthesize", ct, mask, "-o", ct.parent / "." / ct.name, *TINY)
        assert outcome.code == 2
        assert "is an input" in outcome.one_line
        assert ct.read_bytes() == before

    def test_a_result_is_made_anew_but_not_that_of_another_ct(
        self, command: Command, ct: Path, mask: Path, tmp_path: Path
    ) -> None:
        out, other = tmp_path / "out.nii", make_ct()
        given = (mask, "-o", out, *TINY, "--montage", tmp_path / "m.png")
        assert [command("synthesize", ct, *given, "--seed", seed).code for seed in (0, 1)] == [0, 0]
        other.array[0, 0, 0] += 1
        write_volume(other, tmp_path / "other.nii")
        before = out.read_bytes()
        outcome = command("synthesize", tmp_path / "other.nii", *given)
        assert "out.nii is there already, made from another CT" in outcome.one_line
        assert (outcome.code, out.read_bytes()) == (2, before)


def test_numbering_keeps_the_whole_suffix() -> None:
    assert [path.name for path in number_paths(Path("a.b.nii.gz"), 2)] == ["a.b-1.nii.gz", "a.b-2.nii.gz"]
    assert number_paths(Path("a.nii"), 1) == [Path("a.nii")]


class TestChangesOnDisk:
    def test_counts_both_sides_of_the_border(self, ct: Path, mask: Path, tmp_path: Path) -> None:
        edited = make_ct()
        inside, outside = (np.argwhere(region) for region in (edit_region(), ~edit_region()))
        for place in (*inside[:5], *outside[[0, -1]]):
            edited.array[tuple(place)] += 1
        write_volume(edited, tmp_path / "edited.nii")
        changes = changes_on_disk(ct, mask, tmp_path / "edited.nii", MARGIN_MM)
        assert (changes.inside, changes.outside, changes.total) == (5, 2, edited.array.size)

    def test_lungs_belong_to_the_region_when_they_are_named(
        self, ct: Path, mask: Path, tmp_path: Path
    ) -> None:
        edited, lungs = make_ct(), np.zeros(make_ct().array.shape, np.uint8)
        lungs[:3] = 2
        assert not edit_region()[:4].any()
        edited.array[2:4, 7, 7] += 1
        write_volume(edited, tmp_path / "edited.nii")
        write_volume(edited.with_array(lungs), tmp_path / "lungs.nii")
        changes = changes_on_disk(ct, mask, tmp_path / "edited.nii", MARGIN_MM, tmp_path / "lungs.nii")
        assert (changes.inside, changes.outside) == (1, 1)

    def test_equal_files(self, ct: Path, mask: Path) -> None:
        changes = changes_on_disk(ct, mask, ct, MARGIN_MM)
        assert (changes.inside, changes.outside) == (0, 0)


class TestMontage:
    def test_draws_three_columns(self, command: Command, ct: Path, mask: Path, tmp_path: Path) -> None:
        outcome = command("montage", ct, mask, ct, "-o", tmp_path / "new" / "m.png", "--whole")
        assert outcome.code == 0
        assert Image.open(tmp_path / "new" / "m.png").width > 3 * 300

    def test_another_file_type_is_refused(
        self, command: Command, ct: Path, mask: Path, tmp_path: Path
    ) -> None:
        outcome = command("montage", ct, mask, ct, "-o", tmp_path / "m.bmp")
        assert outcome.code == 2
        assert "ends with .png" in outcome.one_line

    def test_another_grid_is_refused(self, command: Command, ct: Path, mask: Path, tmp_path: Path) -> None:
        volume = make_ct()
        volume.affine[0, 3] += 50
        write_volume(volume, tmp_path / "moved.nii")
        outcome = command("montage", ct, mask, tmp_path / "moved.nii", "-o", tmp_path / "m.png")
        assert outcome.code == 2
        assert "synthetic CT" in outcome.one_line
        assert not (tmp_path / "m.png").exists()


class TestServe:
    def test_hands_over_to_the_server(self, command: Command, tmp_path: Path, monkeypatch) -> None:
        calls = []
        monkeypatch.setattr("lesionbrush.cli.serve.serve", lambda *given, tls=None: calls.append(given))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        outcome = command("serve", "--studies", tmp_path / "new", "--port", port)
        assert outcome.code == 0
        assert calls == [(tmp_path / "new", "127.0.0.1", port)]
        assert (tmp_path / "new").is_dir()
        assert f"http://127.0.0.1:{port}/infer/lung_lesion" in outcome.out

    def test_a_port_in_use(self, command: Command, tmp_path: Path) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            outcome = command("serve", "--studies", tmp_path, "--port", listener.getsockname()[1])
        assert outcome.code == 2
        assert "choose another --port" in outcome.one_line

    @pytest.mark.parametrize(
        ("option", "value"), [("--port", "0"), ("--port", "70000"), ("--host", "999.1.1.1")]
    )
    def test_an_address_that_cannot_be(
        self, command: Command, tmp_path: Path, option: str, value: str
    ) -> None:
        outcome = command("serve", "--studies", tmp_path / "new", option, value)
        assert outcome.code == 2
        assert value in outcome.one_line
        assert not (tmp_path / "new").exists()

    def test_others_are_warned_of(self) -> None:
        assert "Without TLS whoever listens" in greeting("0.0.0.0", 8000, Path("studies"))
        assert "Without TLS" not in greeting("127.0.0.1", 8000, Path("studies"))
        assert "http://[::1]:8000" in greeting("::1", 8000, Path("studies"))
