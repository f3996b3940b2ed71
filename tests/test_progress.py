import io
import sys

import pytest

from lfr_darts_jax.runtime import progress


@pytest.fixture
def clock(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  return now


def test_the_time_left_goes_by_the_measured_speed(clock, capsys):
  shown = progress.Progress()
  with shown.waiting("compiling"):
    clock[0] += 10
  assert capsys.readouterr().out == "compiling ...\ncompiling: 10 s\n"
  clock[0] += 10
  shown.advance(5, 10.0, 30, "here", "loss 1")  # Two seconds a step.
  clock[0] += 10
  shown.advance(5, 20.0, 25, "there", "loss 1")  # Four: three tenths of the way from two.
  assert capsys.readouterr().out == "here | 1 min 00 s left | loss 1\nthere | 1 min 05 s left | loss 1\n"


def test_lines_are_rare_where_stdout_is_no_terminal(clock, capsys):
  shown = progress.Progress("seed 1")
  clock[0] += 9
  shown.advance(1, 1.0, 39, "too soon", "loss 1")
  assert capsys.readouterr().out == ""
  clock[0] += 1
  shown.advance(1, 1.0, 38, "here", "loss 1")
  assert capsys.readouterr().out == "seed 1 | here | 38 s left | loss 1\n"
  with shown.waiting("short"):
    pass
  assert capsys.readouterr().out == "seed 1 | short ...\n"


def test_a_terminal_has_one_line_that_changes(clock, capsys, monkeypatch):
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
  shown = progress.Progress()
  monkeypatch.setenv("COLUMNS", "20")
  shown.advance(1, 1.0, 39, "one", "a")
  shown.advance(1, 1.0, 38, "two", "a line that would wrap")
  shown.say("stays")
  assert capsys.readouterr().out == "\r\x1b[Kone | 39 s left | a\r\x1b[Ktwo | 38 s left | a\r\x1b[Kstays\n"


def test_durations():
  assert [progress.duration(s) for s in (12.4, 185, 7620)] == ["12 s", "3 min 05 s", "2 h 07 min"]


class Bare:
  """What some put in the place of stdout."""

  def write(self, text):
    raise OSError("the terminal is gone")


@pytest.mark.parametrize("stdout", [None, Bare(), io.StringIO()])
def test_a_terminal_that_is_gone_ends_no_run(monkeypatch, stdout):
  if stdout is not None and hasattr(stdout, "close"):
    stdout.close()
  monkeypatch.setattr(sys, "stdout", stdout)
  shown = progress.Progress()
  with shown.waiting("compiling"):
    shown.advance(1, 1.0, 1, "here", "loss 1")
  shown.say("done")
