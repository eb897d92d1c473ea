"""What every test relies on: no leaked state, a folder of its own, small but real data."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pellucid import Recipe, good, steps
from pellucid.augment.geometry import Crop, Flip
from pellucid.augment.pipeline import AugmentSpec
from pellucid.data.digits import Digits
from pellucid.plan import Duration
from pellucid.recipe import RecordSpec
from pellucid.values import Loaded, Progress, no_progress


def _keep_to_one_core() -> None:
    """Give each of the workers that run tests side by side a core of its own, with all it starts.

    Small tensors gain little from a second thread, and threads that share a core with those of
    another process slow both down far more than twofold.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
        torch.set_num_threads(1)


_keep_to_one_core()


@pytest.fixture(autouse=True)
def _nothing_leaks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give each test a folder and a cache; fail one that leaves something global behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
        threads, before = set(threading.enumerate()), _global_settings()
        yield
        for thread in set(threading.enumerate()) - threads:
            thread.join(timeout=5)  # those of a loader's queues are just ending
            assert not thread.is_alive(), f"{thread.name} is left behind"
    assert _global_settings() - before == set()


def _global_settings() -> set[object]:
    mine = (
        "PYTEST",
        "PELLUCID_CACHE",
        "KMP_",
        "TORCH",
    )  # set by pytest, and by torch when first used
    return {
        *(name for name in os.environ if not name.startswith(mine)),
        torch.get_default_dtype(),
        f"gradients {torch.is_grad_enabled()}",
        f"deterministic {torch.are_deterministic_algorithms_enabled()}",
    }


@dataclass(frozen=True)
class FewDigits:
    """A few real digits: a source that was made in Python, as a user's own would be."""

    per_class: tuple[int, ...] = (5, 4, 5, 4, 5, 4, 5, 4, 5, 4)
    validation: float = 0.2
    test: float = 0.0

    def load(self, progress: Progress = no_progress) -> Loaded:
        """Return 45 to train on, and 20 to test on."""
        loaded = Digits().load(progress)
        assert loaded.test is not None
        labels = loaded.train.targets
        index = torch.cat(
            [(labels == digit).nonzero().flatten()[:n] for digit, n in enumerate(self.per_class)]
        )
        return Loaded(loaded.train.part(index), test=loaded.test.part(torch.arange(0, 1000, 50)))


@pytest.fixture
def tiny() -> Recipe:
    """A recipe of 12 steps in 3 epochs, with everything on that has a memory or draws numbers."""
    return good("digits").with_(
        data=FewDigits(),
        augment=AugmentSpec(flip=Flip(), crop=Crop(padding=2)),
        length=steps(12),
        evaluate=Duration.parse("2 steps"),
        batch_size=10,
        record=RecordSpec(every=3, checkpoint=steps(1), snapshots=3),
    )


@pytest.fixture(scope="session")
def sets() -> Path:
    """The folder of the big sets; a test that needs it is skipped where there is none."""
    folder = os.environ.get("PELLUCID_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("PELLUCID_DATA names no folder with the big sets")
    return Path(folder)
