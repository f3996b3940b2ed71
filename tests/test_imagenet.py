"""ImageNet from the tars that TFDS's own builder takes, to the end."""

import contextlib
import pathlib
import runpy

import numpy as np
import pytest

from lfr_darts_jax import pipeline
from lfr_darts_jax.data import datasets
from lfr_darts_jax.data.streaming import loader
from lfr_darts_jax.data.streaming.transforms import Transform
from tests import imagenet

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """The config of the small variant, and the photographs `(wnid, encoded)` of the train split."""
  pytest.importorskip("tensorflow", reason="TensorFlow, which TFDS prepares data with, is not installed")
  data_dir = tmp_path_factory.mktemp("imagenet")
  photographs = imagenet.make_tars(data_dir)
  path = pathlib.Path(__file__).parents[1] / "configs" / "imagenet.py"
  config = runpy.run_path(str(path))["get_config"]("small")
  config.data.dir = str(data_dir)
  return config, photographs


def test_the_builders_files_are_streamed_as_they_are(prepared):
  config, photographs = prepared
  dataset = datasets.open_dataset(config)
  assert len(dataset.class_names) == 1000 and len(dataset.train) == len(photographs)
  # As the builder has it, with the wnid as class name; nothing was encoded anew.
  read = {(dataset.class_names[label], encoded) for encoded, label in dataset.train.read(range(len(photographs)))}
  assert read == set(photographs)
  # Not the test split, whose labels are secret.
  test = dataset.test()
  assert len(test) == imagenet.TESTED and min(label for _, label in test.read(range(len(test)))) >= 0
  training = lambda workers: loader.Stream(dataset.train, None, 16, 0, Transform.of(config), workers=workers).batches(2)
  with contextlib.closing(training(2)) as processes, contextlib.closing(training(0)) as threads:
    for _ in range(4):
      (images, labels), others = next(processes), next(threads)
      assert images.shape == (16, 64, 64, 3)
      np.testing.assert_array_equal(images, others[0])
      np.testing.assert_array_equal(labels, others[1])
  tested = list(loader.evaluation_batches(test, None, 16, Transform.of(config)))
  assert sum(real.sum() for _, _, real in tested) == imagenet.TESTED
  assert all(0.2 < mean < 0.7 for mean in loader.statistics(config, dataset.train)[0])


def test_search_training_and_test(prepared, tmp_path):
  config, photographs = prepared
  result = pipeline.run(config, tmp_path)
  # A batch of 16, two epochs.
  assert result["updates"] == 2 * (len(photographs) // 16)
  assert 0 <= result["top5_error"] <= result["test_error"] <= 100
  assert np.sum(result["confusion"]) == imagenet.TESTED and len(result["class_names"]) == 1000
  assert all(0.2 < value < 0.7 for value in result["mean"])
