import os
from typing import Annotated

import msgspec
import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import json_io

MOST = 200_000


class Thing(msgspec.Struct):
  size: Annotated[int, msgspec.Meta(ge=0)]
  name: str = ""


@pytest.mark.parametrize(
  "content,message",
  [
    (b"\xff{}", "invalid"),
    (b" " * (MOST + 1), "more than 200000 bytes"),
    (b"", "truncated"),
    (b'{"size": 1', "truncated"),
    (b"[" * MOST, "nested too deeply|Expected `object`"),
    (b'{"size": {"a":' + b"[" * (MOST // 2) + b"}", "Expected `int`"),
    (b"[]", "Expected `object`, got `array`"),
    (b'{"size": NaN}', "malformed"),
    (b'{"size": -1}', r"Expected `int` >= 0 - at `\$.size`"),
    (b'{"size": true}', r"Expected `int`, got `bool` - at `\$.size`"),
    (b'{"name": "a"}', "missing required field `size`"),
    (rb'{"size": 1, "name": "\ud83d"}', "surrogate|truncated|invalid"),
  ],
)
def test_what_is_refused(tmp_path, content, message):
  path = tmp_path / "x.json"
  path.write_bytes(content)
  with pytest.raises(UsageError, match=message) as error:
    json_io.read_json(path, Thing, MOST)
  assert str(error.value).startswith(str(path)) and "allowed" in str(error.value)


def test_nesting_without_a_schema_is_bounded():
  with pytest.raises(UsageError, match="x: nested too deeply; allowed is JSON of fewer levels"):
    json_io.parse(b"[" * MOST, list, "x")


def test_what_is_read(tmp_path):
  path = tmp_path / "x.json"
  path.write_text(r'{"size": 3, "name": "\ud83d\udc08", "later": 1}', encoding="utf-8")
  assert json_io.read_json(path, Thing, 1000) == Thing(3, "\U0001f408")
  assert json_io.dumps(Thing(1)) == '{\n "size": 1,\n "name": ""\n}\n'
  assert json_io.convert({"size": 2}, Thing, "x") == Thing(2)


def test_a_pipe_and_a_folder_are_no_files(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  for path in (tmp_path / "pipe", tmp_path):
    with pytest.raises(UsageError, match="is no file"):
      json_io.read_text(path, 10)


def test_text_that_is_no_utf_8(tmp_path):
  (tmp_path / "x").write_bytes(b"a\xff")
  with pytest.raises(UsageError, match="x: byte 1 is not UTF-8; allowed is a text file in it"):
    json_io.read_text(tmp_path / "x", 10)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
  path = tmp_path / "x"
  path.write_text("")
  monkeypatch.setattr(type(path), "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
  with pytest.raises(UsageError, match="x: Permission denied; allowed"):
    json_io.read_text(path, 10)
