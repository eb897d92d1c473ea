"""Names of PyTorch functions, as `Op.call` gives them, by what they do."""

from __future__ import annotations

ACTIVATIONS = frozenset(
    [
        "relu",
        "relu_",
        "relu6",
        "leaky_relu",
        "leaky_relu_",
        "elu",
        "elu_",
        "celu",
        "selu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "softplus",
        "tanh",
        "tanh_",
        "sigmoid",
        "sigmoid_",
        "hardtanh",
        "prelu",
    ]
)
"""Names of the functions that are nonlinearities."""

RELUS = frozenset(("relu", "relu_"))

WEIGHTED = frozenset(("conv1d", "conv2d", "conv3d", "linear"))
"""Names of the functions of layers with weights; the first argument is the input."""

SILENT = frozenset(
    [
        "__get__",
        "__set__",
        "size",
        "dim",
        "numel",
        "stride",
        "is_floating_point",
        "is_complex",
        "detach",
        "data_ptr",
        "__len__",
        "__hash__",
        "__bool__",
        "__int__",
        "__float__",
        "__index__",
        "item",
        "is_contiguous",
        "storage_offset",
        "get_device",
        "type_as",
        "__repr__",
    ]
)
"""Calls that make no new values."""
