"""The claims can fail: each lab with one computation made wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch

from pellucid.labs import (
    activations,
    backprop_graph,
    basins,
    beside_torch,
    chain_rule,
    delta_rule,
    depth,
    distances,
    entropy,
    gradient,
    linear,
    logistic_regression,
    losses,
    momentum,
    optimizers,
    rules,
    scalar_graph,
    small_comparison,
    softmax,
    stability,
)
from pellucid.labs.activations import Activation
from pellucid.labs.catalogue import LABS

Mutant = tuple[Any, str, Any]


def no_slope(inputs: Any, labels: Any, weights: Any) -> Any:
    """The chain rule without the factor of tanh."""
    (by_z, h, by_h, slope, by_a), grads = right_by_hand(inputs, labels, weights)
    return (by_z, h, by_h, slope, by_a), [by_h.T @ inputs, by_h.sum(0), *grads[2:]]


def summed(inputs: Any, labels: Any, weights: Any) -> Any:
    """The chain rule with the sum over the samples where the mean is meant."""
    factors, grads = right_by_hand(inputs, labels, weights)
    return factors, [len(inputs) * grad for grad in grads]


def no_output_slope(net: Any, x: Any, y: Any, done: Any, *rest: str) -> Any:
    """The delta rule with out - y where a sigmoid stands before a squared error."""
    d2 = done.out - y
    d1 = (d2 @ net.w2) * (1 - done.a1**2)
    return (d2, d1), delta_rule.Net(d1.T @ x, d1.sum(0), d2.T @ done.a1, d2.sum(0))


def wrong_weights(net: Any, x: Any, y: Any, done: Any, *rest: str) -> Any:
    """The delta rule, neuron by neuron, without the biases."""
    grads = right_by_neuron(net, x, y, done, *rest)
    return grads._replace(b1=torch.zeros_like(grads.b1))


right_by_hand, right_by_neuron = chain_rule.by_hand, delta_rule.by_neuron
right_fit, right_network = logistic_regression.fit, small_comparison.network
right_basin, right_activations = basins.basin, activations.activations
right_end, right_softmax = stability.end, softmax.softmax


def with_grid(name: str, rule: Callable[..., Any]) -> Mutant:
    """The optimizers with one rule replaced in the comparison with PyTorch."""
    grid = tuple((n, rule if n == name else r, k, s) for n, r, k, s in beside_torch.GRID)
    return beside_torch, "GRID", grid


def damped(gradient: Any, w: Any, *, lr: float, momentum: float = 0.0, **rest: Any) -> Any:
    """Momentum with v = mu v + (1 - mu) g."""
    v = 0 * w
    while True:
        v = momentum * v + (1 - momentum) * gradient(w)
        w = w - lr * v
        yield w


def eps_inside(gradient: Any, w: Any, *, lr: float = 1e-3, betas: Any = (0.9, 0.999),
               eps: float = 1e-8, **rest: Any) -> Any:  # fmt: skip
    """Adam with eps under the root."""
    m = v = 0 * w
    for t in count(1):
        g = gradient(w)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g * g
        w = w - lr * m / (1 - betas[0] ** t) / (v / (1 - betas[1] ** t) + eps) ** 0.5
        yield w


def late_gradient(gradient: Any, w: Any, **options: Any) -> Any:
    """AdamW that decays before it takes the gradient."""
    lr, decay = options.get("lr", 1e-3), options.pop("weight_decay", 0.01)
    points = rules.adam(lambda p: gradient(p * (1 - lr * decay)), w, **options)
    for point in points:
        yield point * (1 - lr * decay)


def only(name: str, **changes: Any) -> Callable[[float], dict[str, Activation]]:
    """The activations with one of them changed."""

    def mutated(leak: float = 0.01) -> dict[str, Activation]:
        known = right_activations(leak)
        return {**known, name: known[name]._replace(**changes)}

    return mutated


MUTANTS: dict[str, tuple[str, Mutant]] = {
    "bias forgotten": ("linear", (linear, "value", lambda w, b, x: w[0] * x[0] + w[1] * x[1])),
    "weight and input swapped": (
        "linear", (linear, "value", lambda w, b, x: w[0] * x[1] + w[1] * x[0] + b)),
    "slope of tanh": (
        "activations", (activations, "activations",
                        only("tanh", slope=lambda x: 1 - torch.tanh(x)))),
    "sigmoid times two": (
        "activations", (activations, "activations",
                        only("sigmoid", f=lambda x: 2 * torch.sigmoid(x)))),
    "GELU by tanh": (
        "activations", (activations, "activations", only("GELU", f=lambda x: torch.nn.functional.
                                                         gelu(x, approximate="tanh")))),
    "KL the other way": (
        "entropy", (entropy, "kl",
                    lambda p, q: float((q * (q / p.clamp(min=1e-9)).log()).sum()))),
    "entropy in bits": (
        "entropy", (entropy, "entropy",
                    lambda p: -float((p * p.clamp(min=1e-300).log2()).sum()))),
    "LSE without shift": ("entropy", (entropy, "lse", lambda z: float(z.exp().sum().log()))),
    "softmax once": ("entropy", (entropy, "twice", lambda margin, classes=10: 0.0)),
    "softmax not divided": ("softmax", (softmax, "softmax", lambda z: (z - z.max()).exp())),
    "softmax in base 2": ("softmax", (softmax, "softmax", lambda z: right_softmax(0.693 * z))),
    "fit not finished": (
        "logistic-regression",
        (logistic_regression, "fit", lambda x, y, p: right_fit(x, y, p) + 1e-3)),
    "bend of the square": (
        "logistic-regression",
        (logistic_regression, "_bend_of_square", lambda p, y: 2 * (p * (1 - p)) ** 2)),
    "SmoothL1 as Huber": (
        "losses", (losses, "huber", lambda e, d: torch.nn.functional.smooth_l1_loss(
            e, torch.zeros_like(e), reduction="none", beta=d) + 1e-3)),
    "cross-entropy, sign": (
        "losses", (losses, "cross_entropy", lambda z, i: z[i] - z.logsumexp(0))),
    "binary by the sigmoid": (
        "losses", (losses, "binary", lambda z, y: -z.sigmoid().log() * y)),
    "similarity as distance": (
        "distances", (distances, "cosine", lambda a, b: distances.similarity(a, b))),
    "Manhattan squared": ("distances", (distances, "DISTANCES", {
        **distances.DISTANCES, "Manhattan": distances.squared})),
    "slope of w^2": (
        "gradient", (gradient, "CURVES", {
            **gradient.CURVES,
            "parabola": gradient.CURVES["parabola"]._replace(slope=lambda w: w)})),
    "backward naive": ("backprop-graph", (backprop_graph, "backward", backprop_graph.naive)),
    "slope of a product": (
        "backprop-graph", (scalar_graph, "times", lambda a, b: scalar_graph.Node(
            a.value * b.value, "*", [(a, a.value), (b, b.value)]))),
    "chain rule, no slope": ("chain-rule", (chain_rule, "by_hand", no_slope)),
    "chain rule, summed": ("chain-rule", (chain_rule, "by_hand", summed)),
    "output delta, no slope": ("delta-rule", (delta_rule, "by_matrix", no_output_slope)),
    "no bias by neuron": ("delta-rule", (delta_rule, "by_neuron", wrong_weights)),
    "momentum damped": ("optimizers", with_grid("SGD", damped)),
    "eps inside": ("optimizers", with_grid("Adam", eps_inside)),
    "decay before the gradient": ("optimizers", with_grid("AdamW", late_gradient)),
    "Adagrad for RMSprop": ("optimizers", with_grid("RMSprop", rules.adagrad)),
    "gradients by hand": ("optimizers", (beside_torch, "slopes", lambda p: 2 * p)),
    "limit 1 / lambda": ("stability", (stability, "limit", lambda c, m=0.0, n=False: 1 / c)),
    "limit of Nesterov for all": (
        "stability", (stability, "limit", lambda c, m=0.0, n=False: 2 * (1 + m) / c * 1.02)),
    "basins counted wrongly": ("basins", (basins, "basin", lambda p: (right_basin(p) + 1) % 6)),
    "tuned badly": ("momentum", (momentum, "tuned", lambda: (0.04, 0.99))),
    "rate does not decay": (
        "momentum", (momentum, "_settled", lambda d, n, s: torch.full((300,), 0.34))),
    "network without ReLU": (
        "small-comparison", (small_comparison, "network",
                             lambda w, x: right_network(w, x) * 0.99)),
    "default as He": (
        "depth", (depth, "VARIANCES", {**depth.VARIANCES, "default": lambda n: 2 / n})),
    "Xavier by fan-in": (
        "depth", (depth, "VARIANCES", {**depth.VARIANCES, "he": lambda n: 1 / n})),
}  # fmt: skip


def _failed(lab: str) -> bool:
    try:
        return bool(LABS[lab].load().run().failed)
    except (TypeError, ValueError, RuntimeError, KeyError):
        return True


HEAVY = {"optimizers", "stability", "basins", "momentum", "small-comparison", "depth"}
SAMPLE = {"momentum damped", "limit 1 / lambda"}


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if lab in HEAVY and name not in SAMPLE else name
    for name, (lab, _) in MUTANTS.items()
])  # fmt: skip
def test_a_wrong_computation_fails_a_claim(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lab, (module, attribute, wrong) = MUTANTS[name]
    monkeypatch.setattr(module, attribute, wrong)
    with pytest.MonkeyPatch.context() as warnings_off:
        warnings_off.setattr("warnings.warn", lambda *args, **kwargs: None)
        assert _failed(lab)


def test_every_one_of_these_labs_has_a_mutant() -> None:
    mine = {module.__name__.rpartition(".")[2].replace("_", "-") for module in (
        activations, backprop_graph, basins, chain_rule, delta_rule, depth, distances, entropy,
        gradient, linear, logistic_regression, losses, momentum, optimizers, small_comparison,
        softmax, stability)}  # fmt: skip
    assert {lab for lab, _ in MUTANTS.values()} == mine
