"""Attribution: what each method promises, its tests, and captum as an oracle."""

from __future__ import annotations

import math

import captum.attr
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from pellucid.data.digits import Digits
from pellucid.inspection import attribution as module
from pellucid.inspection.attribution import (
    Question,
    cam,
    grad_cam,
    gradient,
    gradient_x_input,
    integrated_gradients,
    last_maps,
    methods,
    occlusion,
    pooled_head,
    settled_gradients,
)
from pellucid.inspection.attribution_checks import (
    by_chance,
    constant,
    curves,
    edges,
    likeness,
    randomised,
    spearman,
)
from pellucid.inspection.trace import looking, trace
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.models.resnet import ResNet
from pellucid.seeds import generator, reseed
from pellucid.views import attribution as view
from pellucid.views.options import Options
from pellucid.views.subject import Subject


def question(model: nn.Module | None = None, shape: tuple[int, ...] = (1, 28, 28)) -> Question:
    reseed(0, "init")
    draws = generator(0, "image")
    image = torch.randn(1, *shape, generator=draws)
    return Question((model or MnistCNN((1, 28, 28), 10)).eval(), image, -torch.ones(1, *shape), 3)


def resnet() -> nn.Module:
    reseed(0, "init")
    model = ResNet((3, 16, 16), 10, depth=8, width=4).eval()
    for block in model.modules():
        if isinstance(block, nn.BatchNorm2d):
            nn.init.normal_(block.weight, 1, 0.2, generator=generator(0, "scale"))
            nn.init.normal_(block.running_mean, 0, 0.2, generator=generator(0, "mean"))
    return model


@pytest.mark.parametrize("kind", ["mnist-cnn", "resnet"])
def test_view_A9_agrees_with_captum(kind: str) -> None:
    q = question() if kind == "mnist-cnn" else question(resnet(), (3, 16, 16))
    model, x, t = q.model, q.image, q.target
    expected = captum.attr.Saliency(model).attribute(x.clone().requires_grad_(), t, abs=False)
    assert torch.allclose(gradient(q), expected[0], atol=1e-6)
    expected = captum.attr.InputXGradient(model).attribute(x.clone().requires_grad_(), t)
    assert torch.allclose(gradient_x_input(q), expected[0].detach(), atol=1e-6)
    expected = captum.attr.IntegratedGradients(model).attribute(
        x, q.baseline, t, n_steps=32, method="riemann_middle"
    )
    assert torch.allclose(integrated_gradients(q, 32), expected[0].float(), atol=1e-5)
    size = (x.shape[1], 4, 4)
    expected = captum.attr.Occlusion(model).attribute(
        x, size, strides=(x.shape[1], 2, 2), baselines=q.baseline, target=t
    )
    assert torch.allclose(occlusion(q, 4, 2), expected[0, 0].float(), atol=1e-5)


@pytest.mark.parametrize("kind", ["mnist-cnn", "resnet"])
def test_view_A9_grad_cam_agrees_with_captum(kind: str) -> None:
    q = question() if kind == "mnist-cnn" else question(resnet(), (3, 16, 16))
    layer = q.model.conv2 if kind == "mnist-cnn" else q.model.groups[2][0].norm2  # type: ignore[index,union-attr]
    with looking(q.model), torch.no_grad():
        name = {m: n for n, m in q.model.named_modules()}[layer]  # type: ignore[index]
        op = next(op.index for op in trace(q.model, q.image) if op.layer == name)
    for relu in (False, True):
        expected = captum.attr.LayerGradCam(q.model, layer).attribute(
            q.image, q.target, relu_attributions=relu
        )
        assert torch.allclose(grad_cam(q, op)[relu], expected[0, 0].detach(), atol=1e-6)


def test_view_A9_integrated_gradients_add_up_and_more_steps_are_better() -> None:
    gaps: dict[int, list[float]] = {8: [], 256: []}
    reseed(0, "init")
    model = MnistCNN((1, 28, 28), 10).eval()
    data = Digits().load().train
    for i in range(0, 5000, 250):
        x = data.pixels(torch.tensor([i])).float() / 127.5 - 1
        q = Question(model, x, -torch.ones_like(x), int(data.labels[i]))
        change = float((q.logits(q.image) - q.logits(q.baseline))[0])
        for steps, found in gaps.items():
            found.append(abs(float(integrated_gradients(q, steps).sum()) - change))
        assert gaps[256][-1] <= max(1e-3, 0.01 * abs(change))
    assert sum(gaps[256]) < sum(gaps[8])
    assert len(gaps[8]) == 20


def test_view_A9_without_biases_gradient_times_input_is_the_logit() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(4 * 169, 20, bias=False), nn.ReLU(), nn.Linear(20, 10, bias=False),
    )  # fmt: skip
    q = question(net)
    assert float(gradient_x_input(q).sum()) == pytest.approx(float(q.logits(q.image)[0]), abs=1e-5)


def test_view_A9_cam_of_a_mean_and_a_linear_layer() -> None:
    q = question(resnet(), (3, 16, 16))
    with looking(q.model):
        pooled = pooled_head(q.model, q.image)
        raw, positive = grad_cam(q, pooled.op)
        found = last_maps(q.model, q.image)
    assert found is not None
    assert found[1] == pooled.op
    values = cam(pooled, q.target)
    assert torch.allclose(raw * values.numel(), values, atol=1e-5)
    assert torch.equal(positive, raw.clamp_min(0))
    logit = float(values.mean() + pooled.bias[q.target])
    assert logit == pytest.approx(float(q.logits(q.image)[0]), abs=1e-5)


def linear() -> tuple[Question, Tensor]:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    q = question(net, (1, 8, 8))
    weight = net[1].weight[q.target].detach().reshape(8, 8)  # type: ignore[index]
    return q, weight * (q.image - q.baseline)[0, 0]


def test_view_A9_a_linear_model_is_deleted_fastest_by_its_contributions() -> None:
    q, contributions = linear()
    best = curves(q, contributions)
    assert best.deletion < by_chance(q).deletion
    assert best.insertion > by_chance(q).insertion
    for i in range(50):
        other = curves(q, torch.rand(8, 8, generator=generator(0, "order", i)))
        assert best.deletion < other.deletion
        assert best.insertion > other.insertion
    worst = curves(q, -contributions)
    assert worst.deletion > by_chance(q).deletion
    assert torch.allclose(integrated_gradients(q)[0], contributions, atol=1e-5)


def test_view_A9_no_gradient_is_no_evidence_and_never_nan() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 676, 10))
    nn.init.constant_(net[0].bias, -1e6)  # type: ignore[arg-type]
    data = Digits().load().train.part(torch.arange(3))
    found = view.compute(Subject.of(net, data), Options())
    for name, one in found.numbers["methods"].items():
        assert bool(one["map"].isfinite().all())
        if name.startswith("edges"):
            continue
        assert one["evidence"] in ("no evidence", "no positive evidence")
        assert float(one["map"].abs().max()) == 0
    assert found.numbers["methods"]["Grad-CAM"]["evidence"] == "no positive evidence"


def test_view_A9_a_heat_map_that_knows_no_model_fails_the_randomisation_test() -> None:
    data = Digits().load().train.part(torch.arange(3))
    reseed(0, "init")
    found = view.compute(Subject.of(MnistCNN((1, 28, 28), 10), data), Options()).numbers["methods"]
    baseline = found["edges of the image (no model)"]
    assert baseline["passes"]["depends on weights"] is False
    assert baseline["randomised"] == pytest.approx(1)


def test_view_A9_randomised_weights_are_the_same_weights_elsewhere() -> None:
    model = MnistCNN((1, 28, 28), 10)
    other = randomised(model)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
    assert not torch.equal(model.fc1.weight, other.fc1.weight)  # type: ignore[union-attr,arg-type]


def test_view_A9_rank_correlation_is_that_of_scipy_with_ties() -> None:
    a = torch.randint(0, 5, (200,), generator=generator(0, "a")).float()
    b = a + torch.randint(0, 4, (200,), generator=generator(0, "b")).float()
    assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert math.isnan(spearman(a, torch.ones(200)))
    assert constant(torch.ones(3, 3))
    assert not constant(edges(question().image))


def test_view_A9_places_where_both_maps_are_0_do_not_count() -> None:
    a, b = torch.zeros(10, 10), torch.zeros(10, 10)
    a[0], b[0] = torch.arange(10.0) + 1, -torch.arange(10.0) - 1
    b[0] = b[0].flip(0)
    assert spearman(a.abs(), b.abs()) > 0.5
    assert likeness(a, b) == pytest.approx(-1)


def test_view_A9_each_model_gets_the_methods_it_can_have() -> None:
    with looking(question().model):
        assert [n for n, _ in methods(question())][-1] == "Grad-CAM"
    q = question(resnet(), (3, 16, 16))
    with looking(q.model):
        assert [n for n, _ in methods(q)][-2:] == ["Grad-CAM", "CAM"]
    q, _ = linear()
    with looking(q.model):
        assert [n for n, _ in methods(q)] == [
            "gradient", "gradient x input", "integrated gradients", "occlusion",
        ]  # fmt: skip


def subject(model: nn.Module | None = None) -> Subject:
    reseed(0, "init")
    data = Digits().load().train.part(torch.arange(2))
    return Subject.of(model or MnistCNN((1, 28, 28), 10), data)


class Sharp(nn.Module):
    """A network whose logits are large, so that its softmax is saturated."""

    def __init__(self) -> None:
        super().__init__()
        self.net = MnistCNN((1, 28, 28), 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = 30 * self.net(x)
        return out


def test_view_A9_mutant_the_softmax_instead_of_the_logit(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_softmax(self: Question, images: Tensor) -> Tensor:
        x = images.detach().clone().requires_grad_()
        share = self.model(x).softmax(1)[:, self.target].sum()
        return torch.autograd.grad(share, x)[0]

    monkeypatch.setattr(Question, "gradients", of_softmax)
    data = view.compute(subject(Sharp()), Options())
    assert not data.ok
    assert not data.proofs[0].ok
    assert not data.proofs[1].ok


def test_view_A9_where_the_way_has_many_bends_more_steps_are_taken_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STEPS", 2)
    one = subject(Sharp())
    data = view.compute(one, Options())
    assert data.ok, [proof.line for proof in data.proofs]
    steps = int(data.proofs[0].identity.split(", ")[1].removesuffix(" steps").replace(",", ""))
    assert steps > 2
    assert 2 * 3 ** round(math.log(steps / 2, 3)) == steps
    q = question()
    few, taken = settled_gradients(q, 0.0)
    assert taken == 1458  # the last of 2, 6, 18, ... that is not above the most
    assert torch.allclose(few, integrated_gradients(q, taken), atol=1e-5)


def test_view_A9_mutant_left_ends_instead_of_middles_and_no_baseline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(view, "settled_gradients", lambda q, gap: (gradient_x_input(q), 1))
    assert not view.compute(subject(), Options()).ok


def test_view_A9_mutant_grad_cam_that_adds_up_instead_of_averaging(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pellucid.models.resnet import ResNet

    one = subject(ResNet((1, 28, 28), 10, depth=8, width=4))
    assert view.compute(one, Options()).ok
    plain = module.grad_cam
    monkeypatch.setattr(view, "grad_cam", lambda q, op: tuple(49 * m for m in plain(q, op)))
    data = view.compute(one, Options())
    assert [p.ok for p in data.proofs] == [True, True, True, False]


def test_view_A9_nothing_is_computed_in_training_mode() -> None:
    net = MnistCNN((1, 28, 28), 10, dropout=0.9)
    one = subject(net)
    net.train()
    a = view.compute(one, Options())
    b = view.compute(one, Options())
    assert a.plain() == b.plain()
