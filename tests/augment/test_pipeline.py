"""The chain: a function of (seed, step) for each image, whatever else is on or beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pellucid import Engine, Recipe, fit, from_tree, good, to_tree
from pellucid.assemble import assemble
from pellucid.augment.colour import Brightness, Contrast, Greyscale, Hue, Saturation
from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.geometry import Crop, Flip, Rotate, Scale, Translate
from pellucid.augment.mixing import CutMix, MixUp
from pellucid.augment.pipeline import AugmentSpec
from pellucid.catalogue import overlay
from pellucid.errors import BadRecipe
from pellucid.evaluate import evaluate
from pellucid.values import Augment, Batch
from tests.augment.samples import CLASSES, batch_of, everything, preprocessing_of

CPU = torch.device("cpu")
ALL = tuple(AugmentSpec.__struct_fields__)


def built(spec: AugmentSpec, images: Tensor, seed: int = 0) -> Augment:
    return spec.build(seed, preprocessing_of(images).on(CPU), CLASSES)


def same(a: Batch, b: Batch) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_the_order_and_the_names_are_these() -> None:
    assert ALL == (
        "flip", "crop", "rotate", "translate", "scale", "brightness", "contrast", "saturation",
        "hue", "greyscale", "erase", "cutout", "mixup", "cutmix",
    )  # fmt: skip
    assert list(everything().operations()) == list(ALL)


def test_off_is_off(pictures: Tensor) -> None:
    batch = batch_of(pictures)
    seen = AugmentSpec().build(0, lambda x: x)(batch, 1)
    assert seen.images is batch.images
    assert seen.targets is batch.targets


def test_type_and_layout_are_what_the_network_wants(pictures: Tensor) -> None:
    batch = built(everything(pictures.shape[1]), pictures)(batch_of(pictures), 3)
    assert batch.images.dtype == torch.float32
    assert batch.images.shape == pictures.shape
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert bool(batch.images.isfinite().all())
    for name in ("index", "rows", "size"):
        assert getattr(batch, name) is not None


def test_the_batch_that_was_given_stays(photos: Tensor) -> None:
    given_ = batch_of(photos)
    before = given_.images.clone(), given_.targets.clone()
    for name, table in everything().operations().items():
        spec = AugmentSpec(**{name: table})
        spec.build(0, lambda x: x.float() if x.dtype == torch.uint8 else x, CLASSES)(given_, 0)
    AugmentSpec(erase=Erase(p=1)).build(0, lambda x: x)(given_, 0)
    built(everything(), photos)(given_, 0)
    assert torch.equal(given_.images, before[0])
    assert torch.equal(given_.targets, before[1])


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_pieces_hold_the_same_pixels_however_they_are_cut(data: st.DataObject) -> None:
    """For accumulation and for several processes; also for sizes that fill no vector."""
    size = data.draw(st.integers(1, 13))
    height, width = data.draw(st.sampled_from([(9, 9), (16, 13), (31, 30)]))
    channels = data.draw(st.sampled_from([1, 3]))
    pixels = torch.arange(size * channels * height * width).mul(7919).remainder(256)
    images = pixels.to(torch.uint8).view(size, channels, height, width)
    spec = everything(channels)
    augment = built(spec, images)
    step = data.draw(st.integers(0, 1000))
    whole = augment(batch_of(images), step)
    cuts = data.draw(st.sets(st.sampled_from(range(2, size + 2, 2)), max_size=4))
    edges = sorted({0, *(cut for cut in cuts if cut < size), size})
    pieces = [torch.arange(a, b) for a, b in zip(edges, edges[1:], strict=False)]
    for rows in data.draw(st.permutations(pieces)):
        piece = augment(batch_of(images, rows, size), step)
        assert torch.equal(piece.images, whole.images[rows])
        assert torch.equal(piece.targets, whole.targets[rows])


@pytest.mark.parametrize("pieces", [1, 2, 3, 4])
def test_accumulation_changes_no_pixel(pieces: int, threads: int, photos: Tensor) -> None:
    """Also where several threads share a large batch, and images fill no vector."""
    images = photos.repeat(3, 1, 1, 1)[:179, :, :31, :29].contiguous()
    augment = built(everything(), images)
    whole = augment(batch_of(images), 5)
    edges = [2 * (179 * k // pieces // 2) for k in range(pieces)] + [179]
    for a, b in reversed(list(zip(edges, edges[1:], strict=False))):
        rows = torch.arange(a, b)
        piece = augment(batch_of(images, rows, 179), 5)
        assert torch.equal(piece.images, whole.images[a:b])
        assert torch.equal(piece.targets, whole.targets[a:b])


def test_the_number_of_threads_changes_no_pixel(photos: Tensor) -> None:
    images = photos.repeat(3, 1, 1, 1)[:, :, :31, :29].contiguous()
    before = torch.get_num_threads()
    seen = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        seen.append(built(everything(), images)(batch_of(images), 5))
    torch.set_num_threads(before)
    assert same(seen[0], seen[1])
    assert same(seen[0], seen[2])


def test_draws_are_a_function_of_seed_and_step(pictures: Tensor) -> None:
    """So a resume, which builds anew and starts at any step, sees the same images."""
    spec, batch = everything(pictures.shape[1]), batch_of(pictures)
    once = built(spec, pictures)
    steps = [once(batch, step) for step in (0, 5, 6)]
    again = built(spec, pictures)
    assert same(again(batch, 6), steps[2])
    assert same(again(batch, 5), steps[1])
    assert not torch.equal(steps[1].images, steps[2].images)
    assert not torch.equal(built(spec, pictures, seed=1)(batch, 5).images, steps[1].images)


@pytest.mark.parametrize("name", ALL)
def test_every_operation_draws_anew_at_every_step_and_seed(name: str) -> None:
    spec = AugmentSpec(**{name: everything().operations()[name]})

    def draw(seed: int, step: int) -> Tensor:
        return spec.draws(seed, step, 64, (3, 32, 32))[name]

    assert torch.equal(draw(0, 3), draw(0, 3))
    assert not torch.equal(draw(0, 3), draw(0, 4))
    assert not torch.equal(draw(0, 3), draw(1, 3))
    assert len(draw(0, 3)) == 64


@pytest.mark.parametrize("name", ALL)
def test_switching_one_on_leaves_the_draws_of_the_others(name: str) -> None:
    every = everything()
    without = msgspec.structs.replace(every, **{name: None})
    some, other = (spec.draws(0, 9, 16, (3, 32, 32)) for spec in (every, without))
    assert set(some) - set(other) == {name}
    assert all(torch.equal(some[key], other[key]) for key in other)


def test_operations_draw_independently_of_each_other() -> None:
    """Streams of their own: a bright image is not more often flipped, turned or erased."""
    drawn = everything().draws(0, 0, 4000, (3, 32, 32))
    table = torch.stack(
        [
            drawn[name].double().view(4000, -1)[:, 0]
            for name in ALL
            if name not in ("mixup", "cutmix")
        ]
        + [drawn["mixup"].double(), (drawn["cutmix"][:, 2] > 0).double()]
    )
    others = torch.corrcoef(table) - torch.eye(len(ALL))
    assert others.abs().max() < 0.08  # five standard deviations


LEAST = {  # distinct results of 64 equal images, at least
    "flip": 2, "crop": 40, "rotate": 64, "translate": 25, "scale": 64, "brightness": 64,
    "contrast": 64, "saturation": 64, "hue": 64, "greyscale": 2, "erase": 25, "cutout": 50,
    "mixup": 30, "cutmix": 30,
}  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_each_image_has_a_draw_of_its_own(name: str, photos: Tensor) -> None:
    """One image 64 times; for mixing, two in turn."""
    pair = photos[[31, 34]] if name in ("mixup", "cutmix") else photos[[31, 31]]
    images = pair.repeat(32, 1, 1, 1)
    spec = AugmentSpec(**{name: everything().operations()[name]})
    seen = built(spec, images)(batch_of(images), 0).images
    assert len(seen.flatten(1).unique(dim=0)) >= LEAST[name]


OFF = {
    "flip": Flip(p=0), "rotate": Rotate(degrees=0), "translate": Translate(share=0),
    "scale": Scale(range=(1, 1)), "brightness": Brightness(strength=0),
    "contrast": Contrast(strength=0), "saturation": Saturation(strength=0),
    "hue": Hue(strength=0), "greyscale": Greyscale(p=0), "erase": Erase(p=0),
    "mixup": MixUp(p=0), "cutmix": CutMix(p=0),
}  # fmt: skip


@pytest.mark.parametrize("name", OFF)
def test_a_probability_or_strength_of_0_changes_no_bit(name: str, photos: Tensor) -> None:
    batch = batch_of(photos)
    spec = AugmentSpec(**{name: OFF[name]})
    seen = built(spec, photos)(batch, 1)
    assert torch.equal(seen.images, preprocessing_of(photos).on(CPU)(photos))
    assert set(_words(spec, len(photos))) == {""}
    labels = seen.targets.argmax(1) if seen.targets.ndim == 2 else seen.targets
    assert torch.equal(labels, batch.targets)
    if seen.targets.ndim == 2:
        assert set(seen.targets.unique().tolist()) == {0, 1}


def _words(spec: AugmentSpec, size: int) -> list[str]:
    drawn = spec.draws(0, 1, size, (3, 32, 32))
    return [
        operation.words(drawn[name][i])
        for name, operation in spec.operations().items()
        for i in range(size)
    ]


@pytest.mark.parametrize("name", ALL)
def test_every_draw_can_be_said(name: str) -> None:
    spec = AugmentSpec(**{name: everything().operations()[name]})
    words = {word for word in _words(spec, 64) if word}
    assert words
    assert all(len(word) < 25 for word in words)


def test_labels_are_kept_except_by_mixing(photos: Tensor) -> None:
    batch = batch_of(photos)
    for name, table in everything().operations().items():
        seen = built(AugmentSpec(**{name: table}), photos)(batch, 2)
        assert (seen.targets is batch.targets) == (name not in ("mixup", "cutmix"))
        assert seen.index is batch.index
        assert seen.size == batch.size


def test_what_a_crop_brings_in_is_black_not_the_mean(photos: Tensor) -> None:
    """Zeros after normalisation would be the mean; black is below it."""
    preprocessing = preprocessing_of(photos)
    black = preprocessing.on(CPU)(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)).flatten()
    assert black.max() < -0.5
    white = torch.full_like(photos, 255)
    for spec in (AugmentSpec(crop=Crop(padding=8)), AugmentSpec(rotate=Rotate(degrees=90))):
        seen = spec.build(0, preprocessing.on(CPU))(batch_of(white), 0).images
        assert torch.allclose(seen.amin((0, 2, 3)), black, atol=1e-5)


def test_one_image_alone(pictures: Tensor) -> None:
    one = pictures[:1]
    spec = everything(one.shape[1])
    for step in range(4):
        batch = built(spec, pictures)(batch_of(one), step)
        assert batch.images.shape == one.shape
        assert batch.targets.shape == (1, CLASSES)


@pytest.mark.parametrize("name", ["saturation", "hue", "greyscale"])
def test_grey_images_have_no_colour_to_change(name: str, digits: Tensor) -> None:
    spec = AugmentSpec(**{name: everything().operations()[name]})
    with pytest.raises(BadRecipe, match=f"augment.{name} .* grey .*--augment.{name} off"):
        spec.build(0, lambda x: x, CLASSES, (1, 28, 28))
    with pytest.raises(BadRecipe, match="grey"):
        built(spec, digits)(batch_of(digits), 0)
    spec.build(0, lambda x: x, CLASSES, (3, 28, 28))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (AugmentSpec(crop=Crop(padding=32)), "augment.crop.padding must be smaller .* 32 .*Got 32"),
        (AugmentSpec(cutout=Cutout(side=40)), "augment.cutout.side must be smaller .* Got 40"),
    ],
)
def test_something_of_an_image_must_be_left(spec: AugmentSpec, message: str) -> None:
    with pytest.raises(BadRecipe, match=message):
        spec.build(0, lambda x: x, CLASSES, (3, 32, 48))
    spec.build(0, lambda x: x, CLASSES, (3, 41, 48))


@pytest.mark.parametrize(
    ("name", "key", "value", "rule"),
    [
        ("flip", "p", "1.1", "<= 1"), ("flip", "p", "nan", ">= 0"),
        ("crop", "padding", "0", ">= 1"),
        ("rotate", "degrees", "-1", ">= 0"), ("rotate", "degrees", "181", "<= 180"),
        ("rotate", "degrees", "x", "a number"), ("translate", "share", "1.5", "<= 1"),
        ("scale", "range", ["0", "1"], ">= 0.1"), ("scale", "range", ["1.2", "0.8"], "smaller one"),
        ("scale", "range", ["1"], "2"), ("brightness", "strength", "1.5", "<= 1"),
        ("contrast", "strength", "-0.1", ">= 0"), ("saturation", "strength", "2", "<= 1"),
        ("hue", "strength", "0.6", "<= 0.5"), ("greyscale", "p", "-1", ">= 0"),
        ("erase", "p", "2", "<= 1"), ("erase", "area", ["0", "0.3"], "> 0"),
        ("erase", "area", ["0.5", "0.3"], "area must be two numbers, the smaller one first"),
        ("erase", "aspect", ["3", "0.3"], "aspect must be two numbers, the smaller one first"),
        ("cutout", "side", "0", ">= 1"), ("mixup", "alpha", "0", ">= 0.01"),
        ("mixup", "p", "1.2", "<= 1"), ("cutmix", "alpha", "1000", "<= 100"),
        ("cutmix", "p", "x", "a number"), ("mixup", "beta", "1", 'no setting "augment.mixup.beta"'),
        ("blur", "p", "1", 'no setting "augment.blur"'),
    ],
)  # fmt: skip
def test_values_out_of_range(name: str, key: str, value: object, rule: str) -> None:
    tree = overlay(to_tree(good("cifar10")), {"augment": {name: {key: value}}})
    with pytest.raises(BadRecipe) as error:
        from_tree(tree)
    assert rule in str(error.value)
    assert f"augment.{name}" in str(error.value)


def test_a_recipe_file_brings_all_of_it_back() -> None:
    recipe = good("cifar10").with_(augment=everything())
    assert from_tree(to_tree(recipe)).augment == everything()
    off = overlay(to_tree(recipe), {"augment": dict.fromkeys(ALL, "off")})
    assert from_tree(off).augment == AugmentSpec()
    on = overlay(off, {"augment": dict.fromkeys(ALL, "on")})
    augment = from_tree(on).augment
    assert isinstance(augment, AugmentSpec)
    assert list(augment.operations()) == list(ALL)


def test_validation_is_never_augmented(tiny: Recipe) -> None:
    """The same weights are judged the same, to the bit, whatever is on."""
    results = []
    for spec in (AugmentSpec(), everything(1)):
        recipe = tiny.with_(augment=AugmentSpec())
        engine = Engine.start(recipe.engine)
        parts = assemble(recipe, engine)
        task = replace(parts.task, augment=spec.build(0, parts.task.prepare, CLASSES))
        results.append(evaluate(engine, parts.state.model, task))
    assert results[0] == results[1]


def test_a_network_trains_on_all_of_it(tiny: Recipe) -> None:
    """Twice the same, to the bit, and not what it would be without."""
    weights = []
    for spec in (everything(1), everything(1), AugmentSpec()):
        recipe = tiny.with_(augment=AugmentSpec())
        engine = Engine.start(recipe.engine)
        parts = assemble(recipe, engine)
        task = replace(parts.task, augment=spec.build(0, parts.task.prepare, CLASSES))
        losses = [float(step.loss) for step in fit(parts.state, task, engine)]
        assert all(0 < loss < 20 for loss in losses)
        weights.append(torch.cat([p.detach().flatten() for p in parts.state.model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def mirrored(recipe: Recipe, accumulate: int = 1) -> list[dict[int, bool]]:
    """Return for each of three epochs which training images the pieces of its batches mirror."""
    recipe = recipe.with_(accumulate=accumulate)
    task = assemble(recipe, Engine.start(recipe.engine)).task
    per_epoch = task.plan.steps_per_epoch
    found: list[dict[int, bool]] = []
    for epoch in range(3):
        seen = {}
        for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            for piece in task.train.pieces(step):
                plain = AugmentSpec().build(0, task.prepare)(piece, step).images
                given = task.augment(piece, step).images
                for at, before, after in zip(piece.index.tolist(), plain, given, strict=True):
                    assert torch.equal(after, before) or torch.equal(after, before.flip(2))
                    seen[at] = not torch.equal(after, before)
        found.append(seen)
    return found


def test_alternate_mirrors_each_image_in_every_other_epoch() -> None:
    """Whatever the order of the images, and in however many pieces a batch comes."""
    recipe = good("digits").with_(augment=AugmentSpec(flip=Flip(p=0.3, alternate=True)))
    first, second, third = mirrored(recipe)
    assert len(first) == 4500
    assert {at: not was for at, was in first.items()} == second
    assert third == first
    assert sum(first.values()) / len(first) == pytest.approx(0.3, abs=0.03)
    assert mirrored(recipe, accumulate=3)[0] == first
    other = mirrored(recipe.with_(seed=1))[0]
    both = sum(first[at] and other[at] for at in first.keys() & other.keys())
    assert both / len(first.keys() & other.keys()) == pytest.approx(0.09, abs=0.03)
