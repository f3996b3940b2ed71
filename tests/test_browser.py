"""The page as a browser shows it, at the width of a desk and of a hand.

Needs Chromium (`chromium` on the path), the extra `browser`, and the file of axe-core (npm) that AXE names.
"""

import os
import pathlib
import shutil

import pytest

from lfr_darts_jax.report import page
from tests import runs

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM, AXE = shutil.which("chromium"), os.environ.get("AXE")
DIGITS = pathlib.Path(__file__).parents[1] / "runs" / "digits" / "report" / "index.html"
pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the path"),
  pytest.mark.skipif(not AXE, reason="AXE does not name axe-core's axe.min.js"),
]
# As root, and without the connections that a browser makes for itself.
ARGUMENTS = (
  "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync"
)
STAGES = {
  "finished": {},
  "searching": {"iterations": 2},
  "untrained": {"train": False, "result": False},
  "collapsed": {"findings": runs.FINDINGS},
  "darts": {"plan": "darts", "iterations": 1},
  "many_classes": {"class_names": [f"class {i}" for i in range(40)]},
}
CLIPPED = """() => [...document.querySelectorAll('th, td, dd, figcaption')].filter(e =>
  e.scrollWidth > e.clientWidth + 1 || parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML)"""


@pytest.fixture(scope="module")
def browser():
  with playwright.sync_playwright() as started:
    launched = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
    yield launched
    launched.close()


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("stage", [*STAGES, "digits"])
def test_the_page_in_a_browser(browser, tmp_path, stage, width):
  if stage == "digits" and not DIGITS.exists():
    pytest.skip("the main job has not been run here")
  path = DIGITS if stage == "digits" else page.write(runs.write(tmp_path / "run", **STAGES[stage]))
  opened = browser.new_page(viewport={"width": width, "height": 900})
  complaints, requests = [], []
  opened.on("console", lambda message: complaints.append(message.text))
  opened.on("pageerror", lambda error: complaints.append(str(error)))
  opened.on("request", lambda request: requests.append(request.url))
  opened.goto(path.as_uri())
  opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
  assert not complaints and all(url.startswith(("file:", "data:")) for url in requests)
  assert opened.evaluate("document.documentElement.scrollWidth") <= width
  assert opened.evaluate("[...document.images].filter(i => !i.naturalWidth || !i.alt).length") == 0
  assert opened.evaluate(CLIPPED) == []
  if stage == "finished":
    for name in runs.AWKWARD:
      assert opened.get_by_text(name).count() > 0, name
  opened.add_script_tag(path=AXE)
  found = opened.evaluate("axe.run()")["violations"]
  assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []
  opened.close()
