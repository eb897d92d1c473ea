"""The function `main` of a script: the explicit loop, with the lines that the recipe needs."""

from __future__ import annotations

from typing import Any

from pellucid.data.sampling import Hard
from pellucid.eject.augmentation import alternates, mixes
from pellucid.eject.facts import Facts
from pellucid.eject.layout import literal
from pellucid.eject.weights import average, groups, trained
from pellucid.optim.losses import CrossEntropy
from pellucid.optim.schedules import Constant, PlateauSpec
from pellucid.recipe import Recipe

Lines = list[str]


def main_text(facts: Facts, model: Lines, optimizer: str) -> str:
    """Return the text of `main`.

    Args:
        facts: of the run.
        model: the lines that make the network.
        optimizer: the expression that makes the optimizer from `groups`.
    """
    judged = "the best" if facts.parts["validation"] else "these"
    lines = [
        "def main() -> None:",
        f'    """Train, save the last weights, judge {judged} once on the test part."""',
        *_indent(_start(facts) + _build(facts, model, optimizer), 4),
        "",
        "    for step in range(steps):",
        *_indent(_batch(facts) + _forward(facts) + _update(facts) + _judge(facts), 8),
        "",
        *_indent(_end(facts), 4),
    ]
    return "\n".join(lines) + "\n"


def _start(facts: Facts) -> Lines:
    strict = ["torch.use_deterministic_algorithms(True)"]
    return [
        "place = Path(sys.argv[1] if len(sys.argv) > 1 else DATA)",
        'target = Path(sys.argv[2] if len(sys.argv) > 2 else "weights.npz")',
        "torch.set_num_threads(THREADS)",
        *(strict if facts.recipe.engine.deterministic else []),
        "if torch.__version__ != TORCH:",
        '    print(f"note: torch {torch.__version__}; the run had {TORCH}", file=sys.stderr)',
        "",
        "train, held, test = load(place)",
        "if data_digest((train, held, test)) != DATA_DIGEST:",
        '    print("note: these are not the images that the run had", file=sys.stderr)',
        "images, labels = train",
        "prepare = normalisation(images)",
        "steps_per_epoch = -(-len(images) // BATCH_SIZE)  # the last batch may be smaller",
        "steps = EPOCHS * steps_per_epoch" if facts.whole_epochs else "steps = STEPS",
        "",
    ]


def _build(facts: Facts, model: Lines, optimizer: str) -> Lines:
    recipe = facts.recipe
    schedule: Any = recipe.schedule
    loss = recipe.loss
    assert isinstance(loss, CrossEntropy)
    lines = [
        'reseed(SEED, "init")',
        *model,
        "model.to(memory_format=torch.channels_last)  # as the images: faster on a CPU",
    ]
    lines += groups(recipe)
    lines.append(f"optimizer = {optimizer}")
    if scheduled(facts.recipe):
        lines.append("learning_rate = learning_rates(LR, steps, steps_per_epoch)")
    if isinstance(schedule, PlateauSpec):
        given = ", ".join(
            f"{name}={getattr(schedule, name)!r}"
            for name in ("factor", "patience", "threshold", "cooldown", "floor")
        )
        lines.append(f"plateau = Plateau({given})")
    if loss.class_weights != "none":
        first = "1 / counts.double().clamp(min=1)"
        if loss.class_weights != "balanced":
            first = "torch.tensor(CLASS_WEIGHTS, dtype=torch.float64)"
        lines += [
            "counts = torch.bincount(labels, minlength=len(CLASSES))",
            f"weight = {first}",
            "total = (weight * counts).sum()",
            "class_weights = (weight * counts.sum() / total).float()  # 1 in the mean over images",
        ]
    if recipe.ema.decay:
        lines.append(f"ema = EMA({', '.join(average(recipe.ema))})")
    if isinstance(recipe.sampling, Hard):
        lines += [
            "steps_per_round = -(-round_size(len(images)) // BATCH_SIZE)",
            "losses = torch.zeros(len(images))  # of each image, when it was last shown",
        ]
    stop: Any = recipe.stop
    if stop.patience:
        lines.append(
            f"stop = EarlyStop({stop.patience}, {stop.min_change!r}, {literal(stop.watch)})"
        )
    if facts.parts["validation"]:
        lines.append("best, best_step, best_weights = (-1.0, 0.0), 0, {}")
    return lines


def _batch(facts: Facts) -> Lines:
    lr = "learning_rate(step)" if scheduled(facts.recipe) else "LR"
    if isinstance(facts.recipe.schedule, PlateauSpec):
        lr = f"plateau.lower({lr})"
    optimizer: Any = facts.recipe.optimizer
    scale = "" if optimizer.norm_bias_lr == 1 else ' * group.get("scale", 1.0)'
    rate = ["for group in optimizer.param_groups:", f'    group["lr"] = {lr}{scale}']
    place = [
        "epoch, position = divmod(step, steps_per_epoch)",
        "if position == 0:",
        '    order = epoch_order(labels, generator(SEED, "shuffle", epoch))',
    ]
    if isinstance(facts.recipe.sampling, Hard):
        place = [
            "epoch, position = 0, step  # each image once; then rounds of those that were hard",
            "if step >= steps_per_epoch:",
            "    epoch, position = divmod(step - steps_per_epoch, steps_per_round)",
            "    epoch += 1",
            "if position == 0:",
            '    draws = generator(SEED, "shuffle", epoch)',
            "    order = round_order(losses, draws) if epoch else epoch_order(labels, draws)",
        ]
    return [
        *place,
        "index = order[position * BATCH_SIZE : (position + 1) * BATCH_SIZE]",
        'reseed(SEED, "step", step, 0)  # for dropout: the same numbers whatever was drawn before',
        *(rate if lr != "LR" or scale else []),
        "model.train()",
        "",
    ]


def _forward(facts: Facts) -> Lines:
    recipe = facts.recipe
    pieces = recipe.accumulate > 1
    on: Any = recipe.augment.operations()  # type: ignore[attr-defined]
    at = "at" if pieces else "index"
    part = "rows, len(index), " if pieces else ""
    if alternates(on):
        part = f"{at}, epoch, {part}"
    if mixes(on):
        get = f"x, y = augment(images[{at}], labels[{at}], {part}step, prepare)"
    elif on:
        get = f"x, y = augment(images[{at}], {part}step, prepare), labels[{at}]"
    else:
        get = f"x, y = prepare(images[{at}]), labels[{at}]"
    logits = "model(x).float()" if facts.precision == "bf16" else "model(x)"
    hard = isinstance(recipe.sampling, Hard)
    compute = [f"loss = {_loss(recipe, 'logits' if hard else logits)}"]
    if hard:
        compute.insert(0, f"logits = {logits}")
    if facts.precision == "bf16":
        compute = ['with torch.autocast("cpu", torch.bfloat16):', *_indent(compute, 4)]
    if hard:
        one = 'F.cross_entropy(logits.detach(), y, reduction="none")'
        compute.append(f"losses[{at}] = {one}")
    if not pieces:
        return [get, *compute, "loss.backward()"]
    return [
        "for rows in pieces(len(index)):",
        "    at = index[rows]",
        *_indent([get, *compute], 4),
        "    (loss * (len(at) / len(index))).backward()",
    ]


def _loss(recipe: Recipe, logits: str) -> str:
    loss = recipe.loss
    assert isinstance(loss, CrossEntropy)
    if loss.class_weights != "none":
        return f"weighted_loss({logits}, y, class_weights)"
    smoothing = ", label_smoothing=LABEL_SMOOTHING" if loss.label_smoothing else ""
    return f"F.cross_entropy({logits}, y{smoothing})"


def _update(facts: Facts) -> Lines:
    recipe = facts.recipe
    spec: Any = recipe.optimizer
    weights = trained(recipe)
    lines: Lines = []
    if recipe.max_grad_norm != float("inf"):
        lines += [
            f"gradients = [p.grad for p in {weights}]",
            "norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))",
            f"nn.utils.clip_grads_with_norm_({weights}, MAX_GRAD_NORM, norm)",
        ]
    if recipe.max_grad_value != float("inf"):
        lines.append(f"nn.utils.clip_grad_value_({weights}, MAX_GRAD_VALUE)")
    if spec.l1:
        lines.append("add_l1(weights)")
    lines += ["optimizer.step()", "optimizer.zero_grad()"]
    if recipe.ema.decay:
        lines.append("ema.update(model)")
    return lines


def _judge(facts: Facts) -> Lines:
    recipe = facts.recipe
    if not facts.parts["validation"]:
        return []
    every = recipe.evaluate.steps(facts.per_epoch, recipe.batch_size, facts.steps)
    name = "steps_per_epoch" if str(recipe.evaluate) == "1 epoch" else "EVALUATE_EVERY"
    judged = "ema.model" if recipe.ema.decay else "model"
    lines = [
        "",
        f"if (step + 1) % {name} == 0 or step + 1 == steps:" if every else "if step + 1 == steps:",
        f"    judged = evaluate({judged}, *held, prepare)",
        '    print(f"step {step + 1:,}: validation {judged.accuracy:.2%}, loss {judged.loss:.4f}")',
        "    if (judged.accuracy, -judged.loss) > best:",
        "        best, best_step = (judged.accuracy, -judged.loss), step + 1",
        f"        best_weights = {{n: t.clone() for n, t in {judged}.state_dict().items()}}",
    ]
    if isinstance(recipe.schedule, PlateauSpec):
        lines.append("    plateau.offer(judged)")
    stop: Any = recipe.stop
    if stop.patience:
        lines += ["    stop.offer(judged)", "    if stop.now:", "        break"]
    return lines


def _end(facts: Facts) -> Lines:
    ema = facts.recipe.ema.decay
    judged = "ema.model" if ema else "model"
    lines = ["last = dict(model.state_dict())"]
    if ema:
        lines.append('last |= {f"ema/{name}": t for name, t in ema.model.state_dict().items()}')
    lines += ["np.savez(target, **{name: tensor.numpy() for name, tensor in last.items()})"]
    if facts.weights_digest:
        lines += [
            "same = weights_digest(last) == WEIGHTS_DIGEST",
            "print(f\"weights of the last step: {'bit for bit those' if same else 'NOT those'} "
            'of the run")',
        ]
    else:
        lines.append('print(f"weights of the last step: SHA-256 {weights_digest(last)}")')
    if facts.parts["test"]:
        if facts.parts["validation"]:
            lines.append(f"{judged}.load_state_dict(best_weights)")
            where = "step {best_step:,}"
        else:
            where = "the last step"
        lines += [
            f"result = evaluate({judged}, *test, prepare)",
            f'print(f"test at {where}: {{result.correct:,}} of {{result.n:,}} '
            '({result.accuracy:.2%})")',
        ]
    return lines


def scheduled(recipe: Recipe) -> bool:
    """Return whether the learning rate is a function of the step."""
    schedule: Any = recipe.schedule
    return not isinstance(schedule, Constant | PlateauSpec) or bool(schedule.warmup)


def _indent(lines: Lines, by: int) -> Lines:
    return [" " * by + line if line else "" for line in lines]
