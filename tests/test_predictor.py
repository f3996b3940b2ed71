import numpy as np
import pytest

import lfr_darts_jax
from lfr_darts_jax.data import datasets, input_pipeline
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import distributed
from tests import damage
from tests.conftest import tiny_config
from tests.test_train import GENOTYPE


def test_a_trained_network_names_classes(tmp_path):
  config = tiny_config()
  config.checkpoint.interval, config.train.steps_per_chunk = 0.0, 30
  result = lfr_darts_jax.train(config, GENOTYPE, tmp_path)
  images, labels = datasets.open_dataset(config).test()
  predictor = lfr_darts_jax.load(tmp_path)
  names, probabilities = predictor.predict(images)
  assert predictor.genotype == GENOTYPE and predictor.class_names == tuple("0123456789")
  np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
  wrong = [int(name) != label for name, label in zip(names, labels, strict=True)]
  np.testing.assert_allclose(100 * np.mean(wrong), result["test_error"])
  devices = distributed.first_device()
  assert predictor.test(input_pipeline.InMemorySplit((images, labels), devices), devices).error == result["test_error"]
  # By batches, the last one padded; of none nothing is said.
  np.testing.assert_array_equal(predictor.predict(images[:33])[1], probabilities[:33])
  assert predictor.predict(images[:0])[1].shape == (0, 10)
  with pytest.raises(UsageError, match=r"allowed are uint8\[n, 8, 8, 1\]"):
    predictor.predict(images[..., 0])
  # 1437 images make 44 batches of 32; the checkpoint before them is of another network than the result.
  assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["30", "44"]
  damage.flip(damage.largest(tmp_path / "checkpoints" / "44"))
  before = damage.snapshot(tmp_path)
  with pytest.raises(UsageError, match="checkpoints/44 is not whole: state/.* is not as it was written; allowed is"):
    lfr_darts_jax.load(tmp_path)
  assert damage.snapshot(tmp_path) == before


def test_load_of_an_unfinished_directory(tmp_path):
  with pytest.raises(UsageError, match="has no config.json"):
    lfr_darts_jax.load(tmp_path)
