"""View A18: answers under changes of the images, and maps that move with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pellucid.inspection import robustness as changes
from pellucid.seeds import generator, reseed
from pellucid.viewdata import ViewData
from pellucid.views import robustness
from pellucid.views.options import BadOption, Options
from pellucid.views.subject import Subject
from tests.views.subjects import subject_of

FEW = Options(count=20)


def failed(data: ViewData) -> list[str]:
    return [proof.identity.split(" - ")[0].split(",")[0] for proof in data.proofs if not proof.ok]


def images(subject: Subject, count: int = 20) -> tuple[Tensor, Tensor]:
    many = subject.part(None)
    index = torch.arange(count) * len(many) // count
    return many.pixels(index), many.label(index)


def test_view_A18_no_change_is_the_baseline_exactly(subject: Subject) -> None:
    data = robustness.compute(subject, FEW)
    pixels, labels = images(subject)
    with torch.no_grad():
        logits = subject.model.eval()(subject.prepare(pixels))
    right = float((logits.argmax(1) == labels).double().mean())
    assert data.numbers["baseline"] == pytest.approx(right)
    for kind in robustness.kinds((1, 28, 28)):
        same = changes.rounded(kind.change(pixels.float(), kind.nothing))
        assert torch.equal(same, pixels), kind.name
        found = data.numbers["changes"][kind.name]
        at = found["levels"].index(kind.nothing)
        assert float(found["accuracy"][at]) == pytest.approx(right)
        sure = logits.double().softmax(1).amax(1).mean()
        assert float(found["sure"][at]) == pytest.approx(float(sure), rel=1e-6)
    assert data.ok
    assert len(data.proofs) == 3


def test_view_A18_each_number_is_that_of_the_changed_images(subject: Subject) -> None:
    data = robustness.compute(subject, FEW)
    pixels, labels = images(subject)
    for kind in robustness.kinds((1, 28, 28)):
        changed = kind.change(pixels.float(), kind.levels[-1]).round().clamp(0, 255).byte()
        with torch.no_grad():
            p = subject.model.eval()(subject.prepare(changed)).double().softmax(1)
        found = data.numbers["changes"][kind.name]
        assert float(found["accuracy"][-1]) == float((p.argmax(1) == labels).double().mean())
        assert float(found["truth"][-1]) == pytest.approx(
            float(p[torch.arange(20), labels].mean()), rel=1e-5
        )


def test_view_A18_changes_do_what_their_names_say(subject: Subject) -> None:
    x = images(subject)[0].float()
    assert torch.equal(changes.shift(x, 3, 0)[..., 3:], x[..., :-3])
    assert not changes.shift(x, 3, 0)[..., :3].any()
    assert torch.equal(changes.shift(x, -2, -5)[..., :-5, :-2], x[..., 5:, 2:])
    assert torch.allclose(robustness.turn(x, 90.0), x.rot90(1, (2, 3)), atol=1e-2)
    flat = changes.contrast(x, 0.25)
    assert torch.allclose(flat.mean((1, 2, 3)), x.mean((1, 2, 3)), rtol=1e-4)
    assert torch.allclose(flat.std((1, 2, 3)), 0.25 * x.std((1, 2, 3)), rtol=1e-4)
    rough = robustness.noise(x, 0.1) - x
    assert float(rough.std()) == pytest.approx(25.5, rel=0.02)
    assert torch.allclose(2 * rough, robustness.noise(x, 0.2) - x, atol=1e-3)
    assert torch.equal(x, images(subject)[0].float())  # nothing was changed in place


@pytest.mark.parametrize(
    ("kind", "deep"),
    [
        ("own", {"first": (1, 1), "second": (6, 6)}),
        ("mnist-cnn", {"conv1": (2, 2), "conv2": (4, 4)}),
        ("resnet", {"conv": (1, 1)}),
    ],
)
def test_view_A18_maps_move_by_one_place_for_one_stride(
    kind: str, deep: dict[str, tuple[int, int]]
) -> None:
    subject = subject_of(kind)
    found, without = changes.equivariance(subject.model, subject.prepare(images(subject)[0][:1]))
    by_layer = {one.layer: one for one in found}
    assert len(found) >= len(deep)
    if kind != "resnet":
        assert {layer: by_layer[layer].jump for layer in deep} == deep
    for one in found:
        assert one.miss <= 1e-12
        assert one.places > 0
    assert without  # the last layer sees the whole image


def test_view_A18_the_interior_is_all_of_the_map_that_sees_no_edge() -> None:
    """One place further out on either side, and the padding is seen."""
    reseed(0, "init")
    conv = nn.Conv2d(1, 4, 3, padding=1).double()
    x = 1 + torch.rand(1, 1, 28, 28, generator=generator(0, "look"), dtype=torch.float64)
    found, _ = changes.equivariance(nn.Sequential(conv, nn.ReLU()), x)
    assert found[0].places == 25 * 25  # of 28: padding on both sides, and what was moved in
    with torch.no_grad():
        moved = changes.shift(x, 1, 1)
        moved[moved == 0] = 5.0  # what came in is not what the padding is
        before, after = conv(x), conv(moved)
    same = (after[:, :, 1:, 1:] - before[:, :, :-1, :-1]).abs().amax((0, 1)) < 1e-12
    assert int(same.sum()) == 25 * 25


def test_view_A18_a_model_without_maps_has_its_curves() -> None:
    data = robustness.compute(subject_of("mlp"), FEW)
    assert data.ok
    assert len(data.proofs) == 2
    assert data.numbers["maps"] == []


def test_view_A18_images_that_do_not_exist_are_named(subject: Subject) -> None:
    with pytest.raises(BadOption, match="0 to 499"):
        robustness.compute(subject, Options(index=500))
    with pytest.raises(BadOption, match="at least 1"):
        robustness.compute(subject, Options(count=0))


def test_view_A18_mutant_maps_compared_one_pixel_off(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = changes.shift
    monkeypatch.setattr(changes, "shift", lambda x, right, down: plain(x, right + 1, down))
    assert failed(robustness.compute(subject_of("own"), FEW)) == [
        "maps of the image moved by the stride"
    ]


def test_view_A18_mutant_an_interior_that_sees_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        changes, "_inner", lambda site, field, size: (
            (slice(1, site.shape[1]), slice(1, site.shape[2])) if len(site.shape) == 3 else None
        ),
    )  # fmt: skip
    assert failed(robustness.compute(subject_of("mnist-cnn"), FEW)) == [
        "maps of the image moved by the stride"
    ]


def test_view_A18_mutant_a_turn_by_nothing_that_blurs(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = robustness.turn
    monkeypatch.setattr(robustness, "turn", lambda x, degrees: plain(x, degrees + 3))
    assert "logits of images that a change leaves as they are" in failed(
        robustness.compute(subject, FEW)
    )


def test_view_A18_mutant_an_answer_counted_twice(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = changes.curve

    def doubled(model, batches, prepare, change, levels):  # type: ignore[no-untyped-def]
        found = plain(model, batches, prepare, change, levels)
        return changes.Curve(levels, found.right + 1, found.sure, found.truth, found.moved)

    monkeypatch.setattr(robustness, "curve", doubled)
    assert failed(robustness.compute(subject, FEW)) == ["right answers there"]
