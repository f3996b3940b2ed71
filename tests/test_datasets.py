import io
import pathlib
import pickle
import re

import numpy as np
from PIL import Image
import pytest

from lfr_darts_jax.data import datasets, input_pipeline, tfds
from lfr_darts_jax.data.streaming import loader
from lfr_darts_jax.data.streaming.transforms import Transform
from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.runtime import distributed

SHARED = pathlib.Path(__file__).parents[2] / "shared" / "tensorflow_datasets"


def test_digits_hold_out_a_fixed_stratified_fifth(config):
  dataset = datasets.open_dataset(config)
  test_images, test_labels = dataset.test()
  images, labels = dataset.train
  assert images.shape == (1437, 8, 8, 1) and images.dtype == np.uint8 and images.max() == 255
  assert len(test_labels) == 360 and np.bincount(test_labels).min() >= 34
  config.seed = 5
  np.testing.assert_array_equal(datasets.open_dataset(config).test()[0], test_images)
  assert not {i.tobytes() + bytes([j]) for i, j in zip(test_images, test_labels, strict=True)} & {
    i.tobytes() + bytes([j]) for i, j in zip(images, labels, strict=True)
  }


def test_a_part_of_the_train_split_in_place_of_the_test_split(config):
  whole_train, whole_test = datasets.open_dataset(config).train, datasets.open_dataset(config).test()
  config.data.validation_fraction = 0.25
  dataset = datasets.open_dataset(config)
  assert dataset.train_images == 1078 and len(dataset.test()[1]) == 359
  seen = lambda arrays: [i.tobytes() + bytes([j]) for i, j in zip(*arrays, strict=True)]
  assert sorted(seen(dataset.train) + seen(dataset.test())) == sorted(seen(whole_train))
  assert not set(seen(dataset.test())) & set(seen(whole_test))
  config.seed = 5
  assert seen(datasets.open_dataset(config).test()) == seen(dataset.test())
  config.data.validation_fraction = 1e-5
  with pytest.raises(UsageError, match="config.data.validation_fraction: 1e-05; of 1437 images that is none"):
    datasets.open_dataset(config)


def test_halves_are_disjoint_and_drawn_by_seed():
  halves = datasets.search_splits(100, 0.5, 5, 0)
  assert halves.shape == (2, 25) and len(set(halves.ravel().tolist())) == 50
  assert not np.array_equal(halves, datasets.search_splits(100, 0.5, 5, 1))
  with pytest.raises(UsageError, match="config.search.batch_size: 26; allowed are at most 25"):
    datasets.search_splits(100, 0.5, 26, 0)


@pytest.mark.parametrize("field,value", [("image_size", 9), ("channels", 3), ("num_classes", 11)])
def test_the_config_is_checked_against_the_data(config, field, value):
  config.data[field] = value
  with pytest.raises(UsageError, match=f"config.data.{field}: {value}; digits has"):
    datasets.open_dataset(config)


@pytest.fixture
def folder(tmp_path, config):
  config.data.update(name="folder", dir=str(tmp_path), image_size=8, channels=3, num_classes=2)
  rng = np.random.default_rng(0)
  for name in ("cats & dogs", "birds"):
    (tmp_path / "train" / name).mkdir(parents=True)
    for i in range(10):
      Image.fromarray(rng.integers(0, 256, (12, 9, 3)).astype(np.uint8)).save(tmp_path / "train" / name / f"{i}.png")
  return tmp_path


def test_the_home_directory_is_expanded(folder, config, monkeypatch):
  monkeypatch.setenv("HOME", str(folder.parent))
  config.data.dir = f"~/{folder.name}"
  assert datasets.open_dataset(config).class_names == ("birds", "cats & dogs")
  asked = []
  monkeypatch.setattr(tfds, "_builder", lambda name, place: asked.append(place))
  config.data.update(name="cifar10", dir="~/tfds")
  with pytest.raises(AttributeError):  # There is nothing of that name.
    datasets.open_dataset(config)
  assert asked == [str(folder.parent / "tfds")]


@pytest.mark.parametrize("size", [(8, 12), [8, 12]])
def test_images_become_rectangles(folder, config, size):
  config.data.image_size = size
  dataset = datasets.open_dataset(config)
  assert dataset.train[0].shape == (16, 8, 12, 3) and dataset.identity.shape == (8, 12, 3)
  config.data.update(loading="stream", workers=0)
  split = input_pipeline.open_split(datasets.open_dataset(config).test(), config, distributed.first_device())
  # Two ways to decode, and two libraries to resize.
  difference = split.images(np.arange(4)).astype(int) - dataset.test()[0]
  assert split.image_shape == (8, 12, 3) and np.abs(difference).mean() < 30


def test_folder_is_resized_and_holds_out_a_fifth_whatever_the_seed(folder, config):
  dataset = datasets.open_dataset(config)
  assert dataset.class_names == ("birds", "cats & dogs")
  assert dataset.train[0].shape == (16, 8, 8, 3)
  assert np.bincount(dataset.test()[1]).tolist() == [2, 2]
  train, test = ({i.tobytes() for i in part} for part in (dataset.train[0], dataset.test()[0]))
  assert not train & test
  config.seed = 1
  assert {i.tobytes() for i in datasets.open_dataset(config).test()[0]} == test
  config.data.split_seed = 1
  assert {i.tobytes() for i in datasets.open_dataset(config).test()[0]} != test


def test_folder_with_its_own_test_split_and_grey_images(folder, config):
  (folder / "test" / "birds").mkdir(parents=True)
  Image.new("RGB", (5, 5), (10, 10, 10)).save(folder / "test" / "birds" / "a.PNG")
  config.data.channels = 1
  dataset = datasets.open_dataset(config)
  assert dataset.train[0].shape == (20, 8, 8, 1)
  images, labels = dataset.test()
  assert labels.tolist() == [0] and np.all(images == 10)


def test_bad_folders(folder, config):
  for path in (folder / "train" / "birds").iterdir():
    path.unlink()
  with pytest.raises(UsageError, match="1 of 2 classes have no image: 'birds'"):
    datasets.open_dataset(config)
  (folder / "train" / "birds").rmdir()
  with pytest.raises(UsageError, match="has 1 classes .'cats & dogs'.; at least two"):
    datasets.open_dataset(config)
  config.data.dir = str(folder / "nowhere")
  with pytest.raises(UsageError, match="nowhere' is no folder; allowed is one that holds train/<class>"):
    datasets.open_dataset(config)


@pytest.mark.parametrize("name", ["no_such_data", "../../data", "mnist:9.9.9", "mnist/option=1", "x" * 4000])
def test_unknown_tfds_name(config, name):
  config.data.name = name
  with pytest.raises(UsageError, match=f"config.data.name: '{re.escape(name[:56])}.*; allowed are"):
    datasets.open_dataset(config)


def test_unprepared_tfds_set_names_the_extra(config, tmp_path):
  pytest.importorskip("tensorflow_datasets")
  try:
    import tensorflow  # noqa: F401
  except ImportError:
    config.data.update(name="mnist", dir=str(tmp_path))
    with pytest.raises(UsageError, match=r"lfr-darts-jax\[prepare\]"):
      datasets.open_dataset(config)
  else:
    pytest.skip("TensorFlow is installed: the data set would be prepared")


@pytest.mark.skipif(not SHARED.exists(), reason="the prepared data sets lie beside the repository only")
def test_prepared_fashion_mnist(config):
  config.data.update(name="fashion_mnist", dir=str(SHARED), image_size=28)
  dataset = datasets.open_dataset(config)
  assert dataset.train[0].shape == (60_000, 28, 28, 1)
  assert abs(dataset.train[0].mean() - 72.94) < 0.01
  assert len(dataset.class_names) == 10


@pytest.fixture
def streamed(config):
  config.data.update(loading="stream", channels=3)
  return config


def images_of(source):
  """The middles of all images and their labels."""
  batches = list(loader.eval_batches(source, None, 8, Transform((16, 16), 3)))
  images, labels, real = map(np.concatenate, zip(*batches, strict=True))
  return images[real], labels[real]


def test_a_streamed_folder_is_that_of_arrays(folder, streamed):
  dataset = datasets.open_dataset(streamed)
  assert dataset.class_names == ("birds", "cats & dogs")
  assert (len(dataset.train), len(dataset.test())) == (16, 4)
  streamed.data.loading = "device"
  images, labels = datasets.open_dataset(streamed).train
  read = [dataset.train[i] for i in range(16)]
  np.testing.assert_array_equal([label for _, label in read], labels)
  for image, (encoded, _) in zip(images, read, strict=True):
    whole = Image.open(io.BytesIO(encoded))
    np.testing.assert_array_equal(whole.resize((8, 8), Image.Resampling.BILINEAR), image)
  assert dataset.train.name(3).startswith("train/birds/")


def test_a_streamed_folder_with_its_own_test_split(folder, streamed):
  (folder / "test" / "birds").mkdir(parents=True)
  Image.new("RGB", (5, 5), (10, 10, 10)).save(folder / "test" / "birds" / "a.PNG")
  dataset = datasets.open_dataset(streamed)
  images, labels = images_of(dataset.test())
  assert len(dataset.train) == 20 and labels.tolist() == [0] and np.all(images == 10)


def test_streamed_folders_are_checked(folder, streamed):
  streamed.data.num_classes = 3
  with pytest.raises(UsageError, match="config.data.num_classes: 3; folder has 2"):
    datasets.open_dataset(streamed)
  for path in (folder / "train" / "birds").iterdir():
    path.unlink()
  with pytest.raises(UsageError, match="1 of 2 classes have no image: 'birds'"):
    datasets.open_dataset(streamed)


def test_a_file_that_is_gone_is_told(folder, streamed):
  dataset = datasets.open_dataset(streamed)
  for path in (folder / "train" / "birds").iterdir():
    path.unlink()
  with pytest.raises(RunError, match="the data can't be read: .*/train/birds/.* is no file"):
    images_of(dataset.train)


@pytest.mark.skipif(not SHARED.exists(), reason="the prepared data sets lie beside the repository only")
def test_streamed_cifar10(streamed):
  streamed.data.update(name="cifar10", dir=str(SHARED))
  dataset = datasets.open_dataset(streamed)
  assert (len(dataset.train), len(dataset.test()), len(dataset.class_names)) == (50_000, 10_000, 10)
  assert datasets.search_splits(len(dataset.train), 0.5, 5, 0).shape == (2, 12_500)
  unpickled = pickle.loads(pickle.dumps(dataset.train))
  encoded = [unpickled[i] for i in (7, 49_999)]
  assert [label for _, label in encoded] == [dataset.train[i][1] for i in (7, 49_999)]
  assert Image.open(io.BytesIO(encoded[0][0])).size == (32, 32)
  assert dataset.test().name(5) == "test[5]"
  streamed.data.channels = 1
  with pytest.raises(UsageError, match="config.data.channels: 1; cifar10 has 3"):
    datasets.open_dataset(streamed)
