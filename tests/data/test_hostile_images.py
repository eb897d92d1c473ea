"""Hostile image files: each ends in a named error, or is decoded right."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from pellucid.data.decode import NotAnImage, Picture, decode, picture
from tests.data.hostile import Case, cases

CASES = cases()


def test_there_are_enough_and_they_are_the_same_every_time() -> None:
    assert len(CASES) >= 400
    cut = [case for case in CASES if "cut" in case.name]
    assert [case for case in cases() if "cut" in case.name] == cut
    assert [case for case in cases(1) if "cut" in case.name] != cut


def test_each_ends_in_a_named_error_or_is_decoded_right() -> None:
    counts = {"refused": 0, "decoded": 0}
    for case in CASES:
        counts[judged(case)] += 1
    assert counts["refused"] >= 300
    assert counts["decoded"] >= 60


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 26))
def test_other_seeds(seed: int) -> None:
    for case in cases(seed):
        judged(case)


def judged(case: Case) -> str:
    """Return what became of a case, after checking that it is what must."""
    seen = looked_at(case.data)
    if isinstance(seen, str):
        assert case.want != "right", f"{case.name}: {seen}"
        assert 5 < len(seen) < 200, case.name
        assert "\n" not in seen
        with pytest.raises(NotAnImage):
            decode(case.data, 3, 16)
        return "refused"
    assert case.want != "refused", case.name
    assert decode(case.data, 3, 16).shape == (3, 16, 16)
    if case.want == "agree":
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(case.data)) as image:
            image.load()
            assert sorted(image.size) == sorted(seen.size), case.name
    else:
        expected = picture(case.original)
        assert seen.size == expected.size
        assert np.array_equal(np.asarray(seen.image), np.asarray(expected.image)), case.name
    return "decoded"


def test_the_number_of_scans_is_bounded() -> None:
    case = next(case for case in CASES if "scans" in case.name)
    assert "scans of 6500 x 6000 pixels" in str(looked_at(case.data))


def looked_at(data: bytes) -> Picture | str:
    try:
        return picture(data)
    except NotAnImage as error:
        return str(error)


def test_bombs_are_refused_before_they_take_memory() -> None:
    code = """
import json, resource
from pellucid.data.decode import NotAnImage, picture
from tests.data.hostile import cases
bombs = [c for c in cases() if "bomb" in c.name or "scans" in c.name or "unpacks" in c.name]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
refused = 0
for case in bombs:
    try:
        picture(case.data)
    except NotAnImage:
        refused += 1
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([len(bombs), refused, (after - before) / 1000]))
"""
    alone = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=alone, capture_output=True, text=True, check=True
    )
    count, refused, megabytes = json.loads(done.stdout)
    assert count >= 15
    assert refused >= count - 1  # a GIF whose frame is larger than its screen: as Pillow has it
    assert megabytes < 100
