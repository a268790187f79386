"""Readers: what is read, what is refused and with which words, and PREPROCESS."""

import codecs
import json
import os
import subprocess
import sys

import pytest
from files import pdf, read_one, write
from hypothesis import given
from hypothesis import strategies as st

from reflectory.errors import DocumentError
from reflectory.retrieval.preprocess import clean_text, preprocess
from reflectory.retrieval.reading import iter_documents, read_documents
from reflectory.types import Document

# --- formats ---------------------------------------------------------------------------


def test_a_folder_is_read_sorted_recursively_and_without_hidden_files(tmp_path):
    write(tmp_path, "b.txt", "second")
    write(tmp_path, "a/deep/z.md", "# Top\n\nfirst")
    write(tmp_path, ".hidden.txt", "no")
    write(tmp_path, ".git/config.txt", "no")
    result = read_documents(tmp_path)
    assert [d.id for d in result.documents] == ["a/deep/z.md", "b.txt"]
    assert [d.title for d in result.documents] == ["Top", "b"]
    assert result.skipped == ()
    assert str(tmp_path) not in result.model_dump_json()


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# The *title* #\n\ntext", "The *title*"),
        ("```\n# comment\n```\n\n## Real", "Real"),
        ("Underlined\n=====\ntext", "Underlined"),
        ("---\n# Between rules\n---\n", "Between rules"),
        ("no heading", "page"),
        ("#hashtag only", "page"),
    ],
)
def test_the_title_of_markdown_is_its_first_heading(tmp_path, text, title):
    document = read_one(write(tmp_path, "page.md", text))
    assert (document.title, document.text) == (title, text)


def test_html_gives_what_a_page_shows(tmp_path):
    page = """<!doctype html><html><head><title>The  Moon</title><style>p{}</style></head><body>
    <script>alert("x")</script><!-- note --><h2>Size</h2>
    <p>It is <b>big</b>,\n and<br>far.</p><p hidden>not this</p><div style="display:none">nor</div>
    <ul><li>one<li>two</ul><pre>a\n  b</pre><template>t</template>
    <table><tr><td>x</td><td>1</td></tr></table></body></html>"""
    document = read_one(write(tmp_path, "moon.html", page))
    assert document.title == "The Moon"
    text = document.text
    assert "It is big, and\nfar." in text
    assert "## Size" in text and "- one\n" in text and "- two" in text and "a\n  b" in text
    assert "x 1" in text
    assert not any(word in text for word in ("alert", "note", "not this", "nor", "p{}", "The Moon"))


def test_html_nests_deeper_than_python_recurses(tmp_path):
    page = "<div>" * 5000 + "deep" + "</div>" * 5000
    assert read_one(write(tmp_path, "deep.htm", page)).text == "deep"


def test_html_believes_a_true_declaration_of_its_encoding_only(tmp_path):
    head = '<meta charset="{}"><p>Привет</p>'
    cyrillic = write(tmp_path, "a.html", head.format("windows-1251").encode("cp1251"))
    wrong = write(tmp_path, "b.html", head.format("ascii").encode("utf-8"))
    assert read_one(cyrillic).text == read_one(wrong).text == "Привет"


def test_pdf_has_pages_and_a_title(tmp_path):
    document = read_one(write(tmp_path, "paper.pdf", pdf("First page", "Second", Title="On Ice")))
    assert document.title == "On Ice"
    assert [document.text[start:].split("\n")[0] for start in document.pages] == [
        "First page",
        "Second",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pdf("Secret", password="x"), "encrypted"),
        (pdf("Some text")[:200], "damaged"),
        (b"%PDF-1.7\n%garbage", "damaged"),
        (b"not a pdf at all", "damaged"),
        (pdf("", ""), "no page of the PDF has text"),
    ],
)
def test_a_pdf_that_cannot_be_read_says_why(tmp_path, content, message):
    with pytest.raises(DocumentError, match=message) as caught:
        read_documents(write(tmp_path, "paper.pdf", content))
    assert "paper.pdf" in str(caught.value) and caught.value.hint


def test_json_lines_keep_ids_titles_and_scalar_fields(tmp_path):
    rows = [
        {"text": "one", "title": "T", "id": 7, "year": 1999, "ok": True, "tags": ["x"], "no": None},
        {"text": "two\u2028still two"},
    ]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    first, second = read_documents(write(tmp_path, "rows.jsonl", content)).documents
    assert (first.id, first.title, first.metadata) == ("7", "T", {"year": "1999", "ok": "true"})
    assert (second.id, second.title) == ("rows.jsonl:2", "")
    assert second.text == "two\u2028still two"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "x"', "rows.jsonl:2: not JSON"),
        ("[1]", "rows.jsonl:2: expected an object, got list"),
        ('{"body": "x"}', r"rows.jsonl:2: no string field `text` \(fields: body\)"),
        ('{"text": 5}', "rows.jsonl:2: no string field `text`"),
        ('{"text": "x", "id": "a"}', "rows.jsonl:2: the id 'a' was used in line 1"),
        ('{"text": "x", "title": 3}', "rows.jsonl:2: `title` is not a string"),
        ('{"text": "x", "id": [1]}', "rows.jsonl:2: `id` is neither"),
        ("[" * 100_000, "rows.jsonl:2: not JSON"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = write(tmp_path, "rows.jsonl", '{"text": "x", "id": "a"}\n' + line + "\n")
    with pytest.raises(DocumentError, match=message):
        read_documents(path)


def test_a_row_without_text_is_skipped_and_reported(tmp_path):
    path = write(tmp_path, "rows.jsonl", '{"text": " "}\n{"text": "x"}\n')
    result = read_documents(path)
    assert [d.id for d in result.documents] == ["rows.jsonl:2"]
    assert [(s.path, s.reason) for s in result.skipped] == [("rows.jsonl:1", "its text is empty")]


# --- encodings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("naïve ☃".encode(), "naïve ☃"),
        (codecs.BOM_UTF8 + "naïve".encode(), "naïve"),
        ("naïve ☃".encode("utf-16"), "naïve ☃"),
        (codecs.BOM_UTF16_BE + "naïve".encode("utf-16-be"), "naïve"),
        ("naïve".encode("utf-32"), "naïve"),
        ("Il était une fois à l\u2019école".encode("cp1252"), "Il était une fois à l\u2019école"),
    ],
)
def test_encodings_that_are_understood(tmp_path, data, text):
    assert read_one(write(tmp_path, "a.txt", data)).text == text


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        bytes(range(1, 256)),
        "Привет, мир".encode("koi8-r"),
        "今日は良い天気です".encode("shift-jis"),
        "façade, naïve, déjà vu: ".encode() + b"\xff and more",
        "utf sixteen without a mark".encode("utf-16-le"),
        codecs.BOM_UTF16_LE + b"abc",
        b"Western text with an undefined byte \x81 in the middle of it",
    ],
)
def test_what_is_no_text_is_refused_rather_than_misread(tmp_path, data):
    with pytest.raises(DocumentError, match=r"a\.txt") as caught:
        read_documents(write(tmp_path, "a.txt", data))
    assert "UTF-8" in caught.value.hint


# --- what cannot be read ---------------------------------------------------------------


def test_named_paths_must_be_readable(tmp_path):
    good = write(tmp_path, "good.txt", "text")
    cases = [
        ([], "no documents were given"),
        ([""], "a path is empty"),
        ([tmp_path / "missing.txt"], "no such file or folder"),
        ([good, write(tmp_path, "empty.txt", "")], "empty.txt: there is no text in it"),
        ([write(tmp_path, "white.txt", " \n\t ")], "white.txt: there is no text in it"),
        ([write(tmp_path, "image.png", "x")], "image.png: files of type .png are not read"),
        (["bad\0name"], "not a usable path|no such file"),
    ]
    for paths, message in cases:
        with pytest.raises(DocumentError, match=message) as caught:
            read_documents(paths)
        assert caught.value.hint


def test_files_of_a_folder_are_skipped_with_a_reason(tmp_path):
    write(tmp_path, "a.txt", "text")
    write(tmp_path, "b.txt", b"\0\1")
    write(tmp_path, "c.png", b"x")
    write(tmp_path, "d.pdf", b"x")
    write(tmp_path, "sub/e.jsonl", "{")
    write(tmp_path, "f.txt", "long " * 100)
    result = read_documents(tmp_path, max_bytes=400)
    assert [d.id for d in result.documents] == ["a.txt"]
    reasons = {skip.path: skip.reason for skip in result.skipped}
    assert set(reasons) == {"b.txt", "c.png", "d.pdf", "sub/e.jsonl", "f.txt"}
    assert "larger than" in reasons["f.txt"] and "not JSON" in reasons["sub/e.jsonl"]


def test_a_folder_with_nothing_readable_lists_the_reasons(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DocumentError, match=r"no readable document in .*empty: nothing is there"):
        read_documents(empty)
    for number in range(12):
        write(tmp_path, f"x{number:02}.png", b"x")
    with pytest.raises(DocumentError) as caught:
        read_documents(tmp_path)
    assert "x00.png: files of type .png are not read" in str(caught.value)
    assert "and 2 more" in str(caught.value)


def test_a_large_file_is_refused_with_a_hint(tmp_path):
    path = write(tmp_path, "large.txt", "x" * 2**20 + "x")
    with pytest.raises(DocumentError, match="larger than 1 MiB") as caught:
        read_documents(path, max_bytes=2**20)
    assert "max_bytes" in caught.value.hint
    assert len(read_one(path).text) == 2**20 + 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DocumentError, match="not a regular file"):
        read_documents(tmp_path / "pipe.txt")


def test_links_in_a_circle_end(tmp_path):
    write(tmp_path, "a.txt", "text")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert [d.id for d in read_documents(tmp_path).documents] == ["a.txt"]


# --- ids -------------------------------------------------------------------------------


def test_equal_names_of_different_folders_get_different_ids(tmp_path):
    for folder in ("x/notes", "y/notes", "z"):
        write(tmp_path, f"{folder}/n.txt", folder)
    paths = [tmp_path / "x/notes", tmp_path / "y/notes", tmp_path / "z/n.txt"]
    ids = [d.id for d in read_documents(paths).documents]
    assert ids == ["notes/n.txt", "notes/n.txt~2", "z/n.txt"]


def test_a_file_that_is_given_twice_is_read_once_and_must_be_readable(tmp_path):
    path = write(tmp_path, "a.txt", "text")
    bad = write(tmp_path, "bad.txt", b"\0")
    assert len(read_documents([path, path]).documents) == 1
    with pytest.raises(DocumentError, match=r"bad\.txt"):
        read_documents([tmp_path, bad])


def test_an_id_in_two_files_names_both(tmp_path):
    write(tmp_path, "a.jsonl", '{"text": "x", "id": "same"}')
    write(tmp_path, "b.jsonl", '{"text": "y", "id": "same"}')
    with pytest.raises(DocumentError, match=r"'same' occurs in a\.jsonl:1 and in b\.jsonl:1"):
        read_documents(tmp_path)


def test_the_iterator_opens_a_file_when_it_comes_to_it(tmp_path):
    write(tmp_path, "a.txt", "text")
    late = write(tmp_path, "b.txt", "text")
    iterator = iter_documents([tmp_path / "a.txt", late])
    assert next(iterator).id == "a.txt"
    late.unlink()
    with pytest.raises(DocumentError, match=r"b\.txt"):
        next(iterator)


# --- PREPROCESS ------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=80), st.lists(st.integers(0, 80), max_size=3))
def test_preprocess_is_idempotent_and_keeps_pages_in_the_text(text, offsets):
    pages = tuple(sorted(min(offset, len(text)) for offset in offsets))
    once = preprocess(Document(id="d", text=text, pages=pages))
    assert preprocess(once) == once
    assert len(once.pages) == len(pages)
    assert list(once.pages) == sorted(once.pages)
    assert all(0 <= page <= len(once.text) for page in once.pages)
    once.text.encode("utf-8")


def test_preprocess_cleans_what_a_reader_does_not_see():
    raw = "\ufeffe\u0301t\u00ade\u0301 \r\nnext\u2028line\x00\u202e \t\n\n\ud800end  "
    assert clean_text(raw) == "été\nnext\nline\n\n\ufffdend"


def test_preprocess_moves_page_offsets():
    document = preprocess(Document(id="d", text="one  \r\n\r\ntwo", pages=(0, 9)))
    assert document.text == "one\n\ntwo"
    assert document.pages == (0, 5)


@pytest.mark.parametrize(
    "document",
    [
        Document(id="", text="x"),
        Document(id="\ud800", text="x"),
        Document(id="d", text="x", pages=(0, 9)),
        Document(id="d", text="long text", pages=(5, 2)),
    ],
)
def test_a_document_that_cannot_be_used_is_refused(document):
    with pytest.raises(DocumentError):
        preprocess(document)


def test_a_damaged_pdf_is_a_reason_and_no_line_of_a_library(tmp_path):
    write(tmp_path, "broken.pdf", b"%PDF-1.4\n garbage")
    write(tmp_path, "noext", "text")
    write(tmp_path, "a.txt", "text")
    code = (
        "import sys; from reflectory.retrieval.reading.documents import read_documents\n"
        "for skip in read_documents(sys.argv[1]).skipped: print(skip.path, skip.reason)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""  # a logger that nobody configured would write there
    assert "broken.pdf the PDF is damaged" in done.stdout
    assert "noext files without a suffix are not read" in done.stdout
