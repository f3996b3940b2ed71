"""What happens to checkpoints, and what a folder holds before and after."""

import shutil

from lfr_darts_jax.runtime import checkpoint


def largest(folder):
  """The largest file of a checkpoint's arrays: their values."""
  return max((path for path in folder.glob("state/**/*") if path.is_file()), key=lambda path: path.stat().st_size)


def flip(path, at=None):
  """Flips one bit, of the byte in the middle by default."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2 if at is None else at] ^= 1
  path.write_bytes(data)


def _cut(path):
  path.write_bytes(path.read_bytes()[:-1])


def _empty(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def _half_written(folder):
  (folder / checkpoint.SUMS).unlink()
  largest(folder).unlink()


def _a_line_less(path):
  path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def _no_folder(folder):
  shutil.rmtree(folder)
  folder.write_text("")


def sum_anew(folder):
  """Gives a changed checkpoint the sums that it would have had."""
  (folder / checkpoint.SUMS).unlink()
  checkpoint.write_sums(folder)


KINDS = {
  "truncated": lambda folder: _cut(largest(folder)),
  "flipped": lambda folder: flip(largest(folder)),
  "shard missing": lambda folder: largest(folder).unlink(),
  "empty": _empty,
  "half written": _half_written,
  "metadata flipped": lambda folder: flip(folder / "meta.json"),
  "metadata missing": lambda folder: (folder / "meta.json").unlink(),
  "sums missing": lambda folder: (folder / checkpoint.SUMS).unlink(),
  "sums cut": lambda folder: _a_line_less(folder / checkpoint.SUMS),
  "no folder": _no_folder,
}


def snapshot(folder):
  """All that a folder holds, and when it was changed."""
  return {
    path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
    for path in folder.rglob("*")
  }
