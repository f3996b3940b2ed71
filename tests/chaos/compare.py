"""Whether two work directories hold the same run."""

import json
import pathlib
import threading
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from lfr_darts_jax.report.misclassified import NAME as MISTAKES
from lfr_darts_jax.runtime import workdir as workdirs
from lfr_darts_jax.runtime.metrics import NAME as METRICS

CLOCK = ("search_seconds", "train_seconds", "finished")  # What no two runs share of a result.
TEMPORARIES = ("*.partial", "*orbax-checkpoint-tmp*")

_ONE_AT_A_TIME = threading.Lock()  # Orbax is not made for several threads.


def differences(workdir: pathlib.Path, reference: pathlib.Path) -> list[str]:
  """What two finished runs do not share, and what lies about in the first; nothing where all is well."""
  found = [
    f"{name} differs"
    for name in (workdirs.GENOTYPE, METRICS, MISTAKES)
    if (workdir / name).read_bytes() != (reference / name).read_bytes()
  ]
  found += [f"{name} of the result differs" for name in _differing(result(workdir), result(reference))]
  found += [f"{name} of the final state differs" for name in _differing(final_state(workdir), final_state(reference))]
  found += [] if (workdir / "report" / "index.html").exists() else ["there is no page"]
  left = [path for kind in TEMPORARIES for path in sorted(workdir.rglob(kind))]
  return found + [f"{path.relative_to(workdir)} is left" for path in left]


def _differing(one, other):
  return [name for name in one | other if one.get(name) != other.get(name)]


def result(workdir: pathlib.Path) -> dict[str, Any]:
  """What `result.json` holds, without what goes by the clock."""
  return {k: v for k, v in json.loads((workdir / workdirs.RESULT).read_text()).items() if k not in CLOCK}


def final_state(workdir: pathlib.Path) -> dict[str, tuple[Any, ...]]:
  """The trained network, its statistics and its optimizer, by name: shape, type and bits."""
  newest = max((p for p in (workdir / workdirs.CHECKPOINTS).iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
  path = (newest / "state").absolute()
  with _ONE_AT_A_TIME:
    checkpointer = ocp.PyTreeCheckpointer()
    shapes = checkpointer.metadata(path).item_metadata.tree
    state = checkpointer.restore(
      path, restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    )
  return {
    jax.tree_util.keystr(name): (array.shape, array.dtype.name, array.tobytes())
    for name, array in jax.tree_util.tree_leaves_with_path(state)
  }
