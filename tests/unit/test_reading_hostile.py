"""Files that are damaged, encrypted, enormous, bombs, or not what they are called."""

import gzip
import io
import json
import logging
import random
import re
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager

import pyarrow as pa
import pytest
from files import docx_file, pdf, pptx_file, repacked, write
from pyarrow import parquet

from reflectory.errors import DocumentError
from reflectory.retrieval import read_documents
from reflectory.retrieval.reading import package
from reflectory.retrieval.reading.documents import READERS
from reflectory.retrieval.reading.kinds import check_kind

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600


def parquet_file():
    table = {"text": ["Ice floats."] * 50, "id": [str(n) for n in range(50)], "n": [[1]] * 50}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(table), buffer)
    return buffer.getvalue()


@contextmanager
def memory_below(limit):
    """Assert that what happens inside never holds more than ``limit`` bytes of Python's."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def zip_of(**parts):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def rich_docx():
    def make(document):
        document.add_heading("Ice", 1)
        document.add_paragraph("one", style="List Bullet")
        document.add_table(2, 2).cell(0, 0).text = "cell"

    return docx_file(make, title="T")


SAMPLES = {
    ".txt": "naïve text".encode(),
    ".md": b"---\ntitle: T\n---\n# A\n\ntext",
    ".html": b"<html><head><title>T</title></head><body><p>One</p><li>Two</body></html>",
    ".pdf": pdf("One", "Two", Title="T", xmp="<a/>"),
    ".docx": rich_docx(),
    ".pptx": pptx_file(("Ice", "one\ntwo"), notes="note"),
    ".csv": b'text,title,id\n"a, b",T,1\nc,U,2\n',
    ".tsv": b"text\ttitle\na\tb\n",
    ".jsonl": b'{"text": "a", "id": "1"}\n{"text": "b"}\n',
    ".parquet": parquet_file(),
}


# --- content against suffix ------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "message", "hint"),
    [
        ("a.txt", SAMPLES[".docx"], "it is a Word document", r"\.docx"),
        ("a.csv", SAMPLES[".docx"], "it is a Word document", r"\.docx"),
        ("a.docx", SAMPLES[".pptx"], "it is a presentation", r"\.pptx"),
        ("a.pptx", SAMPLES[".docx"], "it is a Word document", r"\.docx"),
        ("a.md", SAMPLES[".pdf"], "it is a PDF", r"\.pdf"),
        ("a.jsonl", SAMPLES[".parquet"], "it is a Parquet file", r"\.parquet"),
        ("a.pdf", b"\n<!DOCTYPE html><html>Please sign in", "it is an HTML page", r"\.html"),
        ("a.docx", b"{\\rtf1 text}", "Rich Text Format", "save it as .docx"),
        ("a.txt", b"{\\rtf1 text}", "Rich Text Format", "save it as .docx"),
        ("a.csv", zip_of(xl__workbook="x"), "it is a spreadsheet", "as .csv"),
        ("a.docx", zip_of(mimetype="odt", content="x"), "OpenDocument", "as .docx"),
        ("a.docx", zip_of(readme="x"), "it is a ZIP archive", "unpack"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "compressed by gzip", "unpack"),
        ("a.txt", b"\xff\xd8\xff\xe0 JFIF", r"a picture \(JPEG\)", "remove"),
        ("a.docx", OLE, "before 2007", "save it as .docx"),
        (
            "a.docx",
            OLE + "EncryptedPackage".encode("utf-16-le"),
            "an Office document that is encrypted",
            "without a password",
        ),
        (
            "a.pptx",
            OLE + "EncryptedPackage".encode("utf-16-le"),
            "an Office document that is encrypted",
            "without a password",
        ),
        ("a.parquet", b"PARE" + b"\0" * 20, "an encrypted Parquet file", "not encrypted"),
    ],
    # Archives hold the time, and tests must have the same names in all processes.
    ids=lambda value: value if isinstance(value, str) else "data",
)
def test_what_a_file_holds_is_said_where_its_suffix_says_something_else(
    tmp_path, name, data, message, hint
):
    with pytest.raises(DocumentError, match=f"{re.escape(name)}: .*{message}") as caught:
        read_documents(write(tmp_path, name, data))
    assert re.search(hint, caught.value.hint)


def test_a_text_that_begins_with_a_tag_is_a_text(tmp_path):
    (document,) = read_documents(write(tmp_path, "a.txt", "<html> is a tag")).documents
    assert document.text == "<html> is a tag"


@pytest.mark.parametrize("suffix", [".docx", ".pptx", ".pdf", ".parquet"])
@pytest.mark.parametrize("content", ["", "not one at all", "half"])
def test_an_empty_or_cut_off_file_is_named(tmp_path, suffix, content):
    data = SAMPLES[suffix][:-100] if content == "half" else content
    with pytest.raises(DocumentError, match=f"a{suffix}: .*(damaged|ZIP archive)") as caught:
        read_documents(write(tmp_path, f"a{suffix}", data))
    assert caught.value.hint


# --- bombs -----------------------------------------------------------------------------


def test_a_word_document_that_unpacks_to_much_is_refused_unread(tmp_path):
    def bomb(parts):
        parts["word/document.xml"] += b" " * (70 * 2**20)

    path = write(tmp_path, "bomb.docx", repacked(SAMPLES[".docx"], bomb))
    assert path.stat().st_size < 2**20
    with memory_below(2**23), pytest.raises(DocumentError, match="unpacks to 71 MiB of XML"):
        read_documents(path)


@pytest.mark.parametrize("suffix", [".docx", ".pptx"])
def test_media_and_the_number_of_parts_are_bounded_too(tmp_path, monkeypatch, suffix):
    def media(parts):
        parts["media/film.bin"] = b"\0" * 2**21

    monkeypatch.setattr(package, "MAX_UNPACKED", 2**21)
    with pytest.raises(DocumentError, match="MiB in all"):
        read_documents(write(tmp_path, f"a{suffix}", repacked(SAMPLES[suffix], media)))
    monkeypatch.setattr(package, "MAX_PARTS", 3)
    with pytest.raises(DocumentError, match="parts, and at most 3"):
        read_documents(write(tmp_path, f"b{suffix}", SAMPLES[suffix]))


@pytest.mark.parametrize("consistent", [True, False])
def test_a_package_that_lies_about_its_sizes_unpacks_no_further(tmp_path, consistent):
    """ZipFile.read unpacks everything and then cuts off what is more than stated."""

    def bomb(parts):
        parts["word/document.xml"] += b" " * (20 * 2**20)

    data = repacked(SAMPLES[".docx"], bomb)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        part = archive.getinfo("word/document.xml")
        seen = archive.read(part)[: part.file_size - 20 * 2**20]
    lie = data.replace(struct.pack("<I", part.file_size), struct.pack("<I", len(seen)))
    if consistent:
        lie = lie.replace(struct.pack("<I", part.CRC), struct.pack("<I", zlib.crc32(seen)))
    assert len(lie) == len(data) and lie != data
    path = write(tmp_path, "lie.docx", lie)
    read_documents(write(tmp_path, "a.docx", SAMPLES[".docx"]))  # loads python-docx
    with memory_below(2**22):
        if consistent:
            assert "Ice" in read_documents(path).documents[0].text
        else:
            with pytest.raises(DocumentError, match="damaged"):
                read_documents(path)


ENTITIES = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
LAUGHS = f'<!DOCTYPE x [<!ENTITY e0 "ha">{ENTITIES}]>'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("suffix", "part"), [(".docx", "word/document.xml"), (".pptx", "ppt/slides/slide1.xml")]
)
@pytest.mark.parametrize(
    "declaration", [LAUGHS, '<!DOCTYPE x [<!ENTITY e9 SYSTEM "file:///etc/hostname">]>']
)
def test_entities_are_refused_in_any_encoding(tmp_path, suffix, part, encoding, declaration):
    def bomb(parts):
        markup = re.sub(r"<\?xml[^>]*\?>", "", parts[part].decode())
        text = f'<?xml version="1.0" encoding="{encoding}"?>{declaration}{markup}'
        parts[part] = text.replace("Ice", "&e9;").encode(encoding)

    with pytest.raises(DocumentError, match=f"{part} declares XML entities"):
        read_documents(write(tmp_path, f"a{suffix}", repacked(SAMPLES[suffix], bomb)))


def test_a_part_with_a_password_is_encrypted(tmp_path):
    data = bytearray(SAMPLES[".docx"])
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    with pytest.raises(DocumentError, match="is encrypted") as caught:
        read_documents(write(tmp_path, "a.docx", bytes(data)))
    assert "password" in caught.value.hint


def test_the_strict_form_of_open_xml_is_named(tmp_path):
    def strict(parts):
        parts["_rels/.rels"] = parts["_rels/.rels"].replace(
            b"http://schemas.openxmlformats.org/officeDocument/2006",
            b"http://purl.oclc.org/ooxml/officeDocument",
        )

    with pytest.raises(DocumentError, match="Strict form"):
        read_documents(write(tmp_path, "a.docx", repacked(SAMPLES[".docx"], strict)))


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_half_a_gigabyte_is_refused_without_reading_it(tmp_path, suffix):
    path = tmp_path / f"large{suffix}"
    with path.open("wb") as stream:
        stream.truncate(500 * 2**20)  # takes no space on most file systems
    refused = pytest.raises(DocumentError, match="larger than 64 MiB")
    with memory_below(2**20), refused as caught:
        read_documents(path)
    assert "max_bytes" in caught.value.hint


# --- bytes at random -------------------------------------------------------------------


def damaged_copies(data, count):
    """Yield copies that are cut off or have bits flipped; the same ones every time."""
    dice = random.Random(11)
    for number in range(count):
        copy = bytearray(data[: dice.randrange(len(data))] if number % 3 == 0 else data)
        for _ in range(dice.choice((1, 1, 3, 10)) if number % 3 and copy else 0):
            copy[dice.randrange(len(copy))] ^= 1 << dice.randrange(8)
        yield bytes(copy)


def read_or_refuse(data, suffix):
    """Read a file; only a DocumentError may keep it from being read."""
    try:
        check_kind(data, f"a{suffix}", suffix)
        READERS[suffix](data, f"a{suffix}")
    except DocumentError as error:
        assert f"a{suffix}" in error.message and error.hint
        return False
    return True


@pytest.mark.parametrize("suffix", sorted(SAMPLES))
def test_a_damaged_file_is_read_or_refused(suffix):
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    assert read_or_refuse(SAMPLES[suffix], suffix)
    for copy in damaged_copies(SAMPLES[suffix], 90):
        read_or_refuse(copy, suffix)


@pytest.mark.parametrize("suffix", [".docx", ".pptx"])
def test_a_package_with_a_damaged_part_is_read_or_refused(suffix):
    """Inside a package, where a checksum would otherwise stop everything."""
    dice = random.Random(5)
    wanted = re.compile(r"document\.|slide1\.|rels|Content|styles|numbering|presentation\.|core")
    outcomes = set()
    for _ in range(60):

        def change(parts):
            name = dice.choice([n for n in sorted(parts) if wanted.search(n)])
            content = parts[name]
            way = dice.randrange(4)
            if way == 0:
                del parts[name]
            elif way == 1:
                parts[name] = next(iter(damaged_copies(content, 1)))
            elif way == 2:
                parts[name] = list(damaged_copies(content, 3))[dice.choice((1, 2))]
            else:
                value = dice.choice(list(re.finditer(rb'"([^"]*)"', content)))
                odd = dice.choice([b"", b"-1", b"9" * 20, b"abc", b"NULL", b"../x", b"\xc2\xb2"])
                parts[name] = content[: value.start(1)] + odd + content[value.end(1) :]

        outcomes.add(read_or_refuse(repacked(SAMPLES[suffix], change), suffix))
    assert outcomes == {True, False}


def test_a_folder_of_damaged_files_is_read_around_them(tmp_path):
    write(tmp_path, "good.txt", "text")
    for number, (suffix, data) in enumerate(SAMPLES.items()):
        write(tmp_path, f"bad{number}{suffix}", data[: len(data) // 2] + b"\0")
    result = read_documents(tmp_path)
    assert "good.txt" in [document.id for document in result.documents]
    assert len(result.skipped) >= len(SAMPLES) - 1
    assert str(tmp_path) not in json.dumps([skip.model_dump() for skip in result.skipped])
