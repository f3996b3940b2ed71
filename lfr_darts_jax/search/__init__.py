"""The search: cell by cell, shallow to deep. `lfr_darts_jax.search(config, workdir)` is `pipeline.search`."""

import sys
import types
from typing import Any


class _Search(types.ModuleType):
  """A package that is called as well: `lfr_darts_jax.search` is the name of both."""

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    from lfr_darts_jax import pipeline

    return pipeline.search(*args, **kwargs)


sys.modules[__name__].__class__ = _Search
