"""What a view into a model found: numbers, and the identities that they rest on.

A view is computed in `inspection` and `views`, drawn in `figures`; this is what goes between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pellucid.errors import UserError


class DoesNotApply(UserError):
    """A view cannot be had of this model; the message says why."""


@dataclass(frozen=True)
class Proof:
    """An identity with how far it was missed.

    Args:
        identity: in words, as a difference: `sum of contributions - logit`.
        residual: the measured size of that difference; nan counts as a miss.
        tolerance: what it may be.

    >>> print(Proof("sum of contributions - logit", 3.1e-7, 1e-4).line)
    sum of contributions - logit = 3.1e-7, tolerance 1e-4: ok
    >>> print(Proof("parts - whole", float("nan"), 0.0).line)
    parts - whole = nan, tolerance 0: DOES NOT HOLD
    """

    identity: str
    residual: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the identity holds."""
        return bool(self.residual <= self.tolerance)  # false for nan

    @property
    def line(self) -> str:
        """The proof as one line for people."""
        verdict = "ok" if self.ok else "DOES NOT HOLD"
        return f"{self.identity} = {short(self.residual)}, tolerance {short(self.tolerance)}: " + (
            verdict
        )


@dataclass(frozen=True, eq=False)
class ViewData:
    """What a view found. Nothing is computed from here on.

    Args:
        view: its name.
        title: one line for people, above the picture.
        numbers: plain values, and tensors; what a picture shows and the JSON file holds.
        proofs: at least one.
        head: titles of the columns of the table that is printed.
        rows: of that table, as text.
        notes: sentences that a reader needs.
        provenance: of what: run, checkpoint, images, options.
    """

    view: str
    title: str
    numbers: Mapping[str, Any]
    proofs: tuple[Proof, ...]
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is a proof and all of them hold."""
        return bool(self.proofs) and all(proof.ok for proof in self.proofs)

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values for JSON; what is not finite is None."""
        return {
            "view": self.view,
            "title": self.title,
            "ok": self.ok,
            "proofs": [
                {
                    "identity": proof.identity,
                    "residual": plain(proof.residual),
                    "tolerance": proof.tolerance,
                    "ok": proof.ok,
                }
                for proof in self.proofs
            ],
            "provenance": plain(dict(self.provenance)),
            "notes": list(self.notes),
            "table": {"head": list(self.head), "rows": [list(row) for row in self.rows]},
            "numbers": plain(dict(self.numbers)),
        }


def plain(value: Any) -> Any:
    """Return `value` with tensors as lists, and None for numbers that are not finite.

    >>> import torch
    >>> plain({"a": torch.tensor([1.0, float("inf")]), 3: (True, None)})
    {'a': [1.0, None], '3': [True, None]}
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu().tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def short(value: float) -> str:
    """Return a number in few letters.

    >>> short(0.0), short(3.14e-7), short(1e-4), short(0.25), short(12.0)
    ('0', '3.1e-7', '1e-4', '0.25', '12')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
