"""Where a run is kept: a directory, or a store that a URL names, such as `gs://bucket/run`.

A store holds objects under names with slashes, and no directories. An object is put as a whole or not at all; it can't
be appended to, renamed or locked. What grows, and what a library can write to a disk alone, is written to a temporary
directory and put from there. What speaks to a store here raises a RunError where that fails after all retries.
"""

from collections.abc import Iterator
import contextlib
import glob
import os
import pathlib
import re
import tempfile
from typing import Any
from typing import TypeAlias

from etils import epath
import fsspec

from lfr_darts_jax.errors import DISK_ERRORS
from lfr_darts_jax.errors import RunError
from lfr_darts_jax.errors import UsageError

# By scheme the package behind it; these are the schemes that epath knows.
PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs", "hf": "huggingface_hub"}
# Where TensorFlow is installed, epath would take its file systems, which differ from those used here.
os.environ.setdefault("EPATH_USE_TF", "false")

Path: TypeAlias = pathlib.Path | epath.Path


def path(name: str | Path) -> Path:
  """A path of the local file system, or one below a URL.

  Raises:
    UsageError: where nothing here can reach what the URL names.
  """
  text = os.fspath(name)
  url = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", text, re.DOTALL)
  if not url:
    return pathlib.Path(text)
  scheme, rest = url.groups()
  if scheme not in PACKAGES:
    raise UsageError(f"{text}: no known scheme; allowed are paths, and URLs with {', '.join(PACKAGES)}")
  # fsspec would take such a name for a pattern of names, also where it deletes.
  if not rest.strip("/") or glob.has_magic(rest):
    raise UsageError(f"{text}: not one place; allowed are {scheme}:// and a bucket, without *, ? and [")
  try:
    fsspec.get_filesystem_class(scheme)
  except ImportError:
    package = PACKAGES[scheme]
    raise UsageError(f"{text}: needs the package {package}, which is not there; pip install {package}") from None
  return epath.Path(text)


def is_local(path: Path) -> bool:
  """Whether it is a path of the local file system."""
  return isinstance(path, pathlib.Path)


def is_file(path: Path) -> bool:
  """Whether there is a file, and no named pipe, for one, which would block for ever."""
  return os.path.isfile(path) if is_local(path) else path.is_file()


def make_folder(path: Path) -> None:
  """Makes a directory and those above it; a store needs none."""
  if is_local(path):
    path.mkdir(parents=True, exist_ok=True)


def names(folder: Path) -> list[str]:
  """The names in a folder, in no order; none where it is not there."""
  if is_local(folder):
    return [path.name for path in folder.glob("*")]
  store, base = _open(folder)
  with _reaching(folder), contextlib.suppress(FileNotFoundError):
    listed = [name.rstrip("/") for name in store.ls(base, detail=False)]
    return [name.removeprefix(f"{base}/") for name in listed if name.startswith(f"{base}/")]
  return []


def write(path: Path, content: bytes) -> None:
  """Puts an object of a store, as a whole or not at all."""
  store, name = _open(path)
  with _reaching(path):
    store.pipe_file(name, content)


def put(source: pathlib.Path, target: Path, paths: list[pathlib.Path] | None = None) -> None:
  """Puts the files of a local folder, or those of them that are given, below a name in a store."""
  store, base = _open(target)
  paths = _files(source) if paths is None else paths
  with _reaching(target):
    store.put([str(path) for path in paths], [f"{base}/{path.relative_to(source).as_posix()}" for path in paths])


@contextlib.contextmanager
def fetched(folder: Path) -> Iterator[pathlib.Path]:
  """A local folder with the files of a folder: itself, or a copy for as long as the context lasts."""
  if is_local(folder):
    yield folder
    return
  with tempfile.TemporaryDirectory(prefix="lfr_darts_") as here:
    store, base = _open(folder)
    with _reaching(folder):
      below = [name.removeprefix(f"{base}/") for name in store.find(base) if name != base]
      # An object may have any name, also one that would lead out of the folder.
      inside = [name for name in below if not {"", ".", ".."}.intersection(name.split("/"))]
      store.get([f"{base}/{name}" for name in inside], [os.path.join(here, name) for name in inside])
    yield pathlib.Path(here)


def remove(folder: Path) -> None:
  """Deletes all that lies below a name in a store, one object after another."""
  store, base = _open(folder)
  with _reaching(folder), contextlib.suppress(FileNotFoundError):
    store.rm(base, recursive=True)


def move(folder: Path, target: Path) -> None:
  """Copies all that lies below a name in a store, and then deletes it."""
  store, base = _open(folder)
  with _reaching(folder):
    found = store.find(base)
    store.copy(found, [_open(target)[1] + name.removeprefix(base) for name in found])
  remove(folder)


def check_writable(folder: Path) -> None:
  """Checks that objects can be put below a URL, and deleted.

  Raises:
    UsageError: where they can't.
  """
  store, probe = _open(folder / ".probe")
  try:
    store.pipe_file(probe, b"")
    store.rm(probe)
  except Exception as error:  # Each store has errors of its own.
    raise UsageError(f"workdir: {folder} can't be written ({error}); allowed is a place that can") from None


class Staged:
  """A local directory where files of a folder may grow: the folder itself, or one whose files are put into it."""

  def __init__(self, folder: Path, *begun: str):
    """Makes it where the folder is not local.

    Args:
      folder: the folder.
      *begun: names of files that may be there and are to be gone on with.
    """
    self._folder = folder
    self._temporary: Any = None if is_local(folder) else tempfile.TemporaryDirectory(prefix="lfr_darts_")
    self._put: dict[pathlib.Path, tuple[int, int]] = {}
    self.here = folder if self._temporary is None else pathlib.Path(self._temporary.name)
    for name in begun:
      if self._temporary and (folder / name).exists():
        (self.here / name).write_bytes((folder / name).read_bytes())
        self._put |= self._versions()

  def put(self) -> None:
    """Puts the files that have changed, each as a whole; nothing is to do where the folder is local."""
    if self._temporary:
      versions = self._versions()
      put(self.here, self._folder, [path for path, version in versions.items() if self._put.get(path) != version])
      self._put = versions

  def close(self) -> None:
    """Puts what is left, and deletes the local directory if it is not the folder itself."""
    try:
      self.put()
    finally:
      if self._temporary:
        self._temporary.cleanup()

  def _versions(self):
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in _files(self.here)}


def _open(path):
  """The file system behind a URL, and the path in it. Others write there too, so that no listing may be remembered."""
  return fsspec.core.url_to_fs(os.fspath(path), use_listings_cache=False)


def _files(folder):
  return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@contextlib.contextmanager
def _reaching(path):
  try:
    yield
  except Exception as error:  # Each store has errors of its own.
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
      raise  # Of the temporary directory.
    raise RunError(
      f"{path}: {type(error).__name__}: {error}; the same command continues once the store can be reached and written"
    ) from error
