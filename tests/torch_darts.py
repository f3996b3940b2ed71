"""DARTS's evaluation network in plain PyTorch modules, written from its description: the reference of a parity test.

Parameters are registered under names that say where ours are: `our_path` maps one to the other.
"""

import re

import torch
from torch import nn

KINDS = {"weight": "kernel", "bias": "bias"}


class Pair(nn.Module):
  """Two 1x1 convolutions of stride 2, the second of the shifted image."""

  def __init__(self, inputs, outputs):
    super().__init__()
    self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
    self.odd = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
    self.norm_0 = nn.BatchNorm2d(outputs)

  def forward(self, x):
    x = torch.relu(x)
    return self.norm_0(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))


class Preprocess(nn.Module):
  def __init__(self, inputs, outputs):
    super().__init__()
    self.dense_0 = nn.Conv2d(inputs, outputs, 1, bias=False)
    self.norm_0 = nn.BatchNorm2d(outputs)

  def forward(self, x):
    return self.norm_0(self.dense_0(torch.relu(x)))


class Separable(nn.Module):
  def __init__(self, channels, size, stride, dilation, times):
    super().__init__()
    self.times = times
    for i in range(times):
      padding = dilation * (size - 1) // 2
      self.add_module(
        f"depthwise_{i}",
        nn.Conv2d(channels, channels, size, stride if i == 0 else 1, padding, dilation, channels, False),
      )
      self.add_module(f"dense_{i}", nn.Conv2d(channels, channels, 1, bias=False))
      self.add_module(f"norm_{i}", nn.BatchNorm2d(channels))

  def forward(self, x):
    for i in range(self.times):
      for part in ("depthwise", "dense", "norm"):
        x = getattr(self, f"{part}_{i}")(torch.relu(x) if part == "depthwise" else x)
    return x


def operation(name, channels, stride):
  size = int(name[-1]) if name[-1].isdigit() else 0
  if name.startswith("sep_conv"):
    return Separable(channels, size, stride, 1, 2)
  if name.startswith("dil_conv"):
    return Separable(channels, size, stride, 2, 1)
  if name == "max_pool_3x3":
    return nn.MaxPool2d(3, stride, 1)
  if name == "avg_pool_3x3":
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
  return nn.Identity() if stride == 1 else Pair(channels, channels)


class Cell(nn.Module):
  def __init__(self, spec, before, previous, channels, reduced):
    super().__init__()
    self.spec = spec
    self.preprocess0 = Pair(before, channels) if reduced else Preprocess(before, channels)
    self.preprocess1 = Preprocess(previous, channels)
    for source, target, (name,) in spec.connections:
      stride = 2 if spec.kind == "reduction" and source < 2 else 1
      self.add_module(f"edge_{source}_{target}__{name}", operation(name, channels, stride))

  def forward(self, before, previous):
    states = {0: self.preprocess0(before), 1: self.preprocess1(previous)}
    for source, target, (name,) in self.spec.connections:
      y = getattr(self, f"edge_{source}_{target}__{name}")(states[source])
      states[target] = states[target] + y if target in states else y
    return torch.cat([states[i] for i in self.spec.concat], 1)


class Auxiliary(nn.Module):
  def __init__(self, channels, classes, stem):
    super().__init__()
    self.pool = nn.AvgPool2d(5, 3 if stem == "cifar" else 2)
    self.conv_0, self.norm_0 = nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128)
    self.conv_1 = nn.Conv2d(128, 768, 2, bias=False)
    self.norm_1 = nn.BatchNorm2d(768) if stem == "cifar" else nn.Identity()
    self.dense_0 = nn.Linear(768, classes)

  def forward(self, x):
    x = torch.relu(self.norm_0(self.conv_0(self.pool(torch.relu(x)))))
    return self.dense_0(torch.relu(self.norm_1(self.conv_1(x))).flatten(1))


class EvaluationNetwork(nn.Module):
  def __init__(self, genotype, channels, layers, classes, stem):
    super().__init__()
    cells = {cell.name: cell for cell in genotype.cells}
    self.stem_kind = stem
    if stem == "cifar":
      self.stem, self.stem_norm = nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
      before = previous = 3 * channels
    else:
      widths = (3, channels // 2, channels, channels)
      self.stem = nn.ModuleDict()
      for i in range(3):
        self.stem[f"conv_{i}"] = nn.Conv2d(widths[i], widths[i + 1], 3, 2, 1, bias=False)
        self.stem[f"norm_{i}"] = nn.BatchNorm2d(widths[i + 1])
      before = previous = channels
    reduced = stem != "cifar"
    self.layers = nn.ModuleList()
    for i in range(layers):
      reduction = i in (layers // 3, 2 * layers // 3)
      channels *= 2 if reduction else 1
      spec = cells["reduction" if reduction else "normal"]
      self.layers.append(Cell(spec, before, previous, channels, reduced))
      before, previous, reduced = previous, len(spec.concat) * channels, reduction
      if i == 2 * layers // 3:
        self.at, self.auxiliary = i, Auxiliary(previous, classes, stem)
    self.classifier = nn.Linear(previous, classes)

  def forward(self, x):
    if self.stem_kind == "cifar":
      before = previous = self.stem_norm(self.stem(x))
    else:
      outputs = []
      for i in range(3):
        x = self.stem[f"norm_{i}"](self.stem[f"conv_{i}"](torch.relu(x) if i else x))
        outputs.append(x)
      before, previous = outputs[1:]
    for i, layer in enumerate(self.layers):
      before, previous = previous, layer(before, previous)
      if i == self.at:
        auxiliary = self.auxiliary(previous)
    return self.classifier(previous.mean((2, 3))), auxiliary


def our_path(name):
  """Path in our tree of a parameter of `EvaluationNetwork`."""
  *parts, leaf = re.sub(r"^layers\.(\d+)", r"layer_\1", name).replace("__", ".").split(".")
  if parts[-1].startswith(("norm_", "stem_norm")):
    leaf = "scale" if leaf == "weight" else "bias"
  else:
    leaf = KINDS[leaf]
  if len(parts) > 3 - (parts[-1] == "skip_connect") and parts[2] == "skip_connect":
    parts.insert(3, "FactorizedReduce_0")
  rename = {"norm": "BatchNorm", "depthwise": "DepthwiseConv", "dense": "Dense"}
  if parts[0] == "auxiliary":
    rename["conv"] = "Conv"
  last, _, number = parts[-1].rpartition("_")
  if last in rename:
    parts[-1] = f"{rename[last]}_{number}"
  return (*parts, leaf)
