import json

import pytest

from lfr_darts_jax.errors import UsageError
from lfr_darts_jax.runtime import workdir as workdirs
from lfr_darts_jax.training import result
from tests import runs


def test_what_is_written_comes_back_and_other_sizes_are_refused(tmp_path):
  workdir = runs.write(tmp_path / "run")
  config, path = workdirs.load_config(workdir), workdir / workdirs.RESULT
  assert result.load(tmp_path, config) is None
  found = result.load(workdir, config)
  assert len(found.confusion) == config.data.num_classes and found.test_error > 0
  written = json.loads(path.read_text())
  for change, words in (
    ({"confusion": [*written["confusion"][:-1], written["confusion"][-1][:-1]]}, "confusion: rows of other sizes"),
    ({"confusion": written["confusion"][:-1]}, "confusion: 5 entries; the config allows 6"),
    ({"mean": [0.5, 0.5]}, "mean: 2 entries"),
  ):
    path.write_text(json.dumps(written | change))
    with pytest.raises(UsageError, match=words):
      result.load(workdir, config)
