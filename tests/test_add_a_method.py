"""What docs/add_a_method.md shows runs."""

import pathlib
import re
import subprocess
import sys

import pytest

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "add_a_method.md"


@pytest.mark.slow
def test_the_page_runs(tmp_path):
  (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
  assert code.count("\n") < 30
  (tmp_path / "cooled.py").write_text(code)
  command = [sys.executable, "cooled.py", str(tmp_path / "run"), "1"]
  done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines()[-1].startswith("Genotype(cells=(CellSpec(name='n0'")
  assert '"search.gate": "cooled"' in (tmp_path / "run" / "config.json").read_text()
