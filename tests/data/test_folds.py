"""Folds: each image is held out once, classes stay in proportion, groups stay together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from pellucid import good
from pellucid.catalogue import from_toml, from_tree, to_toml, to_tree
from pellucid.data.folds import FoldSpec, folds
from pellucid.data.split import split
from pellucid.data.table import Csv
from pellucid.errors import BadData, BadRecipe
from pellucid.values import ImageSet, Loaded


def images(labels: torch.Tensor, groups: torch.Tensor | None = None, first: int = 0) -> ImageSet:
    pixels = torch.arange(first, first + len(labels)).view(-1, 1, 1, 1).to(torch.uint8)
    names = tuple(f"{first + i}.png" for i in range(len(labels)))
    whole = ImageSet.of(pixels, labels, ("a", "b", "c"), "made/train", names)
    return ImageSet(whole.images, labels, whole.classes, whole.name, whole.rows, names, groups)


@given(
    sizes=st.lists(st.integers(5, 40), min_size=2, max_size=5),
    count=st.integers(2, 5),
    seed=st.integers(0, 100),
)
@settings(max_examples=100, deadline=None)
def test_sizes_and_classes_differ_by_one_at_most(sizes: list[int], count: int, seed: int) -> None:
    labels = torch.cat([torch.full((n,), i) for i, n in enumerate(sizes)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    fold = folds(labels, count, seed)
    assert set(fold.tolist()) == set(range(count))
    sizes_found = fold.bincount(minlength=count)
    assert sizes_found.max() - sizes_found.min() <= 1
    for label in range(len(sizes)):
        of_class = fold[labels == label].bincount(minlength=count)
        assert of_class.max() - of_class.min() <= 1


def test_they_are_drawn_by_the_seed() -> None:
    labels = torch.arange(60) % 3
    assert torch.equal(folds(labels, 5, 1), folds(labels, 5, 1))
    assert not torch.equal(folds(labels, 5, 1), folds(labels, 5, 2))


@given(seed=st.integers(0, 60), count=st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_groups_stay_together_and_classes_as_even_as_with_sklearn(seed: int, count: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    groups = torch.randint(0, 20, (200,), generator=draws)
    labels = torch.randint(0, 3, (200,), generator=draws)
    fold = folds(labels, count, seed, groups)
    for group in groups.unique():
        assert len(fold[groups == group].unique()) == 1

    def unevenness(of_image: torch.Tensor) -> float:
        table = torch.bincount(of_image * 3 + labels, minlength=3 * count).view(count, 3).double()
        return float((table / table.sum(0)).std(0, correction=0).mean())

    theirs = torch.empty_like(fold)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for number, (_, held) in enumerate(splitter.split(labels, labels, groups)):
        theirs[torch.from_numpy(held)] = number
    assert unevenness(fold) <= unevenness(theirs) + 0.05


def test_more_folds_than_images_of_a_class() -> None:
    labels = torch.tensor([0] * 10 + [1] * 3)
    with pytest.raises(BadData, match="4 folds need each class in at least 4 images.*has 3"):
        folds(labels, 4, 0)
    with pytest.raises(BadData, match="in at least 3 groups.*has 2"):
        folds(torch.tensor([0, 1] * 6), 3, 0, torch.tensor([0, 0, 1, 1] * 3))


def test_over_all_folds_each_image_is_held_out_once() -> None:
    loaded = Loaded(images(torch.arange(30) % 3), test=images(torch.arange(6) % 3, first=100))
    held = []
    for index in range(4):
        parts = split(loaded, 0.1, 0.0, 0, FoldSpec(4, index))
        assert set(parts.train.rows.tolist()).isdisjoint(parts.validation.rows.tolist())
        assert len(parts.train) + len(parts.validation) == 30
        assert len(parts.test) == 6
        held += parts.validation.rows.tolist()
        assert f"fold {index + 1} of 4" in parts.notes[-1]
    assert sorted(held) == list(range(30))


def test_the_datas_own_validation_part_joins_the_others() -> None:
    apart = Loaded(images(torch.arange(12) % 3), images(torch.arange(6) % 3, first=50))
    parts = split(apart, 0.1, 0.0, 0, FoldSpec(3, 0))
    seen = {parts.train.file(i) for i in range(len(parts.train))}
    seen |= {parts.validation.file(i) for i in range(len(parts.validation))}
    assert seen == {f"{i}.png" for i in [*range(12), *range(50, 56)]}
    store = images(torch.arange(18) % 3)
    one_store = Loaded(store.part(torch.arange(12)), store.part(torch.arange(12, 18)))
    parts = split(one_store, 0.1, 0.0, 0, FoldSpec(3, 0))
    assert len(parts.train) + len(parts.validation) == 18
    assert parts.train.images is store.images


def test_one_fold_holds_nothing_out() -> None:
    apart = Loaded(images(torch.arange(12) % 3), images(torch.arange(6) % 3, first=50))
    parts = split(apart, 0.1, 0.0, 0, FoldSpec(1))
    assert len(parts.validation) == 0
    seen = {parts.train.file(i) for i in range(len(parts.train))}
    assert seen == {f"{i}.png" for i in [*range(12), *range(50, 56)]}
    assert "validation part: none, all images are trained on" in parts.notes


@pytest.mark.parametrize(("validation", "test"), [(0.2, 0.0), (0.1, 0.2)])
def test_a_random_split_keeps_groups_together_too(validation: float, test: float) -> None:
    groups = torch.arange(120) // 4
    parts = split(Loaded(images(torch.arange(120) % 3, groups)), validation, test, 0)
    of = [set(p.group_ids.tolist()) for p in (parts.train, parts.validation, parts.test)]  # type: ignore[union-attr]
    assert sum(len(part) for part in of) == len(of[0] | of[1] | of[2]) == 30
    assert len(parts.validation) == pytest.approx(validation * (120 - len(parts.test)), abs=8)
    assert len(parts.test) == pytest.approx(test * 120, abs=4)
    other = split(Loaded(images(torch.arange(120) % 3, groups)), validation, test, 1)
    assert set(other.test.rows.tolist()) == set(parts.test.rows.tolist())  # whatever the seed


def test_groups_from_a_table(tmp_path: Path) -> None:
    lines = ["path,label,patient"]
    for number in range(24):
        Image.new("L", (8, 8), number * 10).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'ab'[number % 2]},p{number // 4}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines))
    loaded = Csv(path=str(table), group_column="patient", test=0.0).load()
    assert loaded.train.group_ids is not None
    names = [loaded.train.file(i) for i in range(len(loaded.train))]
    for name, group in zip(names, loaded.train.group_ids.tolist(), strict=True):
        assert group == int(Path(name).stem) // 4
    assert any("6 groups" in note for note in loaded.notes)
    with pytest.raises(BadData, match='one column "doctor"'):
        Csv(path=str(table), group_column="doctor").load()


def test_a_fold_is_a_setting_of_a_recipe() -> None:
    recipe = good("digits").with_(fold=FoldSpec(5, 2))
    assert from_tree(from_toml(to_toml(to_tree(recipe)))) == recipe
    assert "fold" not in to_tree(good("digits"))
    with pytest.raises(BadRecipe, match="fold: must be from 0 to 4, one of 5 folds"):
        from_tree({**to_tree(recipe), "fold": {"count": 5, "index": 5}})
