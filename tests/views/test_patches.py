"""The strongest patches of each unit, and a page for each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pellucid.inspection import patches as module
from pellucid.inspection.patches import middle_spot, spots, strongest
from pellucid.inspection.receptive import Field
from pellucid.inspection.trace import looking
from pellucid.models.mnist_cnn import MnistCNN
from pellucid.seeds import reseed
from pellucid.viewdata import DoesNotApply, ViewData
from pellucid.views import patches as view
from pellucid.views.catalogue import find_view
from pellucid.views.options import BadOption, Options
from pellucid.views.page import write
from pellucid.views.subject import Subject
from pellucid.views.unit_pages import address, unit_pages, write_unit_pages
from tests.views.subjects import Own, digits, splits, subject_of


def subject(model: nn.Module | None = None) -> Subject:
    reseed(0, "init")
    return Subject.of(model or MnistCNN((1, 28, 28), 10), splits(digits()))


def test_view_A11_the_values_are_what_a_plain_loop_over_the_images_finds() -> None:
    one = subject()
    data = view.compute(one, Options(layer="conv1"))
    assert data.ok, [proof.line for proof in data.proofs if not proof.ok]
    model = one.model
    assert isinstance(model, MnistCNN)
    images = digits().pixels(torch.arange(40))
    with looking(model), torch.no_grad():
        maps = model.conv1(one.prepare(images)).clamp_min(0)
    best = {unit: maps[:, unit].flatten(1).max(1) for unit in (0, 7, 31)}
    for unit, found in best.items():
        shown = data.numbers["units"][unit]
        expected = found.values.sort(descending=True, stable=True)
        assert shown["values"] == pytest.approx(expected.values[:9].tolist(), rel=1e-6)
        assert [p["position"] for p in shown["patches"]] == expected.indices[:9].tolist()


def test_view_A11_they_are_sorted_and_at_most_one_of_each_image() -> None:
    data = view.compute(subject(), Options())
    for one in data.numbers["units"]:
        values = one["values"]
        assert values == sorted(values, reverse=True)
        positions = [patch["position"] for patch in one["patches"]]
        assert len(set(positions)) == len(positions)


def test_view_A11_several_of_one_image_unless_asked_otherwise() -> None:
    one = subject()
    x = one.prepare(digits().pixels(torch.arange(6)))
    site = spots(one.model, x[:1])[0].site
    many = strongest(one.model, [x[:4], x[4:]], site, 50, once=False)
    with looking(one.model), torch.no_grad():
        maps = module._flat(one.model, x, site)
    expected = maps.transpose(0, 1).flatten(1).sort(1, descending=True).values[:, :50]
    assert torch.equal(many.values.T, expected)
    assert len(set(many.images[:, 0].tolist())) < 50
    assert len(strongest(one.model, [x], site, 50).values) == 6


def test_view_A11_a_patch_is_the_pixels_under_the_kernel() -> None:
    one = subject()
    data = view.compute(one, Options(layer="conv1", unit=3))
    model = one.model
    assert isinstance(model, MnistCNN)
    kernel = model.conv1.weight[3:4].detach()
    for patch in data.numbers["units"][0]["patches"]:
        raw = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
        raw[0, :, :4, :4] = patch["pixels"]
        given = one.prepare(raw)[:, :, :4, :4]
        four = F.conv2d(given, kernel, model.conv1.bias[3:4]).detach()  # type: ignore[index]
        assert float(four.max()) == pytest.approx(patch["value"], abs=1e-5)  # pool, then ReLU


def test_view_A11_a_planted_image_is_the_strongest() -> None:
    """A unit that sums its window, and one image with a bright square: it has to come first."""
    net = nn.Sequential(nn.Conv2d(1, 2, 5), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 24 * 24, 10))
    net[0].weight.data[0] = 1.0
    net[0].weight.data[1] = -1.0
    net[0].bias.data[1] = -1e6
    data = digits()
    data = data.part(torch.arange(len(data)))
    images = data.images.clone()
    images[data.rows[11], :, 20:25, 3:8] = 255
    planted = type(data)(images, data.labels, data.classes, "planted", data.rows)
    found = view.compute(Subject.of(net, splits(planted)), Options()).numbers["units"]
    first = found[0]["patches"][0]
    assert (first["position"], first["box"]) == (11, [20, 3, 25, 8])
    assert first["pixels"].min() == 255
    assert (found[1]["patches"], found[1]["classes"]) == ([], {})  # dead: no patch is shown


def test_view_A11_by_default_a_layer_between_edges_and_everything() -> None:
    one = subject_of("resnet")
    known = spots(one.model, torch.zeros(1, 3, 32, 32))
    field = middle_spot(known, (32, 32)).field
    assert field is not None
    assert 8 < field.size[0] <= 16
    mlp = view.compute(subject_of("mlp"), Options(count=20))
    assert mlp.numbers["sees"] == "the whole image"
    assert mlp.numbers["units"][0]["patches"][0]["pixels"].shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("apart", lambda s: type(s)(s.values, s.images, (s.places + 1) % 576, s.maxima)),
        ("left out", lambda s: type(s)(s.values[9:], s.images[9:], s.places[9:], s.maxima)),
        ("sorted", lambda s: type(s)(*(t.flip(0) for t in (s.values, s.images, s.places)),
                                     s.maxima)),
        ("twice", lambda s: type(s)(s.values, s.images * 0, s.places, s.maxima)),
    ],
)  # fmt: skip
def test_view_A11_mutants(name: str, broken, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    plain = module.strongest
    monkeypatch.setattr(view, "strongest", lambda m, b, s, k: broken(plain(m, b, s, 18)))
    data = view.compute(subject(), Options(layer="conv1"))
    failed = [proof.identity for proof in data.proofs if not proof.ok]
    words = {"apart": "anew", "left out": "left out", "sorted": "rise", "twice": "twice"}
    assert any(words[name] in identity for identity in failed), failed


def test_view_A11_mutant_a_box_that_is_a_pixel_off(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Field.box

    def shifted(self: Field, place, shape):  # type: ignore[no-untyped-def]
        top, left, bottom, right = plain(self, place, shape)
        return top, min(left + 1, right - 1), bottom, right

    monkeypatch.setattr(Field, "box", shifted)
    data = view.compute(subject(), Options())
    assert [proof.ok for proof in data.proofs] == [True, True, True, True, False]


def test_view_A11_layers_and_units_that_do_not_exist_are_named() -> None:
    with pytest.raises(BadOption, match='no layer "conv9".*There are: first, second, out'):
        view.compute(subject(Own()), Options(layer="conv9"))
    with pytest.raises(BadOption, match="layer conv1 has no unit 32. It has 32: 0 to 31"):
        view.compute(subject(), Options(layer="conv1", unit=32))
    with pytest.raises(BadOption, match="at least 1"):
        view.compute(subject(), Options(count=0))
    with pytest.raises(DoesNotApply, match="No layer"):
        view.compute(Subject.of(nn.Flatten(), digits()), Options())


def test_view_A11_a_page_for_each_unit_at_an_address_that_stays(tmp_path: Path) -> None:
    data = view.compute(subject(), Options())
    first = write_unit_pages(data, tmp_path)
    assert first == (tmp_path / "patches/conv2/index.html",)
    assert len(list((tmp_path / "patches/conv2").iterdir())) == 65
    page = (tmp_path / address("conv2", 7)).read_text(encoding="utf-8")
    one = data.numbers["units"][7]
    assert page.count("data:image/png;base64,") == len(one["patches"]) == 9
    assert all(patch["image"] in page for patch in one["patches"])
    assert all(proof.line.replace(">", "&gt;") in page for proof in data.proofs)
    links = re.findall(r'href="([^"]+)"', page)
    assert links == ["index.html", "6.html", "8.html"]
    assert all((tmp_path / "patches/conv2" / link).is_file() for link in links)
    assert "http" not in page
    assert unit_pages(view.compute(subject(), Options())) == unit_pages(data)


def test_view_A11_the_pages_are_written_with_the_picture(tmp_path: Path) -> None:
    """By the command line too, which writes each view in this way; other views write no pages."""
    one = subject()
    files = write(find_view("patches"), view.compute(one, Options(unit=7)), tmp_path)
    assert [str(file.relative_to(tmp_path)) for file in files] == [
        "patches.png", "patches.json", "patches/conv2/7.html",
    ]  # fmt: skip
    assert all(file.is_file() for file in files)
    other = find_view("shapes")
    assert len(write(other, other.compute(one, Options()), tmp_path)) == 2


def test_view_A11_one_unit_has_its_page_and_leaves_the_list_alone(tmp_path: Path) -> None:
    one = subject()
    write_unit_pages(view.compute(one, Options()), tmp_path)
    listed = (tmp_path / "patches/conv2/index.html").read_bytes()
    alone = view.compute(one, Options(unit=7))
    assert write_unit_pages(alone, tmp_path) == (tmp_path / "patches/conv2/7.html",)
    assert (tmp_path / "patches/conv2/index.html").read_bytes() == listed
    assert len(alone.numbers["whole"]) == 9


def test_view_A11_names_of_classes_and_files_cannot_break_a_page() -> None:
    data = digits()
    evil = tuple("<script>" if i == 3 else name for i, name in enumerate(data.classes))
    named = type(data)(data.images, data.labels, evil, "<b>x", data.rows)
    found: ViewData = view.compute(Subject.of(Own(), splits(named)), Options(layer="first"))
    text = "".join(unit_pages(found).values())
    assert "<script>" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;" in text
