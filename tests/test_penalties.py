import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.fields import PENALTY_NAMES, RAMP_NAMES
from lfr_darts_jax.models.network import Network
from lfr_darts_jax.models.operations import LayerSettings
from lfr_darts_jax.search import penalties
from lfr_darts_jax.search.relaxation import Moment, sigmoid, softmax
from lfr_darts_jax.search.state import Alphas
from lfr_darts_jax.search_space.cell_spec import CellSpec


def of(name, alphas, relax=softmax, mask=None, costs=0.0):
  """A penalty and its gradient by the alphas of one cell; more edges may follow that have no candidates."""
  alphas = jnp.asarray(alphas, float)
  mask = Alphas(jnp.ones(alphas.shape, bool) if mask is None else jnp.asarray(mask))

  def value(alphas):
    mixture = relax(Alphas(alphas), mask, Moment())
    # Cells that are derived have costs, but no alphas.
    every = {"n0": jnp.asarray(costs), "r0": jnp.ones((2, 2))}
    choice = penalties.Choice({"n0": Alphas(alphas)}, {"n0": mixture}, {"n0": mask}, 1.0, every)
    return penalties.PENALTIES[name](choice)

  return value(alphas), jax.grad(value)(alphas)


def test_the_config_names_all_there_are():
  assert PENALTY_NAMES == tuple(penalties.PENALTIES) and RAMP_NAMES == tuple(penalties.RAMPS)


def test_beta_by_hand():
  value, gradient = of("beta", np.zeros((2, 5)), mask=[[True] * 4 + [False]] * 2)
  np.testing.assert_allclose(value, np.log(4), rtol=1e-6)
  np.testing.assert_allclose(gradient, [[1 / 8] * 4 + [0]] * 2, rtol=1e-6)  # p / edges.


def test_edges_without_candidates_do_not_count():
  mask = [[True, True], [False, False]]
  for name in ("beta", "zero_one", "polarization"):
    value, gradient = of(name, np.zeros((2, 2)), mask=mask)
    alone, _ = of(name, np.zeros((1, 2)))
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    assert np.isfinite(gradient).all() and not gradient[1].any()


def test_zero_one_by_hand():
  assert of("zero_one", [[0.0]], sigmoid)[0] == 0
  np.testing.assert_allclose(of("zero_one", [[np.log(3.0)]], sigmoid)[0], -1 / 16, rtol=1e-6)


def test_polarization_by_hand():
  np.testing.assert_allclose(of("polarization", np.log([[2.0, 1.0, 1.0]]))[0], -1 / 3, rtol=1e-6)
  np.testing.assert_allclose(of("polarization", [[100.0, 0.0, 0.0]])[0], -4 / 3, rtol=1e-6)
  value, gradient = of("polarization", np.zeros((1, 3)))
  assert abs(value) < 1e-7 and np.isfinite(gradient).all()


def test_complexity_by_hand():
  value, gradient = of("complexity", [[0.0, 0.0]], costs=[[0, 6656]])
  np.testing.assert_allclose(value, 1 / 2)
  np.testing.assert_allclose(gradient, [[-1 / 4, 1 / 4]])
  # Over the dearest of every edge: 6656 of the first, 1664 of the second.
  value, _ = of("complexity", np.zeros((2, 2)), costs=[[3328, 6656], [0, 1664]])
  np.testing.assert_allclose(value, (0.75 * 6656 + 0.5 * 1664) / 8320)


def test_everyare_those_of_the_supernet():
  cell = CellSpec.full("n0", "normal", 1, ("skip_connect", "sep_conv_3x3", "dil_conv_3x3"))
  network = Network(("n0",), (cell,), cell.candidates[0], 4, 3, LayerSettings(True))
  costs = penalties.costs((("complexity", 0.1, "constant"),), network, (8, 8, 3))
  np.testing.assert_array_equal(costs["n0"], [[0, 2 * (9 * 4 * 64 + 16 * 64), 9 * 4 * 64 + 16 * 64]] * 2)
  assert penalties.costs((("beta", 0.1, "constant"),), network, (8, 8, 3)) == {}


@pytest.mark.parametrize(("ramp", "expected"), [("constant", 2.0), ("linear", 0.5)])
def test_ramps(ramp, expected, monkeypatch):
  monkeypatch.setitem(penalties.PENALTIES, "one", lambda choice: 1.0)
  choice = penalties.Choice({}, {}, {}, 0.25)
  assert penalties.total((("one", 2.0, ramp),), choice) == expected
