import numpy as np

from lfr_darts_jax.evaluate import Evaluation
from lfr_darts_jax.report import mistakes


def evaluation(predicted):
  return Evaluation(np.zeros((2, 2), int), 0, predicted, np.linspace(0, 1, len(predicted)))


def test_wrong_images_come_back_in_order(tmp_path):
  images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
  mistakes.save(tmp_path, (images, np.array([0, 0, 1, 1, 0, 1])), evaluation(np.array([0, 1, 1, 0, 0, 0])), 0)
  kept = mistakes.load(tmp_path)
  assert kept.images.ravel().tolist() == [1, 3, 5]
  assert kept.labels.tolist() == [0, 1, 1] and kept.predicted.tolist() == [1, 0, 0]
  np.testing.assert_allclose(kept.confidence, [0.2, 0.6, 1.0])


def test_a_sample_of_many_goes_by_the_seed(tmp_path):
  images, labels = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1), np.zeros(200, int)
  chosen = []
  for seed in (0, 0, 1):
    mistakes.save(tmp_path, (images, labels), evaluation(np.ones(200, int)), seed)
    chosen.append(mistakes.load(tmp_path).images.ravel().tolist())
  assert len(chosen[0]) == mistakes.MAX_IMAGES and chosen[0] == sorted(chosen[0])
  assert chosen[0] == chosen[1] != chosen[2]


def test_none_before_a_test(tmp_path):
  assert mistakes.load(tmp_path) is None
