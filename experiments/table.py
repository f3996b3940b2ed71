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


def interval_text(interval: figures.Interval | None) -> str:
  """An estimate and its interval; "none yet" of too few seeds."""
  return "none yet" if interval is None else f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
