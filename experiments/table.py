"""What a table of a study is, and how a figure with its interval reads in it."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments import figures


class Table(NamedTuple):
  """A table: what it shows, its columns, and its rows as text."""

  title: str
  note: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]


def interval_text(interval: figures.Interval | None, sign: str = "") -> str:
  """An estimate and its interval, with `sign` "+" always signed; "none yet" of too few seeds."""
  if interval is None:
    return "none yet"
  value, low, high = (f"{number:{sign}.2f}" for number in interval)
  return f"{value} [{low}, {high}]"
