import os

import pytest

from lfr_darts_jax.files import write_atomically


def test_a_failed_write_leaves_the_old_text(tmp_path, monkeypatch):
  path = tmp_path / "a.json"
  write_atomically(path, "old")

  def fail(*unused):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(OSError, match="disk full"):
    write_atomically(path, "new")
  assert path.read_text() == "old"
