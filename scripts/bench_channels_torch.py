"""Torch-Pruning for ``bench_channels.py torch``: ResNet-8 of equal weights in PyTorch, slimmed and trained there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import torch
import torch_pruning
from torch import nn
from torch.nn import functional


class ResNet8(nn.Module):
    """MLPerf Tiny's image classification network, with the weights of the one in Keras, on images of (N, 32, 32, 3)."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        layers = model.layers
        self.convs = nn.ModuleList(_conv(layer) for layer in layers if isinstance(layer, keras.layers.Conv2D))
        norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
        self.norms = nn.ModuleList(_norm(layer) for layer in norms)
        self.dense = nn.Linear(*layers[-1].kernel.shape)
        _set(self.dense, weight=np.transpose(layers[-1].kernel), bias=layers[-1].bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norms[0](self._run(0, images.permute(0, 3, 1, 2))))
        number = 1
        for block in range(3):
            y = functional.relu(self.norms[2 * block + 1](self._run(number, x)))
            y = self.norms[2 * block + 2](self._run(number + 1, y))
            number += 2
            if block:
                x, number = self._run(number, x), number + 1
            x = functional.relu(x + y)
        return self.dense(x.mean((2, 3)))

    def inner(self) -> set[nn.Module]:
        """The first convolution of each block, whose channels only the second reads."""
        return {self.convs[1], self.convs[3], self.convs[6]}

    def _run(self, number: int, x: torch.Tensor) -> torch.Tensor:
        conv = self.convs[number]
        if conv.kernel_size[0] == 3:  # Keras pads at the end where the stride leaves one row too few
            x = functional.pad(x, (0, 1, 0, 1) if conv.stride[0] == 2 else (1, 1, 1, 1))
        return conv(x)


def _conv(layer: keras.layers.Conv2D) -> nn.Conv2d:
    size, _, entering, filters = layer.kernel.shape
    conv = nn.Conv2d(entering, filters, size, layer.strides[0])
    return _set(conv, weight=np.transpose(layer.kernel, (3, 2, 0, 1)), bias=layer.bias)


def _norm(layer: keras.layers.BatchNormalization) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(layer.gamma.shape[0], layer.epsilon, 1 - layer.momentum)
    moving = {"running_mean": layer.moving_mean, "running_var": layer.moving_variance}
    return _set(norm, weight=layer.gamma, bias=layer.beta, **moving)


def _set(module: Any, **values: Any) -> Any:
    with torch.no_grad():
        for name, value in values.items():
            getattr(module, name).copy_(torch.tensor(np.array(value)))
    return module


def pruned(model: keras.Model, ratio: float, round_to: int) -> ResNet8:
    """The network without a share of the channels inside its blocks, by Torch-Pruning's group magnitude."""
    net = ResNet8(model).eval()
    inner, last = net.inner(), {net.dense}
    ignored = [module for module in (*net.convs, *last) if module not in inner]
    pruner = torch_pruning.pruner.BasePruner(
        net, torch.zeros(1, 32, 32, 3), torch_pruning.importance.GroupMagnitudeImportance(p=2), pruning_ratio=ratio,
        ignored_layers=ignored, round_to=round_to,
    )  # fmt: skip
    pruner.step()
    return net


def macs(net: ResNet8) -> int:
    return int(torch_pruning.utils.count_ops_and_params(net, torch.zeros(1, 32, 32, 3))[0])


def top1(net: ResNet8, x: np.ndarray, y: np.ndarray) -> float:
    net.eval()
    with torch.no_grad():
        scores = np.concatenate([net(torch.from_numpy(x[i : i + 500])).numpy() for i in range(0, len(x), 500)])
    return float((scores.argmax(-1) == y).mean())


def train(net: ResNet8, batches: Iterable[Any], epochs: int, rate: Any) -> None:
    """Adam at the rates of a Keras schedule, on the batches of a dataset of images and class numbers."""
    optimizer = torch.optim.Adam(net.parameters(), eps=1e-7)
    torch.set_num_threads(1)  # more wait for one another, at a multiple of the time where the machine is shared
    net.to(memory_format=torch.channels_last).train()
    step = 0
    for _ in range(epochs):
        for images, labels in batches:
            for group in optimizer.param_groups:
                group["lr"] = float(rate(step))
            scores = net(torch.tensor(images.numpy()))
            loss = functional.cross_entropy(scores, torch.tensor(labels.numpy()).long())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
