"""Let the reference show what editors and ``help()`` understand: roles become plain code.

Docstrings name other things as ``:class:`~package.Name```; Markdown knows no roles. The
heading "Example:" is the section that Google's style calls "Examples:".
"""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj|const):`(~?)([^`]+)`")
_EXAMPLE = re.compile(r"^(\s*)Example:\s*$", re.M)


def plain(text: str) -> str:
    """Return a docstring without roles; ``~`` keeps the last part of a name, as elsewhere."""
    shown = _ROLE.sub(lambda m: f"`{m[2].rpartition('.')[2] if m[1] else m[2]}`", text)
    return _EXAMPLE.sub(r"\1Examples:", shown)


class Roles(griffe.Extension):
    """Applies :func:`plain` to every docstring that is read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object."""
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
