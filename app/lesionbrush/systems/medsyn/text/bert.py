"""A BERT of one's own in place of our encoder: a folder as Hugging Face's `transformers` saves it.

The library is not among our requirements. Nothing is downloaded, no code of the folder is run, and weights
are read from safetensors alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lesionbrush.errors import InvalidRequest, WeightsError
from lesionbrush.systems.medsyn.text.encoder import require_length
from lesionbrush.systems.medsyn.text.vocabulary import Reading

WEIGHTS = "model.safetensors"
MOST_TOKENS = 512


class BertFolder:
    """A `TextEncoder`. It splits a word it does not know into parts, so that few words are unknown to it."""

    def __init__(self, folder: Path, longest: int = 256, *, padded: bool = False) -> None:
        """padded: behind a text are the outputs of [PAD], which no token attends to, in place of zeros.

        InvalidRequest without the library, and where there is no such folder; WeightsError for a folder
        without config.json and model.safetensors, or whose files do not fit each other."""
        library = _transformers()
        if not folder.is_dir():
            raise InvalidRequest(
                f"{folder}: no such folder; nothing is downloaded: put a BERT there yourself"
            )
        missing = [name for name in ("config.json", WEIGHTS) if not (folder / name).is_file()]
        if missing:
            raise WeightsError(
                f"{folder} has no {' and no '.join(missing)}: save the model with save_pretrained(folder, "
                "safe_serialization=True); pickled weights are not read"
            )
        here = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokens: Any = library.AutoTokenizer.from_pretrained(str(folder), **here)
            self._model: Any = library.AutoModel.from_pretrained(str(folder), use_safetensors=True, **here)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise WeightsError(f"{folder} is no BERT that transformers can load: {error}") from error
        self._model.eval().requires_grad_(False)
        self.padded = padded
        self.width = int(self._model.config.hidden_size)
        self.longest = min(longest, int(getattr(self._model.config, "max_position_embeddings", MOST_TOKENS)))

    def read(self, text: str) -> Reading:
        """By words between spaces: unknown are those of which a part is [UNK]."""
        unknown = {word for word in text.split() if self._tokens.unk_token in self._tokens.tokenize(word)}
        words = dict.fromkeys(text.split())
        return Reading(tuple(w for w in words if w not in unknown), tuple(w for w in words if w in unknown))

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """See `TextEncoder`; [SEP] is the last token of a text."""
        said = torch.zeros(len(texts), self.longest, self.width)
        for k, text in enumerate(texts):
            if text.strip():
                numbers = self._tokens(text)["input_ids"]
                require_length(len(numbers), self.longest)
                row = self._of(numbers, self.longest - len(numbers) if self.padded else 0)
                said[k, : len(row)] = row
        return said

    def _of(self, numbers: Sequence[int], padding: int) -> Tensor:
        """One text at a time, with so many [PAD]s, which are hidden from it."""
        given = torch.tensor([[*numbers, *[self._tokens.pad_token_id] * padding]])
        seen = torch.tensor([[1] * len(numbers) + [0] * padding])
        found: Tensor = self._model(input_ids=given, attention_mask=seen).last_hidden_state[0]
        return found.float().cpu()


def _transformers() -> ModuleType:
    """Raises InvalidRequest."""
    try:
        return import_module("transformers")
    except ImportError as error:
        raise InvalidRequest(
            "a BERT folder needs the library transformers, which is not installed here:  "
            "pip install transformers  into this app's environment, or take the encoder that comes with it"
        ) from error
