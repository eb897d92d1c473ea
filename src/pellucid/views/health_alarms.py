"""What rings an alarm in the view `health`: layers that are dead, stuck, starved or blown up."""

from __future__ import annotations

import math
from typing import NamedTuple

from pellucid.checks.diagnosis_signs import EXPLODED, MANY_DEAD, SATURATED, VANISHED
from pellucid.inspection.health import Pulse


class Moment(NamedTuple):
    """The network after some steps: what was seen in it."""

    step: int
    pulse: Pulse


class Alarm(NamedTuple):
    """Something that is likely to be wrong."""

    kind: str
    step: int
    layer: str
    text: str


def alarms_of(moment: Moment) -> list[Alarm]:
    """Return what is likely to be wrong at one moment."""
    step, seen = moment
    found = []
    after = f"after step {step:,}"
    for signal in seen.signals:
        layer, units = signal.site.layer, signal.site.shape[0]
        dead = len(signal.dead or ())
        if dead >= MANY_DEAD * units:
            found.append(Alarm("dead", step, layer, f"{after} {dead} of {units} units of {layer} "
                               "are 0 for every one of these images."))  # fmt: skip
        if (signal.saturated or 0) >= SATURATED:
            text = f"{after} {signal.saturated:.0%} of the values of {layer} are at its ends."
            found.append(Alarm("saturated", step, layer, text))
    shares = {name: seen.gradients[name] / seen.weights[name] for name in seen.weights
              if seen.weights[name] > 0 and not math.isnan(seen.gradients[name])}  # fmt: skip
    if shares:
        first, last = next(iter(shares)), list(shares)[-1]
        if shares[first] < VANISHED * shares[last]:
            found.append(Alarm("vanish", step, first, f"{after} the gradient of {first}, relative "
                               f"to its weights, is {shares[first]:.1e}; that of {last} is "
                               f"{shares[last]:.1e}."))  # fmt: skip
    if not seen.total < EXPLODED:
        found.append(Alarm("explode", step, "all", f"{after} the gradient has norm "
                           f"{seen.total:.3g}; below 20 is usual."))  # fmt: skip
    return found
