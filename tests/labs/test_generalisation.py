"""The labs on batches, capacity, penalties, augmentation and stopping: wrong computations fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.linear_model import Lasso, Ridge

from pellucid.augment.geometry import Flip
from pellucid.augment.pipeline import AugmentSpec
from pellucid.labs import (
    augmentation,
    batch_size,
    capacity,
    early_stopping,
    penalties,
    regularization,
    sized_nets,
    weight_decay,
)

right_rule, right_fitted, right_nets = early_stopping.rule, capacity.fitted, capacity.on_digits
right_trained, right_contest = early_stopping.trained, regularization.contested
right_expected, right_batches = batch_size.expected, batch_size.trained
right_slopes, right_held = batch_size.by_image, batch_size.held
right_ridge, right_lasso = regularization.ridge, regularization.lasso
right_network, right_viewed = sized_nets.network, augmentation.viewed


def one_later(metrics: Any, patience: int, min_change: float) -> Any:
    """The rule of the plateau: it ends at the (p + 1)-th bad epoch."""
    return right_rule(metrics, patience + 1, min_change)


def never_anew(metrics: Any, patience: int, min_change: float) -> Any:
    """A count that no gain sets back."""
    bad, found = 0, []
    for event in right_rule(metrics, 10**6, min_change):
        bad += event.bad > 0
        found.append(event._replace(bad=bad, stop=bad >= patience))
        if bad >= patience:
            break
    return found


def last_kept(x: Any, y: Any, p: float, seed: int) -> Any:
    """A training that keeps the last weights."""
    found = right_trained(x, y, p, seed)
    return found._replace(kept=found.last)


def high_degree(x: Any, y: Any, degree: int) -> Any:
    """Polynomials with one column more than told."""
    return right_fitted(x, y, degree + 1)


def true_labels(seed: int, random: bool = False, steps: int = 80) -> Any:
    """Networks that see true labels in both columns."""
    return right_nets(seed, steps=20)


def same_size(kind: str, size: int) -> Any:
    """One width for all."""
    return right_network(kind, 8)


def memorised(teach: Any, spec: Any, seed: int) -> Any:
    """A training without augmentation, whatever is asked for."""
    return right_cnn(teach, AugmentSpec(), seed)


def always_new(batch: Any, spec: Any, seed: int, step: int = 0) -> Any:
    """Views that no seed repeats."""
    always_new.calls += 1  # type: ignore[attr-defined]
    return right_viewed(batch, spec, seed, step + always_new.calls)  # type: ignore[attr-defined]


always_new.calls = 0  # type: ignore[attr-defined]
right_cnn = augmentation.trained


def flipped_too(batch: Any, spec: Any, seed: int, step: int = 0) -> Any:
    """Views with a mirror image among them, even of images that judge."""
    return right_viewed(batch, AugmentSpec(flip=Flip(0.5)), seed, step)


def summed(net: Any, x: Any, y: Any) -> Any:
    """Gradients of the images, as of a sum divided by two."""
    return right_slopes(net, x, y) / 2


def putting_back(spread: float, size: int) -> float:
    """The noise of a batch that is drawn with putting back."""
    return spread / size


def too_few(x: Any, y: Any, size: int, rate: float, steps: int, seed: int) -> Any:
    """A training of as many steps for each size."""
    return right_batches(x, y, 32, rate, min(steps, 64), seed)


def with_weights(net: Any, x: Any, y: Any) -> int:
    """Bytes that grow faster than the images."""
    return right_held(net, x, y) * len(x)


def half_penalty(g: Any, c: Any, lambdas: Any) -> Any:
    """Ridge with half of lambda."""
    return right_ridge(g, c, tuple(lam / 2 for lam in lambdas))


def whole_step(g: Any, c: Any, lambdas: Any, sweeps: int = 400) -> Any:
    """Lasso with twice lambda: the factor 1/2 of the square forgotten."""
    return right_lasso(g, c, tuple(2 * lam for lam in lambdas), sweeps)


def without_cut(w: Any, by: Any) -> Any:
    """A shrinking step that goes through 0."""
    return w - w.sign() * by


def swapped(active: int, seed: int, sets: int = 8) -> Any:
    """The errors of the two penalties, each as the other's."""
    found = right_contest(active, seed, sets)
    return {"L2": found["L1"], "L1": found["L2"]}


def decayed(seed: int, kind: Any, lam: float, in_loss: float = 0.0) -> Any:
    """The weights after training with weight_decay = lambda in place of 2 lambda."""
    return right_decay(seed, kind, lam / 2, in_loss)


right_decay = weight_decay.trained

MUTANTS = [
    (early_stopping, "rule", one_later),
    (early_stopping, "rule", never_anew),
    (early_stopping, "rule", lambda m, p, c: right_rule(m, p, 0.0)),
    (early_stopping, "trained", last_kept),
    (early_stopping, "trained", lambda x, y, p, seed: right_trained(x, y, 0.0, seed)),
    (early_stopping, "WRONG", 0.0),
    (capacity, "fitted", high_degree),
    (capacity, "fitted", lambda x, y, d: right_fitted(x, y, min(d, 3))),
    (capacity, "prices", lambda x: 2 + 1.2 * x),
    (capacity, "on_digits", true_labels),
    (sized_nets, "network", same_size),
    (batch_size, "by_image", summed),
    (batch_size, "expected", putting_back),
    (batch_size, "expected", lambda spread, size: right_expected(spread, size) ** 2),
    (batch_size, "trained", too_few),
    (batch_size, "held", with_weights),
    (augmentation, "viewed", always_new),
    (augmentation, "viewed", flipped_too),
    (augmentation, "trained", memorised),
    (augmentation, "turned", lambda net, batch: 0.0),
    (regularization, "ridge", half_penalty),
    (regularization, "lasso", whole_step),
    (regularization, "lasso", lambda g, c, lambdas, sweeps=400: right_ridge(g, c, lambdas)),
    (regularization, "lasso", lambda g, c, lambdas, sweeps=400: right_lasso(g, c, lambdas, 2)),
    (regularization, "shrink", without_cut),
    (penalties, "shrink", without_cut),
    (regularization, "contested", swapped),
    (weight_decay, "trained", decayed),
    (weight_decay, "decay_groups", lambda net, decay: [
        {"params": list(net.parameters()), "weight_decay": decay}]),
]  # fmt: skip
LAB = {penalties: regularization, sized_nets: capacity, weight_decay: regularization}
"""Of the rooms that are no labs themselves."""
SAMPLE = {"rule", "decay_groups", "turned"}


@pytest.mark.parametrize(("module", "name", "wrong"), [
    pytest.param(*mutant, marks=() if mutant[1] in SAMPLE else pytest.mark.slow)
    for mutant in MUTANTS
])  # fmt: skip
def test_a_wrong_computation_fails_a_claim(
    module: Any, name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, wrong)
    options = {"min_change": 0.05} if module is early_stopping else {}
    assert LAB.get(module, module).run(**options).failed


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "module", [augmentation, batch_size, capacity, early_stopping, regularization]
)
def test_the_claims_hold_for_other_seeds(module: Any, seed: int) -> None:
    assert module.run(seed=seed).failed == ()


def test_ridge_and_lasso_are_those_of_scikit_learn() -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(40, 6, generator=draws, dtype=torch.float64)
    y = x @ torch.tensor([2.0, -1, 0, 0, 0.5, 0]).double()
    y = y + 3 + 0.3 * torch.randn(40, generator=draws, dtype=torch.float64)
    g, c = regularization.gram(x, y)
    for lam in (0.01, 0.2, 1.0):
        ridge = Ridge(alpha=40 * lam).fit(x.numpy(), y.numpy())
        lasso = Lasso(alpha=lam / 2, tol=1e-12, max_iter=100_000).fit(x.numpy(), y.numpy())
        for ours, theirs in (
            (regularization.ridge(g, c, (lam,))[0], ridge.coef_),
            (regularization.lasso(g, c, (lam,))[0], lasso.coef_),
        ):
            torch.testing.assert_close(ours, torch.from_numpy(theirs), atol=1e-8, rtol=1e-7)


def test_patience_in_words() -> None:
    found = early_stopping.rule((3.0, 2.0, 2.5, 2.4, 1.0), 2, 0.0)
    assert [event.bad for event in found] == [0, 0, 1, 2]
    assert found[-1].stop
    assert early_stopping.chosen([3.0, 2.0, 2.5, 2.4, 1.0], 2) == (3, 1)


def test_the_gradient_of_each_image_is_that_of_autograd() -> None:
    x, y, _, _ = batch_size.images(0)
    net = batch_size.network(0)
    with torch.no_grad():
        ours = batch_size.by_image(net, x[:3], y[:3])
    for row in range(3):
        loss = torch.nn.functional.cross_entropy(net(x[row : row + 1]), y[row : row + 1])
        theirs = torch.autograd.grad(loss, list(net.parameters()))
        torch.testing.assert_close(ours[row], torch.cat([part.flatten() for part in theirs]))
