"""What the view `flip` rests on: behind the border the answer flips, and before it does not."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pellucid.inspection.border import Range
from pellucid.inspection.flip import Flip, smallest_flip
from pellucid.inspection.logits import head
from pellucid.inspection.trace import trace
from pellucid.viewdata import DoesNotApply, Proof
from pellucid.views.picture import Picture
from pellucid.views.subject import Subject


def flip_proofs(
    subject: Subject, shown: Picture, exact: nn.Module, found: Flip, said: Tensor, changed: Tensor,
    bounds: Range, target: int | None,
) -> tuple[Proof, ...]:  # fmt: skip
    """Return the identities of a change that flips the answer.

    Args:
        subject: whose model it is.
        shown: the image.
        exact: the model in float64.
        found: the change.
        said: logits of the changed image that is shown, (classes,).
        changed: that image.
        bounds: what pixels can be.
        target: the class that was asked for, or None.
    """
    a, b = (subject.classes[c] for c in (found.before, found.after))
    image = shown.x.double()
    short_of = exact(image + 0.999 * (found.changed - image))[0]
    outside = max(float((bounds.low - changed).max()), float((changed - bounds.high).max()), 0.0)
    proofs = [
        Proof(f"largest logit but {b} - logit {b}, of the changed image" if target is not None
              else f"logit {a} - largest other logit, of the changed image",
              _ahead(said, found.before, target), 0),
        Proof(f"logit {b} - largest other logit, 0.1 % before the border",
              -_ahead(short_of, found.before, found.after), 0),
        Proof("values of the changed image beyond those of pixels", outside, 0),
    ]  # fmt: skip
    linear = _last_layer(subject.model, shown.x, target)
    if linear is not None:
        proofs.append(
            Proof("distance found by the same search in the last layer's features - "
                  "|f_a - f_b| / |w_a - w_b| (relative)", linear, 1e-5)
        )  # fmt: skip
    return tuple(proofs)


def _ahead(logits: Tensor, before: int, target: int | None) -> float:
    """Return how far the old answer, or any but the target, is ahead; below 0 after a flip."""
    rest = logits.clone()
    if target is not None:
        rest[target] = -torch.inf
        return float(rest.max() - logits[target])
    rest[before] = -torch.inf
    return float(logits[before] - rest.max())


def _last_layer(model: nn.Module, x: Tensor, target: int | None) -> float | None:
    """Return how far the search is from the closed form where the model is linear.

    Of a linear model the distance to class b is |f_a - f_b| / |w_a - w_b|; to reach a class that
    is asked for, other classes may stand between, so there the nearest one is taken.
    """
    try:
        op = head(trace(model, x))
    except DoesNotApply:
        return None
    features = op.args[0][:1].detach().double()
    weight = op.args[1].detach().double()
    shift = op.out[:1].detach().double() - features @ weight.T  # whatever is added, as it was

    def logits(h: Tensor) -> Tensor:
        found: Tensor = h @ weight.T + shift
        return found

    out = logits(features)[0]
    a = int(out.argmax())
    apart = (weight - weight[a]).norm(dim=1)
    distances = (out[a] - out) / apart.clamp_min(1e-300)
    distances[a] = torch.inf
    found = smallest_flip(logits, features)
    if found is None:
        return float("nan")
    expected = float(distances.min())
    return abs(found.distance - expected) / max(expected, 1e-12)
