import os

import numpy as np
import pytest

from lfr_darts_jax import reading
from lfr_darts_jax.errors import UsageError

MOST = 200_000


@pytest.mark.parametrize(
  "content,message",
  [
    (b"\xff{}", "byte 0 is not UTF-8"),
    (b" " * (MOST + 1), "more than 200000 bytes"),
    (b"", "Expecting value"),
    (b'{"a": 1', "delimiter"),
    (b"[" * MOST, "nested too deeply"),
    (b'{"a":' * (MOST // 5), "nested too deeply"),
    (b'{"a": ' + b"1" * 10_000 + b"}", "digits"),
    (b"[]", "allowed is a JSON object"),
    (b'{"a": NaN}', "NaN is no number"),
    (b'{"a": -Infinity}', "-Infinity is no number"),
    (b'{"b": {"a": 1, "a": 2}}', "the key 'a' stands twice"),
    (rb'{"a": "\ud83d"}', "surrogate"),
    (rb'{"\udc08": 1}', "surrogate"),
  ],
)
def test_what_is_refused(tmp_path, content, message):
  path = tmp_path / "x.json"
  path.write_bytes(content)
  with pytest.raises(UsageError, match=message) as error:
    reading.read_json(path, MOST)
  assert str(error.value).startswith(str(path)) and "allowed" in str(error.value)


def test_what_is_read(tmp_path):
  path = tmp_path / "x.json"
  path.write_text(r'{"cat": "\ud83d\udc08", "n": [1, 0.5, null]}', encoding="utf-8")
  assert reading.read_json(path, 1000) == {"cat": "\U0001f408", "n": [1, 0.5, None]}
  assert reading.parse_json("[-Infinity]", "metrics", allow_nan=True) == [-float("inf")]


def test_a_pipe_and_a_folder_are_no_files(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  for path in (tmp_path / "pipe", tmp_path):
    with pytest.raises(UsageError, match="is no file"):
      reading.read_text(path, 10)


def test_a_file_that_cannot_be_read(tmp_path, monkeypatch):
  path = tmp_path / "x"
  path.write_text("")
  monkeypatch.setattr(type(path), "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
  with pytest.raises(UsageError, match="x: Permission denied; allowed"):
    reading.read_text(path, 10)


def nested(levels):
  value = 1
  for _ in range(levels):
    value = [value]
  return value


@pytest.mark.parametrize(
  "value", [True, None, "1", {}, [1], [[1, 2], [3]], [[1, "a"]], [1, None], nested(900), 1 << 70, [1 << 100_000]]
)
def test_what_are_no_numbers(value):
  with pytest.raises(UsageError, match="x: .*; allowed are numbers"):
    reading.numbers(value, "x")


@pytest.mark.parametrize("value", [[1, 2, -1], [1, 2, float("nan")], [1, 2, float("inf")], [1, 2], [[1, 2, 3]]])
def test_bounds_and_shapes_of_numbers(value):
  with pytest.raises(UsageError, match=r"x: .*; allowed are numbers from 0 in lists of shape \[3\]"):
    reading.numbers(value, "x", (3,), low=0)


def test_what_are_numbers():
  np.testing.assert_array_equal(reading.numbers([[1, 2.5]], "x", (1, 2), low=0), [[1, 2.5]])
  assert np.isnan(reading.numbers(float("nan"), "x"))
  assert reading.numbers(3, "x", integers=True) == 3
  with pytest.raises(UsageError, match="x: 3.0; allowed are integers"):
    reading.numbers(3.0, "x", integers=True)
