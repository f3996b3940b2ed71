"""Sphinx's settings: the pages of this folder, in MyST's Markdown, as a site that needs no network to be read."""

import itertools
import re

project = "lfr_darts_jax"
html_title = project
extensions = ["myst_parser"]
myst_heading_anchors = 3
exclude_patterns = ["site", "reference"]
nitpicky = True
html_theme = "furo"
html_show_sourcelink = False
# What stands in a block without a language is a command line or a result.
highlight_language = "text"
html_copy_source = False
html_use_index = False
# Furo's own are too pale to be read by everybody.
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"


def accessible(app, pagename, templatename, context, doctree):
  """Lets the keyboard scroll what is wider than the page; gives the headings of the sidebar a level."""
  numbers = itertools.count(1)
  table = lambda found: f'{found[0]} tabindex="0" role="region" aria-label="Table {next(numbers)}"'
  body = context.get("body", "").replace("<pre>", '<pre tabindex="0">')
  context["body"] = re.sub(r'<div class="table-wrapper[^"]*"', table, body)
  for name in ("furo_navigation_tree", "body"):
    context[name] = context[name].replace('role="heading"', 'role="heading" aria-level="2"')


def outside(app, docname, source):
  """Lets links to Markdown outside of this folder, which are right in a checkout, lead to a copy of the file."""
  source[0] = re.sub(r"\]\((\.\./[^)]+\.md)\)", r"](path:\1)", source[0])


def setup(app):
  """Called by Sphinx."""
  app.connect("source-read", outside)
  # After furo has made its sidebar.
  app.connect("html-page-context", accessible, priority=900)
