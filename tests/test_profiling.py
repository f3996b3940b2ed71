import jax
import jax.numpy as jnp
from jax.profiler import ProfileData

from lfr_darts_jax.profiling import Profiler


def traces(folder):
  return sorted(path.relative_to(folder).parts[0] for path in folder.rglob("*.xplane.pb"))


def test_the_first_dispatch_of_every_program_is_traced(tmp_path):
  profiler = Profiler(tmp_path, True)
  for program in ("search_1", "search_1", "train"):
    with profiler.dispatch(program):
      jax.jit(jnp.sin)(jnp.ones(3)).block_until_ready()
  assert traces(tmp_path / "profile") == ["search_1", "train"]
  (path,) = (tmp_path / "profile" / "train").rglob("*.xplane.pb")
  events = [
    event.name for plane in ProfileData.from_file(str(path)).planes for line in plane.lines for event in line.events
  ]
  assert any("sin" in name for name in events)


def test_nothing_is_traced_unless_asked(tmp_path):
  with Profiler(tmp_path, False).dispatch("train"):
    pass
  assert not (tmp_path / "profile").exists()
