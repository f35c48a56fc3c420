"""Files of word pairs: JSON, JSON lines, CSV and TSV as users have them, checked row by row."""

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from taskvec.files import check_regular, escaped, printable

SIDES = ("input", "output")
ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".tab")
_LONGEST = 60  # letters of a value in a sentence


@dataclass(frozen=True)
class Pair:
    input: str
    output: str


@dataclass(frozen=True)
class Table:
    """The pairs of a file, each once and in its order, and what a user should know of how they were read."""

    pairs: list[Pair]
    remarks: list[str]


def read_pairs(path: Path) -> Table:
    """The pairs of a file, by the ending of its name.

    ``.json``: a list of objects with ``input`` and ``output``; ``.jsonl``, ``.ndjson``: such an object in every line;
    ``.csv``, ``.tsv``, ``.tab``: two columns, or any number of them below a first line that names ``input`` and
    ``output``. Text is UTF-8, with a byte order mark or without. A number in JSON is the text that it is written as.
    White space around an input or output is trimmed, ends of lines within become ``\\n``, and a pair that is there
    again counts once; Unicode is left as it is. ``Table.remarks`` says so where it happened.

    Raises ValueError, one sentence with the file, the row or line, the value and what was expected, for what is missing
    or empty, named twice, nested, no text, or no file of these kinds.
    """
    name, ending = printable(path), path.suffix.lower()
    try:
        check_regular(path)
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{name} is not there: expected a file of pairs ({', '.join(ENDINGS)})") from error
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from error
    if ending not in ENDINGS:
        raise ValueError(f"{name} is no file of pairs by its name: expected one of {', '.join(ENDINGS)}")
    text = _decoded(path, content)
    match ending:
        case ".json":
            rows = _json_rows(path, text)
        case ".jsonl" | ".ndjson":
            rows = _json_line_rows(path, text)
        case ".csv":
            rows = _table_rows(path, text, ",", "commas")
        case _:
            rows = _table_rows(path, text, "\t", "tabs")
    return _checked(path, rows)


@dataclass(frozen=True)
class _Rows:
    """Where each row is ("row 3"), its input and output, whatever they are; what was said of the file as a whole."""

    rows: list[tuple[str, Any, Any]]
    remarks: list[str]


class _Object(list[tuple[str, Any]]):
    """The names and values of an object in JSON, as they stand: names may come twice."""


def _decoded(path: Path, content: bytes) -> str:
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        found = content[error.start : error.start + 1].hex()
        _refuse(path, f"line {line}", f"the byte {found} is no text in UTF-8: expected a file saved as UTF-8")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        _refuse(path, f"line {line}", "the byte 00 is in no text: expected a file saved as UTF-8")
    if not text.strip():
        raise ValueError(f"{printable(path)} is empty: expected pairs of an input and an output")
    return text


def _json_rows(path: Path, text: str) -> _Rows:
    values = _json_value(path, None, text)
    if isinstance(values, _Object) or not isinstance(values, list):
        what = "an object" if isinstance(values, _Object) else "a single value"
        raise ValueError(f'{printable(path)} holds {what}: expected a list, [{{"input": ..., "output": ...}}, ...]')
    return _object_rows(path, ((f"row {number}", value) for number, value in enumerate(values, 1)))


def _json_line_rows(path: Path, text: str) -> _Rows:
    lines = ((f"line {number}", line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    return _object_rows(path, ((where, _json_value(path, where, line)) for where, line in lines))


def _json_value(path: Path, where: str | None, text: str) -> Any:
    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of JSON")

    place = ", ".join([printable(path), *([where] if where else [])])
    try:
        return json.loads(text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=constant)
    except RecursionError as error:
        raise ValueError(f"{place} is nested too deeply: expected an input and an output, both text") from error
    except ValueError as error:
        raise ValueError(f"{place} is not JSON: {error}") from error


def _object_rows(path: Path, values: Iterator[tuple[str, Any]]) -> _Rows:
    rows, others = [], dict[str, None]()
    for where, value in values:
        if not isinstance(value, _Object):
            _refuse(path, where, f'{_shown(value)} is no object: expected {{"input": ..., "output": ...}}')
        names = [name for name, _ in value]
        for name in names:
            if names.count(name) > 1:
                _refuse(path, where, f"the key {_shown(name)} is there twice: expected it once")
        for side in SIDES:
            if side not in names:
                found = ", ".join(map(_shown, names)) or "none"
                _refuse(path, where, f"there is no key '{side}' (keys: {found}): expected 'input' and 'output'")
        others.update(dict.fromkeys(name for name in names if name not in SIDES))
        keyed = dict(value)
        rows.append((where, keyed["input"], keyed["output"]))
    return _Rows(rows, _left_out("keys", list(others)))


def _table_rows(path: Path, text: str, delimiter: str, called: str) -> _Rows:
    records = list(_records(path, text, delimiter))
    _, first = records[0]
    header = [cell.strip().lower() for cell in first]
    if not set(SIDES) <= set(header):
        expected = f"expected two columns separated by {called}, or a first line with the names input and output"
        for where, record in records:
            if len(record) != 2:
                _refuse(path, where, f"{_shown(delimiter.join(record))} has {_count(record)}: {expected}")
        told = f"no first line names input and output, so {_shown(first[0])} and {_shown(first[1])} are a pair, too"
        return _Rows([(where, record[0], record[1]) for where, record in records], [told])
    for name in SIDES:
        if header.count(name) > 1:
            _refuse(path, records[0][0], f"the column {name!r} is there twice: expected it once")
    for where, record in records[1:]:
        if len(record) != len(header):
            shown = _shown(delimiter.join(record))
            _refuse(path, where, f"{shown} has {_count(record)}: expected {len(header)}, as in the first line")
    places = [header.index(name) for name in SIDES]
    rows = [(where, record[places[0]], record[places[1]]) for where, record in records[1:]]
    return _Rows(rows, _left_out("columns", [name for name in header if name not in SIDES]))


def _records(path: Path, text: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    """The records that are not blank, and the line at which each begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                yield f"line {line}", record
            line = reader.line_num + 1
    except csv.Error as error:
        _refuse(path, f"line {line}", f"what begins here is no record: {error}")


def _checked(path: Path, found: _Rows) -> Table:
    pairs, again, trimmed, line_ends = dict[Pair, None](), 0, 0, 0
    for where, *values in found.rows:
        sides = []
        for side, value in zip(SIDES, values, strict=True):
            text = _text(path, where, side, value)
            trimmed += text != value
            joined = text.replace("\r\n", "\n").replace("\r", "\n")
            line_ends += joined != text
            sides.append(joined)
        pair = Pair(*sides)
        again += pair in pairs
        pairs[pair] = None
    if not pairs:
        raise ValueError(f"{printable(path)} has no pairs: expected an input and an output in every row")
    remarks = list(found.remarks)
    if trimmed:
        remarks.append(f"left out: white space around {_times(trimmed, 'input or output', 'inputs or outputs')}")
    if line_ends:
        remarks.append(f"ends of lines in {_times(line_ends, 'input or output', 'inputs or outputs')} become \\n")
    if again:
        remarks.append(f"left out, as they are there before: {_times(again, 'pair', 'pairs')}")
    return Table(list(pairs), [f"{printable(path.name)}: {remark}" for remark in remarks])


def _text(path: Path, where: str, side: str, value: Any) -> str:
    if isinstance(value, list) and not isinstance(value, _Object):
        told = f"the {side} {_shown(value)} is a list"
        _refuse(path, where, f"{told}: expected one text, and a row for each of several outputs")
    if not isinstance(value, str):
        shown = "an object" if isinstance(value, _Object) else _shown(value)
        _refuse(path, where, f"the {side} is {shown}: expected text or a number")
    text = value.strip()
    if not text:
        _refuse(path, where, f"the {side} {_shown(value)} is empty: expected text")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        _refuse(path, where, f"the {side} {_shown(value)} has a character that no text has: expected text in UTF-8")
    return text


def _refuse(path: Path, where: str, what: str) -> NoReturn:
    raise ValueError(f"{printable(path)}, {where}: {what}")


def _shown(value: object) -> str:
    """A value in a sentence: as JSON has it, of text the quoted letters, cut where it is long."""
    shown = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escaped(shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 3]}...")


def _count(record: list[str]) -> str:
    return _times(len(record), "column", "columns")


def _times(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _left_out(what: str, names: list[str]) -> list[str]:
    return [f"left out: {what} {', '.join(map(_shown, names))}"] if names else []
