"""Writing what a student practises on: sessions of questions about the same passages."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from reflectory.agents.citations import content_words
from reflectory.agents.practice.drafts import Draft, Drafter
from reflectory.agents.practice.rating import Rater
from reflectory.agents.practice.tries import tries_at
from reflectory.agents.prompts import PromptSet
from reflectory.config import PracticeConfig
from reflectory.models.protocol import Model, content_hash, derive_seed
from reflectory.types import Passage, PracticeQuestion

Retrieve = Callable[[str], Awaitable[Sequence[Passage]]]

SESSION = 5
"""Questions about the same passages; these are read once for all of them."""

_PER_PASSAGE = 2
_RATED = 2
"""Facts whose answers are checked, for each that is wanted."""

_LEAST_FLUENT = -2.5
"""Nats per token; below it, what the rules made of a sentence is seldom English."""

_LEAD_COUNTS, _MOST_LEAD = 0.15, 3.0
_LEVEL_OF = {"fact": 0, "bridge": 1, "comparison": 2}


@dataclass(frozen=True)
class PracticeSet:
    """Questions to practise on.

    Attributes:
        questions: In the order of their sessions; those of one session name the same
            passages in the same order.
        counts: What was drafted, rated, kept and left out, by reason.
    """

    questions: tuple[PracticeQuestion, ...]
    counts: dict[str, int]


@dataclass(frozen=True)
class _Rated:
    draft: Draft
    question: str
    fluency: float
    lead: float | None = None
    attempts: int = 1
    before: _Rated | None = None
    """By rule, where the wording is the teacher's."""

    @property
    def value(self) -> float:
        """What it is chosen by: a question that reads well and has one answer."""
        lead = 0.0 if self.lead is None else min(self.lead, _MOST_LEAD)
        return self.fluency + _LEAD_COUNTS * lead


@dataclass
class _Asked:
    """What was asked already, so that nothing is asked twice."""

    texts: set[tuple[str, ...]] = field(default_factory=set)

    def is_new(self, question: str) -> bool:
        return self.key(question) not in self.texts

    def add(self, question: str) -> None:
        self.texts.add(self.key(question))

    @staticmethod
    def key(question: str) -> tuple[str, ...]:
        return tuple(sorted(content_words(question)))


async def write_practice(
    passages: Sequence[Passage],
    teacher: Model,
    config: PracticeConfig,
    prompts: PromptSet,
    *,
    avoid: Collection[str] = (),
    retrieve: Retrieve | None = None,
    levels: Sequence[str] = ("basic", "intermediate", "advanced"),
) -> PracticeSet:
    """Write questions from the documents, each with an answer that these state.

    Rules draft what can be asked; the teacher says which drafts read well and have one
    answer, and tries to ask better itself. No reference answer is needed or read.

    Args:
        passages: What may be asked about.
        teacher: Who rates and writes.
        config: How many, and how.
        prompts: What the teacher is told.
        avoid: Questions that were asked before.
        retrieve: Finds the passages that a student would read for a question; without it,
            the passages beside those of the question are taken.
        levels: Names of the levels, easiest first: facts get the first one, bridges the
            second, comparisons the third.
    """
    names = tuple(levels) or ("basic",)
    writer = _Writer(passages, teacher, config, prompts, retrieve, avoid)
    questions: list[PracticeQuestion] = []
    for context, rated in await writer.sessions():
        for item in rated:
            if len(questions) == config.questions:
                break
            questions.append(
                PracticeQuestion(
                    id=f"practice-{content_hash(item.question, config.seed)[:12]}",
                    instruction=item.question,
                    answer=item.draft.answer,
                    kind=item.draft.kind,
                    level=names[min(_LEVEL_OF[item.draft.kind], len(names) - 1)],
                    passages=context,
                    lead=item.lead,
                    attempts=item.attempts,
                    writer=teacher.fingerprint,
                )
            )
    kinds = Counter(q.kind for q in questions)
    counts = dict(writer.counts) | {f"kept {kind}": n for kind, n in sorted(kinds.items())}
    return PracticeSet(tuple(questions), counts)


class _Writer:
    """Chooses passages for sessions and questions for each of them."""

    def __init__(
        self,
        passages: Sequence[Passage],
        teacher: Model,
        config: PracticeConfig,
        prompts: PromptSet,
        retrieve: Retrieve | None,
        avoid: Collection[str],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._passages = tuple(passages)
        self._places = {p.id: place for place, p in enumerate(passages)}
        self._config = config
        self._teacher = teacher
        self._prompts = prompts
        self._retrieve = retrieve
        self._rater = Rater(teacher, prompts, seed=config.seed)
        self._drafter = Drafter(passages, config.seed)
        self._random = random.Random(config.seed)
        self._of_two = math.ceil(SESSION * config.multi_document)
        self._facts: dict[tuple[str, ...], asyncio.Task[list[_Rated]]] = {}
        self._asked = _Asked()
        for text in avoid:
            self._asked.add(text)

    async def sessions(self) -> list[tuple[tuple[Passage, ...], list[_Rated]]]:
        """Return contexts, each with what is asked about it, until there is enough."""
        wanted = self._config.questions
        anchors = self._anchors(wanted)
        made: list[tuple[tuple[Passage, ...], list[_Rated]]] = []
        count = of_two = 0
        # In waves: a teacher rates many sessions at the same time, and what is chosen
        # depends on what was chosen before and never on who was ready first.
        while anchors and count < wanted:
            size = math.ceil((wanted - count) / SESSION)
            wave, anchors = anchors[:size], anchors[size:]
            contexts = [await self._context(anchor) for anchor in wave]
            rated = await asyncio.gather(*map(self._rated, contexts, wave))
            for context, (multi, facts) in zip(contexts, rated, strict=True):
                most = min(SESSION, wanted - count)
                due = math.floor(self._config.multi_document * (count + most) + 0.5) - of_two
                chosen = self._best(multi, min(self._of_two, most, due), self._of_two)
                of_two += len(chosen)
                chosen += self._best(facts, most - len(chosen), _PER_PASSAGE)
                if chosen:
                    made.append((context, chosen))
                    count += len(chosen)
        improved = await asyncio.gather(
            *(self._improved(context, item) for context, items in made for item in items)
        )
        found = iter(improved)
        return [(context, [self._settled(next(found)) for _ in items]) for context, items in made]

    def _anchors(self, wanted: int) -> list[Draft]:
        """Return what sessions are built around: every document once before any comes twice."""
        if not wanted:
            return []
        multi: list[Draft] = []
        if self._of_two:
            bridges = self._drafter.bridges()
            self._random.shuffle(bridges)
            multi = [*bridges, *self._drafter.comparisons(wanted)]
        by_document: dict[str, list[list[Draft]]] = defaultdict(list)
        for passage in self._passages:
            by_document[passage.document_id].append(self._drafter.facts(passage))
        # One of each passage, then the next of each: sessions read different passages.
        facts = {
            name: [draft for turn in zip_longest(*drafts) for draft in turn if draft is not None]
            for name, drafts in by_document.items()
        }
        self.counts["drafted of two documents"] = len(multi)
        self.counts["drafted facts"] = sum(map(len, facts.values()))
        order = sorted(facts)
        self._random.shuffle(order)
        return list(self._in_turn(order, facts, multi))

    def _in_turn(
        self, order: Sequence[str], facts: dict[str, list[Draft]], multi: list[Draft]
    ) -> Iterator[Draft]:
        """Yield drafts document by document, those of two documents where they are due."""
        share = self._config.multi_document * SESSION / max(self._of_two, 1)
        pairs: dict[str, deque[int]] = defaultdict(deque)
        for place, draft in enumerate(multi):
            for name in draft.documents:
                pairs[name].append(place)
        used: set[int] = set()
        yielded = 0
        for turn in range(max(map(len, facts.values()), default=0)):
            for name in order:
                while pairs[name] and pairs[name][0] in used:
                    pairs[name].popleft()
                if pairs[name] and len(used) < share * (yielded + 1):
                    used.add(pairs[name][0])
                    yield multi[pairs[name].popleft()]
                elif turn < len(facts[name]):
                    yield facts[name][turn]
                else:
                    continue
                yielded += 1

    async def _context(self, anchor: Draft) -> tuple[Passage, ...]:
        """Return what a student would read for the anchor, with what it needs in any case."""
        found: list[Passage]
        if self._retrieve is not None:
            retrieved = await self._retrieve(anchor.questions[0])
            found = list({p.id: p for p in retrieved if p.id in self._places}.values())
            size = max(len(retrieved), len(anchor.passages))
        else:
            at = self._places[anchor.passages[0].id]
            found = list(self._passages[max(at - 1, 0) : at + 3])
            size = 4
        missing = [p for p in anchor.passages if p.id not in {q.id for q in found}]
        if missing:
            needed = {p.id for p in anchor.passages}
            others = [p for p in found if p.id not in needed][: size - len(anchor.passages)]
            kept = {p.id for p in others} | needed
            found = [*(p for p in found if p.id in kept), *missing]
            self._random.shuffle(found)
        return tuple(found)

    async def _rated(
        self, context: tuple[Passage, ...], anchor: Draft
    ) -> tuple[list[_Rated], list[_Rated]]:
        """Return what can be asked about a context: of two documents, and of one; best first."""
        inside = {p.id for p in context}
        within = Drafter(context, derive_seed(self._config.seed, *sorted(inside)))
        multi = [anchor] if anchor.kind != "fact" else []
        if self._of_two > len(multi):
            more = [*within.bridges(), *within.comparisons(self._of_two)]
            multi += [d for d in more if d.questions != anchor.questions]
        key = tuple(p.id for p in context)
        if key not in self._facts:  # few documents give the same context more than once
            facts = [d for p in context for d in within.facts(p)]
            self._facts[key] = asyncio.create_task(self._checked(context, facts, SESSION))
        return await self._checked(context, multi, self._of_two), await self._facts[key]

    async def _checked(
        self, context: tuple[Passage, ...], drafts: Sequence[Draft], wanted: int
    ) -> list[_Rated]:
        """Return the drafts that read well and whose answer is the one, the best first."""
        if not drafts or not wanted:
            return []
        fluent = await self._by_fluency(context, drafts)
        checked = await asyncio.gather(
            *(self._with_lead(context, item) for item in fluent[: _RATED * wanted])
        )
        right = [item for item in checked if item is not None]
        self.counts["left out: another answer is likelier"] += len(checked) - len(right)
        return sorted(right, key=lambda item: -item.value)

    def _best(self, rated: Sequence[_Rated], wanted: int, per_passage: int) -> list[_Rated]:
        """Return the best that were not asked before, of each passage a few."""
        used: Counter[str] = Counter()
        best: list[_Rated] = []
        for item in rated:
            ids = [p.id for p in item.draft.passages]
            answered = {b.draft.answer.casefold() for b in best} - {"yes", "no"}
            if len(best) >= wanted or max(used[i] for i in ids) >= per_passage:
                continue
            if not self._asked.is_new(item.question) or item.draft.answer.casefold() in answered:
                self.counts["left out: asked before"] += 1
                continue
            self._asked.add(item.question)
            used.update(ids)
            best.append(item)
        return best

    def _settled(self, item: _Rated) -> _Rated:
        """Return a question with its final wording, which nothing else may have."""
        if item.before is None:
            return item
        same = self._asked.key(item.question) == self._asked.key(item.before.question)
        if not same and not self._asked.is_new(item.question):
            return replace(item.before, attempts=item.attempts)
        self._asked.add(item.question)
        self.counts["asked in the teacher's own words"] += 1
        return item

    async def _by_fluency(
        self, context: tuple[Passage, ...], drafts: Sequence[Draft]
    ) -> list[_Rated]:
        """Return the most fluent way to ask for each answer, the most fluent first."""
        ways = [(draft, question) for draft in drafts for question in draft.questions]
        fluent = await self._rater.fluency(context, [question for _, question in ways])
        self.counts["rated"] += len(ways)
        best: dict[int, _Rated] = {}
        for (draft, question), value in zip(ways, fluent, strict=True):
            known = best.get(id(draft))
            if known is None or value > known.fluency:
                best[id(draft)] = _Rated(draft, question, value)
        found = [item for item in best.values() if item.fluency >= _LEAST_FLUENT]
        self.counts["left out: reads badly"] += len(best) - len(found)
        return sorted(found, key=lambda item: -item.fluency)

    async def _with_lead(self, context: tuple[Passage, ...], item: _Rated) -> _Rated | None:
        """Return a question whose answer was checked; ``None`` where it is not the answer.

        What a rule compared is right whatever a small model thinks of it.
        """
        draft = item.draft
        lead = await self._rater.lead(context, item.question, draft.answer, draft.rivals)
        if draft.kind == "comparison":
            return replace(item, lead=lead)
        if lead is None and not self._rater.scores:
            right = await self._rater.agrees(context, item.question, draft.answer)
        else:
            right = lead is None or lead >= self._config.minimum_lead
        return replace(item, lead=lead) if right else None

    async def _improved(self, context: tuple[Passage, ...], item: _Rated) -> _Rated:
        """Return the teacher's own question where it is better in both respects."""
        if item.draft.kind == "comparison" or not self._config.attempts:
            return item
        tries = await tries_at(
            self._teacher,
            self._prompts,
            context,
            item.draft.answer,
            item.question,
            attempts=self._config.attempts,
            temperature=self._config.temperature,
            seed=derive_seed(self._config.seed, item.question),
        )
        fluent = await self._rater.fluency(context, tries)
        best = item
        for text, value in zip(tries, fluent, strict=True):
            if self._rater.scores and value <= best.fluency:
                continue
            other = await self._with_lead(context, replace(item, question=text, fluency=value))
            if other is not None and (other.lead or 0.0) >= (best.lead or 0.0):
                best = other
        if best is not item:
            best = replace(best, before=item)
        return replace(best, attempts=1 + self._config.attempts)
