import jax
import jax.numpy as jnp
import numpy as np

from lfr_darts_jax.data import augment
from lfr_darts_jax.data.in_memory import ArrayDataset, InMemoryChunk
from lfr_darts_jax.runtime import target
from lfr_darts_jax.runtime.distributed import WHOLE_BATCH


def test_statistics_and_normalisation():
  images = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3)).astype(np.uint8)
  mean, deviation = augment.statistics(images)
  np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(deviation, (images / 255).std((0, 1, 2)), rtol=1e-12)
  normal = augment.normalize(jnp.asarray(images), mean, deviation)
  np.testing.assert_allclose(normal.mean((0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(normal.std((0, 1, 2)), 1, rtol=1e-5)
  assert augment.statistics(np.zeros((2, 2, 2, 1), np.uint8)) == ((0.0,), (1.0,))


def test_crops_are_windows_of_the_padded_image(config):
  config.data.update(crop_padding=2, flip="none")
  images = jnp.arange(1, 17, dtype=jnp.uint8).reshape(1, 4, 4, 1).repeat(200, 0)
  padded = np.pad(np.asarray(images[0]), ((2, 2), (2, 2), (0, 0)))
  windows = {padded[i : i + 4, j : j + 4].tobytes() for i in range(5) for j in range(5)}
  seen = {np.asarray(image).tobytes() for image in augment.crop_and_flip(images, jax.random.key(0), config)}
  assert seen == windows


def test_crops_for_a_tpu_are_the_same(config):
  config.data.update(crop_padding=3, flip="none")
  images = jnp.array(np.random.default_rng(0).integers(0, 256, (40, 5, 7, 3)), jnp.uint8)
  crop = lambda: jax.jit(lambda key: augment.crop_and_flip(images, key, config)).lower(jax.random.key(1))
  expected = crop().compile()(jax.random.key(1))
  with target.compiling_for("tpu"):
    lowered = crop()
    np.testing.assert_array_equal(lowered.compile()(jax.random.key(1)), expected)
  # A gather of windows is a loop over the images there.
  assert "gather" in crop().as_text() and "gather" not in lowered.as_text()


def test_rectangles_keep_their_shape(config):
  config.data.update(crop_padding=2, flip="random")
  image = jnp.arange(1, 16, dtype=jnp.uint8).reshape(3, 5, 1)
  padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)))
  windows = [padded[i : i + 3, j : j + 5] for i in range(5) for j in range(5)]
  allowed = {window.tobytes() for one in windows for window in (one, one[:, ::-1])}
  seen = augment.crop_and_flip(image[None].repeat(600, 0), jax.random.key(0), config)
  assert seen.shape == (600, 3, 5, 1) and {np.asarray(image).tobytes() for image in seen} == allowed
  holes = np.asarray(augment.cutout(jnp.ones((300, 3, 9, 1)), jax.random.key(0), 4)[..., 0] == 0)
  # Rows and columns of every pixel are reached.
  assert holes.any(0).all() and holes.sum((1, 2)).max() == 12


def test_flips_happen_only_where_allowed(config):
  images = jnp.arange(4, dtype=jnp.uint8).reshape(1, 2, 2, 1).repeat(100, 0)
  config.data.update(crop_padding=0, flip="none")
  np.testing.assert_array_equal(augment.crop_and_flip(images, jax.random.key(0), config), images)
  config.data.flip = "random"
  flipped = augment.crop_and_flip(images, jax.random.key(0), config)
  share = np.mean([np.array_equal(f, images[0, :, ::-1]) for f in flipped])
  assert 0.3 < share < 0.7
  assert all(np.array_equal(f, images[0]) or np.array_equal(f, images[0, :, ::-1]) for f in flipped)


def test_cutout_blanks_one_square():
  images = augment.cutout(jnp.ones((300, 8, 8, 2)), jax.random.key(0), 4)
  blanks = np.asarray(images[..., 0] == 0).sum((1, 2))
  # Whole in the middle, cut off to a quarter in the corner.
  assert blanks.max() == 16 and blanks.min() == 4
  np.testing.assert_array_equal(images[..., 0], images[..., 1])


def test_alternating_flips_by_hand(config):
  config.data.update(crop_padding=0, flip="alternating")
  images = jnp.arange(4, dtype=jnp.uint8).reshape(1, 2, 2, 1).repeat(100, 0)
  dataset = ArrayDataset(images, jnp.zeros(100, jnp.int32))
  chunk = InMemoryChunk(dataset, jnp.arange(100)[None])

  def flipped(step):
    batches, _ = chunk.epoch(jax.random.split(jax.random.PRNGKey(0), 1), jnp.int32(step), 50)
    halves = [
      batches.batch(jax.random.PRNGKey(1), jnp.int32(s), 0, 50, config, WHOLE_BATCH)[0] for s in (step, step + 1)
    ]
    turned = np.asarray(jnp.concatenate(halves) != images)[:, 0, 0, 0]
    return set(np.asarray(batches.order[0])[turned].tolist())

  first, second, third = flipped(0), flipped(2), flipped(4)
  assert first | second == set(range(100)) and not first & second and first == third
  assert 30 < len(first) < 70
