"""The peer: Keras 3, its backend chosen by the cell; arrays in memory, as its guides do it.

Everything is compiled where the backend compiles (JAX). The images of validation and the sample of
training images are judged as one set after each epoch, which is the same number of images.
"""

from __future__ import annotations

import math
import os
import time
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks import pairs
from benchmarks.arrays import BATCH, EVALUATION_BATCH, Work
from benchmarks.cells import Cell


def train_keras(cell: Cell, work: Work) -> pairs.Row:
    """Train with Keras on what `arrays.prepare` wrote; return the row."""
    os.environ["KERAS_BACKEND"] = cell.backend
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras  # only now: the backend is chosen when it is imported

    x, y = work.normalised("train", channels_first=not cell.fast)
    model = _model(keras, x.shape[1:], cell)
    first = load_file(work.weights)
    _load(model, first, cell)
    start = _digest(model, first, cell)
    clock = _clock(keras, work.first_step)
    if work.first_step:
        order = work.orders()[0][:BATCH]
        model.fit(x[order], y[order], batch_size=BATCH, shuffle=False, verbose=0, callbacks=[clock])
        return _row(clock, clock.losses, BATCH, time.monotonic(), (start, ""), None)
    parts = [
        work.normalised(part, channels_first=not cell.fast) for part in ("validation", "probe")
    ]
    judged = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if cell.shuffles:
        data: dict[str, Any] = {"x": x, "y": y, "batch_size": BATCH, "shuffle": True}
    else:
        data = {"x": _in_order(keras, x, y, work.orders()), "shuffle": False}
    history = model.fit(
        **data, epochs=work.epochs, validation_data=judged, callbacks=[clock],
        validation_batch_size=EVALUATION_BATCH, verbose="auto" if cell.shown else 0,
    )  # fmt: skip
    ended = time.monotonic()
    model.evaluate(*parts[0], batch_size=EVALUATION_BATCH, verbose=0)
    test = work.normalised("test", channels_first=not cell.fast)
    accuracy = model.evaluate(*test, batch_size=EVALUATION_BATCH, verbose=0)[1]
    end = _digest(model, first, cell)
    row = _row(clock, history.history["loss"], len(y) * work.epochs, ended, (start, end), accuracy)
    return {**row, "steps": int(model.optimizer.iterations)}


def _row(
    clock: Any, losses: Any, samples: int, ended: float, weights: tuple[str, str],
    accuracy: float | None,
) -> pairs.Row:  # fmt: skip
    """Return the row; the losses are the means of epochs, for Keras hands out no others."""
    row = pairs.result(
        losses=[float(loss) for loss in losses],
        samples=samples,
        seconds=ended - clock.began,
        marks=clock.marks or [ended],
        first_step=clock.first_step,
        weights=weights,
        accuracy=accuracy,
    )
    return {**row, "curve": [], "epoch_losses": [round(float(loss), 5) for loss in losses]}


def _model(keras: Any, shape: tuple[int, ...], cell: Cell) -> Any:
    layout = "channels_last" if cell.fast else "channels_first"
    keras.config.set_image_data_format(layout)
    widths, hidden = ((32, 32, 64), 64) if 3 in shape else ((32, 64), 128)
    layers: list[Any] = [keras.Input(shape)]
    for width in widths:
        conv = keras.layers.Conv2D(
            width, 3, padding="same", activation=None if cell.pool_first else "relu"
        )
        layers += [conv, keras.layers.MaxPooling2D()]
        layers += [keras.layers.ReLU()] if cell.pool_first else []
    flatten = keras.layers.Flatten(data_format="channels_last")  # else it would turn them around
    layers += [flatten, keras.layers.Dense(hidden, activation="relu")]
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=cell.backend == "jax",
    )
    return model


def _layers(model: Any, first: dict[str, Any]) -> list[tuple[Any, str]]:
    """Return the layers with weights, each with its name on our side."""
    names = sorted({name.partition(".")[0] for name in first}, key=lambda name: (name[0], name))
    return list(zip([layer for layer in model.layers if layer.weights], names, strict=True))


def _load(model: Any, first: dict[str, Any], cell: Cell) -> None:
    """Give `model` the first weights, turned to the layout of Keras."""
    for layer, name in _layers(model, first):
        weight = first[f"{name}.weight"]
        if weight.ndim == 4:
            weight = weight.transpose(2, 3, 1, 0)  # (O, I, H, W) -> (H, W, I, O)
        elif name == "fc1" and cell.fast:  # its inputs come with the channels last
            weight = _flat(weight, first, (0, 2, 3, 1)).T
        else:
            weight = weight.T
        layer.set_weights([weight, first[f"{name}.bias"]])


def _flat(weight: Any, first: dict[str, Any], axes: tuple[int, ...]) -> Any:
    """Return the weight (O, C * H * W) with its columns in another order of C, H and W."""
    channels = max((name for name in first if name.startswith("conv")), default="")
    depth = len(first[channels])
    side = math.isqrt(weight.shape[1] // depth)
    shape = (depth, side, side)
    if axes == (0, 3, 1, 2):
        shape = (side, side, depth)
    return weight.reshape(-1, *shape).transpose(axes).reshape(len(weight), -1)


def _digest(model: Any, first: dict[str, Any], cell: Cell) -> str:
    """Return the digest of the weights, turned back to the layout of our side."""
    import torch

    found = {}
    for layer, name in _layers(model, first):
        weight, bias = layer.get_weights()
        if weight.ndim == 4:
            weight = weight.transpose(3, 2, 0, 1)
        elif name == "fc1" and cell.fast:
            weight = _flat(weight.T, first, (0, 3, 1, 2))
        else:
            weight = weight.T
        found[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(weight))
        found[f"{name}.bias"] = torch.from_numpy(np.ascontiguousarray(bias))
    return pairs.digest(found)


def _in_order(keras: Any, x: Any, y: Any, orders: Any) -> Any:
    """Return a data set that gives the batches of the other side, an epoch at a time."""

    class InOrder(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.epoch = 0

        def __len__(self) -> int:
            return -(-len(y) // BATCH)

        def __getitem__(self, number: int) -> tuple[Any, Any]:
            at = orders[self.epoch % len(orders)][number * BATCH : (number + 1) * BATCH]
            return x[at], y[at]

        def on_epoch_end(self) -> None:
            self.epoch += 1

    return InOrder()


def _clock(keras: Any, first_step: bool) -> Any:
    class Clock(keras.callbacks.Callback):  # type: ignore[misc]
        """Notes the time. Not of each step: to be told of steps makes Keras wait for them."""

        def __init__(self) -> None:
            super().__init__()
            self.marks: list[float] = []
            self.losses: list[float] = []
            self.began = time.monotonic()
            self.first_step: float | None = None

        def on_train_begin(self, logs: Any = None) -> None:
            self.began = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.marks.append(time.monotonic())

    class First(Clock):
        """Notes the first step; to read its loss is to wait for it."""

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.losses.append(float(logs["loss"]))
            self.first_step = time.monotonic()

    return First() if first_step else Clock()
