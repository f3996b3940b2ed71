import sys

import pytest

from lfr_darts_jax import progress


@pytest.fixture
def clock(monkeypatch):
  now = [100.0]
  monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
  return now


def test_every_part_goes_by_its_own_speed_and_new_ones_by_all(clock, capsys):
  shown = progress.Progress({"build": 10.0, "search": 40.0, "train": 30.0})
  shown.skip("search", 20.0)
  with shown.waiting("build", 5.0, "compiling"):
    clock[0] += 10
  assert capsys.readouterr().out == "compiling ...\ncompiling: 10 s\n"
  # Builds take twice as long as forecast; nothing else is known yet.
  assert shown.left() == 2 * (5 + 20 + 30)
  clock[0] += 20
  shown.advance("search", 15.0, 30.0, "here", "loss 1")
  # 5 at 2, 5 at 2, and the training at (10 + 30) / (5 + 15).
  assert shown.left() == 5 * 2 + 5 * 2 + 30 * 2
  with shown.waiting("search", 5.0, "slow"):
    clock[0] += 60
  capsys.readouterr()
  # Search now goes at (30 + 60) / (15 + 5), the whole at (10 + 90) / (5 + 20).
  assert shown.left() == 5 * 2 + 30 * 4
  shown.advance("train", 10.0, 5.0, "train", "loss 1")
  assert shown.left() == 5 * 2 + 20 * 0.5


def test_lines_are_rare_where_stdout_is_no_terminal(clock, capsys):
  shown = progress.Progress({"search": 40.0})
  clock[0] += 9
  shown.advance("search", 1.0, 1.0, "too soon", "loss 1")
  assert capsys.readouterr().out == ""
  clock[0] += 1
  shown.advance("search", 1.0, 1.0, "here", "loss 1")
  assert capsys.readouterr().out == "here | 38 s left | loss 1\n"
  with shown.waiting("search", 1.0, "short"):
    pass
  assert capsys.readouterr().out == "short ...\n"


def test_a_terminal_has_one_line_that_changes(clock, capsys, monkeypatch):
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
  shown = progress.Progress({"search": 40.0})
  monkeypatch.setenv("COLUMNS", "20")
  shown.advance("search", 1.0, 1.0, "one", "a")
  shown.advance("search", 1.0, 1.0, "two", "a line that would wrap")
  shown.say("stays")
  assert capsys.readouterr().out == "\r\x1b[Kone | 39 s left | a\r\x1b[Ktwo | 38 s left | a\r\x1b[Kstays\n"


def test_durations():
  assert [progress.duration(s) for s in (12.4, 185, 7620)] == ["12 s", "3 min 05 s", "2 h 07 min"]
