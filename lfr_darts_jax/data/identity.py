"""The identity of a run's data, so that another data set, or a changed one, is not taken for them."""

from collections.abc import Iterable, Sequence
import dataclasses
import hashlib

import numpy as np

from lfr_darts_jax.errors import MAX_NAMES, UsageError, listed, short

Counts = int | dict[str, int]


@dataclasses.dataclass(frozen=True)
class Identity:
  """What a data set is told by; the place where it lies is no part of it.

  Attributes:
    source: "digits", "folder", or a TFDS data set with its version.
    image_key, label_key: names of TFDS's features; None elsewhere.
    class_names: by label.
    shape: height, width and channels of an image as the network sees it.
    images: of "train" and "test", in all, or by class where that is known without reading all images; a folder
      without a test split has none for it.
    splits: what the user's or TFDS's splits of "train" and "test" are called.
    held_out: what part of the train split takes the place of a test split, empty for none.
    left_out: images that can't be read and are in no split.
    digest: SHA-256 of what is cheap to look at: a folder's paths and sizes, the digits' pixels, the version of a TFDS
      data set and the number of its records.

  Those that may be None came later than others; what is None was not written down and is not compared.
  """

  source: str
  image_key: str | None
  label_key: str | None
  class_names: tuple[str, ...]
  shape: tuple[int, ...]
  images: dict[str, Counts]
  digest: str
  splits: dict[str, str] | None = None
  held_out: str | None = None
  left_out: int | None = None


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
    found.append(f"classes that are gone: {listed(gone)}")
  if new := [n for n in now.class_names if n not in before.class_names]:
    found.append(f"new classes: {listed(new)}")
  if not found and before.class_names != now.class_names:
    found.append("classes in another order")
  for field in ("source", "image_key", "label_key", "shape"):
    old, value = getattr(before, field), getattr(now, field)
    if old != value:
      found.append(f"{field}: {_text(value)}, before {_text(old)}")
  for part, name in (before.splits or {}).items():
    if now.splits and part in now.splits and now.splits[part] != name:
      found.append(f"split to {part}: {short(now.splits[part])}, before {short(name)}")
  if before.held_out is not None and before.held_out != now.held_out:
    found.append(f"held out: {now.held_out or 'nothing'}, before {before.held_out or 'nothing'}")
  if None not in (before.left_out, now.left_out) and before.left_out != now.left_out:
    found.append(f"left out as bad: {now.left_out} images, before {before.left_out}")
  for split in sorted(before.images.keys() | now.images.keys()):
    found += _counts(split, before.images.get(split, 0), now.images.get(split, 0))
  if not found and before.digest != now.digest:
    found.append("files of other names or sizes" if now.source == "folder" else "other records")
  return found


def _counts(split: str, before: Counts, now: Counts) -> list[str]:
  """What is said of one split: the classes that have more or fewer images, or the split where they are not known."""
  if isinstance(before, int) or isinstance(now, int):
    total = lambda counts: counts if isinstance(counts, int) else sum(counts.values())
    before, now = {split: total(before)}, {split: total(now)}
  else:
    before, now = ({f"{split}/{name}": n for name, n in counts.items()} for counts in (before, now))
  changed = [name for name in before if name in now and before[name] != now[name]]
  said = [f"{short(name)}: {now[name]} images, before {before[name]}" for name in changed[:MAX_NAMES]]
  return said + ([f"other numbers in {len(changed) - MAX_NAMES} more classes"] if len(changed) > MAX_NAMES else [])


def _text(value: object) -> str:
  return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
      f"{name}; it has the classes {listed(unknown)}, which the trained network does not know; allowed are "
      f"{listed(known)}"
    )
  return np.array([known.index(name) for name in found], np.int32)
