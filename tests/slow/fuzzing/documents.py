"""Documents of every kind, damaged outside and inside, through the readers and into passages."""

import io
import json
import logging
import zipfile
from pathlib import Path

import pyarrow as pa
from files import docx_file, pdf, pptx_file, word_xml
from pyarrow import parquet

from fuzzing.damage import TEXTS, damaged_bytes, damaged_json, damaged_text, odd_value
from fuzzing.tally import Case, Unhandled
from reflectory.errors import DocumentError
from reflectory.retrieval.passages import estimate_tokens, split_passages
from reflectory.retrieval.preprocess import preprocess
from reflectory.retrieval.reading.documents import READERS, read_documents
from reflectory.retrieval.reading.kinds import check_kind
from reflectory.retrieval.reading.records import SkippedFile
from reflectory.retrieval.structure import RuleExtractor

logging.getLogger("pypdf").setLevel(logging.CRITICAL)

MARKDOWN = """---
title: Ice & water
license: CC-BY-4.0
---
# Ice

Ice *floats* on `water`[^1], because it is [lighter](https://example.org "why").

| state | density |
|-------|--------:|
| ice   | 0.917   |
| water | 1.000   |

```python
print("# no heading")
```

- one
    1. two
> quoted

[^1]: A note.
"""
HTML = """<!DOCTYPE html><html lang="en"><head><title>Ice &amp; water</title>
<meta name="license" content="CC-BY"><style>p {color: red}</style></head><body>
<nav>Home</nav><h1>Ice</h1><p>Ice <b>floats</b> on water.<br>It does.</p>
<ul><li>one<ul><li>two</li></ul></li></ul><table><tr><th>a</th><td colspan="2">b</td></tr></table>
<pre>  kept
  as it is</pre><script>alert("no")</script><!-- nor this --></body></html>"""
ROWS = [
    {"text": "Ice floats on water.", "title": "Ice", "id": "1", "n": 3},
    {"text": "Lava is molten rock.\n\nIt flows.", "title": "Lava", "id": "2", "license": "CC0"},
    {"text": "Steam rises.", "tags": ["a", "b"], "x": {"y": None}},
]
TABLE = '\ufefftext,title,id\n"Ice floats, says ""he"".",Ice,1\n"two\nlines",Lava,2\n,,3\n'


def _docx() -> bytes:
    def make(document):
        document.add_heading("Ice", 1)
        document.add_paragraph("Ice floats on water.")
        document.add_paragraph("one", style="List Bullet")
        table = document.add_table(2, 2)
        table.cell(0, 0).merge(table.cell(0, 1)).text = "cell"
        document.sections[0].header.paragraphs[0].text = "header"
        document.element.body.insert(
            0, word_xml("<w:p {ns}><w:ins><w:r><w:t>added</w:t></w:r></w:ins></w:p>")
        )

    return docx_file(make, title="Ice")


PARQUET = {
    "text": ["Ice floats.", None, "Lava flows."],
    "id": ["1", "2", "3"],
    "n": [[1], [], None],
    "x": [1.5, float("nan"), None],
}


def _parquet(columns: dict) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


SAMPLES: dict[str, bytes] = {
    ".txt": "A naïve text.\r\n\r\nIts second paragraph. It has two sentences!\f\n".encode(),
    ".md": MARKDOWN.encode(),
    ".html": HTML.encode(),
    ".pdf": pdf("Ice floats on water.", "Lava (flows).", "", Title="Ice", xmp="<a/>"),
    ".docx": _docx(),
    ".pptx": pptx_file(("Ice", "one\ntwo"), ("Lava", "three"), notes="note"),
    ".csv": TABLE.encode(),
    ".tsv": TABLE.replace(",", "\t").encode(),
    ".jsonl": "\n".join(json.dumps(row) for row in ROWS).encode(),
    ".parquet": _parquet(PARQUET),
}
"""A valid file of each kind."""
EXTREME: dict[str, tuple[str, ...]] = {
    ".html": (
        "<div>" * 3000 + "deep",
        "<ul><li>" * 1200 + "deep",
        "<table><tr><td>" * 600 + "deep",
        "<p" + " a=1" * 5000 + ">x",
        "<!doctype html><title>" + "t" * 100_000,
        "<html><p>&#0;&#xD800;&#1114112;&lt</p><svg><math><p>x",
        "<base href='//x'><meta charset='utf-7'><p>+ADw-script+AD4-",
        '<table><tr><td colspan="999999999" rowspan="-1">x</td></tr></table>',
    ),
    ".md": (
        ">" * 3000 + " deep",
        "".join(f"{'  ' * n}- x\n" for n in range(400)),
        "[" * 3000 + "x" + "](y)" * 3000,
        "*_" * 5000 + "x",
        "```\n" * 999,
        "---\ntitle: &a [*a]\n---\nx",
        "---\ntitle: {a: " + "[" * 300 + "\n---\nx",
        "---\n- x\n---\n\n# \n\n#\n" + "#" * 300 + " x",
        "| a |\n|---|\n" + "|" * 5000 + " b",
    ),
    ".csv": (
        'text\n"' + "x" * 200_000 + '"\n',
        "text" + ",a" * 3000 + "\nx" + ",1" * 3000 + "\n",
        "text,text,text\na,b,c\n",
        'text\n"never closed',
        "text\nx\0y\n",
        "a;b\n1;2\n",
        "text\n" + "\n" * 5000,
    ),
    ".jsonl": (
        '{"text": ' + "[" * 2000 + "]" * 2000 + "}",
        '{"text": "a", "n": ' + "9" * 5000 + "}",
        '{"text": "\\ud800", "id": "\\udfff"}',
        '{"text": "a", "id": "x"}\n{"text": "b", "id": "x"}',
        '{"text": NaN, "title": Infinity}\n{"text": "a", "n": -Infinity}',
        '{"text": "a", "text": "b", "title": {"a": 1}, "id": [1]}',
        '[1]\nnull\ntrue\n1\n"x"',
    ),
    ".txt": ("\f" * 3000 + "x", "x" * 300_000, "\u0301" * 5000, "\r" * 3000 + "x", ". " * 20_000),
}
EXTREME[".tsv"] = tuple(text.replace(",", "\t") for text in EXTREME[".csv"])
"""Texts that are valid, or nearly, and at the ends of what a reader may meet."""
# The readers of packages and PDFs take ten times as long as the others.
DRAWN = [".txt", ".md", ".html", ".csv", ".tsv", ".jsonl"] * 3 + [".pdf", ".parquet"] * 3
DRAWN += [".docx", ".pptx"] * 2
EXTRACTOR = RuleExtractor()


def _parts_of(suffix: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(SAMPLES[suffix])) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


PARTS = {suffix: _parts_of(suffix) for suffix in (".docx", ".pptx")}
# The layouts and themes are never read; damage to them would change nothing.
READ = {
    suffix: [n for n in names if "slideLayout" not in n and "theme" not in n and b"<" in names[n]]
    for suffix, names in PARTS.items()
}


def run_case(case: Case, folder: Path) -> None:
    """Read one damaged file and cut what it holds into passages."""
    suffix = case.dice.choice(DRAWN)
    data = _damaged(case, suffix)
    if case.dice.random() < 0.15:
        _read_folder(case, folder, suffix, data)
        return
    name = f"a{suffix}"
    try:
        check_kind(data, name, suffix)
        found = READERS[suffix](data, name)
    except DocumentError as error:
        if name not in error.message:
            raise Unhandled(f"a document is refused without its name: {error.message}") from error
        raise
    case.past, case.outcome = True, f"read {suffix}"
    for item in found:
        if not isinstance(item, SkippedFile):
            _into_passages(case, item)


def _read_folder(case: Case, folder: Path, suffix: str, data: bytes) -> None:
    """Read it as a file on the disk, beside one that is whole."""
    whole, broken = folder / "whole.txt", folder / f"broken{suffix}"
    whole.write_bytes(SAMPLES[".txt"])
    broken.write_bytes(data)
    try:
        if case.dice.random() < 0.5:  # by itself, so that it may be refused
            read = read_documents(broken)
        else:
            read = read_documents(folder)
            if "whole.txt" not in {document.id for document in read.documents}:
                raise Unhandled("a damaged file hides the one beside it")
    finally:
        broken.unlink()
    case.past = any(document.id != "whole.txt" for document in read.documents)
    case.outcome = f"read {suffix}" if case.past else "skipped"
    read.model_dump_json()


def _into_passages(case: Case, document) -> None:
    """Clean and cut a document; what its passages say stands at their places."""
    clean = preprocess(document)
    most = case.dice.choice((1, 20, 200))
    for passage in split_passages(clean, max_tokens=most, count_tokens=estimate_tokens):
        if clean.text[passage.start : passage.end] != passage.text:
            raise Unhandled("a passage is not where it says")
        passage.model_dump_json()
    clean.model_dump_json().encode()
    if case.dice.random() < 0.1:
        EXTRACTOR.extract([clean.text[:3000]])


def _damaged(case: Case, suffix: str) -> bytes:
    dice = case.dice
    if suffix in EXTREME and dice.random() < 0.05:
        text = dice.choice(EXTREME[suffix])
        return text.encode("utf-8", "surrogatepass")
    if dice.random() < 0.05:  # what it holds is of another kind
        return damaged_bytes(dice, SAMPLES[dice.choice(DRAWN)])
    if suffix in PARTS:
        return _package(case, suffix) if dice.random() < 0.7 else _outside(case, suffix)
    if suffix == ".parquet" and dice.random() < 0.6:
        return _odd_parquet(case)
    if suffix == ".jsonl" and dice.random() < 0.7:
        return _odd_lines(case)
    if suffix in {".pdf", ".parquet"} or dice.random() < 0.25:
        return _outside(case, suffix)
    text = damaged_text(dice, SAMPLES[suffix].decode())
    coding = dice.choice((*["utf-8"] * 8, "utf-16", "utf-8-sig", "latin-1", "utf-16-le"))
    return text.encode(coding, "surrogatepass" if coding.startswith("utf") else "replace")


def _outside(case: Case, suffix: str) -> bytes:
    return damaged_bytes(case.dice, SAMPLES[suffix], most=case.dice.choice((1, 4, 30)))


def _package(case: Case, suffix: str) -> bytes:
    """Damage parts of a package and close it again, with the right checksums."""
    dice, parts = case.dice, dict(PARTS[suffix])
    for _ in range(dice.randint(1, 3)):
        name = dice.choice(READ[suffix])
        way = dice.randrange(6)
        if name not in parts or way == 0:
            parts.pop(name, None)
        elif way == 1:
            parts[name] = damaged_bytes(dice, parts[name])
        elif way == 2:
            parts[name] = parts[dice.choice(sorted(parts))]
        elif way == 3:
            text = parts[name].decode("utf-8", "replace")
            parts[name] = damaged_text(dice, text, most=1).encode("utf-8", "surrogatepass")
        else:
            parts[name] = _odd_attribute(case, parts[name])
    if dice.random() < 0.1:
        parts[dice.choice(("../../x", "/x", "word/", "a\\b", "x" * 300))] = b"<x/>"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _odd_attribute(case: Case, xml: bytes) -> bytes:
    """Put an odd value between two quotation marks, or move an element."""
    pieces = xml.split(b'"')
    if len(pieces) < 3:
        return xml
    place = case.dice.randrange(1, len(pieces) - 1)
    odd = (b"", b"-1", b"9" * 20, b"abc", b"NULL", b"../x", b"\xc2\xb2", b"rId1", b"0", b"1e9")
    pieces[place] = case.dice.choice(odd)
    return b'"'.join(pieces)


def _odd_lines(case: Case) -> bytes:
    dice, lines = case.dice, []
    for number, row in enumerate(ROWS * 2):
        value = damaged_json(dice, row, most=1) if dice.random() < 0.2 else dict(row)
        if isinstance(value, dict) and dice.random() < 0.8:  # equal ids alone would be refused
            value["id"] = f"{number}"
        lines.append(_json(value))
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _json(value: object) -> str:
    """Return JSON, also of what Python refuses to write."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except ValueError:
        return '{"text": "a", "n": ' + "9" * 5000 + "}"


def _odd_parquet(case: Case) -> bytes:
    dice, columns = case.dice, dict(PARQUET)
    name = dice.choice(("text", "id", "n", "x", dice.choice(TEXTS)[:50]))
    kind = odd_value(dice)
    columns[name] = dice.choice(
        (
            [kind] * 3,
            [b"\xff\xfe", b"ok", None],
            [dice.choice(TEXTS) for _ in range(3)],
            [{"a": 1}, {"a": None}, None],
        )
    )
    try:
        return _parquet(columns)
    except (pa.ArrowException, OverflowError, UnicodeError, RecursionError, ValueError):
        return _outside(case, ".parquet")  # Arrow itself does not write such a column
