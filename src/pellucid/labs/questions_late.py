"""Questions of lessons 6 to 13: from optimizers to sequences."""

from __future__ import annotations

import math

from pellucid.labs.question import Answer, Question


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


def _quarter() -> Answer:
    from pellucid.labs.batch_size import expected

    return math.sqrt(expected(1.0, 32) / expected(1.0, 128))


def _own_points() -> Answer:
    import torch

    from pellucid.labs.capacity import fitted, prices

    x = torch.linspace(-1, 1, 20, dtype=torch.float64)
    y = prices(x) + 0.2 * torch.cos(40 * x)
    errors = [float((fitted(x, y, d) - y).square().mean()) for d in range(3, 13)]
    return (0 if errors == sorted(errors, reverse=True) else 2,)


def _cut() -> Answer:
    import torch

    from pellucid.labs.penalties import lasso

    one = torch.eye(1, dtype=torch.float64)
    return float(lasso(one, 0.3 * one[0], (1.0,), 1)[0, 0])


def _length() -> Answer:
    import torch

    from pellucid.labs.augmentation import GREY, viewed
    from pellucid.values import Batch

    places = torch.arange(1000)
    pixels = torch.zeros(1000, 1, 28, 28, dtype=torch.uint8)
    return float(len(viewed(Batch(pixels, places, places, places, 1000), GREY["crop"], 0).images))


def _third() -> Answer:
    from pellucid.labs.early_stopping import rule

    return float(len(rule((1.0, 0.8, 0.9, 0.85, 0.81, 0.83, 0.7), 3, 0.0)))


def _cloud() -> Answer:
    from pellucid.labs.sgd_noise import samples, stationary

    centres = samples(0)
    return float((stationary(centres, 0.1, 8) / stationary(centres, 0.1, 2))[0])


def _one_rate() -> Answer:
    import torch

    from pellucid.labs.fair_race import race

    begin = torch.tensor([[1.0, -1.0]]).double()
    left = race(lambda p: p.square().sum(-1), begin, torch.tensor([0.5]).double(), 10)
    return (int(float(left["gradient descent"][0, 0]) > float(left["Adam"][0, 0])),)


def _stop_halfway() -> Answer:
    from pellucid.optim.schedules import Cosine

    return Cosine().build(1.0, 100, 10)(50)


def _decay_of_a_guide() -> Answer:
    import torch

    from pellucid.labs.small_net import verdict

    return (int("ahead" in verdict(torch.tensor([0.012, -0.004, 0.007]), "with", "without")),)


LATE: dict[str, tuple[Question, ...]] = {
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
    "fair-race": (
        Question(
            "quadratic",
            "x^2 + y^2, ten steps at lr 0.5. Which of the two leaves less height?",
            "choice",
            _one_rate,
            "There 0.5 lands descent in one step; Adam's steps are as long as the rate.",
            ("gradient descent", "Adam"),
            slips={"2": "an optimizer is not better or worse without its rate and its surface"},
        ),
    ),
    "sgd-noise": (
        Question(
            "batch",
            "Batches of 8 instead of 2 samples, the same rate. The variance of the cloud is how "
            "many times as large?",
            "number",
            _cloud,
            "The variance of a mean falls with the number of its samples: 2 / 8.",
            tolerance=0.01,
            slips={
                "0.5": "that is the width of the cloud, the root of its variance",
                "1": "it would be, if batches were all of the data",
            },
        ),
    ),
    "optimizer-guide": (
        Question(
            "verdict",
            "With decay, three networks gain 1.2, -0.4 and 0.7 points of accuracy. What is shown?",
            "choice",
            _decay_of_a_guide,
            "The mean is +0.5, and chance alone would move it by more than that.",
            ("no difference", "decay helps"),
            slips={"2": "two of three and a mean above 0 are what chance gives often"},
        ),
    ),
    "schedule-guide": (
        Question(
            "half",
            "A cosine schedule is broken off after half of its run. Which share of the first rate "
            "does it have there?",
            "number",
            _stop_halfway,
            "(1 + cos(pi / 2)) / 2: the small steps at the end never come.",
            tolerance=0.01,
            slips={"0": "that is its end, which it never reached"},
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
    "batch-size": (
        Question(
            "noise",
            "Batches of 128 in place of 32. About how many times shorter is the error of their "
            "gradient?",
            "number",
            _quarter,
            "Its mean square falls with 1 / B, so its length with 1 / sqrt(B).",
            tolerance=0.2,
            slips={"4": "that is its mean square; the length is the root of it"},
        ),
    ),
    "capacity": (
        Question(
            "own-points",
            "The degree of a polynomial rises from 3 to 12. What does its error on its own points "
            "do?",
            "choice",
            _own_points,
            "Each degree can do all that the one below can: only new points tell.",
            ("it falls", "it falls, then rises", "it rises"),
            slips={"2": "so does the error on new points; the fit sees its own"},
        ),
    ),
    "regularization": (
        Question(
            "cut",
            "One feature of length 1, a weight of 0.3 without penalty. L1 with lambda 1, squared "
            "error: what is the weight?",
            "number",
            _cut,
            "0.3 - 1/2 is below 0, and the step stops at 0.",
            tolerance=1e-9,
            slips={
                "0.15": "that is L2, which divides by 1 + lambda",
                "-0.2": "the pull turns where the weight changes its sign: it stays at 0",
            },
        ),
    ),
    "augmentation": (
        Question(
            "length",
            "1,000 images, a random crop of each, ten epochs. How many images has an epoch?",
            "number",
            _length,
            "Another view of each image, and as many as before.",
            tolerance=0.0,
            slips={"10000": "ten epochs see that many views; an epoch is as long as before"},
        ),
    ),
    "early-stopping": (
        Question(
            "third",
            "Validation losses 1.0, 0.8, 0.9, 0.85, 0.81, 0.83, 0.7; patience 3. After which "
            "epoch does the run end?",
            "number",
            _third,
            "0.9, 0.85 and 0.81 are not below 0.8: the third of them ends it.",
            tolerance=0.0,
            slips={
                "6": "the plateau schedule acts at the one after the third",
                "7": "the 0.7 is never seen",
                "4": "a gain is counted from the best value, 0.8, not from the one before",
            },
        ),
    ),
}
"""By lab."""
