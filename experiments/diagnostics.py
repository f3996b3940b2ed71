"""Why a search ended as it did: how alphas, their gradients and the leading operations developed in every iteration."""

import pathlib

import numpy as np

from experiments.lines import Line
from experiments.study import Job
from lfr_darts_jax.report import run_data
from lfr_darts_jax.runtime import metrics

SHARES = (0.3, 0.45, 0.6, 0.8, 1.0)  # Of an iteration's updates: the warm-up ends, half-way, prunings, the end.


def course(job: Job, folder: pathlib.Path) -> list[Line]:
  """A line per iteration and cell of a job's search, none where it had no search.

  At `shares` of the iteration's updates: the alphas' `entropy` as a share of that of uniform ones, the edges that
  `skip_connect` leads, as `skip_leads`, out of `edges`, and the mean norm of the alphas' gradient since the last. At
  its end, `mixtures`, `[edges][operations]`.
  """
  if job.genotype is not None:
    return []
  run = run_data.read(folder)
  entries = [entry for entry in metrics.read(folder) if entry["phase"] == "search"]
  column = tuple(run.config.search.operations).index("skip_connect")
  lines = []
  for i, histories in enumerate(run.histories):
    own = [entry for entry in entries if entry["iteration"] == i]
    total = max(entry["step"] for entry in own)
    for name, one in histories.items():
      # What is left of an edge bounds its entropy.
      uniform = np.log(np.maximum((one.mixtures > 0).sum(axis=2), 1)).mean(axis=1)
      entropy, leads = one.entropy / np.maximum(uniform, 1e-9), one.strongest(column)
      at = [int(np.searchsorted(one.steps, share * total, side="right")) - 1 for share in SHARES]
      outcome = run.stage_results[i][name]
      lines.append(
        {
          "method": job.method,
          "seed": job.seed,
          "group": job.group,
          "iteration": i,
          "cell": name,
          "supernet": list(run.plan.stages[i].present),
          "shares": list(SHARES),
          "entropy": [round(float(entropy[max(k, 0)]), 4) for k in at],
          "skip_leads": [int(leads[max(k, 0)]) for k in at],
          "edges": one.mixtures.shape[1],
          "mixtures": np.round(one.mixtures[-1], 3).tolist(),
          "alpha_gradient": _gradients(own, name, total),
          "skip_connects": outcome.skip_connects,
          "validation_accuracy": outcome.validation_accuracy,
        }
      )
  return lines


def _gradients(entries, name, total):
  """Mean norms between the shares; the first is before the alphas move, unless there is no warm-up."""
  key, means = f"alpha_gradient/{name}", []
  for begin, end in zip((0.0, *SHARES), SHARES, strict=False):
    norms = [e[key] for e in entries if key in e and begin * total < e["step"] <= end * total]
    means.append(float(np.mean(norms)) if norms else None)
  return means
