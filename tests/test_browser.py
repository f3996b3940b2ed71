"""The page of a run, and the site of docs/, as a browser shows them, at the width of a desk and of a hand.

Needs Chromium (`chromium` on the path), the extra `browser`, and the file of axe-core (npm) that AXE names; for the
site the extra `docs` too.
"""

import html
import os
import pathlib
import re
import shutil
import subprocess
import sys
import urllib.parse

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
  assert violations(opened) == []
  opened.close()


def violations(opened):
  """What axe-core finds serious on an opened page."""
  opened.add_script_tag(path=AXE)
  found = opened.evaluate("axe.run()")["violations"]
  return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
  pytest.importorskip("furo")
  pytest.importorskip("pdoc")
  folder = tmp_path_factory.mktemp("docs") / "site"
  done = subprocess.run(
    [sys.executable, "docs/build.py", folder], cwd=DIGITS.parents[3], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  return folder


@pytest.mark.parametrize("width,scheme", [(1440, "light"), (390, "dark")])
def test_every_page_of_the_site_in_a_browser(browser, site, width, scheme):
  context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
  # pdoc's pages are all of one kind: the package's, and that of a module with classes.
  paths = [
    *sorted(site.glob("*.html")),
    site / "api" / "lfr_darts_jax.html",
    site / "api" / "lfr_darts_jax" / "config.html",
  ]
  assert len(paths) > 20
  found = []
  for path in paths:
    opened, requests = context.new_page(), []
    opened.on("request", lambda request, requests=requests: requests.append(request.url))
    opened.goto(path.as_uri())
    found += [f"{path.name}: asks for {url}" for url in requests if not url.startswith(("file:", "data:"))]
    found += [f"{path.name}: wider than {width}"] * (opened.evaluate("document.documentElement.scrollWidth") > width)
    found += [f"{path.name}: {violation}" for violation in violations(opened)]
    opened.close()
  assert found == []
  context.close()


def test_every_link_of_the_site_leads_somewhere(site):
  # What a script writes is no link yet.
  texts = {path: re.sub("<script>.*?</script>", "", path.read_text(), flags=re.S) for path in site.rglob("*.html")}
  names = {path: set(re.findall(r' (?:id|name)="([^"]*)"', text)) for path, text in texts.items()}
  missing = []
  for here, text in texts.items():
    for target in re.findall(r' (?:href|src)="([^"]*)"', text):
      scheme, _, path, _, anchor = urllib.parse.urlsplit(html.unescape(target))
      there = (here.parent / urllib.parse.unquote(path)).resolve() if path else here
      if not scheme and (not there.exists() or (anchor and anchor not in names.get(there, ()))):
        missing.append(f"{here.name}: {target}")
  assert missing == [] and len(texts) > 50
