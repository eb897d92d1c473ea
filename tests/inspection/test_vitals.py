"""Vital signs: what they say is so, and taking them leaves no trace."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid import Engine, Recipe
from pellucid.assemble import assemble
from pellucid.inspection.vitals import sample, vitals, weights_of
from pellucid.loop import fit
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.seeds import generator


class Three(nn.Module):
    """Linear, functional ReLU, linear; one more layer that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(2, 2)
        self.second = nn.Linear(6, 3)
        self.first = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.second(F.relu(self.first(x.flatten(1))))
        return logits


def images(n: int = 16, size: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, 1, 2, size // 2, generator=generator(seed, "images"))


def labels(n: int = 16, classes: int = 3) -> Tensor:
    return torch.arange(n) % classes


def taken(model: nn.Module, x: Tensor, y: Tensor | None = None, step: int = 1, **keys):  # type: ignore[no-untyped-def]
    return vitals(model, x, labels(len(x)) if y is None else y, step=step, **keys)


class Normed:
    """A small network with batch statistics and dropout."""

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(shape[0], 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3),
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, classes),
        )  # fmt: skip


def test_a_run_is_the_same_bit_for_bit_with_and_without(tiny: Recipe) -> None:
    recipe = tiny.with_(model=Normed())
    engine = Engine.start(recipe.engine)
    plain, watched = assemble(recipe, engine), assemble(recipe, engine)
    expected = [(s.loss, s.grad_norm, s.evaluation) for s in fit(plain.state, plain.task, engine)]
    found = []
    data = sample(watched.task.probe)
    x = watched.task.prepare(data.pixels(torch.arange(len(data))))
    for s in fit(watched.state, watched.task, engine):
        found.append((s.loss, s.grad_norm, s.evaluation))
        taken(watched.state.model, x, data.targets, step=s.index)
    assert found == expected
    for name, tensor in plain.state.model.state_dict().items():
        assert torch.equal(tensor, watched.state.model.state_dict()[name]), name


class Unruly(nn.Module):
    """Draws random numbers in eval mode, moves its statistics there, and refuses to change mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 3)

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(True)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(F.dropout(self.norm(x.flatten(1)), 0.5))
        return logits


def test_no_trace_is_left_even_in_a_model_that_does_what_it_should_not() -> None:
    model = Unruly()
    model.norm.training = False
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    gradients = [p.grad for p in model.parameters()]
    before = copy.deepcopy(model.state_dict())
    modes = [part.training for part in model.modules()]
    stream = torch.get_rng_state()
    taken(model, images())
    assert torch.equal(torch.get_rng_state(), stream)
    assert [part.training for part in model.modules()] == modes
    assert [p.grad for p in model.parameters()] == gradients
    assert all(torch.equal(g, torch.ones_like(g)) for g in gradients if g is not None)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(part._forward_hooks for part in model.modules())


def test_hooks_and_modes_are_put_back_when_the_model_fails() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3), nn.Linear(4, 3))
    with pytest.raises(RuntimeError):
        taken(model, images())
    assert model.training
    assert not any(part._forward_hooks for part in model.modules())


def test_the_gradient_is_the_one_that_backward_gives() -> None:
    model = Three()

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        return 3 * F.cross_entropy(logits, targets, label_smoothing=0.1)

    row = taken(model, images(), loss=loss)
    copied = copy.deepcopy(model).eval()
    logits = copied(images())
    objective = loss(logits, labels())
    objective.backward()
    logits, objective = logits.detach(), objective.detach()
    whole = [p.grad for p in copied.parameters() if p.grad is not None]
    assert row["grad_norm"] == pytest.approx(math.sqrt(sum(float((g**2).sum()) for g in whole)))
    for layer in row["layers"][:2]:
        own = dict(copied.named_modules())[layer["name"]]
        norm = math.sqrt(
            sum(float((p.grad**2).sum()) for p in own.parameters() if p.grad is not None)
        )
        assert layer["grad"] == pytest.approx(norm), layer["name"]
    assert row["objective"] == pytest.approx(float(objective))
    assert row["loss"] == pytest.approx(float(F.cross_entropy(logits, labels())))
    assert row["chance"] == math.log(3)


def test_layers_stand_in_the_order_of_the_forward_pass_and_unused_ones_last() -> None:
    row = taken(Three(), images())
    assert [(r["name"], r["used"]) for r in row["layers"]] == [
        ("first", True), ("second", True), ("unused", False),
    ]  # fmt: skip
    assert row["layers"][2]["grad"] is None


def test_change_is_measured_from_the_start_for_each_layer() -> None:
    model = Three()
    start = weights_of(model)
    with torch.no_grad():
        model.first.weight.mul_(1.5)
        model.first.bias.mul_(1.5)
    row = taken(model, images(), start=start)
    changes = {r["name"]: r["change"] for r in row["layers"]}
    assert changes == {"first": pytest.approx(0.5), "second": 0.0, "unused": 0.0}
    first = math.sqrt(sum(float((start[f"first.{k}"] ** 2).sum()) for k in ("weight", "bias")))
    every = math.sqrt(sum(float((w**2).sum()) for w in start.values()))
    assert row["change"] == pytest.approx(0.5 * first / every)
    assert taken(model, images())["change"] is None


def test_weights_that_start_at_0_change_too() -> None:
    model = Three()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    start = weights_of(model)
    assert taken(model, images(), start=start)["change"] == 0
    with torch.no_grad():
        model.first.weight.fill_(0.01)
    row = taken(model, images(), start=start)
    assert [r["change"] for r in row["layers"]] == [pytest.approx(1.0), 0.0, 0.0]


def test_a_unit_with_a_bias_of_minus_a_million_is_dead_and_no_other() -> None:
    net = MnistCNN((1, 28, 28), 10)
    x = torch.randn(64, 1, 28, 28, generator=generator(0, "x"))
    with torch.no_grad():
        for layer in (net.conv1, net.conv2, net.fc1):
            assert layer.bias is not None
            layer.weight.mul_(1e-4)
            layer.bias.fill_(1.0)  # no other unit can be 0
            layer.bias[2] = -1e6
    row = taken(net, x, torch.arange(64) % 10)
    assert [(a["after"], a["units"]) for a in row["activations"]] == [
        ("conv1", 32), ("conv2", 64), ("fc1", 128),
    ]  # fmt: skip
    for entry in row["activations"]:
        assert entry["kind"] == "relu"
        assert entry["dead"] * entry["units"] == pytest.approx(1), entry
        assert entry["zeros"] >= entry["dead"] - 1e-6, entry


def test_a_unit_that_one_image_wakes_is_not_dead() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 1), nn.ReLU(), nn.Linear(1, 3))
    x = torch.zeros(16, 1, 2, 4)
    x[5] = 1.0
    with torch.no_grad():
        model[1].weight.fill_(1.0)
        model[1].bias.fill_(-0.5)
    entry = taken(model, x)["activations"][0]
    assert (entry["dead"], entry["zeros"]) == (0.0, 15 / 16)
    x[5] = 0.0
    assert taken(model, x)["activations"][0]["dead"] == 1.0


def test_units_of_tokens_are_their_last_dimension() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.b(F.relu(self.a(x.flatten(1, 2)))).mean(1)
            return logits

    model = Tokens()
    with torch.no_grad():
        model.a.bias.copy_(torch.tensor([-1e6, 9.0, 9.0, 9.0, 9.0, 9.0]))
    (entry,) = taken(model, images())["activations"]
    assert (entry["units"], entry["dead"]) == (6, pytest.approx(1 / 6))


@pytest.mark.parametrize(
    ("layer", "call", "kind"),
    [
        (nn.ReLU(), F.relu, "relu"),
        (nn.ReLU(inplace=True), torch.relu, "relu"),
        (nn.Sigmoid(), torch.sigmoid, "sigmoid"),
        (nn.Tanh(), torch.tanh, "tanh"),
        (nn.ReLU(), Tensor.relu, "relu"),
    ],
)
def test_modules_and_calls_count_alike(layer: nn.Module, call, kind: str) -> None:  # type: ignore[no-untyped-def]
    class Called(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 6), nn.Linear(6, 3)
            self.act: nn.Module | None = None

        def forward(self, x: Tensor) -> Tensor:
            act = self.act or call
            logits: Tensor = self.b(act(self.a(x.flatten(1))))
            return logits

    model = Called()
    called = taken(model, images())["activations"]
    model.act = layer
    assert taken(model, images())["activations"] == called
    assert [(a["after"], a["kind"], a["units"]) for a in called] == [("a", kind, 6)]


@pytest.mark.parametrize(
    ("layer", "low", "high"), [(nn.Sigmoid(), 0.0, 1.0), (nn.Tanh(), -1.0, 1.0)]
)
def test_saturation_is_the_share_of_values_near_an_end(
    layer: nn.Module, low: float, high: float
) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 8, bias=False), layer, nn.Linear(8, 3))
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(8))
    x = 4 * images()
    out = layer(x.flatten(1))
    edge = 0.02 * (high - low)
    expected = float(((out <= low + edge) | (out >= high - edge)).float().mean())
    assert 0.1 < expected < 0.9
    assert taken(model, x)["activations"][0]["saturated"] == pytest.approx(expected)


def test_the_input_is_what_reaches_the_first_layer_with_weights() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.out = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.out(self.first(255 * x.flatten(1)))
            return logits

    row = taken(Scaled(), images())
    x = 255 * images()
    assert row["input"]["mean"] == pytest.approx(float(x.mean()), rel=1e-4)
    assert row["input"]["std"] == pytest.approx(float(x.std(correction=0)), rel=1e-4)
    assert (row["input"]["min"], row["input"]["max"]) == (float(x.min()), float(x.max()))


def test_probabilities_are_told_from_logits_that_look_alike() -> None:
    logits = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    assert not taken(logits, images())["probabilities"]
    assert taken(nn.Sequential(logits, nn.Softmax(1)), images())["probabilities"]
    assert not taken(nn.Sequential(logits, nn.Sigmoid()), images())["probabilities"]
    assert not taken(nn.Sequential(logits, nn.LogSoftmax(1)), images())["probabilities"]


def test_dropout_in_eval_mode_shows_as_repeat_and_batch_statistics_as_mixing() -> None:
    x = images()
    sound = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8), nn.Linear(8, 3), nn.Dropout(0.5))
    row = taken(sound, x)
    assert (row["repeat"], row["resting"]) == (0.0, [])
    assert row["mixing"] < 1e-5

    class Dropping(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(super().forward(x), 0.5)

    assert taken(Dropping(*sound), x)["repeat"] > 0.1
    batch = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 3)
    )
    row = taken(batch, x)
    assert row["repeat"] == 0.0
    assert row["mixing"] > 0.01


def test_what_is_left_in_grad_and_which_layers_rest() -> None:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 3))
    assert taken(model, images())["leftover"] == 0
    model(images()).square().sum().backward()
    norm = math.sqrt(
        sum(float((p.grad**2).sum()) for p in model.parameters() if p.grad is not None)
    )
    model[1].eval()
    row = taken(model, images())
    assert row["leftover"] == pytest.approx(norm)
    assert row["resting"] == ["1"]
    model[2].p = 0.0
    assert taken(model.eval(), images())["resting"] == ["1"]
    model[2].p = 0.1
    assert taken(model.eval(), images())["resting"] == ["1", "2"]


def test_outputs_of_one_class_show_in_share_and_entropy() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, 100.0, 0.0]))
    row = taken(model, images())
    assert (row["top_share"], row["entropy"]) == (1.0, pytest.approx(0.0, abs=1e-6))
    assert row["accuracy"] == pytest.approx(5 / 16)
    with torch.no_grad():
        model[1].bias.zero_()
    assert taken(model, images())["entropy"] == pytest.approx(math.log(3))


def test_a_row_is_json_and_repeats_even_where_numbers_are_none() -> None:
    model = Three()
    row = taken(model, images(), start=weights_of(model))
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert taken(model, images(), start=weights_of(model)) == row
    with torch.no_grad():
        model.first.weight.fill_(math.nan)
    row = taken(model, images())
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert row["loss"] is None


def test_a_model_without_anything_to_train_has_no_gradient() -> None:
    model = Three().requires_grad_(False)
    row = taken(model, images())
    assert row["grad_norm"] == 0
    assert not any(layer["trained"] for layer in row["layers"])


def test_the_sample_is_spread_over_the_set_and_no_larger(tiny: Recipe) -> None:
    built = assemble(tiny, Engine.start(tiny.engine))
    train = built.splits.train
    assert len(sample(train, 10)) == 10
    assert sample(train, 10).rows.tolist() == [
        int(train.rows[i * len(train) // 10]) for i in range(10)
    ]
    assert sample(train).rows.tolist() == train.rows.tolist()
    assert len(sample(built.splits.test.part(torch.empty(0, dtype=torch.int64)))) == 0
