"""What a caller of the loop keeps must not hold the memory of the steps back."""

from __future__ import annotations

import torch

from pellucid import Engine, Recipe
from pellucid.assemble import assemble
from pellucid.loop import fit
from pellucid.memory import Numbers


def test_kept_losses_and_norms_lie_side_by_side_and_keep_their_values(tiny: Recipe) -> None:
    engine = Engine.start(tiny.engine)
    built = assemble(tiny, engine)
    kept, values = [], []
    for step in fit(built.state, built.task, engine):
        kept += [step.loss, step.grad_norm]
        values += [step.loss.item(), step.grad_norm.item()]
    assert len({number.untyped_storage().data_ptr() for number in kept}) == 1
    assert [number.item() for number in kept] == values
    assert len(set(values)) == len(values)
    assert not any(number.requires_grad for number in kept)


def test_a_full_row_is_followed_by_another_and_stays_as_it_is() -> None:
    numbers = Numbers(torch.device("cpu"), count=3)
    kept = [numbers.keep(torch.tensor(float(i))) for i in range(8)]
    assert [number.item() for number in kept] == list(range(8))
    assert len({number.untyped_storage().data_ptr() for number in kept}) == 3
