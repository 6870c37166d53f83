# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the CPU, knowing nothing of Berth: one model, a few batches, its digest.

usage: torch_model.py resnet|transformer [STAT-COMMAND...]

Prints the digest of every output and the bytes of the model's parameters and buffers. While the
model is alive, STAT-COMMAND is run with this process's id appended, and its output follows.
"""

import hashlib
import os
import subprocess
import sys

import torch
from torch import nn


class Bottleneck(nn.Module):
    """The residual block of ResNet-50."""

    def __init__(self, inside, planes, stride):
        super().__init__()
        outside = planes * 4
        self.body = nn.Sequential(
            nn.Conv2d(inside, planes, 1, bias=False), nn.BatchNorm2d(planes), nn.ReLU(inplace=True),
            nn.Conv2d(planes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes),
            nn.ReLU(inplace=True),
            nn.Conv2d(planes, outside, 1, bias=False), nn.BatchNorm2d(outside))
        self.skip = nn.Identity()
        if stride != 1 or inside != outside:
            self.skip = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False),
                                      nn.BatchNorm2d(outside))

    def forward(self, x):
        return torch.relu(self.body(x) + self.skip(x))


def resnet():
    """ResNet-50: 25.6 million parameters."""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
              nn.MaxPool2d(3, 2, 1)]
    inside = 64
    for planes, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(blocks):
            layers.append(Bottleneck(inside, planes, stride if i == 0 else 1))
            inside = planes * 4
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 1000)]
    return nn.Sequential(*layers), lambda step: torch.randn(4, 3, 160, 160)


def transformer():
    """A small encoder with an embedding: 17 million parameters."""
    layer = nn.TransformerEncoderLayer(384, 6, 1536, batch_first=True)
    model = nn.Sequential(nn.Embedding(16000, 384), nn.TransformerEncoder(layer, 6),
                          nn.Linear(384, 1000))
    return model, lambda step: torch.randint(0, 16000, (8, 128))


def main(name, stat_command):
    torch.manual_seed(7)
    torch.set_num_threads(1)  # the order of a threaded sum may differ between any two runs
    model, batch = {"resnet": resnet, "transformer": transformer}[name]()
    model.eval()
    digest = hashlib.sha256()
    with torch.no_grad():
        for step in range(3):
            output = model(batch(step))
            digest.update(output.numpy().tobytes())
    held = list(model.parameters()) + list(model.buffers())
    print("digest", digest.hexdigest())
    print("parameters", sum(t.numel() * t.element_size() for t in held), flush=True)
    if stat_command:
        sys.stdout.write(subprocess.run(stat_command + [str(os.getpid())], stdout=subprocess.PIPE,
                                        check=True).stdout.decode())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
