"""A trajectory as a page and in the terminal: what stands there, for whom, and what never does."""

import re
from itertools import pairwise

import pytest
from browsing import assert_balanced, browser, in_browser
from bs4 import BeautifulSoup
from pypdf import PdfReader
from readable import everywhere, whole_trajectory
from rich.console import Console
from worlds import world_loop

from reflectory.errors import StorageError
from reflectory.report.reading import (
    plain_text,
    trajectory_css,
    trajectory_html,
    trajectory_page,
    write_trajectory,
)
from reflectory.testing.world import SyntheticWorld
from reflectory.types import Answer, Draft, Failure, StopReason, Trajectory

ATTACK = (
    "<script>document.title='taken'</script>"
    "<img src=x onerror=\"document.title='taken'\">&'</style>"
)


def checked(text):
    """Return a document whose tags, ids, links, headings and tables are in order."""
    assert_balanced(text)
    page = BeautifulSoup(text, "html.parser")
    ids = [element["id"] for element in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    for link in page.find_all("a"):
        assert link["href"].startswith("#") and link["href"][1:] in ids
    for element in page.find_all(attrs={"aria-labelledby": True}):
        assert element["aria-labelledby"] in ids
    levels = [int(h.name[1]) for h in page.find_all(re.compile("^h[1-6]$"))]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for cell in page.find_all("th"):
        assert cell.get("scope") in ("row", "col")
    for details in page.find_all("details"):
        summary = details.find(True, recursive=False)
        assert summary.name == "summary" and summary.get_text(strip=True)
    return page


def words(element):
    return " ".join(element.get_text(" ").split())


def part(page, heading):
    """Return the section or the folded part with a heading."""
    found = page.find(lambda e: e.name in ("h2", "h3", "h4", "h5") and words(e).startswith(heading))
    return found.find_parent(["section", "details"])


@pytest.fixture
def page():
    return checked(trajectory_html(whole_trajectory()))


def test_what_is_returned_stands_first_with_what_supports_it(page):
    returned = part(page, "What it answers")
    assert "R_2, the last response" in words(returned) and "G[2] = 0.820" in words(returned)
    link = returned.find(class_="refs").a
    passage = page.find(id=link["href"][1:])
    assert "The rain" in words(passage.summary) and passage.has_attr("open")
    assert [words(mark) for mark in passage.find_all("mark")] == ["Rain fell for nine days."]


def test_each_response_shows_what_changed_and_how_it_came_about(page):
    first, second, third = (part(page, f"R_{t}") for t in range(3))
    assert words(first.find(class_="loose")) == "It was tall."
    assert first.find(class_="flag").get_text() == "no passage supports this"
    assert "replaced by a reflection, graded 0.820 against 0.430 for R_0" in words(second)
    assert [words(e) for e in second.find_all(["del", "ins"])] == [
        ". It was tall",
        "after nine days of rain",
    ]
    assert "R_1 was kept, graded 0.820: the best other draft has 0.330." in words(third)
    assert not third.find_all(["del", "ins"])
    rows = [words(row) for row in second.table.tbody.find_all("tr")]
    assert rows[0].startswith("0.820 a reflection taken")
    assert (
        "25% of what the student wrote by itself says it; the question is 2.2 nats likelier "
        "behind it 1911"
    ) in rows[2]


def test_cells_show_question_answer_grade_reason_and_alignment(page):
    iteration = part(page, "Iteration t = 0")
    assert "2 questions, mean A 0.45, 1 failed, 1 passage joined" in words(iteration.summary)
    cell = part(iteration, "basic")
    said = words(cell)
    assert "How long did it rain?" in said and "at try 2" in said and "Nine days." in said
    assert "A = 0.450: similarity to the instruction 0.500 × grade 0.900" in said  # noqa: RUF001
    assert "Score: 9/10" in said and "Let me count." in said
    # [2] is the second passage that this answer was written from.
    reason = cell.find(class_="grade").find("a")
    assert reason.get_text() == "[2]" and "The rain" in words(page.find(id=reason["href"][1:]))
    edited = part(part(page, "Iteration t = 1"), "basic")
    assert words(edited).count("changed by a person") == 2 and "(empty)" in words(edited)


def test_a_failed_cell_says_what_failed_and_has_no_grade(page):
    cell = part(part(page, "Iteration t = 0"), "expert")
    assert "OutputError in the step ask: no question" in words(cell)
    assert "Well, well." in words(cell.details) and cell.find(class_="grade") is None
    matrix = part(page, "Alignment A")
    rows = [[words(c) for c in row.find_all(["th", "td"])] for row in matrix.tbody.find_all("tr")]
    assert rows[:2] == [["basic", "0.45", "0.00"], ["expert", "failed", "0.75"]]
    assert rows[2][1:] == ["", "-"]  # the change is unknown where a cell failed


def test_context_that_was_added_says_why_and_how_it_was_found(page):
    added = part(page, "What joined the context")
    assert "The rain , because a good answer at level basic rested on it" in words(added)
    steps = [words(step) for step in added.find_all("li") if step.parent.name == "ol"]
    assert steps == [
        "How long did it rain?",
        "mention: 1911 in 1911",
        "found by meaning: The rain",
    ]


def test_signals_are_explained_once_and_those_of_others_are_not_made_up(page):
    shown = page.find(class_="signals")
    assert words(shown) == "support 0.750 own 2.500"
    legend = words(page.find(id=re.compile("-signals$")))
    assert "share of its words that the documents hold" in legend
    assert "own a number of this grader's own" in legend


def test_no_text_of_an_answer_or_passage_stands_twice(page):
    assert words(page).count("Nobody had measured the water.") == 1
    assert words(page).count("Nine days.") == 1


def test_several_fragments_can_stand_on_one_page_at_any_level():
    one, two = (trajectory_html(whole_trajectory(id=name), heading=3) for name in ("a", "b"))
    page = checked(f"<h1>All</h1><h2>Trajectories</h2>{one}{two}")
    assert len(page.find_all("article")) == 2 and page.article.h3
    with pytest.raises(ValueError, match="got 4"):
        trajectory_html(whole_trajectory(), heading=4)


def test_a_page_has_its_style_no_script_and_asks_nothing_of_a_network(tmp_path):
    text = write_trajectory(whole_trajectory(), tmp_path / "a" / "p.html").read_text("utf-8")
    page = checked(text)
    assert page.find("script") is None and page.title.string == "Why did the dam break?"
    assert "default-src 'none'" in page.find("meta", attrs={"http-equiv": True})["content"]
    assert not re.search(r"https?://|url\(|@import", text)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_trajectory(whole_trajectory(), tmp_path / "file" / "p.html")


@pytest.mark.parametrize("text", [ATTACK, "a\"b'c & <b>", "{{ 7 * 7 }}{% raw %}", "]]>--><!--"])
def test_texts_of_others_stay_texts_wherever_they_stand(text):
    page = checked(trajectory_page(everywhere(text)))
    assert page.find(["script", "img", "b"]) is None
    assert all(not a.startswith("on") for e in page.find_all(True) for a in e.attrs)
    assert words(page).count(" ".join(text.split())) > 20


def test_what_cannot_be_shown_is_taken_out():
    text = "a\x00b\x1b[31mc \u202edcba\u202c \ud800 שלום é\r\nx"
    shown = trajectory_page(everywhere(text))
    printed = plain_text(everywhere(text))
    for found in (shown, printed):
        found.encode()
        assert not re.search("[\x00\x1b\r\u202e\ud800]", found)
        assert "שלום é" in found and "\ufffd" in found


def test_right_to_left_texts_are_set_apart_from_what_surrounds_them():
    page = checked(trajectory_html(everywhere("שלום עולם")))
    assert page.find(class_="instruction")["dir"] == "auto"
    assert all(block.get("dir") == "auto" for block in page.find_all(class_="text"))


def test_long_answers_scroll_and_can_be_reached_by_keyboard():
    text = "One long sentence. " * 6_000
    answer = Answer(text=text)
    known = whole_trajectory(chosen=1)
    responses = (known.responses[0], known.responses[1].model_copy(update={"answer": answer}))
    page = checked(trajectory_html(known.model_copy(update={"responses": responses})))
    blocks = page.find_all(class_="long")
    assert blocks and all(b["tabindex"] == "0" and b["aria-label"] for b in blocks)


def test_a_loop_that_failed_shows_how_far_it_got():
    error = Failure(step="respond", kind="BackendError", message="no answer from the server")
    nothing = Trajectory(id="x", instruction="Why?", levels=("basic",), error=error)
    page = checked(trajectory_html(nothing))
    assert "BackendError in the step respond: no answer" in words(page)
    assert "The loop did not finish." in words(page) and page.find("table") is None
    assert "BackendError in the step respond" in plain_text(nothing)
    begun = whole_trajectory(error=error, stop=None, responses=(), additions=(), chosen=0)
    assert "How long did it rain?" in words(checked(trajectory_html(begun)))
    assert checked(trajectory_html(Trajectory(id="", instruction="", levels=())))


def test_a_trajectory_without_grades_shows_none():
    known = whole_trajectory()
    responses = tuple(
        r.model_copy(
            update={
                "grade": None,
                "drafts": tuple(Draft(text=d.text, origin=d.origin) for d in r.drafts),
                "failure": Failure(step="grade", kind="OutputError", message="no number"),
            }
        )
        for r in known.responses
    )
    page = checked(trajectory_html(known.model_copy(update={"responses": responses})))
    assert "G[" not in words(part(page, "What it answers"))
    assert "Grades G -, -, -" in words(page) and "OutputError in the step grade" in words(page)
    assert "R_1 was kept, graded -: no other draft could be graded." in words(page)


def test_the_smallest_loop_is_read_like_any_other():
    loop = world_loop(SyntheticWorld(levels=1), max_iterations=1)
    found = loop.run("What is known?")
    page = checked(trajectory_html(found))
    assert len(part(page, "Alignment A").tbody.find_all("tr")) == 1
    assert "After 1 iteration, the most it may make." in words(page)
    assert found.response in words(part(page, "What it answers"))
    assert "Iteration t = 0 1 question, mean A 1.00" in plain_text(found)


def sentence(**changes):
    """Return how R_1 came about, as the page says it."""
    known = whole_trajectory(chosen=0)
    second = known.responses[1].model_copy(update=changes)
    changed = known.model_copy(update={"responses": (known.responses[0], second)})
    return words(part(checked(trajectory_html(changed)), "R_1").p)


def test_how_a_response_came_about_is_told_as_it_was():
    lost = Failure(step="reflect", kind="OutputError", message="nothing")
    text = whole_trajectory().responses[1].text
    assert sentence(drafts=()) == (
        "The reflection was taken as it was written; nothing was compared."
    )
    assert sentence(drafts=(), failure=lost) == "R_0 was kept: no reflection could be read."
    kept = Draft(text=text, origin="kept", score=0.4)
    assert sentence(drafts=(kept,), failure=lost).endswith("0.400: no reflection could be read.")
    higher = Draft(text="other", origin="drawn", score=0.5)
    assert "although a draft has 0.500: what follows has to be better by a margin" in sentence(
        drafts=(higher, kept)
    )
    short = Draft(text=text, origin="condensed", score=0.4)
    assert "A draft graded 0.500 was passed over: short answers" in sentence(drafts=(higher, short))


def test_why_a_loop_ended_is_told_as_it_was():
    stop = StopReason(rule="epsilon", converged=True, iterations=2, detail="change 0.01 < 0.05")
    said = words(checked(trajectory_html(whole_trajectory(stop=stop))))
    assert "By the rule epsilon after 2 iterations (converged): change 0.01 < 0.05" in said


# In the terminal and in a notebook


def test_the_terminal_says_the_same_without_colours():
    text = plain_text(whole_trajectory())
    flat = " ".join(text.split())
    for expected in (
        "What it answers (R_2, the last response)",
        "The dam broke in 1911 [-. It was tall-]{+after nine days of rain+}.",
        "It was tall. <no passage supports this>",
        "draft 0.120 condensed, 25% agree, question +2.2 nats: 1911",
        'grade = 0.900 Look at [2]: "Rain fell"',
        "A = 0.450: similarity to the instruction 0.500 x grade 0.900",
        "failed: OutputError in the step ask: no question",
        "joined the context: The rain, a good answer at level basic rested on it",
        "-> mention: 1911 -> found by meaning: The rain",
        "*Rain fell for nine days.* <for R_1, R_2, basic, t = 0>",
    ):
        assert expected in flat
    assert all(len(line) <= 100 for line in text.splitlines()) and "\x1b" not in text
    assert str(whole_trajectory()) == text and repr(whole_trajectory()) == (
        "Trajectory('000000-abc', 3 responses, done)"
    )


def test_only_ascii_is_added_in_the_terminal():
    assert plain_text(whole_trajectory()).isascii()


def test_markup_of_the_terminal_in_a_text_is_no_markup():
    console = Console(width=100, force_terminal=True, color_system="truecolor")
    with console.capture() as captured:
        console.print(everywhere("[red]x[/] [link=file:///]y[/link] :bomb:"))
    assert "[red]x[/] [link=file:///]y[/link] :bomb:" in captured.get()


def test_a_trajectory_shows_itself_in_a_notebook():
    shown = whole_trajectory()._repr_html_()
    assert shown.startswith("<style>") and trajectory_css() in shown
    assert checked(shown).article


# How it looks


def luminance(colour):
    digits = colour.lstrip("#")
    digits = digits if len(digits) == 6 else "".join(2 * d for d in digits)
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def palettes():
    return [
        dict(re.findall(r"--([\w-]+): (#\w+)", block))
        for block in re.findall(r"\{([^{}]*--ink:[^{}]*)\}", trajectory_css())
    ]


def test_every_text_has_enough_contrast_in_light_dark_and_print():
    assert len(palettes()) == 5
    for colours in palettes():
        for ink, paper in [
            *(
                (ink, paper)
                for ink in ("ink", "soft", "accent", "bad")
                for paper in ("paper", "tint")
            ),
            ("bad", "gone"),
            ("new-ink", "new"),
            ("ink", "mark"),
        ]:
            assert contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper, colours)
    shades = re.findall(r"\.matrix \.s(\d) \{ background: (#\w+)", trajectory_css())
    for number, shade in shades:
        assert contrast("#fff" if int(number) > 4 else "#000", shade) >= 4.5, shade
    assert len(shades) == 8


def test_the_style_applies_inside_of_the_fragment_only():
    rules = re.sub(r"/\*.*?\*/|@media[^{]*\{", "", trajectory_css(), flags=re.S)
    for selectors in re.findall(r"([^{}]+)\{", rules):
        for selector in re.split(r",(?![^(]*\))", selectors.strip()):
            assert ".trajectory" in selector, selector


# In a browser


@browser
def test_a_script_in_an_answer_does_not_run(tmp_path):
    path = write_trajectory(everywhere(ATTACK), tmp_path / "page.html")
    shown = in_browser(path, tmp_path / "profile", "--dump-dom")
    assert BeautifulSoup(shown, "html.parser").title.string == ATTACK


@browser
def test_what_is_folded_is_printed(tmp_path):
    path = write_trajectory(whole_trajectory(), tmp_path / "page.html")
    target = tmp_path / "page.pdf"
    in_browser(path, tmp_path / "profile", "--no-pdf-header-footer", f"--print-to-pdf={target}")
    printed = " ".join(" ".join(p.extract_text() for p in PdfReader(target).pages).split())
    for folded in ("How long did it rain?", "Score: 9/10", "Nobody had measured the water."):
        assert folded in printed
