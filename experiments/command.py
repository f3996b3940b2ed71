"""How the programs of this folder start and end: errors as one line and an exit status."""

from collections.abc import Callable
import os
import sys

from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.runtime import paths
from lfr_darts_jax.runtime.preemption import Interrupted


def run(name: str, main: Callable[[], int]) -> None:
  """Ends the process with what `main` returns, or with a line that names the program and the status of an error."""
  try:
    sys.exit(main())
  except (UsageError, RunError) as error:
    print(f"{name}: {error}", file=sys.stderr)
    sys.exit(2 if isinstance(error, UsageError) else 1)
  except Interrupted as error:
    print(f"{name}: {error}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    # A thread may be left behind in the compiler, at which a regular end would abort.
    os._exit(128 + error.number)
  except OSError as error:
    print(f"{name}: {paths.explain(error)}", file=sys.stderr)
    sys.exit(1)
