"""The frozen encoder that a network of whole chests attends to (Xu et al. 2024, Sec. IV.A).

The default is our own: of words, small, pretrained by the paper's two tasks on reports of our own writer.
There is no licence to ask about and nothing to download; that no word of a text is known can be said instead
of guessed; and by the paper's Table VII, a language model that was pretrained on other texts hardly steers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.files.durable import whole_files
from lesionbrush.systems.fit import compare
from lesionbrush.systems.medsyn.text.vocabulary import BETWEEN, PADDING, WHOLE, Reading, Vocabulary


class TextEncoder(Protocol):
    """width: of a token. longest: how many tokens a text has at most, [CLS] included."""

    width: int
    longest: int

    def read(self, text: str) -> Reading: ...

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(B, longest, width) float32: [CLS], the tokens of a text, then zeros; all zeros for an empty one.

        InvalidRequest for a text that is longer: nothing is cut off unsaid.
        """
        ...


@dataclass(frozen=True)
class EncoderSizes:
    width: int = 96
    layers: int = 2
    heads: int = 4
    longest: int = 128


class WordEncoder(nn.Module):
    """A transformer over words. What it says of a text does not depend on what else is in the batch."""

    def __init__(self, vocabulary: Vocabulary, sizes: EncoderSizes | None = None) -> None:
        super().__init__()
        self.vocabulary, self.sizes = vocabulary, sizes or EncoderSizes()
        self.width, self.longest = self.sizes.width, self.sizes.longest
        self.words = nn.Embedding(len(vocabulary), self.width)
        self.places = nn.Embedding(self.longest, self.width)
        self.sections = nn.Embedding(2, self.width)
        for table in (self.words, self.places, self.sections):
            nn.init.normal_(table.weight, std=0.1)
        layer = nn.TransformerEncoderLayer(
            self.width,
            self.sizes.heads,
            4 * self.width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(self.width)
        self.layers = nn.TransformerEncoder(layer, self.sizes.layers, norm, enable_nested_tensor=False)
        self.eval()

    def forward(self, numbers: Tensor) -> Tensor:
        """numbers: (B, N) of tokens, padding at the end, none of them padding alone. (B, N, width).

        What is behind a [SEP] is told to be of the second section.
        """
        second = (numbers == self.vocabulary.index[BETWEEN]).cumsum(1).clamp(max=1)
        inner = self.words(numbers) + self.places.weight[: numbers.shape[1]] + self.sections(second)
        padding = numbers == self.vocabulary.index[PADDING]
        said: Tensor = self.layers(inner, src_key_padding_mask=padding)
        return said * ~padding[..., None]

    def read(self, text: str) -> Reading:
        return self.vocabulary.read(text)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`."""
        rows = [self.number(text) for text in texts]
        numbers = pad(rows, self.longest).to(self.words.weight.device)
        said = self(numbers)
        empty = torch.tensor([len(row) == 1 for row in rows], device=said.device)
        return said.float() * ~empty[:, None, None]

    def number(self, text: str) -> list[int]:
        """The numbers of [CLS] and of the tokens. Raises InvalidRequest."""
        numbers = self.vocabulary.numbers(text)
        require_length(len(numbers), self.longest - 1)
        return [self.vocabulary.index[WHOLE], *numbers]

    def save(self, path: Path) -> None:
        """Weights, and in their metadata the sizes and the list of words."""
        facts = {"sizes": json.dumps(asdict(self.sizes)), "words": json.dumps(self.vocabulary.words)}
        weights = {name: tensor.contiguous().cpu() for name, tensor in self.state_dict().items()}
        with whole_files(path) as (draft,):
            save_file(weights, draft, metadata=facts)

    @classmethod
    def load(cls, path: Path) -> WordEncoder:
        """In evaluation, its weights frozen. WeightsError for a file that is no such encoder."""
        try:
            with safe_open(path, framework="pt") as file:
                facts: Mapping[str, str] = file.metadata() or {}
            weights = load_file(path)
            sizes = EncoderSizes(**json.loads(facts["sizes"]))
            encoder = cls(Vocabulary(tuple(json.loads(facts["words"]))), sizes)
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise WeightsError(
                f"{path.name} is no text encoder of this app, a safetensors file with its list of words: "
                f"pretrain one ({error})"
            ) from error
        found, wanted = (_shapes(state) for state in (weights, encoder.state_dict()))
        if not (fit := compare(found, wanted)):
            raise WeightsError(f"the weights of {path.name} do not fit its words and sizes: {fit.report()}")
        encoder.load_state_dict(weights)
        return encoder.requires_grad_(False)


def require_length(tokens: int, most: int) -> None:
    """Raises InvalidRequest."""
    if tokens > most:
        raise InvalidRequest(
            f"the text has {tokens} words and numbers, and the encoder takes {most}: shorten it to what "
            "the CT is to show"
        )


def pad(rows: Sequence[Sequence[int]], length: int | None = None) -> Tensor:
    """int64 (B, length), or as long as the longest row; 0 is padding."""
    numbers = torch.zeros(len(rows), length or max(map(len, rows), default=0), dtype=torch.int64)
    for k, row in enumerate(rows):
        numbers[k, : len(row)] = torch.tensor(row)
    return numbers


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
