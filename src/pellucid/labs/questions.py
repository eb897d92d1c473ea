"""Questions to answer before a lab shows: the answers are computed when they are revealed.

A wrong answer that people often give has its reason beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Answer = float | tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """Something to predict.

    Args:
        key: names it among those of its lab.
        text: the question.
        kind: of the answer: a number, one of `choices` (counted from 1), or all of them in order.
        reveal: computes the answer: a number, or positions in `choices` from 0.
        why: what is to be learned.
        choices: to choose from, or to put in order.
        tolerance: of a number, absolute.
        slips: wrong answers that are often given, as they are written, and the mistake behind.
    """

    key: str
    text: str
    kind: Literal["number", "choice", "order"]
    reveal: Callable[[], Answer]
    why: str
    choices: Sequence[str] = ()
    tolerance: float = 0.0
    slips: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def _linear() -> Answer:
    from pellucid.labs.linear import value

    return value((0.5, -0.25), 0.1, (2.0, 1.0))


def _sigmoid_slope() -> Answer:
    import torch

    from pellucid.labs.activations import activations

    return float(activations()["sigmoid"].slope(torch.zeros(1))[0])


def _double_softmax() -> Answer:
    from pellucid.labs.entropy import twice

    return twice(1000.0)


def _lead() -> Answer:
    import torch

    from pellucid.labs.softmax import softmax

    p = softmax(torch.tensor([-1.0] + 9 * [-9.0]).double())
    return (int(p[0] > 0.9),)


def _accuracy() -> Answer:
    import torch

    from pellucid.labs.logistic_regression import accuracy

    z = [torch.tensor([p]).logit() for p in (0.6, 0.7)]
    return (0 if accuracy(z[0], torch.ones(1)) == accuracy(z[1], torch.ones(1)) else 1,)


def _huber() -> Answer:
    import torch

    from pellucid.labs.losses import huber

    return float(huber(torch.tensor([3.0]), 1.0)[0])


def _cosine() -> Answer:
    import torch

    from pellucid.labs.distances import cosine

    a = torch.tensor([1.0, 2.0, 2.0]).double()
    return float(cosine(a, 2 * a))


def _climb() -> Answer:
    import torch

    from pellucid.labs.gradient import CURVES

    f, slope = CURVES["parabola"].f, CURVES["parabola"].slope
    before, after = (float(f(torch.tensor(w).double())) for w in (3.0, 3.0 - 1.0 * slope(3.0)))
    return ((after > before) * 2 + (after == before),)


def _twice() -> Answer:
    from pellucid.labs.backprop_graph import Node, add, backward

    a = Node(5.0, "a")
    b = add(a, a)
    backward(add(b, b))
    return a.grad


def _neuron() -> Answer:
    import torch

    w = torch.tensor(0.5, requires_grad=True)
    (w * 2 - 3).square().backward()
    assert w.grad is not None
    return float(w.grad)


def _softmax_delta() -> Answer:
    import torch
    import torch.nn.functional as F

    z = torch.zeros(1, 4, requires_grad=True)
    F.cross_entropy(z, torch.tensor([2])).backward()
    assert z.grad is not None
    return float(z.grad[0, 2])


def _first_steps() -> Answer:
    from pellucid.labs.optimizers import seven
    from pellucid.labs.surfaces import gradient_of, point, quadratic

    begin = point(0.3, 0.0)
    paths = seven(gradient_of(quadratic), begin, 0.01, 0.01, 0.9)
    sizes = [
        float((next(paths[n]) - begin).norm()) for n in ("gradient descent", "Adam", "RMSprop")
    ]
    return tuple(sorted(range(3), key=lambda i: sizes[i]))


def _limit() -> Answer:
    from pellucid.labs.stability import limit

    return limit(50.0)


def _basin() -> Answer:
    from pellucid.labs.basins import STARTS, basin, path_of
    from pellucid.labs.surfaces import end, gradient_of, himmelblau, point

    path = path_of("descent", gradient_of(himmelblau), point(*STARTS[2]), 0.01)
    return (int(basin(end(path, 100)[None])[0]),)


def _steady() -> Answer:
    import torch

    from pellucid.labs import rules
    from pellucid.labs.surfaces import walk

    start = torch.zeros(1, dtype=torch.float64)
    path = walk(rules.sgd(torch.ones_like, start, lr=1.0, momentum=0.9), start, 500)
    return float(path[-2] - path[-1])


def _default() -> Answer:
    from pellucid.labs.depth import VARIANCES

    return VARIANCES["he"](100) / VARIANCES["default"](100)


def _best_rate() -> Answer:
    from pellucid.labs.small_comparison import run

    values = run(steps=20, seeds=1).values
    return (int(min(values["common"], key=values["common"].get) != "SGD"),)


QUESTIONS: dict[str, tuple[Question, ...]] = {
    "linear": (
        Question(
            "output",
            "Weights (0.5, -0.25), bias 0.1, inputs (2, 1). What is the output?",
            "number",
            _linear,
            "0.5 * 2 - 0.25 * 1 + 0.1",
            tolerance=0.001,
            slips={"0.75": "the bias is added at the end", "1.35": "the second weight is negative"},
        ),
    ),
    "activations": (
        Question(
            "slope",
            "What is the largest slope of the sigmoid?",
            "number",
            _sigmoid_slope,
            "s (1 - s) is largest at s = 1/2, and there 1/4.",
            tolerance=0.001,
            slips={"1": "that is tanh; the sigmoid goes from 0 to 1 and is flatter"},
        ),
    ),
    "entropy": (
        Question(
            "twice",
            "Ten classes, softmax applied before a loss that applies it again. How low can the "
            "loss get?",
            "number",
            _double_softmax,
            "Probabilities as logits lead by 1 at most: ln(e + 9) - 1.",
            tolerance=0.01,
            slips={
                "0": "the inputs of the second softmax lie between 0 and 1, however sure the first "
                "one is",
                "2.3026": "that is where a network begins that knows nothing",
            },
        ),
    ),
    "softmax": (
        Question(
            "sign",
            "A class has the logit -1, nine others have -9. Is it likely?",
            "choice",
            _lead,
            "Only differences count: it leads by 8.",
            ("no: its logit is negative", "yes, above 90 %"),
            slips={"1": "a logit has no meaning by itself; add 100 to all ten and nothing changes"},
        ),
    ),
    "logistic-regression": (
        Question(
            "accuracy",
            "The right class goes from 0.6 to 0.7. What does accuracy do?",
            "choice",
            _accuracy,
            "It was right before and is right now: accuracy stands still, and so has no "
            "slope to follow.",
            ("nothing", "it rises"),
            slips={"2": "accuracy asks only which side of 1/2 it is on"},
        ),
    ),
    "losses": (
        Question(
            "huber",
            "Huber with delta 1, error 3. What is the loss?",
            "number",
            _huber,
            "delta * (|e| - delta / 2) = 3 - 0.5.",
            tolerance=0.001,
            slips={
                "4.5": "half the square holds up to delta only",
                "3": "that is L1; both pieces must meet at delta",
            },
        ),
    ),
    "distances": (
        Question(
            "double",
            "What is the cosine distance of a vector from its double?",
            "number",
            _cosine,
            "The angle between them is 0.",
            tolerance=1e-6,
            slips={"1": "1 is the similarity; the distance is 1 minus that"},
        ),
    ),
    "gradient": (
        Question(
            "too-long",
            "L = w^2, w = 3, one step with lr 1. What does the loss do?",
            "choice",
            _climb,
            "3 - 6 = -3: the mirror image, just as high.",
            ("it falls", "it stays the same", "it rises"),
            slips={"1": "downhill is a promise for small steps", "3": "that begins beyond lr 1"},
        ),
    ),
    "backprop-graph": (
        Question(
            "twice",
            "b = a + a, c = b + b. What is the slope of c by a?",
            "number",
            _twice,
            "Two uses add up at each level: 2 * 2.",
            tolerance=1e-9,
            slips={
                "2": "b is used twice as well",
                "6": "that is what plain recursion finds: it hands on before all users have come",
            },
        ),
    ),
    "chain-rule": (
        Question(
            "neuron",
            "y = w x, L = (y - t)^2, w = 0.5, x = 2, t = 3. What is dL/dw?",
            "number",
            _neuron,
            "2 (y - t) x = 2 (1 - 3) 2.",
            tolerance=1e-6,
            slips={"-4": "that is dL/dy; the factor x is missing", "8": "y - t is below 0 here"},
        ),
    ),
    "delta-rule": (
        Question(
            "softmax",
            "Four classes, all logits 0, softmax and cross-entropy. What is the delta of the "
            "right class?",
            "number",
            _softmax_delta,
            "p - y = 1/4 - 1.",
            tolerance=1e-6,
            slips={
                "0.75": "the sign: its logit must rise, so the slope is below 0",
                "-0.1875": "p (1 - p) is no further factor: softmax and the logarithm cancel it",
            },
        ),
    ),
    "optimizers": (
        Question(
            "first",
            "Gradient 0.3, lr 0.01. Put the first steps in order, the shortest first.",
            "order",
            _first_steps,
            "lr g = 0.003; Adam about lr = 0.01; RMSprop does not correct its start: 10 lr.",
            ("gradient descent", "Adam", "RMSprop"),
        ),
    ),
    "stability": (
        Question(
            "limit",
            "A minimum has the largest curvature 50. Above which lr does descent leave it?",
            "number",
            _limit,
            "2 / 50.",
            tolerance=1e-6,
            slips={
                "0.02": "at 1 / curvature one step lands in the middle; it may be twice as long"
            },
        ),
    ),
    "basins": (
        Question(
            "start",
            "Descent on Himmelblau's function from (-7, -8), lr 0.01. Where does it end?",
            "choice",
            _basin,
            "The first steps are long: they jump over the nearest minimum.",
            ("(3, 2)", "(-2.805, 3.131)", "(-3.779, -3.283)", "(3.584, -1.848)"),
            slips={"3": "that is the nearest, but steps are not small where it is steep"},
        ),
    ),
    "momentum": (
        Question(
            "steady",
            "Momentum 0.9, the gradient always 1, lr 1. How long do the steps get?",
            "number",
            _steady,
            "1 + 0.9 + 0.81 + ... = 1 / (1 - 0.9).",
            tolerance=0.01,
            slips={
                "1": "that would be with a damped v; PyTorch's is not",
                "1.9": "that is the second step; it goes on growing",
            },
        ),
    ),
    "small-comparison": (
        Question(
            "common",
            "Five optimizers at lr 0.01. Which learns fastest here?",
            "choice",
            _best_rate,
            "A rate means something else to each: 0.01 is little for SGD.",
            ("SGD", "another one"),
        ),
    ),
    "depth": (
        Question(
            "default",
            "How many times is He's variance larger than that of PyTorch's default?",
            "number",
            _default,
            "2 / n over 1 / (3 n).",
            tolerance=0.01,
            slips={"1": "the default is called kaiming_uniform, but with a = sqrt(5)"},
        ),
    ),
}
"""By lab."""
