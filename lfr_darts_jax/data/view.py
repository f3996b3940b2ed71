"""One image as the test of a run sees it: decoded and resized alike, whether it is a file or in memory."""

from collections.abc import Callable

import ml_collections
import numpy as np
from PIL import ExifTags, Image, ImageOps

from lfr_darts_jax.config import image_shape
from lfr_darts_jax.data import decoding
from lfr_darts_jax.errors import UsageError

View = Callable[[bytes | Image.Image], np.ndarray]


def of_test(config: ml_collections.ConfigDict) -> View:
  """What a test sees of an encoded image, or of one of Pillow's, which stays: uint8 `[height, width, channels]`.

  What it returns raises errors of any type where that is no whole image, see `decoding.decode`.

  Raises:
    UsageError: where the test was streamed, and the packages of the extra `stream` are missing.
  """
  data = config.data
  if data.loading != "stream":
    size = image_shape(config)[:2]
    return lambda image: (
      decoding.decode(image, data.channels, size)
      if isinstance(image, bytes)
      else decoding.pixels(_upright(image), data.channels, size)
    )
  try:
    from lfr_darts_jax.data.streaming import transforms
  except ImportError as error:
    raise UsageError(
      f"config.data.loading: 'stream' needs {error.name}, which is missing; pip install 'lfr-darts-jax[stream]'"
    ) from None
  transform, rng = transforms.test_transform(config), np.random.default_rng(0)  # Nothing is drawn from it.
  return lambda image: (
    transform(image, rng)
    if isinstance(image, bytes)
    else transform.of_pixels(decoding.pixels(_upright(image), data.channels))
  )


def _upright(image: Image.Image) -> Image.Image:
  """The image itself, or a turned copy where EXIF says that it lies on its side."""
  turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
  return ImageOps.exif_transpose(image) if turned else image
