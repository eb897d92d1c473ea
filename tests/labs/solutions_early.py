"""For each exercise of lessons 1 to 5: another right solution, and typical wrong ones."""

from __future__ import annotations

import math

import torch

# linear


def linear(x, weight, bias):
    rows = [[sum(w * v for w, v in zip(row, one, strict=True)) for row in weight] for one in x]
    return torch.stack([torch.stack(row) for row in rows]) + bias


def linear_transposed(x, weight, bias):
    return x @ weight + bias


def linear_no_bias(x, weight, bias):
    return x @ weight.T


def linear_sum(x, weight, bias):
    return (x @ weight.T).sum(1, keepdim=True) + bias


# activations


def softplus(x):
    return torch.where(x > 0, x + torch.log1p(torch.exp(-x.abs())), torch.log1p(torch.exp(x)))


def softplus_naive(x):
    return torch.log(1 + torch.exp(x))


def softplus_cut(x):
    return torch.where(x > 0, x, torch.zeros_like(x))


def softplus_log10(x):
    return torch.logaddexp(x, torch.zeros_like(x)) / math.log(10)


# entropy


def cross_entropy(z, labels):
    total = 0.0
    for row, label in zip(z, labels.tolist(), strict=True):
        top = float(row.max())
        total += top + math.log(sum(math.exp(float(v) - top) for v in row)) - float(row[label])
    return total / len(z)


def cross_entropy_log_of_softmax(z, labels):
    return -torch.log(z.softmax(1))[torch.arange(len(z)), labels].mean()


def cross_entropy_sum(z, labels):
    return -z.log_softmax(1)[torch.arange(len(z)), labels].sum()


def cross_entropy_twice(z, labels):
    return -z.softmax(1).log_softmax(1)[torch.arange(len(z)), labels].mean()


def cross_entropy_bits(z, labels):
    return -z.log_softmax(1)[torch.arange(len(z)), labels].mean() / math.log(2)


# softmax


def softmax(z):
    return torch.exp(z - torch.logsumexp(z, dim=1, keepdim=True))


def softmax_naive(z):
    return torch.exp(z) / torch.exp(z).sum(1, keepdim=True)


def softmax_wrong_axis(z):
    return z.softmax(0)


def softmax_all(z):
    return z.flatten().softmax(0).view(z.shape)


def softmax_in_place(z):
    z -= z.amax(1, keepdim=True)
    return z.exp() / z.exp().sum(1, keepdim=True)


# logistic-regression


def logistic(x, y, w):
    total = torch.zeros_like(w)
    for row, label in zip(x, y, strict=True):
        total = total + (1 / (1 + torch.exp(-(row * w).sum())) - label) * row
    return total / len(x)


def logistic_sign(x, y, w):
    return x.T @ (y - torch.sigmoid(x @ w)) / len(y)


def logistic_sum(x, y, w):
    return x.T @ (torch.sigmoid(x @ w) - y)


def logistic_squared(x, y, w):
    p = torch.sigmoid(x @ w)
    return x.T @ ((p - y) * p * (1 - p)) / len(y)


# losses


def huber(error, delta):
    inside = error.abs().clamp(max=delta)
    return inside**2 / 2 + delta * (error.abs() - inside)


def huber_no_size(error, delta):
    return torch.where(error <= delta, error**2 / 2, delta * (error - delta / 2))


def huber_smooth_l1(error, delta):
    return torch.nn.functional.smooth_l1_loss(
        error, torch.zeros_like(error), reduction="none", beta=delta
    )


def huber_gap(error, delta):
    return torch.where(error.abs() <= delta, error**2 / 2, delta * error.abs())


# distances


def cosine(a, b):
    return float(1 - (a / a.norm()) @ (b / b.norm()))


def cosine_similarity(a, b):
    return torch.nn.functional.cosine_similarity(a, b, dim=0)


def cosine_not_divided(a, b):
    return 1 - a @ b


def cosine_squares(a, b):
    return 1 - a @ b / (a @ a * (b @ b))


# gradient


def slope(f, x):
    h = 1e-3
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


def slope_one_sided(f, x):
    return (f(x + 1e-4) - f(x)) / 1e-4


def slope_half(f, x):
    return (f(x + 1e-5) - f(x - 1e-5)) / 1e-5


def slope_too_small(f, x):
    return (f(x + 1e-15) - f(x - 1e-15)) / 2e-15


# chain-rule


def by_weight(x, w, b, t):
    leaf = torch.tensor(w, dtype=torch.float64, requires_grad=True)
    ((leaf * x + b) - t).square().backward()
    return leaf.grad


def by_weight_no_x(x, w, b, t):
    return 2 * (w * x + b - t)


def by_weight_half(x, w, b, t):
    return (w * x + b - t) * x


def by_weight_no_bias(x, w, b, t):
    return 2 * (w * x - t) * x


# delta-rule


def hidden_delta(delta, weight, z):
    back = torch.einsum("nk,kh->nh", delta, weight)
    return back / torch.cosh(z) ** 2


def hidden_no_slope(delta, weight, z):
    return delta @ weight


def hidden_slope_of_value(delta, weight, z):
    return (delta @ weight) * (1 - z**2)


def hidden_sigmoid(delta, weight, z):
    s = torch.sigmoid(z)
    return (delta @ weight) * s * (1 - s)


# backprop-graph


def gradients(parts):
    """Sum the products of slopes over all ways down, which is right and slow."""
    grads = dict.fromkeys(parts, 0.0)

    def go(name: str, product: float) -> None:
        grads[name] += product
        for part, by in parts[name]:
            go(part, product * by)

    go(list(parts)[-1], 1.0)
    return grads


def gradients_hand_on_sums(parts):
    grads = dict.fromkeys(parts, 0.0)
    grads[list(parts)[-1]] = 1.0

    def go(name: str) -> None:
        for part, by in parts[name]:
            grads[part] += by * grads[name]
            go(part)

    go(list(parts)[-1])
    return grads


def gradients_overwritten(parts):
    grads = dict.fromkeys(parts, 0.0)
    grads[list(parts)[-1]] = 1.0
    for name in reversed(list(parts)):
        for part, by in parts[name]:
            grads[part] = by * grads[name]
    return grads


def gradients_forwards(parts):
    grads = dict.fromkeys(parts, 0.0)
    grads[list(parts)[-1]] = 1.0
    for name in parts:
        for part, by in parts[name]:
            grads[part] += by * grads[name]
    return grads


EARLY = {
    "linear": (linear, (linear_transposed, linear_no_bias, linear_sum)),
    "activations": (softplus, (softplus_naive, softplus_cut, softplus_log10)),
    "entropy": (
        cross_entropy,
        (cross_entropy_log_of_softmax, cross_entropy_sum, cross_entropy_twice, cross_entropy_bits),
    ),
    "softmax": (softmax, (softmax_naive, softmax_wrong_axis, softmax_all, softmax_in_place)),
    "logistic-regression": (logistic, (logistic_sign, logistic_sum, logistic_squared)),
    "losses": (huber, (huber_no_size, huber_smooth_l1, huber_gap)),
    "distances": (cosine, (cosine_similarity, cosine_not_divided, cosine_squares)),
    "gradient": (slope, (slope_one_sided, slope_half, slope_too_small)),
    "chain-rule": (by_weight, (by_weight_no_x, by_weight_half, by_weight_no_bias)),
    "delta-rule": (hidden_delta, (hidden_no_slope, hidden_slope_of_value, hidden_sigmoid)),
    "backprop-graph": (
        gradients,
        (gradients_hand_on_sums, gradients_overwritten, gradients_forwards),
    ),
}
