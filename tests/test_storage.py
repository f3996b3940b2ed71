import errno
import os
import pathlib

from etils import epath
import fsspec
import pytest

from lfr_darts_jax import storage
from lfr_darts_jax.errors import RunError
from lfr_darts_jax.errors import UsageError


def fill(folder, *names):
  for name in names:
    storage.write(folder / name, name.encode())


def below(folder):
  with storage.fetched(folder) as here:
    return {path.relative_to(here).as_posix(): path.read_bytes() for path in here.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["", "runs/a", "/runs/a", "a*[?", "gs:/a", pathlib.Path("a")])
def test_what_is_local(name):
  path = storage.path(name)
  assert type(path) is type(pathlib.Path()) and path == pathlib.Path(name) and storage.is_local(path)


def test_what_a_url_names(bucket):
  path = storage.path(f"{bucket}/run/")
  assert isinstance(path, epath.Path) and not storage.is_local(path)
  assert str(path / "a.json") == f"{bucket}/run/a.json" and storage.path(path) == path


@pytest.mark.parametrize(
  "name,message",
  [
    ("ftp://host/run", "ftp://host/run: no known scheme; allowed are paths, and URLs with gs, s3, az, hf"),
    ("file:///run", "no known scheme"),
    ("gs://", "gs://: not one place; allowed are gs:// and a bucket"),
    ("gs:///", "not one place"),
    ("gs://bucket/run*", "without .*"),
    ("gs://bucket/run[1]", "without .*"),
  ],
)
def test_urls_that_are_refused(name, message):
  with pytest.raises(UsageError, match=message):
    storage.path(name)


def test_a_package_that_is_not_there(monkeypatch):
  def fail(scheme):
    raise ImportError(scheme)

  monkeypatch.setattr(fsspec, "get_filesystem_class", fail)
  with pytest.raises(UsageError, match="s3://a/b: needs the package s3fs, which is not there; pip install s3fs"):
    storage.path("s3://a/b")


def test_tensorflow_is_not_asked_for():
  assert os.environ["EPATH_USE_TF"] == "false"


def test_names(tmp_path, bucket):
  (tmp_path / ".a").write_text("")
  (tmp_path / "5").mkdir()
  fill(bucket, ".a", "5/b/c", "5/d")
  for folder in (tmp_path, bucket):
    assert sorted(storage.names(folder)) == [".a", "5"]
    assert storage.names(folder / "nowhere") == storage.names(folder / ".a") == []


def test_files(tmp_path, bucket):
  (tmp_path / "a").write_text("")
  (tmp_path / "5").mkdir()
  fill(bucket, "a", "5/d")
  for folder in (tmp_path, bucket):
    assert [storage.is_file(folder / name) for name in ("a", "5", "nowhere")] == [True, False, False]


def test_another_process_is_seen_at_once(bucket):
  fill(bucket, "a")
  assert storage.names(bucket) == ["a"]
  other = fsspec.filesystem("gcs", skip_instance_cache=True)
  other.pipe_file(str(bucket / "b"), b"")
  assert storage.names(bucket) == ["a", "b"] and (bucket / "b").exists()
  other.rm(str(bucket / "a"))
  assert storage.names(bucket) == ["b"] and not (bucket / "a").exists()


def test_a_folder_is_put_and_fetched(tmp_path, bucket):
  (tmp_path / "sub").mkdir()
  (tmp_path / "sub" / "empty").write_bytes(b"")
  (tmp_path / "large").write_bytes(os.urandom(6_000_000))
  storage.put(tmp_path, bucket)
  assert below(bucket) == {"sub/empty": b"", "large": (tmp_path / "large").read_bytes()}
  with storage.fetched(tmp_path) as here:
    assert here == tmp_path
  with storage.fetched(bucket / "nowhere") as here:
    assert not list(here.iterdir())
  assert not here.exists()


def test_names_that_lead_out_of_a_folder_are_not_fetched(bucket, monkeypatch):
  fill(bucket, "a")
  store, _ = storage._open(bucket)
  names = ("a", "../a", "b/../../../a", "b//a", "./a", "b/..")
  # The emulator refuses such objects; the real one takes them.
  monkeypatch.setattr(store, "find", lambda base: [f"{base}/{name}" for name in names])
  assert below(bucket) == {"a": b"a"}


def test_what_is_removed_and_moved_is_no_neighbour(bucket):
  fill(bucket, "5/a", "5/b/c", "50/a", "5.b/a", "5a")
  storage.move(bucket / "5", bucket / "6")
  assert sorted(storage.names(bucket)) == ["5.b", "50", "5a", "6"]
  assert below(bucket / "6") == {"a": b"5/a", "b/c": b"5/b/c"}
  storage.remove(bucket / "6")
  storage.remove(bucket / "5")
  storage.remove(bucket / "5a")
  assert sorted(storage.names(bucket)) == ["5.b", "50"]


def test_a_single_object_is_moved_like_a_folder(bucket):
  fill(bucket, "5")
  storage.move(bucket / "5", bucket / "5.broken")
  assert storage.names(bucket) == ["5.broken"] and (bucket / "5.broken").read_bytes() == b"5"


def test_a_place_that_can_be_written(bucket):
  storage.check_writable(bucket)
  assert storage.names(bucket) == []
  with pytest.raises(UsageError, match="workdir: gs://no_bucket/run can't be written .*; allowed is a place that can"):
    storage.check_writable(storage.path("gs://no_bucket/run"))


def test_whatever_a_store_raises_is_one_line_that_says_how_to_go_on(bucket, monkeypatch):
  store, _ = storage._open(bucket)

  def fail(*unused, **unused_too):
    raise LookupError("of its own")

  for name in ("ls", "pipe_file", "put", "find", "rm"):
    monkeypatch.setattr(store, name, fail)
  for call in (
    lambda: storage.names(bucket),
    lambda: storage.write(bucket / "a", b""),
    lambda: storage.put(pathlib.Path(__file__).parent, bucket, []),
    lambda: below(bucket),
    lambda: storage.remove(bucket),
    lambda: storage.move(bucket, bucket),
  ):
    with pytest.raises(RunError, match=f"{bucket}.*: LookupError: of its own; the same command continues once"):
      call()


def test_no_space_for_what_is_fetched_is_an_error_of_the_disk(bucket, monkeypatch):
  def fail(*unused):
    raise OSError(errno.ENOSPC, "Full")

  monkeypatch.setattr(storage._open(bucket)[0], "get", fail)
  with pytest.raises(OSError, match="Full"):
    below(bucket)


def test_files_grow_where_they_are(tmp_path):
  staged = storage.Staged(tmp_path, "a")
  assert staged.here == tmp_path
  (staged.here / "a").write_text("1")
  staged.put()
  staged.close()
  assert (tmp_path / "a").read_text() == "1"


def test_files_grow_on_their_way_to_a_store(bucket, monkeypatch):
  fill(bucket, "a", "other")
  put = []
  store, _ = storage._open(bucket)
  original = store.put
  monkeypatch.setattr(
    store, "put", lambda here, there: put.append([os.path.basename(h) for h in here]) or original(here, there)
  )
  staged = storage.Staged(bucket, "a", "b")
  (staged.here / "sub").mkdir()
  for name in ("a", "b", "sub/c"):
    with (staged.here / name).open("a") as file:
      file.write("1")
  staged.put()
  with (staged.here / "a").open("a") as file:
    file.write("2")
  staged.put()
  staged.close()
  assert below(bucket) == {"a": b"a12", "b": b"1", "sub/c": b"1", "other": b"other"}
  assert put == [["a", "b", "c"], ["a"], []] and not staged.here.exists()


def test_what_cannot_be_put_leaves_nothing_behind(store):
  staged = storage.Staged(storage.path("gs://no_bucket/run"))
  (staged.here / "a").write_text("1")
  with pytest.raises(RunError, match="gs://no_bucket/run: FileNotFoundError"):
    staged.close()
  assert not staged.here.exists()
