"""The errors whose text is for users: one line."""


class UsageError(ValueError):
  """Wrong input; its text is one line that names the field, the value and what is allowed."""


class RunError(RuntimeError):
  """What stopped a run that had begun rightly; its text is one line."""
