"""From files, folders and data sets to documents.

Importing this package is light: the libraries that read a format are loaded when
the first file of that format comes.
"""

from reflectory.retrieval.reading.documents import ReadResult, iter_documents, read_documents
from reflectory.retrieval.reading.records import SkippedFile

__all__ = ["ReadResult", "SkippedFile", "iter_documents", "read_documents"]
