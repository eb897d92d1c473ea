"""What the glass box costs: `pellucid.train`, everything on, against a bare loop.

The same network (MNIST CNN, textbook recipe), initial weights, batches, kernels and evaluations;
the bare loop writes no files, logs nothing and measures no gradient. The weights at the end have
to be equal bit for bit. The ratio is images per second of ours / of the bare loop, by the
training clock, on which reading the data and the final test do not count.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

from benchmarks import pairs, table


def bare(epochs: int, limit: int) -> pairs.Row:
    """Train with a loop written by hand; return the row of the cell."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from benchmarks.ours import limited
    from pellucid import Engine, notes
    from pellucid.assemble import assemble
    from pellucid.seeds import generator

    # the data, the initial weights and the sample of training images: not on the clock
    recipe = limited(notes("mnist"), limit)
    built = assemble(recipe, Engine.start(recipe.engine))
    task, model = built.task, built.state.model
    probe, validation, test = (
        (part.images[part.rows], part.targets)
        for part in (task.probe, task.validation, built.splits.test)
    )
    images, targets = built.splits.train.images[built.splits.train.rows], built.splits.train.targets
    mean, std = built.preprocessing.mean[0], built.preprocessing.std[0]
    scale = torch.tensor([1 / (255 * std)]).view(-1, 1, 1)
    shift = torch.tensor([-mean / std]).view(-1, 1, 1)
    start = pairs.digest(model.state_dict())

    def prepare(x: Tensor) -> Tensor:
        return x.to(torch.float32, memory_format=torch.channels_last).mul_(scale).add_(shift)

    @torch.inference_mode()
    def evaluate(x: Tensor, y: Tensor) -> tuple[float, float]:
        model.eval()
        logits = torch.cat([model(prepare(part)) for part in x.split(500)])
        return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    losses, marks, first_step = [], [], 0.0
    began = time.monotonic()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator(recipe.seed, "shuffle", epoch))
        model.train()
        for index in order.split(128):
            loss = F.cross_entropy(model(prepare(images[index])), targets[index])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.detach())
            first_step = first_step or time.monotonic()
        evaluate(*probe)
        evaluate(*validation)
        marks.append(time.monotonic())
    return pairs.result(
        losses=torch.stack(losses).tolist(),
        samples=epochs * len(images),
        seconds=time.monotonic() - began,
        marks=marks,
        first_step=first_step,
        weights=(start, pairs.digest(model.state_dict())),
        accuracy=evaluate(*test)[1],
    )


def ours(epochs: int, limit: int) -> pairs.Row:
    """Train with `pellucid.train`; return the row of the cell."""
    import pellucid
    from benchmarks.ours import limited, train_ours

    recipe = pellucid.notes("mnist").with_(length=pellucid.epochs(epochs))
    return train_ours(limited(recipe, limit))


def main() -> None:
    """Run the blocks that are missing, or one cell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=5, help="of two pairs each")
    parser.add_argument("--limit", type=int, default=0, help="images at most, to try it out")
    parser.add_argument("--cell", choices=("ours", "bare"), help="run this one alone")
    given = parser.parse_args()
    if given.cell:
        cell = ours if given.cell == "ours" else bare
        print(json.dumps(cell(given.epochs, given.limit)))
        return
    settings = {"epochs": given.epochs, "limit": given.limit}
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    commands = {
        cell: [sys.executable, "-m", "benchmarks.tax", f"--cell={cell}", *arguments]
        for cell in ("ours", "bare")
    }
    for block in range(given.blocks):
        pairs.run_block("tax", "bare", block, commands, settings)
    print(table.table())


if __name__ == "__main__":
    main()
