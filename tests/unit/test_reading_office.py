"""Word documents and presentations, made by the libraries that read them."""

import re

import pptx
import pytest
from docx.oxml.ns import qn
from files import (
    docx_file,
    pptx_file,
    read_one,
    repacked,
    saved,
    with_own_properties,
    word_xml,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from reflectory.errors import DocumentError
from reflectory.retrieval import preprocess, split_passages
from reflectory.retrieval.reading.slides import read_pptx
from reflectory.retrieval.reading.word import read_docx


def word(make, **properties):
    (document,) = read_docx(docx_file(make, **properties), "a.docx")
    return document


def test_headings_lists_and_tables_stay_readable():
    def make(document):
        document.add_heading("Report", 0)
        document.add_heading("Sizes", 2)
        document.add_paragraph("Some text\twith a tab\nand a line.")
        for line in ("one", "two"):
            document.add_paragraph(line, style="List Bullet")
        for line in ("first", "second"):
            document.add_paragraph(line, style="List Number")
        table = document.add_table(2, 3)
        for column, text in enumerate(("name", "size", "")):
            table.cell(0, column).text = text
        table.cell(1, 0).merge(table.cell(1, 1)).text = "both\nlines"
        document.add_heading("", 1)
        document.add_heading("Deepest", 9)

    assert word(make).text == (
        "# Report\n\n## Sizes\n\nSome text\twith a tab\nand a line.\n\n"
        "- one\n- two\n1. first\n2. second\n\n"
        "name | size | \nboth lines | \n\n###### Deepest"
    )


def test_headings_go_by_outline_level_whatever_their_style_is_called():
    def make(document):
        style = document.styles.add_style("Kapitel", 1)
        style.element.get_or_add_pPr().append(word_xml('<w:outlineLvl {ns} w:val="1"/>'))
        derived = document.styles.add_style("Unterkapitel", 1)
        derived.base_style = style
        document.add_paragraph("By style", style="Kapitel")
        document.add_paragraph("By its base", style="Unterkapitel")
        direct = document.add_paragraph("By itself")
        direct._p.get_or_add_pPr().append(word_xml('<w:outlineLvl {ns} w:val="0"/>'))
        body = document.add_paragraph("Body", style="Kapitel")
        body._p.get_or_add_pPr().append(word_xml('<w:outlineLvl {ns} w:val="9"/>'))
        style.element.append(word_xml('<w:basedOn {ns} w:val="Unterkapitel"/>'))  # in a circle

    assert word(make).text == "## By style\n\n## By its base\n\n# By itself\n\nBody"


def test_changes_are_taken_as_accepted():
    def make(document):
        changed = document.add_paragraph("It was ")
        for content in (
            '<w:del {ns} w:id="1"><w:r><w:delText>huge</w:delText></w:r></w:del>',
            '<w:moveFrom {ns} w:id="2"><w:r><w:t>elsewhere</w:t></w:r></w:moveFrom>',
            '<w:ins {ns} w:id="3"><w:r><w:t>small</w:t></w:r></w:ins>',
            "<w:r {ns}><w:t>, and </w:t></w:r>",
        ):
            changed._p.append(word_xml(content))
        # The end of the paragraph was deleted: the two have become one.
        changed._p.get_or_add_pPr().append(
            word_xml('<w:rPr {ns}><w:del w:id="4" w:author="x"/></w:rPr>')
        )
        document.add_paragraph("so was that.")
        row = document.add_table(1, 1).rows[0]
        row.cells[0].text = "deleted row"
        row._tr.get_or_add_trPr().append(word_xml('<w:del {ns} w:id="5" w:author="x"/>'))

    assert word(make).text == "It was small, and so was that."


def test_what_python_docx_leaves_out_is_read_and_what_nobody_sees_is_not():
    box = (
        '<w:r {ns} xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        "<mc:AlternateContent><mc:Choice><w:drawing><w:txbxContent><w:p><w:r><w:t>In a box"
        "</w:t></w:r></w:p></w:txbxContent></w:drawing></mc:Choice><mc:Fallback><w:pict>"
        "<w:txbxContent><w:p><w:r><w:t>In a box</w:t></w:r></w:p></w:txbxContent></w:pict>"
        "</mc:Fallback></mc:AlternateContent></w:r>"
    )

    def make(document):
        body = document.element.body
        document.sections[0].header.paragraphs[0].text = "HEADER"
        document.sections[0].footer.paragraphs[0].text = "FOOTER"
        line = document.add_paragraph("Seen")
        line.add_run(" hidden").font.hidden = True
        line._p.append(word_xml("<w:r {ns}><w:instrText>PAGEREF x</w:instrText></w:r>"))
        line._p.append(word_xml(box))
        body.insert(
            1,
            word_xml(
                "<w:sdt {ns}><w:sdtContent><w:p><w:r><w:t>In a control</w:t></w:r></w:p>"
                "</w:sdtContent></w:sdt>"
            ),
        )
        document.styles.add_style("toc 1", 1)
        document.add_paragraph("Contents 3", style="toc 1")
        document.add_comment(line.runs, "COMMENT")

    assert word(make).text == "Seen\n\nIn a box\n\nIn a control"


def test_notes_stand_at_the_end_and_may_refer_to_themselves():
    data = docx_file(
        lambda document: document.add_paragraph("Ice floats")._p.append(
            word_xml('<w:r {ns}><w:footnoteReference w:id="7"/><w:t>.</w:t></w:r>')
        )
    )
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"

    def change(parts):
        parts["word/footnotes.xml"] = (
            f'<w:footnotes xmlns:w="{qn("w:p")[1:].partition("}")[0]}"><w:footnote w:id="7"><w:p>'
            '<w:r><w:t>On water</w:t><w:footnoteReference w:id="7"/></w:r></w:p></w:footnote>'
            "</w:footnotes>"
        ).encode()
        parts["[Content_Types].xml"] = parts["[Content_Types].xml"].replace(
            b"</Types>",
            f'<Override PartName="/word/footnotes.xml" ContentType="{main}"/></Types>'.encode(),
        )
        rels = "word/_rels/document.xml.rels"
        parts[rels] = parts[rels].replace(
            b"</Relationships>",
            f'<Relationship Id="rId98" Type="{kind}" Target="footnotes.xml"/>'
            "</Relationships>".encode(),
        )

    (document,) = read_docx(repacked(data, change), "a.docx")
    assert document.text == "Ice floats[^1].\n\n[^1]: On water[^1]"


def test_a_word_document_states_title_author_and_licence(tmp_path):
    data = with_own_properties(
        docx_file(title="On Ice", author="A. One"), License="CC-BY-4.0", Client="x"
    )
    document = read_one(write(tmp_path, "a.docx", data))
    assert document.title == "On Ice"
    assert document.metadata == {"author": "A. One", "licence": "CC-BY-4.0"}


def test_properties_that_a_library_made_up_are_not_believed():
    def no_core(parts):
        core = re.compile(rb"<Relationship [^>]*core-properties[^>]*/>")
        parts["_rels/.rels"], count = core.subn(b"", parts["_rels/.rels"])
        assert count == 1

    (document,) = read_docx(repacked(docx_file(), no_core), "notes.docx")
    assert (document.title, document.metadata) == ("notes", {})
    (deck,) = read_pptx(pptx_file(("Ice", "a")), "deck.pptx")
    assert deck.title == "Ice"  # and not the template's "PowerPoint Presentation"


def test_slides_are_pages_with_headings_lists_and_notes(tmp_path):
    data = pptx_file(("Ice", "It is cold.\nIt floats."), ("Lava", "It is hot."), notes="Say hello.")
    document = preprocess(read_one(write(tmp_path, "a.pptx", data)))
    first, second = (
        document.text[a:b] for a, b in ((0, document.pages[1]), (document.pages[1], None))
    )
    assert first.strip() == "# Ice\n\n- It is cold.\n- It floats.\n\nNotes: Say hello."
    assert second == "# Lava\n\nIt is hot."
    passages = split_passages(document, max_tokens=12, count_tokens=lambda t: len(t.split()))
    assert {p.page for p in passages if "Lava" in p.text} == {2}
    assert {p.page for p in passages if "hello" in p.text} == {1}


def test_tables_charts_groups_and_empty_slides():
    deck = pptx.Presentation()
    deck.core_properties.title, deck.core_properties.author = "Deck", "A. One"
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    size = (0, 0, Inches(3), Inches(2))
    table = slide.shapes.add_table(2, 2, *size).table
    table.cell(0, 0).text, table.cell(0, 1).text = "name", "size"
    table.cell(1, 0).merge(table.cell(1, 1))
    table.cell(1, 0).text = "both"
    data = CategoryChartData()
    data.categories = ["Mon", "Tue"]
    data.add_series("Rain", (1.5, None))
    slide.shapes.add_chart(XL_CHART_TYPE.LINE, *size, data)
    group = slide.shapes.add_group_shape()
    group.shapes.add_group_shape().shapes.add_textbox(*size).text_frame.text = "deep\vdown"
    deck.slides.add_slide(deck.slide_layouts[6])
    (document,) = read_pptx(saved(deck), "deck.pptx")
    assert document.text == "name | size\nboth | \n\n | Rain\nMon | 1.5\nTue | \n\ndeep down\n\n"
    assert (document.title, document.metadata) == ("Deck", {"author": "A. One"})
    assert len(document.pages) == 2


def test_a_chart_is_read_as_far_as_it_goes_and_not_as_far_as_it_says():
    deck = pptx.Presentation()
    data = CategoryChartData()
    data.categories = ["Mon", "Tue"]
    data.add_series("Rain", (1.5, 2))
    size = (0, 0, Inches(3), Inches(2))
    deck.slides.add_slide(deck.slide_layouts[6]).shapes.add_chart(XL_CHART_TYPE.PIE, *size, data)

    def change(parts):
        (name,) = (part for part in parts if part.startswith("ppt/charts/chart"))
        parts[name] = parts[name].replace(b'<c:ptCount val="2"', b'<c:ptCount val="2000000000"')

    (document,) = read_pptx(repacked(saved(deck), change), "deck.pptx")
    assert document.text == " | Rain\nMon | 1.5\nTue | 2"


def test_a_presentation_of_pictures_says_that_it_has_no_text(tmp_path):
    deck = pptx.Presentation()
    deck.slides.add_slide(deck.slide_layouts[6])
    with pytest.raises(DocumentError, match="no slide has text") as caught:
        read_one(write(tmp_path, "a.pptx", saved(deck)))
    assert "OCR" in caught.value.hint


# What XML can hold and preprocessing keeps, without what Markdown would read as marks.
PLAIN = st.text(st.characters(categories=["L", "Nd", "Zs", "P"]), min_size=1, max_size=40)


@settings(max_examples=25)
@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_paragraphs_come_back_in_order(texts):
    def make(document):
        for text in texts:
            document.add_paragraph(text)

    wanted = [text.strip() for text in texts if text.strip()]
    assert word(make).text == "\n\n".join(wanted)
