"""The documentation site: ``make docs`` builds it with Sphinx and Furo, warnings as errors, without the network."""

from __future__ import annotations

from typing import Any

project = "sft"
root_doc = "docs/index"
html_title = "sft"
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
extensions = ["myst_parser", "sphinx_copybutton"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
exclude_patterns = ["docs/collecting/*.md"]
source_suffix = {".md": "markdown"}
pygments_style = "friendly"
pygments_dark_style = "monokai"


def setup(app: Any) -> None:
    """Names of languages that Pygments has no lexer of."""
    from pygments.lexers.data import JsonLexer
    from pygments.lexers.special import TextLexer

    app.add_lexer("jsonl", JsonLexer)
    app.add_lexer("mermaid", TextLexer)
