"""A real image folder: photos as people have them."""

from __future__ import annotations

import tarfile

import torch

from pellucid.data.folder import Folder


def test_the_flowers(real_data, tmp_path):
    with tarfile.open(real_data / "flowers-128.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from Python 3.11.4 on
        archive.extractall(tmp_path)
    loaded = Folder(str(tmp_path / "flowers"), size=32).load()
    assert len(loaded.train) == 4_317
    assert loaded.train.classes == ("daisy", "dandelion", "rose", "sunflower", "tulip")
    assert loaded.train.shape == (3, 32, 32)
    assert any("hidden or system files" in note for note in loaded.notes)
    again = Folder(str(tmp_path / "flowers"), size=32).load()
    assert torch.equal(loaded.train.images, again.train.images)
