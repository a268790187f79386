"""Does the verifier tell supported statements from others? Labelled pairs made by rule.

    python bench/evidence.py --hotpotqa FILE --sciq FILE --json out.json

Supported are sentences of gold documents, light paraphrases of them and gold
answers to their questions. Not supported are the same with a name, number or date
of the same documents in the place of another, the same negated, sentences of
documents that are not in use, and answers of other questions. The cases that ship
with reflectory are the freest wordings among them. Rows (and sets of cases) with an
even number are for choosing the threshold, the others are reported.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sklearn.metrics import roc_auc_score

import reflectory
from reflectory.agents.graders.cases import packaged_cases
from reflectory.agents.verification import statements_in
from reflectory.agents.verification.lexical import THRESHOLD, evidence_for
from reflectory.retrieval.sentences import sentences
from reflectory.types import Passage

_SYNONYMS = {
    "founded": "established",
    "established": "founded",
    "started": "began",
    "located": "situated",
    "film": "movie",
    "released": "published",
    "known as": "called",
    "best known": "most famous",
    "consists of": "is made up of",
    "people": "persons",
    "large": "big",
    "approximately": "about",
    "named": "called",
    "form": "make up",
    "occurs": "happens",
    "used": "employed",
}
_DROPPED = re.compile(
    r"\s*\([^()]*\)|\b(?:also|formerly|currently|originally|typically|usually|often)\s", re.I
)
_FRONTED = re.compile(r"^((?:In|On|At|During|After|Before) [^,]{3,40}), (.+?)([.!])$")
_NAME = re.compile(r"(?<![.!?] )(?<!^)\b[A-Z][\w'-]+(?: [A-Z][\w'-]+)*")
_NUMBER = re.compile(r"\b\d[\d,.]*\d\b|\b\d\b")
_VERB = re.compile(r"\b(is|are|was|were|has|have|had|can|could|will|would|may)\b(?! not)")
_WH_FIRST = re.compile(
    r"^(?:what|which|who)\b.*?(?=\b(?:is|are|was|were|can|has|have|had|makes?|links?|allows?|"
    r"occurs?|usually|tells?|helps?)\b)",
    re.I,
)


@dataclass(frozen=True)
class Pair:
    """A text, the question that it answers (or none), passages, and whether they support it."""

    row: int
    source: str
    kind: str
    question: str
    text: str
    passages: tuple[Passage, ...]
    supported: bool


def paraphrase(text: str, title: str) -> str:
    """Return the same said a little differently, by rule; the text itself where no rule fits."""
    said = _DROPPED.sub(" ", text).replace("  ", " ").replace(" ,", ",").replace(" .", ".").strip()
    for word, other in _SYNONYMS.items():
        said = re.sub(rf"\b{word}\b", other, said, count=1)
    if found := _FRONTED.match(said):
        where, what, stop = found.groups()
        said = f"{what[0].upper()}{what[1:]} {where[0].lower()}{where[1:]}{stop}"
    if title and (found := re.match(r"(?:It|He|She) (?=\w)", said)):
        said = f"{title} {said[found.end() :]}"
    return said


def swapped(text: str, pool: list[str], pattern: re.Pattern[str], rng: random.Random) -> str | None:
    """Return a text with one name or number replaced by another of the same documents."""
    places = [m for m in pattern.finditer(text) if len(m[0]) > 1]
    rng.shuffle(places)
    for place in places:
        held = {w.lower() for w in re.findall(r"\w+", text)}
        others = [p for p in pool if not {w.lower() for w in re.findall(r"\w+", p)} & held]
        if others:
            return text[: place.start()] + rng.choice(others) + text[place.end() :]
    return None


def negated(text: str) -> str | None:
    """Return a text that denies what it said, or ``None`` where no verb was found."""
    return _VERB.sub(r"\1 not", text, count=1) if _VERB.search(text) else None


def passage(number: int, title: str, text: str) -> Passage:
    """Return a whole document as one passage."""
    name = f"{number}"
    return Passage(id=name, document_id=name, title=title, text=text, start=0, end=len(text))


def hotpotqa_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs of HotpotQA rows: two gold documents and two others are in use."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        rng = random.Random(number)
        gold = [d for d in row["documents"] if d["title"] in row["supporting_titles"]]
        rest = [d for d in row["documents"] if d["title"] not in row["supporting_titles"]]
        used = [passage(i, d["title"], d["text"]) for i, d in enumerate([*gold, *rest[:2]])]
        rng.shuffle(used)

        def pair(
            kind: str, question: str, text: str, supported: bool, row=number, used=tuple(used)
        ) -> Pair:
            return Pair(row, "hotpotqa", kind, question, text, used, supported)

        everything = " ".join(d["text"] for d in gold)
        names = list(dict.fromkeys(m[0] for m in _NAME.finditer(everything)))
        numbers = list(dict.fromkeys(m[0] for m in _NUMBER.finditer(everything)))
        for document in gold:
            spans = [document["text"][a:b] for a, b in sentences(document["text"])]
            for text in spans[:3]:
                if len(text.split()) < 6:
                    continue
                said = paraphrase(text, document["title"])
                yield pair("verbatim", "", text, True)
                if said != text:
                    yield pair("paraphrase", "", said, True)
                for kind, pool, pattern in (
                    ("name swapped", names, _NAME),
                    ("number swapped", numbers, _NUMBER),
                ):
                    if other := swapped(said, pool, pattern, rng):
                        yield pair(kind, "", other, False)
                if other := negated(said):
                    yield pair("negated", "", other, False)
            if len(spans) > 1 and (found := re.match(r"(?:It|He|She) ", spans[1])):
                joined = f"{spans[0].rstrip('.')} and {spans[1][found.end() :]}"
                yield pair("two sentences joined", "", joined, True)
        for document in rest[2:5]:
            text = next(document["text"][a:b] for a, b in sentences(document["text"]))
            yield pair("sentence of another document", "", text, False)
        answer = row["answer"]
        closed = answer.lower() in {"yes", "no"}
        yield pair("yes or no" if closed else "short answer", row["question"], answer, True)
        if closed:
            opposite = "no" if answer.lower() == "yes" else "yes"
            yield pair("opposite of yes or no", row["question"], opposite, False)
            continue
        other = next(
            r["answer"]
            for r in (*rows[number + 1 :], *rows)
            if r["answer"].lower() not in {"yes", "no", answer.lower()}
        )
        yield pair("answer of another row", row["question"], other, False)
        asked = {w.lower() for w in re.findall(r"\w+", row["question"] + " " + answer)}
        rivals = [n for n in names if not {w.lower() for w in re.findall(r"\w+", n)} & asked]
        if rivals:
            yield pair("name of the same documents", row["question"], rng.choice(rivals), False)


def declared(question: str, answer: str) -> str | None:
    """Return question and answer as one sentence, or ``None`` where no rule fits."""
    asked = question.strip().rstrip("?. ")
    if found := _WH_FIRST.match(asked):
        return f"{answer[0].upper()}{answer[1:]} {asked[found.end() :]}."
    return re.sub(r"\bwhat$", answer, asked) + "." if re.search(r"\bwhat$", asked) else None


def sciq_pairs(path: Path) -> Iterator[Pair]:
    """Yield the pairs of SciQ rows: the support and three paragraphs of other rows are in use."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        rng = random.Random(1000 + number)
        others = [r for i, r in enumerate(rows) if i != number]
        used = [passage(i, "", r["document"]) for i, r in enumerate([row, *rng.sample(others, 3)])]
        rng.shuffle(used)
        held = row["document"].lower()
        wrong = [r["answer"] for r in others if r["answer"].lower() not in held]

        def pair(
            kind: str, text: str, supported: bool, row=number, asked=row, used=tuple(used)
        ) -> Pair:
            return Pair(row, "sciq", kind, asked["question"], text, used, supported)

        yield pair("short answer", row["answer"], True)
        yield pair("answer of another row", rng.choice(wrong), False)
        if text := declared(row["question"], row["answer"]):
            yield pair("question and answer", text, True)
            other = declared(row["question"], rng.choice(wrong))
            yield pair("question and answer of another row", other, False)
            if other := negated(text):
                yield pair("negated", other, False)


def packaged_pairs() -> Iterator[Pair]:
    """Yield the cases that ship with reflectory; the row is the number of the set."""
    groups = list(dict.fromkeys(case.group for case in packaged_cases()))
    for case in packaged_cases():
        yield Pair(
            groups.index(case.group),
            "packaged cases",
            case.kind,
            case.task.question,
            case.task.answer,
            case.task.passages,
            case.right,
        )


def score_of(pair: Pair) -> float | None:
    """Return the best score of the weakest statement; ``None`` when nothing is stated."""
    best = []
    for start, end in statements_in(pair.text):
        found = evidence_for(pair.text[start:end], pair.question, pair.passages)
        best.append(found[0].score if found else 0.0)
    return min(best, default=None)


def best_threshold(scored: Sequence[tuple[Pair, float]]) -> float:
    """Return the threshold with the best accuracy, every kind of either label weighing the same.

    Of equals the middle one. Copied sentences are many and free ones few, so that the
    mean over pairs would choose for copies alone.
    """
    kinds: dict[tuple[bool, str, str], list[float]] = defaultdict(list)
    for pair, score in scored:
        kinds[pair.supported, pair.source, pair.kind].append(score)

    def balanced(threshold: float) -> float:
        shares: dict[bool, list[float]] = {True: [], False: []}
        for (supported, _, _), scores in kinds.items():
            good = sum((score >= threshold) is supported for score in scores)
            shares[supported].append(good / len(scores))
        return round(sum(sum(s) / len(s) for s in shares.values()), 9)

    grid = [i / 100 for i in range(5, 100)]
    most = max(map(balanced, grid))
    equals = [threshold for threshold in grid if balanced(threshold) == most]
    return equals[len(equals) // 2]


def report_on(scored: Sequence[tuple[Pair, float]], threshold: float) -> dict:
    """Return the area under the ROC curve and the accuracy, over all pairs and per kind.

    The area of a kind is that of its pairs against all of the other label.
    """
    truths = [pair.supported for pair, _ in scored]
    scores = [score for _, score in scored]
    groups: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for pair, score in scored:
        groups[not pair.supported, pair.kind].append(score)
    by_label = {label: [s for p, s in scored if p.supported is label] for label in (True, False)}
    kinds = {}
    for (wrong, kind), own in sorted(groups.items()):
        rest = by_label[wrong]
        labels = [not wrong] * len(own) + [wrong] * len(rest)
        kinds[kind] = {
            "supported": not wrong,
            "pairs": len(own),
            "auc": round(float(roc_auc_score(labels, [*own, *rest])), 3),
            "accuracy": round(sum((s >= threshold) != wrong for s in own) / len(own), 3),
        }
    balanced = [
        sum((s >= threshold) is label for s in of) / len(of) for label, of in by_label.items()
    ]
    return {
        "pairs": len(scored),
        "auc": round(float(roc_auc_score(truths, scores)), 3),
        "accuracy of supported": round(balanced[0], 3),
        "accuracy of others": round(balanced[1], 3),
        "kinds": kinds,
    }


def scored_pairs(pairs: Sequence[Pair]) -> list[tuple[Pair, float]]:
    """Return the pairs that state something with their scores."""
    found = [(pair, score_of(pair)) for pair in pairs]
    return [(pair, score) for pair, score in found if score is not None]


def show(name: str, found: dict) -> None:
    """Print one table."""
    print(
        f"\n{name}: {found['pairs']} pairs, AUC {found['auc']:.3f}, accuracy "
        f"{found['accuracy of supported']:.3f} supported, {found['accuracy of others']:.3f} others"
    )
    for kind, row in found["kinds"].items():
        sign = "+" if row["supported"] else "-"
        print(f"  {sign} {kind:36} {row['pairs']:4}  {row['auc']:.3f}  {row['accuracy']:.3f}")


def main() -> None:
    """Make the pairs, choose the threshold on half of the rows and report the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hotpotqa", type=Path)
    parser.add_argument("--sciq", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report: dict = {
        "reflectory": reflectory.__version__,
        "machine": platform.machine(),
        "threshold": THRESHOLD,
    }
    choosing: list[tuple[Pair, float]] = []
    for name, path, make in (
        ("hotpotqa", options.hotpotqa, hotpotqa_pairs),
        ("sciq", options.sciq, sciq_pairs),
    ):
        if path is None or not path.exists():
            print(f"{name}: skipped, {'no file was named' if path is None else f'no {path}'}")
            report[name] = None
            continue
        pairs = list(make(path))
        began = time.perf_counter()
        scored = scored_pairs(pairs)
        seconds = time.perf_counter() - began
        looked = sum(len(p.passages) * max(1, len(statements_in(p.text))) for p in pairs)
        choosing += [s for s in scored if s[0].row % 2 == 0]
        report[name] = report_on([s for s in scored if s[0].row % 2], THRESHOLD)
        report[name]["ms per statement and passage"] = round(1000 * seconds / looked, 3)
        show(f"{name}, rows that were not chosen on", report[name])
        print(f"  {report[name]['ms per statement and passage']} ms per statement and passage")
    scored = scored_pairs(list(packaged_pairs()))
    choosing += [s for s in scored if s[0].row % 2 == 0]
    report["packaged cases"] = report_on([s for s in scored if s[0].row % 2], THRESHOLD)
    show("packaged cases, sets that were not chosen on", report["packaged cases"])
    report["best threshold of the other rows"] = best_threshold(choosing)
    print(f"\nbest threshold of the other rows: {best_threshold(choosing)}, in use {THRESHOLD}")
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
