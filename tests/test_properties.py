"""Whatever a genotype, a config or a command line holds: it comes back as it was, or is refused in one clear line."""

import collections
import json
import shutil
import warnings

from absl import flags
import hypothesis
import pytest

from lfr_darts_jax import config as schema, main
from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.report import page, run_data
from lfr_darts_jax.search_space import darts_format, formats
from tests import runs, strategies

DEFAULTS = schema.flatten(schema.get_config())


def many(long):
  """The same test with a few examples, the same ones each time, and as a long one with many, others each time."""
  return pytest.mark.parametrize("examples", [100, pytest.param(long, marks=pytest.mark.long)])


def explore(strategy, examples, accept):
  """Tries examples; checks that many are accepted and many refused.

  Args:
    strategy: what to draw.
    examples: how many.
    accept: takes one and checks what it gives; raises UsageError where it is refused.
  """
  outcomes = collections.Counter()

  @hypothesis.settings(
    max_examples=examples,
    deadline=None,
    database=None,
    derandomize=examples <= 100,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategy)
  def one(example):
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("error")
        accept(example)
    except UsageError as error:
      line = str(error)
      assert line.isprintable() and len(line) < 2000
      outcomes["refused"] += 1
    else:
      outcomes["accepted"] += 1

  one()
  assert sum(outcomes.values()) >= examples
  assert min(outcomes["accepted"], outcomes["refused"]) > examples / 8, outcomes


def accept_genotype(text):
  genotype = formats.parse(text)
  assert formats.parse(genotype.to_json()) == genotype
  return genotype


@many(10_000)
def test_genotypes_in_json(examples):
  explore(strategies.json_formats(), examples, accept_genotype)


@many(10_000)
def test_genotypes_of_darts(examples):
  def accept(text):
    genotype = accept_genotype(text)
    assert formats.parse(darts_format.to_darts(genotype)) == genotype

  explore(strategies.darts_formats(), examples, accept)


@many(10_000)
def test_genotypes_as_they_are_printed(examples):
  def accept(text):
    genotype = accept_genotype(text)
    assert formats.parse("\n".join(map(str, genotype.cells))) == formats.parse(repr(genotype)) == genotype

  explore(strategies.printed_formats(), examples, accept)


@many(10_000)
def test_flat_configs(examples):
  def accept(flat):
    config = schema.unflatten(flat)
    assert schema.flatten(config) == DEFAULTS | flat
    assert schema.unflatten(json.loads(json.dumps(schema.flatten(config)))) == config

  explore(strategies.flat_configs(), examples, accept)


@many(10_000)
def test_command_lines(examples):
  def accept(arguments):
    values = flags.FlagValues()
    main.parse_flags(["lfr-darts", *arguments], values)
    schema.validate(values.config)
    flat = schema.flatten(values.config)
    assert schema.flatten(schema.unflatten(flat)) == flat

  explore(strategies.arguments(), examples, accept)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  return runs.write(tmp_path_factory.mktemp("finished"), iterations=1, plan="darts")


def spoil(workdir, change):
  """A copy of a work directory with one file changed."""
  name, text = change
  copy = workdir.with_name("spoiled")
  shutil.rmtree(copy, ignore_errors=True)
  shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns("tensorboard"))
  (copy / name).write_text(text, errors="surrogatepass")
  return copy


@many(3_000)
def test_work_directories(finished, examples):
  def accept(change):
    read = run_data.read(spoil(finished, change))
    assert read.status and {cell.name for cell in read.cells} == {"normal", "reduction"}

  explore(strategies.changes(finished), examples, accept)


@pytest.mark.long
def test_pages_of_work_directories(finished):
  def accept(change):
    page.write(spoil(finished, change))

  explore(strategies.changes(finished), 60, accept)
