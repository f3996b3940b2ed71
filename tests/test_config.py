import pytest

from lfr_darts_jax import config as schema
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.fields import FIELDS


def test_the_defaults_are_valid_and_every_field_is_explained():
  schema.validate(schema.get_config())
  assert set(schema.flatten(schema.get_config())) == set(FIELDS)
  assert all(field.note and field.allowed for field in FIELDS.values())


@pytest.mark.parametrize(
  "name,value",
  [
    ("seed", -1),
    ("data.channels", 2),
    ("data.image_size", 3),
    ("data.image_size", (3, 64)),
    ("data.image_size", (64, 64, 3)),
    ("data.image_size", (64.0, 64)),
    ("data.image_size", True),
    ("data.image_size", "64"),
    ("data.search_fraction", 0.0),
    ("plan.name", "other"),
    ("search.order", 3),
    ("search.warmup_fraction", 1.1),
    ("search.operations", ("skip_connect",)),
    ("search.operations", ("a", "a")),
    ("prune.rule", "x"),
    ("prune.rounds", ((0.5, 3), (0.4, 2))),
    ("prune.rounds", ((0.5, 1),)),
    ("prune.rounds", (3,)),
    ("train.warmup_epochs", 600),
    ("search.min_learning_rate", 1.0),
    ("train.cutout", 65),
    ("train.class_weights", "even"),
    ("train.class_weights", (1.0, 0.0)),
    ("train.class_weights", ("1", "2")),
    ("plan.pdarts_layers", (5, 5, 17)),
    ("plan.pdarts_skip_dropout", (False, 0.1, 0.2)),
    ("search.momentum", float("nan")),
    ("data.name", ""),
    ("data.name", "a\nb"),
    ("data.name", "\udcff"),
    ("data.dir", "a\0b"),
    ("data.dir", "x" * 5000),
  ],
)
def test_out_of_range(name, value):
  config = schema.get_config()
  group, _, leaf = name.rpartition(".")
  (config[group] if group else config)[leaf] = value
  with pytest.raises(UsageError, match=rf"config\.{name}: .*allowed") as error:
    schema.validate(config)
  assert "\n" not in str(error.value) and len(str(error.value)) < 500


@pytest.mark.parametrize(
  "name,value",
  [
    ("seed", {"a.b": 1}),
    ("data.dir", {}),
    ("search.epochs", [1 << 100_000]),
    ("prune.rounds", [[0.5, [[[3]]]]]),
    ("search", 3),
    ("", 3),
    ("search.epochs.", 3),
  ],
)
def test_a_flat_config_of_other_shapes(name, value):
  with pytest.raises(UsageError, match=rf"config\.{name}: .*allowed"):
    schema.unflatten({name: value})


def test_one_number_is_a_square():
  config = schema.get_config("fashion_mnist")
  assert schema.image_shape(config) == (28, 28, 1) and schema.flatten(config)["data.image_size"] == 28
  for size in ((48, 64), [48, 64]):
    config.data.image_size = size
    flat = schema.flatten(config)
    assert schema.image_shape(schema.unflatten(flat)) == (48, 64, 1) and flat["data.image_size"] == [48, 64]
  config.train.cutout = 128
  schema.validate(config, ("train",))
  config.train.cutout = 129
  with pytest.raises(
    UsageError, match=r"config.train.cutout: 129; allowed are at most twice config.data.image_size, .48, 6"
  ):
    schema.validate(config, ("train",))


def test_wrong_type_and_unknown_field():
  config = schema.get_config()
  with config.search.ignore_type():
    config.search.epochs = "ten"
  with pytest.raises(UsageError, match="config.search.epochs: 'ten'; allowed are integers"):
    schema.validate(config)
  config = schema.get_config()
  with config.unlocked():
    config.search.epoch = 3
  with pytest.raises(UsageError, match="config.search.epoch: unknown field; allowed are search.epochs"):
    schema.validate(config)


def test_a_config_of_an_earlier_version_is_read_as_it_was_meant():
  flat = schema.flatten(schema.get_config("digits")) | {"seed": 7}
  assert schema.complete(flat) == flat
  earlier = {k: v for k, v in flat.items() if k not in ("data.augmentation", "data.test_view", "data.split_seed")}
  assert schema.complete(earlier) == flat
  flips = {"data.flip": True}, {"data.flip": False}
  assert [schema.complete(flat | older)["data.flip"] for older in flips] == ["random", "none"]
  assert schema.complete({k: v for k, v in earlier.items() if k != "train.ema"}) == flat
  streamed = earlier | {"data.loading": "stream", "data.name": "folder", "data.crop_padding": 4}
  assert schema.complete(streamed) == streamed | {
    "data.augmentation": "inception",
    "data.test_view": "centre",
    "data.crop_padding": 0,
    "data.split_seed": 7,
  }


def test_presets_are_named():
  with pytest.raises(UsageError, match="config: 'mars'; allowed are cifar10, darts, digits"):
    schema.get_config("mars")
  assert schema.get_config("digits").data.name == "digits" and schema.get_config().train.epochs == 600


@pytest.mark.parametrize(
  "changes,phases,wrong",
  [
    ({"network.layers": 3}, ("train",), None),
    ({"network.layers": 3}, ("search",), None),
    ({"network.layers": 3}, ("search", "train"), "network.layers"),
    ({"plan.name": "per_layer", "search.layers": 3, "network.layers": 3}, ("train",), None),
    ({"search.partial_channels": 3}, ("train",), None),
    ({"search.partial_channels": 3}, ("search",), "search.partial_channels"),
    ({"train.warmup_epochs": 600}, ("search",), None),
    ({"train.warmup_epochs": 600}, ("train",), "train.warmup_epochs"),
    ({"network.batch_norm_group": 48}, ("train",), None),  # A divisor of 96, but not of 64.
    ({"network.batch_norm_group": 48}, ("search",), "network.batch_norm_group"),
    ({"network.batch_norm_group": 8, "network.activation": "lif"}, ("train",), "network.batch_norm_group"),
    ({"data.name": "folder"}, ("train",), "data.dir"),
    ({"data.name": "folder"}, (), "data.dir"),
  ],
)
def test_a_phase_is_held_to_what_it_needs(changes, phases, wrong):
  config = schema.unflatten(changes)
  if wrong is None:
    schema.validate(config, phases)
  else:
    with pytest.raises(UsageError, match=rf"config\.{wrong}: "):
      schema.validate(config, phases)


def test_fields_that_are_not_used_are_not_looked_at():
  config = schema.get_config()
  config.data.name, config.search.epochs, config.search.partial_channels, config.train.batch_size = "folder", 0, 0, 1
  schema.validate(config, (), schema.COST_FIELDS)
  config.network.layers = 2
  with pytest.raises(UsageError, match="config.network.layers: 2; allowed are integers from 3"):
    schema.validate(config, (), schema.COST_FIELDS)


def test_a_folder_needs_its_place():
  config = schema.get_config("digits")
  config.data.name = "folder"
  with pytest.raises(UsageError, match="config.data.dir"):
    schema.validate(config)


@pytest.mark.parametrize(
  "changes,complaint",
  [
    ({"loading": "stream"}, "config.data.loading: 'stream'; allowed is device, as config.data.name is digits"),
    ({"labels": "a.csv"}, "config.data.labels: 'a.csv'; allowed is None, as config.data.name is digits"),
    ({"train_split": "train"}, "config.data.train_split: 'train'; allowed is None, as config.data.name is digits"),
    ({"test_split": "val"}, "config.data.test_split: 'val'; allowed is None, as config.data.name is digits"),
    (
      {"name": "mnist", "labels": "a.csv"},
      "config.data.labels: 'a.csv'; allowed is None, as config.data.name is mnist",
    ),
    ({"jitter": 0.4}, "config.data.jitter: 0.4; allowed is 0, as config.data.loading is device"),
    ({"hue": 0.2}, "config.data.hue: 0.2; allowed is 0, as config.data.loading is device"),
    ({"augmentation": "inception"}, "config.data.augmentation: 'inception'; allowed is cifar, as config.data.loading"),
    ({"test_view": "centre"}, "config.data.test_view: 'centre'; allowed is whole, as config.data.loading is device"),
    (
      {"loading": "stream", "name": "folder", "dir": "a", "augmentation": "inception", "crop_padding": 4},
      "config.data.crop_padding: 4; allowed is 0, as config.data.augmentation is inception",
    ),
    ({"image_key": "image"}, "config.data.image_key: 'image'; allowed is None, as config.data.name is digits"),
    ({"label_key": "a"}, "config.data.label_key: 'a'; allowed is None, as config.data.name is digits"),
  ],
)
def test_fields_of_streams_are_checked_together(config, changes, complaint):
  config.data.update(changes)
  with pytest.raises(UsageError, match=complaint):
    schema.validate(config)
