"""The toy tasks of the guide to optimizers: what was run, and what it shows.

Words, a walk in a corridor, a generator against a discriminator, as in `small_tasks.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.labs import rules, small_tasks
from pellucid.labs.result import Claim, at_least, at_most
from pellucid.labs.small_net import Rule

TASK_RATES = (1e-4, 1e-3, 0.01, 0.1, 1.0)
TextRuns = dict[str, tuple[Tensor, Tensor]]


def tasks(known: dict[str, Rule], seed: int) -> tuple[TextRuns, TextRuns, Tensor]:
    """Run the three toys, five seeds each; `known` holds SGD, Adam and AdamW."""
    rates = torch.tensor(TASK_RATES)
    short: Rule = lambda g, w, lr: rules.adamw(g, w, lr=lr, betas=(0.9, 0.98))  # type: ignore[arg-type]  # noqa: E731
    texts = {"SGD": known["SGD"], "AdamW, 0.98": short, "AdamW, 0.999": known["AdamW"]}
    walks = {"SGD": known["SGD"], "Adam": known["Adam"]}
    return (
        {name: small_tasks.words(rule, rates, 5, seed) for name, rule in texts.items()},
        {name: small_tasks.corridor(rule, rates, 5, seed) for name, rule in walks.items()},
        small_tasks.duel([rate for rate, _ in DUELS], [beta for _, beta in DUELS], 5, seed),
    )


DUELS = ((2e-4, 0.5), (2e-4, 0.9), (2e-3, 0.5), (2e-3, 0.9), (0.02, 0.5), (0.02, 0.9))
"""Rates and first betas of the GAN."""


def ending(duels: Tensor) -> Tensor:
    """Return the distance of each GAN over its last 200 steps, (settings, seeds)."""
    return duels[-20:].mean(0)


def learned(runs: tuple[Tensor, Tensor]) -> tuple[int, float]:
    """Return the place of the smallest rate that learns 90 % of common words; its rare ones."""
    common, rare = (values.mean(1) for values in runs)
    place = int((common >= 0.9).nonzero()[0]) if bool((common >= 0.9).any()) else -1
    return place, float(rare[place])


def claims(texts: TextRuns, walks: TextRuns, duels: Tensor) -> list[Claim]:
    """Return what the toys show of the guide, and what they do not."""
    return [*_words(texts), *_walks(walks), *_duels(duels)]


def _words(texts: TextRuns) -> list[Claim]:
    rare = {name: float(values.mean(1).max()) for name, (_, values) in texts.items()}
    return [
        at_least("Text: at the least rate that learns the common words, AdamW knows more rare ones "
                 "than SGD, by", learned(texts["AdamW, 0.98"])[1] - learned(texts["SGD"])[1],
                 0.15),
        at_most("Text: with a large enough rate SGD learns them too: they differ by",
                abs(rare["AdamW, 0.98"] - rare["SGD"]), 0.1),
        at_most("Text: beta2 of 0.98 or 0.999 makes no difference here: by",
                abs(rare["AdamW, 0.98"] - rare["AdamW, 0.999"]), 0.05),
    ]  # fmt: skip


def _walks(walks: TextRuns) -> list[Claim]:
    first, last = walks["Adam"]
    best = {name: float(values.mean(1).max()) for name, (_, values) in walks.items()}
    return [
        at_most("Reinforcement learning: Adam at 1e-4 gains in 100 updates", (last - first)[0]
                .mean(), 1.0),
        at_least("at its best rate it learns the shortest way: reward", best["Adam"], -5.3),
        at_most("and SGD at its own does too: they differ by", abs(best["Adam"] - best["SGD"]),
                0.3),
    ]  # fmt: skip


def _duels(duels: Tensor) -> list[Claim]:
    late = ending(duels).mean(1)
    return [
        at_least("GAN: at lr 2e-4 so short a run has not arrived: distance", late[0], 0.5),
        at_most("at 2e-3 with beta1 0.5 it has: distance", late[2], 0.4),
        at_least("at 0.02 a beta1 of 0.9 is further off than 0.5: ratio", late[5] / late[4], 1.3),
    ]
