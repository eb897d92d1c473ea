"""Attention, and the layers that are built on it: encoder and decoder of the Transformer.

Vaswani et al., Attention is all you need (2017).
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, at_most, is_true
from pellucid.seeds import generator, reseed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, HEADS = 4, 2


@lab
def run(
    *,
    tokens: Annotated[int, ranged("in the sequence", 2, 12)] = 3,
    causal: Annotated[bool, about("each token sees itself and earlier ones only")] = False,
    seed: Annotated[int, ranged("of tokens and weights", 0, 10**6)] = 0,
) -> LabResult:
    """Compute attention with several heads, an encoder and a decoder layer by hand."""
    reseed(seed, "lab")
    x = torch.randn(1, tokens, WIDTH, generator=generator(seed, "lab"), dtype=torch.float64)
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64).eval()
    mask = _later(tokens) if causal else torch.zeros(tokens, tokens, dtype=torch.bool)
    out, weights = attend(layer, x, x, mask)
    first = weights[0, 0, -1].tolist()
    text = f"""
        Attention lets each token look at all others. Each makes a query q, a key k and a value v,
        by three matrices; its answer is a mean of the values, weighted by how well keys fit its
        query:

            softmax(q k' / sqrt(d)) v        d: the width of a head

        Without the root the scores grow with d, softmax becomes nearly one-hot, and its gradient
        vanishes. Here {tokens} tokens of width {WIDTH}, in {HEADS} heads of width {WIDTH // HEADS}:
        each head has weights of its own. In head 0 the last token looks at
        {", ".join(f"{w:.3f}" for w in first)}; the sum is 1.

        A mask sets scores to minus infinity before softmax: weights there are exactly 0. Beware:
        True means "ignore" in the masks of the Transformer modules, "take part" in
        scaled_dot_product_attention.

        The encoder layer: attention, then a feed-forward network for each token alone; each is
        added to its input (residual) and normalised. The decoder layer looks at itself without what
        comes later, then at the encoder's output: queries from here, keys and values from there.

        Attention knows no order: tokens in another order give the same answers in that order.
        Positions have to be added to the tokens.
    """
    rows = [
        (f"head {h}, token {t}", *(float(w) for w in weights[0, h, t].tolist()))
        for h in range(HEADS)
        for t in range(tokens)
    ]
    head = ("looks from", *(f"at {t}" for t in range(tokens)))
    claims = [
        *_as_torch(layer, x, mask, out, weights), *_masks(layer, x), *_encoder(x, seed),
        *_decoder(x, seed), *_order(layer, x), *_scale(seed),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, layer, x, weights.detach()),
        [Table(head, rows, "Weights of attention")], {"weights": weights[0].tolist()},
    )  # fmt: skip


def attend(
    layer: nn.MultiheadAttention, x: Tensor, source: Tensor, ignore: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the answers (1, T, WIDTH) and weights (1, HEADS, T, S); `ignore` (T, S): True is out.

    Queries come from `x` (1, T, WIDTH), keys and values from `source` (1, S, WIDTH).
    """
    assert layer.in_proj_weight is not None
    (wq, wk, wv), (bq, bk, bv) = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)

    def heads(values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], HEADS, -1).transpose(1, 2)

    q, k, v = heads(x @ wq.T + bq), heads(source @ wk.T + bk), heads(source @ wv.T + bv)
    scores = q @ k.transpose(-1, -2) / scale(q.shape[-1])
    weights = scores.masked_fill(ignore, -math.inf).softmax(-1)
    joined = (weights @ v).transpose(1, 2).flatten(2)
    out: Tensor = joined @ layer.out_proj.weight.T + layer.out_proj.bias
    return out, weights


def scale(width: int) -> float:
    """Return what the scores of a head are divided by."""
    return math.sqrt(width)


def positions(tokens: int, width: int) -> Tensor:
    """Return sines and cosines of the place, (tokens, width), as in the paper."""
    place = torch.arange(tokens, dtype=torch.float64)[:, None]
    rate = 10_000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.stack([(place * rate).sin(), (place * rate).cos()], 2).flatten(1)


def _later(tokens: int) -> Tensor:
    return torch.ones(tokens, tokens, dtype=torch.bool).triu(1)


def _none(x: Tensor, source: Tensor) -> Tensor:
    return torch.zeros(x.shape[1], source.shape[1], dtype=torch.bool)


def _as_torch(
    layer: nn.MultiheadAttention, x: Tensor, mask: Tensor, out: Tensor, weights: Tensor
) -> list[Claim]:
    theirs, their_weights = layer(x, x, x, attn_mask=mask, average_attn_weights=False)
    ones = torch.ones(weights.shape[:-1], dtype=torch.float64)
    return [
        agrees("Answers by hand as in MultiheadAttention", out, theirs, 1e-12),
        agrees("and its weights, head by head", weights, their_weights, 1e-12),
        agrees("The weights of each token sum to 1", weights.sum(-1), ones, 1e-12),
    ]


def _masks(layer: nn.MultiheadAttention, x: Tensor) -> list[Claim]:
    later = _later(x.shape[1])
    out, weights = attend(layer, x, x, later)
    changed = x.clone()
    changed[:, -1] += 5
    moved, _ = attend(layer, changed, changed, later)
    q = x[:, None]
    return [
        at_most("Masked weights are exactly 0", weights.detach()[..., later].abs().max(), 0),
        agrees("With the causal mask a token does not see a later one change", moved[:, :-1],
               out[:, :-1], 0),
        agrees("True is 'ignore' here, 'take part' in scaled_dot_product_attention",
               (q @ q.transpose(-1, -2) / scale(WIDTH)).masked_fill(later, -math.inf).softmax(-1)
               @ q, F.scaled_dot_product_attention(q, q, q, attn_mask=~later), 1e-12, "T3.17"),
    ]  # fmt: skip


def _encoder(x: Tensor, seed: int) -> list[Claim]:
    reseed(seed, "lab", 1)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 8, batch_first=True, dtype=torch.float64)
    noisy = [layer(x) for _ in range(2)]
    layer.eval()
    seen, _ = attend(layer.self_attn, x, x, _none(x, x))
    half = layer.norm1(x + seen)
    out = layer.norm2(half + layer.linear2(torch.relu(layer.linear1(half))))
    return [
        agrees("The encoder layer by hand: attention, add, norm, feed-forward, add, norm", out,
               layer(x), 1e-10, "T3.18"),
        at_least("In training mode dropout moves its output between two calls, by",
                 (noisy[0] - noisy[1]).abs().max(), 1e-3, "T3.29"),
        is_true("It is post-norm unless told otherwise", not layer.norm_first, "T3.18"),
    ]  # fmt: skip


def _decoder(x: Tensor, seed: int) -> list[Claim]:
    reseed(seed, "lab", 2)
    layer = nn.TransformerDecoderLayer(WIDTH, HEADS, 8, batch_first=True, dtype=torch.float64)
    layer.eval()
    memory = torch.randn(1, 5, WIDTH, generator=generator(seed, "lab", 2), dtype=torch.float64)
    later = _later(x.shape[1])
    own, _ = attend(layer.self_attn, x, x, later)
    a = layer.norm1(x + own)
    crossed, weights = attend(layer.multihead_attn, a, memory, _none(a, memory))
    b = layer.norm2(a + crossed)
    out = layer.norm3(b + layer.linear2(torch.relu(layer.linear1(b))))
    return [
        agrees("The decoder layer by hand: itself, then the encoder's output", out,
               layer(x, memory, tgt_mask=later), 1e-10),
        is_true("Its cross-attention has a row for each of its tokens, a column for each of theirs",
                weights.shape == (1, HEADS, x.shape[1], 5)),
    ]  # fmt: skip


def _order(layer: nn.MultiheadAttention, x: Tensor) -> list[Claim]:
    back = torch.arange(x.shape[1]).flip(0)
    out, _ = attend(layer, x, x, _none(x, x))
    turned, _ = attend(layer, x[:, back], x[:, back], _none(x, x))
    placed = x + positions(x.shape[1], WIDTH)
    placed_back = x[:, back] + positions(x.shape[1], WIDTH)
    with_places, _ = attend(layer, placed, placed, _none(x, x))
    without, _ = attend(layer, placed_back, placed_back, _none(x, x))
    return [
        agrees("Tokens backwards: the same answers backwards", turned, out[:, back], 1e-12,
               "T3.18"),
        at_least("With positions they are others, by",
                 (without - with_places[:, back]).abs().max(), 1e-3, "T3.18"),
    ]  # fmt: skip


def _scale(seed: int) -> list[Claim]:
    """Return how large scores of independent q and k are, d = 256."""
    draws = generator(seed, "lab", 3)
    q = torch.randn(4000, 256, generator=draws, dtype=torch.float64)
    k = torch.randn(4000, 256, generator=draws, dtype=torch.float64)
    scores = (q * k).sum(1)
    return [
        at_most("q k' / sqrt(d) has deviation 1, whatever d: off by",
                abs(float((scores / scale(256)).std()) - 1), 0.08, "T3.19"),
        at_least("without the root it has 16 at d = 256", scores.std(), 14.5, "T3.19"),
    ]  # fmt: skip


def _draw(layer: nn.MultiheadAttention, x: Tensor, weights: Tensor) -> Figure:
    from pellucid.labs.drawing import finish, sheet

    figure, axes = sheet("Attention: who looks at whom (rows sum to 1)", 4, size=(14, 3.9))
    _, masked = attend(layer, x, x, _later(x.shape[1]))
    shown = (("head 0", weights[0, 0]), ("head 1", weights[0, 1]),
             ("head 0, causal mask", masked.detach()[0, 0]))  # fmt: skip
    for axis, (title, values) in zip(axes, shown, strict=False):
        axis.imshow(values.numpy(), cmap="Blues", vmin=0, vmax=1.5)
        if len(values) <= 6:
            for i, row in enumerate(values.tolist()):
                for j, value in enumerate(row):
                    axis.text(j, i, f"{value:.2f}", ha="center", va="center")
        finish(axis, title, "looks at token", "token")
        axis.set(xticks=range(len(values)), yticks=range(len(values)))
        axis.grid(visible=False)
    places = positions(32, 16)
    picture = axes[3].imshow(places.T.numpy(), cmap="coolwarm", aspect="auto")
    figure.colorbar(picture, ax=axes[3])
    finish(axes[3], "positions: 32 tokens, width 16", "token", "dimension")
    axes[3].grid(visible=False)
    return figure
