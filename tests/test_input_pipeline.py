import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lfr_darts_jax.data import augment, datasets, input_pipeline
from lfr_darts_jax.data.in_memory import InMemoryChunk
from lfr_darts_jax.data.streaming import loader
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH
from lfr_darts_jax.training.evaluate import evaluate
from tests.conftest import tiny_config
from tests.photographs import jpeg

SIZE, COUNT = 16, 23


class Photographs:
  """Two dozen photographs at random access."""

  def __init__(self):
    self.encoded = [(jpeg(i, 40, 30), i % 10) for i in range(COUNT)]

  def __len__(self):
    return COUNT

  def __getitem__(self, index):
    return self.encoded[index]

  def name(self, index):
    return str(index)


class Brightness:
  """A network that says how bright an image is: its class by tens of grey levels."""

  num_classes = 10

  def apply(self, variables, images, mixtures=None):
    class Outputs:
      logits = -jnp.abs(images.mean((1, 2, 3))[:, None] * 10 - jnp.arange(10))

    return Outputs

  def __hash__(self):
    return 0

  def __eq__(self, other):
    return isinstance(other, Brightness)


@pytest.fixture
def config():
  config = tiny_config()
  config.data.update(name="folder", dir=".", loading="stream", image_size=SIZE, channels=3, workers=0, crop_padding=0)
  return config


def read(batches, start, stop):
  """Images and labels of the steps of a chunk, not cropped."""
  got, plain = batches.chunk(start, stop), tiny_config()
  plain.data.crop_padding = 0
  key = jnp.zeros(2, jnp.uint32)
  one = lambda step, part: got.batch(key, jnp.int32(step), part, 4, plain, WHOLE_BATCH)
  return [[tuple(map(np.asarray, one(s, p))) for p in range(got.images.shape[1])] for s in range(start, stop)]


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_stream_goes_on_anywhere_and_ends_its_chunks_anywhere(config):
  split = input_pipeline.open_split(Photographs(), config, distributed.first_device())
  parts = np.random.default_rng(0).permutation(COUNT)[:22].reshape(2, 11)
  make = lambda order=(1, 2): split.batches(parts, 4, order, (0, 0), 3)
  whole = make()
  steps = read(whole, 0, 3) + read(whole, 3, 5) + read(whole, 5, 6)
  whole.close()
  later = make()
  equal(read(later, 2, 4), steps[2:4])
  equal(read(later, 4, 6), steps[4:6])
  equal(read(later, 0, 1), steps[:1])  # Back to a checkpoint.
  later.close()
  another = make((1, 3))
  assert any((a[0][1] != b[0][1]).any() for a, b in zip(read(another, 0, 3), steps, strict=False))
  another.close()
  # Labels are those of the parts' own images.
  labels = np.arange(COUNT) % 10
  for part in range(2):
    seen = np.concatenate([step[part][1] for step in steps[:2]])
    assert set(seen) <= set(labels[parts[part]])


def test_a_stream_is_cropped_and_flipped_on_the_device_as_other_images_are(config):
  split = input_pipeline.open_split(Photographs(), config, distributed.first_device())
  batches = split.batches(None, 4, (0,), (0,), 3)
  ((images, _),) = read(batches, 0, 1)[0]
  config.data.update(crop_padding=2, flip="random")
  key = jax.random.PRNGKey(3)
  again = split.batches(None, 4, (0,), (0,), 3)
  cropped, _ = again.chunk(0, 1).batch(key, jnp.int32(0), 0, 4, config, WHOLE_BATCH)
  expected = augment.crop_and_flip(jnp.asarray(images), key, config)
  assert (np.asarray(cropped) != images).any()
  np.testing.assert_array_equal(cropped, expected)
  for opened in (batches, again):
    opened.close()


def test_a_split_is_not_read_before_it_is_needed(config):
  split = input_pipeline.open_split(Photographs(), config, distributed.first_device())
  batches = split.batches(np.arange(22).reshape(2, 11), 4, (0,), (0, 2), 3)
  steps = read(batches, 0, 3)
  assert [bool(step[1][0].any()) for step in steps] == [False, False, True]
  assert all(step[0][0].any() for step in steps)
  batches.close()
  again = split.batches(np.arange(22).reshape(2, 11), 4, (0,), (0, 0), 3)
  equal(read(again, 2, 3)[0], steps[2])
  again.close()


def test_streamed_images_are_tested_as_those_in_memory(config):
  streamed = input_pipeline.open_split(Photographs(), config, distributed.first_device())
  images = streamed.images(np.arange(COUNT))
  labels = np.arange(COUNT, dtype=np.int32) % 10
  resident = input_pipeline.InMemorySplit((images, labels), distributed.first_device())
  statistics = (0.0,) * 3, (1.0,) * 3
  chosen = np.array([2, 3, 5, 7, 11, 13, 17])
  ours, theirs = (evaluate(Brightness(), {}, s, 4, statistics, chosen) for s in (streamed, resident))
  equal(ours, theirs)
  assert ours.total == len(chosen)
  np.testing.assert_allclose(streamed.statistics(), resident.statistics(), atol=1e-6)


def test_batches_in_memory_are_one_array(config):
  config.data.loading = "device"
  arrays = np.zeros((6, 8, 8, 1), np.uint8), np.arange(6, dtype=np.int32)
  split = input_pipeline.open_split(arrays, config, distributed.first_device())
  batches = split.batches(None, 4, (0,), (0,), 3)
  assert batches.chunk(0, 2) is batches.chunk(2, 5)
  assert isinstance(batches.chunk(0, 2), InMemoryChunk)
  assert isinstance(datasets.open_dataset(tiny_config()), datasets.Dataset)


@pytest.mark.parametrize(("workers", "each"), [(0, 0), (1, 1), (4, 2), (5, 2)])
def test_the_splits_share_the_workers_of_the_host(config, monkeypatch, workers, each):
  config.data.workers = workers
  split = input_pipeline.open_split(Photographs(), config, distributed.first_device())
  given = []
  make = loader.train_batches

  def count(source, indices, size, seed, transform, host, *others):
    given.append(host.workers)
    return make(source, indices, size, seed, transform, loader.Host(), *others)

  monkeypatch.setattr(loader, "train_batches", count)
  for splits in (np.arange(22).reshape(2, 11), None):
    batches = split.batches(splits, 4, (0,), (0,) * (1 if splits is None else 2), 3)
    batches.chunk(0, 1)
    batches.close()
  assert given == [each, each, workers]
