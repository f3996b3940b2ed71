import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from lfr_darts_jax.data.input_pipeline import InMemorySplit
from lfr_darts_jax.models.network import Outputs
from lfr_darts_jax.runtime import distributed
from lfr_darts_jax.training.evaluate import Evaluation, evaluate

PLAIN = (0.0,) * 7, (1.0,) * 7


def split(images, labels):
  return InMemorySplit((np.asarray(images), np.asarray(labels, np.int32)), distributed.first_device())


class Fixed:
  """A stand-in for a network: an image's pixels are its logits."""

  num_classes = 7

  def apply(self, variables, images, mixtures):
    return Outputs(images[:, 0, 0, :] * variables, None)


@pytest.mark.parametrize("batch_size", [1, 4, 5, 16])
def test_every_image_counts_once(batch_size):
  rng = np.random.default_rng(0)
  images, labels = rng.integers(0, 256, (13, 1, 1, 7)).astype(np.uint8), rng.integers(0, 7, 13)
  got = evaluate(Fixed(), jnp.float32(1), split(images, labels), batch_size, PLAIN)
  logits = images[:, 0, 0].astype(int)
  expected = np.zeros((7, 7), int)
  np.add.at(expected, (labels, logits.argmax(1)), 1)
  np.testing.assert_array_equal(got.confusion, expected)
  order = np.argsort(-logits, axis=1, kind="stable")[:, :5]
  assert got.top5 == sum(label in row for label, row in zip(labels, order, strict=True))
  assert got.total == 13
  np.testing.assert_array_equal(got.predicted, logits.argmax(1))
  odds = np.exp(logits / 255)
  np.testing.assert_allclose(got.confidence, (odds / odds.sum(1, keepdims=True)).max(1), rtol=1e-5)


def test_indices_choose_the_images():
  images = np.eye(3, 7, dtype=np.uint8).reshape(3, 1, 1, 7)
  got = evaluate(Fixed(), jnp.float32(1), split(images, [0, 0, 2]), 4, PLAIN, np.array([1, 2]))
  assert got.confusion[0, 1] == got.confusion[2, 2] == 1 and got.total == 2
  assert got.error == 50


def test_images_that_can_not_be_read_are_not_counted():
  images = np.eye(4, 7, dtype=np.uint8).reshape(4, 1, 1, 7)
  got = evaluate(Fixed(), jnp.float32(1), split(images, [0, -1, 2, 0]), 3, PLAIN)
  assert got.total == 3 and got.error == pytest.approx(100 / 3)
  assert got.labels.tolist() == [0, -1, 2, 0] and got.predicted.tolist() == [0, -1, 2, 3]
  assert got.class_errors[0] == 50 and got.confusion.sum() == 3 and got.top5 == 3


def test_ties_in_the_top_5_are_decided_as_argmax_decides_them():
  tied = split(np.zeros((2, 1, 1, 7), np.uint8), [4, 5])
  assert evaluate(Fixed(), jnp.float32(1), tied, 2, PLAIN).top5 == 1


def test_errors_by_hand():
  result = Evaluation(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), 7, *(np.array([]),) * 3)
  assert result.error == 12.5 and result.top5_error == 12.5
  assert result.class_errors == [25.0, 0.0, None] and result.balanced_accuracy == 87.5


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_balanced_accuracy_is_that_of_scikit_learn():
  rng = np.random.default_rng(0)
  labels, predicted = rng.integers(0, 5, 200), rng.integers(0, 6, 200)  # Of class 5 there are no images.
  confusion = np.zeros((6, 6), int)
  np.add.at(confusion, (labels, predicted), 1)
  result = Evaluation(confusion, 200, predicted, np.ones(200), labels)
  np.testing.assert_allclose(result.balanced_accuracy, 100 * balanced_accuracy_score(labels, predicted))
