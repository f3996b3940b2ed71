"""What a run's data are told by, so that another data set, or a changed one, is not taken for them."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import hashlib
from typing import Any

import numpy as np

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.errors import short

SHOWN = 5  # Names of classes in a message.

Counts = Mapping[str, int | Mapping[str, int]]


@dataclasses.dataclass(frozen=True)
class Identity:
  """What a run's data are told by; the place where they lie is no part of it.

  Attributes:
    source: "digits", "folder", or a TFDS data set with its version.
    image_key, label_key: names of TFDS's features; None elsewhere.
    class_names: by label.
    shape: height, width and channels of an image as the network sees it.
    images: of "train" and "test", by class where that is known without reading all images; a folder without a test
      split has none.
    digest: SHA-256 of what is cheap to look at: a folder's paths and sizes, the digits' pixels, the version of a TFDS
      data set and the number of its records.
  """

  source: str
  image_key: str | None
  label_key: str | None
  class_names: tuple[str, ...]
  shape: tuple[int, ...]
  images: Counts
  digest: str

  def to_json(self) -> dict[str, Any]:
    """As JSON has it."""
    return {**dataclasses.asdict(self), "class_names": list(self.class_names), "shape": list(self.shape)}


def parse(value: Any, name: str) -> Identity:
  """What `to_json` made.

  Args:
    value: read from JSON.
    name: where it stands, for the message.

  Raises:
    UsageError: where it is something else.
  """
  try:
    names, shape = value["class_names"], value["shape"]
    found = Identity(**value | {"class_names": tuple(names), "shape": tuple(shape)})
    texts = [found.source, found.digest, *names, *(k for k in (found.image_key, found.label_key) if k is not None)]
    counts = [n for c in found.images.values() for n in (c.values() if isinstance(c, dict) else [c])]
    if all(isinstance(t, str) for t in texts) and all(type(n) is int for n in [*shape, *counts]):
      return found
  except (KeyError, TypeError, AttributeError):
    pass
  raise UsageError(f"{name}: {short(value)}; allowed is what tells a data set")


def digest(parts: Iterable[str | bytes]) -> str:
  """SHA-256 of parts in order, as hexadecimal digits."""
  total = hashlib.sha256()
  for part in parts:
    part = part.encode(errors="surrogateescape") if isinstance(part, str) else part
    total.update(len(part).to_bytes(8, "little") + part)
  return total.hexdigest()


def by_class(labels: np.ndarray, class_names: Sequence[str]) -> dict[str, int]:
  """The number of images of every class, from labels `[n]`."""
  counts = np.bincount(labels, minlength=len(class_names)).tolist()
  return dict(zip(class_names, counts, strict=True))


def differences(before: Identity, now: Identity) -> list[str]:
  """In words, what of the data is not as it was; the digest only where nothing else tells."""
  found = []
  if gone := [n for n in before.class_names if n not in now.class_names]:
    found.append(f"classes that are gone: {_list(gone)}")
  if new := [n for n in now.class_names if n not in before.class_names]:
    found.append(f"new classes: {_list(new)}")
  if not found and before.class_names != now.class_names:
    found.append("classes in another order")
  for field in ("source", "image_key", "label_key", "shape"):
    old, value = getattr(before, field), getattr(now, field)
    if old != value:
      found.append(f"{field}: {_text(value)}, before {_text(old)}")
  for split in sorted(before.images.keys() | now.images.keys()):
    found += _counts(split, before.images.get(split, 0), now.images.get(split, 0))
  if not found and before.digest != now.digest:
    found.append("files of other names or sizes" if now.source == "folder" else "other records")
  return found


def _counts(split, before, now):
  """What is said of one split: the classes that have more or fewer images, or the split where they are not known."""
  if isinstance(before, int) or isinstance(now, int):
    total = lambda counts: counts if isinstance(counts, int) else sum(counts.values())
    before, now, name = {split: total(before)}, {split: total(now)}, lambda key: key
  else:
    name = lambda key: f"{split}/{key}"
  changed = [key for key in before if key in now and before[key] != now[key]]
  said = [f"{short(name(key))}: {now[key]} images, before {before[key]}" for key in changed[:SHOWN]]
  return said + ([f"other numbers in {len(changed) - SHOWN} more classes"] if len(changed) > SHOWN else [])


def _text(value):
  return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _list(names):
  more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
  return ", ".join(short(name) for name in names[:SHOWN]) + more


def relabelling(name: str, found: Sequence[str], known: Sequence[str]) -> np.ndarray:
  """For every label of a data set that of the class of the same name in another.

  Args:
    name: of the data set, for the message.
    found: its classes, by label.
    known: those of the other.

  Raises:
    UsageError: where one is not known.
  """
  if unknown := [name for name in found if name not in known]:
    raise UsageError(
      f"{name}; it has the classes {_list(unknown)}, which the trained network does not know; allowed are "
      f"{_list(known)}"
    )
  return np.array([known.index(name) for name in found], np.int32)
