"""The training loop of pellucid. This is the one that runs: there is no other.

`pellucid show loop` prints it beside the values of a recipe.
"""

from __future__ import annotations

from collections.abc import Iterator

from pellucid.engine import Engine
from pellucid.evaluate import evaluate
from pellucid.plan import due
from pellucid.seeds import reseed
from pellucid.state import State, set_lr
from pellucid.task import Task
from pellucid.values import Step


def fit(state: State, task: Task, engine: Engine) -> Iterator[Step]:
    """Train `state.model` on `task.train`, yielding once per optimizer step.

    Nothing runs until the result is iterated. At the `yield`, and only there, the caller has
    control: `state` is complete, so it may be saved, inspected, or abandoned (leave the `for`
    to stop). A run that goes on from a saved `state` takes exactly the steps that the
    uninterrupted run would have taken.
    """
    plan = task.plan
    model = engine.wrap(state.model)  # on its device; `state.model` stays the bare module

    while state.step < plan.steps and not state.stop.now:
        step = state.step
        reseed(task.seed, "step", step, engine.rank)  # all randomness is a function of the step
        lr = set_lr(state.optimizer, state.plateau.lower(task.schedule(step)))
        task.mode(state.model, step)  # training mode, but for what is frozen

        # forward and backward, one piece at a time (one piece, unless accumulating)
        total, size = engine.zero(), 0
        for batch in task.train.pieces(step):
            batch = task.augment(engine.place(batch), step)
            with engine.forward():
                logits = model(batch.images).float()
                loss = task.loss(logits, batch.targets) * batch.share
            engine.backward(loss)
            state.losses.note(batch, logits)  # for a sampling that goes by them; else nothing
            total, size = total + loss.detach(), batch.size  # on the device: float() would wait
            del batch, logits, loss  # free their memory now: kept over the yield, it costs time

        # update
        total = engine.sum(state.model, total, step)  # over all processes, if there are several
        engine.unscale(state.optimizer)  # in fp16; else nothing
        grad_norm = engine.clip(state.model, task.max_grad_norm, task.max_grad_value)
        engine.step(state.optimizer)
        state.optimizer.zero_grad(set_to_none=True)
        state.ema.update(state.model)
        state.step = step + 1

        # judge, when it is time
        evaluation = None
        if due(state.step, plan.evaluate, plan.steps):
            evaluation = evaluate(engine, state.ema.model, task)
            state.best.offer(evaluation.validation, state.step)
            state.plateau.offer(evaluation.validation)
            state.stop.offer(evaluation.validation)

        yield Step(state.step, plan.epoch(state.step), total, size, lr, grad_norm, evaluation)
