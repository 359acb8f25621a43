"""Personal data in what was written: found by its checksum or its form, and masked, or its row refused.

Telephone numbers as ``phonenumbers`` knows them, IBANs and cards by their checksums, e-mail addresses, home folders and
tokens as everywhere in this package, dates of birth by the word beside them; names through Presidio, where options for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path

from sft.errors import UserError
from sft.runs.private import personal
from sft.runs.tokens import passwords, tokens

__all__ = ["Finder", "Span", "finder", "numbers"]

#: Begins at, ends before, and what stands in its place.
Span = tuple[int, int, str]
Finder = Callable[[str], list[Span]]

_MASKS = {"an e-mail address": "[e-mail]", "a home folder": "[home folder]"}
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ \u00a0-]?[A-Za-z0-9]){11,30}")
_CARD = re.compile(r"(?<![A-Za-z\d.,-])[2-6]\d{3}(?:[ \u00a0-]?\d){9,15}(?![A-Za-z\d]|[.,]\d)")
#: How many digits follow which first ones, by the networks that issue cards: a tenth of all numbers pass the checksum.
_ISSUED = re.compile(r"4\d{12}(?:\d{3}){0,2}|5[0-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|3[0689]\d{12}|35\d{14}|6\d{15,18}")
_BORN = (
    r"born(?: on)?|date of birth|birth ?date|birthday|d\.?o\.?b\.?|geb(?:oren|\.)(?: am| op)?|geburts(?:datum|tag)|"
    r"née?(?: le)?|date de naissance|fecha de nacimiento|nacid[oa](?: el)?|data di nascita|nat[oa](?: il)?|"
    r"data de nascimento|nascid[oa](?: em| a)?|geboortedatum|urodzon[ya]|data urodzenia|född|født|syntynyt|"
    r"doğum tarihi|дата рождения|родил(?:ся|ась)|生年月日|出生(?:日期|于)?|생년월일"
)
_DATE = (
    r"\d{1,4} ?[./年년-] ?\d{1,2} ?[./月월-] ?\d{1,4}[日일]?"
    r"|\d{1,2}(?:st|nd|rd|th|\.)?(?: de| of)? [^\W\d]{3,12}\.?,?(?: de)? \d{4}"
    r"|[^\W\d]{3,12}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}"
)
_BIRTH = re.compile(rf"(?:(?<!\w)|(?<=[\u3040-\u9fff]))(?:{_BORN})[\s:：=()*-]{{0,6}}({_DATE})(?!\d)", re.IGNORECASE)


def finder(region: str, names: str) -> Finder:
    """What finds personal data in a text, each place once, in their order.

    ``region``: the country whose telephone numbers are known without a ``+`` (``GB``); ``names``: the spaCy model that
    Presidio finds people by, or "". Raises ``UserError`` for a country or a model that is none.
    """
    import phonenumbers

    if region and region.upper() not in phonenumbers.SUPPORTED_REGIONS:
        raise UserError(f"--region {region}: is no country of two letters; write for example --region GB")
    people = _people(names) if names else None

    def found(text: str) -> list[Span]:
        spans: list[Span] = []
        for one in _in_order_of_certainty(text, region.upper() or None):
            if not any(one[0] < end and start < one[1] for start, end, _ in spans):
                spans.append(one)
        if people is not None:
            taken = list(spans)
            spans += [
                one for one in people(text) if not any(one[0] < end and start < one[1] for start, end, _ in taken)
            ]
        return sorted(spans)

    return found


def _in_order_of_certainty(text: str, region: str | None) -> Iterator[Span]:
    data = text.encode("utf-8")

    def place(at: int) -> int:
        return at if len(data) == len(text) else len(data[:at].decode("utf-8"))

    for start, end, _ in sorted(chain(tokens(data, text=True), passwords(data)), key=lambda one: one[:2]):
        yield place(start), place(end), "[secret]"
    if b"@" in data or b"/" in data or b"\\" in data:
        for start, end, hit in sorted(personal(data), key=lambda one: one[:2]):
            yield place(start), place(end), _MASKS[hit.what]
    if sum(map(str.isdigit, text)) < 4:
        return
    for match in _BIRTH.finditer(text):
        yield match.start(1), match.end(1), "[date of birth]"
    yield from numbers(text, region)


def numbers(text: str, region: str | None = None) -> Iterator[Span]:
    """Every IBAN and card number in ``text``, by its checksum, and every telephone number.

    ``region``: as of :func:`finder`; None: telephone numbers that begin with ``+`` alone.
    """
    yield from _ibans(text)
    for match in _CARD.finditer(text):
        if _is_card("".join(filter(str.isdigit, match[0]))):
            yield match.start(), match.end(), "[card]"
    yield from _telephones(text, region)


def _ibans(text: str) -> Iterator[Span]:
    from stdnum import iban

    for match in _IBAN.finditer(text):
        for end in range(match.end(), match.start() + 14, -1):  # words may follow it: the longest that is one
            if text[end - 1].isalnum() and iban.is_valid(text[match.start() : end], check_country=False):
                yield match.start(), end, "[IBAN]"
                break


def _is_card(digits: str) -> bool:
    from stdnum import luhn

    return _ISSUED.fullmatch(digits) is not None and luhn.is_valid(digits)


def _telephones(text: str, region: str | None) -> Iterator[Span]:
    import phonenumbers

    if sum(map(str.isdigit, text)) < 7 or (region is None and "+" not in text and "\uff0b" not in text):
        return
    for match in phonenumbers.PhoneNumberMatcher(text, region):
        yield match.start, match.end, "[phone]"


@cache
def _people(model: str) -> Callable[[str], list[Span]]:
    """What finds people's names with ``model``; never downloads one."""
    try:
        import spacy.util
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError:
        raise UserError(
            '--names: needs Presidio; pip install "behavioral-cloning[names]", and a spaCy model of the language'
        ) from None
    if not spacy.util.is_package(model) and not Path(model, "meta.json").is_file():
        raise UserError(f"--names {model}: is no spaCy model that is installed here; python -m spacy download {model}")
    language = spacy.util.load_meta(Path(model, "meta.json"))["lang"] if Path(model).is_dir() else model.split("_")[0]
    models = [{"lang_code": language, "model_name": model}]
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    analyzer = AnalyzerEngine(nlp_engine=engine, supported_languages=[language])

    def found(text: str) -> list[Span]:
        hits = analyzer.analyze(text=text, entities=["PERSON"], language=language)
        return [(hit.start, hit.end, "[name]") for hit in sorted(hits, key=lambda hit: (hit.start, hit.end))]

    return found
