"""DARTS's supernet and bilevel step in plain PyTorch, the way its users run them: the other side of `search_step.py`.

Modules in a `ModuleDict`, Python loops over edges and operations, autograd. The search space is that of
`lfr_darts_jax.models.operations` while searching: batch norms without affine parameters, also after every pool. Modules
bear the names of ours, so that `our_path` can tell where in our tree a weight belongs.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
import contextlib
from typing import NamedTuple

import ml_collections
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lfr_darts_jax.search_space.cell_spec import REDUCTION, CellSpec, edges

# Of the finite difference, over the norm of the validation gradient (DARTS, section 2.3).
DIFFERENCE = 0.01


class Zero(nn.Module):
  """No connection: `[batch, channels, height, width]` to zeros of the size that `stride` leaves."""

  def __init__(self, stride: int):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    return x[:, :, :: self.stride, :: self.stride] * 0


class FactorizedReduce(nn.Module):
  """Halves the resolution by two 1x1 convolutions of stride 2, the second of the image shifted by one pixel."""

  def __init__(self, inputs: int, outputs: int):
    super().__init__()
    self.even = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
    self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, 2, bias=False)
    self.norm = nn.BatchNorm2d(outputs, affine=False)

  def forward(self, x):
    x = torch.relu(x)
    shifted = x[:, :, 1:, 1:]
    height, width = x.shape[2:]
    if height % 2 or width % 2:
      shifted = F.pad(shifted, (0, width % 2, 0, height % 2))
    return self.norm(torch.cat([self.even(x), self.odd(shifted)], 1))


def relu_conv_norm(inputs: int, outputs: int) -> nn.Module:
  """1x1 convolution between ReLU and batch norm."""
  dense = nn.Conv2d(inputs, outputs, 1, bias=False)
  return nn.Sequential(OrderedDict(relu=nn.ReLU(), Dense_0=dense, norm=nn.BatchNorm2d(outputs, affine=False)))


def separable(channels: int, size: int, stride: int, dilation: int, times: int) -> nn.Module:
  """ReLU, depthwise and 1x1 convolution, batch norm; so many times, the first one strided."""
  parts: OrderedDict[str, nn.Module] = OrderedDict()
  for i in range(times):
    parts[f"relu_{i}"] = nn.ReLU()
    parts[f"DepthwiseConv_{i}"] = nn.Conv2d(
      channels,
      channels,
      size,
      stride if i == 0 else 1,
      padding=dilation * (size - 1) // 2,
      dilation=dilation,
      groups=channels,
      bias=False,
    )
    parts[f"Dense_{i}"] = nn.Conv2d(channels, channels, 1, bias=False)
    parts[f"norm_{i}"] = nn.BatchNorm2d(channels, affine=False)
  return nn.Sequential(parts)


def skip_connect(channels: int, stride: int) -> nn.Module:
  """Identity, or a factorized reduction where the edge is strided."""
  if stride == 1:
    return nn.Identity()
  return nn.Sequential(OrderedDict(FactorizedReduce_0=FactorizedReduce(channels, channels)))


def normed(pool: nn.Module, channels: int) -> nn.Module:
  """A pool and its batch norm."""
  return nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))


OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
  "none": lambda channels, stride: Zero(stride),
  "max_pool_3x3": lambda channels, stride: normed(nn.MaxPool2d(3, stride, 1), channels),
  "avg_pool_3x3": lambda channels, stride: normed(nn.AvgPool2d(3, stride, 1, count_include_pad=False), channels),
  "skip_connect": skip_connect,
  "sep_conv_3x3": lambda channels, stride: separable(channels, 3, stride, 1, 2),
  "sep_conv_5x5": lambda channels, stride: separable(channels, 5, stride, 1, 2),
  "dil_conv_3x3": lambda channels, stride: separable(channels, 3, stride, 2, 1),
  "dil_conv_5x5": lambda channels, stride: separable(channels, 5, stride, 2, 1),
}


class MixedOp(nn.ModuleDict):
  """The candidates of one edge, by name: their weighted sum (DARTS, equation 2), or the single one as it is."""

  def __init__(self, names: Sequence[str], channels: int, stride: int):
    super().__init__({name: OPERATIONS[name](channels, stride) for name in names})

  def forward(self, x, weights):
    if weights is None:
      (operation,) = self.values()
      return operation(x)
    return sum(w * operation(x) for w, operation in zip(weights, self.values(), strict=True))


class Cell(nn.Module):
  """A cell with either all candidates on every edge or one candidate on some."""

  def __init__(self, spec: CellSpec, before: int, previous: int, channels: int, reduction_before: bool):
    """Builds a cell.

    Args:
      spec: its candidates.
      before, previous: features of the outputs of the layer two before and of the layer before.
      channels: features of a node.
      reduction_before: whether the layer before halved the resolution.
    """
    super().__init__()
    self.spec = spec
    self.preprocess0 = (FactorizedReduce if reduction_before else relu_conv_norm)(before, channels)
    self.preprocess1 = relu_conv_norm(previous, channels)
    self.edges = nn.ModuleDict()
    for source, target, names in spec.connections:
      stride = 2 if spec.kind == REDUCTION and source < 2 else 1
      self.edges[f"edge_{source}_{target}"] = MixedOp(names, channels, stride)

  def forward(self, before, previous, weights=None):
    """Runs the cell; `weights` are `[edges, operations]`, None for a derived cell."""
    states = [self.preprocess0(before), self.preprocess1(previous)]
    rows = {edge: row for row, edge in enumerate(edges(self.spec.nodes))}
    for node in range(2, self.spec.nodes + 2):
      states.append(
        sum(
          self.edges[f"edge_{source}_{target}"](
            states[source], None if weights is None else weights[rows[source, node]]
          )
          for source, target, _ in self.spec.connections
          if target == node
        )
      )
    return torch.cat([states[i] for i in self.spec.concat], 1)


class Supernet(nn.Module):
  """A layout of cells behind DARTS's CIFAR stem."""

  def __init__(
    self, layout: tuple[str, ...], cells: tuple[CellSpec, ...], channels: int, num_classes: int, image_channels: int = 3
  ):
    """Builds a supernet.

    Args:
      layout: names of the layers' cells, shallow to deep.
      cells: the cells that the layout names.
      channels: features of a node before the first reduction; doubled by every reduction.
      num_classes: size of the output.
      image_channels: of the input.
    """
    super().__init__()
    by_name = {cell.name: cell for cell in cells}
    self.layout = layout
    before = previous = 3 * channels
    self.stem = nn.Conv2d(image_channels, previous, 3, padding=1, bias=False)
    self.stem_norm = nn.BatchNorm2d(previous)
    self.layers = nn.ModuleDict()
    reduced = False
    for i, name in enumerate(layout):
      spec = by_name[name]
      reducing = spec.kind == REDUCTION
      channels *= 2 if reducing else 1
      self.layers[f"layer_{i}"] = Cell(spec, before, previous, channels, reduced)
      before, previous, reduced = previous, len(spec.concat) * channels, reducing
    self.classifier = nn.Linear(previous, num_classes)

  def forward(self, images, alphas):
    """Classifies.

    Args:
      images: `[batch, channels, height, width]`, normalised.
      alphas: `[edges, operations]` for every cell that is mixed.

    Returns:
      Logits, `[batch, classes]`.
    """
    weights = {name: torch.softmax(a, -1) for name, a in alphas.items()}
    before = previous = self.stem_norm(self.stem(images))
    for name, cell in zip(self.layout, self.layers.values(), strict=True):
      before, previous = previous, cell(before, previous, weights.get(name))
    return self.classifier(previous.mean((2, 3)))


class Batch(NamedTuple):
  """Normalised images `[batch, channels, height, width]` and labels `[batch]`."""

  images: torch.Tensor
  labels: torch.Tensor


class Bilevel:
  """DARTS's update: alphas on the validation batch, then weights on the train batch."""

  def __init__(
    self,
    model: Supernet,
    alphas: dict[str, torch.Tensor],
    search: ml_collections.ConfigDict,
    updates: int,
    autocast: torch.dtype | None = None,
  ):
    """Prepares the optimizers.

    Args:
      model: the supernet.
      alphas: per searched cell, `[edges, operations]`, leaves that require gradients.
      search: the config's `search`.
      updates: until the weights' rate has reached its minimum.
      autocast: type of the computation where it is not that of the weights.
    """
    self._model, self._alphas, self._search, self._autocast = model, alphas, search, autocast
    self._weights = list(model.parameters())
    self._weight_optimizer = torch.optim.SGD(
      self._weights, search.learning_rate, search.momentum, weight_decay=search.weight_decay
    )
    self._alpha_optimizer = torch.optim.Adam(
      list(alphas.values()),
      search.alpha_learning_rate,
      (search.alpha_beta1, search.alpha_beta2),
      weight_decay=search.alpha_weight_decay,
    )
    self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
      self._weight_optimizer, updates, search.min_learning_rate
    )

  def update(self, train: Batch, validation: Batch) -> torch.Tensor:
    """One update; returns the loss of the train batch before it."""
    self._alpha_optimizer.zero_grad()
    if self._search.order == 1:
      # As DARTS does it: the weights' gradient comes along, and is thrown away.
      self.loss(validation).backward()
    else:
      for alpha, gradient in zip(self._alphas.values(), self.unrolled_gradient(train, validation), strict=True):
        alpha.grad = gradient
    self._alpha_optimizer.step()
    self._weight_optimizer.zero_grad()
    loss = self.loss(train)
    loss.backward()
    nn.utils.clip_grad_norm_(self._weights, self._search.gradient_clip)
    self._weight_optimizer.step()
    self._schedule.step()
    return loss.detach()

  def loss(self, batch: Batch) -> torch.Tensor:
    """Cross-entropy of a batch."""
    device = batch.images.device.type
    lower = contextlib.nullcontext() if self._autocast is None else torch.autocast(device, self._autocast)
    with lower:
      return F.cross_entropy(self._model(batch.images, self._alphas), batch.labels)

  def unrolled_gradient(self, train: Batch, validation: Batch) -> list[torch.Tensor]:
    """Gradient by the alphas of order 2, its Hessian-vector product by central differences (DARTS, equation 8)."""
    alphas, search = list(self._alphas.values()), self._search
    rate = self._schedule.get_last_lr()[0] if search.inner_learning_rate is None else search.inner_learning_rate
    gradient = torch.autograd.grad(self.loss(train), self._weights)
    kept = [w.detach().clone() for w in self._weights]
    with torch.no_grad():
      for w, g in zip(self._weights, gradient, strict=True):
        # Before the first update there is no momentum.
        momentum = self._weight_optimizer.state[w].get("momentum_buffer", torch.zeros_like(w))
        w.sub_(rate * (search.momentum * momentum + g + search.weight_decay * w))
    both = torch.autograd.grad(self.loss(validation), [*alphas, *self._weights])
    by_alphas, direction = both[: len(alphas)], both[len(alphas) :]
    size = DIFFERENCE / torch.cat([d.flatten() for d in direction]).norm()
    sides = []
    for sign in (1, -1):
      self._move(kept, direction, sign * size)
      sides.append(torch.autograd.grad(self.loss(train), alphas))
    self._move(kept, direction, 0)
    return [a - rate * (p - n) / (2 * size) for a, p, n in zip(by_alphas, *sides, strict=True)]

  @torch.no_grad()
  def _move(self, origin, direction, distance):
    for w, start, d in zip(self._weights, origin, direction, strict=True):
      w.copy_(start + distance * d)


def our_path(name: str) -> tuple[str, ...]:
  """Path in our tree of variables of a parameter of `Supernet`."""
  *modules, leaf = name.split(".")
  modules = [m for m in modules if m not in ("layers", "edges")]
  kernel = "scale" if modules[-1] == "stem_norm" else "kernel"
  return (*modules, kernel if leaf == "weight" else leaf)


def our_shape(parameter: torch.Tensor) -> tuple[int, ...]:
  """Shape of a parameter in our tree; a 1x1 convolution is a matrix there."""
  shape = tuple(parameter.shape)
  if shape[2:] == (1, 1):
    shape = shape[:2]
  return (*shape[2:], *shape[1::-1])


@torch.no_grad()
def assign(parameter: torch.Tensor, value: np.ndarray) -> None:
  """Sets a parameter to a value of shape `our_shape`."""
  theirs = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
  parameter.copy_(torch.tensor(np.ascontiguousarray(theirs)).reshape(parameter.shape))
