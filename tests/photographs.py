"""Photographs for tests: JPEGs of several sizes and kinds, at random access, in a module that imports little."""

import io

import numpy as np
from PIL import Image

KINDS = ("RGB", "L", "CMYK")


def jpeg(seed, width, height, mode="RGB", **options):
  """A smooth random image as JPEG; some structure at every scale would not survive the compression."""
  rng = np.random.default_rng(seed)
  small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
  return encode(small.resize((width, height), Image.Resampling.BICUBIC).convert(mode), "JPEG", **options)


def encode(image, kind, **options):
  """An image as a file of a kind."""
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


class Album:
  """Photographs of growing width, every seventh grey and every eleventh CMYK; the label is the number.

  Attributes:
    broken: of which photograph half is missing, if of any.
  """

  def __init__(self, count, broken=None):
    self._files = [jpeg(i, 20 + i, 24, "L" if i % 7 == 6 else "CMYK" if i % 11 == 10 else "RGB") for i in range(count)]
    if broken is not None:
      self._files[broken] = self._files[broken][: len(self._files[broken]) // 2]

  def __len__(self):
    return len(self._files)

  def __getitem__(self, index):
    return self._files[index], index

  def name(self, index):
    return f"photograph {index}"


class Witness(Album):
  """Labels tell of the process that reads them: 1 where it has started a device of JAX, 0 where it has not."""

  def __getitem__(self, index):
    from jax._src import xla_bridge

    return self._files[index], int(xla_bridge.backends_are_initialized())
