"""Which images are trained and which are tested on: names of splits, and what is held out where there is no test."""

from collections.abc import Mapping
import re
from typing import NamedTuple
import unicodedata

import numpy as np

from lfr_darts_jax.errors import UsageError, listed, short

# As users write them, in any case; those that Hugging Face's datasets knows (its keywords of splits).
WORDS = {
  "train": ("train", "training"),
  "validation": ("validation", "valid", "val", "dev"),
  "test": ("test", "testing", "eval", "evaluation"),
}
ROLES = {word: role for role, words in WORDS.items() for word in words}
HELD_OUT = 5  # One in so many images is kept for the test where there is no split for it.
_HELD_OUT_STREAM = 2  # Of random numbers, so that other draws by the same seed are others.


class Choice(NamedTuple):
  """Names of splits: those to train on, those to test on (none: a part of the train split is held out), the rest."""

  train: tuple[str, ...]
  test: tuple[str, ...]
  unused: tuple[str, ...]

  @property
  def parts(self) -> dict[str, tuple[str, ...]]:
    """Those of "train" and of "test", where there are some."""
    return {part: names for part, names in (("train", self.train), ("test", self.test)) if names}

  @property
  def named(self) -> dict[str, str]:
    """The same as one name each."""
    return {part: plain("+".join(names)) for part, names in self.parts.items()}


def plain(name: str) -> str:
  """A name in the one Unicode form that names are compared in: macOS writes accents apart from their letters."""
  return unicodedata.normalize("NFC", name)


def role(name: str) -> str | None:
  """ "train", "validation" or "test" where a name is a word for it, in any case."""
  return ROLES.get(plain(name).casefold())


def role_within(name: str) -> str | None:
  """The role of which a name has a word among others, as "training_set" has; None where it has none or several."""
  roles = {ROLES[word] for word in re.split(r"[^a-z0-9]+", plain(name).casefold()) if word in ROLES}
  return roles.pop() if len(roles) == 1 else None


def choose(
  roles: Mapping[str, str | None], train: str | None, test: str | None, owner: str, alone: bool = False
) -> Choice:
  """Chooses splits by what a user asks for, or else by their names.

  Args:
    roles: the names of the splits that are there, and what each is.
    train, test: `data.train_split` and `data.test_split`: names, or words for them, joined by "+".
    owner: the field that tells what has these splits, and its value.
    alone: whether a test split is enough, as it is for what is trained already.

  Raises:
    UsageError: where one is not there, several could be meant, or a split would be both trained and tested on.
  """
  if train:
    trained = _named("train_split", train, roles)
  else:
    trained = () if alone and "train" not in roles.values() else (train_split(roles, owner),)
  rest = {name: its for name, its in roles.items() if name not in trained}
  if test:
    tested = _named("test_split", test, roles)
    if both := [name for name in tested if name in trained]:
      if not alone:
        raise UsageError(
          f"config.data.test_split: {short(test)}; {listed(both)} is trained on; allowed are {listed(rest) or 'none'}"
        )
      trained = tuple(name for name in trained if name not in tested)
  else:
    found = test_split(rest, owner)
    tested = () if found is None else (found,)
  if not trained and not tested:
    train_split(roles, owner)
  return Choice(trained, tested, tuple(name for name in roles if name not in (*trained, *tested)))


def train_split(roles: Mapping[str, str | None], owner: str) -> str:
  """The split that is one to train on by its name; arguments and errors as of `choose`."""
  found = _only("train", roles, "train_split", owner)
  if found is None:
    raise UsageError(
      f"{owner} has no train split; it has {listed(roles) or 'none'}; config.data.train_split names the one to train on"
    )
  return found


def test_split(roles: Mapping[str, str | None], owner: str) -> str | None:
  """The test split by its name, or else the validation split, if any; arguments and errors as of `choose`."""
  return _only("test", roles, "test_split", owner) or _only("validation", roles, "test_split", owner)


def _named(field: str, value: str, roles: Mapping[str, str | None]) -> tuple[str, ...]:
  """The splits that a user names, by their own names or by a word for what they are."""
  found: list[str] = []
  for name in value.split("+"):
    same = [own for own in roles if plain(own) == plain(name)]
    same = same or [own for own, its in roles.items() if its and its == role(name)]
    if len(same) != 1:
      raise UsageError(f"config.data.{field}: {short(value)}; allowed are {listed(roles)}, several joined by +")
    found += same
  return tuple(dict.fromkeys(found))


def _only(wanted: str, roles: Mapping[str, str | None], field: str, owner: str) -> str | None:
  found = [name for name, its in roles.items() if its == wanted]
  if len(found) > 1:
    raise UsageError(f"{owner} has {listed(found)}; config.data.{field} names the one that is meant")
  return found[0] if found else None


def said(roles: Mapping[str, str | None], train: str | None, test: str | None, unused: Mapping[str, int]) -> list[str]:
  """What a user is told of a choice that is not plainly a train and a test split.

  Args:
    roles: see `choose`.
    train, test: the splits that are trained and tested on, None for none.
    unused: the other splits, and how many images they have.
  """
  lines = []
  if test and "test" not in roles.values():
    lines.append(f"no split is named test; tested on: {short(test)}")
  for name, count in unused.items():
    if count:
      both = f"--config.data.train_split={train}+{name} trains on it, " if train else ""
      lines.append(
        f"the split {short(name)} is not used ({count} images); {both}--config.data.test_split={name} tests on it"
      )
  return lines


def held_out(labels: np.ndarray, classes: int, split_seed: int) -> np.ndarray:
  """Draws a fifth of each class.

  Args:
    labels: `[n]`.
    classes: how many there are.
    split_seed: of the draw; the same for every `seed` of a run.

  Returns:
    A mask `[n]`. Two images are needed for one in each part; of a class with a single one none is drawn.
  """
  rng = np.random.default_rng([split_seed, _HELD_OUT_STREAM])
  mask = np.zeros(len(labels), bool)
  by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=classes))[:-1])
  for own in by_class:
    cut = min(max(round(len(own) / HELD_OUT), 1), max(len(own) - 1, 0))
    mask[own[rng.permutation(len(own))[:cut]]] = True
  return mask
