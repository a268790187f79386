"""From files, folders and names of data sets to documents.

A file that was named must be readable; one that merely lies in a folder may be
skipped, and is reported. Ids are paths relative to what was given, never paths
of a machine.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from reflectory.errors import DocumentError
from reflectory.retrieval.reading.datasets import (
    is_dataset_folder,
    is_dataset_name,
    parse_dataset_name,
    read_dataset_folder,
    read_named_dataset,
)
from reflectory.retrieval.reading.html import read_html
from reflectory.retrieval.reading.kinds import check_kind
from reflectory.retrieval.reading.pdf import read_pdf
from reflectory.retrieval.reading.records import Found, SkippedFile
from reflectory.retrieval.reading.rows import read_json_lines
from reflectory.retrieval.reading.slides import read_pptx
from reflectory.retrieval.reading.tables import read_csv, read_parquet, read_tsv
from reflectory.retrieval.reading.text import read_markdown, read_plain
from reflectory.retrieval.reading.word import read_docx
from reflectory.types import Document, Record

READERS: dict[str, Callable[[bytes, str], Found]] = {
    ".txt": read_plain,
    ".text": read_plain,
    ".rst": read_plain,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
    ".docx": read_docx,
    ".pptx": read_pptx,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".tab": read_tsv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".parquet": read_parquet,
}
"""What reads which suffix: (bytes of the file, its name) -> documents."""

MAX_BYTES = 64 * 2**20
"""Default limit of a file's size in bytes."""

_REASONS_SHOWN = 10
_PIECE = 2**20

Paths = str | Path | Iterable[str | Path]


class ReadResult(Record):
    """What was read and what was not.

    Attributes:
        documents: In the order of the paths given; sorted within a folder.
        skipped: Files of folders, and rows without text, that were not read.
    """

    documents: tuple[Document, ...]
    skipped: tuple[SkippedFile, ...] = ()


class _File(NamedTuple):
    path: Path
    name: str  # relative to the folder given, with forward slashes
    parent: str  # name of the folder it was found in, to tell two equal names apart
    named: bool  # whether it was itself named by the caller
    dataset: str = ""  # the name of a data set, which has no path


def read_documents(paths: Paths, *, max_bytes: int = MAX_BYTES) -> ReadResult:
    """Read files, folders (recursively, sorted, without hidden files) and data sets.

    Args:
        paths: One path or several. A folder that ``save_to_disk`` made is a data
            set, and so is ``dataset:NAME`` (:mod:`reflectory.retrieval.reading.datasets`).
        max_bytes: Largest file that is read.

    Returns:
        At least one document, with unique ids, and what was skipped.

    Raises:
        DocumentError: A named path is missing or cannot be read, an id occurs
            twice, or nothing at all could be read.
    """
    skipped: list[SkippedFile] = []
    documents = tuple(iter_documents(paths, max_bytes=max_bytes, on_skipped=skipped.append))
    return ReadResult(documents=documents, skipped=tuple(skipped))


def iter_documents(
    paths: Paths,
    *,
    max_bytes: int = MAX_BYTES,
    on_skipped: Callable[[SkippedFile], None] | None = None,
) -> Iterator[Document]:
    """Yield the documents of files, folders and data sets one after the other.

    Args:
        paths: As in :func:`read_documents`.
        max_bytes: Largest file that is read.
        on_skipped: Called for everything that is skipped.

    Raises:
        DocumentError: As :func:`read_documents`; missing paths at once, the rest
            when the iterator comes to it.
    """
    skipped: list[SkippedFile] = []
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    files = _list_files(given, skipped)
    return _read_all(files, skipped, max_bytes, on_skipped or (lambda _: None), given)


def _read_all(
    files: list[_File],
    listed: list[SkippedFile],
    max_bytes: int,
    on_skipped: Callable[[SkippedFile], None],
    given: Sequence[str | Path],
) -> Iterator[Document]:
    reasons: list[SkippedFile] = []
    places: dict[str, str] = {}
    found = (item for file in files for item in _read_file(file, max_bytes))
    for item in chain(listed, found):
        if isinstance(item, SkippedFile):
            reasons.append(item)
            on_skipped(item)
            continue
        if item.id in places:
            raise DocumentError(
                f"the document id {item.id!r} occurs in {places[item.id]} and in {item.source}",
                hint="ids must differ; rename one of the two",
            )
        places[item.id] = item.source
        yield item
    if not places:
        lines = [f"\n  - {skip.path}: {skip.reason}" for skip in reasons[:_REASONS_SHOWN]]
        more = len(reasons) - len(lines)
        if more > 0:
            lines.append(f"\n  - and {more} more")
        where = ", ".join(str(path) for path in given)
        raise DocumentError(
            f"no readable document in {where}" + ("".join(lines) or ": nothing is there"),
            hint=f"readable are {', '.join(READERS)}",
        )


def _read_file(file: _File, max_bytes: int) -> Found:
    """Read one file; what is wrong with it is an error if it was named, else a reason."""
    try:
        found = _found_in(file, max_bytes)
        texts = [item for item in found if isinstance(item, Document)]
        if not any(document.text.strip() for document in texts):
            raise DocumentError(f"{file.name}: there is no text in it", hint="remove or fill it")
        return found
    except DocumentError as error:
        if file.named:
            raise
        return [SkippedFile(path=file.name, reason=error.message.removeprefix(f"{file.name}: "))]


def _found_in(file: _File, max_bytes: int) -> Found:
    if file.dataset:
        return read_named_dataset(file.dataset)
    if file.path.is_dir():
        return read_dataset_folder(file.path, file.name)
    suffix = file.path.suffix.lower()
    reader = READERS.get(suffix)
    if reader is None:
        raise DocumentError(
            f"{file.name}: files {f'of type {suffix}' if suffix else 'without a suffix'} "
            "are not read",
            hint=f"readable are {', '.join(READERS)}",
        )
    data = _bytes_of(file, max_bytes)
    check_kind(data, file.name, suffix)
    return reader(data, file.name)


def _bytes_of(file: _File, max_bytes: int) -> bytes:
    if not file.path.is_file():  # a pipe or a device could be read for ever
        raise DocumentError(f"{file.name}: not a regular file", hint="give a file or a folder")
    try:
        # The stated size first, so that a large file is not read to be refused; then
        # piece by piece, because a file can grow, and some state a size of 0.
        data = bytearray()
        too_large = file.path.stat().st_size > max_bytes
        with file.path.open("rb") as stream:
            while not too_large and (piece := stream.read(_PIECE)):
                data += piece
                too_large = len(data) > max_bytes
    except OSError as error:
        raise DocumentError(
            f"{file.name}: cannot be read ({error.strerror or error})",
            hint="check its permissions",
        ) from error
    if too_large:
        raise DocumentError(
            f"{file.name}: larger than {max_bytes / 2**20:.3g} MiB",
            hint="split it, or raise max_bytes",
        )
    return bytes(data)


def _list_files(given: Sequence[str | Path], skipped: list[SkippedFile]) -> list[_File]:
    """Return the files to read, each once, under names that differ."""
    if not given:
        raise DocumentError("no documents were given", hint="give files or folders")
    files: list[_File] = []
    for entry in given:
        if is_dataset_name(entry):
            spelling = str(entry)
            name = parse_dataset_name(spelling).name
            files.append(_File(Path(spelling), name, "dataset", True, spelling))
            continue
        path = Path(entry).expanduser()
        if not str(entry).strip():
            raise DocumentError("a path is empty", hint="give files or folders")
        try:
            exists, is_folder = path.exists(), path.is_dir()
        except (OSError, ValueError) as error:
            raise DocumentError(
                f"{entry}: not a usable path ({error})", hint="check the spelling"
            ) from error
        if not exists:
            raise DocumentError(
                f"{entry}: no such file or folder", hint="check the spelling and where you are"
            )
        if is_folder and is_dataset_folder(path):
            folder = path.resolve()
            files.append(_File(path, _printable(folder.name), folder.parent.name, True))
        elif is_folder:
            files.extend(_walk(path, skipped))
        else:
            files.append(_File(path, _printable(path.name), path.resolve().parent.name, True))
    once: dict[Path, _File] = {}
    for file in files:
        known = once.setdefault(file.path.resolve(), file)
        if file.named and not known.named:  # in a folder and named as well: then it must be read
            once[file.path.resolve()] = known._replace(named=True)
    return _with_unique_names(list(once.values()))


def _walk(folder: Path, skipped: list[SkippedFile]) -> Iterator[_File]:
    def unreadable(error: OSError) -> None:
        name = os.path.relpath(error.filename, folder).replace(os.sep, "/")
        skipped.append(SkippedFile(path=_printable(name), reason=error.strerror or str(error)))

    parent = _printable(folder.resolve().name)
    files: list[_File] = []
    for root, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in [name for name in folders if _is_saved_index(Path(root) / name)]:
            folders.remove(name)
            relative = _printable((Path(root) / name).relative_to(folder).as_posix())
            skipped.append(SkippedFile(path=relative, reason="a saved index of documents"))
        sets = [name for name in folders if is_dataset_folder(Path(root) / name)]
        folders[:] = [name for name in folders if name not in sets]
        for name in [*names, *sets]:
            if not name.startswith("."):
                path = Path(root) / name
                relative = _printable(path.relative_to(folder).as_posix())
                files.append(_File(path, relative, parent, False))
    return iter(sorted(files, key=lambda file: file.name))


def _is_saved_index(folder: Path) -> bool:
    """Return whether a folder is what ``reflectory index`` wrote, whose lines are no documents."""
    return (folder / "index.json").is_file() and (folder / "passages.jsonl").is_file()


def _printable(name: str) -> str:
    """Return a file name as valid Unicode; names on disk can be any bytes."""
    return name.encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def _with_unique_names(files: list[_File]) -> list[_File]:
    """Tell equal names apart by their folder, and if that is equal too by a number."""
    repeated = Counter(file.name for file in files)
    taken: set[str] = set()
    unique: list[_File] = []
    for file in files:
        plain = f"{file.parent}/{file.name}" if repeated[file.name] > 1 else file.name
        name, number = plain, 2
        while name in taken:
            name, number = f"{plain}~{number}", number + 1
        taken.add(name)
        unique.append(file._replace(name=name))
    return unique
