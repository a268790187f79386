"""Markdown, HTML and PDF: what they state about themselves, down to the passages."""

import logging

import pytest
from files import pdf, read_one, write

from reflectory.retrieval import preprocess, split_passages

CC_BY = "https://creativecommons.org/licenses/by/4.0/"


def test_front_matter_becomes_title_and_metadata_and_leaves_the_text(tmp_path):
    text = """---
title: On Ice
authors: [A. One, {name: B. Two}]
license: CC-BY-4.0
version: 0.10
draft: no
nested: {a: b}
---
# Not the title

Ice floats."""
    document = read_one(write(tmp_path, "ice.md", text))
    assert document.title == "On Ice"
    assert document.text == "# Not the title\n\nIce floats."
    assert document.metadata == {
        "author": "A. One, B. Two",
        "authors": "A. One, B. Two",
        "licence": "CC-BY-4.0",
        "version": "0.10",
        "draft": "no",
    }


@pytest.mark.parametrize(
    "text",
    [
        "---\n\nA text between rules.\n\n---\nmore",
        "---\n- a list\n---\nmore",
        "---\nbroken: [\n---\nmore",
        "---\nnever: closed\nmore",
        "--- \n" + "a" * 70_000 + ": x\n---\nmore",
        "---\n" + "[" * 5000 + "\n---\nmore",
    ],
)
def test_what_only_looks_like_front_matter_stays_in_the_text(tmp_path, text):
    assert read_one(write(tmp_path, "a.md", text)).text == text


@pytest.mark.parametrize(
    ("head", "body", "stated"),
    [
        (f'<link rel="license" href="{CC_BY}">', "", {"licence": CC_BY}),
        ("", f'<a rel="license noopener" href="{CC_BY}">CC BY</a>', {"licence": CC_BY}),
        ("", '<a rel="license" href="/terms">Our terms</a>', {"licence": "Our terms"}),
        ("", f'<span itemprop="license" content="{CC_BY}"></span>', {"licence": CC_BY}),
        ('<meta name="dcterms.license" content="MIT">', "", {"licence": "MIT"}),
        ('<meta name="DC.Rights" content="Public domain">', "", {"licence": "Public domain"}),
        ('<meta name="author" content="A. One">', "", {"author": "A. One"}),
        ("", '<a rel="author" href="/a">B. Two</a>', {"author": "B. Two"}),
        ('<meta name="generator" content="x"><meta name="license">', "", {}),
    ],
)
def test_html_states_licence_and_author(tmp_path, head, body, stated):
    page = f"<html><head>{head}</head><body>text {body}</body></html>"
    assert read_one(write(tmp_path, "a.html", page)).metadata == stated


XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:cc="http://creativecommons.org/ns#"
 {attributes}>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">From XMP</rdf:li></rdf:Alt></dc:title>
<dc:creator><rdf:Seq><rdf:li>A. One</rdf:li><rdf:li>B. Two</rdf:li></rdf:Seq></dc:creator>
{elements}
</rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.mark.parametrize(
    ("attributes", "elements", "licence"),
    [
        (f'xmpRights:WebStatement="{CC_BY}"', "", CC_BY),
        ("", f'<cc:license rdf:resource="{CC_BY}"/>', CC_BY),
        (
            "",
            "<xmpRights:UsageTerms><rdf:Alt><rdf:li xml:lang='x-default'>CC BY 4.0</rdf:li>"
            "</rdf:Alt></xmpRights:UsageTerms>",
            "CC BY 4.0",
        ),
        (
            "",
            "<dc:rights><rdf:Alt><rdf:li xml:lang='x-default'>Free to use</rdf:li></rdf:Alt>"
            "</dc:rights>",
            "Free to use",
        ),
        ("", "", None),
    ],
)
def test_pdf_states_licence_author_and_title_in_xmp(tmp_path, attributes, elements, licence):
    xmp = XMP.format(attributes=attributes, elements=elements)
    document = read_one(write(tmp_path, "a.pdf", pdf("Text", xmp=xmp)))
    assert document.title == "From XMP"
    assert document.metadata.get("author") == "A. One, B. Two"
    assert document.metadata.get("licence") == licence


def test_pdf_states_them_in_its_document_information_too(tmp_path):
    data = pdf("Text", Title="T", Author="C. Three", License="CC0-1.0", Producer="p")
    document = read_one(write(tmp_path, "a.pdf", data))
    assert (document.title, document.metadata) == (
        "T",
        {"author": "C. Three", "licence": "CC0-1.0"},
    )


def test_a_pdf_with_damaged_xmp_is_read_and_says_so(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        document = read_one(write(tmp_path, "a.pdf", pdf("Text", xmp="<broken", Title="T")))
    assert (document.title, document.text) == ("T", "Text")
    assert "a.pdf: its XMP metadata are damaged" in caplog.text


def test_licence_and_page_come_down_to_the_passages(tmp_path):
    data = pdf("First page.", "Second page.", License="CC0-1.0")
    document = preprocess(read_one(write(tmp_path, "a.pdf", data)))
    passages = split_passages(document, max_tokens=3, count_tokens=lambda t: len(t.split()))
    assert [(p.text, p.page, p.licence) for p in passages] == [
        ("First page.", 1, "CC0-1.0"),
        ("Second page.", 2, "CC0-1.0"),
    ]
    assert all(document.text[p.start : p.end] == p.text for p in passages)


@pytest.mark.parametrize("odd", ["<![x y>", "<![DOCTYPE html>", "<![ never closed", "<![>"])
def test_a_marked_section_that_no_parser_knows_is_a_comment(tmp_path, odd):
    page = f"<p>Ice floats.</p><p>Lava flows.</p>{odd}<p>end</p>"
    text = read_one(write(tmp_path, "a.html", page)).text
    assert text.startswith("Ice floats.\n\nLava flows.") and "x y" not in text
