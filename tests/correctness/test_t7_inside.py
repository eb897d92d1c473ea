"""Traps T7 of `docs/correctness.md`: looking inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from sklearn.manifold import TSNE
from torch import Tensor, nn

from pellucid import good, load, steps, train
from pellucid.data.digits import Digits
from pellucid.inspection.attribution import (
    Question,
    enlarged,
    grad_cam,
    gradient,
    integrated_gradients,
    last_maps,
)
from pellucid.inspection.attribution_checks import DEPENDS, likeness, randomised
from pellucid.inspection.excite import score
from pellucid.inspection.filters import first_filters, shuffled, structure
from pellucid.inspection.trace import looking, trace
from pellucid.models.mlp import MLP
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.plan import Duration
from pellucid.recipe import RecordSpec
from pellucid.seeds import generator, reseed
from pellucid.values import ImageSet
from pellucid.views.catalogue import VIEWS, find_view
from pellucid.views.options import Options
from pellucid.views.subject import Subject, initial_model, of_run

SOBEL = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """30 steps on digits: enough for most of them to be right."""
    recipe = good("digits").with_(
        length=steps(30), evaluate=Duration.parse("15 steps"), record=RecordSpec(snapshots=3)
    )
    return of_run(train(recipe, tmp_path_factory.mktemp("runs")), device="cpu")


def cnn(seed: int = 0) -> nn.Module:
    reseed(seed, "init")
    return MnistCNN((1, 28, 28), 10).eval()


def digits() -> ImageSet:
    data = Digits().load().train
    return data.part(torch.arange(0, 5000, 50))


def question(model: nn.Module, target: int = 3) -> Question:
    image = torch.rand(1, 1, 28, 28, generator=generator(0, "image"))
    return Question(model, image, torch.zeros_like(image), target)


def stretched(weights: Tensor) -> Tensor:
    """Each filter by itself from 0 to 1."""
    low, high = weights.amin((1, 2, 3), keepdim=True), weights.amax((1, 2, 3), keepdim=True)
    return (weights - low) / (high - low)


def test_trap_T7_1_filters_share_one_scale_around_0():
    """A filter, a hundredth of it and one without negative weights look alike if stretched."""
    every = torch.stack([SOBEL, SOBEL / 100, SOBEL + 2])[:, None]
    looks = stretched(every)
    assert torch.allclose(looks[0], looks[1], atol=1e-6)
    assert torch.allclose(looks[0], looks[2], atol=1e-6)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 676, 10)
    )
    with torch.no_grad():
        net[0].weight.copy_(every)  # type: ignore[operator, union-attr]
    view = find_view("filters")
    data = view.compute(Subject.of(net, digits()), Options())
    shown = [
        image for axis in view.draw(data).axes for image in axis.get_images() if axis.get_title()
    ]
    assert shown
    for image in shown:
        assert image.get_clim() == (-4.0, 4.0)


def test_trap_T7_2_only_the_first_layer_lives_in_pixel_space():
    first = first_filters(cnn(), torch.zeros(1, 1, 28, 28))
    assert first.weights.shape[1] == 1
    deeper = [p for p in cnn().parameters() if p.dim() == 4][1]
    assert deeper.shape[1] > 3  # no picture has that many colours
    assert find_view("patches").name == "patches"  # what excites a deeper unit, as image patches


def test_trap_T7_3_only_differences_between_classes_matter():
    """The same vector added to the weights of all classes changes them all, and no probability."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).double()
    x = torch.rand(20, 1, 28, 28, generator=generator(0, "x"), dtype=torch.float64)
    before, w = net(x).softmax(1).detach(), net[1].weight.detach().clone()
    with torch.no_grad():
        net[1].weight += torch.randn(784, generator=generator(1, "x"), dtype=torch.float64)
    assert (net[1].weight - w).abs().max() > 1
    assert torch.allclose(net(x).softmax(1), before, atol=1e-9)
    shown = find_view("classes").compute(Subject.of(cnn(), digits()), Options()).numbers["weights"]
    assert float(shown.sum(0).abs().max()) < 1e-9  # their mean over the classes is taken away
    assert float(shown.abs().max()) > 0.01


def test_trap_T7_4_structure_is_tested_against_shuffles(subject: Subject):
    drawn = torch.randn(200, 1, 3, 3, generator=generator(0, "filters"))
    assert 0.01 < float((structure(drawn) < 0.05).double().mean()) < 0.10
    data = find_view("filters").compute(subject, Options())
    assert set(data.numbers["sets"]) == {"trained", "at the start", "shuffled"}
    assert any("By chance one in twenty" in note for note in data.notes)


def test_trap_T7_5_excitement_is_not_effect():
    """The unit that answers most to every image is one that nothing listens to."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )
    with torch.no_grad():
        net[0].bias[2] += 5  # type: ignore[operator, index]
        net[4].weight[:, 2] = 0  # type: ignore[index]
    data = digits()
    held = Subject.of(net, data)
    maps = find_view("excite").compute(held, Options(count=50)).numbers
    assert int(maps["mean"].argmax()) == 2
    worth = find_view("ablation").compute(held, Options(layer="0")).numbers
    assert float(worth["zero"][2].abs().max()) == 0
    notes = find_view("excite").compute(held, Options(count=50)).notes
    assert "Excitement is not effect: see the view ablation." in notes


def test_trap_T7_6_maps_are_of_the_logit_not_of_the_probability():
    net = cnn()
    with torch.no_grad():
        list(net.parameters())[-1].copy_(torch.tensor([60.0] + 9 * [0.0]))  # it is very sure
    q = question(net, 0)
    assert float(net(q.image).detach().softmax(1)[0, 0]) == 1.0
    x = q.image.clone().requires_grad_()
    (saturated,) = torch.autograd.grad(net(x).softmax(1)[0, 0], x)
    assert float(saturated.abs().max()) < 1e-20
    assert float(gradient(q).abs().max()) > 1e-4


def test_trap_T7_7_a_map_without_positive_evidence_is_no_bug():
    """A unit that is always on, and counts against the class."""
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(676, 2))
    with torch.no_grad():
        net[0].weight.fill_(0.1), net[0].bias.fill_(1.0)  # type: ignore[operator, union-attr]
        net[3].weight[0].fill_(-0.01), net[3].weight[1].fill_(0.01)
    q = question(net, 0)
    with looking(net):
        found = last_maps(net, q.image)
    assert found is not None
    raw, map_ = grad_cam(q, found[1])
    assert float(raw.max()) < 0
    assert float(map_.abs().max()) == 0
    data = find_view("attribution").compute(
        Subject.of(net, digits().part(torch.arange(4))), Options(target="0")
    )
    assert data.numbers["methods"]["Grad-CAM"]["evidence"] == "no positive evidence"
    assert bool(data.numbers["methods"]["Grad-CAM"]["map"].isfinite().all())


def test_trap_T7_8_a_map_has_the_resolution_of_its_layer():
    q = question(cnn())
    with looking(q.model):
        found = last_maps(q.model, q.image)
    assert found is not None
    small = grad_cam(q, found[1])[1]
    large = enlarged(small, (28, 28))
    assert small.shape[0] < 28
    assert set(large.unique().tolist()) == set(small.unique().tolist())  # blocks, nothing invented
    bilinear = F.interpolate(small[None, None], (28, 28), mode="bilinear")[0, 0]
    assert len(bilinear.unique()) > len(small.unique())  # as if it knew more


class Guided(torch.autograd.Function):
    """ReLU whose way back lets only positive gradients through (Springenberg et al., 2015)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp_min(0)

    @staticmethod
    def backward(ctx, slope):
        (x,) = ctx.saved_tensors
        return slope.clamp_min(0) * (x > 0)


def guided(model: nn.Module, q: Question) -> Tensor:
    relu = torch.nn.functional.relu
    x = q.image.clone().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        for module in (torch, torch.nn.functional):
            patch.setattr(module, "relu", lambda v, inplace=False: Guided.apply(v))
        patch.setattr(nn.ReLU, "forward", lambda self, v: Guided.apply(v))
        (slope,) = torch.autograd.grad(model(x)[0, q.target], x)
    assert torch.nn.functional.relu is relu
    return slope[0]


def test_trap_T7_9_guided_backprop_hardly_knows_the_class(subject: Subject):
    """Its maps of two classes are far more alike than gradients are; we do not offer it."""
    model = subject.model.eval()
    alike, ours = [], []
    for i in range(6):
        x = subject.prepare(digits().pixels(torch.tensor([7 * i])))
        one, other = (Question(model, x, torch.zeros_like(x), t) for t in (3, 8))
        alike.append(likeness(guided(model, one).sum(0), guided(model, other).sum(0)))
        ours.append(likeness(gradient(one).sum(0), gradient(other).sum(0)))
    assert sum(alike) / 6 > sum(ours) / 6 + 0.1
    data = find_view("attribution").compute(subject, Options())
    assert not any("guided" in name.lower() for name in data.numbers["methods"])
    assert all("randomised" in one for one in data.numbers["methods"].values())
    assert data.numbers["depends_limit"] == DEPENDS


def test_trap_T7_10_the_baseline_is_black_where_the_network_is(subject: Subject):
    """0 after normalisation is grey; the sum of integrated gradients depends on which is taken."""
    black = subject.prepare(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    assert float(black.max()) < -0.1
    x = subject.prepare(digits().pixels(torch.tensor([5])))
    with looking(subject.model):
        sums = [
            float(integrated_gradients(Question(subject.model, x, base, 3)).sum())
            for base in (black, torch.zeros_like(black))
        ]
    assert abs(sums[0] - sums[1]) > 0.05
    notes = find_view("attribution").compute(subject, Options()).notes
    assert any("Baseline: a black image" in note for note in notes)


def test_trap_T7_11_a_map_is_no_reason(subject: Subject):
    """Two features that always go together: the map shows the one that the model took."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0, 0], [0, 0]]))
    image = torch.ones(1, 1, 1, 2)  # both are there, and either would do
    shown = gradient(Question(net, image, torch.zeros_like(image), 0)).flatten()
    assert shown.tolist() == [1, 0]
    notes = find_view("attribution").compute(subject, Options()).notes
    assert any("does not say what causes the class" in note for note in notes)


def test_trap_T7_12_sizes_and_gaps_of_tsne_mean_little():
    """One cloud is ten times as wide as the other; on the map they are much alike."""
    draws = generator(0, "x")
    narrow = torch.randn(60, 10, generator=draws)
    wide = 10 * torch.randn(60, 10, generator=draws) + 60
    x = torch.cat([narrow, wide]).numpy()
    shown = torch.from_numpy(
        TSNE(perplexity=20, init="pca", random_state=0, max_iter=500).fit_transform(x)
    )
    spread = [float(part.std(0).mean()) for part in shown.split(60)]
    assert 0.4 < spread[1] / spread[0] < 2.5
    assert not any("tsne" in view.name or "t-sne" in view.text.lower() for view in VIEWS)


def test_trap_T7_13_nothing_stays_behind_when_we_look():
    net = cnn().train()
    x = torch.rand(2, 1, 28, 28)
    with looking(net), torch.no_grad():
        before = net(x)
        trace(net, x)
        after = net(x)
    assert torch.equal(before, after)
    assert net.training
    for part in net.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
    kept: list[Tensor] = []
    handle = net.register_forward_hook(lambda module, given, out: kept.append(out))
    net(x)
    assert kept[0].grad_fn is not None  # a hook that keeps an output keeps its graph
    handle.remove()
    net(x)
    assert len(kept) == 1


def test_trap_T7_14_weights_do_not_say_what_is_done_with_them(subject: Subject):
    one = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    other = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    other.load_state_dict(one.state_dict())
    x = torch.randn(5, 4, generator=generator(0, "x"))
    assert not torch.allclose(one(x), other(x))
    assert subject.run is not None  # ours keep the recipe beside the weights
    again = load(subject.run.path, "cpu")
    inside = [type(part) for part in again.modules()][1:]  # behind the preprocessing
    assert inside == [type(part) for part in subject.model.modules()]


def test_trap_T7_15_more_parameters_are_not_more_capacity():
    """Two linear layers in a row have eight times the weights, and are one linear layer."""
    deep = nn.Sequential(nn.Linear(20, 100), nn.Linear(100, 10)).double()
    flat = nn.Linear(20, 10).double()
    size = [sum(p.numel() for p in net.parameters()) for net in (deep, flat)]
    assert size[0] > 8 * size[1]
    with torch.no_grad():
        flat.weight.copy_(deep[1].weight @ deep[0].weight)
        flat.bias.copy_(deep[1].weight @ deep[0].bias + deep[1].bias)
    x = torch.randn(9, 20, generator=generator(0, "x"), dtype=torch.float64)
    assert torch.allclose(deep(x), flat(x), atol=1e-12)


def test_trap_T7_16_the_top_eight_are_ranked_by_a_stated_score(subject: Subject):
    view = find_view("excite")
    data = view.compute(subject, Options(count=100))
    z, order = data.numbers["z"], data.numbers["ranking"]
    assert z[order].tolist() == sorted(z.tolist(), reverse=True)
    assert [row[1] for row in data.rows] == [str(unit) for unit in order[:8]]
    assert order[:8] != list(range(8))
    assert "by z-score" in data.title
    film = find_view("evolution").compute(subject, Options(count=5))
    moved = film.numbers["moved"]
    assert film.numbers["chosen"] == moved.argsort(descending=True)[:5].tolist()
    assert film.numbers["film"].shape[1] == 5
    panels = [axis for axis in view.draw(data).axes if axis.get_images()]
    assert len(panels) >= 8
    names = [one.name for one in VIEWS]
    assert len(set(names)) == len(names)  # each figure is NAME.png, so it has a file of its own


def test_trap_T7_17_before_training_means_the_weights_of_this_run(subject: Subject):
    start = subject.initial()
    drawn = initial_model(subject)
    assert start is not None
    assert drawn is not None
    name = next(name for name, p in subject.model.named_parameters() if p.dim() == 4)
    shown = find_view("filters").compute(subject, Options()).numbers["sets"]["at the start"]
    assert torch.equal(shown.cpu(), start[name].cpu())
    assert torch.equal(drawn.state_dict()[name].cpu(), start[name].cpu())
    fresh = type(subject.model)((1, 28, 28), 10)
    assert not torch.equal(fresh.state_dict()[name], start[name].cpu())


def test_trap_T7_18_kernels_are_shared_and_adam_moves_them_by_its_rate():
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10)
    )
    x = torch.rand(8, 1, 12, 12, generator=generator(0, "x"))
    for label in (0, 7):  # whatever the class, all kernels are asked
        net.zero_grad()
        F.cross_entropy(net(x), torch.full((8,), label)).backward()
        assert net[0].weight.grad is not None
        reached = net[0].weight.grad.flatten(1).abs().amax(1) > 0  # type: ignore[operator]
        assert int(reached.sum()) >= 3
    before = net[0].weight.detach().clone()  # type: ignore[operator, union-attr]
    torch.optim.Adam(net.parameters(), lr=0.001).step()
    moved = (net[0].weight.detach() - before).abs()[reached]  # type: ignore[operator, union-attr]
    assert float(moved.median()) == pytest.approx(0.001, rel=0.01)


def test_trap_T7_19_nine_pixels_are_no_top_of_a_5():
    assert tuple(first_filters(cnn(), torch.zeros(1, 1, 28, 28)).weights.shape[2:]) == (3, 3)
    bar = torch.tensor([[1.0, 1, 1], [0, 0, 0], [-1, -1, -1]])
    one = bar[None, None].expand(30, 1, 3, 3).contiguous()
    mixed = shuffled(one)
    assert float(structure(one).max()) < 0.05  # a claim of shape, and its test
    assert float((structure(mixed) < 0.05).double().mean()) < 0.2
    assert mixed.flatten(1).sort(1).values.equal(one.flatten(1).sort(1).values)


def test_trap_T7_20_the_strongest_response_is_not_the_best_match():
    """A bright flat patch beats an edge at an edge kernel with a bias; three times the kernel."""
    kernel = torch.tensor([[1.0, 1, 1], [1, 1, 1], [0, 0, 0]])
    edge, flat = kernel.clone(), torch.full((3, 3), 2.0)
    raw = [float((kernel * patch).sum()) for patch in (edge, flat)]
    assert raw[1] > raw[0]

    def match(patch: Tensor) -> float:
        return float((kernel * patch).sum() / (kernel.norm() * patch.norm()))

    assert match(edge) == pytest.approx(1)
    assert match(flat) < match(edge)
    assert match(10 * edge) == pytest.approx(match(edge))
    usual = torch.rand(50, 3, generator=generator(0, "x"), dtype=torch.float64)
    now = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    factor = torch.tensor([1.0, 5.0, 20.0], dtype=torch.float64)
    one, other = score(now, now, usual), score(factor * now, factor * now, factor * usual)
    assert int(one.mean.argmax()) != int(other.mean.argmax())  # by size, the large kernel wins
    assert torch.allclose(one.z, other.z)  # by how unusual it is, not


def test_trap_T7_21_a_fresh_network_knows_nothing(subject: Subject):
    """Its answers are near chance, so its features are those of the draw."""
    data = Digits().load().train
    rows = torch.arange(0, 5000, 5)
    x, y = subject.prepare(data.pixels(rows)), data.targets[rows]
    with torch.no_grad():
        fresh = [float((cnn(seed)(x).argmax(1) == y).double().mean()) for seed in range(5)]
        trained = float((subject.model.eval()(x).argmax(1) == y).double().mean())
    assert all(0.02 < share < 0.25 for share in fresh)
    assert trained > 0.6
    net = MLP((1, 28, 28), 10)
    other = randomised(net)
    assert [p.numel() for p in net.parameters()] == [p.numel() for p in other.parameters()]


def test_trap_T7_22_edges_are_counted_for_the_net_at_hand(subject: Subject):
    data = find_view("kinds").compute(subject, Options())
    counts = data.numbers["counts"]
    assert set(counts) == {"trained", "at the start", "shuffled"}
    total = {name: sum(kinds.values()) for name, kinds in counts.items()}
    assert len(set(total.values())) == 1
    assert any("By chance alone" in note for note in data.notes)
    text = (Path(__file__).parents[2] / "docs/inspect.md").read_text(encoding="utf-8")
    assert "mostly looked so at the start" in text
