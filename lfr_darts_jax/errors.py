"""The error of a user's input."""


class UsageError(ValueError):
  """Wrong input; its text is one line that names the field, the value and what is allowed."""
