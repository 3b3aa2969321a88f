"""Every engine that this machine has against PyTorch in float32, and what happens when one is missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core_fixtures import QUICK, ball, make_ct, tiny_card, tiny_network
from lesionbrush.core.registry import find_model
from lesionbrush.core.request import EditRequest
from lesionbrush.core.synthesize import Synthesis, synthesize
from lesionbrush.engines import choice, openvino
from lesionbrush.engines.choice import EngineChoice, choose_engine, multiplies_bfloat16, parse_wish
from lesionbrush.engines.evaluator import Evaluator, make_engine
from lesionbrush.engines.openvino import OpenVINOEngine, cache_folder, fingerprint
from lesionbrush.engines.pytorch import OneDNN
from lesionbrush.errors import InvalidRequest
from lesionbrush.phantom.chest import Phantom, chest_phantom
from lesionbrush.systems import find_system, load_model
from lesionbrush.systems.lesion_inpainting.attributes import ATTRIBUTES
from lesionbrush.systems.lesion_inpainting.model import LesionInpainting
from lesionbrush.systems.palette.network import PaletteUNet, PaletteUNetConfig
from scipy import ndimage
from torch import Tensor, nn

CPU = torch.device("cpu")
ENGINES = [
    pytest.param(EngineChoice("PyTorch", "float32"), id="pytorch-float32"),
    pytest.param(EngineChoice("PyTorch", "bfloat16"), id="pytorch-bfloat16"),
    pytest.param(EngineChoice("OpenVINO", "float32"), id="openvino-float32"),
    pytest.param(EngineChoice("OpenVINO", "bfloat16"), id="openvino-bfloat16"),
]
ASKED: dict[str, dict[str, Any]] = {
    "lung_lesion": {"steps": 4},
    "soft_tissue_lesion": {"steps": 4},
    "mddpm": {"steps": 2, "reference": {"factor": 4}},
}
"""`mddpm_3d` has the weights of `lung_lesion`."""
MOST_RELATIVE = {"float32": 1e-4, "bfloat16": 0.03}
MOST_HU = {"float32": 1.0, "bfloat16": 40.0}
"""That a voxel in the edit region differs by: of rounding to whole HU, and of 8 bits of a number."""
P99_HU = {"float32": 1.0, "bfloat16": 15.0}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(openvino.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def lesion_inputs(rows: int, shape: Sequence[int] = (16, 16, 16)) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(rows)

    def normal(*sides: int) -> Tensor:
        return torch.randn(sides, generator=generator)

    level, attributes = torch.full((rows,), 0.6), normal(rows, 2 * len(ATTRIBUTES))
    return normal(rows, 1, *shape), level, 1.2 * level, normal(rows, 3, *shape), attributes


class TestChoice:
    def test_openvino_where_it_is_and_else_pytorch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert choose_engine("cpu", "").library == "OpenVINO"
        monkeypatch.setattr(choice, "is_installed", lambda: False)
        assert choose_engine("cpu", "").library == "PyTorch"

    def test_bfloat16_where_the_hardware_has_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for there, precision in ((True, "bfloat16"), (False, "float32")):
            monkeypatch.setattr(choice, "multiplies_bfloat16", lambda device, there=there: there)
            assert choose_engine("cpu", "").precision == precision

    def test_a_gpu_is_pytorchs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "multiplies_bfloat16", lambda device: True)
        assert choose_engine("cuda", "openvino") == EngineChoice("PyTorch", "bfloat16")

    def test_the_environment_decides(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(choice.VARIABLE, "PyTorch-float32")
        assert choose_engine() == EngineChoice("PyTorch", "float32")
        monkeypatch.setenv(choice.VARIABLE, "float32")
        assert choose_engine() == EngineChoice("OpenVINO", "float32")

    @pytest.mark.parametrize("word", ["onnx", "openvino-int8", "float32-openvino", "openvino pytorch"])
    def test_a_word_that_is_none_is_refused(self, word: str) -> None:
        with pytest.raises(InvalidRequest, match=f"there is no engine '{word}'; choose one of openvino"):
            parse_wish(word)

    def test_openvino_that_is_not_there_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(choice, "is_installed", lambda: False)
        with pytest.raises(InvalidRequest, match="OpenVINO is not installed"):
            choose_engine(wanted="openvino")


class TestOneDNN:
    """PyTorch's convolutions, by another way where its own is slow."""

    @pytest.mark.parametrize("options", [{"padding": 1}, {"stride": 2}, {"padding": 2, "dilation": 2}])
    def test_the_same_numbers(self, monkeypatch: pytest.MonkeyPatch, options: dict[str, int]) -> None:
        layer, x = nn.Conv3d(4, 6, 3, **options), torch.randn(1, 4, 9, 8, 7)
        calls, own = [], torch.mkldnn_convolution
        monkeypatch.setattr(torch, "mkldnn_convolution", lambda *args: calls.append(1) or own(*args))
        with torch.inference_mode():
            expected = layer(x)
            assert not calls
            with OneDNN():
                found = layer(x)
        assert calls
        assert torch.allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            (nn.Conv3d(2, 2, 3), (2, 2, 5, 5, 5)),
            (nn.Conv3d(2, 2, 3, padding="same"), (1, 2, 5, 5, 5)),
            (nn.Conv3d(2, 2, 3).double(), (1, 2, 5, 5, 5)),
            (nn.Conv2d(2, 2, 3), (1, 2, 5, 5)),
        ],
        ids=["batch", "same", "double", "2d"],
    )
    def test_others_are_left_alone(
        self, monkeypatch: pytest.MonkeyPatch, layer: nn.Conv3d, shape: tuple[int, ...]
    ) -> None:
        monkeypatch.setattr(torch, "mkldnn_convolution", lambda *args: pytest.fail("not this one"))
        with torch.inference_mode(), OneDNN():
            layer(torch.randn(shape, dtype=layer.weight.dtype))


class TestOpenVINO:
    def test_it_says_what_the_network_says_at_every_shape(self) -> None:
        network = tiny_network()
        engine = OpenVINOEngine(network, "float32")
        for shape in ((16, 16, 16), (24, 16, 32), (16, 16, 16)):
            inputs = lesion_inputs(2, shape)
            with torch.inference_mode():
                assert torch.allclose(engine(*inputs), network(*inputs), atol=1e-4)

    def test_an_item_does_not_depend_on_the_others(self) -> None:
        engine, inputs = OpenVINOEngine(tiny_network(), "float32"), lesion_inputs(3)
        assert torch.equal(engine(*inputs)[1:2], engine(*(part[1:2] for part in inputs)))

    def test_it_keeps_what_was_compiled_for_the_last_shapes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(openvino, "MOST_SHAPES", 2)
        engine = OpenVINOEngine(tiny_network(), "float32")
        for side in (8, 16, 24):
            engine(*lesion_inputs(1, (side, 8, 8)))
        assert [shapes[0][2] for shapes in engine._compiled] == [16, 24]

    def test_a_network_is_converted_once(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        inputs = lesion_inputs(1)
        first = OpenVINOEngine(tiny_network(), "float32")(*inputs)
        assert [path.name for path in cache.iterdir()] == [fingerprint(tiny_network())]
        monkeypatch.setattr(openvino, "convert", lambda *_: pytest.fail("converted again"))
        assert torch.equal(OpenVINOEngine(tiny_network(), "float32")(*inputs), first)

    def test_other_weights_or_code_are_another_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = {fingerprint(tiny_network(seed)) for seed in (0, 1, 0)}
        monkeypatch.setattr(openvino, "version", lambda name: "another")
        names.add(fingerprint(tiny_network()))
        assert len(names) == 3

    def test_a_damaged_copy_is_made_again(self, cache: Path) -> None:
        inputs = lesion_inputs(1)
        first = OpenVINOEngine(tiny_network(), "float32")(*inputs)
        graph = next(cache.iterdir()) / openvino.GRAPH
        graph.write_text("<net", encoding="utf-8")
        assert torch.equal(OpenVINOEngine(tiny_network(), "float32")(*inputs), first)
        assert graph.stat().st_size > 1000

    def test_a_cache_that_cannot_be_written_costs_time_alone(self, cache: Path) -> None:
        cache.write_text("no folder", encoding="utf-8")
        inputs = lesion_inputs(1)
        with torch.inference_mode():
            expected = tiny_network()(*inputs)
        assert torch.allclose(OpenVINOEngine(tiny_network(), "float32")(*inputs), expected, atol=1e-4)

    def test_the_cache_is_bounded(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(openvino, "MOST_NETWORKS", 2)
        for seed in range(3):
            OpenVINOEngine(tiny_network(seed), "float32")(*lesion_inputs(1))
        assert len(list(cache.iterdir())) == 2
        assert not (cache / fingerprint(tiny_network(0))).exists()

    def test_by_default_it_is_the_users(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.delenv(openvino.CACHE)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "lesionbrush" / "engines"


class Unknown(nn.Module):
    """An operator that no engine but PyTorch knows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i1e(x)


class TestFallback:
    def test_what_openvino_cannot_do_pytorch_does_and_the_user_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(choice.VARIABLE, "openvino-float32")
        evaluate, x = Evaluator(Unknown()), torch.randn(2, 3)
        for _ in range(2):
            assert torch.equal(evaluate(x), torch.special.i1e(x))
        assert str(evaluate.engine(CPU)) == "PyTorch, float32"
        (said,) = evaluate.remarks
        why = "No conversion rule found for operations: aten::special_i1e"
        assert said == f"OpenVINO could not run this network ({why}): PyTorch ran it, more slowly."

    def test_there_is_nothing_to_say_otherwise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(choice.VARIABLE, "openvino-float32")
        evaluate = Evaluator(tiny_network())
        evaluate(*lesion_inputs(1))
        assert (evaluate.remarks, str(evaluate.engine(CPU))) == ((), "OpenVINO, float32")


NO_SOCKETS = """
import socket, sys
def refuse(*args, **named):
    raise SystemExit(f"a socket was opened: {args}")
socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse
import threading
threads = []
start = threading.Thread.start
threading.Thread.start = lambda self: (threads.append(self.name), start(self))
import torch
from lesionbrush.engines.openvino import OpenVINOEngine
made = OpenVINOEngine(torch.nn.Conv3d(1, 1, 3), "float32")(torch.randn(1, 1, 8, 8, 8))
assert made.shape == (1, 1, 6, 6, 6)
assert sys.modules["openvino_telemetry"] is None
assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
print("threads", threads)
"""


def test_nothing_is_sent_anywhere() -> None:
    """OpenVINO's telemetry would report its import, and each conversion, from threads of its own."""
    done = subprocess.run([sys.executable, "-c", NO_SOCKETS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "threads []"


def make_with(engine: EngineChoice, monkeypatch: pytest.MonkeyPatch) -> LesionInpainting:
    monkeypatch.setenv(choice.VARIABLE, f"{engine.library}-{engine.precision}")
    return LesionInpainting(tiny_card(), tiny_network(), CPU)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_promise_holds_on_every_engine(engine: EngineChoice, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside the edit region nothing changes; same request, same voxels; the record says who."""
    reference = make_ct()
    mask = ball(reference, (20, 17, 14), 5.0)
    model = make_with(engine, monkeypatch)
    made, again = (synthesize(reference, mask, QUICK, model)[0] for _ in range(2))
    whole, kept = made.volume().array, np.ones(reference.shape, bool)
    kept[made.slices] = False
    assert np.array_equal(whole[kept], reference.array[kept])
    assert (whole[mask.array > 0] != reference.array[mask.array > 0]).any()
    assert np.array_equal(made.box, again.box)
    other = synthesize(reference, mask, QUICK, make_with(engine, monkeypatch))[0]
    assert np.array_equal(made.box, other.box)
    assert made.provenance.device == f"cpu ({engine.library}, {engine.precision})"


def ask(model: Any, engine: EngineChoice, chest: Phantom, request: EditRequest) -> Synthesis:
    """A ball of 10 mm in a lung."""
    places = np.argwhere(ndimage.binary_erosion(chest.lungs.array, iterations=3))
    mask = ball(chest.volume, tuple(places[len(places) // 2]), 5.0)
    model.evaluate.engines["cpu"] = make_engine(model.network, engine)
    return synthesize(chest.volume, mask, request, model)[0]


def in_turn() -> dict[tuple[str, str], EngineChoice]:
    """The engines of this machine, by library and precision."""
    choices = [param.values[0] for param in ENGINES]
    there = [one for one in choices if one.precision == "float32" or multiplies_bfloat16()]
    return {(one.library, one.precision): one for one in there}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "wishes"), ASKED.items())
def test_every_engine_makes_the_same_lesion(name: str, wishes: dict[str, Any]) -> None:
    """HU in the edit region against PyTorch, float32: the weights that ship, on one request."""
    chest = chest_phantom(shape=(160, 128, 64), spacing_mm=(2.0, 2.3, 2.5))
    installed = find_model(name)
    request = find_system(installed.card.system).request.model_validate({"seed": 3, **wishes})
    assert isinstance(request, EditRequest)
    model = load_model(installed, "cpu")
    made = {who: ask(model, engine, chest, request) for who, engine in in_turn().items()}
    exact = made["PyTorch", "float32"]
    before = exact.reference.array[exact.slices]
    for (library, precision), found in made.items():
        apart = np.abs(found.box.astype(int) - exact.box)[(found.box != before) | (exact.box != before)]
        assert apart.max() <= MOST_HU[precision], (library, precision, apart.max())
        assert np.percentile(apart, 99) <= P99_HU[precision], (library, precision)


@pytest.mark.slow
def test_every_engine_says_what_palette_says() -> None:
    """At two sizes; a formulation of its blocks once made OpenVINO crash."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PaletteUNet(PaletteUNetConfig(dropout=0.0)).eval()
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.02)
    engines = {who: make_engine(network, engine) for who, engine in in_turn().items()}
    for side in (32, 64):
        noisy, told = torch.randn(2, 1, side, side), torch.randn(2, 2, side, side)
        inputs = (noisy, torch.tensor([0.01, 0.9]), told, torch.tensor([0, 8]))
        with torch.inference_mode():
            made = {who: engine(*inputs) for who, engine in engines.items()}
        exact = made["PyTorch", "float32"]
        for who, found in made.items():
            assert float((found - exact).norm() / exact.norm()) < MOST_RELATIVE[who[1]], who


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channels"), [("lung_ddpm", 3), ("lung_ddpm_plus", 2)])
def test_every_engine_says_what_the_network_says(name: str, channels: int) -> None:
    """The weights that ship, of networks whose requests take long: relative to PyTorch, float32."""
    network = load_model(find_model(name), "cpu").network
    inputs = (
        torch.randn(1, channels, 32, 32, 32, generator=torch.Generator().manual_seed(0)),
        torch.tensor([99]),
    )
    with torch.inference_mode():
        made = {who: make_engine(network, engine)(*inputs) for who, engine in in_turn().items()}
    exact = made["PyTorch", "float32"]
    for who, found in made.items():
        assert float((found - exact).norm() / exact.norm()) < MOST_RELATIVE[who[1]], who
