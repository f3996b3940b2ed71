from lfr_darts_jax import errors
from lfr_darts_jax.errors import UsageError


def test_control_characters_are_written_out_and_others_are_kept():
  assert str(UsageError("a\nb\u2028c \x1b[31m \udcff \U0001f408")) == r"a b c \x1b[31m \udcff " + "\U0001f408"


def test_a_long_text_keeps_both_ends():
  text = str(UsageError("config.data.name: " + "x" * 10**6 + "; allowed are y"))
  assert len(text) <= errors.MAX_LINE and text.startswith("config.data.name: xxx") and text.endswith("; allowed are y")


def test_values_in_messages():
  deep = []
  for _ in range(10_000):
    deep = [deep]
  assert errors.short("a\n") == r"'a\n'"
  assert errors.short("x" * 100) == "'" + "x" * 56 + "..."
  assert errors.short(deep) == "a value of type list that is too large to be shown"
  assert errors.short(1 << 100_000) == "a value of type int that is too large to be shown"


def test_a_name_that_is_near():
  assert errors.nearest("CIFAR10", ["mnist", "cifar10"]) == "; did you mean 'cifar10'?"
  assert errors.nearest("dog", ["Dog", "cat"]) == "; did you mean 'Dog'?"
  assert errors.nearest("bird", ["Dog", "cat"]) == ""


def test_of_many_names_the_first_are_listed():
  assert errors.listed(["a", "b", "c"], 2) == "'a', 'b' and 1 more" and errors.listed([]) == ""
  long = "x" * 100
  assert errors.listed([long], shown=repr) == repr(long) and len(errors.listed([long])) == errors.MAX_VALUE
