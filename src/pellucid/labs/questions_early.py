"""Questions of lessons 1 to 5: from tensors to one step."""

from __future__ import annotations

from pellucid.labs.question import Answer, Question


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
    from pellucid.labs.scalar_graph import Node, add, backward

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


EARLY: dict[str, tuple[Question, ...]] = {
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
}
"""By lab."""
