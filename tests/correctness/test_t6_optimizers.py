"""Traps T6 of `docs/correctness.md`: optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from pellucid import Engine, Recipe, fit, from_tree, good, steps, to_tree, train
from pellucid.assemble import Assembled, assemble
from pellucid.augment.pipeline import AugmentSpec
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe
from pellucid.models.mlp import MLPSpec
from pellucid.models.resnet import ResNet
from pellucid.optim.schedules import Constant, Cosine
from pellucid.optim.specs import SGD, Adam, AdamW, Muon, Optimizing, RMSprop
from pellucid.seeds import generator

Point = Sequence[float]
Optimize = Callable[[list[Tensor]], torch.optim.Optimizer]
Objective = Callable[[Tensor], Tensor]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def walk(
    objective: Objective,
    start: float | Point,
    optimize: Optimize,
    n: int,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    """Return the points of `n` optimizer steps, the start first; of several starts together."""
    w = nn.Parameter(torch.tensor(start, dtype=dtype))
    optimizer = optimize([w])
    points = [w.detach().clone()]
    for _ in range(n):
        optimizer.zero_grad()
        objective(w).sum().backward()
        optimizer.step()
        points.append(w.detach().clone())
    return points


def pushed(gradients: Sequence[float | Point], optimize: Optimize, start: float | Point = 0.0):
    """Return the points of an optimizer that is given these gradients, the start first."""
    w = nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = optimize([w])
    points = [w.detach().clone()]
    for g in gradients:
        w.grad = torch.tensor(g, dtype=torch.float64).expand_as(w).clone()
        optimizer.step()
        points.append(w.detach().clone())
    return points


def sgd(lr: float, **settings: object) -> Optimize:
    return lambda w: torch.optim.SGD(w, lr=lr, **settings)


def rosenbrock(w: Tensor) -> Tensor:
    return (1 - w[0]).square() + 100 * (w[1] - w[0].square()).square()


def himmelblau(w: Tensor) -> Tensor:
    x, y = w.unbind(-1)
    return (x * x + y - 11).square() + (x + y * y - 7).square()


def downhill(start: Tensor, lr: float, n: int) -> Tensor:
    """Return where gradient descent on Himmelblau's function leads from each start (N, 2)."""
    w = start.clone()
    for _ in range(n):
        x, y = w.unbind(-1)
        a, b = x * x + y - 11, x + y * y - 7
        w -= lr * torch.stack([4 * a * x + 2 * b, 2 * a + 4 * b * y], -1)
    return w


@pytest.fixture(scope="module")
def minima() -> Tensor:
    """The four minima of Himmelblau's function (4, 2)."""
    near = torch.tensor([[3, 2], [-2.8, 3.1], [-3.8, -3.3], [3.6, -1.8]], dtype=torch.float64)
    return downhill(near, 0.01, 500)


def curvatures(at: Tensor) -> Tensor:
    """Return the curvatures of Himmelblau's function at a point, the smaller one first."""
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(himmelblau, at))


def few(**changes: object) -> Recipe:
    return good("digits").with_(
        model=MLPSpec(hidden=(32,)), augment=AugmentSpec(), length=steps(3),
        engine=EngineSpec(device="cpu"), schedule=Constant(),
    ).with_(**changes)  # fmt: skip


def ready(recipe: Recipe) -> tuple[Engine, Assembled]:
    engine = Engine.start(recipe.engine)
    return engine, assemble(recipe, engine)


def test_trap_T6_1_sgd_on_a_plain_function_is_gradient_descent():
    ways = [walk(rosenbrock, (-1.5, 2.0), sgd(1e-3), 50) for _ in range(2)]
    assert all(map(torch.equal, *ways))  # nothing is drawn: twice the same way
    w = torch.tensor([-1.5, 2.0], dtype=torch.float64)
    for point in ways[0]:
        torch.testing.assert_close(point, w)
        x, y = w.tolist()
        slope = [-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)]
        w = w - 1e-3 * torch.tensor(slope, dtype=torch.float64)

    def noisy(seed: int) -> Tensor:
        draws = generator(seed, "test")

        def objective(w: Tensor) -> Tensor:
            return rosenbrock(w) + torch.randn(2, generator=draws, dtype=torch.float64) @ w

        return walk(objective, (-1.5, 2.0), sgd(1e-3), 50)[-1]

    assert not torch.equal(noisy(0), noisy(1))  # with noise it is stochastic


def test_trap_T6_2_the_minima_of_himmelblau_are_equally_deep(minima: Tensor):
    assert float(himmelblau(minima).max()) < 1e-20
    assert float(torch.pdist(minima).min()) > 3  # four of them
    steepest = [float(curvatures(at)[1]) for at in minima]
    assert steepest == pytest.approx([82.28, 80.55, 133.79, 105.42], abs=0.01)

    line = torch.linspace(-5, 5, 41, dtype=torch.float64)
    ends = downhill(torch.cartesian_prod(line, line), 0.005, 400)
    apart = torch.cdist(ends, minima)
    assert float(apart.min(1).values.max()) < 1e-3
    basins = torch.bincount(apart.argmin(1)).tolist()  # of 1,681 starts
    assert len(set(basins)) == 4
    assert min(basins) > 350


def test_trap_T6_3_a_rate_means_another_step_to_each_optimizer():
    def first(optimize: Optimize, scale: float) -> float:
        return float(-pushed([3.0 * scale], optimize)[1])

    for scale in (1.0, 1000.0):
        assert first(sgd(0.01), scale) == pytest.approx(0.01 * 3 * scale)
        for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad):
            assert first(lambda w, kind=kind: kind(w, lr=0.01), scale) == pytest.approx(0.01)
        rms = first(lambda w: torch.optim.RMSprop(w, lr=0.01), scale)
        assert rms == pytest.approx(0.1)
    rates = {spec.lr for spec in (SGD(), Adam(), RMSprop(), Muon())}
    assert len(rates) == 4  # each of ours has a default of its own


def test_trap_T6_4_adam_divides_the_l2_penalty_and_adamw_does_not():
    def left(kind: type, size: float, **settings: float) -> float:
        """Return what is left of a weight of 1 whose gradients cancel out: +size, -size, ..."""
        gradients = [size, -size] * 100
        with_, without = (
            float(pushed(gradients, lambda w, d=d: kind(w, lr=1e-3, weight_decay=d), 1.0)[-1])
            for d in (settings["weight_decay"], 0.0)
        )
        return 1 - (without - with_)

    small, large = (left(torch.optim.Adam, size, weight_decay=0.1) for size in (1.0, 100.0))
    assert 1 - small > 20 * (1 - large)  # the weight with large gradients hardly shrinks
    for size in (1.0, 100.0):
        shrunk = left(torch.optim.AdamW, size, weight_decay=0.1)
        assert shrunk == pytest.approx((1 - 1e-3 * 0.1) ** 200, rel=1e-4)

    # In plain SGD the two are one: adding lambda w to the gradient, or shrinking w first.
    added = pushed([0.3, -0.2], sgd(0.1, weight_decay=0.5), 2.0)[-1]
    w = 2.0
    for g in (0.3, -0.2):
        w = (1 - 0.1 * 0.5) * w - 0.1 * g
    assert float(added) == pytest.approx(w)

    weight = [nn.Parameter(torch.zeros(1))]
    assert torch.optim.Adam(weight).defaults["weight_decay"] == Adam().weight_decay == 0
    assert torch.optim.AdamW(weight).defaults["weight_decay"] == AdamW().weight_decay == 0.01
    said = " ".join(Optimizing.__doc__.split())
    assert "in `adamw` and `muon` decoupled" in said


def test_trap_T6_5_momentum_adds_gradients_and_the_rate_stands_outside():
    gradients = [1.0, -0.5, 2.0, 0.25]
    found = pushed(gradients, sgd(0.1, momentum=0.9))
    v = w = ema = 0.0
    for point, g in zip(found[1:], gradients, strict=True):
        v = 0.9 * v + g
        ema = 0.9 * ema + 0.1 * g
        w -= 0.1 * v
        assert float(point) == pytest.approx(w)
        assert 0.1 * v == pytest.approx(10 * 0.1 * ema)  # a mean, at ten times the rate
    damped = pushed([1.0, 1.0], sgd(0.1, momentum=0.9, dampening=0.5))
    assert float(damped[1]) == pytest.approx(-0.1)  # the first buffer is g, undamped
    assert float(damped[2]) == pytest.approx(-0.1 - 0.1 * (0.9 + 0.5))

    long = pushed([1.0] * 300, sgd(0.1, momentum=0.9))
    assert float(long[-2] - long[-1]) == pytest.approx(0.1 / (1 - 0.9))

    # Where the rate falls, it falls for old gradients too: w -= lr v, not v = mu v + lr g.
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    for lr in (0.1, 0.01):
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.ones(1)
        optimizer.step()
    inside = 0.1 + (0.9 * 0.1 + 0.01)
    assert -weight.item() == pytest.approx(0.1 + 0.01 * 1.9)
    assert abs(-weight.item() - inside) > 0.05


def test_trap_T6_6_nesterov_is_gradient_plus_momentum_times_velocity():
    gradients = [1.0, -0.5, 2.0, 0.25]
    found = pushed(gradients, sgd(0.1, momentum=0.9, nesterov=True))
    v = w = 0.0
    for point, g in zip(found[1:], gradients, strict=True):
        v = 0.9 * v + g
        w -= 0.1 * (g + 0.9 * v)
        assert float(point) == pytest.approx(w)

    # Nesterov's own form asks for the gradient ahead; what torch stores is that point ahead.
    def bowl(w: Tensor) -> Tensor:
        return (w - 1).square() * 1.5

    theirs = walk(bowl, 0.0, sgd(0.1, momentum=0.9, nesterov=True), 20)
    theta = v = 0.0
    for point in theirs:
        assert float(point) == pytest.approx(theta + 0.9 * v)
        slope = 3 * (theta + 0.9 * v - 1)
        v = 0.9 * v - 0.1 * slope
        theta += v


def test_trap_T6_7_the_first_steps_of_rmsprop_are_ten_rates_long():
    for alpha, factor in ((0.99, 10.0), (0.9, 1 / math.sqrt(0.1))):
        points = pushed([5.0] * 1500, lambda w, a=alpha: torch.optim.RMSprop(w, lr=0.01, alpha=a))
        assert -float(points[1]) == pytest.approx(0.01 * factor)
        assert float(points[-2] - points[-1]) == pytest.approx(0.01, rel=1e-3)
    assert "the first step is 10 lr long" in RMSprop.__doc__
    layer = nn.Linear(1, 1, bias=False)
    before, optimizer = layer.weight.item(), RMSprop(lr=0.01).build(layer)
    layer.weight.grad = torch.ones(1, 1)
    optimizer.step()
    assert before - layer.weight.item() == pytest.approx(0.1, rel=1e-4)


def test_trap_T6_8_eps_is_added_to_the_root():
    g = 1e-8
    for kind, outside, inside in (
        (torch.optim.Adam, g / (g + 1e-8), g / math.sqrt(g * g + 1e-8)),
        (torch.optim.Adagrad, g / (g + 1e-8), g / math.sqrt(g * g + 1e-8)),
        (torch.optim.RMSprop, g / (0.1 * g + 1e-8), g / math.sqrt(0.01 * g * g + 1e-8)),
    ):
        step = -float(pushed([g], lambda w, kind=kind: kind(w, lr=1.0, eps=1e-8))[1])
        assert step == pytest.approx(outside, rel=1e-4)
        assert step > 1000 * inside


def test_trap_T6_9_steps_of_adagrad_only_shrink():
    points = pushed([2.0] * 400, lambda w: torch.optim.Adagrad(w, lr=0.5))
    sizes = [float(a - b) for a, b in zip(points, points[1:], strict=False)]
    assert sizes == pytest.approx([0.5 / math.sqrt(t) for t in range(1, 401)], rel=1e-6)
    quiet = pushed([100.0] + [1.0] * 400, lambda w: torch.optim.Adagrad(w, lr=0.5))
    assert float(quiet[-2] - quiet[-1]) < 0.005  # one large gradient is never forgotten


def test_trap_T6_10_adam_can_go_the_wrong_way():
    """Reddi et al. (2018), "On the convergence of Adam and beyond", theorem 1, with C = 4."""
    c = 4.0

    def ends(amsgrad: bool) -> float:
        w = nn.Parameter(torch.zeros((), dtype=torch.float64))
        betas = (0.0, 1 / (1 + c * c))
        optimizer = torch.optim.Adam([w], lr=0.3, betas=betas, amsgrad=amsgrad)
        for t in range(600):
            optimizer.param_groups[0]["lr"] = 0.3 / math.sqrt(t + 1)
            w.grad = torch.full_like(w, c if t % 3 == 0 else -1.0)  # the mean is above 0: go left
            optimizer.step()
            w.data.clamp_(-1, 1)
        return float(w.detach())

    assert ends(amsgrad=False) > 0.7  # the best is -1, and it ends near the worst
    assert ends(amsgrad=True) < -0.7


def test_trap_T6_11_a_large_rate_cannot_stay_in_a_sharp_minimum(minima: Tensor):
    for curvature in (1.0, 50.0):
        for share, stays in ((0.99, True), (1.01, False)):
            lr = share * 2 / curvature
            points = walk(lambda w, c=curvature: c * w.square() / 2, 1e-3, sgd(lr), 100)
            assert (abs(float(points[-1])) < 1e-3) is stays

    limits = [2 / float(curvatures(at)[1]) for at in minima]
    assert limits == pytest.approx([0.0243, 0.0248, 0.0149, 0.0190], abs=1e-4)
    for lr in (0.012, 0.017, 0.021):  # below the limits of all four, of three, of two
        ends = downhill(minima + 1e-3, lr, 400)
        stayed = ((ends - minima).norm(dim=1) < 1e-3).tolist()
        assert stayed == [lr < limit for limit in limits]


def test_trap_T6_12_biases_and_norms_do_not_decay():
    def net() -> nn.Module:
        return ResNet((3, 8, 8), 4, depth=8, width=4)

    def shrunk(build: Callable[[nn.Module], torch.optim.Optimizer]) -> set[str]:
        """Return the kinds of parameters that a step without any gradient makes smaller."""
        model = net()
        for p in model.parameters():
            nn.init.ones_(p)
            p.grad = torch.zeros_like(p)
        build(model).step()
        return {
            "weights" if p.ndim > 1 else "biases and norms"
            for p in model.parameters()
            if float(p.detach().max()) < 1
        }

    torchs = shrunk(lambda m: torch.optim.AdamW(m.parameters(), lr=0.1, weight_decay=0.1))
    assert torchs == {"weights", "biases and norms"}
    for spec in (SGD(weight_decay=0.1), Adam(weight_decay=0.1), AdamW(), Muon()):
        assert shrunk(spec.build) == {"weights"}


def test_trap_T6_13_the_decay_of_adamw_is_scaled_by_its_rate():
    for lr in (0.1, 0.01):
        optimize: Optimize = lambda w, lr=lr: torch.optim.AdamW(w, lr=lr, weight_decay=0.5)  # noqa: E731
        assert float(pushed([0.0], optimize, 1.0)[1]) == pytest.approx(1 - lr * 0.5)

    # So a schedule that lowers the rate lowers the decay with it; ours say so.
    def left(lr: float) -> float:
        layer = nn.Linear(1, 1)
        nn.init.ones_(layer.weight)
        layer.weight.grad = torch.zeros(1, 1)
        AdamW(lr=lr, weight_decay=0.5).build(layer).step()
        return layer.weight.item()

    assert (left(0.1), left(0.01)) == (pytest.approx(0.95), pytest.approx(0.995))
    said = " ".join(Optimizing.__doc__.split())
    assert "each step multiplies the weights by `1 - lr * weight_decay`" in said


def test_trap_T6_14_the_best_momentum_depends_on_the_curvatures():
    def left(kappa: float, momentum: float, lr: float, n: int = 60) -> float:
        """Return how far it is from the minimum of a bowl with curvatures 1 and `kappa`."""
        bowl = torch.tensor([1.0, kappa], dtype=torch.float64)
        points = walk(lambda w: (bowl * w * w).sum() / 2, (1.0, 1.0), sgd(lr, momentum=momentum), n)
        return float(points[-1].norm())

    def best(kappa: float) -> tuple[float, float]:
        """Return the best momentum and its rate, by Polyak (1964)."""
        root = math.sqrt(kappa)
        return ((root - 1) / (root + 1)) ** 2, (2 / (root + 1)) ** 2

    for kappa in (4.0, 100.0):
        momentum, lr = best(kappa)
        plain = left(kappa, 0.0, 2 / (1 + kappa))  # without momentum, at the best rate for that
        assert left(kappa, momentum, lr) < plain / 100
        assert left(kappa, 0.99, lr) > plain  # too much of it swings for long
    assert best(4.0)[0] == pytest.approx(0.11, abs=0.005)
    assert best(100.0)[0] == pytest.approx(0.67, abs=0.005)
    lr = best(4.0)[1]  # what is best at 100 is poor at 4
    assert left(4.0, best(100.0)[0], lr) > 1000 * left(4.0, best(4.0)[0], lr)


def test_trap_T6_15_a_step_against_the_gradient_may_raise_the_loss():
    def course(lr: float) -> list[float]:
        return [float(w * w) for w in walk(torch.square, 1.0, sgd(lr), 20)]

    for lr in (0.01, 0.5, 0.99):
        values = course(lr)
        assert all(b < a or a == 0 for a, b in zip(values, values[1:], strict=False))
    assert course(1.0) == [1.0] * 21  # from 1 to -1 and back
    values = course(1.01)
    assert all(b > a for a, b in zip(values, values[1:], strict=False))


def test_trap_T6_16_weight_decay_is_twice_lambda():
    lam, start = 0.05, 3.0
    penalised = walk(lambda w: 2 * w + lam * w.square(), start, sgd(0.1), 5)
    for weight_decay, equal in ((2 * lam, True), (lam, False)):
        decayed = pushed([2.0] * 5, sgd(0.1, weight_decay=weight_decay), start)
        assert torch.allclose(penalised[-1], decayed[-1], rtol=1e-12) is equal

    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, start)
    spec = SGD(lr=0.1, momentum=0, nesterov=False, weight_decay=2 * lam)
    optimizer = spec.build(layer)
    for _ in range(5):
        layer.weight.grad = torch.full((1, 1), 2.0)
        optimizer.step()
    assert layer.weight.item() == pytest.approx(float(penalised[-1]), rel=1e-6)
    assert "`weight_decay * weight`" in Optimizing.__doc__


@pytest.mark.parametrize(
    ("spec", "setting"),
    [
        (SGD(momentum=1.0), "momentum"),
        (SGD(momentum=1.5), "momentum"),
        (SGD(momentum=-0.1), "momentum"),
        (RMSprop(momentum=1.0), "momentum"),
        (Muon(momentum=1.0), "momentum"),
        (RMSprop(alpha=1.0), "alpha"),
        (Adam(betas=(1.0, 0.999)), "betas"),
        (AdamW(betas=(0.9, 1.0)), "betas"),
    ],
)
def test_trap_T6_17_ours_refuse_what_never_decays(spec: Optimizing, setting: str, tmp_path):
    with pytest.raises(BadRecipe, match=rf"optimizer\.{setting}.* must be a number (<|>=) "):
        from_tree(to_tree(few(optimizer=spec)))
    with pytest.raises(BadRecipe, match=setting):
        train(few(optimizer=spec), tmp_path)
    assert not list(tmp_path.iterdir())


def test_trap_T6_17_torch_takes_a_momentum_at_which_nothing_decays():
    # A push of 1, and then no gradient at all.
    still = pushed([1.0] + [0.0] * 50, sgd(0.1, momentum=1.0))
    assert float(still[-2] - still[-1]) == pytest.approx(0.1)  # it goes on for ever
    grows = pushed([1.0] + [0.0] * 50, sgd(0.1, momentum=1.5))
    assert float(grows[-2] - grows[-1]) > 1e7
    fades = pushed([1.0] + [0.0] * 50, sgd(0.1, momentum=0.9))
    assert 0 < float(fades[-2] - fades[-1]) < 1e-3
    with pytest.raises(ValueError, match="momentum"):
        pushed([1.0], sgd(0.1, momentum=-0.1))


def test_trap_T6_18_momentum_leaves_poor_and_good_minima_alike():
    def wells(w: Tensor) -> Tensor:  # a poor minimum near -1, a good one near 1
        return (w * w - 1).square() - 0.2 * w

    starts = [-1.9, -1.3, 1.6, 1.7, 1.8, 1.9, 2.0, 2.1, 2.2]  # side by side

    def ends(momentum: float) -> dict[float, float]:
        points = walk(wells, starts, sgd(0.01, momentum=momentum), 600)
        return dict(zip(starts, points[-1].tolist(), strict=True))

    plain, rolling = ends(0.0), ends(0.9)
    assert all(plain[start] * start > 0 for start in starts)  # each stays on its side
    assert rolling[-1.9] > 0.9  # out of the poor one,
    assert min(rolling[start] for start in starts[2:]) < -0.9  # out of the good one,
    assert rolling[-1.3] < -0.9  # and it may stay where it is poor


def test_trap_T6_19_adams_v_is_a_second_moment_not_a_variance():
    w = nn.Parameter(torch.zeros((), dtype=torch.float64))
    optimizer = torch.optim.Adam([w], lr=1e-3)
    gradients = 3 + 0.5 * torch.randn(
        2000, dtype=torch.float64, generator=generator(0, "test")
    )  # mean 3, variance 0.25
    for g in gradients:
        w.grad = g.clone()
        optimizer.step()
    v = float(optimizer.state[w]["exp_avg_sq"]) / (1 - 0.999**2000)
    assert v == pytest.approx(9.25, rel=0.05)
    assert v > 30 * float(gradients.var())


def test_trap_T6_20_optimizers_are_compared_from_one_start():
    """One seed: the same weights, batches, augmentation and dropout, whatever the optimizer."""
    recipes = [
        few(optimizer=optimizer, augment=good("digits").augment, model=good("digits").model)
        for optimizer in (SGD(), AdamW(), RMSprop())
    ]
    starts, firsts, seconds, orders = [], [], [], []
    for recipe in recipes:
        engine, built = ready(recipe)
        starts.append([p.detach().clone() for p in built.state.model.parameters()])
        orders.append(torch.cat([built.task.train.index(i) for i in range(3)]))
        first, second = islice(fit(built.state, built.task, engine), 2)
        firsts.append(float(first.loss))
        seconds.append(float(second.loss))
    assert all(all(map(torch.equal, starts[0], other)) for other in starts[1:])
    assert all(torch.equal(orders[0], other) for other in orders[1:])
    assert len(set(firsts)) == 1
    assert len(set(seconds)) == 3  # from then on they go their ways
    _, other = ready(recipes[0].with_(seed=1))
    assert not all(map(torch.equal, starts[0], other.state.model.parameters()))


def test_trap_T6_21_the_loss_of_a_step_belongs_to_the_point_before_it():
    w = nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([w], lr=0.25)
    loss = w.square()
    loss.backward()
    optimizer.step()
    assert (loss.item(), w.item()) == (1.0, 0.5)  # not a pair
    assert w.square().item() == 0.25

    engine, built = ready(few(evaluate=steps(3)))

    def batch_loss(step: int) -> float:
        """Return the loss of the weights as they are now, on the batch of `step`."""
        batch, = built.task.train.pieces(step)  # fmt: skip
        with torch.no_grad():
            logits = built.state.model(built.task.prepare(batch.images))
        return float(F.cross_entropy(logits, batch.targets))

    before = batch_loss(0)
    for step in fit(built.state, built.task, engine):
        assert float(step.loss) == pytest.approx(before, rel=1e-5)
        assert abs(batch_loss(step.index - 1) - before) > 1e-3  # the weights have moved
        before = batch_loss(step.index)
        last = step
    part = built.task.validation  # what was judged is judged after the step
    with torch.no_grad():
        logits = built.state.model(built.task.prepare(part.pixels(torch.arange(len(part)))))
    loss = float(F.cross_entropy(logits.double(), part.targets))
    assert last.evaluation.validation.loss == pytest.approx(loss, rel=1e-5)


def test_trap_T6_22_himmelblau_overflows_at_a_rate_of_a_tenth(minima: Tensor):
    for start in ((-7.0, -8.0), (4.0, 3.0), (-4.0, 5.0)):
        for dtype in (torch.float32, torch.float64):
            points = walk(himmelblau, start, sgd(0.1), 7, dtype)
            assert bool(points[2].isfinite().all())
            assert not bool(points[5 if dtype == torch.float32 else 7].isfinite().any())
        end = walk(himmelblau, start, sgd(0.01), 150)[-1]
        assert float((minima - end).norm(dim=1).min()) < 1e-6


def test_trap_T6_23_gradient_descent_need_not_find_the_nearest_minimum(minima: Tensor):
    start = torch.tensor([[-0.3, -0.8]], dtype=torch.float64)
    apart = (minima - start).norm(dim=1)
    assert sorted(apart.tolist()) == pytest.approx([4.02, 4.27, 4.33, 4.66], abs=0.005)
    end = downhill(start, 0.001, 2000)[0]
    assert end.tolist() == pytest.approx([-2.805, 3.131], abs=5e-4)
    assert float((end - start).norm()) == pytest.approx(4.66, abs=0.005)
    by_torch = walk(himmelblau, (-0.3, -0.8), sgd(0.001), 30)[-1]
    torch.testing.assert_close(by_torch, downhill(start, 0.001, 30)[0])


def test_trap_T6_24_cosine_annealing_needs_its_length_and_rises_after_it():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = CosineAnnealingLR(optimizer, T_max=10), []
    for _ in range(21):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[10] == pytest.approx(0, abs=1e-12)
    assert all(a > b for a, b in zip(rates[:10], rates[1:11], strict=True))
    assert all(a < b for a, b in zip(rates[10:20], rates[11:21], strict=True))
    assert rates[20] == pytest.approx(1.0)

    for length in (40, 80):  # ours spans the run, whatever its length
        _, built = ready(few(schedule=Cosine(), length=steps(length)))
        schedule = built.task.schedule
        assert built.task.plan.steps == length
        ours = [schedule(step) for step in range(length)]
        assert all(a > b for a, b in zip(ours, ours[1:], strict=False))
        assert ours[-1] < 0.01 * ours[0]
    assert isinstance(good("digits").schedule, Cosine)  # from scratch, not for fine-tuning
