import errno
import os

import pytest

from lfr_darts_jax import files


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
