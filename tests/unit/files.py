"""Files made for tests: with the libraries of their formats, in memory."""

import io
import zipfile

import docx
import pptx
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from reflectory.retrieval.reading import read_documents


def write(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_one(path, **options):
    (document,) = read_documents(path, **options).documents
    return document


def pdf(*pages, password="", xmp="", **info):
    """Return the bytes of a PDF with one line of text per page."""
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for text in pages:
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode() if text else b"")
        page[NameObject("/Contents")] = stream
    writer.add_metadata({f"/{key}": value for key, value in info.items()})
    if xmp:
        writer.xmp_metadata = xmp.encode()
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def docx_file(make=lambda document: document.add_paragraph("Some text."), **properties):
    """Return the bytes of a Word document that ``make`` fills."""
    document = docx.Document()
    make(document)
    for key, value in properties.items():
        setattr(document.core_properties, key, value)
    return saved(document)


def pptx_file(*slides, notes=""):
    """Return the bytes of a presentation: (title, lines) for each slide."""
    deck = pptx.Presentation()
    for title, lines in slides:
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text_frame.text = lines
    if notes:
        deck.slides[0].notes_slide.notes_text_frame.text = notes
    return saved(deck)


def saved(thing):
    buffer = io.BytesIO()
    thing.save(buffer)
    return buffer.getvalue()


def word_xml(content):
    """Return an element of WordprocessingML; ``{ns}`` stands where namespaces are declared."""
    return parse_xml(content.replace("{ns}", nsdecls("w")))


def repacked(data, change):
    """Return a package whose parts, {name: bytes}, went through ``change``."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_own_properties(data, **properties):
    """Return a package with properties that its author added, which may say its licence."""
    office = "http://schemas.openxmlformats.org/officeDocument/2006"
    entries = "".join(
        f'<property fmtid="{{D5CDD505-2E9C-101B-9397-08002B2CF9AE}}" pid="{pid}" name="{name}">'
        f"<vt:lpwstr>{value}</vt:lpwstr></property>"
        for pid, (name, value) in enumerate(properties.items(), start=2)
    )

    def change(parts):
        parts["docProps/custom.xml"] = (
            f'<Properties xmlns="{office}/custom-properties" '
            f'xmlns:vt="{office}/docPropsVTypes">{entries}</Properties>'
        ).encode()
        kind = "application/vnd.openxmlformats-officedocument.custom-properties+xml"
        parts["[Content_Types].xml"] = parts["[Content_Types].xml"].replace(
            b"</Types>",
            f'<Override PartName="/docProps/custom.xml" ContentType="{kind}"/></Types>'.encode(),
        )
        parts["_rels/.rels"] = parts["_rels/.rels"].replace(
            b"</Relationships>",
            f'<Relationship Id="rId99" Type="{office}/relationships/custom-properties" '
            'Target="docProps/custom.xml"/></Relationships>'.encode(),
        )

    return repacked(data, change)
