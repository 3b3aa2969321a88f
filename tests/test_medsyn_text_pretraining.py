"""The two tasks on drawn reports and on a hospital's own; a BERT folder; nodules out of a text."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from lesionbrush.anatomy.chest.naming import LOBES
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.reports.writing import write_report
from lesionbrush.systems.medsyn.text.bert import BertFolder
from lesionbrush.systems.medsyn.text.drawn import draw_findings
from lesionbrush.systems.medsyn.text.encoder import EncoderSizes, WordEncoder
from lesionbrush.systems.medsyn.text.nodules import NoduleWish, take_nodules
from lesionbrush.systems.medsyn.text.own_reports import ReportPair, split_report
from lesionbrush.systems.medsyn.text.pretraining import PretrainingPlan, pretrain
from lesionbrush.training.recipes import Optimiser
from safetensors.torch import load_file

SHORT = PretrainingPlan(
    steps=30,
    batch=16,
    drawn=100,
    sizes=EncoderSizes(width=32, layers=1, heads=2, longest=64),
    optimiser=Optimiser(learning_rate=1e-2, warmup_steps=5, cooldown_share=0.5),
)
REPORT = "EXAM: CT\nFindings: {lungs}\nNo nodule.\n\nImpression:\n{said}\nRECOMMENDATION: none"


class TestPretraining:
    def test_it_learns_from_drawn_reports_and_writes_an_encoder(self, tmp_path: Path) -> None:
        said: list[str] = []
        found = pretrain(tmp_path / "e.safetensors", plan=SHORT, say=said.append)
        assert found.reports == 100
        assert found.masked_accuracy > 0.03  # one of 300 by chance
        assert "0 reports given, 100 drawn" in said[0]
        encoder = WordEncoder.load(tmp_path / "e.safetensors")
        assert encoder.read("Large right pleural effusion, no cheese").unknown == ("cheese",)
        large, none, again = encoder.encode(["Large right effusion", "No effusion", "large right effusion."])
        assert (large - none).square().mean().sqrt() > 0.1
        torch.testing.assert_close(large, again)

    def test_equal_seeds_give_equal_weights(self, tmp_path: Path) -> None:
        plan = PretrainingPlan(steps=2, batch=4, drawn=30, sizes=SHORT.sizes)
        for name in ("a", "b"):
            pretrain(tmp_path / name, plan=plan, say=list[str]().append)
        one, same = (load_file(tmp_path / name) for name in "ab")
        assert all(torch.equal(one[name], same[name]) for name in one)

    def test_a_hospitals_reports_bring_their_own_words(self, tmp_path: Path) -> None:
        folder = tmp_path / "reports" / "2024"
        folder.mkdir(parents=True)
        for k in range(25):
            text = REPORT.format(lungs=f"Schnitte klar {'sehr ' * (2 * k)}", said=f"Normalbefund wort{k}")
            (folder / f"{k}.txt").write_text(text if k < 22 else "FINDINGS: cut off", encoding="utf-8")
        plan = PretrainingPlan(steps=2, batch=4, drawn=60, least=22, sizes=EncoderSizes(16, 1, 2, longest=40))
        found = pretrain(tmp_path / "e", folder.parent, plan, list[str]().append)
        assert (found.reports, found.without) == (22 + 60, 3)
        assert 60 < found.cut < 80
        words = WordEncoder.load(tmp_path / "e").vocabulary.words
        assert {"normalbefund", "schnitte", "nodule", "."} <= set(words)
        assert {"pleural", "cardiomegaly"} <= set(words)  # of the prompts that a network is trained on
        assert not {"exam", "recommendation", "none"} & set(words)

    def test_too_few_reports_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("IMPRESSION: x\nFINDINGS: y")
        with pytest.raises(InvalidRequest, match=r"of 1 \.txt files 1 have a section FINDINGS"):
            pretrain(tmp_path / "e", tmp_path)

    def test_sections_are_found_in_any_order_and_letter_case(self) -> None:
        assert split_report("impression: no.\n  FINDINGS : Lungs: clear") == ReportPair("Lungs: clear", "no.")
        assert split_report("findings: a\nimpression:\n") is None


def fake_transformers(seen: list[dict[str, object]]) -> ModuleType:
    """Knows every word but cheese; a token is its number in a row of three."""

    class Tokens:
        unk_token, pad_token_id = "[UNK]", 50

        def tokenize(self, word: str) -> list[str]:
            return ["[UNK]" if word == "cheese" else word]

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": list(range(len(text.split()) + 2))}

    class Model:
        config = SimpleNamespace(hidden_size=3, max_position_embeddings=6)

        def eval(self) -> Model:
            return self

        def requires_grad_(self, wanted: bool) -> Model:
            return self

        def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            """Each token, and how many it may attend to."""
            said = torch.where(attention_mask > 0, input_ids + 1, -attention_mask.sum())
            return SimpleNamespace(last_hidden_state=said[..., None].repeat(1, 1, 3))

    def loader(made: object) -> SimpleNamespace:
        def from_pretrained(path: str, **options: object) -> object:
            seen.append(options)
            return made

        return SimpleNamespace(from_pretrained=from_pretrained)

    library = ModuleType("transformers")
    library.AutoTokenizer, library.AutoModel = loader(Tokens()), loader(Model())
    return library


class TestBertFolder:
    def test_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(InvalidRequest, match="pip install transformers"):
            BertFolder(tmp_path)

    def test_it_asks_for_local_files_alone(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        seen: list[dict[str, object]] = []
        monkeypatch.setitem(sys.modules, "transformers", fake_transformers(seen))
        with pytest.raises(InvalidRequest, match="nothing is downloaded"):
            BertFolder(tmp_path / "name")
        (tmp_path / "config.json").write_text("{}")
        (tmp_path / "pytorch_model.bin").write_bytes(b"")
        with pytest.raises(WeightsError, match=r"has no model\.safetensors"):
            BertFolder(tmp_path)
        (tmp_path / "model.safetensors").write_bytes(b"")
        bert = BertFolder(tmp_path)
        assert all(one["local_files_only"] and not one["trust_remote_code"] for one in seen)
        assert seen[1]["use_safetensors"]
        assert bert.read("no cheese no").unknown == ("cheese",)
        assert bert.encode(["no effusion", " "])[:, :, 0].tolist() == [[1, 2, 3, 4, 0, 0], [0] * 6]
        padded = BertFolder(tmp_path, padded=True).encode(["no effusion", " "])
        assert padded[:, :, 0].tolist() == [[1, 2, 3, 4, -4, -4], [0] * 6]
        with pytest.raises(InvalidRequest, match="has 7 words and numbers, and the encoder takes 6"):
            bert.encode(["one two three four five"])


class TestNodules:
    @pytest.mark.parametrize(
        ("text", "rest", "wish"),
        [
            (
                "Large right effusion and an 8 mm solid nodule in the left lower lobe.",
                "Large right effusion.",
                NoduleWish(8, "solid", "left lung lower lobe", "left"),
            ),
            (
                "No effusion, 1.2 cm part-solid nodule in the RUL; cardiomegaly",
                "No effusion; cardiomegaly",
                NoduleWish(12, "part-solid", "right lung upper lobe", "right"),
            ),
            (
                "In the left lung, a ground-glass nodule of 10 x 8 mm, no effusion.",
                "no effusion.",
                NoduleWish(9, "ground-glass", None, "left"),
            ),
            ("Nodule without effusion", "without effusion", NoduleWish()),
            ("nodule in the left lung, right effusion", "right effusion", NoduleWish(side="left")),
            ("Large effusion 8 mm nodule", "Large effusion", NoduleWish(8)),
            (
                "Emphysema.\nSubsolid nodule, middle lobe",
                "Emphysema.",
                NoduleWish(None, "part-solid", "right lung middle lobe", "right"),
            ),
        ],
    )
    def test_a_nodule_is_taken_out(self, text: str, rest: str, wish: NoduleWish) -> None:
        assert take_nodules(text) == (rest, (wish,))

    @pytest.mark.parametrize(
        "text",
        [
            "No nodule.",
            "No effusion or nodule.",
            "Nodules are absent",
            "Cardiomegaly without nodule",
            "No mass, nodule or effusion",
            "Severe emphysema. Small effusion.",
            "",
        ],
    )
    def test_what_is_denied_is_no_wish_and_stays(self, text: str) -> None:
        assert take_nodules(text) == (text, ())

    def test_several_are_as_many_wishes(self) -> None:
        assert take_nodules("Two 5 mm nodules")[1] == (NoduleWish(5),) * 2
        assert take_nodules("4 solid nodules")[1] == (NoduleWish(None, "solid"),) * 4
        assert len(take_nodules("multiple nodules; one 9 mm nodule")[1]) == 4
        assert [one.side for one in take_nodules("bilateral nodules")[1]] == ["right", "left"]

    @pytest.mark.parametrize("seed", range(40))
    def test_what_our_writer_says_is_read_back(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        findings = draw_findings(generator)
        rest, wishes = take_nodules(write_report(findings, generator))
        for wish, nodule in zip(wishes, findings.nodules or (), strict=True):
            whole = nodule.lobe not in LOBES.values() or not nodule.lobe.endswith("lobe")
            assert (wish.texture, wish.lobe) == (nodule.texture, None if whole else nodule.lobe)
            assert wish.diameter_mm == pytest.approx(nodule.truth.mean_diameter_mm, abs=1)
        assert not wishes or "odule" not in rest
