"""Four looks inside that stand in a report: filters, evolution, activations, worst mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pellucid.errors import UserError
from pellucid.figures.activations import draw_activations
from pellucid.figures.evolution import draw_evolution
from pellucid.figures.filters import draw_filters
from pellucid.figures.frame import Draw
from pellucid.figures.mistakes import draw_mistakes
from pellucid.figures.render import svg
from pellucid.inspection.attribution import STEPS, Question, integrated_gradients
from pellucid.inspection.formulas import macs
from pellucid.inspection.trace import looking, trace
from pellucid.metrics.mistakes import Mistake, mistakes
from pellucid.runs.folder import Run
from pellucid.runs.predictions import read_predictions
from pellucid.values import ImageSet, Splits
from pellucid.viewdata import DoesNotApply, Proof, ViewData
from pellucid.views import activations, evolution, filters
from pellucid.views.options import Options
from pellucid.views.subject import Subject, of_run

SHOWN = 4
FEW_STEPS = 64
"""Points of the way of integrated gradients; as many as a view takes where these do not do."""
WORK, IMAGES = 60_000_000_000, 4_000_000_000
"""Multiplications that attribution and the audit of the units may take, about: some seconds."""
GAP = 0.01


@dataclass(frozen=True, eq=False)
class Inside:
    """A look inside that stands in a report, or why it does not.

    Args:
        name: of the view that shows more.
        title: above it.
        text: what it shows, in one line.
        data: what was found, or None.
        why: the reason, where there is none.
        draw: makes the figure.
    """

    name: str
    title: str
    text: str
    data: ViewData | None
    why: str
    draw: Draw

    @property
    def picture(self) -> str:
        """The figure as an SVG element."""
        data = self.data
        return "" if data is None else svg(lambda: self.draw(data), f"inside-{self.name}")

    def as_dict(self) -> dict[str, Any]:
        """Return what was found as plain values, but for the arrays behind the picture."""
        if self.data is None:
            return {"why": self.why}
        return {key: value for key, value in self.data.plain().items() if key != "numbers"}


Look = tuple[str, str, str, Draw, Callable[[], ViewData]]


def looks_inside(run: Run, splits: Splits | None, device: str) -> list[Inside]:
    """Return the four looks. One that fails says why: a report does not fail because of it.

    Args:
        run: finished.
        splits: its images, or None.
        device: where to compute.
    """
    try:
        subject = of_run(run, device=device)
    except UserError:
        return []  # no model: the notes of the report say why
    if splits is not None:
        subject = replace(subject, parts=lambda: splits)
    worst = _worst(run) if splits is not None and len(splits.validation) else []
    first = worst[0].row if worst else 0
    looks: tuple[Look, ...] = (
        ("filters", "Filters of the first layer", "As trained, as they began, and shuffled; white "
         "is 0.", draw_filters, lambda: filters.compute(subject, Options())),
        ("evolution", "Filters over the run", "The filters that moved most, and how far each "
         "layer went.", draw_evolution, lambda: evolution.compute(subject, Options())),
        ("activations", "What each layer makes of one image", "The worst mistake on validation "
         "images, or the first of them.", draw_activations,
         lambda: activations.compute(subject, Options(index=first, count=_affordable(subject)))),
        ("attribution", "Which pixels speak for the worst mistakes", "Integrated gradients: red "
         "speaks for the class, blue against it, the sum is the change of the logit from black.",
         draw_mistakes, lambda: _mistakes(subject, worst)),
    )  # fmt: skip
    return [_taken(*look) for look in looks]


def _taken(name: str, title: str, text: str, draw: Draw, look: Callable[[], ViewData]) -> Inside:
    try:
        return Inside(name, title, text, look(), "", draw)
    except UserError as error:
        why = str(error)
    except Exception as error:  # a network of an unforeseen kind; the run is no less finished
        why = f"This look failed: {type(error).__name__}: {error}".partition("\n")[0]
    return Inside(name, title, text, None, why, draw)


def _worst(run: Run) -> list[Mistake]:
    path = run.path / "predictions" / "validation.csv"
    return list(mistakes(read_predictions(path).predictions)[:SHOWN]) if path.is_file() else []


def _cost(subject: Subject) -> int:
    """Return multiplications for one image."""
    image = torch.zeros(1, *subject.shape, device=subject.device)
    with looking(subject.model), torch.no_grad():
        return max(1, sum(macs(op) for op in trace(subject.model, image)))


def _affordable(subject: Subject) -> int:
    return min(200, max(16, IMAGES // _cost(subject)))


def _mistakes(subject: Subject, worst: Sequence[Mistake]) -> ViewData:
    """Return integrated gradients of the worst mistakes, for the answer and for the label."""
    if not worst:
        raise DoesNotApply("No validation image was taken for another class, or there are none.")
    data = subject.part("validation")
    count = min(len(worst), WORK // (_cost(subject) * FEW_STEPS * 6))
    if not count:
        raise DoesNotApply(
            "This network is too large for a quick report; see pellucid inspect "
            f"{subject.run.name if subject.run else 'RUN'} attribution --index {worst[0].row}"
        )
    found = [_attributed(subject, data, mistake) for mistake in worst[:count]]
    return ViewData(
        "attribution", f"The {count} worst mistakes on validation images: what speaks for what",
        {"mistakes": found},
        (
            Proof("sums of integrated gradients - differences of the logits to those of black, "
                  "the largest (relative)", max(one["gap"] for one in found), GAP),
        ),
        ("image", "label", "answer", "sum for the answer", "sum for the label"),
        tuple((one["name"], one["label"], one["answer"], f"{float(one['for_answer'].sum()):+.3f}",
               f"{float(one['for_label'].sum()):+.3f}") for one in found),
        (), subject.provenance(images=data.name),
    )  # fmt: skip


def _attributed(subject: Subject, data: ImageSet, mistake: Mistake) -> dict[str, Any]:
    pixels = data.pixels(torch.tensor([mistake.row]))
    x, black = subject.prepare(pixels), subject.prepare(torch.zeros_like(pixels))
    maps, gaps = {}, []
    with looking(subject.model):
        for key, name in (("for_answer", mistake.predicted), ("for_label", mistake.true)):
            q = Question(subject.model, x, black, subject.classes.index(name))
            change = float((q.logits(x) - q.logits(black))[0])
            for steps in (FEW_STEPS, STEPS, 4 * STEPS):
                values = integrated_gradients(q, steps)
                gap = abs(float(values.sum()) - change) / max(abs(change), 0.1)
                if gap <= GAP:
                    break
            maps[key] = values.sum(0).cpu()
            gaps.append(gap)
    return {
        "image": pixels[0], "name": data.describe(mistake.row), "row": mistake.row,
        "label": mistake.true, "answer": mistake.predicted, **maps, "gap": max(gaps),
    }  # fmt: skip
