"""The perceptual hash, and the search: against a comparison of all with all."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import dctn

from pellucid.checks import data_near
from pellucid.checks.data_near import BITS, close_pairs, neighbours, perceptual_hashes


def smooth(count: int, seed: int = 0, cells: int = 9) -> NDArray[np.float32]:
    """Images (N, 32, 32) of chance, smooth as photos are."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(count, cells, cells)).astype(np.float32)
    at = np.linspace(0, cells - 1.001, 32)
    low, share = at.astype(int), (at % 1).astype(np.float32)
    rows = coarse[:, low] * (1 - share)[:, None] + coarse[:, low + 1] * share[:, None]
    both = rows[:, :, low] * (1 - share) + rows[:, :, low + 1] * share
    return np.clip(128 + 50 * both, 0, 255).astype(np.float32)


def thumbs(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    return images.reshape(-1, 16, 2, 16, 2).mean((2, 4)).round().astype(np.uint8)


def test_the_hash_is_made_of_the_lowest_frequencies() -> None:
    images = smooth(20)
    frequencies = dctn(images, axes=(1, 2), norm="ortho")
    order = sorted(((u, v) for u in range(32) for v in range(32)), key=lambda at: (sum(at), at))
    wanted = np.array([[image[at] > 0 for at in order[1:65]] for image in frequencies])
    bits = np.unpackbits(perceptual_hashes(images)[0].view(np.uint8).reshape(20, 8), axis=1)
    assert (bits != wanted).mean() < 0.03  # but for those that are hardly there


def test_the_hash_of_a_mirror_image() -> None:
    images = smooth(200)
    hashes, mirrored = perceptual_hashes(images)
    other, back = perceptual_hashes(np.ascontiguousarray(images[:, :, ::-1]))
    assert np.bitwise_count(mirrored ^ other).max() <= 1
    assert np.bitwise_count(hashes ^ back).max() <= 1
    assert np.bitwise_count(hashes ^ mirrored).mean() > 20


@pytest.mark.parametrize("crowded", [False, True])
def test_the_search_finds_all_pairs_once(crowded: bool) -> None:
    """In buckets, and, where they would be too full, all with all."""
    random = np.random.default_rng(3)
    base = random.integers(0, 2**63, 500, dtype=np.uint64)
    if crowded:
        base &= np.uint64(0x0101_0101_0333_7777)
    planted = base[:360].copy()
    for bit in range(9):
        planted[bit * 40 :] ^= np.uint64(1) << random.integers(0, 64, 360 - bit * 40).astype("u8")
    hashes = np.concatenate([base, planted])
    others = np.concatenate([planted, base])
    for right in (hashes, others):
        differing = np.bitwise_count(hashes[:, None] ^ right[None])
        wanted = {(i, j) for i, j in zip(*np.nonzero(differing <= BITS), strict=True) if i < j}
        found = [
            (i, j)
            for first, second in close_pairs(hashes, right)
            for i, j in zip(first.tolist(), second.tolist(), strict=True)
        ]
        assert len(found) == len(set(found))
        assert set(found) == wanted
        assert len(wanted) > 250


def near(images: NDArray[np.float32], groups: list[int] | None = None) -> data_near.Neighbours:
    at = np.array(groups or [0] * len(images), np.int64)
    return neighbours(*perceptual_hashes(images), thumbs(images), at, int(at.max()) + 1)


def test_distinct_images_are_never_near() -> None:
    found = near(smooth(4000))
    assert np.isinf(found.distance).all()  # of 8 million pairs, and as many with a mirror image


def test_changed_copies_are_near_and_the_nearest_is_told() -> None:
    images = smooth(300)
    noisy = images + np.random.default_rng(1).normal(0, 2, images.shape).astype(np.float32)
    worse = images + np.random.default_rng(2).normal(0, 12, images.shape).astype(np.float32)
    turned = np.ascontiguousarray(images[:, :, ::-1]) * 0.9 + 10
    every = np.concatenate([images, worse, noisy, turned]).clip(0, 255).astype(np.float32)
    found = near(every, [0] * 300 + [1] * 600 + [2] * 300)
    assert (found.partner[:300, 1] == np.arange(600, 900)).all()
    assert (found.partner[:300, 2] == np.arange(900, 1200)).all()
    assert found.mirrored[:300, 2].all()
    assert not found.mirrored[:300, 1].any()
    assert (found.distance[:300, 1] < 0.05).all()
    assert (found.partner[600:900, 0] == np.arange(300)).all()


def test_images_of_one_brightness_are_near_to_nothing() -> None:
    images = np.full((50, 32, 32), 100, np.float32)
    images += np.random.default_rng(0).normal(0, 1, images.shape).astype(np.float32)
    assert np.isinf(near(np.concatenate([images, images])).distance).all()


def noisier(images: NDArray[np.float32], deviation: float) -> NDArray[np.float32]:
    noise = np.random.default_rng(5).normal(0, deviation, images.shape)
    return (images + noise).clip(0, 255).astype(np.float32)


def test_what_is_only_like_another_is_not_near() -> None:
    images = smooth(200)
    every = np.concatenate([images, noisier(images, 60)])
    hashes, _ = perceptual_hashes(every)
    candidates = np.bitwise_count(hashes[:200] ^ hashes[200:]) <= BITS
    assert candidates.sum() > 10
    assert np.isinf(near(every).distance).all()


def test_in_a_set_of_like_images_even_a_lone_pair_must_be_sure() -> None:
    lone = smooth(3, 11)
    every = np.concatenate([lone, noisier(lone, 12)])
    found = near(every).distance[:3, 0]
    assert ((found > 0.05) & (found < 0.25)).all()  # told, where no others are
    shape = smooth(1, 7)[0]
    images = (shape + 12 * (smooth(600, 8) - 128) / 50).clip(0, 255).astype(np.float32)
    assert np.isinf(near(np.concatenate([every, images])).distance[:6]).all()


def test_where_all_are_alike_only_the_surest_count() -> None:
    """Images of one shape: their nearest ones are no copies."""
    shape = smooth(1, 7)[0]
    images = (shape + 12 * (smooth(600, 8) - 128) / 50).clip(0, 255).astype(np.float32)
    found = near(images)
    assert np.isinf(found.distance).all()
    copies = np.concatenate([images, images[:30] + 1])
    found = near(copies.clip(0, 255).astype(np.float32))
    assert (found.partner[600:, 0] == np.arange(30)).all()
    assert np.isinf(found.distance[30:600]).all()
