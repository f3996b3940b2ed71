"""What a run can do without, such as TensorBoard or a cache: where it fails, one line tells, and the run goes on."""

from collections.abc import Callable, Iterator
import contextlib

from lfr_darts_jax.errors import one_line


def tell(text: str) -> None:
  """Prints a line at once."""
  print(text, flush=True)


@contextlib.contextmanager
def optional(what: str, say: Callable[[str], None] = tell) -> Iterator[None]:
  """Does what stands inside, as far as it goes.

  Args:
    what: it is, for the line.
    say: prints the line.
  """
  try:
    yield
  except Exception as error:
    say(one_line(f"without {what} ({type(error).__name__}: {error})"))
