import errno
import os

import pytest

from lfr_darts_jax import files
from lfr_darts_jax import storage


def test_a_failed_write_leaves_the_old_text(tmp_path, monkeypatch):
  path = tmp_path / "a.json"
  files.write_atomically(path, "old")

  def fail(*unused):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    files.write_atomically(path, "new")
  assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.json"]


def test_no_space(tmp_path):
  path = tmp_path / "a.json"
  files.write_atomically(path, "old")
  (tmp_path / ".a.json.partial").symlink_to("/dev/full")
  with pytest.raises(OSError) as raised:
    files.write_atomically(path, "new")
  assert raised.value.errno == errno.ENOSPC
  assert (
    files.explain(raised.value) == f"{path}: no space left on device; the same command continues once there is space"
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
  assert files.explain(error) == text


def test_errors_get_the_name_that_they_lack(tmp_path):
  with pytest.raises(OSError, match="'a'"), files.writing(tmp_path / "b"):
    raise OSError(errno.ENOSPC, "Full", "a")
  with pytest.raises(OSError, match=f"'{tmp_path}/b'"), files.writing(tmp_path / "b"):
    raise OSError(errno.ENOSPC, "Full")
  with pytest.raises(OSError, match="^disk full$"), files.writing(tmp_path / "b"):
    raise OSError("disk full")


def test_what_dead_processes_left_goes(tmp_path):
  (tmp_path / ".a.partial").write_text("")
  (tmp_path / ".7.partial" / "sub").mkdir(parents=True)
  (tmp_path / "a.partial").write_text("")
  (tmp_path / ".a").write_text("")
  files.remove_partials(tmp_path)
  assert sorted(os.listdir(tmp_path)) == [".a", "a.partial"]
  files.remove_partials(tmp_path / "nowhere")


def test_an_object_is_written_in_one_piece(bucket):
  files.write_atomically(bucket / "a.json", "\u00e9")
  files.write_atomically(bucket / "a.json", b"\x00")
  assert (bucket / "a.json").read_bytes() == b"\x00" and storage.names(bucket) == ["a.json"]


def make(folder, text="whole"):
  with files.making(folder) as here:
    (here / "sub").mkdir()
    (here / "sub" / "a").write_text(text)
    (here / "b").write_text(text)


def test_a_folder_is_made_and_moved_and_removed(tmp_path, bucket):
  for place in (tmp_path, bucket):
    make(place / "5")
    make(place / "6")
    assert sorted(files.whole(place)) == ["5", "6"] and (place / "5" / "sub" / "a").read_text() == "whole"
    files.move(place / "5", place / "5.broken")
    files.remove(place / "6")
    assert storage.names(place) == files.whole(place) == ["5.broken"]


def test_an_error_leaves_no_folder(tmp_path, bucket):
  for place in (tmp_path, bucket):
    with pytest.raises(ValueError, match="in between"), files.making(place / "5") as here:
      (here / "a").write_text("")
      raise ValueError("in between")
    assert storage.names(place) == []


def test_no_space_on_the_way_to_a_store_names_what_is_full(bucket):
  with pytest.raises(OSError, match="lfr_darts_"), files.making(bucket / "5"):
    raise OSError(errno.ENOSPC, "Full")


class Killed(BaseException):
  pass


@pytest.mark.parametrize("calls", range(3))
def test_a_process_killed_while_it_makes_a_folder_in_a_store(bucket, monkeypatch, calls):
  _dies_after(monkeypatch, calls, "write", "put", "remove")
  with pytest.raises(Killed):
    make(bucket / "5")
  monkeypatch.undo()
  assert files.whole(bucket) == ([".5.unfinished"] if calls else [])
  files.remove_partials(bucket)
  assert storage.names(bucket) == []


def test_a_process_killed_with_half_of_the_files_put(bucket, monkeypatch):
  put = storage.put

  def half(source, target):
    put(source, target, [source / "b"])
    raise Killed

  monkeypatch.setattr(storage, "put", half)
  with pytest.raises(Killed):
    make(bucket / "5")
  assert sorted(storage.names(bucket)) == [".5.unfinished", "5"] and "5" not in files.whole(bucket)
  files.remove_partials(bucket)
  assert storage.names(bucket) == []


@pytest.mark.parametrize("calls", range(3))
def test_a_process_killed_while_it_removes_a_folder_from_a_store(bucket, monkeypatch, calls):
  make(bucket / "5")
  _dies_after(monkeypatch, calls, "write", "remove", "remove")
  with pytest.raises(Killed):
    files.remove(bucket / "5")
  monkeypatch.undo()
  assert ("5" in files.whole(bucket)) == (calls == 0)
  files.remove_partials(bucket)
  assert storage.names(bucket) == ([] if calls else ["5"])


def _dies_after(monkeypatch, calls, *names):
  """Lets so many of these calls of the store happen."""
  happened = []
  for name in set(names):
    original = getattr(storage, name)

    def call(*arguments, original=original, name=name):
      if len(happened) == calls:
        raise Killed
      happened.append(name)
      assert happened == list(names[: len(happened)])
      return original(*arguments)

    monkeypatch.setattr(storage, name, call)


def test_what_a_directory_of_dead_processes_left_deletes_nothing_in_a_store(bucket):
  for name in (".a.json.partial", "a.json", ".5.partial/b", "5/b", ".unfinished", "x.unfinished"):
    storage.write(bucket / name, b"")
  before = storage.names(bucket)
  files.remove_partials(bucket)
  assert storage.names(bucket) == before
  files.remove_partials(bucket / "nowhere")
