"""All labs, in the order of the lessons. The set is closed; a lab is loaded when it is used.

To add one: write `labs/NAME.py` with a `run(...)` under `@lab` (`docs/labs.md` says how), then add
a function here, at its place in the order: the lesson, the labs that it needs, and as its docstring
one line on what it shows. Nothing else.
"""

from __future__ import annotations

from types import ModuleType

from pellucid.labs.entries import LABS as LABS
from pellucid.labs.entries import LESSONS as LESSONS
from pellucid.labs.entries import Entry as Entry
from pellucid.labs.entries import entry
from pellucid.labs.entries import find as find


@entry(1)
def images() -> ModuleType:
    """Images as tensors: channels, scales of grey, PIL, NumPy and memory."""
    import pellucid.labs.images as module

    return module


@entry(1)
def arithmetic() -> ModuleType:
    """Arithmetic of windows: the size of a map, and settings for a wanted one."""
    import pellucid.labs.arithmetic as module

    return module


@entry(2)
def linear() -> ModuleType:
    """A linear layer: an affine map."""
    import pellucid.labs.linear as module

    return module


@entry(2, needs=["linear"])
def activations() -> ModuleType:
    """Activations: value, slope, saturation; and why a network needs one."""
    import pellucid.labs.activations as module

    return module


@entry(2, needs=["linear"])
def modules() -> ModuleType:
    """Modules: one network as a class and as a `Sequential`."""
    import pellucid.labs.modules as module

    return module


@entry(3)
def entropy() -> ModuleType:
    """Entropy, cross-entropy, KL divergence, log-sum-exp; softmax applied twice."""
    import pellucid.labs.entropy as module

    return module


@entry(3, needs=["entropy"])
def softmax() -> ModuleType:
    """Logits, softmax and its gradient p - y; argmax and max."""
    import pellucid.labs.softmax as module

    return module


@entry(3, needs=["entropy", "linear"])
def logistic_regression() -> ModuleType:
    """Logistic regression, and why accuracy is not what is trained."""
    import pellucid.labs.logistic_regression as module

    return module


@entry(3, needs=["entropy"])
def losses() -> ModuleType:
    """Losses for numbers, for classes and for arrangements."""
    import pellucid.labs.losses as module

    return module


@entry(3)
def distances() -> ModuleType:
    """Distances, and which rules of a distance they keep."""
    import pellucid.labs.distances as module

    return module


@entry(4)
def gradient() -> ModuleType:
    """The gradient as a slope: which step goes down, and which no longer."""
    import pellucid.labs.gradient as module

    return module


@entry(4, needs=["gradient"])
def backprop_graph() -> ModuleType:
    """Autograd from scratch: a graph of numbers, walked backwards."""
    import pellucid.labs.backprop_graph as module

    return module


@entry(4, needs=["backprop-graph", "softmax"])
def chain_rule() -> ModuleType:
    """The chain rule: every factor of a gradient by name."""
    import pellucid.labs.chain_rule as module

    return module


@entry(4, needs=["chain-rule", "linear"])
def delta_rule() -> ModuleType:
    """The delta rule: gradients of a layer, by neuron and by matrix."""
    import pellucid.labs.delta_rule as module

    return module


@entry(6, needs=["gradient"])
def optimizers() -> ModuleType:
    """Seven optimizers from scratch, each as in PyTorch."""
    import pellucid.labs.optimizers as module

    return module


@entry(6, needs=["optimizers"])
def stability() -> ModuleType:
    """Which minima a learning rate can hold: curvature."""
    import pellucid.labs.stability as module

    return module


@entry(6, needs=["stability"])
def basins() -> ModuleType:
    """Four equal minima: where each start ends."""
    import pellucid.labs.basins as module

    return module


@entry(6, needs=["optimizers"])
def momentum() -> ModuleType:
    """Momentum as a rolling ball, and decay of the rate."""
    import pellucid.labs.momentum as module

    return module


@entry(6, needs=["optimizers"])
def small_comparison() -> ModuleType:
    """A fair comparison of five optimizers on a small network."""
    import pellucid.labs.small_comparison as module

    return module


@entry(6, needs=["optimizers"])
def fair_race() -> ModuleType:
    """A fair race on a surface: the same rates, starts and budget for all."""
    import pellucid.labs.fair_race as module

    return module


@entry(6, needs=["optimizers"])
def sgd_noise() -> ModuleType:
    """Real SGD on a finite sum: the cloud that stays about the minimum."""
    import pellucid.labs.sgd_noise as module

    return module


@entry(6, needs=["small-comparison"])
def optimizer_guide() -> ModuleType:
    """Choosing an optimizer: a guide, and what small runs say about it."""
    import pellucid.labs.optimizer_guide as module

    return module


@entry(6, needs=["optimizers"])
def schedules() -> ModuleType:
    """Schedules of the learning rate, and the counters of plateau."""
    import pellucid.labs.schedules as module

    return module


@entry(6, needs=["schedules"])
def schedule_guide() -> ModuleType:
    """Choosing a schedule: each sentence of the guide with a run; one-cycle."""
    import pellucid.labs.schedule_guide as module

    return module


@entry(7, needs=["activations", "chain-rule"])
def depth() -> ModuleType:
    """Depth: initial weights, signals and gradients."""
    import pellucid.labs.depth as module

    return module


@entry(8, needs=["arithmetic"])
def convolution() -> ModuleType:
    """Convolution: a loop, `F.conv2d` and `nn.Conv2d` are one."""
    import pellucid.labs.convolution as module

    return module


@entry(8, needs=["convolution"])
def kernels() -> ModuleType:
    """Kernels on a real image: blur, sharpen, Sobel, Prewitt."""
    import pellucid.labs.kernels as module

    return module


@entry(8, needs=["arithmetic"])
def pooling() -> ModuleType:
    """Pooling: less to compute, and a wider view."""
    import pellucid.labs.pooling as module

    return module


@entry(8, needs=["convolution", "pooling"])
def why_cnns() -> ModuleType:
    """Why convolutional networks: few weights, near inputs, shared."""
    import pellucid.labs.why_cnns as module

    return module


@entry(9, needs=["optimizers", "modules"])
def training_loop() -> ModuleType:
    """The loop line by line, and what breaks without each."""
    import pellucid.labs.training_loop as module

    return module


@entry(9, needs=["training-loop"])
def batch_size() -> ModuleType:
    """Mini-batches: noise, steps, memory and speed, from one image to all."""
    import pellucid.labs.batch_size as module

    return module


@entry(10)
def splits() -> ModuleType:
    """Three parts, leakage, and k-fold cross-validation."""
    import pellucid.labs.splits as module

    return module


@entry(10, needs=["splits"])
def capacity() -> ModuleType:
    """Capacity: underfitting, fitting, overfitting; bias and variance."""
    import pellucid.labs.capacity as module

    return module


@entry(10, needs=["capacity", "optimizers"])
def regularization() -> ModuleType:
    """L2 and L1 penalty: none, enough, too much; and `weight_decay`."""
    import pellucid.labs.regularization as module

    return module


@entry(10, needs=["splits"])
def augmentation() -> ModuleType:
    """Augmentation: what it does to an image, what keeps the label, when it helps."""
    import pellucid.labs.augmentation as module

    return module


@entry(10, needs=["linear"])
def dropout() -> ModuleType:
    """Dropout: another mask at each step, nothing in evaluation."""
    import pellucid.labs.dropout as module

    return module


@entry(10, needs=["dropout", "capacity", "schedules"])
def early_stopping() -> ModuleType:
    """Early stopping step by step; beside it dropout at work."""
    import pellucid.labs.early_stopping as module

    return module


@entry(10, needs=["convolution"])
def normalization() -> ModuleType:
    """BatchNorm, LayerNorm, GroupNorm, InstanceNorm: who shares a mean."""
    import pellucid.labs.normalization as module

    return module


@entry(12, needs=["softmax"])
def counts() -> ModuleType:
    """Metrics from counts: accuracy, precision, recall, F1, top-k."""
    import pellucid.labs.counts as module

    return module


@entry(13, needs=["linear", "optimizers"])
def embedding() -> ModuleType:
    """Sparse embeddings: only visited rows get gradients."""
    import pellucid.labs.embedding as module

    return module


@entry(13, needs=["activations", "depth"])
def recurrent() -> ModuleType:
    """Recurrent layers by hand: RNN, LSTM, GRU."""
    import pellucid.labs.recurrent as module

    return module


@entry(13, needs=["softmax", "normalization"])
def attention() -> ModuleType:
    """Attention by hand; the encoder and decoder of the Transformer."""
    import pellucid.labs.attention as module

    return module
