"""Words of a report as tokens: what is known, numbers and units, prompts that say what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.reports.findings import ChestFindings, Measurement
from lesionbrush.reports.writing import EFFUSION_ML, WIDE_HEART, write_report
from lesionbrush.systems.medsyn.text.drawn import draw_findings
from lesionbrush.systems.medsyn.text.encoder import EncoderSizes, WordEncoder
from lesionbrush.systems.medsyn.text.prompts import LONGEST, LUNG_ML, write_prompt, write_short
from lesionbrush.systems.medsyn.text.vocabulary import SPECIAL, UNKNOWN, Reading, Vocabulary, split
from safetensors.torch import load_file, save_file

TINY = EncoderSizes(width=16, layers=1, heads=2, longest=24)
SAID = ("Large right pleural effusion.", "No pleural effusion.", "Cardiomegaly, severe emphysema of 12 %")


def tokens(text: str) -> list[str]:
    return [token for _, token in split(text)]


def findings(**changed: float | None) -> ChestFindings:
    """A healthy chest; None: not measured."""
    healthy = {"right_lung_ml": 2500, "left_lung_ml": 2200, "laa950_percent": 1, "heart_width_mm": 120}
    healthy |= {"chest_width_mm": 280, "cardiothoracic_ratio": 0.43, "effusion_right_ml": 0}
    healthy |= {"effusion_left_ml": 0, "consolidation_ml": 0, "airways_ml": 70, "noise_hu": 12}
    numbers = {**healthy, **changed}
    nothing = Measurement(why_not="it was cut")
    measured = {k: nothing if v is None else Measurement(value=v) for k, v in numbers.items()}
    return ChestFindings(slice_mm=1.0, **measured)


def prompts(seeds: int = 200, **changed: float | None) -> Iterator[str]:
    return (write_short(findings(**changed), np.random.default_rng(seed)).lower() for seed in range(seeds))


@pytest.fixture
def encoder() -> WordEncoder:
    torch.manual_seed(0)
    return WordEncoder(Vocabulary.of(SAID), TINY)


class TestVocabulary:
    def test_a_unit_is_one_whatever_it_is_called(self) -> None:
        assert tokens("1.2 l") == tokens("1200 ml") == tokens("1,200 ml") == tokens("1,2 litres")
        assert tokens("1.5 x 2 cm") == tokens("15 x 20 mm")
        assert tokens("2 cm and 5 ml") == [*tokens("20 mm"), "and", *tokens("5 ml")]

    def test_numbers_have_a_sign_and_a_size(self) -> None:
        one, minus, none = tokens("950"), tokens("-950 HU")[:1], tokens("0")
        assert len({*one, *minus, *none}) == 3
        assert tokens("LAA-950")[1:] == tokens("5-950")[1:] == one
        assert tokens("300") == tokens("310")
        assert tokens("300") != tokens("1000")
        assert tokens("1e9 ml")[:1] != [UNKNOWN]
        assert tokens("12.3.2020") == [UNKNOWN]

    def test_ends_of_sentences_are_alike(self) -> None:
        assert tokens("No effusion.\n\nCardiomegaly.") == tokens("no effusion; cardiomegaly")
        assert tokens("") == tokens(" .\n") == []

    def test_what_is_not_known_is_said_once_as_typed(self) -> None:
        read = Vocabulary.of(SAID).read("Large effusions of 2 l, chylous: CHYLOUS cheese")
        assert read == Reading(("large", "effusions", "of", "2"), ("l", "chylous", "cheese"))
        assert Vocabulary.of(SAID).numbers("cheese") == [SPECIAL.index(UNKNOWN)]

    def test_seldom_words_are_left_out(self) -> None:
        assert Vocabulary.of(["a b b", "b c c 12"], least=2).words == ("b", "c")


class TestEncoder:
    def test_a_text_is_the_same_in_every_batch(self, encoder: WordEncoder) -> None:
        alone = encoder.encode([SAID[1]])[0]
        for texts in ((SAID[1], SAID[2]), (SAID[2], "", SAID[1]), (SAID[1].upper(), SAID[1])):
            there = encoder.encode(texts)
            places = [k for k, text in enumerate(texts) if text.lower() == SAID[1].lower()]
            for k in places:
                torch.testing.assert_close(there[k], alone, atol=1e-5, rtol=0)

    def test_a_large_effusion_is_not_none(self, encoder: WordEncoder) -> None:
        large, none = encoder.encode(SAID[:2])
        assert (large - none).square().mean().sqrt() > 0.1
        assert (large[0] - none[0]).abs().max() > 0.01  # [CLS] stands for all of the text

    def test_zeros_stand_behind_a_text_and_for_an_empty_one(self, encoder: WordEncoder) -> None:
        said = encoder.encode(["No pleural effusion", "", " . "])
        assert said.shape == (3, 24, 16)
        assert said.dtype == torch.float32
        assert (said[0].abs().sum(1) > 0).tolist() == [True] * 4 + [False] * 20
        assert not said[1:].any()

    def test_nothing_is_cut_off(self, encoder: WordEncoder) -> None:
        assert encoder.encode(["no " * 23]).any()
        with pytest.raises(InvalidRequest, match="has 24 words and numbers, and the encoder takes 23"):
            encoder.encode(["no " * 24])

    def test_a_file_gives_it_back(self, encoder: WordEncoder, tmp_path: Path) -> None:
        encoder.save(tmp_path / "e.safetensors")
        again = WordEncoder.load(tmp_path / "e.safetensors")
        assert torch.equal(again.encode(SAID), encoder.encode(SAID))
        assert again.read("cheese").unknown == ("cheese",)
        assert not any(one.requires_grad for one in again.parameters())

    def test_other_files_are_refused(self, encoder: WordEncoder, tmp_path: Path) -> None:
        path = tmp_path / "e.safetensors"
        with pytest.raises(WeightsError, match="no text encoder of this app"):
            WordEncoder.load(path)
        encoder.save(path)
        weights = load_file(path)
        save_file(weights, path)
        with pytest.raises(WeightsError, match="'sizes'"):
            WordEncoder.load(path)
        other = WordEncoder(Vocabulary.of(["other words"]), TINY)
        other.words = encoder.words
        other.save(path)
        with pytest.raises(WeightsError, match="do not fit its words and sizes: 1 of another shape: words"):
            WordEncoder.load(path)


class TestPrompts:
    def test_a_healthy_chest_is_called_nothing_else(self) -> None:
        said = set(prompts())
        assert len(said) > 100
        assert any("normal" in text for text in said)
        ill = r"(?<!no )(large|severe|massive|small) (?!lung)|is enlarged"
        assert not [text for text in said if re.search(ill, text)]

    @pytest.mark.parametrize(
        ("name", "value", "said", "never"),
        [
            (
                "effusion_right_ml",
                EFFUSION_ML[2] + 1,
                "large right pleural effusion",
                "(small|tiny) (right|p)",
            ),
            ("effusion_left_ml", EFFUSION_ML[0] + 1, "small left pleural effusion", r"\b(large|massive) "),
            ("laa950_percent", 20, "severe emphysema", "mild|no emphysema"),
            ("laa950_percent", 7, "mild emphysema", "severe|no emphysema"),
            (
                "cardiothoracic_ratio",
                WIDE_HEART + 0.01,
                "cardiomegaly|enlarged",
                "no cardiomegaly|normal heart",
            ),
            ("consolidation_ml", 60, "consolidation", "no consolidation|clear"),
            ("right_lung_ml", LUNG_ML["right"][0] - 1, "small right lung", "normal lung volume"),
        ],
    )
    def test_what_is_ill_is_said_and_not_denied(self, name: str, value: float, said: str, never: str) -> None:
        texts = list(prompts(**{name: value}))
        assert any(re.search(said, text) for text in texts)
        assert not [text for text in texts if re.search(never, text) or re.search("^normal (chest|ct)", text)]

    def test_what_was_not_measured_is_not_mentioned(self) -> None:
        nothing = dict.fromkeys(("effusion_right_ml", "effusion_left_ml", "cardiothoracic_ratio"))
        for text in prompts(**nothing):
            assert not re.search("effusion|pleura|heart|cardi|normal (ct|chest|study)|otherwise", text)
        assert all(
            "right" in text for text in prompts(**nothing | {"effusion_right_ml": 0}) if "effus" in text
        )
        everything = dict.fromkeys(name for name, one in findings() if isinstance(one, Measurement))
        assert set(prompts(5, **everything)) == {""}

    def test_equal_generators_give_equal_prompts_none_too_long(self) -> None:
        drawn = [draw_findings(np.random.default_rng(seed)) for seed in range(60)]
        texts = [write_prompt(one, np.random.default_rng(k)) for k, one in enumerate(drawn)]
        assert texts == [write_prompt(one, np.random.default_rng(k)) for k, one in enumerate(drawn)]
        assert max(len(split(text)) for text in texts) <= LONGEST
        whole = [text for text in texts if "\n" in text]
        assert 5 < len(whole) < 30

    def test_drawn_findings_are_of_every_kind(self) -> None:
        generator = np.random.default_rng(0)
        drawn = [draw_findings(generator) for _ in range(150)]
        ratios = [one.cardiothoracic_ratio.value for one in drawn]
        assert None in ratios
        assert 0.2 < np.mean([ratio > WIDE_HEART for ratio in ratios if ratio]) < 0.7
        assert {len(one.nodules) for one in drawn if one.nodules is not None} == {0, 1, 2}
        assert all(write_report(one, generator) for one in drawn)
