"""Files of a run, in a directory or in a bucket that a URL names, such as `gs://bucket/run`: whole, or not there.

A bucket holds objects under names with slashes, and no directories. An object is put as a whole or not at all; it can't
be appended to, renamed or locked. Files that grow, and files that a library can only write to a disk, are written to a
temporary directory and put from there. Whatever speaks to a bucket here raises a RunError where that fails after all
retries.
"""

from collections.abc import Iterator
import contextlib
import glob
import os
import pathlib
import re
import shutil
import tempfile
from typing import Any, TypeAlias

from etils import epath

from lfr_darts_jax.errors import DISK_ERRORS, RunError, UsageError

# The package behind each scheme; these are the schemes that epath knows.
PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs", "hf": "huggingface_hub"}
EXTRAS = {"gs": "'lfr-darts-jax[gcs]'"}

Path: TypeAlias = pathlib.Path | epath.Path


def expanded(name: str) -> str:
  """A path whose first part is a home directory where it was `~` or `~user`.

  Raises:
    UsageError: where nobody knows that directory; taken literally, it would make a folder of that name.
  """
  found = os.path.expanduser(name)
  if found.startswith("~"):
    raise UsageError(f"{name}: this home directory is not known; allowed are paths without ~, or a set HOME")
  return found


def path(name: str | Path) -> Path:
  """A path of the local file system, `~` expanded, or one below a URL.

  Raises:
    UsageError: where nothing here can reach what the URL names, and as of `expanded`.
  """
  text = os.fspath(name)
  url = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", text, re.DOTALL)
  if not url:
    return pathlib.Path(expanded(text))
  scheme, rest = url.groups()
  if scheme not in PACKAGES:
    raise UsageError(f"{text}: no known scheme; allowed are paths, and URLs with {', '.join(PACKAGES)}")
  # fsspec would take such a name for a pattern of names, also where it deletes.
  if not rest.strip("/") or glob.has_magic(rest):
    raise UsageError(f"{text}: not one place; allowed are {scheme}:// and a bucket, without *, ? and [")
  try:
    import fsspec

    fsspec.get_filesystem_class(scheme)
  except ImportError:
    needed = EXTRAS.get(scheme, PACKAGES[scheme])
    raise UsageError(f"{text}: needs the package {PACKAGES[scheme]}, which is missing; pip install {needed}") from None
  # Where TensorFlow is installed, epath would take its file systems, which differ from those used here.
  os.environ.setdefault("EPATH_USE_TF", "false")
  return epath.Path(text)


def is_local(path: Path) -> bool:
  """Whether it is a path of the local file system."""
  return isinstance(path, pathlib.Path)


def is_file(path: Path) -> bool:
  """Whether there is a file, and not, say, a named pipe, which would block for ever."""
  return os.path.isfile(path) if is_local(path) else path.is_file()


def make_folder(path: Path) -> None:
  """Makes a directory and those above it; a bucket needs none."""
  if is_local(path):
    path.mkdir(parents=True, exist_ok=True)


def names(folder: Path) -> list[str]:
  """The names in a folder, sorted; none where it is not there."""
  if is_local(folder):
    return sorted(path.name for path in folder.glob("*"))
  bucket, base = _open(folder)
  with _reaching(folder), contextlib.suppress(FileNotFoundError):
    listed = [name.rstrip("/") for name in bucket.ls(base, detail=False)]
    return sorted(name.removeprefix(f"{base}/") for name in listed if name.startswith(f"{base}/"))
  return []


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes a file, text as UTF-8: under a temporary name that is then replaced; into a bucket as one object.

  Raises:
    OSError, RunError: where that fails; a file of that name is as it was.
  """
  content = content.encode() if isinstance(content, str) else content
  if not is_local(path):
    _put_object(path, content)
    return
  temporary = partial(path)
  try:
    with naming(path):
      temporary.write_bytes(content)
      sync(temporary)
      os.replace(temporary, path)
  except OSError:
    with contextlib.suppress(OSError):
      temporary.unlink()
    raise


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[pathlib.Path]:
  """Makes a folder that is whole or not there: yields a local one to fill, which takes its place at the end.

  In a bucket it fills object by object; until it is whole, the object `unfinished` lies beside it.

  Raises:
    OSError, RunError: where that fails; there is no folder of that name then, or `remove_partials` deletes it.
  """
  if is_local(folder):
    temporary = partial(folder)
    try:
      with naming(folder):
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(folder)
    except BaseException:
      shutil.rmtree(temporary, ignore_errors=True)
      raise
  else:
    with tempfile.TemporaryDirectory(prefix="lfr_darts_") as here:
      with naming(pathlib.Path(here)):
        yield pathlib.Path(here)
      _put_object(unfinished(folder), b"")
      put(pathlib.Path(here), folder)
      _remove_objects(unfinished(folder))


def remove_file(path: Path) -> None:
  """Deletes a file where there is one."""
  if is_local(path):
    path.unlink(missing_ok=True)
  else:
    _remove_objects(path)


def remove(folder: Path) -> None:
  """Deletes a folder. What an interruption leaves has another name, or has `unfinished` beside it."""
  if is_local(folder):
    doomed = partial(folder)
    folder.rename(doomed)
    shutil.rmtree(doomed)
  else:
    _put_object(unfinished(folder), b"")
    _remove_objects(folder)
    _remove_objects(unfinished(folder))


def move(folder: Path, target: Path) -> None:
  """Renames a folder; in a bucket it copies the objects, then deletes them."""
  if is_local(folder):
    folder.rename(target)
    return
  bucket, base = _open(folder)
  with _reaching(folder):
    found = bucket.find(base)
    bucket.copy(found, [_open(target)[1] + name.removeprefix(base) for name in found])
  _remove_objects(folder)


def partial(path: Path) -> Path:
  """The temporary name of a file or folder that is being written or deleted."""
  return path.with_name(f".{path.name}.partial")


def unfinished(folder: Path) -> Path:
  """The name of an object that lies beside a folder of a bucket as long as the folder is not whole."""
  return folder.with_name(f".{folder.name}.unfinished")


def whole(folder: Path) -> list[str]:
  """The names in a folder, without those of folders of a bucket that are not whole."""
  found = names(folder)
  return found if is_local(folder) else [name for name in found if unfinished(folder / name).name not in found]


def remove_partials(folder: Path) -> None:
  """Deletes what dead processes left half written in a folder; no living one may write there meanwhile."""
  if is_local(folder):
    for path in folder.glob(".*.partial"):
      shutil.rmtree(path) if path.is_dir() else path.unlink()
    return
  for half in filter(None, (re.fullmatch(r"\.(.+)\.unfinished", name) for name in names(folder))):
    _remove_objects(folder / half[1])
    _remove_objects(folder / half[0])


def put(source: pathlib.Path, target: Path, paths: list[pathlib.Path] | None = None) -> None:
  """Puts the files of a local folder, or the given ones of them, below a name in a bucket."""
  bucket, base = _open(target)
  paths = _files(source) if paths is None else paths
  with _reaching(target):
    bucket.put([str(path) for path in paths], [f"{base}/{path.relative_to(source).as_posix()}" for path in paths])


@contextlib.contextmanager
def fetched(folder: Path) -> Iterator[pathlib.Path]:
  """A local folder with the files of a folder: itself, or a copy for as long as the context lasts."""
  if is_local(folder):
    yield folder
    return
  with tempfile.TemporaryDirectory(prefix="lfr_darts_") as here:
    bucket, base = _open(folder)
    with _reaching(folder):
      below = [name.removeprefix(f"{base}/") for name in bucket.find(base) if name != base]
      # An object may have any name, also one that leads out of the folder.
      inside = [name for name in below if not {"", ".", ".."}.intersection(name.split("/"))]
      bucket.get([f"{base}/{name}" for name in inside], [os.path.join(here, name) for name in inside])
    yield pathlib.Path(here)


def check_writable(folder: Path) -> None:
  """Checks that objects can be put below a URL, and deleted.

  Raises:
    UsageError: where they can't.
  """
  bucket, probe = _open(folder / ".probe")
  try:
    bucket.pipe_file(probe, b"")
    bucket.rm(probe)
  except Exception as error:  # Each store has errors of its own.
    raise UsageError(f"workdir: {folder} can't be written ({error}); allowed is a place that can") from None


class Staged:
  """A local directory where files of a folder may grow: the folder itself, or one whose files are put into it.

  Attributes:
    here: the local directory.
  """

  def __init__(self, folder: Path, *begun: str):
    """Makes the directory where the folder is not local.

    Args:
      folder: the folder.
      *begun: names of files to continue where they are there.
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
    """Puts the files that have changed, each as a whole; does nothing where the folder is local."""
    if self._temporary:
      versions = self._versions()
      put(self.here, self._folder, [path for path, version in versions.items() if self._put.get(path) != version])
      self._put = versions

  def close(self) -> None:
    """Puts what is left, and deletes the directory if it is not the folder itself."""
    try:
      self.put()
    finally:
      if self._temporary:
        self._temporary.cleanup()

  def _versions(self) -> dict[pathlib.Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in _files(self.here)}


def sync(path: pathlib.Path) -> None:
  """Writes a file through to the disk, so that it outlives a loss of power."""
  with path.open("rb") as file:
    os.fsync(file.fileno())


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
  """Adds a path to errors of the operating system that name none, as those of a file opened before."""
  try:
    yield
  except OSError as error:
    if error.errno is not None and error.filename is None:
      error.filename = str(path)
    raise


def explain(error: OSError) -> str:
  """One line for an error of the operating system; says how to continue where the disk takes no more."""
  if error.errno not in DISK_ERRORS:
    return f"{type(error).__name__}: {error}"
  where = "" if error.filename is None else f"{error.filename}: "
  return f"{where}{os.strerror(error.errno).lower()}; the same command continues {DISK_ERRORS[error.errno]}"


def _put_object(path: Path, content: bytes) -> None:
  bucket, name = _open(path)
  with _reaching(path):
    bucket.pipe_file(name, content)


def _remove_objects(folder: Path) -> None:
  bucket, base = _open(folder)
  with _reaching(folder), contextlib.suppress(FileNotFoundError):
    bucket.rm(base, recursive=True)


def _open(path: Path) -> tuple[Any, str]:
  """The file system behind a URL, and the path in it. Others write there too, so no listing is cached."""
  import fsspec

  return fsspec.core.url_to_fs(os.fspath(path), use_listings_cache=False)


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  return [path for path in sorted(folder.rglob("*")) if path.is_file()]


@contextlib.contextmanager
def _reaching(path: Path) -> Iterator[None]:
  try:
    yield
  except Exception as error:  # Each store has errors of its own.
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
      raise  # Of the temporary directory.
    raise RunError(
      f"{path}: {type(error).__name__}: {error}; the same command continues once the bucket can be reached and written"
    ) from error
