"""The end of a run: what fails beside the judging is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pellucid import Recipe, resume, train


def test_curves_that_cannot_be_written_end_the_run_with_the_reason(
    tiny: Recipe, tmp_path: Path
) -> None:
    """They are drawn by a thread: what goes wrong there is not lost."""
    run = train(tiny, tmp_path, stop=lambda step: True)
    (run.path / "figures").write_text("in the way")
    with pytest.raises(OSError, match="figures"):
        resume(run.path, tiny)
    (run.path / "figures").unlink()
    assert resume(run.path, tiny).summary() is not None
    assert (run.path / "figures/curves.png").exists()
