import io
import re
import zipfile

import numpy as np
import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.report import misclassified
from lfr_darts_jax.training.evaluate import Evaluation


def evaluation(predicted, labels):
  return Evaluation(np.zeros((2, 2), int), 0, predicted, np.linspace(0, 1, len(predicted)), labels)


def test_wrong_images_come_back_in_order(tmp_path, config):
  images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
  tested = evaluation(np.array([0, 1, 1, 0, 0, 0]), np.array([0, 0, 1, 1, 0, 1]))
  misclassified.save(tmp_path, lambda chosen: images[chosen], tested, 0)
  kept = misclassified.load(tmp_path, config)
  assert kept.images.ravel().tolist() == [1, 3, 5]
  assert kept.labels.tolist() == [0, 1, 1] and kept.predicted.tolist() == [1, 0, 0]
  np.testing.assert_allclose(kept.confidence, [0.2, 0.6, 1.0])


def test_a_sample_of_many_goes_by_the_seed(tmp_path, config):
  images, labels = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1), np.zeros(200, int)
  chosen = []
  for seed in (0, 0, 1):
    misclassified.save(tmp_path, lambda chosen: images[chosen], evaluation(np.ones(200, int), labels), seed)
    chosen.append(misclassified.load(tmp_path, config).images.ravel().tolist())
  assert len(chosen[0]) == misclassified.MAX_IMAGES and chosen[0] == sorted(chosen[0])
  assert chosen[0] == chosen[1] != chosen[2]


def test_none_before_a_test(tmp_path, config):
  assert misclassified.load(tmp_path, config) is None


GOOD = {
  "images": np.zeros((2, 8, 8, 1), np.uint8),
  "labels": np.array([0, 9]),
  "predicted": np.array([1, 2]),
  "confidence": np.array([0.5, 1.0]),
}


def packed(**changes):
  file = io.BytesIO()
  np.savez(file, **{name: array for name, array in (GOOD | changes).items() if array is not None})
  return file.getvalue()


def bomb():
  """A small archive of a large array of zeros."""
  file = io.BytesIO()
  np.savez_compressed(file, **GOOD | {"images": np.zeros((24, 1000, 1000, 1), np.uint8)})
  return file.getvalue()


def too_long():
  """An array whose header promises more than there is."""
  file = io.BytesIO(packed())
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 60, 1, 1, 1)})
  with zipfile.ZipFile(file) as archive:
    members = {name: archive.read(name) for name in archive.namelist()}
  members["images.npy"] = header.getvalue()
  with zipfile.ZipFile(file, "w") as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return file.getvalue()


def test_what_is_written_by_hand_comes_back(tmp_path, config):
  (tmp_path / misclassified.NAME).write_bytes(packed())
  assert misclassified.load(tmp_path, config).labels.tolist() == [0, 9]


@pytest.mark.parametrize(
  "content,message",
  [
    (b"", "not a zip file"),
    (packed()[:-100], "not a zip file"),
    (packed().replace(b"NUMPY", b"NAMPY"), "magic|CRC"),
    (packed(labels=None), "labels"),
    (packed(labels=np.array([object(), None])), "allow_pickle"),
    (packed(labels=np.array([0, 10])), "labels outside of 10 classes"),
    (packed(labels=np.array([0, -1])), "labels outside of 10 classes"),
    (packed(predicted=np.array([0.0, 1.0])), "predicted of float64"),
    (packed(predicted=np.array([0])), r"predicted of int64[1]"),
    (packed(confidence=np.array([0.5, np.nan])), "confidence"),
    (packed(images=np.zeros((2, 8, 8, 3), np.uint8)), "images of uint8[2, 8, 8, 3]"),
    (packed(images=np.zeros((2, 8, 8, 1))), "images of float64"),
    (packed(images=np.uint8(3)), "unsized"),
    (bomb(), "more than 101536 bytes unpacked"),
    (too_long(), ""),
  ],
  ids=range(15),
)
def test_what_is_refused(tmp_path, config, content, message):
  path = tmp_path / misclassified.NAME
  path.write_bytes(content)
  message = "|".join(map(re.escape, message.split("|")))
  with pytest.raises(UsageError, match=f"mistakes.npz: .*({message}).*; allowed is what a test has written there"):
    misclassified.load(tmp_path, config)
