"""All views. The list is closed: a view is in it because a line here says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pellucid.figures.ablation import draw_ablation
from pellucid.figures.activations import draw_activations
from pellucid.figures.attribution import draw_attribution
from pellucid.figures.classes import draw_classes
from pellucid.figures.evolution import draw_evolution
from pellucid.figures.excite import draw_excite
from pellucid.figures.features import draw_features
from pellucid.figures.filters import draw_filters, draw_kinds
from pellucid.figures.flip import draw_flip
from pellucid.figures.frame import Draw
from pellucid.figures.health import draw_health
from pellucid.figures.landscape import draw_landscape
from pellucid.figures.logits import draw_logits
from pellucid.figures.microscope import draw_microscope
from pellucid.figures.patches import draw_patches
from pellucid.figures.receptive import draw_receptive
from pellucid.figures.robustness import draw_robustness
from pellucid.figures.shapes import draw_shapes
from pellucid.figures.step import draw_life, draw_step
from pellucid.viewdata import ViewData
from pellucid.views import (
    ablation,
    activations,
    attribution,
    classes,
    evolution,
    excite,
    features,
    filters,
    flip,
    health,
    landscape,
    life,
    logits,
    microscope,
    patches,
    receptive,
    robustness,
    shapes,
    step,
)
from pellucid.views.options import Options, choose
from pellucid.views.subject import Subject
from pellucid.views.unit_pages import write_unit_pages


def no_pages(data: ViewData, folder: Path) -> tuple[Path, ...]:
    """Write no further pages: most views are one picture."""
    del data, folder
    return ()


@dataclass(frozen=True)
class View:
    """A way to look inside.

    Args:
        name: what a person calls it.
        text: what it shows, in one line.
        takes: the options that it takes.
        compute: reads the subject; draws nothing, prints nothing, changes nothing.
        draw: makes the picture; computes nothing.
        many: it looks at many images of a part of the data, not at one.
        pages: writes further pages of what was found below a folder; returns those to begin with.
    """

    name: str
    text: str
    takes: tuple[str, ...]
    compute: Callable[[Subject, Options], ViewData]
    draw: Draw
    many: bool = False
    pages: Callable[[ViewData, Path], tuple[Path, ...]] = no_pages


VIEWS = (
    View("shapes", "Shape, formula, parameters, cost and receptive field of each layer.",
         shapes.TAKES, shapes.compute, draw_shapes),
    View("filters", "The first layer's filters: trained, at the start, shuffled; measured.",
         filters.TAKES, filters.compute, draw_filters),
    View("kinds", "What kind of pattern each first-layer filter is, tested against chance.",
         filters.TAKES, filters.compute_kinds, draw_kinds),
    View("logits", "One image's logits as sums, and the reasons for one class and not another.",
         logits.TAKES, logits.compute, draw_logits),
    View("classes", "The weights of each class as features, likeness of classes, collapse.",
         classes.TAKES, classes.compute, draw_classes, many=True),
    View("microscope", "One unit at one place: patch times kernel, sums, bias, activation.",
         microscope.TAKES, microscope.compute, draw_microscope),
    View("activations", "Maps of each layer; dead, always-on and duplicate units over many images.",
         activations.TAKES, activations.compute, draw_activations, many=True),
    View("excite", "Which kernels an image or a drawing excites most, and where.",
         excite.TAKES, excite.compute, draw_excite),
    View("attribution", "Which pixels speak for a class: six methods, each with tests it can fail.",
         attribution.TAKES, attribution.compute, draw_attribution),
    View("flip", "The smallest change of an image that makes the model give another answer.",
         flip.TAKES, flip.compute, draw_flip),
    View("evolution", "The first layer's filters over the run, and how far each layer went.",
         evolution.TAKES, evolution.compute, draw_evolution),
    View("health", "Signals, gradients and updates of each layer over the run, with alarms.",
         health.TAKES, health.compute, draw_health, many=True),
    View("landscape", "The loss around the weights, and the way by which the run came there.",
         landscape.TAKES, landscape.compute, draw_landscape, many=True),
    View("step", "The first training step of the run: tensors, gradients, update, forecast.",
         step.TAKES, step.compute, draw_step),
    View("life", "The twelve stages of the run, each with its line of code and its values.",
         life.TAKES, life.compute, draw_life),
    View("patches", "The pieces of images that excite each unit most, and a page for each unit.",
         patches.TAKES, patches.compute, draw_patches, many=True, pages=write_unit_pages),
    View("features", "What units want, with a verdict; how images lie to each other over the run.",
         features.TAKES, features.compute, draw_features, many=True),
    View("receptive-field", "What a unit can see by the formula, and what it leans on.",
         receptive.TAKES, receptive.compute, draw_receptive, many=True),
    View("robustness", "Accuracy and confidence when images are shifted, turned, noisy, flat.",
         robustness.TAKES, robustness.compute, draw_robustness, many=True),
    View("ablation", "What each unit of a layer is worth, for each class.",
         ablation.TAKES, ablation.compute, draw_ablation, many=True),
)  # fmt: skip
"""In the order in which they are shown on one page."""


def find_view(name: str) -> View:
    """Return the view called `name`.

    Raises:
        BadOption: naming those that there are.
    """
    names = [view.name for view in VIEWS]
    return VIEWS[names.index(choose("view", name, names))]
