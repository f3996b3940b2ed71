"""Literals of Python out of any text, read token by token, with the places where they stand; nothing is executed."""

import ast
from collections.abc import Callable, Sequence
import io
import tokenize
from typing import Any, NamedTuple
import warnings

from lfr_darts_jax.errors import short
from lfr_darts_jax.search_space.cell_spec import MAX_NODES, GenotypeError

# Of one literal: a genotype of 64 full cells takes half of the tokens.
MAX_CHARACTERS, MAX_TOKENS, MAX_DEPTH = 1_000_000, 100_000, 12
ALLOWED = "allowed are lists, tuples, strings, integers, None and range"
PASSED_OVER = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT)
CLOSING = {"(": ")", "[": "]", "{": "}"}
CONSTANTS = {"None": None, "True": True, "False": False}
LARGEST = MAX_NODES + 2  # State of a range.


class Items(list[Any]):
  """A list or tuple that was read.

  Attributes:
    places: where its items stand, each such as "line 1, column 3".
    begins: where itself does.
  """

  def __init__(self, items: list[Any], places: list[str], begins: str):
    """Takes the items and the attributes."""
    super().__init__(items)
    self.places, self.begins = places, begins


class Call(NamedTuple):
  """A call that was read and not made.

  Attributes:
    name: of what is called, behind the last dot.
    arguments: without names.
    keywords: by name.
    begins: where the call does.
  """

  name: str
  arguments: Items
  keywords: dict[str, Any]
  begins: str

  def bound(self, names: Sequence[str]) -> dict[str, Any]:
    """The arguments by name, those without one by the names in their order.

    Raises:
      GenotypeError: where one is given twice, or they are too many.
    """
    own = dict(zip(names, self.arguments, strict=False))
    twice = own.keys() & self.keywords.keys()
    if twice or len(self.arguments) > len(names):
      what = f"{min(twice)} is given twice" if twice else f"{len(self.arguments)} arguments"
      raise GenotypeError(f"{self.begins}: {what}; allowed are {', '.join(names)}")
    return own | self.keywords


def place(text: str, offset: int) -> str:
  """Where a character stands in a text, such as "line 1, column 3"."""
  return "line {}, column {}".format(*position(text, offset))


def position(text: str, offset: int) -> tuple[int, int]:
  """Line and column of a character, both counted from 1."""
  return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def begins(value: Any, item: int | None = None) -> str:
  """The beginning of a message: where a list stands, or one of its items; nothing where that is not known."""
  if not isinstance(value, Items):
    return ""
  return f"{value.begins if item is None else value.places[item]}: "


def read(text: str, start: int, is_call: Callable[[str], bool] = lambda name: False) -> Any:
  """Reads one literal; what stands behind it is not looked at.

  Args:
    text: the text.
    start: offset of its first character.
    is_call: whether something of that name may be called in it.

  Returns:
    Strings, numbers, None, bools; `Items` for lists, tuples and ranges; dicts with strings as keys; `Call`s.

  Raises:
    GenotypeError: with place, what was met there, and what is allowed.
  """
  return _Reader(text, start, is_call).value(0)


class _Reader:
  def __init__(self, text: str, start: int, is_call: Callable[[str], bool]):
    self._begins, self._is_call = place(text, start), is_call
    self._line, self._column = position(text, start)
    self._tokens = tokenize.generate_tokens(io.StringIO(text[start : start + MAX_CHARACTERS]).readline)
    self._ahead: list[tokenize.TokenInfo] = []
    self._left = MAX_TOKENS

  def _peek(self, further: int = 0) -> tokenize.TokenInfo:
    """A token that is not taken yet; fetched no sooner, since behind the literal there may be anything."""
    while len(self._ahead) <= further:
      self._left -= 1
      try:
        token = next(self._tokens)
      except (StopIteration, SyntaxError, ValueError, tokenize.TokenError):
        token = None
      if token is None or token.type == tokenize.ENDMARKER or not self._left:
        raise GenotypeError(f"{self._begins}: what begins here can't be read to its end; {ALLOWED}")
      self._ahead += [] if token.type in PASSED_OVER else [token]
    return self._ahead[further]

  def _take(self) -> tokenize.TokenInfo:
    token = self._peek()
    del self._ahead[0]
    return token

  def _place(self, token: tokenize.TokenInfo) -> str:
    line, column = token.start
    return f"line {self._line + line - 1}, column {column + (self._column if line == 1 else 1)}"

  def _refusal(self, token: tokenize.TokenInfo) -> GenotypeError:
    return GenotypeError(f"{self._place(token)}: {short(token.string)}; {ALLOWED}")

  def value(self, depth: int) -> Any:
    token = self._take()
    if depth > MAX_DEPTH:
      raise GenotypeError(f"{self._place(token)}: nested too deeply; allowed are lists of pairs")
    if token.type == tokenize.NAME:
      return self._named(token, depth)
    if token.string == "{":
      return self._dictionary(depth)
    if token.string in CLOSING:
      return self._items(token, depth)
    if token.type in (tokenize.NUMBER, tokenize.STRING):
      return self._constant(token)
    if token.string == "-" and self._peek().type == tokenize.NUMBER:
      return self._constant(self._take(), "-")
    raise self._refusal(token)

  def _constant(self, token: tokenize.TokenInfo, sign: str = "") -> str | int | float:
    try:
      with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # An odd escape in a string is worth no second line.
        value = ast.literal_eval(sign + token.string)
    except (SyntaxError, ValueError, MemoryError):
      value = None
    if not isinstance(value, (str, int, float)):
      raise self._refusal(token)
    return value

  def _items(self, opening: tokenize.TokenInfo, depth: int) -> Any:
    """A list or tuple, from its opening bracket on; in round ones a single value without a comma is that value."""
    closing, items, comma = CLOSING[opening.string], Items([], [], self._place(opening)), False
    while self._peek().string != closing:
      items.places.append(self._place(self._peek()))
      items.append(self.value(depth + 1))
      comma = self._separated(closing)
    self._take()
    return items[0] if closing == ")" and len(items) == 1 and not comma else items

  def _dictionary(self, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while self._peek().string != "}":
      token = self._take()
      key = self._constant(token) if token.type == tokenize.STRING else None
      if not isinstance(key, str) or key in found or self._take().string != ":":
        raise self._refusal(token)
      found[key] = self.value(depth + 1)
      self._separated("}")
    self._take()
    return found

  def _separated(self, closing: str) -> bool:
    """Whether there is a comma, which is taken, and not the closing bracket."""
    if self._peek().string == closing:
      return False
    token = self._take()
    if token.string != ",":
      raise self._refusal(token)
    return True

  def _named(self, token: tokenize.TokenInfo, depth: int) -> Any:
    """What a name stands for, or the call of something that has, perhaps, a dotted name."""
    name = token.string
    if name in CONSTANTS:
      return CONSTANTS[name]
    while self._peek().string == ".":
      self._take()
      name = self._take().string
    if self._peek().string != "(" or not (name in CALLS or self._is_call(name)):
      raise self._refusal(token)
    call = self._call(token, name, depth)
    if name not in CALLS:
      return call
    value = None if call.keywords else CALLS[name](call.arguments)
    if value is None:
      raise GenotypeError(f"{self._place(token)}: {name}(...) of other arguments than integers up to {LARGEST}")
    return value

  def _call(self, token: tokenize.TokenInfo, name: str, depth: int) -> Call:
    call = Call(name, Items([], [], self._place(self._take())), {}, self._place(token))
    while self._peek().string != ")":
      first = self._peek()
      keyword = first.type == tokenize.NAME and self._peek(1).string == "="
      if keyword:
        self._take(), self._take()
        if first.string in call.keywords:
          raise GenotypeError(f"{self._place(first)}: {first.string} stands there twice; allowed is once")
      at, value = self._place(self._peek()), self.value(depth + 1)
      if keyword:
        call.keywords[first.string] = value
      else:
        call.arguments.places.append(at)
        call.arguments.append(value)
      self._separated(")")
    self._take()
    return call


def _range(arguments: Items) -> Items | None:
  small = all(type(a) is int and abs(a) <= LARGEST for a in arguments)
  if not small or len(arguments) not in (1, 2):
    return None
  found = list(range(*arguments))
  return Items(found, [arguments.begins] * len(found), arguments.begins)


def _only(kind: type) -> Callable[[Items], Any]:
  return lambda arguments: arguments[0] if len(arguments) == 1 and isinstance(arguments[0], kind) else None


# What is computed: ranges, what makes lists of them, and what NumPy writes for integers and strings.
CALLS: dict[str, Callable[[Items], Any]] = {
  "range": _range,
  "list": _only(Items),
  "tuple": _only(Items),
  "int": _only(int),
  "int32": _only(int),
  "int64": _only(int),
  "str_": _only(str),
}
