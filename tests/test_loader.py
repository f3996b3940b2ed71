"""Batches depend on the seed and their number alone: not on workers, hosts, or where a run went on."""

import numpy as np
import psutil
import pytest

from benchmarks import prepared
from lfr_darts_jax.data import augment, datasets
from lfr_darts_jax.data.input_pipeline import StreamedSplit
from lfr_darts_jax.data.streaming import loader
from lfr_darts_jax.data.streaming.loader import Host
from lfr_darts_jax.data.streaming.transforms import Transform
from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.runtime import distributed
from tests.photographs import Album, Witness

ALBUM, BROKEN = Album(26), Album(26, broken=5)
SLOW = pytest.mark.slow
TRAIN, TEST = Transform((16, 16), 3, "random", True, 0.4, 0.2), Transform((16, 16), 3, "centre")


def batches(first, count, source=ALBUM, indices=None, batch_size=8, seed=0, transform=TRAIN, host=(0, 1, 0)):
  """Some batches of a stream as a list of images and labels."""
  made = loader.train_batches(source, indices, batch_size, seed, transform, Host(*host), first)
  try:
    return [next(made)[:2] for _ in range(count)]
  finally:
    made.close()


def assert_same(ours, theirs):
  for ours_, theirs_ in zip(ours, theirs, strict=True):
    for a, b in zip(ours_, theirs_, strict=True):
      assert a.dtype == b.dtype
      np.testing.assert_array_equal(a, b)


def merged(parts):
  """One batch of the shares of all hosts, `[p]`: host p has every P-th image from the p-th on."""
  return tuple(np.stack(values, 1).reshape(-1, *values[0].shape[1:]) for values in zip(*parts, strict=True))


@pytest.fixture(scope="module")
def ten():
  """Ten batches, more than three epochs."""
  return batches(0, 10)


def test_batches_have_the_documented_shapes(ten):
  for images, labels in ten:
    assert images.shape == (8, 16, 16, 3) and images.dtype == np.uint8
    assert labels.shape == (8,) and labels.dtype == np.int32
  grey = batches(0, 1, transform=Transform((16, 16), 1, "random", True, 0.4, 0.2))
  assert grey[0][0].shape == (8, 16, 16, 1)


def test_an_epoch_holds_no_image_twice_and_leaves_out_what_fills_no_batch(ten):
  epochs = [np.concatenate([labels for _, labels in ten[i : i + 3]]) for i in (0, 3, 6)]
  for epoch in epochs:
    assert len(set(epoch.tolist())) == 24 and set(epoch.tolist()) <= set(range(26))
  assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[1], epochs[2])
  assert set(np.concatenate(epochs).tolist()) == set(range(26))


def test_an_image_is_seen_in_another_way_in_every_epoch(ten):
  images, labels = map(np.concatenate, zip(*ten[:9], strict=True))
  for label in range(26):
    views = images[labels == label]
    assert len({view.tobytes() for view in views}) == len(views)


@pytest.mark.parametrize(
  "first,workers", [(0, 0), (1, 0), (5, 0), (4, 3), *(pytest.param(f, 2, marks=SLOW) for f in (0, 5))]
)
def test_a_stream_goes_on_anywhere_with_any_number_of_workers(ten, first, workers):
  assert_same(batches(first, 3, host=(0, 1, workers)), ten[first : first + 3])


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_hosts_share_every_batch(ten, hosts):
  shares = [batches(2, 4, host=(p, hosts, 0)) for p in range(hosts)]
  assert_same([merged(parts) for parts in zip(*shares, strict=True)], ten[2:6])


@SLOW
def test_a_host_with_workers_has_the_same_share(ten):
  share = batches(4, 2, host=(1, 2, 2))
  assert_same(share, [tuple(values[1::2] for values in batch) for batch in ten[4:6]])


def test_a_part_of_the_images_is_a_data_set_of_its_own():
  indices = np.array([25, 3, 11, 8, 20], np.int32)
  labels = np.concatenate([labels for _, labels in batches(0, 4, indices=indices, batch_size=5)])
  assert np.bincount(labels, minlength=26)[indices].tolist() == [4] * 5


def test_seeds_give_orders_and_views_of_their_own():
  one, other, pair = (batches(0, 1, seed=seed)[0] for seed in (0, 1, (0, 1)))
  assert not np.array_equal(one[1], other[1]) and not np.array_equal(one[1], pair[1])
  # An epoch of a seed is none of the next seed's.
  later = batches(3, 1, seed=0)[0]
  assert not np.array_equal(later[1], other[1])


@pytest.mark.parametrize("hosts,workers", [(1, 0), (2, 0), (4, 0), pytest.param(1, 2, marks=SLOW)])
def test_an_evaluation_holds_every_image_once_in_order(hosts, workers):
  shares = [list(loader.eval_batches(ALBUM, None, 8, TEST, Host(p, hosts, workers))) for p in range(hosts)]
  images, labels, real = map(np.concatenate, zip(*map(merged, zip(*shares, strict=True)), strict=True))
  assert len(labels) == 32 and real.tolist() == [True] * 26 + [False] * 6
  np.testing.assert_array_equal(labels[real], np.arange(26))
  assert labels.dtype == np.int32 and not images[~real].any()
  for i in (0, 6, 10, 25):
    np.testing.assert_array_equal(images[i], TEST(ALBUM[i][0], np.random.default_rng(0)))


def test_an_evaluation_of_fewer_images_than_a_batch():
  ((images, labels, real),) = loader.eval_batches(ALBUM, np.array([4, 2]), 8, TEST)
  assert len(images) == 8 and labels[:2].tolist() == [4, 2] and real.sum() == 2
  # Hosts that have no image left get batches all the same.
  shares = [list(loader.eval_batches(ALBUM, np.array([4, 2]), 8, TEST, Host(p, 4))) for p in range(4)]
  assert [len(share) for share in shares] == [1] * 4 and [share[0][2].sum() for share in shares] == [1, 1, 0, 0]


def statistics(config):
  return StreamedSplit(ALBUM, config, distributed.first_device()).statistics()


def test_statistics_are_those_of_the_images_that_the_test_would_see(config):
  config.data.update(image_size=16, channels=3, test_view="centre")
  images = np.concatenate([i[r] for i, _, r in loader.eval_batches(ALBUM, None, 8, TEST)])
  assert statistics(config) == augment.statistics(images)
  config.data.statistics_images = 5
  few = statistics(config)
  assert few != augment.statistics(images) and few == statistics(config)
  config.seed = 1
  assert few != statistics(config)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=SLOW)])
def test_an_image_that_cannot_be_read_is_named(workers):
  with pytest.raises(
    RunError, match="'photograph 5' can't be read as an image: .*data.skip_bad_files=True continues without it$"
  ):
    batches(0, 3, source=BROKEN, host=(0, 1, workers))


def test_in_its_place_comes_the_next_one(ten):
  made = loader.train_batches(BROKEN, None, 8, 0, TRAIN, skip_bad=True)
  got = [next(made) for _ in range(10)]
  made.close()
  replaced = [(batch, at) for batch, (_, labels) in enumerate(ten) for at in np.flatnonzero(labels == 5)]
  assert replaced
  for batch, ((images, labels, real), (images_before, labels_before)) in enumerate(zip(got, ten, strict=True)):
    for at in range(8):
      if (batch, at) in replaced:
        assert labels[at] == 6 and not real[at]
      else:
        assert labels[at] == labels_before[at] and real[at]
        np.testing.assert_array_equal(images[at], images_before[at])


@pytest.mark.parametrize("first,host", [(2, (0, 1, 0)), pytest.param(2, (0, 1, 2), marks=SLOW), (1, (1, 2, 0))])
def test_that_too_depends_on_the_seed_and_the_number_alone(first, host):
  indices = np.array([3, 9, 5, 12, 20, 7, 11, 0], np.int32)
  begin = lambda first, host: loader.train_batches(BROKEN, indices, 4, 3, TRAIN, Host(*host), first, skip_bad=True)
  expected, made = begin(0, (0, 1, 0)), begin(first, host)
  batches_ = [next(expected) for _ in range(first + 4)]
  index, count, _ = host
  for before in batches_[first:]:
    for a, b in zip(next(made), before, strict=True):
      np.testing.assert_array_equal(a, b[index::count])
  # After 5 comes 12 in `indices`.
  assert {int(label) for _, labels, real in batches_ for label in labels[~real]} == {12}
  expected.close()
  made.close()


def test_in_an_evaluation_nothing_comes_in_its_place():
  batches_ = list(loader.eval_batches(BROKEN, None, 8, TEST, skip_bad=True))
  images, labels, real = map(np.concatenate, zip(*batches_, strict=True))
  assert labels[:26].tolist() == [*range(5), loader.NO_LABEL, *range(6, 26)] and np.flatnonzero(~real)[0] == 5
  assert not images[5].any() and real.sum() == 25


def test_a_stream_of_bad_images_alone_ends():
  class Bad(Album):
    def __getitem__(self, index):
      return b"no image", index

  with pytest.raises(RunError, match="no image of the stream can be read"):
    next(loader.train_batches(Bad(8), None, 4, 0, TRAIN, skip_bad=True))


def test_statistics_are_those_of_the_images_that_can_be_read(config):
  config.data.update(image_size=16, channels=3, test_view="centre", skip_bad_files=True)
  whole = np.concatenate([i[r] for i, _, r in loader.eval_batches(ALBUM, np.delete(np.arange(26), 5), 8, TEST)])
  split = StreamedSplit(BROKEN, config, distributed.first_device())
  assert split.statistics() == augment.statistics(whole)


class Unreadable(Album):
  def __getitem__(self, index):
    raise OSError("the disk is gone")


def test_data_that_cannot_be_read_are_told():
  with pytest.raises(RunError, match="the data can't be read: the disk is gone"):
    batches(0, 1, source=Unreadable(26))


@pytest.mark.parametrize("size", [0, 27])
def test_batches_must_be_filled(size):
  with pytest.raises(UsageError, match=f"batch size: {size}; allowed are 1 to 26"):
    loader.train_batches(ALBUM, None, size, 0, TRAIN)


def test_hosts_must_share_equally():
  with pytest.raises(UsageError, match="batch size: 8; allowed are multiples of 3"):
    loader.train_batches(ALBUM, None, 8, 0, TRAIN, Host(0, 3))
  with pytest.raises(UsageError, match="batch size: 8; allowed are multiples of 3"):
    loader.eval_batches(ALBUM, None, 8, TEST, Host(0, 3))


def test_workers_start_no_device():
  assert {label for _, labels in batches(0, 2, source=Witness(8), host=(0, 1, 2)) for label in labels.tolist()} == {0}


def workers_of_this_process():
  return [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


def test_workers_end_with_their_iterator():
  made = loader.train_batches(ALBUM, None, 8, 0, TRAIN, Host(0, 1, 2))
  kept = next(made)[0]
  copy = kept.copy()
  while len(workers := workers_of_this_process()) < 2:
    next(made)
  made.close()
  made.close()
  assert list(made) == [] and not any(worker.is_running() for worker in workers)
  # What was handed out is the caller's.
  np.testing.assert_array_equal(kept, copy)


def test_a_worker_that_is_killed_stops_the_run():
  made = loader.train_batches(ALBUM, None, 8, 0, TRAIN, Host(0, 1, 2))
  next(made)
  workers_of_this_process()[0].kill()
  with pytest.raises(RunError, match="the input stopped: .*exit code -9"):
    for _ in range(100):
      next(made)
  made.close()
  assert not workers_of_this_process()


def test_a_prepared_data_set_is_streamed_as_it_is(tmp_path, config):
  photographs_ = [ALBUM[i] for i in range(len(ALBUM))]
  prepared.write(tmp_path, "album", {"train": photographs_[:20], "test": photographs_[20:]}, 26)
  config.data.update(name="album", dir=str(tmp_path), loading="stream", image_size=16, channels=3, num_classes=26)
  dataset = datasets.open_dataset(config)
  assert [dataset.train[i] for i in range(20)] == photographs_[:20] and dataset.test()[5] == photographs_[25]
  ours = batches(1, 2, source=dataset.train, host=(0, 1, 2))
  assert_same(ours, batches(1, 2, indices=np.arange(20)))


def test_a_test_split_without_labels_gives_way_to_the_validation_split(tmp_path, config):
  photographs_ = [ALBUM[i] for i in range(3)]
  secret = [(encoded, -1) for encoded, _ in photographs_]
  config.data.update(dir=str(tmp_path), loading="stream", channels=3, num_classes=26)
  for name, splits in (("secret", {"test": secret, "validation": photographs_}), ("open", {"test": photographs_})):
    prepared.write(tmp_path, name, {"train": photographs_} | splits, 26)
    config.data.name = name
    assert [datasets.open_dataset(config).test()[i][1] for i in (0, 2)] == [0, 2]


def test_one_worker_per_core_is_the_default(config):
  assert loader.worker_count(config.data.workers) in range(1, loader.MOST_WORKERS + 1)
  config.data.workers = 0
  assert loader.worker_count(config.data.workers) == 0
