"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // Tables: a click sorts by a column, another one the other way round.
  const valueOf = (cell) => {
    const text = cell ? cell.textContent.trim() : "";
    const number = Number(text.replace(/,/g, "").replace(/^</, ""));
    return text !== "" && !Number.isNaN(number) ? number : text;
  };
  const order = (a, b) => {
    const numbers = [a, b].map((v) => typeof v === "number");
    if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
    return numbers[0] ? a - b : a.localeCompare(b);
  };
  for (const button of document.querySelectorAll("table.sort th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const body = head.closest("table").tBodies[0];
      const down = head.getAttribute("aria-sort") === "ascending" ||
        (!head.hasAttribute("aria-sort") && !head.classList.contains("t"));
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const place = head.cellIndex;
      const rows = Array.from(body.rows, (row) => [valueOf(row.cells[place]), row]);
      rows.sort((a, b) => (down ? order(b[0], a[0]) : order(a[0], b[0])));
      body.append(...rows.map((pair) => pair[1]));
    });
  }

  // Questions: search and filter hide those that do not fit.
  const questions = Array.from(document.querySelectorAll(".q"));
  const search = byId("search"), show = byId("show"), other = byId("other");
  const budget = byId("budget"), shown = byId("shown");
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ");
  let texts = null; // read once, when something is searched for
  const fits = (marks) => {
    if (show.value === "") return true;
    if (show.value === "n") return marks.includes("n");
    const [mine, theirs] = show.value.split(":");
    const is = (mark, wanted) => mark === wanted || (wanted === "w" && mark === "n");
    if (!is(marks[0], mine)) return false;
    const rest = Array.from(marks.slice(1)).filter((mark) => mark !== "-");
    if (other.value === "every") return rest.length > 0 && rest.every((m) => is(m, theirs));
    if (other.value === "some") return rest.some((m) => is(m, theirs));
    return is(marks[Number(other.value)], theirs);
  };
  const filter = () => {
    const wanted = plain(search.value).trim();
    if (wanted && !texts) texts = questions.map((q) => plain(q.textContent));
    other.disabled = !show.value.includes(":");
    const key = budget ? budget.value : null;
    let count = 0;
    questions.forEach((q, place) => {
      const marks = key ? q.dataset[key] : Object.values(q.dataset)[0];
      const fit = fits(marks || "") && (!wanted || texts[place].includes(wanted));
      q.hidden = !fit;
      count += fit;
    });
    shown.textContent = `${count} of ${questions.length} questions`;
  };
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  });
  for (const choice of [show, other, budget]) if (choice) choice.addEventListener("change", filter);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("open").addEventListener("click", () => {
    for (const q of questions) q.open = q.open || !q.hidden;
  });
  byId("close").addEventListener("click", () => {
    for (const q of questions) q.open = false;
  });
  byId("controls").hidden = false;
  filter();
})();
