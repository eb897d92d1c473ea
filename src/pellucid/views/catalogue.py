"""All views. The list is closed: a view is in it because a line here says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pellucid.figures.ablation import draw_ablation
from pellucid.figures.activations import draw_activations
from pellucid.figures.attribution import draw_attribution
from pellucid.figures.classes import draw_classes
from pellucid.figures.evolution import draw_evolution
from pellucid.figures.excite import draw_excite
from pellucid.figures.filters import draw_filters, draw_kinds
from pellucid.figures.frame import Draw
from pellucid.figures.logits import draw_logits
from pellucid.figures.microscope import draw_microscope
from pellucid.figures.receptive import draw_receptive
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
    filters,
    life,
    logits,
    microscope,
    receptive,
    shapes,
    step,
)
from pellucid.views.options import Options, choose
from pellucid.views.subject import Subject


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
    """

    name: str
    text: str
    takes: tuple[str, ...]
    compute: Callable[[Subject, Options], ViewData]
    draw: Draw
    many: bool = False


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
    View("evolution", "The first layer's filters over the run, and how far each layer went.",
         evolution.TAKES, evolution.compute, draw_evolution),
    View("step", "The first training step of the run: tensors, gradients, update, forecast.",
         step.TAKES, step.compute, draw_step),
    View("life", "The twelve stages of the run, each with its line of code and its values.",
         life.TAKES, life.compute, draw_life),
    View("receptive-field", "What a unit can see by the formula, and what it leans on.",
         receptive.TAKES, receptive.compute, draw_receptive, many=True),
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
