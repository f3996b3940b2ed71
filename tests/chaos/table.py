"""The outcome of a campaign as a Markdown table."""

from collections.abc import Iterable
import statistics
from typing import Any

from tests.chaos.points import POINTS
from tests.chaos.process import ANY_TIME

HEAD = (
  "killed at",
  "kills",
  "of which SIGTERM, SIGINT",
  "same end",
  "lost, median",
  "lost, most",
  "of it unsaved, most",
)


def lines(reference: dict[str, Any], trials: Iterable[dict[str, Any]]) -> list[str]:
  """A summary, and a row for every point at which a run was killed."""
  kills = [{**kill, "same": not outcome["problems"]} for outcome in trials for kill in outcome["kills"]]
  same = sum(kill["same"] for kill in kills)
  text = [
    f"{len(kills)} kills, {same} in runs that ended the same. An undisturbed run takes {reference['cold']} s without "
    f"compiled programs and {reference['warm']} s with them, and then saves every {reference['gap']} s or oftener.",
    "",
    _row(HEAD),
    "|---" * len(HEAD) + "|",
  ]
  for point in (*POINTS, ANY_TIME):
    here = [kill for kill in kills if kill["point"] == point]
    if here:
      text.append(_row([point, *_figures(here)]))
  return [*text, _row(["all", *_figures(kills)])] if kills else text


def _figures(kills):
  lost = [kill["lost"] for kill in kills]
  return (
    len(kills),
    sum(kill["signal"] != "SIGKILL" for kill in kills),
    sum(kill["same"] for kill in kills),
    f"{statistics.median(lost):.1f} s",
    f"{max(lost):.1f} s",
    f"{max(kill['unsaved'] for kill in kills):.1f} s",
  )


def _row(cells):
  return f"| {' | '.join(map(str, cells))} |"
