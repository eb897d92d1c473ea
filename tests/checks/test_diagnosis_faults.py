"""Each planted bug is named; healthy runs raise no alarm."""

from __future__ import annotations

import pytest

from pellucid.data.digits import Digits
from tests.checks.faults import FAULTS, Fault
from tests.checks.faults_none import HEALTHY, Healthy
from tests.checks.faults_run import NetSpec, Setting

SMALL = Setting("digits", Digits(), NetSpec, seed=7, steps=60, per_class=40)
LARGER = Setting("digits", Digits(), NetSpec, seed=8, steps=150, per_class=400)

QUICK = {
    "plain", "SGD with momentum", "mixup", "average of weights", "class weights", "twenty steps",
    "without validation", "sigmoid, two layers, Adam", "Kaiming weights",
}  # fmt: skip


def test_there_are_enough_of_both_kinds_and_no_two_of_a_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 15
    assert len({run.name for run in HEALTHY}) == len(HEALTHY) >= 20
    assert {run.name for run in HEALTHY} > QUICK


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_planted_bug_is_named(fault: Fault) -> None:
    seen = fault.run(SMALL, until=fault.expected)
    assert fault.expected in seen.warnings(), [str(finding) for finding in seen.told]
    finding = seen.warnings()[fault.expected]
    assert finding.numbers
    assert any(digit in finding.sentence for digit in "0123456789")


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run, id=run.name, marks=[] if run.name in QUICK else pytest.mark.slow)
        for run in HEALTHY
    ],
)
def test_a_healthy_run_raises_no_alarm(run: Healthy) -> None:
    """Neither at its end nor at any evaluation on the way."""
    seen = run.run(SMALL if run.name in QUICK else LARGER)
    assert seen.diverged is None
    assert seen.warnings() == {}
