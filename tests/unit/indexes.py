"""Small indexes for tests, and a corpus in which one document leads to another."""

import asyncio

from reflectory.retrieval.index import PassageIndex
from reflectory.testing.embedder import HashingEmbedder
from reflectory.types import Document

EMBEDDER = HashingEmbedder(64)

DOCUMENTS = [
    Document(id="moon", title="Moon", text="The moon is grey.\n\nIts craters are old.\n\nNo air."),
    Document(
        id="mars", title="Mars", text="Mars is red.\n\nIts craters are young.", source="m.txt"
    ),
    Document(id="same", title="Moon", text="The moon is grey."),
]

# The question describes the film and asks for something that only the page of its director
# says; the pages about pets, childhood and plays have more words of the question than that one.
BRIDGE_QUESTION = "What was the childhood pet of the director of The Glass Harbour?"
_PAGES = {
    "The Glass Harbour": "The Glass Harbour is a drama of 1962. It was directed by Ilse Varga.",
    "Ilse Varga": "Ilse Varga grew up beside a lake, where a tortoise kept her company.",
    "Pets": "Many people remember the first pet of their childhood.",
    "Plays": "Before the premiere, the director of a play rehearses.",
    "Growth": "In childhood, bones grow faster than later in life.",
    "The Iron Forest": "The Iron Forest is a novel of 1971. It was written by Tomas Keller.",
    "Tomas Keller": "Tomas Keller went to sea at fourteen and taught himself to write.",
    "Rivers": "Water runs downhill, cutting valleys into soft stone.",
    "Bread": "Flour, salt and yeast make dough that must rest.",
    "Clocks": "A pendulum swings evenly, so clocks could be trusted.",
    "Bees": "Worker bees dance to tell others about flowers.",
    "Roads": "Stones laid in curves carried carts for centuries.",
}
BRIDGE = [
    Document(id=title.lower().split()[-1], title=title, text=text) for title, text in _PAGES.items()
]


class CountingEmbedder(HashingEmbedder):
    """Remembers every text that it was given."""

    def __init__(self, dimension=64):
        super().__init__(dimension)
        self.calls = []

    @property
    def texts(self):
        return [text for call in self.calls for text in call]

    async def embed(self, texts):
        self.calls.append(list(texts))
        await asyncio.sleep(0)
        return await super().embed(texts)


def words(text):
    return len(text.split())


def build(documents=DOCUMENTS, embedder=EMBEDDER, passage_tokens=5, **options):
    return asyncio.run(
        PassageIndex.build(
            documents, embedder, passage_tokens=passage_tokens, count_tokens=words, **options
        )
    )


def extend(index, documents, embedder=EMBEDDER, **options):
    return asyncio.run(index.extended(documents, embedder, count_tokens=words, **options))


def embed(text, embedder=EMBEDDER):
    return asyncio.run(embedder.embed([text]))[0]


def files_of(folder):
    """Return the content of every file below a folder, by its path there."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
