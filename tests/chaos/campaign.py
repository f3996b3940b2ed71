"""Many trials, and a log that survives whatever ends them."""

from collections.abc import Callable
import concurrent.futures
import itertools
import json
import pathlib
import shutil
import tempfile
from typing import Any

from lfr_darts_jax.runtime.paths import write_atomically
from tests.chaos import compare, lost, trial
from tests.chaos.process import BUDGET, Run


class Campaign:
  """Trials against one reference, in one directory.

  Attributes:
    reference: what its undisturbed runs measured: `cold` and `warm` seconds, and the longest `gap` between checkpoints.
    trials: what `trial.execute` returned, by index.
  """

  def __init__(self, directory: pathlib.Path, seed: int):
    """Opens a directory; the campaign goes on where the log in it ends.

    Raises:
      ValueError: where the log is of another seed.
    """
    self._directory, self._seed, self._log = directory.absolute(), seed, directory / "log.jsonl"
    lines = [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []
    self.reference: dict[str, Any] = lines[0] if lines else {}
    self.trials: dict[int, dict[str, Any]] = {line["trial"]: line for line in lines[1:]}
    if self.reference.get("seed", seed) != seed:
      raise ValueError(f"{self._log} is of seed {self.reference['seed']}, not {seed}")

  @property
  def kills(self) -> int:
    """Kills so far."""
    return sum(len(outcome["kills"]) for outcome in self.trials.values())

  def measure(self) -> None:
    """Runs the reference, unless the log has it: with a cold cache, and with a warm one, which must not differ.

    Raises:
      RuntimeError: where they do, or one fails.
    """
    if self.reference:
      return
    self.reference = {"seed": self._seed}
    for name in ("cold", "warm"):
      workdir = self._directory / name
      shutil.rmtree(workdir, ignore_errors=True)
      run = self._run(workdir, "--config.checkpoint.interval=0", "--config.checkpoint.keep=1000")
      process = run.go_on()
      if process.status:
        raise RuntimeError(f"the undisturbed run ended with status {process.status}: {process.errors}")
      self.reference[name] = round(process.ended - process.began, 1)
    differences = compare.differences(self._directory / "warm", self._directory / "cold")
    if differences:
      raise RuntimeError(f"two undisturbed runs differ: {differences}")
    saved = sorted([process.began, *lost.commits(run.workdir)])
    self.reference["gap"] = round(max(after - before for before, after in itertools.pairwise(saved)), 2)
    self._write()

  def go_on(self, kills: int, jobs: int, tell: Callable[[str], object] = print) -> None:
    """Runs trials, several at a time, until there are so many kills."""
    rest = (index for index in itertools.count() if index not in self.trials)
    pending: set[concurrent.futures.Future] = set()
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    while self.kills < kills or pending:
      if self.kills < kills:
        pending |= {pool.submit(self._try, next(rest)) for _ in range(jobs - len(pending))}
      done, pending = concurrent.futures.wait(pending, return_when=concurrent.futures.FIRST_COMPLETED)
      for future in done:
        outcome = future.result()
        self.trials[outcome["trial"]] = outcome
        self._write()
        tell(f"trial {outcome['trial']}: {self.kills} kills so far, {outcome['problems'] or 'the same end'}")

  def _try(self, index):
    # One that the last process of the campaign has left unfinished may still be running.
    workdir = pathlib.Path(tempfile.mkdtemp(prefix=f"trial_{index}_", dir=self._directory))
    outcome = trial.execute(trial.draw(self._seed, index), self._run(workdir / "run"), self._directory / "warm")
    if not outcome["problems"]:
      shutil.rmtree(workdir)
    return {"trial": index, **outcome}

  def _run(self, workdir, *arguments):
    return Run(workdir, (*BUDGET, *arguments), self._directory / "cache", self.reference.get("warm", 0.0))

  def _write(self):
    lines = [self.reference, *(self.trials[index] for index in sorted(self.trials))]
    write_atomically(self._log, "".join(json.dumps(line) + "\n" for line in lines))
