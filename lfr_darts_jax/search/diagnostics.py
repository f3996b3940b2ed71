"""Signs that a search has collapsed, and the figures they are told by.

DARTS's known failure is a cell full of `skip_connect`, which trains badly though its supernet did well (Zela et al.,
"Understanding and robustifying differentiable architecture search", ICLR 2020). Its opposite is a search that chose
nothing: alphas that never left uniform, so that the genotype is chance.

- `skip_connects`: the share of a normal cell's connections, as it would be derived now, that are `skip_connect`. A sign
  of collapse above `search.collapse_skip_share`, 0.25, where there are at least two. At DARTS's eight connections that
  is more than two: DARTS+ (Liang et al. 2019, arXiv 1909.06035) stops a search once a normal cell has two, P-DARTS
  (Chen et al. 2019, section 3.3) lets no more than two pass, and the normal cell that DARTS publishes has two. Anything
  from 0.13 to 0.24 is DARTS+'s own rule there. That other sizes go in proportion, and that one is none, is our choice.
- `uniform_alphas`: the entropy of the operations left on an edge as a share of log(their number), in the mean over the
  edges; of a stage, the least. A sign of collapse from `search.collapse_entropy`, 0.99, on, which is our choice:
  among eight operations it means alphas with a standard deviation of at most about 0.2.

Cells are judged while the alphas move, whenever these are written down, and at the end of a stage. As long as the
alphas are uniform, the cell that could be derived is chance (which makes three of eight connections `skip_connect`s in
one cell of eleven): it is not judged before they have left it, or the stage ends and the cell is kept. Pruning
brings alphas closer to uniform, as the strongest resemble each other, so that the least entropy counts, at the end.
Reduction cells are not judged by their `skip_connect`s: on the cell's inputs it is a convolution there, and neither
paper bounds it.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Annotated, Any

import jax.numpy as jnp
import ml_collections
import msgspec
import numpy as np

from lfr_darts_jax.errors import RunError
from lfr_darts_jax.runtime import json_io
from lfr_darts_jax.search.relaxation import entropy, shares
from lfr_darts_jax.search_space.cell_spec import NORMAL, CellSpec
from lfr_darts_jax.search_space.operation_names import SKIP_CONNECT

FEWEST_SKIP_CONNECTS = 2  # One alone is no collapse, however small the cell.
SOURCES = {
  "skip_connects": "DARTS+ (Liang et al. 2019) and P-DARTS (Chen et al. 2019), which stop at two of eight",
  "uniform_alphas": "our choice",
}


@dataclasses.dataclass(frozen=True)
class Finding:
  """A sign that a cell's search has collapsed.

  Attributes:
    iteration: the stage, from 0.
    cell: its name.
    criterion: `skip_connects` or `uniform_alphas`.
    figure: what it was judged by, from 0 to 1.
    threshold: what the figure was compared with.
    source: where the criterion is from.
    text: the same as a sentence.
  """

  iteration: Annotated[int, msgspec.Meta(ge=0)]
  cell: str
  criterion: str
  figure: Annotated[float, msgspec.Meta(ge=0)]
  threshold: Annotated[float, msgspec.Meta(ge=0)]
  source: str
  text: str


class Collapsed(RunError):
  """The search has collapsed and `search.stop_on_collapse` ended it; its state is saved."""

  def __init__(self, findings: Sequence[Finding]):
    """Takes what was found, at least one finding."""
    others = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    super().__init__(
      f"the search has collapsed: {findings[0].text}{others}; its state is saved: "
      "--mode=report shows it, --config.search.stop_on_collapse=False goes on"
    )


def entropy_share(cell: CellSpec, mixture: np.ndarray, operations: Sequence[str]) -> float:
  """How uniform a cell's alphas are.

  Args:
    cell: the cell.
    mixture: `[edges, operations]`.
    operations: names of the columns.

  Returns:
    The mean over the edges of entropy / log(operations left), from 0 to 1. Edges with nothing to choose don't count; 0
    where there are no others.
  """
  left = cell.mask(operations).sum(axis=1)
  open_edges = left > 1
  if not open_edges.any():
    return 0.0
  entropies = np.asarray(entropy(shares(jnp.asarray(mixture))))
  return float(np.mean(entropies[open_edges] / np.log(left[open_edges])))


def diagnose(
  stage: int, derived: CellSpec, least_entropy: float, search: ml_collections.ConfigDict, ended: bool
) -> list[Finding]:
  """Judges a cell by both criteria.

  Args:
    stage: of the search, from 0.
    derived: the cell as it would be derived now, see `pruning.derive`.
    least_entropy: the least `entropy_share` of the stage.
    search: the thresholds, `config.search`.
    ended: whether the stage's steps are done.

  Returns:
    The signs of collapse, most serious first.
  """
  uniform = least_entropy >= search.collapse_entropy
  findings = []

  def find(criterion: str, figure: float, threshold: float, text: str) -> None:
    source = SOURCES[criterion]
    findings.append(Finding(stage, derived.name, criterion, figure, threshold, source, f"{derived.name}: {text}"))

  if derived.kind == NORMAL and (ended or not uniform):
    count, total, share = derived.count(SKIP_CONNECT), len(derived.connections), search.collapse_skip_share
    if count >= FEWEST_SKIP_CONNECTS and count / total > share:
      text = f"{count} of {total} connections are skip_connects, a sign of collapse above {100 * share:g} %"
      find("skip_connects", count / total, share, text)
  if uniform and ended:
    least, most = f"{least_entropy:.4f}", f"{search.collapse_entropy:g}"
    text = f"the alphas stayed uniform, at {least} of the largest entropy, a sign of collapse from {most} on"
    find("uniform_alphas", least_entropy, search.collapse_entropy, text)
  return findings


def stop_if_collapsed(search: ml_collections.ConfigDict, findings: Sequence[Finding]) -> None:
  """Raises Collapsed where something was found and `search.stop_on_collapse` says so."""
  if search.stop_on_collapse and findings:
    raise Collapsed(findings)


def latest(entries: Iterable[Mapping[str, Any]]) -> list[Finding]:
  """The last diagnosis of every stage.

  Args:
    entries: those of `metrics.jsonl`, see `metrics.read`.

  Raises:
    UsageError: where one of them is no list of findings.
  """
  diagnosed = {entry["iteration"]: entry["collapse"] for entry in entries if "collapse" in entry}
  return [f for values in diagnosed.values() for f in json_io.convert(values, list[Finding], "metrics.jsonl: collapse")]
