"""Traps T4 of `docs/correctness.md`: activations, initial weights, gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid import Engine, Recipe, epochs, fit, from_tree, good, to_tree
from pellucid.assemble import assemble
from pellucid.augment.pipeline import AugmentSpec
from pellucid.checks.preflight_gradients import gradient_norms, gradients
from pellucid.data.digits import Digits
from pellucid.engine import EngineSpec
from pellucid.errors import BadRecipe
from pellucid.inspection.vitals import sample, vitals
from pellucid.models.init import Bad, Default, Kaiming, Xavier
from pellucid.models.mlp import MLP
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.optim.schedules import Constant
from pellucid.optim.specs import SGD
from pellucid.recipe import InitSpec
from pellucid.seeds import generator, reseed

GRID = torch.arange(-1200, 1201, dtype=torch.float64) / 100
MIDDLE = 1200  # where GRID is 0
DEPTH, WIDTH = 30, 64


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def slope(function: Callable[[Tensor], Tensor], x: Tensor | float) -> Tensor:
    """Return the derivative of an element-wise function, as autograd has it."""
    x = torch.as_tensor(x, dtype=torch.float64).clone().requires_grad_()
    return torch.autograd.grad(function(x).sum(), x)[0]


def normal(*shape: int, key: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(0, "test", key))


class Skip(nn.Module):
    """x + block(x)."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


def deep(init: InitSpec, *, norm: bool = False, skip: bool = False) -> list[nn.Module]:
    """Return 30 layers of 64 ReLU units with initial weights by `init`."""
    reseed(0, "test")
    blocks: list[nn.Module] = []
    for _ in range(DEPTH):
        parts = [nn.Linear(WIDTH, WIDTH), *([nn.BatchNorm1d(WIDTH)] if norm else []), nn.ReLU()]
        block = nn.Sequential(*parts)
        init.apply(block)
        blocks.append(Skip(block) if skip else block)
    return blocks


def through(blocks: list[nn.Module]) -> tuple[list[float], list[float]]:
    """Return the scale of the signal after each block, and that of the gradient there."""
    x, seen = normal(256, WIDTH), []
    for block in blocks:
        x = block(x)
        x.retain_grad()
        seen.append(x)
    (x * normal(256, WIDTH, key=1)).sum().backward()
    scales = [float(a.detach().square().mean().sqrt()) for a in seen]
    return scales, [float(a.grad.norm()) for a in seen]


def test_trap_T4_1_sigmoid_always_rises_and_its_slope_is_a_bell():
    assert bool((torch.sigmoid(GRID).diff() > 0).all())
    bell = slope(torch.sigmoid, GRID)
    assert bool((bell[: MIDDLE + 1].diff() > 0).all())
    assert bool((bell[MIDDLE:].diff() < 0).all())
    torch.testing.assert_close(bell, bell.flip(0))
    for function in (torch.tanh, F.relu, F.softplus, F.leaky_relu):
        assert bool((function(GRID).diff() >= 0).all())
    for function in (F.silu, F.gelu):
        steps = function(GRID).diff()
        assert bool((steps < 0).any())
        assert bool((steps > 0).any())


def test_trap_T4_2_sigmoid_is_never_steeper_than_a_quarter():
    for function, steepest in ((torch.sigmoid, 0.25), (torch.tanh, 1.0)):
        found = slope(function, GRID)
        assert float(found.max()) == steepest
        assert int(found.argmax()) == MIDDLE
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    y = x
    for _ in range(10):
        y = torch.sigmoid(y)  # ten layers, weights of 1
    y.backward()
    assert 0 < float(x.grad) < 0.25**10


def test_trap_T4_3_inputs_of_one_sign_and_saturation_are_two_matters():
    def signs(x: Tensor) -> set[float]:
        """Return the signs in the gradient of each neuron's weights, for one image."""
        layer = nn.Linear(50, 20)
        (layer(x) * normal(20, key=1)).sum().backward()
        assert float(layer.weight.grad.abs().median()) > 0.01  # nothing vanishes here
        return {float(row.sign().sum().abs()) for row in layer.weight.grad}

    z = normal(50)
    assert signs(torch.sigmoid(z)) == {50.0}  # each neuron: all weights up, or all down
    assert max(signs(torch.tanh(z))) < 50

    # Centred or not has nothing to do with saturation.
    for function in (torch.tanh, lambda x: torch.sigmoid(x) - 0.5):
        assert float(function(GRID).mean()) == pytest.approx(0, abs=1e-12)
        assert float(slope(function, 12.0)) < 1e-5


def test_trap_T4_4_relu_alone_does_not_keep_gradients_alive():
    # The gradient that has come down to the first block, against that at the last.
    left = {
        name: (lambda down: down[0] / down[-1])(through(deep(**settings))[1])
        for name, settings in {
            "default": {"init": Default()},
            "Kaiming": {"init": Kaiming()},
            "norm": {"init": Default(), "norm": True},
            "skip": {"init": Default(), "skip": True},
        }.items()
    }
    assert left["default"] < 1e-9
    for cure in ("Kaiming", "norm", "skip"):
        assert left[cure] > 0.02

    z = normal(10_000)
    assert 0.48 < float((F.relu(z) == 0).double().mean()) < 0.52

    layer, x = nn.Linear(5, 2), normal(100, 5)
    nn.init.constant_(layer.bias, -100.0)
    F.relu(layer(x)).sum().backward()
    assert float(layer.weight.grad.abs().sum() + layer.bias.grad.abs().sum()) == 0  # dead


def test_trap_T4_5_dead_on_a_batch_is_not_dead():
    built = assemble(recipe(Default()), Engine.start(EngineSpec(device="cpu")))
    train = built.splits.train
    net = MLP((1, 28, 28), 10, (100,))
    with torch.no_grad():
        net.layers[1].weight.copy_(normal(100, 784) * math.sqrt(2 / 784))
        net.layers[1].bias.fill_(-2.0)  # units that fire seldom
    net.layers[3].reset_parameters()

    def dead(n: int) -> float:
        x = built.task.prepare(train.pixels(torch.arange(n)))
        with torch.no_grad():
            return float((F.relu(net.layers[1](x.flatten(1))) == 0).all(0).double().mean())

    assert dead(8) > 0.5
    assert dead(len(train)) == 0

    part = sample(train)
    index = torch.arange(len(part))
    row = vitals(net, built.task.prepare(part.pixels(index)), part.targets, step=0)
    assert row["n"] == 128  # so many images it rests on, and it says so
    assert 0 < row["activations"][0]["dead"] < dead(8)


def test_trap_T4_6_relu_has_a_subgradient_at_0():
    for function in (F.relu, torch.relu, nn.ReLU(), F.relu6, torch.abs):
        assert float(slope(function, 0.0)) == 0
    net = MLP((1, 28, 28), 10)
    F.cross_entropy(net(torch.zeros(4, 1, 28, 28)), torch.zeros(4).long()).backward()  # all kinks
    assert all(bool(p.grad.isfinite().all()) for p in net.parameters())


def test_trap_T4_7_default_weights_have_a_sixth_of_hes_variance():
    reseed(0, "test")
    assert nn.init.calculate_gain("leaky_relu", math.sqrt(5)) == pytest.approx(math.sqrt(1 / 3))
    for layer, fan_in in ((nn.Linear(300, 2000), 300), (nn.Conv2d(16, 1500, 5), 400)):
        bound = 1 / math.sqrt(fan_in)
        for drawn in (layer.weight.detach(), layer.bias.detach()):
            assert 0.99 * bound < float(drawn.abs().max()) <= bound * (1 + 1e-6)
        default = float(layer.weight.detach().var())
        assert default == pytest.approx(1 / (3 * fan_in), rel=0.01)
        Kaiming().apply(layer)
        assert float(layer.weight.detach().var()) / default == pytest.approx(6, rel=0.02)
        assert "variance 2 / fan-in" in Kaiming.__doc__
    small = MnistCNN((1, 28, 28), 10).fc1.weight.detach()  # PyTorch's own
    assert float(small.var()) == pytest.approx(1 / (3 * small.shape[1]), rel=0.02)
    own = MLP((1, 28, 28), 10).layers[1].weight  # our MLP draws as He does, and says so
    assert float(own.detach().var()) == pytest.approx(2 / 784, rel=0.02)
    assert "variance 2 / fan-in" in " ".join(MLP.__doc__.split())


def test_trap_T4_8_xavier_and_kaiming_have_other_variances():
    weight = torch.empty(1000, 250)  # out, in
    draws = generator(0, "test")

    def variance(fill: Callable[..., Tensor], **settings: str) -> float:
        return float(fill(weight, generator=draws, **settings).var())

    for kind in (nn.init.xavier_uniform_, nn.init.xavier_normal_):
        assert variance(kind) == pytest.approx(2 / (250 + 1000), rel=0.02)
    for kind in (nn.init.kaiming_uniform_, nn.init.kaiming_normal_):
        assert variance(kind, nonlinearity="relu") == pytest.approx(2 / 250, rel=0.02)
        wide = variance(kind, nonlinearity="relu", mode="fan_out")
        assert wide == pytest.approx(2 / 1000, rel=0.02)
        assert variance(kind, nonlinearity="linear") == pytest.approx(1 / 250, rel=0.02)

    layer = nn.Linear(250, 1000)
    for spec, expected in ((Xavier(), 2 / 1250), (Kaiming(), 2 / 250)):
        spec.apply(layer)
        assert float(layer.weight.detach().var()) == pytest.approx(expected, rel=0.02)
        assert not layer.bias.any()


class Zeros:
    """A small network whose weights and biases are all 0."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        net = MLP(shape, classes, (20,))
        for p in net.parameters():
            nn.init.zeros_(p)
        return net


def test_trap_T4_9_equal_weights_stay_equal():
    x, targets = normal(64, 6), torch.arange(64) % 3

    def trained(fill: Callable[[Tensor], object]) -> nn.Sequential:
        reseed(0, "test")
        net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        for layer in (net[0], net[2]):
            fill(layer.weight)
            nn.init.zeros_(layer.bias)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
        for _ in range(30):
            optimizer.zero_grad()
            F.cross_entropy(net(x), targets).backward()
            optimizer.step()
        return net

    def units(net: nn.Sequential) -> int:
        return len(net[0].weight.detach().round(decimals=4).unique(dim=0))

    alike = trained(lambda weight: nn.init.constant_(weight, 0.3))
    assert float((alike[0].weight.detach() - 0.3).abs().max()) > 0.01  # it learns,
    assert units(alike) == 1  # with eight units that are one
    assert not trained(nn.init.zeros_)[0].weight.any()  # no gradient gets past weights of 0
    assert units(trained(nn.init.xavier_normal_)) == 8  # biases of 0 do no harm

    engine = Engine.start(EngineSpec(device="cpu"))
    check = gradients(
        gradient_norms(assemble(recipe(Default()).with_(model=Zeros()), engine), engine)
    )
    assert check.verdict == "failed"
    assert "weights that start at 0" in check.advice
    with pytest.raises(BadRecipe, match=r"init\.std must be a number > 0"):
        from_tree({**to_tree(good("digits")), "init": {"name": "bad", "std": 0.0}})


def test_trap_T4_10_what_vanishes_is_a_product_of_weights_and_slopes():
    def gradient(weight: float, activation: Callable[[Tensor], Tensor], depth: int) -> float:
        a = x = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)
        product = 1.0
        for _ in range(depth):
            z = weight * a
            product *= weight * float(slope(activation, z.detach()))
            a = activation(z)
        a.backward()
        assert float(x.grad) == pytest.approx(product, rel=1e-12)
        return abs(float(x.grad))

    assert gradient(0.5, F.relu, 20) == 0.5**20  # small weights
    assert gradient(1.0, F.relu, 20) == 1
    assert gradient(2.0, F.relu, 20) == 2**20
    assert gradient(1.0, torch.sigmoid, 20) < 1e-12  # the same weight, flatter slopes
    assert gradient(30.0, torch.sigmoid, 5) < 1e-30  # large weights: the slopes are all but 0
    assert gradient(1.0, torch.sigmoid, 1) > 0.2  # no depth, nothing to vanish


def test_trap_T4_11_softplus_is_not_computed_as_it_is_written():
    def naive(x: Tensor) -> Tensor:
        return torch.log(1 + torch.exp(x))

    x = torch.tensor([-5.0, 0.0, 19.9, 20.1, 1000.0], dtype=torch.float64)
    assert naive(x).tolist()[-1] == math.inf
    assert bool(slope(naive, x)[-1].isnan())
    assert float(naive(torch.tensor(100.0))) == math.inf  # in single precision from 89 on
    soft = F.softplus(x)
    torch.testing.assert_close(soft[:3], naive(x)[:3])
    assert torch.equal(soft[3:], x[3:])  # a straight line above 20,
    assert float(soft[2]) > 19.9
    assert 0 < float(F.softplus(x[3], threshold=50.0) - x[3]) < 1e-8  # which it nearly is
    torch.testing.assert_close(slope(F.softplus, x), torch.sigmoid(x))


def test_trap_T4_12_differences_prove_little_unless_they_are_taken_well():
    def f(x: Tensor) -> Tensor:
        return torch.sin(3 * x) * torch.exp(x)

    def error(dtype: torch.dtype, h: float, central: bool) -> float:
        x = torch.tensor(1.3, dtype=dtype)
        low = x - h if central else x
        found = float((f(x + h) - f(low)) / (x + h - low))
        right = float(slope(f, 1.3))
        return abs(found - right) / abs(right)

    assert error(torch.float64, 1e-5, central=True) < 1e-8
    assert error(torch.float64, 1e-5, central=False) > 1e-6
    assert error(torch.float32, 1e-5, central=True) > 1e-4
    assert (float(F.relu(torch.tensor(1e-5)) - F.relu(torch.tensor(-1e-5))) / 2e-5) == (
        pytest.approx(0.5)
    )  # at a kink it is neither 0 nor 1

    # Relative: a gradient may be a tenth off and yet be near in absolute terms.
    right, wrong = 1e-6, 1.1e-6
    assert abs(right - wrong) < 1e-6
    assert abs(right - wrong) / right > 0.09

    check = torch.autograd.gradcheck
    assert check(f, torch.tensor(1.3, dtype=torch.float64, requires_grad=True))
    with pytest.warns(UserWarning, match="not a double precision"):
        assert not check(f, torch.tensor(1.3, requires_grad=True), raise_exception=False)
    kink = torch.zeros((), dtype=torch.float64, requires_grad=True)
    assert not check(F.relu, kink, raise_exception=False)


@dataclass
class Node:
    """A number in a graph: what it was made of, and the slope by each of these."""

    value: float
    made_of: list[tuple[Node, float]] = field(default_factory=list)
    grad: float = 0.0

    def hand_on(self) -> None:
        for node, by in self.made_of:
            node.grad += by * self.grad


def recursive(node: Node) -> None:
    for part, by in node.made_of:
        part.grad += by * node.grad
        recursive(part)


def in_order(node: Node) -> None:
    order: list[Node] = []

    def visit(n: Node) -> None:
        if not any(n is other for other in order):
            for part, _ in n.made_of:
                visit(part)
            order.append(n)

    visit(node)
    for n in reversed(order):  # each after all that use it
        n.hand_on()


def test_trap_T4_13_a_shared_node_must_wait_for_all_who_use_it():
    def gradient(backward: Callable[[Node], None], shared: bool) -> float:
        x = Node(3.0)
        double = Node(6.0, [(x, 2.0)])
        other = double if shared else Node(6.0, [(x, 2.0)])
        total = Node(12.0, [(double, 1.0), (other, 1.0)], grad=1.0)
        backward(total)
        return x.grad

    x = torch.tensor(3.0, requires_grad=True)
    double = 2 * x
    (double + double).backward()
    assert float(x.grad) == 4
    assert gradient(recursive, shared=False) == gradient(in_order, shared=False) == 4
    assert gradient(in_order, shared=True) == 4
    assert gradient(recursive, shared=True) == 6  # what came first was handed on twice


def test_trap_T4_14_only_leaves_keep_their_gradient():
    x = torch.tensor(2.0, requires_grad=True)
    lost, kept = 3 * x, 5 * x
    kept.retain_grad()
    (lost * kept).backward()
    assert (x.is_leaf, lost.is_leaf, kept.is_leaf) == (True, False, False)
    assert float(x.grad) == 2 * 15 * 2
    assert float(kept.grad) == 6
    with pytest.warns(UserWarning, match="not a leaf Tensor"):
        assert lost.grad is None


def test_trap_T4_15_gradients_add_where_a_value_is_used_twice():
    a, b = (torch.tensor(v, requires_grad=True) for v in (2.0, 3.0))
    (7 * (a + b)).backward()
    assert (float(a.grad), float(b.grad)) == (7, 7)  # a sum hands on what it gets
    a.grad = None
    (7 * (a * b)).backward()  # no sum anywhere, and nothing to add
    assert float(a.grad) == 21
    a.grad = None
    (a * a).backward()  # nor here, and two gradients add
    assert float(a.grad) == 2 + 2

    layer, x = nn.Linear(4, 4, bias=False), normal(1, 4)
    layer(layer(x)).sum().backward()  # one weight in two places
    one, two = (nn.Parameter(layer.weight.detach().clone()) for _ in range(2))
    F.linear(F.linear(x, one), two).sum().backward()
    torch.testing.assert_close(layer.weight.grad, one.grad + two.grad)


def test_trap_T4_16_softmax_needs_its_whole_jacobian():
    z = normal(5).double().requires_grad_()
    y = F.one_hot(torch.tensor(2), 5).double()
    p = z.softmax(0)
    by_p = 2 * (p - y).detach()  # gradient of the squared error by the probabilities
    (right,) = torch.autograd.grad((p - y).square().sum(), z)
    q = p.detach()
    jacobian = torch.diag(q) - torch.outer(q, q)
    torch.testing.assert_close(right, jacobian @ by_p)
    assert float((by_p * q * (1 - q) - right).norm() / right.norm()) > 0.1  # its diagonal only

    (delta,) = torch.autograd.grad(F.cross_entropy(z, torch.tensor(2)), z)
    torch.testing.assert_close(delta, q - y)

    hidden = normal(5, key=1).double().requires_grad_()  # element by element the product is right
    (found,) = torch.autograd.grad((torch.sigmoid(hidden) - y).square().sum(), hidden)
    s = torch.sigmoid(hidden).detach()
    torch.testing.assert_close(found, 2 * (s - y) * s * (1 - s))


def test_trap_T4_17_weights_are_stored_outputs_first():
    layer = nn.Linear(3, 2)
    assert layer.weight.shape == (2, 3)
    x = normal(4, 3)
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias)
    expected = sum(layer.weight[1, k] * x[0, k] for k in range(3)) + layer.bias[1]
    torch.testing.assert_close(layer(x)[0, 1], expected)
    assert nn.Conv2d(3, 8, (5, 4)).weight.shape == (8, 3, 5, 4)
    assert MLP((1, 28, 28), 10).layers[1].weight.shape == (200, 784)


def test_trap_T4_18_forward_builds_the_graph_and_backward_frees_it():
    x = torch.tensor(2.0, requires_grad=True)
    y = (x * x).exp()
    assert "Exp" in y.grad_fn.name()  # before any backward
    assert "Mul" in y.grad_fn.next_functions[0][0].name()
    with torch.no_grad():
        assert (x * x).grad_fn is None
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


class Plain:
    """784-128-64-10 with ReLU, its weights as PyTorch draws them."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(shape), 128), nn.ReLU(), nn.Linear(128, 64),
            nn.ReLU(), nn.Linear(64, classes),
        )  # fmt: skip


def recipe(init: InitSpec) -> Recipe:
    """An epoch of 71 steps of plain gradient descent on 4,500 digits."""
    return good("digits").with_(
        data=Digits(), model=Plain(), init=init, augment=AugmentSpec(), batch_size=64,
        optimizer=SGD(lr=0.1, momentum=0, nesterov=False, weight_decay=0), schedule=Constant(),
        length=epochs(1), engine=EngineSpec(device="cpu"),
    )  # fmt: skip


def test_trap_T4_19_default_weights_train_and_those_of_one_size_do_not():
    def learned(init: InitSpec) -> float:
        engine = Engine.start(EngineSpec(device="cpu"))
        built = assemble(recipe(init), engine)
        *_, last = fit(built.state, built.task, engine)
        assert last.evaluation.validation.n == 500
        return last.evaluation.validation.accuracy

    assert learned(Default()) > 0.7
    assert learned(Kaiming()) > 0.8
    for std in (0.001, 1.0):
        assert learned(Bad(std)) < 0.2
    assert "the loss stands still; at 1" in " ".join(Bad.__doc__.split())


def test_trap_T4_20_relu_is_continuous_and_its_slope_jumps():
    for h in (1e-3, 1e-9, 1e-300):
        near = torch.tensor([-h, 0.0, h], dtype=torch.float64)
        assert float(F.relu(near).diff().abs().max()) <= h
        assert slope(F.relu, near).tolist() == [0, 0, 1]


def test_trap_T4_21_a_slope_is_local():
    assert float(slope(torch.square, 2.0)) == 4
    assert [(2 + step) ** 2 - 2**2 for step in (1, -1)] == [5, -3]
    assert [(2 + step) ** 2 - 2**2 for step in (0.001, -0.001)] == pytest.approx(
        [0.004, -0.004], rel=1e-3
    )


def test_trap_T4_22_initial_weights_keep_a_scale_and_promise_no_minimum():
    for init, kept in ((Kaiming(), True), (Xavier(), False), (Bad(0.1), False), (Bad(0.5), False)):
        for course in through(deep(init)):  # the signals of 30 layers of ReLU, their gradients
            assert (1 / 30 < course[0] / course[-1] < 30) is kept
    assert "keeps the scale of signals through ReLU" in Kaiming.__doc__

    # Exclusive or, by 2 ReLU units: 100 networks from Kaiming's weights, side by side.
    x = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    y = torch.tensor([0.0, 1, 1, 0])
    weights = [normal(100, 2, 2, key=1), torch.zeros(100, 1, 2), normal(100, 2, 1, key=2)]
    weights = [w.requires_grad_() for w in (*weights, torch.zeros(100, 1, 1))]  # 2 / fan-in is 1
    optimizer = torch.optim.SGD(weights, lr=0.2)
    for _ in range(500):
        first, bias, second, last = weights
        out = (F.relu(x @ first + bias) @ second + last).squeeze(2)
        loss = (out - y).square().mean(1)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    assert int((loss < 0.001).sum()) > 10  # some find the minimum of 0,
    assert int((loss > 0.1).sum()) > 50  # and most stay in a poor one
