r"""The number a text ends on, by a rule that two readers would come to, for answers in the style of GSM8K.

1. Behind "####" (GSM8K's mark; Cobbe et al. 2021) stands the answer: the first number directly behind the first mark.
2. Else it is the last number of the last line that has one. On that line a number outside brackets goes before one
   that fills its brackets, and this before page 3, the 3rd, and the digits of a name (CO2, COVID-19, x^2).
3. Remarks in brackets, steps, equations, figures and footnotes that are referred to ("see step 2", "[1]"), and the
   marks of a list ("2. ") are passed over, to a line further up; they count where a text has nothing else.
4. Times, dates, ratios and versions are no numbers (10:30, 5 pm, 2026-11-28, 28/11/2026, May 5, 2026, 3:4, 1.2.3).

A number is decimal digits of any script, full-width and Arabic among them. It has

- a sign directly before it, where no number, word or bracket ends just there (3-4 is a range or a difference);
- thousands in threes behind ``,`` ``'``, a space that does not break, or the separators of full-width and Arabic
  text; as in India (12,34,567); or as in most of Europe (1.234,5 and 1.234.567);
- decimals behind a point, or behind a comma that cannot part thousands (3,5 and 0,125, but 1,234 is a thousand);
- an exponent (1e3, 3 x 10^6), a divisor (3/4, 1 1/2, \frac{3}{4}, ½: the quotient, exactly), or the word hundred,
  thousand, million, billion or trillion behind it.

Currency, per cent signs and units are ignored: "$1,000.00" and "1000 %" are 1000. Numbers in words are not read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction

__all__ = ["Number", "final_number"]

Number = Decimal | Fraction

_MINUS = "-\u2212\uff0d"
_CURRENCY = "$\u20ac\u00a3\u00a5\u20b9\uff04\uffe5"
_POINT = ".\uff0e\u066b"
_THOUSANDS = ",'\u2019\u00a0\u2009\u202f\uff0c\u066c"

_PLAIN = rf"""(?:
    (?<!\d[,.])(?!0\d)(?:
        [1-9]\d{{0,2}}(?:\.\d{{3}})+,\d+(?![,.]?\d)                  # 1.234,5
      | [1-9]\d{{0,2}}(?:\.\d{{3}}){{2,}}(?![,.]?\d)                 # 1.234.567
      | [^\D0]\d{{0,2}}(?:[{_THOUSANDS}]\d{{3}})+(?!,?\d)(?:[{_POINT}]\d+)?  # 1,234.5
      | \d{{1,2}}(?:,\d\d)+,\d{{3}}(?!,?\d)(?:\.\d+)?                # 12,34,567
      | \d++,\d++(?![,.]\d)                                   # 3,5
    )
    | \d++(?:[{_POINT}]\d++)?
    | [{_POINT}]\d++
)"""
_POWER = rf"(?:(?:\^|\*\*)\{{?[+{_MINUS}]?\d{{1,4}}\}}?|[\u207a\u207b]?[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]{{1,4}})"
_SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_TIMES = r"[ \u00a0]?(?:[x\u00d7*\u00b7\u22c5]|\\times|\\cdot)[ \u00a0]?"

_NUMBER = re.compile(
    rf"""
    (?P<none>[{_MINUS}+{_CURRENCY}]?(?<!\d)(?:
        \d++(?:[:\uff1a]\d++)+                                       # 10:30, 3:4
      | \d{{1,2}}(?:[ ]?(?i:[ap]\.m\.|[ap]m\b|o['\u2019]clock\b)|h\d\d\b)
      | \d{{4}}-\d{{1,2}}-\d{{1,2}}(?!\d) | \d{{1,2}}-\d{{1,2}}-\d{{4}}(?!\d)
      | \d{{1,4}}/\d{{1,2}}/\d{{1,4}}(?!\d)
      | (?!\d{{1,3}}(?:\.\d{{3}}){{2,}}(?![.\d]))\d+(?:\.\d+){{2,}}   # 28.11.2026, 1.2.3
      | \d{{1,2}}(?:st|nd|rd|th|\.)?[ ](?:MONTH)[ ,]{{1,2}}(?:1[5-9]|20)\d\d(?!\d)
      )
      | \b(?:MONTH)[ ]\d{{1,2}}(?:(?:st|nd|rd|th)?,?[ ](?:1[5-9]|20)\d\d(?!\d)|(?:st|nd|rd|th)\b)
    )
  | (?P<sign>(?<![\w)\]%.])[{_MINUS}+])?
    (?:[{_CURRENCY}][ ]?(?P<inner>[{_MINUS}])?)?
    (?:
        \\[dt]?frac\{{(?P<over>\d+)\}}\{{(?P<under>\d+)\}}
      | (?<!\d)(?P<ones>\d+[ ]?)?(?P<vulgar>[\u00bc-\u00be\u2150-\u215e])
      | (?<!\d)(?P<whole>\d++)[ ](?P<top>\d++)[/\u2044](?P<bottom>\d++)(?![/.,:]?\d)
      | (?<!\d)10(?P<ten>{_POWER})
      | (?<!\d)(?P<plain>{_PLAIN})(?!\d)
        (?:[eE](?P<e>[+{_MINUS}]?\d{{1,4}})(?!\w) | {_TIMES}10(?P<power>{_POWER}))?
        (?:[ ]?[/\u2044][ ]?(?P<divisor>{_PLAIN})(?!\d))?
        (?:[ ](?P<scale>(?i:{"|".join(_SCALES)}))s?\b)?
    )
    """.replace(
        "MONTH",
        "Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
        "|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?",
    ),
    re.VERBOSE,
)

#: What may be the matter of a question, as in "he is on page 120", and what is only ever referred to.
_PLACES = "pages?|pp?\\.|chapters?|sections?|sec\\.|lines?|questions?|problems?|parts?|items?|tables?|seiten?|kapitel"
_POINTERS = (
    "steps?|equations?|eqs?\\.?|examples?|figures?|figs?\\.?|footnotes?|notes?|theorems?|lemmas?|exercises?|appendix"
    "|schritte?n?|gleichung(?:en)?|beispiele?|abbildung|abb\\.|fu\u00dfnoten?|\u00e9tapes?|\u00e9quations?|exemples?"
    "|pasos?|ecuaci(?:\u00f3n|ones)|ejemplos?|pass[oi]|\u6b65\u9aa4|\u56fe|\u5f0f|\u4f8b"
)
_REFERENCE = re.compile(
    rf"(?<!\w)(?:(?P<pointer>{_POINTERS})|{_PLACES}|\u00a7)\s{{0,3}}(?:\#|n[or]\.?\s)?\(?\d++"
    r"(?:[-\u2013]\d++|\s(?:and|to|und|et|y)\s\d++(?=\W*$|[.,;)\]]))?|(?<!\#)\#\d++",
    re.IGNORECASE | re.MULTILINE,
)
_LIST_MARK = re.compile(r"^[ \t]*(?:[-*+>][ \t]+)?\(?\d{1,2}[.)][ \t]+(?=\S)", re.MULTILINE)
_MARK = re.compile(r"####[^\S\n]*")
#: Letters of scripts that put spaces between words: digits glued to them are part of a name.
_IN_A_NAME = re.compile("(?:[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u04ff][-\u2010\u2011]?|[_^])$")
_CURRENCY_WORD = re.compile("(?:USD|EUR|GBP|CHF|INR|JPY|CNY|CAD|AUD|R[Ms]|kr)$")
_ORDINAL = re.compile(r"(?:st|nd|rd|th)\b")
#: A comma that cannot part thousands.
_COMMA_DECIMALS = re.compile(r"\d+,(?:\d{1,2}|\d{4,})|0\d*,\d+|\d{4,},\d+")
_SEPARATORS = {ord(mark): "." for mark in _POINT} | {ord(mark): "," for mark in _THOUSANDS}
_SIGNS = {ord(mark): "-" for mark in _MINUS}
#: Exact whatever the digits; the default context would round to 28 of them.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_OPEN, _CLOSE = "([\uff08\uff3b\u3010", ")]\uff09\uff3d\u3011"
_SUPERSCRIPTS = str.maketrans(
    "\u207a\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079", "+-0123456789"
)
#: From the best to the worst a number can be on its line; a ``_REMARK`` counts only where a text has nothing else.
_AMOUNT, _BRACKETED, _NAMED, _REMARK = range(4)


def final_number(text: str) -> Number | None:
    """The number that ``text`` ends on, or None; see the module for the rule."""
    for mark in _MARK.finditer(text):
        found = _NUMBER.match(text, mark.end())
        if found is not None:
            return None if found["none"] else _value(found)
    remark: Number | None = None
    for line in reversed(text.splitlines()):
        found_here = dict(_ranked(line))  # of each rank the last
        for rank in (_AMOUNT, _BRACKETED, _NAMED):
            if rank in found_here:
                return found_here[rank]
        remark = found_here.get(_REMARK) if remark is None else remark
    return remark


def _ranked(line: str) -> Iterator[tuple[int, Number]]:
    """Every number of ``line`` in order, with its rank."""
    brackets = list(_brackets(line))
    referred = [(m.span(), _NAMED if m["pointer"] is None else _REMARK) for m in _REFERENCE.finditer(line)]
    mark = _LIST_MARK.match(line)
    listed = mark.end() if mark else 0
    for match in _NUMBER.finditer(line):
        if match["none"] or (value := _value(match)) is None:
            continue
        start, end = match.span()
        inside = next((line[first + 1 : last] for first, last in brackets if first < start <= last), None)
        rank = next((rank for (first, last), rank in referred if first <= start < last), _AMOUNT)
        if inside is not None:
            rank = _BRACKETED if inside.strip(" *_%.\u00b0" + _CURRENCY) == match[0].strip(_CURRENCY) else _REMARK
        elif end <= listed:
            rank = _REMARK
        elif rank == _AMOUNT and (_ORDINAL.match(line, end) or _is_in_a_name(line, start)):
            rank = _NAMED
        yield rank, value


def _is_in_a_name(line: str, start: int) -> bool:
    """Whether the digits at ``start`` are glued to a word, such as CO2; behind a currency's letters they are not."""
    before = line[max(0, start - 8) : start]
    return bool(_IN_A_NAME.search(before)) and not _CURRENCY_WORD.search(before)


def _brackets(line: str) -> Iterator[tuple[int, int]]:
    """Start and end of every outermost pair of brackets; those of LaTeX's formulas, ``\\(`` and ``\\[``, are none."""
    opened: list[int] = []
    for place, character in enumerate(line):
        if character in _OPEN and line[place - 1 : place] != "\\":
            opened.append(place)
        elif character in _CLOSE and line[place - 1 : place] != "\\" and opened:
            first = opened.pop()
            if not opened:
                yield first, place


def _value(match: re.Match[str]) -> Number | None:
    """What a match of ``_NUMBER`` says; None for a division by zero."""
    value: Number
    if match["over"]:
        value, divisor = Fraction(_decimal(match["over"])), _decimal(match["under"])
        if not divisor:
            return None
        value /= Fraction(divisor)
    elif match["vulgar"]:
        value = Fraction(unicodedata.normalize("NFKC", match["vulgar"]).replace("\u2044", "/"))
        value += Fraction(_decimal((match["ones"] or "0").strip()))
    elif match["top"]:
        divisor = _decimal(match["bottom"])
        if not divisor:
            return None
        value = Fraction(_decimal(match["whole"])) + Fraction(_decimal(match["top"])) / Fraction(divisor)
    elif match["ten"]:
        value = Decimal(1).scaleb(_exponent(match["ten"]), _EXACT)
    else:
        plain = _decimal(match["plain"])
        power = match["e"] or match["power"]
        plain = plain.scaleb(
            (_exponent(power) if power else 0) + _SCALES.get((match["scale"] or "").lower(), 0), _EXACT
        )
        value = plain
        if match["divisor"]:
            divisor = _decimal(match["divisor"])
            if not divisor:
                return None
            value = Fraction(plain) / Fraction(divisor)
    return -value if {match["sign"], match["inner"]} & set(_MINUS) and value else value


def _decimal(digits: str) -> Decimal:
    """The number that digits with separators write."""
    digits = digits.translate(_SEPARATORS)
    points, commas = digits.count("."), digits.count(",")
    if points > 1 or (points and commas and digits.rindex(",") > digits.rindex(".")):
        digits = digits.replace(".", "").replace(",", ".")  # 1.234,5 and 1.234.567
    elif _COMMA_DECIMALS.fullmatch(digits):
        digits = digits.replace(",", ".")
    return Decimal(digits.replace(",", ""))


def _exponent(power: str) -> int:
    """The exponent that ``^6``, ``**{-3}``, ``+6`` or superscripts write."""
    digits = power.translate(_SUPERSCRIPTS).translate(_SIGNS)
    return int(re.sub(r"[^\d-]", "", digits))
