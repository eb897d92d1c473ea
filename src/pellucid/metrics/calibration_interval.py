"""The 95 % interval of a calibration error, which is no mean of images and is never below 0."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pellucid.seeds import generator

DRAWS = 1000
"""Draws of the noise: the ends of an interval are then good to about a twentieth of its width."""
HALVINGS = 12


def ece_interval(gaps: Tensor, noise: Tensor) -> tuple[float, float]:
    """Return the 95 % interval of the sum of the absolute `gaps`.

    The sum of what was measured is too large: noise adds to it in every bin, however good the
    model. Resampling the images adds it once more, and often leaves the value itself outside. So
    the test is turned round. For each c from 0 on the true gaps are supposed to be c times those
    that were measured, and normal noise is drawn on top; the interval holds the errors of those c
    under which the error that was measured is among the middle 95 of 100. It begins at 0 where
    chance alone explains the error.

    Args:
        gaps: (B,) mean confidence minus accuracy of each bin, times its share of the images.
        noise: (B,) standard errors of the gaps.

    >>> ece_interval(torch.tensor([0.02]).double(), torch.tensor([0.03]).double())[0]
    0.0
    """
    drawn = torch.randn(
        DRAWS, len(gaps), generator=generator(0, "calibration"), dtype=torch.float64
    )
    steady, added = gaps.numpy(), (noise * drawn).numpy()
    measured = float(gaps.abs().sum())

    def scale(share: float) -> float:
        """Return the largest c under which `share` of the draws are at most what was measured."""
        place = round(share * DRAWS) - 1

        def below(c: float) -> bool:
            errors = np.abs(c * steady + added).sum(1)
            return bool(np.partition(errors, place)[place] <= measured)

        if measured == 0 or not below(0.0):
            return 0.0
        low, high = 0.0, 1.0
        while below(high) and high < 1e6:
            low, high = high, 2 * high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if below(middle) else (low, middle)
        return low

    return scale(0.975) * measured, min(1.0, scale(0.025) * measured)
