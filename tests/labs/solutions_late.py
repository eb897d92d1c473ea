"""For each exercise of lessons 6 to 13: another right solution, and typical wrong ones."""

from __future__ import annotations

import itertools
import math

import torch

# optimizers


def step(w, v, g, lr, momentum):
    parameter = torch.nn.Parameter(w.clone())
    optimizer = torch.optim.SGD([parameter], lr=lr, momentum=momentum)
    if momentum:
        optimizer.state[parameter]["momentum_buffer"] = v.clone()
    parameter.grad = g.clone()
    optimizer.step()
    new = optimizer.state[parameter].get("momentum_buffer") if momentum else g
    return parameter.detach(), new


def step_damped(w, v, g, lr, momentum):
    v = momentum * v + (1 - momentum) * g
    return w - lr * v, v


def step_old_speed(w, v, g, lr, momentum):
    return w - lr * v, momentum * v + g


def step_nesterov(w, v, g, lr, momentum):
    v = momentum * v + g
    return w - lr * (g + momentum * v), v


# stability


def largest_lr(curvature, momentum):
    low, high = 0.0, 1e3
    for _ in range(200):  # where the larger root of the walk's equation is as long as 1
        lr = (low + high) / 2
        trace = 1 + momentum - lr * curvature
        root = complex(trace * trace / 4 - momentum) ** 0.5
        far = max(abs(trace / 2 + root), abs(trace / 2 - root))
        low, high = (low, lr) if far > 1 + 1e-12 else (lr, high)
    return low


def largest_plain(curvature, momentum):
    return 2 / curvature


def largest_half(curvature, momentum):
    return (1 + momentum) / curvature


def largest_one_minus(curvature, momentum):
    return 2 * (1 - momentum) / curvature


# depth


def he_std(inputs, outputs, kernel):
    weight = torch.empty(outputs, inputs, kernel, kernel)
    fan, _ = torch.nn.init._calculate_fan_in_and_fan_out(weight)
    return torch.nn.init.calculate_gain("relu") / math.sqrt(fan)


def he_variance(inputs, outputs, kernel):
    return 2 / (inputs * kernel**2)


def he_no_kernel(inputs, outputs, kernel):
    return math.sqrt(2 / inputs)


def he_fan_out(inputs, outputs, kernel):
    return math.sqrt(2 / (outputs * kernel**2))


# sgd-noise


def stationary(curvature, noise, lr):
    """Let the variance go from step to step until it stays."""
    variance = 0.0
    for _ in range(2000):
        variance = (1 - lr * curvature) ** 2 * variance + lr**2 * noise
    return variance


def stationary_small_lr(curvature, noise, lr):
    return lr * noise / (2 * curvature)


def stationary_one_step(curvature, noise, lr):
    return lr**2 * noise


def stationary_factor_not_squared(curvature, noise, lr):
    return lr**2 * noise / (lr * curvature)


def stationary_deviation(curvature, noise, lr):
    return math.sqrt(lr * noise / (curvature * (2 - lr * curvature)))


# schedule-guide


def one_cycle(step, steps, lr):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps, cycle_momentum=False)
    for _ in range(step):
        optimizer.step()
        schedule.step()
    return schedule.get_last_lr()[0]


def half_cosine(a, b, share):
    return b + (a - b) * (1 + math.cos(math.pi * share)) / 2


def one_cycle_top_later(step, steps, lr):
    top = 0.3 * steps
    if step <= top:
        return half_cosine(lr / 25, lr, step / top)
    return half_cosine(lr, lr / 250_000, (step - top) / (steps - 1 - top))


def one_cycle_from_zero(step, steps, lr):
    top = 0.3 * steps - 1
    if step <= top:
        return half_cosine(0, lr, step / top)
    return half_cosine(lr, lr / 250_000, (step - top) / (steps - 1 - top))


def one_cycle_straight(step, steps, lr):
    top = 0.3 * steps - 1
    if step <= top:
        return lr / 25 + (lr - lr / 25) * step / top
    return lr - (lr - lr / 250_000) * (step - top) / (steps - 1 - top)


def one_cycle_no_rise(step, steps, lr):
    return half_cosine(lr, 0, step / steps)


# batch-size


def noise(gradients, size):
    """Go through all batches, one by one."""
    mean = gradients.mean(0)
    batches = list(itertools.combinations(range(len(gradients)), size))
    return sum(float(((gradients[list(b)].mean(0) - mean) ** 2).sum()) for b in batches) / len(
        batches
    )


def noise_put_back(gradients, size):
    return (gradients - gradients.mean(0)).square().sum(1).mean() / size


def noise_unbiased(gradients, size):
    n = len(gradients)
    return gradients.var(0).sum() / size * (n - size) / (n - 1)


def noise_size_squared(gradients, size):
    n = len(gradients)
    spread = (gradients - gradients.mean(0)).square().sum(1).mean()
    return spread / size**2 * (n - size) / (n - 1)


def noise_mean_of_weights(gradients, size):
    n = len(gradients)
    return (gradients - gradients.mean(0)).square().mean() / size * (n - size) / (n - 1)


# regularization


def shrink(w, by):
    return w - w.clamp(-by, by)


def shrink_through_zero(w, by):
    return w - by * w.sign()


def shrink_ridge(w, by):
    return w / (1 + by)


def shrink_hard(w, by):
    return torch.where(w.abs() > by, w, torch.zeros_like(w))


def shrink_one_side(w, by):
    return (w - by).clamp(min=0)


# augmentation


def mirrored(images, chosen):
    columns = range(images.shape[3] - 1, -1, -1)
    return torch.stack([
        torch.stack([one[:, :, c] for c in columns], 2) if yes else one
        for one, yes in zip(images, chosen.tolist(), strict=True)
    ])  # fmt: skip


def mirrored_all(images, chosen):
    return images.flip(3)


def mirrored_upside_down(images, chosen):
    return torch.where(chosen[:, None, None, None], images.flip(2), images)


def mirrored_in_place(images, chosen):
    images[chosen] = images[chosen].flip(3)
    return images


def mirrored_order_too(images, chosen):
    return torch.where(chosen[:, None, None, None], images.flip(0, 3), images)


# early-stopping


def stopped(losses, patience):
    best = [min(range(t + 1), key=losses.__getitem__) for t in range(len(losses))]
    last = len(losses) - 1
    end = next((t for t, kept in enumerate(best) if t - kept == patience), last)
    return end + 1, best[end] + 1


def counted(losses, patience, gain, anew=True):
    best, kept, bad = math.inf, 0, 0
    for epoch, loss in enumerate(losses, start=1):
        if gain(loss, best):
            best, kept, bad = loss, epoch, 0 if anew else bad
        else:
            bad += 1
        if bad >= patience:
            return epoch, kept
    return len(losses), kept


def stopped_one_later(losses, patience):
    return counted(losses, patience + 1, lambda loss, best: loss < best)


def stopped_ties_gain(losses, patience):
    return counted(losses, patience, lambda loss, best: loss <= best)


def stopped_never_anew(losses, patience):
    return counted(losses, patience, lambda loss, best: loss < best, anew=False)


def stopped_last_weights(losses, patience):
    end, _ = counted(losses, patience, lambda loss, best: loss < best)
    return end, end


def stopped_against_the_last(losses, patience):
    bad = 0
    for epoch in range(1, len(losses)):
        bad = 0 if losses[epoch] < losses[epoch - 1] else bad + 1
        if bad == patience:
            return epoch + 1, min(range(epoch + 1), key=losses.__getitem__) + 1
    return len(losses), min(range(len(losses)), key=losses.__getitem__) + 1


LATE = {
    "optimizers": (step, (step_damped, step_old_speed, step_nesterov)),
    "stability": (largest_lr, (largest_plain, largest_half, largest_one_minus)),
    "depth": (he_std, (he_variance, he_no_kernel, he_fan_out)),
    "sgd-noise": (
        stationary,
        (stationary_small_lr, stationary_one_step, stationary_factor_not_squared,
         stationary_deviation),
    ),
    "schedule-guide": (
        one_cycle,
        (one_cycle_top_later, one_cycle_from_zero, one_cycle_straight, one_cycle_no_rise),
    ),
    "batch-size": (
        noise, (noise_put_back, noise_unbiased, noise_size_squared, noise_mean_of_weights)
    ),
    "regularization": (
        shrink, (shrink_through_zero, shrink_ridge, shrink_hard, shrink_one_side)
    ),
    "augmentation": (
        mirrored, (mirrored_all, mirrored_upside_down, mirrored_in_place, mirrored_order_too)
    ),
    "early-stopping": (
        stopped,
        (stopped_one_later, stopped_ties_gain, stopped_never_anew, stopped_last_weights,
         stopped_against_the_last),
    ),
}  # fmt: skip
