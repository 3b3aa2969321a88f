"""What the user chose survives in a saved scene; a token never gets into one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from LesionBrushLib.logic import LesionBrushLogic
from LesionBrushLib.logic.parameters import Parameters
from mrml_kit import World, boot

pytest_plugins = "logic_fixtures"


def test_defaults_and_types(world: World) -> None:
    chosen = Parameters(world.scene)
    assert (chosen.seed, chosen.variants, chosen.steps, chosen.lesion_mm) == (0, 1, 12, 15.0)
    assert (chosen.model, chosen.attributes, chosen.paint_in, chosen.reference) == ("", {}, "", None)
    chosen.lesion_mm = 12
    assert isinstance(chosen.lesion_mm, float)
    for name, wrong in (("seed", 1.5), ("seed", True), ("model", None), ("attributes", []), ("paint_in", 1)):
        with pytest.raises(TypeError, match=name):
            setattr(chosen, name, wrong)


@pytest.mark.parametrize(("saved", "read"), [("true", "lung"), ("false", "like")])
def test_only_lung_of_an_older_scene_is_read(world: World, saved: str, read: str) -> None:
    chosen = Parameters(world.scene)
    chosen.paint_in = "like"
    chosen.node.SetParameter("only_lung", saved)
    assert Parameters(world.scene).paint_in == read
    assert not chosen.node.GetParameter("only_lung")


def test_what_is_read_can_be_changed_without_harm(world: World) -> None:
    chosen = Parameters(world.scene)
    chosen.attributes["texture"] = "solid"
    assert chosen.attributes == {}
    chosen.node.SetParameter("seed", "no number")
    assert chosen.seed == 0


def test_there_is_one_node_however_often_it_is_asked_for(world: World) -> None:
    first, second = Parameters(world.scene), Parameters(world.scene)
    assert first.node is second.node
    second.seed = 5
    assert first.seed == 5


def test_the_request_is_what_the_server_takes(world: World) -> None:
    from lesionbrush.systems import parse_request

    chosen = Parameters(world.scene)
    chosen.seed, chosen.variants, chosen.steps = 4, 3, 20
    chosen.attributes, chosen.extra = {"texture": "part_solid", "margin": 0.25}, {"margin_mm": 2.5}
    request = parse_request(chosen.request())
    assert (request.seed, request.variants, request.steps, request.margin_mm) == (4, 3, 20, 2.5)
    assert (request.attributes.texture, request.attributes.margin) == ("part_solid", 0.25)


def test_what_was_never_chosen_is_left_to_the_server(world: World) -> None:
    assert Parameters(world.scene).request() == {"seed": 0, "variants": 1}


def test_each_model_has_choices_of_its_own(world: World) -> None:
    chosen = Parameters(world.scene)
    chosen.steps = 30
    chosen.choose_model("lung_lesion")
    assert chosen.steps == 30  # a script may choose before there is a model
    chosen.seed, chosen.attributes, chosen.extra = 4, {"texture": "solid"}, {"margin_mm": 2.5}
    chosen.choose_model("lung_ddpm")
    assert chosen.request() == {"seed": 4, "variants": 1}
    chosen.steps, chosen.extra = 9, {"region": "lungs"}
    chosen.choose_model("lung_ddpm")
    assert chosen.request() == {"seed": 4, "variants": 1, "steps": 9, "region": "lungs"}
    chosen.choose_model("lung_lesion")
    assert chosen.request() == {
        "seed": 4,
        "variants": 1,
        "steps": 30,
        "margin_mm": 2.5,
        "attributes": {"texture": "solid"},
    }
    Parameters(world.scene).choose_model("lung_ddpm")
    assert chosen.request()["region"] == "lungs"
    assert set(chosen.others) == {"lung_lesion"}


@pytest.mark.parametrize("said", ['"text"', "[1]", '{"lung_ddpm": 3}', '{"lung_ddpm": {"steps": 7}}', "{"])
def test_a_scene_that_was_tampered_with_gives_defaults(world: World, said: str) -> None:
    chosen = Parameters(world.scene)
    chosen.model = "lung_lesion"
    chosen.node.SetParameter("others", said)
    chosen.choose_model("lung_ddpm")
    assert chosen.request() == {"seed": 0, "variants": 1}


def test_a_saved_scene_brings_everything_back(
    world: World, logic: LesionBrushLogic, ct: Any, synthetic: Any, tmp_path: Path
) -> None:
    logic.parameters.seed, logic.parameters.attributes = 11, {"texture": "solid"}
    logic.parameters.model = "lung_lesion"
    world.scene.SetRootDirectory(str(tmp_path))
    archive = tmp_path / "session.mrb"
    assert world.scene.WriteToMRB(str(archive))

    again = boot()
    other = LesionBrushLogic(again.scene, again.application)
    told: list[str] = []
    other.on_change = told.append
    try:
        open_archive(again, archive, tmp_path / "opened")
        chosen = other.parameters
        assert "scene" in told
        assert (chosen.seed, chosen.attributes, chosen.model) == (11, {"texture": "solid"}, "lung_lesion")
        assert chosen.reference.GetName() == "Chest CT"
        assert chosen.synthetic.GetName() == synthetic.GetName()
        assert chosen.synthetic.GetNodeReference("LesionBrush.reference") is chosen.reference
        assert other.export().voxels == logic.export().voxels
    finally:
        other.close()


def open_archive(world: World, archive: Path, folder: Path) -> None:
    """As ReadFromMRB does, which asks the application for a folder."""
    with ZipFile(archive) as zipped:
        zipped.extractall(folder)
    world.scene.SetURL(str(next(folder.rglob("*.mrml"))))
    assert world.scene.Import()


def test_closing_the_scene_forgets_the_choices(world: World, logic: LesionBrushLogic, synthetic: Any) -> None:
    told: list[str] = []
    logic.on_change = told.append
    world.scene.Clear(0)
    assert logic.parameters.reference is None
    assert logic.parameters.synthetic is None
    assert logic.variants is None
    assert "scene" in told
    logic.parameters.seed = 3
    assert Parameters(world.scene).seed == 3


def test_nothing_in_the_node_is_a_place_for_a_token(world: World) -> None:
    names = {name for name in vars(Parameters) if not name.startswith("_")}
    assert not {name for name in names if "token" in name or "url" in name or "server" in name}
