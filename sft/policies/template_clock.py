"""What time a template believes it is: one fixed day, written into the template wherever it asks.

transformers gives templates one function that knows the time, ``strftime_now``. A call with a literal format becomes
the text it gives on TODAY; any other use is answered by a macro of that name which the template then brings along,
so that the saved template says the same wherever it is served. Names are read by jinja2's own lexer, which needs to
know no tag.
"""

from __future__ import annotations

import json
import re
import string
from datetime import UTC, datetime

from jinja2 import Environment, TemplateSyntaxError

__all__ = ["TODAY", "dated", "names_in", "tells_the_date"]

#: What a template's ``strftime_now`` answers, always: midnight of Llama's own default date.
TODAY = datetime(2024, 7, 26, tzinfo=UTC)

# No quote and no backslash inside: `strftime_now("%d " ~ "%b")` is two literals, and left to the macro.
_LITERAL = re.compile(r"""strftime_now\(\s*(["'])((?:(?!\1)[^\\\n])*)\1\s*\)""")


def dated(template: str) -> str:
    """``template`` with the date of :data:`TODAY` wherever it asks for the present one."""
    template = _LITERAL.sub(lambda found: json.dumps(TODAY.strftime(found[2])), template)
    uses = _uses(template)
    # Where the first mention defines it, the template has been here before, and keeps the date it was given then.
    return _macro() + template if uses and uses[0] != "macro" else template


def tells_the_date(template: str) -> bool:
    """Whether ``template``, as its author wrote it, asks for the present date."""
    return bool(_uses(template))


def _uses(template: str) -> list[str]:
    """The word or sign before every use of ``strftime_now``; to ask whether it is defined is not to use it."""
    return [before for before, word, after in names_in(template) if word == "strftime_now" and after != "is"]


def names_in(template: str) -> list[tuple[str, str, str]]:
    """Every name in the template's code, with the word or sign before it and the one behind it."""
    try:
        pieces = [
            (kind, text) for _, kind, text in Environment().lex(template) if kind not in ("whitespace", "comment")
        ]
    except TemplateSyntaxError:
        return []  # whoever renders it says what is wrong with it
    texts = [text for _, text in pieces]
    return [
        (texts[at - 1] if at else "", text, texts[at + 1] if at + 1 < len(texts) else "")
        for at, (kind, text) in enumerate(pieces)
        if kind == "name" and (at == 0 or texts[at - 1] != ".")
    ]


def _macro() -> str:
    """``strftime_now`` for one date, in jinja: every directive looked up, with C's flag ``-`` for no padding."""
    codes = {}
    for letter in string.ascii_letters.replace("s", "") + "%":  # %s hangs on the machine's time zone
        for directive in (letter, f"-{letter}"):
            said = TODAY.strftime(f"%{directive}")
            if said != f"%{directive}":
                codes[directive] = said
    codes |= {"s": str(int(TODAY.timestamp()))}
    return (
        "{%- macro strftime_now(format) -%}"
        f"{{%- set codes = {json.dumps(codes)} -%}}"
        "{%- set at = namespace(code='') -%}"
        "{%- for letter in format -%}"
        "{%- if not at.code -%}{%- if letter == '%' -%}{%- set at.code = '%' -%}{%- else -%}{{- letter -}}{%- endif -%}"
        "{%- elif letter in '-_0^#' and at.code == '%' -%}{%- set at.code = '%' ~ letter -%}"
        "{%- else -%}{{- codes[at.code[1:] ~ letter] | default(codes[letter] | default(at.code ~ letter)) -}}"
        "{%- set at.code = '' -%}{%- endif -%}"
        "{%- endfor -%}{{- at.code -}}"
        "{%- endmacro -%}"
    )
