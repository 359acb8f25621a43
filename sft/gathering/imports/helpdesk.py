"""Help desks: a table with a question and its answer in each row (CSV, TSV, JSON, JSON Lines, Parquet)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sft.demonstrations.demonstration import Source
from sft.errors import SourceError
from sft.gathering.imports.html_text import markdown, soup_of
from sft.gathering.imports.mail_text import without_quotation
from sft.gathering.imports.parsing import cells, moment, table
from sft.gathering.records import Importer, ImportOptions, Piece, Record, Unread, Written
from sft.gathering.source_files import SourceFiles

#: Field -> what columns of it are called, in the exports of Zendesk, Freshdesk, Intercom, Help Scout and others.
_KNOWN = {
    "question": ("question", "description", "customer message", "request", "inquiry", "query", "ticket description",
                 "message", "body", "frage", "pregunta", "domanda", "pergunta", "вопрос", "问题", "質問"),
    "answer": ("answer", "reply", "response", "agent reply", "agent response", "resolution", "first reply", "solution",
               "agent message", "antwort", "réponse", "respuesta", "risposta", "resposta", "ответ", "答案", "回答"),
    "author": ("agent", "assignee", "author", "answered by", "agent name", "responder", "assigned to", "owner"),
    "date": ("date", "created at", "created", "answered at", "resolved at", "updated at", "created_at", "timestamp"),
    "group": ("ticket id", "ticket_id", "ticket", "conversation id", "conversation_id", "case number", "id"),
    "subject": ("subject", "title", "ticket subject", "betreff", "objet", "asunto", "oggetto"),
}  # fmt: skip
_TABLES = ("*.csv", "*.tsv", "*.jsonl", "*.ndjson", "*.parquet", "*.json")
_TAG = re.compile(r"</?(?:p|div|br|b|i|strong|em|a|ul|ol|li|span|table|blockquote|h[1-6])\b[^>]*>", re.IGNORECASE)


def _columns(header: Mapping[str, Any], options: ImportOptions) -> dict[str, str]:
    """Field -> its column, as it is named or else as it is called."""
    plain = {str(name).strip().lower(): str(name) for name in header}
    found = {}
    for field, names in _KNOWN.items():
        if field in options.columns:
            found[field] = options.columns[field]
        elif name := next((plain[name] for name in names if name in plain), ""):
            found[field] = name
    return found


def _records(files: SourceFiles, options: ImportOptions) -> Iterator[Record]:
    if unknown := set(options.columns) - set(_KNOWN):
        raise SourceError(
            f"--column {min(unknown)}: is no field of a help desk's table; fields are {', '.join(_KNOWN)}"
        )
    for name in files.matching(*_TABLES):
        columns: dict[str, str] | None = None
        for row in table(files, name):
            if isinstance(row, Unread):
                yield row
                continue
            line, values = row
            if columns is None:
                columns = _columns(values, options)
                _refuse_missing(files.address(name), values, columns)
            yield _row(Source(files.address(name), line), values, columns)


def _refuse_missing(address: str, row: Mapping[str, Any], columns: Mapping[str, str]) -> None:
    for field in ("question", "answer"):
        if columns.get(field) not in row:
            shown = ", ".join(repr(str(name)) for name in list(row)[:12]) + (", ..." if len(row) > 12 else "")
            called = f"no column {columns[field]!r}" if field in columns else f"no column that is surely the {field}"
            raise SourceError(f"{address}: has {called} (columns found: {shown}); name it with --column {field}=NAME")


def _row(place: Source, row: dict[str, Any], columns: Mapping[str, str]) -> Record:
    found = cells({field: row.get(name) for field, name in columns.items()})
    number = row.get(columns.get("group", ""))
    people = (found["author"],) if found.get("author") else ()
    try:
        question, answer = _words(found.get("question", "")), without_quotation(_words(found.get("answer", ""))).own
    except RecursionError:
        return Unread(place, "is nested too deep to be read", "save it as plain text", row)
    subject = found.get("subject", "")
    if subject and subject not in question:
        question = f"{subject}\n\n{question}".strip()
    fate = "" if answer else "wordless"
    pair = (Piece(question, answer, others=True),) if question and answer else ()
    group = str(number) if number not in (None, "") else question
    return Written(place, people, moment(found.get("date")), group, pair, fate=fate)


def _words(text: str) -> str:
    return markdown(soup_of(text)) if _TAG.search(text) else text.replace("\r\n", "\n").strip()


def _recognises(files: SourceFiles) -> bool:
    for name in files.matching("*.csv", "*.tsv")[:5]:
        header = files.head(name).partition("\n")[0].lower().replace('"', "")
        named = {cell.strip() for cell in re.split(r"[,;\t]", header)}
        if named & set(_KNOWN["question"]) and named & set(_KNOWN["answer"]):
            return True
    return False


IMPORTER = Importer(
    name="helpdesk",
    about="questions and answers of a help desk (a table)",
    prompt="the question, below its subject where there is one",
    completion="the answer, without quoted text and signature",
    group="a ticket, or else a question",
    flaws=(
        "What was asked and answered in between, where a table has the first and the last of a ticket alone, is lost.",
    ),
    recognises=_recognises,
    records=_records,
    needs_me=False,
)
