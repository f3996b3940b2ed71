import pathlib
import shutil
import subprocess

import pytest

from lfr_darts_jax.runtime import checkpoint
from tests import damage

# FIPS 180-2, appendix B.1.
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "sub").mkdir()
  (tmp_path / "a").write_text("abc")
  (tmp_path / "sub" / "b").write_bytes(bytes(range(256)))
  checkpoint.write_sums(tmp_path)
  return tmp_path


def test_whole(folder):
  assert (folder / "SHA256SUMS").read_text().splitlines()[0] == f"{ABC}  a"
  assert checkpoint.fault(folder) is None
  (folder / ".DS_Store").write_text("later")
  assert checkpoint.fault(folder) is None


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_other_programs_read_them(folder):
  command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
  assert subprocess.run(command, cwd=folder).returncode == 0
  damage.flip(folder / "sub" / "b")
  assert subprocess.run(command, cwd=folder, capture_output=True).returncode == 1


@pytest.mark.parametrize("name", ["a", "sub/b", "SHA256SUMS"])
def test_every_flipped_byte_is_noticed(folder, name):
  whole = (folder / name).read_bytes()
  for at in range(len(whole)):
    damage.flip(folder / name, at)
    assert checkpoint.fault(folder) is not None, at
    (folder / name).write_bytes(whole)


def test_every_truncation_of_the_sums_is_noticed(folder):
  whole = (folder / "SHA256SUMS").read_bytes()
  for length in range(len(whole)):
    (folder / "SHA256SUMS").write_bytes(whole[:length])
    assert checkpoint.fault(folder) == "SHA256SUMS is incomplete", length


@pytest.mark.parametrize("name", ["/dev/zero", "../outside", "link", "device", "sub", "n" * 300, "\0"])
def test_only_the_folders_own_files_are_read(folder, name):
  (folder.parent / "outside").write_text("abc")
  (folder / "link").symlink_to(folder.parent / "outside")
  (folder / "device").symlink_to("/dev/zero")
  (folder / "SHA256SUMS").write_text(f"{ABC}  {name}\n# 1 files\n")
  assert checkpoint.fault(folder) in (f"{name} is missing", f"{folder / name} can't be read: File name too long")


def test_what_is_wrong_in_words(folder):
  (folder / "sub" / "b").unlink()
  assert checkpoint.fault(folder) == "sub/b is missing"
  (folder / "a").write_text("abd")
  assert checkpoint.fault(folder) == "a is not as it was written"
  (folder / "SHA256SUMS").unlink()
  assert checkpoint.fault(folder) == "SHA256SUMS is missing"


def test_a_file_that_cannot_be_read(folder, monkeypatch):
  def fail(path, *unused):
    raise OSError(5, "Input/output error", str(path))

  monkeypatch.setattr(pathlib.Path, "open", fail)
  assert checkpoint.fault(folder) == f"{folder}/SHA256SUMS can't be read: Input/output error"
