"""Entropy, cross-entropy and KL divergence; and log-sum-exp, which computes them safely."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.errors import UserError
from pellucid.labs.options import about, lab, ranged
from pellucid.labs.result import Claim, LabResult, Table, agrees, at_least, equals, is_true

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Weights = tuple[Annotated[float, ranged("weight", 0, 1000)], ...]
Logits = tuple[Annotated[float, ranged("logit", -1000, 1000)], ...]


@lab
def run(
    *,
    p: Annotated[Weights, about("what happens; scaled to sum 1")] = (0.5, 0.3, 0.15, 0.05),
    q: Annotated[Weights, about("what is predicted; scaled to sum 1")] = (0.25, 0.25, 0.25, 0.25),
    logits: Annotated[Logits, about("for log-sum-exp")] = (1.0, 2.0, 3.0),
) -> LabResult:
    """Measure the surprise in a distribution, and the cost of predicting another one."""
    true, predicted = _distribution("p", p), _distribution("q", q)
    if len(true) != len(predicted):
        raise UserError(f"--p and --q must be equally long. Got {len(p)} and {len(q)} numbers.")
    z = torch.tensor(logits, dtype=torch.float64)
    h, cross, apart = entropy(true), cross_entropy(true, predicted), kl(true, predicted)
    text = f"""
        What happens with probability p is a surprise of -ln p. Entropy is the mean surprise; the
        cross-entropy of p and q is the mean surprise of someone who expects q:

            H(p)    = -sum p ln p       = {h:.5g} nats = {h / math.log(2):.5g} bits
            H(p, q) = -sum p ln q       = {cross:.5g} nats
            KL(p|q) =  sum p ln (p / q) = {apart:.5g} nats
            H(p, q) = H(p) + KL(p|q)    : {h:.5g} + {apart:.5g} = {h + apart:.5g}

        PyTorch speaks in nats. KL is 0 only if q = p, and it is no distance: the other way round
        it is {kl(predicted, true):.5g}. Training makes H(p, q) small; its floor is H(p), which is 0
        for a label that is certain, and more for a smoothed one.

        For one label the cross-entropy is -ln of the probability given to it: 0.001 costs
        {-math.log(0.001):.5g}. With two classes it is what the likelihood s^y (1 - s)^(1 - y) of
        one answer gives: -y ln s - (1 - y) ln (1 - s).

        From logits z, ln p = z - LSE(z) with LSE(z) = ln sum e^z. Written like that it overflows:
        e^z is too large above 88.72 in float32 and above 11.09 in float16. Taking out the largest
        first changes nothing but that: LSE(z) = max + ln sum e^(z - max) = {lse(z):.6g} here.

        A softmax before a loss that applies its own is applied twice. Its outputs lie between 0 and
        1, so as logits they are nearly alike: with 10 classes the loss cannot go below
        ln(e + 9) - 1 = {math.log(math.e + 9) - 1:.4f}, however sure the network is.
    """
    rows = [
        (i, float(a), float(b), _surprise(a), _surprise(b), _product(a, b))
        for i, (a, b) in enumerate(zip(true, predicted, strict=True))
    ]
    claims = [
        *_here(true, predicted), *_sums(z), *_known(), *_in_torch(), *_overflow(), *_twice(),
    ]  # fmt: skip
    return LabResult(
        text, claims, partial(_draw, true, predicted),
        [Table(("outcome", "p", "q", "-ln p", "-ln q", "-p ln q"), rows)],
        {"entropy": h, "kl": apart if math.isfinite(apart) else None, "logsumexp": lse(z)},
    )  # fmt: skip


def entropy(p: Tensor) -> float:
    """Return the mean surprise of `p` in nats; what never happens adds nothing."""
    return -float(torch.special.xlogy(p, p).sum())


def cross_entropy(p: Tensor, q: Tensor) -> float:
    """Return the mean surprise, by `p`, of one who expects `q`."""
    return -float(torch.special.xlogy(p, q).sum())


def kl(p: Tensor, q: Tensor) -> float:
    """Return what it costs to expect `q` rather than `p`."""
    return float((torch.special.xlogy(p, p) - torch.special.xlogy(p, q)).sum())


def lse(z: Tensor) -> float:
    """Return ln of the sum of e^z, without overflow."""
    return float(z.max() + (z - z.max()).exp().sum().log())


def _distribution(name: str, weights: tuple[float, ...]) -> Tensor:
    total = sum(weights)
    if not total:
        raise UserError(f"--{name} must hold a number above 0. Got only zeros.")
    return torch.tensor(weights, dtype=torch.float64) / total


def _surprise(probability: Tensor) -> float | str:
    return -math.log(probability) if probability else "never"


def _product(p: Tensor, q: Tensor) -> float | str:
    return float(-torch.special.xlogy(p, q)) if q or not p else "infinite"


def _here(p: Tensor, q: Tensor) -> list[Claim]:
    """Return what holds for any two distributions; where q says never, both sides are infinite."""
    if math.isinf(cross_entropy(p, q)):
        return [is_true("q says never to what happens: infinite cross-entropy, infinite KL",
                        math.isinf(kl(p, q)), "T5.5")]  # fmt: skip
    return [
        equals("H(p, q) = H(p) + KL(p|q)", cross_entropy(p, q), entropy(p) + kl(p, q), 1e-12,
               "T5.5"),
        at_least("The cross-entropy is not below the entropy", cross_entropy(p, q) - entropy(p),
                 -1e-12, "T5.4"),
        equals("Our entropy is that of torch.distributions", entropy(p),
               float(torch.distributions.Categorical(p).entropy()), 1e-6),
    ]  # fmt: skip


def _sums(z: Tensor) -> list[Claim]:
    return [
        equals("Log-sum-exp, shifted, is PyTorch's", lse(z), float(z.logsumexp(0)), 1e-9),
        is_true("max <= LSE <= max + ln n",
                z.max() <= lse(z) + 1e-9 and lse(z) <= z.max() + math.log(len(z)) + 1e-9),
        equals("LSE(z + 5) = LSE(z) + 5", lse(z + 5), lse(z) + 5, 1e-9),
    ]  # fmt: skip


def _known() -> list[Claim]:
    die, coin = torch.full((6,), 1 / 6, dtype=torch.float64), torch.tensor([1.0, 0.0])
    smooth = torch.full((10,), 0.01, dtype=torch.float64)
    smooth[0] = 0.91
    flat = F.cross_entropy(torch.zeros(1, 10).double(), torch.tensor([3]))
    bits = entropy(torch.full((8,), 1 / 8, dtype=torch.float64)) / math.log(2)
    return [
        equals("A fair die has the entropy 1.7918", entropy(die), 1.7918, 5e-5),
        equals("a two-headed coin 0", entropy(coin), 0, 0),
        equals("eight equal outcomes 3 bits", bits, 3, 1e-12, "T5.13"),
        equals("The right label at 0.001 costs 6.9078", -math.log(0.001), 6.9078, 5e-5),
        equals("Who knows nothing of 10 classes pays ln 10", float(flat), math.log(10), 1e-12,
               "T5.3"),
        equals("Smoothing 0.1, 10 classes: the floor is 0.5003", entropy(smooth), 0.5003, 5e-5,
               "T5.4"),
    ]  # fmt: skip


def _in_torch() -> list[Claim]:
    """Return how PyTorch wants its arguments."""
    z = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]], dtype=torch.float64)
    logs = z.log_softmax(1)
    ours = sum(kl(p, q) for p, q in zip(target, logs.detach().exp(), strict=True)) / 2
    (by_cross,) = torch.autograd.grad(F.cross_entropy(z, target), z, retain_graph=True)
    (by_kl,) = torch.autograd.grad(F.kl_div(logs, target, reduction="batchmean"), z)
    s, y = torch.tensor([0.9, 0.2, 0.6]).double(), torch.tensor([1.0, 0.0, 0.0]).double()
    likelihood = s**y * (1 - s) ** (1 - y)
    two = torch.stack([torch.zeros(3).double(), s.logit()], 1)
    return [
        equals("kl_div(log q, p), batchmean, is KL(p|q)",
               F.kl_div(logs, target, reduction="batchmean"), ours, 1e-12, "T5.6"),
        equals("its mean divides by the elements: a third of it",
               F.kl_div(logs, target, reduction="none").mean(), ours / 3, 1e-12, "T5.6"),
        agrees("For a fixed p both have the same gradient", by_cross, by_kl, 1e-12, "T5.5"),
        equals("Binary cross-entropy is minus the mean log-likelihood",
               float(F.binary_cross_entropy(s, y)), -float(likelihood.log().mean()), 1e-12),
        equals("and the cross-entropy of two classes",
               float(F.cross_entropy(two, y.long())), -float(likelihood.log().mean()), 1e-12),
    ]  # fmt: skip


def _overflow() -> list[Claim]:
    claims = []
    for kind, edge in ((torch.float32, 88.72), (torch.float16, 11.09)):
        below, above = torch.tensor([edge - 0.01, edge + 0.01], dtype=kind).exp()
        claims.append(is_true(f"e^z overflows in {str(kind)[6:]} at {edge}",
                              below.isfinite() and above.isinf()))  # fmt: skip
    z = torch.tensor([1000.0, 0.0])
    far = torch.tensor([0.0, 200.0])
    return [
        *claims,
        is_true("The naive form of LSE is infinite at 1000, the shifted one 1000",
                z.exp().sum().log().isinf() and lse(z) == 1000),
        is_true("log(softmax) is -infinite at a difference of 200, log_softmax -200",
                far.softmax(0).log()[0].isinf() and far.log_softmax(0)[0] == -200, "T5.12"),
    ]  # fmt: skip


def twice(margin: float, classes: int = 10) -> float:
    """Return the loss of a right answer with this lead, if softmax is applied before the loss."""
    z = torch.zeros(1, classes, dtype=torch.float64)
    z[0, 0] = margin
    return float(F.cross_entropy(z.softmax(1), torch.tensor([0])))


def _twice() -> list[Claim]:
    floor = math.log(math.e + 9) - 1
    right = F.cross_entropy(torch.tensor([[100.0] + 9 * [0.0]]).double(), torch.tensor([0]))
    return [
        equals("Softmax twice, 10 classes: the floor is 1.4612", twice(1000), 1.4612, 5e-5, "T5.1"),
        equals("which is ln(e + 9) - 1", twice(1000), floor, 1e-12, "T5.1"),
        equals("Once, the same answer costs nothing", float(right), 0, 1e-12, "T5.1"),
    ]


def _draw(p: Tensor, q: Tensor) -> Figure:
    from pellucid.labs.drawing import BLUE, GREEN, RED, finish, sheet

    figure, (bars, sums, loss) = sheet("Entropy, log-sum-exp, and softmax applied twice", 3,
                                       size=(14, 4.4))  # fmt: skip
    places = list(range(len(p)))
    bars.bar(
        [i - 0.2 for i in places], p.tolist(), 0.4, color=BLUE, label=f"p: H(p) = {entropy(p):.4g}"
    )
    bars.bar(
        [i + 0.2 for i in places],
        q.tolist(),
        0.4,
        color=RED,
        label=f"q: H(p, q) = {cross_entropy(p, q):.4g}",
    )
    bars.plot([], [], " ", label=f"KL(p|q) = {kl(p, q):.4g}")
    bars.set_xticks(places)
    bars.set_ylim(0, 1.35 * float(torch.cat([p, q]).max()))
    finish(bars, "what happens, and what is expected", "outcome", "probability", legend=True)
    z = torch.linspace(0, 150, 400)
    pair = torch.stack([z, torch.zeros_like(z)], 1)
    naive = pair.exp().sum(1).log()
    sums.plot(z, pair.logsumexp(1), color=BLUE, linewidth=4, alpha=0.4, label="shifted")
    sums.plot(z[naive.isfinite()], naive[naive.isfinite()], color=RED, label="naive, float32")
    sums.axvline(88.72, color="#666666", linestyle=":", label="88.72: e^z is infinite")
    finish(sums, "ln(e^z + 1)", "z", "log-sum-exp", legend=True)
    margins = torch.linspace(-5, 20, 120, dtype=torch.float64)
    once = [math.log1p(9 * math.exp(-m)) for m in margins.tolist()]
    loss.plot(margins, once, color=GREEN, label="softmax once")
    loss.plot(margins, [twice(m) for m in margins.tolist()], color=RED, label="softmax twice")
    loss.axhline(math.log(math.e + 9) - 1, color="#666666", linestyle=":", label="1.4612")
    finish(loss, "loss over the lead of the right class", "lead of its logit", "loss", legend=True)
    return figure
