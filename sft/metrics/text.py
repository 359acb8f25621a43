"""Text as the metrics see it: Unicode-safe normalisation and words.

On plain ASCII :func:`words` is rouge-score's default tokenizer, letter for letter. That one keeps only
``[a-z0-9]``, so identical Chinese scores 0 under it; here every script has words: letters, digits and
their combining marks together, characters of scripts written without spaces (Han, kana, Thai, Lao,
Khmer, Burmese) and pictographs one by one.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

__all__ = ["nfc", "paired", "plain_words", "unspaced", "words"]

_ASCII_WORDS = re.compile(r"[a-z0-9]+")
#: First and last code points of scripts written without spaces between words.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Burmese
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # iteration mark, ideographic zero
    (0x3040, 0x30FF),  # kana
    (0x31F0, 0x31FF),  # small kana
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x20000, 0x323AF),  # Han, extensions B to H
)


def nfc(text: str) -> str:
    """``text`` in Unicode normal form C: an accent is one letter however it was typed."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def unspaced(character: str) -> bool:
    """Whether ``character`` belongs to a script written without spaces between words."""
    code = ord(character)
    return any(first <= code <= last for first, last in _UNSPACED)


@lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """How a character takes part in a word: "letter", "mark", "single", or "" for a separator."""
    category = unicodedata.category(character)
    if category[0] in "PZC":
        return ""
    if unspaced(character):
        return "single"
    if category[0] in "LN":
        return "letter"
    if category[0] == "M":
        return "mark"
    return "single" if category in ("So", "Sk") and ord(character) > 127 else ""


@lru_cache(maxsize=512)
def words(text: str) -> tuple[str, ...]:
    """The words of ``text`` in lower case, punctuation dropped ("3.14" is two words, as in rouge-score)."""
    text = nfc(text.lower())
    if text.isascii():
        return tuple(_ASCII_WORDS.findall(text))
    found: list[str] = []
    word = ""
    for character in text:
        kind = _kind(character)
        if kind == "letter" or (kind == "mark" and word):
            word += character
            continue
        if word:
            found.append(word)
            word = ""
        if kind == "single":
            found.append(character)
    return (*found, word) if word else tuple(found)


@lru_cache(maxsize=512)
def plain_words(text: str) -> tuple[str, ...]:
    """``text`` as someone marking an answer reads it: case folded, white space and outer punctuation aside.

    SQuAD's normalisation made safe: punctuation goes only from the ends of a word, so "3.14" is neither
    "314" nor "3 14", a minus before a digit stays, and articles stay ("A" is an answer). Words in scripts
    without spaces fall into characters. A text that is nothing but punctuation keeps it.
    """
    raw = nfc(text.casefold()).split()
    kept = [word if word.isalnum() else _bare(word) for word in raw]
    kept = [word for word in kept if word]
    pieces: list[str] = []
    for word in kept or raw:
        if word.isascii() or all(_kind(c) != "single" for c in word):
            pieces.append(word)
        else:
            pieces.extend(_split_unspaced(word))
    return tuple(pieces)


@lru_cache(maxsize=4096)
def _bare(word: str) -> str:
    """``word`` without the punctuation at its ends, but with a minus that stands before a digit."""
    first, last = 0, len(word)
    while first < last and unicodedata.category(word[first])[0] == "P":
        first += 1
    while last > first and unicodedata.category(word[last - 1])[0] == "P":
        last -= 1
    if 0 < first < last and word[first - 1] == "-" and word[first].isdigit():
        first -= 1
    return word[first:last]


def _split_unspaced(word: str) -> list[str]:
    """A word with unspaced characters, these one by one and runs of others together; punctuation dropped."""
    pieces: list[str] = []
    open_run = False
    for character in word:
        kind = _kind(character)
        if kind == "single":
            pieces.append(character)
            open_run = False
        elif unicodedata.category(character)[0] in "PZC":
            open_run = False
        elif open_run:
            pieces[-1] += character
        else:
            pieces.append(character)
            open_run = True
    return pieces


def paired(text: str) -> str:
    """``text`` with every half of a surrogate pair, which no file can hold, as U+FFFD; halves that meet are joined."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
