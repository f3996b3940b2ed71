import errno
import importlib
import os
import pathlib

from etils import epath
import fsspec
import pytest

from lfr_darts_jax.errors import RunError, UsageError
from lfr_darts_jax.runtime import paths


def fill(folder, *names):
  for name in names:
    paths._put_object(folder / name, name.encode())


def below(folder):
  with paths.fetched(folder) as here:
    return {path.relative_to(here).as_posix(): path.read_bytes() for path in here.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["", "runs/a", "/runs/a", "a*[?", "gs:/a", pathlib.Path("a")])
def test_what_is_local(name):
  path = paths.path(name)
  assert type(path) is type(pathlib.Path()) and path == pathlib.Path(name) and paths.is_local(path)


def test_what_a_url_names(bucket):
  path = paths.path(f"{bucket}/run/")
  assert isinstance(path, epath.Path) and not paths.is_local(path)
  assert str(path / "a.json") == f"{bucket}/run/a.json" and paths.path(path) == path


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
    paths.path(name)


def test_a_package_that_is_not_there(monkeypatch):
  def fail(scheme):
    raise ImportError(scheme)

  monkeypatch.setattr(fsspec, "get_filesystem_class", fail)
  with pytest.raises(UsageError, match="s3://a/b: needs the package s3fs, which is missing; pip install s3fs"):
    paths.path("s3://a/b")


def test_the_home_directory_is_expanded(monkeypatch):
  monkeypatch.setenv("HOME", "/home/somebody")
  assert paths.path("~/runs") == pathlib.Path("/home/somebody/runs")


@pytest.mark.parametrize("name", ["~/runs", "~", "~nobody_of_this_name/runs"])
def test_a_home_directory_that_nobody_knows_makes_no_folder_of_that_name(name, monkeypatch):
  monkeypatch.delenv("HOME")
  monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # As where there is no entry of this user either.
  with pytest.raises(UsageError, match=f"{name}: this home directory is not known; allowed are paths without ~"):
    paths.path(name)


def test_the_extra_is_named(monkeypatch):
  monkeypatch.setattr(fsspec, "get_filesystem_class", lambda scheme: importlib.import_module("no_such_package"))
  with pytest.raises(UsageError, match=r"gs://a/b: needs the package gcsfs, .*pip install 'lfr-darts-jax\[gcs\]'"):
    paths.path("gs://a/b")


def test_tensorflow_is_not_asked_for(monkeypatch, bucket):
  monkeypatch.delenv("EPATH_USE_TF", raising=False)
  paths.path("gs://bucket/run")
  assert os.environ["EPATH_USE_TF"] == "false"


def test_names(tmp_path, bucket):
  (tmp_path / ".a").write_text("")
  (tmp_path / "5").mkdir()
  fill(bucket, ".a", "5/b/c", "5/d")
  for folder in (tmp_path, bucket):
    assert sorted(paths.names(folder)) == [".a", "5"]
    assert paths.names(folder / "nowhere") == paths.names(folder / ".a") == []


def test_files(tmp_path, bucket):
  (tmp_path / "a").write_text("")
  (tmp_path / "5").mkdir()
  fill(bucket, "a", "5/d")
  for folder in (tmp_path, bucket):
    assert [paths.is_file(folder / name) for name in ("a", "5", "nowhere")] == [True, False, False]


def test_another_process_is_seen_at_once(bucket):
  fill(bucket, "a")
  assert paths.names(bucket) == ["a"]
  other = fsspec.filesystem("gcs", skip_instance_cache=True)
  other.pipe_file(str(bucket / "b"), b"")
  assert paths.names(bucket) == ["a", "b"] and (bucket / "b").exists()
  other.rm(str(bucket / "a"))
  assert paths.names(bucket) == ["b"] and not (bucket / "a").exists()


def test_a_folder_is_put_and_fetched(tmp_path, bucket):
  (tmp_path / "sub").mkdir()
  (tmp_path / "sub" / "empty").write_bytes(b"")
  (tmp_path / "large").write_bytes(os.urandom(6_000_000))
  paths.put(tmp_path, bucket)
  assert below(bucket) == {"sub/empty": b"", "large": (tmp_path / "large").read_bytes()}
  with paths.fetched(tmp_path) as here:
    assert here == tmp_path
  with paths.fetched(bucket / "nowhere") as here:
    assert not list(here.iterdir())
  assert not here.exists()


def test_names_that_lead_out_of_a_folder_are_not_fetched(bucket, monkeypatch):
  fill(bucket, "a")
  store, _ = paths._open(bucket)
  names = ("a", "../a", "b/../../../a", "b//a", "./a", "b/..")
  # The emulator refuses such objects; the real one takes them.
  monkeypatch.setattr(store, "find", lambda base: [f"{base}/{name}" for name in names])
  assert below(bucket) == {"a": b"a"}


def test_what_is_removed_and_moved_is_no_neighbour(bucket):
  fill(bucket, "5/a", "5/b/c", "50/a", "5.b/a", "5a")
  paths.move(bucket / "5", bucket / "6")
  assert sorted(paths.names(bucket)) == ["5.b", "50", "5a", "6"]
  assert below(bucket / "6") == {"a": b"5/a", "b/c": b"5/b/c"}
  paths._remove_objects(bucket / "6")
  paths._remove_objects(bucket / "5")
  paths._remove_objects(bucket / "5a")
  assert sorted(paths.names(bucket)) == ["5.b", "50"]


def test_a_single_object_is_moved_like_a_folder(bucket):
  fill(bucket, "5")
  paths.move(bucket / "5", bucket / "5.broken")
  assert paths.names(bucket) == ["5.broken"] and (bucket / "5.broken").read_bytes() == b"5"


def test_a_place_that_can_be_written(bucket):
  paths.check_writable(bucket)
  assert paths.names(bucket) == []
  with pytest.raises(UsageError, match="workdir: gs://no_bucket/run can't be written .*; allowed is a place that can"):
    paths.check_writable(paths.path("gs://no_bucket/run"))


def test_whatever_a_store_raises_is_one_line_that_says_how_to_go_on(bucket, monkeypatch):
  store, _ = paths._open(bucket)

  def fail(*unused, **unused_too):
    raise LookupError("of its own")

  for name in ("ls", "pipe_file", "put", "find", "rm"):
    monkeypatch.setattr(store, name, fail)
  for call in (
    lambda: paths.names(bucket),
    lambda: paths._put_object(bucket / "a", b""),
    lambda: paths.put(pathlib.Path(__file__).parent, bucket, []),
    lambda: below(bucket),
    lambda: paths._remove_objects(bucket),
    lambda: paths.move(bucket, bucket),
  ):
    with pytest.raises(RunError, match=f"{bucket}.*: LookupError: of its own; the same command continues once"):
      call()


def test_no_space_for_what_is_fetched_is_an_error_of_the_disk(bucket, monkeypatch):
  def fail(*unused):
    raise OSError(errno.ENOSPC, "Full")

  monkeypatch.setattr(paths._open(bucket)[0], "get", fail)
  with pytest.raises(OSError, match="Full"):
    below(bucket)


def test_files_grow_where_they_are(tmp_path):
  staged = paths.Staged(tmp_path, "a")
  assert staged.here == tmp_path
  (staged.here / "a").write_text("1")
  staged.put()
  staged.close()
  assert (tmp_path / "a").read_text() == "1"


def test_files_grow_on_their_way_to_a_store(bucket, monkeypatch):
  fill(bucket, "a", "other")
  put = []
  store, _ = paths._open(bucket)
  original = store.put
  monkeypatch.setattr(
    store, "put", lambda here, there: put.append([os.path.basename(h) for h in here]) or original(here, there)
  )
  staged = paths.Staged(bucket, "a", "b")
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
  staged = paths.Staged(paths.path("gs://no_bucket/run"))
  (staged.here / "a").write_text("1")
  with pytest.raises(RunError, match="gs://no_bucket/run: FileNotFoundError"):
    staged.close()
  assert not staged.here.exists()


def test_a_failed_write_leaves_the_old_text(tmp_path, monkeypatch):
  path = tmp_path / "a.json"
  paths.write_atomically(path, "old")

  def fail(*unused):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    paths.write_atomically(path, "new")
  assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_no_space(tmp_path):
  path = tmp_path / "a.json"
  paths.write_atomically(path, "old")
  (tmp_path / ".a.json.partial").symlink_to("/dev/full")
  with pytest.raises(OSError) as raised:
    paths.write_atomically(path, "new")
  assert raised.value.errno == errno.ENOSPC
  assert (
    paths.explain(raised.value) == f"{path}: no space left on device; the same command continues once there is space"
  )
  assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
  "error,text",
  [
    (OSError(errno.ENOSPC, ""), "no space left on device; the same command continues once there is space"),
    (OSError(errno.EDQUOT, "", "a"), "a: disk quota exceeded; the same command continues once there is space"),
    (OSError(errno.EROFS, "", "a"), "a: read-only file system; the same command continues once it can be written"),
    (OSError(errno.EACCES, "Denied", "a"), "PermissionError: [Errno 13] Denied: 'a'"),
    (OSError("timed out"), "OSError: timed out"),
  ],
)
def test_errors_in_words(error, text):
  assert paths.explain(error) == text


def test_errors_get_the_name_that_they_lack(tmp_path):
  with pytest.raises(OSError, match="'a'"), paths.naming(tmp_path / "b"):
    raise OSError(errno.ENOSPC, "Full", "a")
  with pytest.raises(OSError, match=f"'{tmp_path}/b'"), paths.naming(tmp_path / "b"):
    raise OSError(errno.ENOSPC, "Full")
  with pytest.raises(OSError, match="^disk full$"), paths.naming(tmp_path / "b"):
    raise OSError("disk full")


def test_what_dead_processes_left_goes(tmp_path):
  (tmp_path / ".a.partial").write_text("")
  (tmp_path / ".7.partial" / "sub").mkdir(parents=True)
  (tmp_path / "a.partial").write_text("")
  (tmp_path / ".a").write_text("")
  paths.remove_partials(tmp_path)
  assert sorted(os.listdir(tmp_path)) == [".a", "a.partial"]
  paths.remove_partials(tmp_path / "nowhere")


def test_an_object_is_written_in_one_piece(bucket):
  paths.write_atomically(bucket / "a.json", "\u00e9")
  paths.write_atomically(bucket / "a.json", b"\x00")
  assert (bucket / "a.json").read_bytes() == b"\x00" and paths.names(bucket) == ["a.json"]


def make(folder, text="whole"):
  with paths.new_folder(folder) as here:
    (here / "sub").mkdir()
    (here / "sub" / "a").write_text(text)
    (here / "b").write_text(text)


def test_a_folder_is_made_and_moved_and_removed(tmp_path, bucket):
  for place in (tmp_path, bucket):
    make(place / "5")
    make(place / "6")
    assert sorted(paths.whole(place)) == ["5", "6"] and (place / "5" / "sub" / "a").read_text() == "whole"
    paths.move(place / "5", place / "5.broken")
    paths.remove(place / "6")
    assert paths.names(place) == paths.whole(place) == ["5.broken"]


def test_an_error_leaves_no_folder(tmp_path, bucket):
  for place in (tmp_path, bucket):
    with pytest.raises(ValueError, match="in between"), paths.new_folder(place / "5") as here:
      (here / "a").write_text("")
      raise ValueError("in between")
    assert paths.names(place) == []


def test_no_space_on_the_way_to_a_store_names_what_is_full(bucket):
  with pytest.raises(OSError, match="lfr_darts_"), paths.new_folder(bucket / "5"):
    raise OSError(errno.ENOSPC, "Full")


class Killed(BaseException):
  pass


@pytest.mark.parametrize("calls", range(3))
def test_a_process_killed_while_it_makes_a_folder_in_a_store(bucket, monkeypatch, calls):
  _dies_after(monkeypatch, calls, "_put_object", "put", "_remove_objects")
  with pytest.raises(Killed):
    make(bucket / "5")
  monkeypatch.undo()
  assert paths.whole(bucket) == ([".5.unfinished"] if calls else [])
  paths.remove_partials(bucket)
  assert paths.names(bucket) == []


def test_a_process_killed_with_half_of_the_files_put(bucket, monkeypatch):
  put = paths.put

  def half(source, target):
    put(source, target, [source / "b"])
    raise Killed

  monkeypatch.setattr(paths, "put", half)
  with pytest.raises(Killed):
    make(bucket / "5")
  assert sorted(paths.names(bucket)) == [".5.unfinished", "5"] and "5" not in paths.whole(bucket)
  paths.remove_partials(bucket)
  assert paths.names(bucket) == []


@pytest.mark.parametrize("calls", range(3))
def test_a_process_killed_while_it_removes_a_folder_from_a_store(bucket, monkeypatch, calls):
  make(bucket / "5")
  _dies_after(monkeypatch, calls, "_put_object", "_remove_objects", "_remove_objects")
  with pytest.raises(Killed):
    paths.remove(bucket / "5")
  monkeypatch.undo()
  assert ("5" in paths.whole(bucket)) == (calls == 0)
  paths.remove_partials(bucket)
  assert paths.names(bucket) == ([] if calls else ["5"])


def _dies_after(monkeypatch, calls, *names):
  """Lets so many of these calls of the store happen."""
  happened = []
  for name in set(names):
    original = getattr(paths, name)

    def call(*arguments, original=original, name=name):
      if len(happened) == calls:
        raise Killed
      happened.append(name)
      assert happened == list(names[: len(happened)])
      return original(*arguments)

    monkeypatch.setattr(paths, name, call)


def test_what_a_directory_of_dead_processes_left_deletes_nothing_in_a_store(bucket):
  for name in (".a.json.partial", "a.json", ".5.partial/b", "5/b", ".unfinished", "x.unfinished"):
    paths._put_object(bucket / name, b"")
  before = paths.names(bucket)
  paths.remove_partials(bucket)
  assert paths.names(bucket) == before
  paths.remove_partials(bucket / "nowhere")
