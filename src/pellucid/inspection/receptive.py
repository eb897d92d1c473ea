"""Which pixels a value in a map can depend on: the receptive field, by formula.

r += (k - 1) d j; j *= s, from r = j = 1 at the image (Araujo et al., 2019, "Computing receptive
fields of convolutional neural networks"); where two paths meet, the wider one counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.inspection.formulas import ADAPTIVE, SAME, SUMS, window
from pellucid.inspection.trace import Op

KEEPING = (
    (SAME - {"group_norm", "instance_norm", "softmax"})
    | SUMS
    | frozenset(
        [
            "permute",
            "transpose",
            "cat",
            "float",
            "to",
            "type",
            "chunk",
            "split",
            "pow",
            "sqrt",
            "exp",
            "neg",
            "clamp",
            "abs",
        ]
    )
)
"""Operations that mix no places. Statistics of one image (group norm) do; in eval mode those of a
batch are constants."""


@dataclass(frozen=True)
class Field:
    """The receptive field of the places of one map, each a pair (height, width).

    Args:
        size: r: pixels that one place sees.
        jump: j: pixels from one place to the next.
        start: the first pixel that place 0 sees; below 0 in the padding.
    """

    size: tuple[int, int] = (1, 1)
    jump: tuple[int, int] = (1, 1)
    start: tuple[int, int] = (0, 0)

    def box(self, place: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the pixels that `place` sees: top, left, bottom, right, the last two excluded.

        >>> Field((3, 3), (2, 2), (-1, -1)).box((0, 5), (28, 28))
        (0, 9, 2, 12)
        """
        low = [self.start[a] + self.jump[a] * place[a] for a in (0, 1)]
        high = [low[a] + self.size[a] for a in (0, 1)]
        top, left = (max(0, min(low[a], shape[a])) for a in (0, 1))
        bottom, right = (max(0, min(high[a], shape[a])) for a in (0, 1))
        return top, left, bottom, right


Seen = Field | str | None
"""A field; `whole image`; or None where no formula is known."""

WHOLE = "whole image"


def fields(ops: Sequence[Op]) -> list[Seen]:
    """Return what a place of the output of each operation sees, in order."""
    found: list[Seen] = []
    for op in ops:
        before: list[Seen] = [Field() if i < 0 else found[i] for i in op.sources]
        found.append(_after(op, before))
    return found


def _after(op: Op, before: Sequence[Seen]) -> Seen:
    if not before:
        return None
    if WHOLE in before:
        return WHOLE
    sliding = window(op)
    first = before[0]
    if sliding and isinstance(first, Field):
        both = (0, 1)
        reach = [sliding.dilation[a] * (sliding.kernel[a] - 1) for a in both]
        return Field(
            _two([first.size[a] + reach[a] * first.jump[a] for a in both]),
            _two([first.jump[a] * sliding.stride[a] for a in both]),
            _two([first.start[a] - sliding.before[a] * first.jump[a] for a in both]),
        )
    if op.call in KEEPING:
        return _union(before)
    if op.out.dim() == 2 or op.call in ADAPTIVE and set(op.out.shape[-2:]) == {1}:
        return WHOLE
    if op.call in ("mean", "sum", "amax") and op.out.dim() <= 2:
        return WHOLE
    if op.call == "linear" and op.out.dim() == 4:  # over channels that come last
        return first
    return None


def _union(before: Sequence[Seen]) -> Seen:
    """Return what both paths see together, if they step alike."""
    known = [field for field in before if isinstance(field, Field)]
    if len(known) != len(before) or len({field.jump for field in known}) != 1:
        return None
    start = _two([min(field.start[a] for field in known) for a in (0, 1)])
    end = [max(field.start[a] + field.size[a] for field in known) for a in (0, 1)]
    return Field(_two([end[a] - start[a] for a in (0, 1)]), known[0].jump, start)


def _two(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]
