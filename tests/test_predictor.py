import numpy as np
import pytest

import lfr_darts_jax
from lfr_darts_jax.data import sources
from lfr_darts_jax.errors import UsageError
from tests.conftest import tiny_config
from tests.test_trainer import GENOTYPE


def test_a_trained_network_names_classes(config, tmp_path):
  result = lfr_darts_jax.train(tiny_config(), GENOTYPE, tmp_path)
  images, labels = sources.load(config).test()
  predictor = lfr_darts_jax.load(tmp_path)
  names, probabilities = predictor.predict(images)
  assert predictor.genotype == GENOTYPE and predictor.class_names == tuple("0123456789")
  np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
  wrong = [int(name) != label for name, label in zip(names, labels, strict=True)]
  np.testing.assert_allclose(100 * np.mean(wrong), result["test_error"])
  assert predictor.count((images, labels)).error == result["test_error"]
  with pytest.raises(UsageError, match=r"allowed are uint8\[n, 8, 8, 1\]"):
    predictor.predict(images[0])


def test_load_of_an_unfinished_directory(tmp_path):
  with pytest.raises(UsageError, match="has no config.json"):
    lfr_darts_jax.load(tmp_path)
