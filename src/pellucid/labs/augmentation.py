"""Augmentation: what each operation does to one image, which keep the label, when it helps.

The operations are those of a recipe, `pellucid.augment`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.augment.colour import Brightness, Contrast, Greyscale, Hue, Saturation
from pellucid.augment.erasing import Cutout, Erase
from pellucid.augment.geometry import Crop, Flip, Rotate, Scale, Translate
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.digits import Digits
from pellucid.errors import BadRecipe
from pellucid.labs.options import lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, at_least, at_most, equals, is_true
from pellucid.seeds import generator, reseed
from pellucid.values import Batch, ImageSet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY: dict[str, AugmentSpec] = {
    "nothing": AugmentSpec(),
    "crop": AugmentSpec(crop=Crop(3)),
    "translate": AugmentSpec(translate=Translate(0.1)),
    "rotate 15": AugmentSpec(rotate=Rotate(15)),
    "rotate 180": AugmentSpec(rotate=Rotate(180)),
    "scale": AugmentSpec(scale=Scale((0.8, 1.2))),
    "flip": AugmentSpec(flip=Flip(1)),
    "brightness": AugmentSpec(brightness=Brightness(0.5)),
    "contrast": AugmentSpec(contrast=Contrast(0.5)),
    "erase": AugmentSpec(erase=Erase(1)),
    "cutout": AugmentSpec(cutout=Cutout(10)),
}
"""Geometry, then light, then occlusion: each alone, and on every image."""
COLOUR: dict[str, AugmentSpec] = {
    "saturation": AugmentSpec(saturation=Saturation(1)),
    "hue": AugmentSpec(hue=Hue(0.5)),
    "greyscale": AugmentSpec(greyscale=Greyscale(1)),
}
TEACH, JUDGE, EPOCHS, BATCH = 300, 1000, 40, 50
ARMS = {"without": AugmentSpec(), "crop": GREY["crop"], "flip": AugmentSpec(flip=Flip(0.5))}


@lab
def run(
    *,
    digit: Annotated[int, ranged("which digit the picture shows", 0, 9)] = 6,
    sample: Annotated[int, ranged("which image of that digit", 0, 99)] = 0,
    draws: Annotated[int, ranged("views of it in the picture", 2, 10)] = 6,
    seed: Annotated[int, ranged("of digits, weights and draws", 0, 10**6)] = 0,
) -> LabResult:
    """Draw views of one image, let a network judge them, and train with and without."""
    teach, judged = parts(seed)
    nets = {name: trained(teach, spec, seed) for name, spec in ARMS.items()}
    plain = nets["without"][0]
    rates = {name: kept(plain, judged, spec, seed) for name, spec in GREY.items()}
    mirrored = by_digit(plain, judged)
    shifted = viewed(judged, GREY["crop"], seed)
    right = {
        name: (accuracy(net, judged), accuracy(net, shifted)) for name, (net, _) in nets.items()
    }
    error = 1.96 * math.sqrt(0.1 * 0.9 / JUDGE)
    sixes = turned(plain, judged)
    text = f"""
        Augmentation shows another view of each image in each epoch: other pixels, the same label.
        The set is as long as before, {TEACH} images, and the views of one image are no independent
        samples. Three kinds: geometry moves pixels (crop, translate, rotate, scale, flip), light
        and colour change values (brightness, contrast, saturation, hue, greyscale), occlusion hides
        a part (erase, cutout).

        It is right only where the label stays. Whether it does is a fact about the world, not about
        the operation. A network that never saw such views, {right["without"][0]:.1%} right on plain
        images, keeps its class in

            crop by up to 3 pixels   {rates["crop"]:.1%}        rotation up to 15   {
        rates["rotate 15"]:.1%}
            rotation up to 180       {rates["rotate 180"]:.1%}        mirrored            {
        rates["flip"]:.1%}
            brightness up to half    {rates["brightness"]:.1%}        cutout of 10        {
        rates["cutout"]:.1%}

        A low rate has two reasons, and a number cannot tell them apart. The label is spoiled: a
        mirrored 3 is no digit, and {mirrored[3]:.0%} are called 3; of the 6 upside down,
        {sixes:.0%} are called 9. Or the label is safe, and the network has not learned it: a
        mirrored 8 is an 8, and {mirrored[8]:.0%} are called so; a shifted digit is the same digit.
        There augmentation can help. People must look.

        With {TEACH} images and {EPOCHS} epochs each, accuracy on {JUDGE:,} others:

            without      plain {right["without"][0]:.1%}   shifted {right["without"][1]:.1%}
            with crop    plain {right["crop"][0]:.1%}   shifted {right["crop"][1]:.1%}
            with flip    plain {right["flip"][0]:.1%}   shifted {right["flip"][1]:.1%}

        Shifts in training make shifts nearly harmless. On plain images, which are centred, crop
        changes accuracy by {right["crop"][0] - right["without"][0]:+.3f}, where one accuracy alone
        has an error of {error:.3f}: with so few images other views help there, too. Flip changes
        it by {right["flip"][0] - right["without"][0]:+.3f}: it teaches digits that do not occur.
        With many images, or a longer training, both figures are others: measure on your data.

        The training loss is higher with augmentation, {nets["crop"][1]:.3f} against
        {nets["without"][1]:.3f}: its views are harder. Judge training images once more without it
        before comparing. Validation and test images are never augmented.
    """
    rows = [(name, kind_of(name), rate) for name, rate in rates.items()]
    tables = [
        Table(("operation", "kind", "kept its class"), rows,
              f"Share of {JUDGE:,} images judged as before, by the network without augmentation"),
        Table(("trained", "plain", "shifted", "training loss"),
              [(n, *right[n], nets[n][1]) for n in ARMS], f"Accuracy, n = {JUDGE:,}"),
        Table(("digit", *map(str, range(10))), [("kept", *(round(r, 2) for r in mirrored))],
              "Mirrored: share judged as before"),
    ]  # fmt: skip
    claims = [
        *_sound(teach, judged, seed), *_safe(rates, mirrored, sixes),
        *_helps(right, nets["crop"][1], nets["without"][1]),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, digit, sample, draws, rates, seed), tables,
        {"kept": rates, "accuracy": right},
    )  # fmt: skip


def parts(seed: int) -> tuple[Batch, Batch]:
    """Return digits that teach and digits that judge: uint8, (N, 1, 28, 28)."""
    images = Digits().load().train
    rows = torch.randperm(len(images), generator=generator(seed, "lab"))[: TEACH + JUDGE]
    return batch_of(images, rows[:TEACH]), batch_of(images, rows[TEACH:])


def batch_of(images: ImageSet, rows: Tensor) -> Batch:
    """Return some images of a set as one batch."""
    places = torch.arange(len(rows))
    return Batch(images.pixels(rows), images.targets[rows], places, places, len(rows))


def prepare(pixels: Tensor) -> Tensor:
    """Return stored pixels as the network gets them: 0 is the mean grey of digits."""
    return (pixels.float() / 255 - 0.1307) / 0.3081


def viewed(batch: Batch, spec: AugmentSpec, seed: int, step: int = 0) -> Batch:
    """Return one view of each image, normalised, as a training step gets it."""
    found: Batch = spec.build(seed, prepare)(batch, step)
    return found


def trained(teach: Batch, spec: AugmentSpec, seed: int) -> tuple[nn.Module, float]:
    """Train a small CNN on other views in each epoch; return it, and its last training loss."""
    reseed(seed, "lab", 1)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(400, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    total = 0.0
    for epoch in range(EPOCHS):
        total = 0.0
        views = viewed(teach, spec, seed, epoch)
        for rows in torch.randperm(TEACH, generator=generator(seed, "lab", epoch)).split(BATCH):
            loss = F.cross_entropy(net(views.images[rows]), views.targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows) / TEACH
    return net.eval(), total


@torch.no_grad()
def said(net: nn.Module, batch: Batch) -> Tensor:
    """Return the class of each image; stored pixels are normalised first."""
    images = prepare(batch.images) if batch.images.dtype == torch.uint8 else batch.images
    found: Tensor = net(images).argmax(1)
    return found


def accuracy(net: nn.Module, batch: Batch) -> float:
    """Return the share of right classes."""
    return float((said(net, batch) == batch.targets).double().mean())


def kept(net: nn.Module, batch: Batch, spec: AugmentSpec, seed: int) -> float:
    """Return the share of views that are judged as their image is."""
    return float((said(net, viewed(batch, spec, seed)) == said(net, batch)).double().mean())


def by_digit(net: nn.Module, batch: Batch) -> list[float]:
    """Return for each digit the share of mirrored images that keep their class."""
    same = said(net, viewed(batch, GREY["flip"], 0)) == said(net, batch)
    return [float(same[batch.targets == d].double().mean()) for d in range(10)]


def turned(net: nn.Module, batch: Batch) -> float:
    """Return the share of 6 that, upside down, are called 9."""
    six = batch.images[batch.targets == 6].flip(2, 3)
    with torch.no_grad():
        return float((net(prepare(six)).argmax(1) == 9).double().mean())


def kind_of(name: str) -> str:
    """Return geometry, light or occlusion."""
    kinds = {"brightness": "light", "contrast": "light", "erase": "occlusion",
             "cutout": "occlusion", "nothing": ""}  # fmt: skip
    return kinds.get(name, "geometry")


def _sound(teach: Batch, judged: Batch, seed: int) -> list[Claim]:
    off = AugmentSpec(
        flip=Flip(0), rotate=Rotate(0), translate=Translate(0), scale=Scale((1, 1)),
        brightness=Brightness(0), contrast=Contrast(0), erase=Erase(0),
    )  # fmt: skip
    first, again = (viewed(teach, GREY["rotate 15"], seed) for _ in range(2))
    later = viewed(teach, GREY["rotate 15"], seed, 1)
    other = viewed(teach, GREY["rotate 15"], seed + 1)
    still = torch.equal(viewed(judged, AugmentSpec(), seed).images,
                        viewed(judged, AugmentSpec(), seed + 1, 7).images)  # fmt: skip
    return [
        at_most("Strength and probability 0 change nothing: largest difference",
                (viewed(teach, off, seed).images - prepare(teach.images)).abs().max(), 2e-4),
        is_true("The same seed and step: the same views",
                torch.equal(first.images, again.images)),
        is_true("the next step, or another seed: others",
                not torch.equal(first.images, later.images)
                and not torch.equal(first.images, other.images)),
        is_true("The set keeps its length and its labels",
                len(first.images) == TEACH and torch.equal(first.targets, teach.targets), "T1.6"),
        is_true("Validation images draw nothing: the same with any seed and step", still),
        is_true("Hue, saturation and greyscale refuse grey images",
                all(_refuses(spec, teach, seed) for spec in COLOUR.values())),
    ]  # fmt: skip


def _refuses(spec: AugmentSpec, batch: Batch, seed: int) -> bool:
    try:
        viewed(batch, spec, seed)
    except BadRecipe:
        return True
    return False


def _safe(rates: dict[str, float], mirrored: list[float], sixes: float) -> list[Claim]:
    return [
        equals("Nothing done: all keep their class", rates["nothing"], 1, 0),
        at_least("Rotated by up to 15 degrees more keep it than by up to 180: by",
                 rates["rotate 15"] - rates["rotate 180"], 0.25),
        at_least("Brightness up to half: share kept", rates["brightness"], 0.9),
        at_most("Mirrored: share kept", rates["flip"], 0.7, "T1.7"),
        at_least("It depends on the digit: 8 less the mean of 3 and 5",
                 mirrored[8] - (mirrored[3] + mirrored[5]) / 2, 0.05, "T1.7"),
        at_least("A 6 upside down is called 9: share", sixes, 0.2, "T1.7"),
    ]  # fmt: skip


def _helps(
    right: dict[str, tuple[float, float]], harder: float, easier: float
) -> list[Claim]:  # fmt: skip
    return [
        at_least("On shifted images, crop in training: accuracy higher by",
                 right["crop"][1] - right["without"][1], 0.1),
        at_least("On plain images: by", right["crop"][0] - right["without"][0], 0.01),
        at_most("Flip in training, on plain images: by", right["flip"][0] - right["without"][0], 0,
                "T1.7"),
        at_least("The training loss is higher with augmentation: by", harder - easier, 0.02,
                 "T2.4"),
    ]  # fmt: skip


def _draw(digit: int, sample: int, draws: int, rates: dict[str, float], seed: int) -> Figure:
    from pellucid.labs.drawing import sheet

    part = Digits().load().train
    chosen = [int((part.targets == d).nonzero()[sample]) for d in (digit, 3, 8)]
    grey = part.pixels(torch.tensor([chosen[0]]))
    colour = torch.stack([part.pixels(torch.tensor([p]))[0, 0] for p in chosen])[None]
    rows = [(name, spec, grey) for name, spec in GREY.items() if name != "nothing"]
    rows += [(name, spec, colour) for name, spec in COLOUR.items()]
    figure, axes = sheet(
        f"Views of a {digit}, and how many\nof 1,000 digits keep their class",
        draws + 1, len(rows), size=(1.1 * draws + 3.2, 1.05 * len(rows) + 0.8),
    )  # fmt: skip
    for line, (name, spec, image) in enumerate(rows):
        places = torch.arange(draws)
        batch = Batch(image.repeat(draws, 1, 1, 1), places, places, places, draws)
        views = viewed(batch, spec, seed).images * 0.3081 + 0.1307
        for column in range(draws + 1):
            axis = axes[line * (draws + 1) + column]
            shown = image[0] / 255 if column == 0 else views[column - 1]
            axis.imshow(shown.permute(1, 2, 0).clamp(0, 1).squeeze(-1).numpy(), cmap="gray",
                        vmin=0, vmax=1)  # fmt: skip
            axis.set(xticks=[], yticks=[])
            if line == 0:
                axis.set_title("image" if column == 0 else f"view {column}", fontsize=9)
        rate = f"\n{rates[name]:.1%}" if name in rates else "\nin colour"
        axes[line * (draws + 1)].set_ylabel(name + rate, rotation=0, ha="right", va="center",
                                            fontsize=9)  # fmt: skip
    return figure
