"""What the pages for people are made with: templates, assets, pictures inside the page.

Every page is one file that needs no network. The texts of models and documents are escaped
by the templates, and a content security policy allows no script but the page's own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import warnings
from collections.abc import Callable
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from reflectory.report import evaluation_words as words

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.axes import Axes

_ID = re.compile(r'(\bid="|\bhref="#|url\(#)')
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.S)


@cache
def environment() -> Environment:
    """Return what renders the templates of this package: everything is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("reflectory.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["num"] = words.number
    made.filters["prob"] = words.probability
    return made


def asset(name: str) -> str:
    """Return a file of the folder of templates that is written into a page as it is."""
    folder = resources.files("reflectory.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def script_hash(script: str) -> str:
    """Return the hash by which a content security policy allows one script, in base64."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def svg(draw: Callable[[], Axes], name: str) -> str:
    """Return a picture as an element of HTML.

    Texts stay texts, so that the page's reader can select and find them; what they hold is
    escaped by matplotlib's writer.

    Args:
        draw: Draws into axes of a figure of their own and returns them.
        name: Of the picture; its ids begin with it, so they are no other picture's.
    """
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = draw().get_figure(root=True)
        if figure is None:
            raise ValueError("the axes belong to no figure")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = _METADATA.sub("", buffer.getvalue())
    return _ID.sub(rf"\g<1>{name}-", text[text.index("<svg") :])
