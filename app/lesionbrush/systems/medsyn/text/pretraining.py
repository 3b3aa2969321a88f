"""How the encoder of words is pretrained: by the two tasks of Xu et al. 2024, Sec. IV.A, on two sections.

15 % of the tokens are masked, to be named; and half of the findings get the impression of another report, to
be told from those that belong together, by a linear layer on [CLS]. A third task is ours: the numbers that a
prompt was written from are read off its [CLS], so that what a network of chests has to learn from a few of
them is what a finding looks like, and not how it is said.

Nobody has to give a report: by default findings are drawn and our own writer reports on them. A run takes
minutes, so none is resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lesionbrush.reports.writing import PARTS, ReportPart, write_report
from lesionbrush.systems.medsyn.text.drawn import draw_findings
from lesionbrush.systems.medsyn.text.encoder import EncoderSizes, WordEncoder, pad
from lesionbrush.systems.medsyn.text.own_reports import OwnReports, ReportPair, read_reports
from lesionbrush.systems.medsyn.text.prompts import write_prompt, write_short
from lesionbrush.systems.medsyn.text.reading import READ, scale_findings
from lesionbrush.systems.medsyn.text.vocabulary import BETWEEN, MASK, SPECIAL, WHOLE, Vocabulary
from lesionbrush.training.loop import OPTIMISERS
from lesionbrush.training.recipes import Optimiser

MASKED_SHARE, HELD_OUT = 0.15, 0.1
SAY_EVERY, MOST_JUDGED = 250, 1000
PROMPTED: tuple[ReportPart, ...] = ("lungs", "emphysema", "heart", "effusion", "consolidation")
IMPRESSION_PROMPTS = 2


@dataclass(frozen=True, kw_only=True)
class PretrainingPlan:
    """drawn: how many reports are drawn, also where some are given. least: how often a word of given reports
    occurs, to be known.

    So many steps take five minutes of a fast core, and half an hour of a slow one.
    """

    steps: int = 4000
    batch: int = 24
    drawn: int = 8000
    least: int = 3
    seed: int = 0
    sizes: EncoderSizes = field(default_factory=EncoderSizes)
    optimiser: Optimiser = field(
        default_factory=lambda: Optimiser(learning_rate=2e-3, warmup_steps=100, cooldown_share=0.6)
    )


@dataclass(frozen=True)
class Pretrained:
    """On reports that were held out: shares of masked tokens named, and of pairs told; on prompts that were
    held out: the correlation of what is read off them with what they were written from, mean of `READ`.

    cut: how many reports were longer than the encoder, and lost the end of their findings; without: see
    `OwnReports`.
    """

    masked_accuracy: float
    pair_accuracy: float
    read_correlation: float
    words: int
    reports: int
    without: int
    cut: int
    seconds: float


@dataclass(frozen=True)
class MaskedTexts:
    """numbers: (B, N), masked; wanted: (B, N), -100 where none was; paired: (B,) 1 or 0."""

    numbers: Tensor
    wanted: Tensor
    paired: Tensor


@dataclass(frozen=True)
class ToldFindings:
    """numbers: (B, N) of prompts; wanted: (B, R) of `READ`, scaled, nan where nothing was measured."""

    numbers: Tensor
    wanted: Tensor


def pretrain(
    out: Path,
    reports: Path | None = None,
    plan: PretrainingPlan | None = None,
    say: Callable[[str], object] = print,
) -> Pretrained:
    """Write the encoder to `out`, a safetensors file. reports: a folder of .txt files; None: none.

    Drawn reports are learned beside those of a folder, since a network of chests is trained on prompts of
    our own writer. On the CPU, with torch's threads. Raises InvalidRequest as `read_reports`.
    """
    plan, started = plan or PretrainingPlan(), time.perf_counter()
    own = OwnReports((), 0) if reports is None else read_reports(reports)
    drawn = draw_reports(plan)
    known = {*_vocabulary(own.pairs, plan.least).words, *_vocabulary(drawn, 1).words}
    vocabulary, pairs = Vocabulary(tuple(sorted(known))), (*own.pairs, *drawn)
    batches = _Batches(pairs, vocabulary, plan)
    say(
        f"{len(own.pairs)} reports given, {len(drawn)} drawn, {len(known)} words; {own.without} files "
        f"without both sections, {batches.cut} reports cut to {plan.sizes.longest} tokens"
    )
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
        torch.manual_seed(plan.seed)
        tasks = _Tasks(WordEncoder(vocabulary, plan.sizes))
    _fit(tasks, batches, plan, say)
    masked, paired, read = _judge(tasks, batches)
    tasks.encoder.save(out)
    seconds = time.perf_counter() - started
    say(
        f"{out}: {masked:.1%} of masked tokens, {paired:.1%} of pairs, findings read with a correlation of "
        f"{read:.2f}, in {seconds:.0f} s"
    )
    return Pretrained(masked, paired, read, len(known), len(pairs), own.without, batches.cut, seconds)


def _vocabulary(pairs: Sequence[ReportPair], least: int) -> Vocabulary:
    return Vocabulary.of((text for pair in pairs for text in (pair.findings, pair.impression)), least)


def draw_reports(plan: PretrainingPlan) -> tuple[ReportPair, ...]:
    """Findings as our writer says them, and as impression short prompts on the same.

    Most findings are of what prompts speak of; one in three may have any line, but not all of them.
    """
    generator = np.random.default_rng(plan.seed)
    pairs = []
    for k in range(plan.drawn):
        findings = draw_findings(generator)
        parts, drop = (PARTS, 0.3) if k % 3 == 0 else (PROMPTED, 0.0)
        report = write_report(findings, generator, parts=parts, drop=drop)
        impression = " ".join(write_short(findings, generator) for _ in range(IMPRESSION_PROMPTS))
        pairs.append(ReportPair(report, impression))
    return tuple(pairs)


class _Batches:
    """Of pairs of numbers, the last of them held out."""

    def __init__(self, pairs: Sequence[ReportPair], vocabulary: Vocabulary, plan: PretrainingPlan) -> None:
        self._index, self._longest = vocabulary.index, plan.sizes.longest
        self._vocabulary_size, self._batch = len(vocabulary), plan.batch
        self._generator = np.random.default_rng(plan.seed)
        self.cut = 0
        numbers = [self._numbers(pair, vocabulary) for pair in pairs]
        order = self._generator.permutation(len(numbers))
        kept = max(2, round(HELD_OUT * len(numbers)))
        self._held_out = [numbers[k] for k in order[:kept]][:MOST_JUDGED]
        self._seen = [numbers[k] for k in order[kept:]]
        self._words = vocabulary

    def draw_told(
        self, generator: np.random.Generator | None = None, count: int | None = None
    ) -> ToldFindings:
        """New prompts on new findings."""
        generator = generator or self._generator
        findings = [draw_findings(generator) for _ in range(count or self._batch)]
        whole = self._index[WHOLE]
        numbers = (self._words.numbers(write_prompt(one, generator)) for one in findings)
        rows = [[whole, *one[: self._longest - 1]] for one in numbers]
        return ToldFindings(pad(rows), torch.tensor([scale_findings(one) for one in findings]))

    def _numbers(self, pair: ReportPair, vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
        """Findings and impression, of which no more is read than half of what the encoder takes."""
        findings, impression = vocabulary.numbers(pair.findings), vocabulary.numbers(pair.impression)
        room = self._longest - 2
        self.cut += len(findings) + len(impression) > room
        return findings, impression[: room // 2]

    def draw(self) -> MaskedTexts:
        chosen = self._generator.choice(len(self._seen), min(self._batch, len(self._seen)), replace=False)
        return self._make([self._seen[k] for k in chosen], self._generator)

    def held_out(self) -> list[MaskedTexts]:
        """The same every time."""
        generator, rows = np.random.default_rng(1), self._held_out
        parts = [rows[k : k + self._batch] for k in range(0, len(rows), self._batch)]
        return [self._make(part, generator) for part in parts if len(part) > 1]

    def _make(
        self, pairs: Sequence[tuple[list[int], list[int]]], generator: np.random.Generator
    ) -> MaskedTexts:
        """The first half have the impression of another report; either section may stand first."""
        half = len(pairs) // 2
        impressions = [pair[1] for pair in pairs]
        swapped = impressions[:half] if half > 1 else impressions
        given = [*np.roll(np.arange(len(swapped)), 1), *range(len(swapped), len(pairs))]
        whole, between = self._index[WHOLE], self._index[BETWEEN]
        rows = []
        for (findings, _), k in zip(pairs, given, strict=True):
            part = findings[: self._longest - 2 - len(impressions[k])]
            first, second = (part, impressions[k]) if generator.random() < 0.5 else (impressions[k], part)
            rows.append([whole, *first, between, *second])
        paired = torch.tensor([k == given[k] for k in range(len(pairs))], dtype=torch.float32)
        return self._mask(pad(rows), paired, generator)

    def _mask(self, numbers: Tensor, paired: Tensor, generator: np.random.Generator) -> MaskedTexts:
        drawn = torch.from_numpy(generator.random(tuple(numbers.shape)) < MASKED_SHARE)
        masked = drawn & (numbers >= len(SPECIAL))
        wanted = numbers.masked_fill(~masked, -100)
        return MaskedTexts(numbers.masked_fill(masked, self._index[MASK]), wanted, paired)


class _Tasks(nn.Module):
    """The encoder with what the three tasks need of their own."""

    def __init__(self, encoder: WordEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.bias = nn.Parameter(torch.zeros(len(encoder.vocabulary)))
        self.pair = nn.Linear(encoder.width, 1)
        self.findings = nn.Linear(encoder.width, len(READ))

    def forward(self, batch: MaskedTexts) -> tuple[Tensor, Tensor]:
        """Logits of the masked tokens (M, words), and of the pairs (B,)."""
        said = self.encoder(batch.numbers)
        masked = said[batch.wanted != -100]
        return masked @ self.encoder.words.weight.T + self.bias, self.pair(said[:, 0])[:, 0]

    def read(self, told: ToldFindings) -> Tensor:
        """(B, R)."""
        found: Tensor = self.findings(self.encoder(told.numbers)[:, 0])
        return found


def _fit(tasks: _Tasks, batches: _Batches, plan: PretrainingPlan, say: Callable[[str], object]) -> None:
    optimiser = plan.optimiser
    steps = OPTIMISERS[optimiser.kind](
        tasks.parameters(),
        lr=optimiser.learning_rate,
        betas=optimiser.betas,
        weight_decay=optimiser.weight_decay,
    )
    since = list[tuple[float, float, float]]()
    for done in range(plan.steps):
        batch = batches.draw()
        for group in steps.param_groups:
            group["lr"] = optimiser.rate(done, plan.steps)
        words, pairs = tasks(batch)
        of_words = F.cross_entropy(words, batch.wanted[batch.wanted != -100])
        of_pairs = F.binary_cross_entropy_with_logits(pairs, batch.paired)
        of_findings = _misread(tasks, batches.draw_told())
        steps.zero_grad(set_to_none=True)
        (of_words + of_pairs + of_findings).backward()
        if optimiser.clip_norm is not None:
            nn.utils.clip_grad_norm_(tasks.parameters(), optimiser.clip_norm)
        steps.step()
        since.append((of_words.item(), of_pairs.item(), of_findings.item()))
        if (done + 1) % SAY_EVERY == 0:
            mean = np.mean(since, axis=0)
            losses = f"words {mean[0]:.3f}, pairs {mean[1]:.3f}, findings {mean[2]:.3f}"
            say(f"step {done + 1} of {plan.steps}: {losses}")
            since.clear()


def _misread(tasks: _Tasks, told: ToldFindings) -> Tensor:
    """The mean squared error of what was measured."""
    known = ~told.wanted.isnan()
    away = (tasks.read(told) - told.wanted.nan_to_num()) * known
    error: Tensor = (away**2).sum() / known.sum().clamp(min=1)
    return error


@torch.no_grad()
def _judge(tasks: _Tasks, batches: _Batches) -> tuple[float, float, float]:
    """Shares of masked tokens named and of pairs told, and the correlation of what is read."""
    named, told = list[Tensor](), list[Tensor]()
    for batch in batches.held_out():
        words, pairs = tasks(batch)
        named.append(words.argmax(1) == batch.wanted[batch.wanted != -100])
        told.append((pairs > 0) == (batch.paired > 0))
    masked, paired = (float(torch.cat(found).float().mean()) for found in (named, told))
    return masked, paired, _correlation(tasks, batches.draw_told(np.random.default_rng(1), MOST_JUDGED))


def _correlation(tasks: _Tasks, told: ToldFindings) -> float:
    found, wanted = tasks.read(told).numpy(), told.wanted.numpy()
    each = []
    for one, other in zip(found.T, wanted.T, strict=True):
        known = ~np.isnan(other)
        each.append(np.corrcoef(one[known], other[known])[0, 1] if one[known].std() > 0 else 0.0)
    return float(np.mean(each))
