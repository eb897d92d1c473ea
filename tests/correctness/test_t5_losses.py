"""Traps T5 of `docs/correctness.md`: losses and probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Categorical

from pellucid import Engine, Recipe, Run, epochs, good, load, train
from pellucid.assemble import Assembled, assemble
from pellucid.augment.pipeline import AugmentSpec
from pellucid.checks.check import Check
from pellucid.checks.preflight_learning import overfit
from pellucid.checks.preflight_start import look, output, start_loss
from pellucid.cli.predict import predict as predict_command
from pellucid.data.digits import Digits
from pellucid.engine import EngineSpec
from pellucid.figures.curves import curves
from pellucid.inference import Classifier
from pellucid.metrics.accuracy import measure
from pellucid.models.init import Bad
from pellucid.models.mlp import MLPSpec
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Constant
from pellucid.optim.specs import Adam, Optimizing
from pellucid.seeds import generator
from pellucid.values import Metrics, Predictions

CPU = EngineSpec(device="cpu")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(*shape: int, key: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(0, "test", key))


def gradient(function: Callable[[Tensor], Tensor], x: Tensor | list[float]) -> Tensor:
    x = torch.as_tensor(x, dtype=torch.float64).detach().clone().requires_grad_()
    return torch.autograd.grad(function(x), x)[0]


def small(**changes: object) -> Recipe:
    """A perceptron on digits: one epoch of 36 steps."""
    return good("digits").with_(
        model=MLPSpec(hidden=(64,)), augment=AugmentSpec(), optimizer=Adam(lr=2e-3),
        schedule=Constant(), length=epochs(1), engine=CPU,
    ).with_(**changes)  # fmt: skip


def ready(recipe: Recipe) -> tuple[Engine, Assembled]:
    engine = Engine.start(recipe.engine)
    return engine, assemble(recipe, engine)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(small(), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def model(run: Run) -> Classifier:
    return load(run.path, "cpu")


@pytest.fixture(scope="module")
def table(model: Classifier) -> Predictions:
    """What the trained network says of 1,000 test digits."""
    return model.predict_set(Digits().load().test)


class WithSoftmax:
    """A network that ends with a softmax."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(MLPSpec(hidden=(64,)).build(shape, classes), nn.Softmax(1))


def test_trap_T5_1_softmax_before_cross_entropy_has_a_floor():
    floor = math.log(math.e + 9) - 1
    assert floor == pytest.approx(1.4612, abs=5e-5)
    right = torch.eye(10, dtype=torch.float64)
    targets = torch.arange(10)
    for sure in (1.0, 10.0, 1000.0):
        assert float(F.cross_entropy((sure * right).softmax(1), targets)) >= floor - 1e-12
    assert float(F.cross_entropy((1000 * right).softmax(1), targets)) == pytest.approx(floor)
    assert float(F.cross_entropy(1000 * right, targets)) == 0

    engine, built = ready(small(model=WithSoftmax()))
    check = output(look(built, engine, 100))
    assert check.verdict == "failed"
    assert "each row sums to 1: probabilities" in check.measured
    assert "cannot go below 1.46" in check.advice
    engine, built = ready(small())
    assert output(look(built, engine, 100)).verdict == "ok"


def test_trap_T5_2_softmax_outputs_need_not_be_the_chance_to_be_right(
    model: Classifier, table: Predictions
):
    right = (table.labels == table.targets).double()

    def confidence(scale: float) -> float:
        p = (scale * table.logits.double()).softmax(1)
        torch.testing.assert_close(p.sum(1), torch.ones(1000).double())
        return float(p.max(1).values.mean())

    # The same answers, as often right, at any confidence from 10 % to 100 %.
    assert confidence(0.001) < 0.2 < float(right.mean()) < 0.95 < confidence(20.0)

    noise = torch.randint(
        256, (200, 1, 28, 28), dtype=torch.uint8, generator=generator(0, "test")
    )  # no digit at all
    assert float(model(noise).detach().softmax(1).max(1).values.median()) > 0.5


def test_trap_T5_3_the_loss_starts_at_the_logarithm_of_the_number_of_classes():
    for classes in (2, 10, 1000):
        even = F.cross_entropy(torch.zeros(5, classes, dtype=torch.float64), torch.arange(5) % 2)
        assert float(even) == pytest.approx(math.log(classes))

    def start(recipe: Recipe) -> Check:
        engine, built = ready(recipe)
        return start_loss(look(built, engine, 300))

    for recipe in (good("digits").with_(engine=CPU), small()):
        check = start(recipe)
        assert check.verdict == "ok"
        assert "ln 10 = 2.303" in check.expected
    assert start(small(init=Bad(std=1.0))).verdict == "failed"


def test_trap_T5_4_cross_entropy_stops_at_the_entropy_of_the_target():
    smooth = torch.full((10,), 0.01, dtype=torch.float64)
    smooth[3] = 0.91
    floor = float(-(smooth * smooth.log()).sum())
    assert floor == pytest.approx(0.5003, abs=5e-5)

    def loss(z: Tensor) -> Tensor:
        return F.cross_entropy(z[None], torch.tensor([3]), label_smoothing=0.1)

    best = smooth.log()
    assert float(loss(best)) == pytest.approx(floor, rel=1e-12)
    assert float(gradient(loss, best).abs().max()) < 1e-12
    for key in range(50):
        assert float(loss(best + 0.3 * normal(10, key=key))) > floor
    assert float(loss(1000 * F.one_hot(torch.tensor(3), 10).double())) > 10  # too sure
    sure = 1000 * torch.eye(10).double()
    assert float(F.cross_entropy(sure, torch.arange(10))) == 0  # one-hot targets

    recipe = small(loss=CrossEntropy(label_smoothing=0.1))
    engine, built = ready(recipe)
    assert "(floor 0.500)" in overfit(recipe, engine, built, steps=2).measured


def test_trap_T5_5_cross_entropy_is_kl_plus_the_entropy_of_the_target():
    p, z = normal(10).softmax(0), normal(10, key=1)

    def cross(z: Tensor) -> Tensor:
        return F.cross_entropy(z[None], p[None])

    def kl(z: Tensor) -> Tensor:
        return F.kl_div(z.log_softmax(0)[None], p[None], reduction="batchmean")

    entropy = Categorical(p).entropy()
    assert float(entropy) > 0.5
    torch.testing.assert_close(cross(z) - kl(z), entropy)
    torch.testing.assert_close(gradient(cross, z), gradient(kl, z))
    torch.testing.assert_close(gradient(kl, z), z.softmax(0) - p)


def test_trap_T5_6_kl_is_no_distance_and_kl_div_has_its_own_order():
    def kl(p: Tensor, q: Tensor) -> float:
        return float((p * (p / q).log()).sum())

    a, b, c = (torch.tensor([x, 1 - x], dtype=torch.float64) for x in (0.5, 0.25, 0.01))
    assert kl(a, c) > 2 * kl(c, a)  # by no means symmetric
    assert kl(a, c) > kl(a, b) + kl(b, c)  # the detour is shorter

    p, q = (normal(4, 10, key=key).softmax(1) for key in range(2))
    right = sum(kl(*pair) for pair in zip(p, q, strict=True)) / 4
    assert float(F.kl_div(q.log(), p, reduction="batchmean")) == pytest.approx(right)
    assert float(F.kl_div(q, p, reduction="batchmean")) < 0  # no logarithm: no KL
    other = float(F.kl_div(p.log(), q, reduction="batchmean"))
    assert abs(other - right) > 0.01  # the target is the second
    with pytest.warns(UserWarning, match="batchmean"):
        mean = F.kl_div(q.log(), p, reduction="mean")
    assert float(mean) == pytest.approx(right / 10)


def test_trap_T5_7_a_weighted_mean_divides_by_the_weights():
    logits, targets = normal(5, 3), torch.tensor([0, 0, 0, 1, 2])
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    each = F.cross_entropy(logits, targets, reduction="none")
    torchs = F.cross_entropy(logits, targets, weights)
    torch.testing.assert_close(torchs, (weights[targets] * each).sum() / (3 + 2 + 4))
    assert abs(float(torchs - (weights[targets] * each).sum() / 5)) > 0.01
    rare = targets == 2
    torch.testing.assert_close(
        F.cross_entropy(logits[rare], targets[rare], weights), each[rare].mean()
    )  # in a batch of one class, its weight cancels

    # Ours: mean weight 1 over the training images (here 3, 1 and 1), divided by the images.
    counts = torch.bincount(targets)
    ours = CrossEntropy(class_weights=(1.0, 2.0, 4.0)).build(counts, torch.device("cpu"))
    scaled = weights * 5 / 9
    torch.testing.assert_close(
        ours(logits.float(), targets).double(), (scaled[targets] * each).sum() / 5
    )
    one = ours(logits[rare].float(), targets[rare]).double()
    torch.testing.assert_close(one, (scaled[2] * each[rare]).mean())
    said = " ".join(CrossEntropy.build.__doc__.split())
    assert "divided by the number of images, not by the sum of their weights" in said


def test_trap_T5_8_the_mean_of_squared_errors_is_over_all_numbers():
    guess, y = normal(4, 3), normal(4, 3, key=1)
    torch.testing.assert_close(F.mse_loss(guess, y), (guess - y).square().sum() / (4 * 3))
    per_sample = (guess - y).square().sum(1).mean()
    torch.testing.assert_close(per_sample, 3 * F.mse_loss(guess, y))
    found = gradient(lambda g: F.mse_loss(g, y), guess)
    torch.testing.assert_close(found, 2 * (guess - y) / (4 * 3))
    textbook = gradient(lambda g: (g - y).square().sum() / 2, guess)
    torch.testing.assert_close(textbook, guess - y)


def test_trap_T5_9_squared_error_of_a_sigmoid_is_not_convex_and_forgives_sure_errors():
    def squared(z: Tensor) -> Tensor:
        return (torch.sigmoid(z) - 1).square().sum()

    def cross(z: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(z, torch.ones_like(z), reduction="sum")

    z = torch.linspace(-6, 6, 121, dtype=torch.float64)
    bend = {f: gradient(f, z).diff() for f in (squared, cross)}  # of the slope
    assert bool((bend[squared] < 0).any())
    assert bool((bend[squared] > 0).any())
    assert bool((bend[cross] > 0).all())
    wrong = [-10.0]  # sure that it is not, and it is
    assert abs(float(gradient(squared, wrong))) == pytest.approx(9.1e-5, rel=0.01)
    assert abs(float(gradient(cross, wrong))) > 0.9999


def test_trap_T5_10_accuracy_has_no_slope_to_follow(table: Predictions):
    logits = table.logits.double().requires_grad_()
    assert not (logits.argmax(1) == table.targets).double().mean().requires_grad

    plain = logits.detach()
    scores = {}
    for h in (0.0, 1e-6, 1e-5):
        moved = Predictions(plain + h * normal(1000, 10), table.targets, table.index, table.classes)
        scores[h] = measure(moved)
    assert len({metrics.correct for metrics in scores.values()}) == 1  # flat,
    assert len({metrics.loss for metrics in scores.values()}) == 3  # while the loss moves
    far = Predictions(plain + 3 * normal(1000, 10), table.targets, table.index, table.classes)
    assert measure(far).correct != scores[0.0].correct  # and then a jump


def test_trap_T5_11_separable_data_have_no_best_weights():
    x = torch.tensor([[-2.0, 1], [-1, -1], [1, 1], [2, -1]], dtype=torch.float64)
    y = torch.tensor([0.0, 0, 1, 1], dtype=torch.float64)

    def norms(weight_decay: float) -> list[float]:
        w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = torch.optim.SGD([w], lr=1.0, weight_decay=weight_decay)
        seen = []
        for step in range(1, 401):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(x @ w, y).backward()
            optimizer.step()
            if step in (25, 100, 400):
                seen.append(float(w.detach().norm()))
        return seen

    free = norms(0.0)
    assert free[1] - free[0] == pytest.approx(1, abs=0.05)  # four times as long, and one more,
    assert free[2] - free[1] == pytest.approx(1, abs=0.05)  # for ever
    held = norms(0.1)
    assert held[2] == pytest.approx(held[1], rel=1e-9)


def test_trap_T5_12_logarithms_are_taken_of_logits():
    z = torch.tensor([200.0, 0.0])
    assert float(z.softmax(0).log()[1]) == -math.inf
    assert bool(gradient(lambda x: x.float().softmax(0).log()[1], z).isnan().any())
    assert F.log_softmax(z, 0).tolist() == [0, -200]
    assert gradient(lambda x: F.log_softmax(x, 0)[1], z).tolist() == [-1, 1]

    one, no = torch.tensor([200.0]), torch.zeros(1)
    cut = F.binary_cross_entropy(torch.sigmoid(one), no)
    assert float(cut) == 100  # PyTorch cuts the logarithm off at -100,
    lost = gradient(lambda x: F.binary_cross_entropy(torch.sigmoid(x.float()), no), one)
    assert float(lost) == 0  # and nothing is learned
    assert float(F.binary_cross_entropy_with_logits(one, no)) == 200
    kept = gradient(lambda x: F.binary_cross_entropy_with_logits(x.float(), no), one)
    assert float(kept) == 1


def test_trap_T5_13_entropies_are_in_nats(run: Run):
    coin = Categorical(torch.tensor([0.5, 0.5])).entropy()
    assert float(coin) == pytest.approx(math.log(2))  # 1 bit
    loss = F.cross_entropy(torch.zeros(1, 8), torch.tensor([0]))
    assert float(loss) == pytest.approx(math.log(8))
    assert float(loss) / math.log(2) == pytest.approx(3)  # bits

    assert "nats" in curves(run.rows("metrics.jsonl"), "a run", 36, 36).axes[0].get_title()
    assert "in nats" in Metrics.__doc__
    assert "in nats" in CrossEntropy.__doc__


def test_trap_T5_14_l2_is_three_things():
    v = torch.tensor([3.0, 4.0])
    assert float(F.mse_loss(v, torch.zeros(2))) == 12.5  # the loss: mean of squares
    assert float(torch.linalg.vector_norm(v)) == 5  # the norm: a root
    w = nn.Parameter(v.clone())
    w.grad = torch.zeros(2)
    torch.optim.SGD([w], lr=1.0, weight_decay=0.1).step()  # the penalty, 0.05 times 25
    torch.testing.assert_close(w.detach(), v - gradient(lambda x: 0.05 * x @ x, v).float())
    said = " ".join(Optimizing.__doc__.split())
    assert "L2: added to the gradient as `weight_decay * weight`" in said  # which one is meant


def test_trap_T5_15_the_angle_is_a_metric_and_one_minus_cosine_is_not():
    a, b, c = (
        torch.tensor([math.cos(t), math.sin(t)], dtype=torch.float64)
        for t in (0, math.pi / 4, math.pi / 2)
    )

    def loose(u: Tensor, v: Tensor) -> float:
        return 1 - float(F.cosine_similarity(u, v, dim=0))

    assert loose(a, c) > loose(a, b) + loose(b, c) + 0.4
    points = normal(60, 4)
    cosines = F.cosine_similarity(points[:, None], points[None], dim=2).clamp(-1, 1)
    angles, apart = cosines.acos(), 1 - cosines

    def worst(d: Tensor) -> float:
        """Return the largest excess of d(i, k) over d(i, j) + d(j, k)."""
        return float((d[:, None, :] - d[:, :, None] - d[None]).max())

    assert worst(angles) < 1e-7
    assert worst(apart) > 0.4


def test_trap_T5_16_a_distance_has_no_gradient_at_0():
    at = torch.zeros(3, dtype=torch.float64)

    def by_hand(x: Tensor) -> Tensor:
        return x.square().sum().sqrt()

    def guarded(x: Tensor) -> Tensor:
        return (x.square().sum() + 1e-12).sqrt()

    assert bool(gradient(by_hand, at).isnan().all())
    assert gradient(guarded, at).tolist() == [0, 0, 0]
    assert gradient(torch.linalg.vector_norm, at).tolist() == [0, 0, 0]
    torch.testing.assert_close(
        gradient(torch.linalg.vector_norm, at + 2), torch.full_like(at, 1 / math.sqrt(3))
    )


def test_trap_T5_17_logits_are_logarithms_up_to_a_constant(model: Classifier, table: Predictions):
    z = table.logits.double()
    constant = z - z.log_softmax(1)
    torch.testing.assert_close(constant, constant[:, :1].expand_as(z))
    torch.testing.assert_close((z + 7).softmax(1), z.softmax(1))
    as_shares = z / z.sum(1, keepdim=True)  # "unnormalised probabilities", normalised
    assert bool((as_shares < 0).any())
    assert float((as_shares - z.softmax(1)).abs().max()) > 0.5
    assert bool((z < 0).any())
    assert float((z.sum(1) - 1).abs().min()) > 1e-6
    assert "Return logits" in Classifier.forward.__doc__


def test_trap_T5_17_the_command_shows_probabilities_not_logits(
    run: Run, model: Classifier, tmp_path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "digit.png"
    Image.fromarray(Digits().load().test.pixels(torch.tensor([0]))[0, 0].numpy()).save(file)
    predict_command(str(run.path), str(file), json=True, device="cpu")
    (shown,) = json.loads(capsys.readouterr().out)["predictions"]
    p = model.predict([file]).logits[0].double().softmax(0)
    assert list(shown["probabilities"].values()) == pytest.approx(p.tolist(), abs=1e-6)


def test_trap_T5_18_only_differences_of_logits_count():
    behind = torch.tensor([-1.0] + [-9.0] * 9, dtype=torch.float64)
    assert float(behind.softmax(0)[0]) == pytest.approx(0.997, abs=5e-4)
    ahead = torch.tensor([5.0] + [9.0] * 9, dtype=torch.float64)
    assert float(ahead.softmax(0)[0]) == pytest.approx(0.002, abs=5e-4)


def test_trap_T5_19_two_classes_of_softmax_are_a_sigmoid():
    z = normal(100, 2)
    torch.testing.assert_close(z.softmax(1)[:, 0], torch.sigmoid(z[:, 0] - z[:, 1]))
    labels = (normal(100, key=1) > 0).long()
    torch.testing.assert_close(
        F.cross_entropy(z, labels),
        F.binary_cross_entropy_with_logits(z[:, 1] - z[:, 0], labels.double()),
    )

    z = torch.tensor([[4.0, 3.0, -5.0]], dtype=torch.float64)  # the first two are both there
    assert (torch.sigmoid(z) > 0.9).tolist() == [[True, True, False]]
    assert int((z.softmax(1) > 0.9).sum()) == 0  # a softmax has to share
    both = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)
    each = [F.binary_cross_entropy_with_logits(z[0, k], both[0, k]) for k in range(3)]
    torch.testing.assert_close(
        F.binary_cross_entropy_with_logits(z, both), torch.stack(each).mean()
    )


def test_trap_T5_20_softmax_shows_the_difference_as_a_ratio():
    p = torch.tensor([0.1, 0.0], dtype=torch.float64).softmax(0)
    assert p.tolist() == pytest.approx([0.525, 0.475], abs=5e-4)
    z = normal(10)
    p = z.softmax(0)
    torch.testing.assert_close(p[:, None] / p[None], (z[:, None] - z[None]).exp())
    lead = [float(torch.tensor([d, 0.0]).softmax(0).diff().abs()) for d in (0.1, 1.0, 8.0)]
    assert lead[0] < 0.1  # narrower than before,
    assert lead[2] < 8  # as every lead of logits is: a share is at most 1
