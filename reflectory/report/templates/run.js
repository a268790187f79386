"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const list = byId("list");
  if (!list) return;
  const about = JSON.parse(byId("about").textContent);
  const entries = JSON.parse(byId("entries").textContent);
  const PER_PAGE = 25;
  const fields = ["search", "status", "rule", "part", "low", "high", "sort", "order", "unfold"];
  const control = Object.fromEntries(fields.map((name) => [name, byId(name)]));

  // An entry is an array, so that ten thousand are small; the places are those of details.py.
  const read = (e, place) => ({
    place, id: e[0], instruction: e[1], response: e[2], failed: e[3] === 1, rule: e[4],
    iterations: e[5], grades: e[6], chosen: e[7], grounded: e[8],
    flags: about.flags.filter((_, bit) => e[9] & (1 << bit)),
    levels: about.levels[e[10]] || [], columns: e[11], cells: e[12], part: e[13],
  });
  const gradeOf = (e) => (e[6].length ? e[6][Math.min(e[7], e[6].length - 1)] : null);
  const gainOf = (e) => {
    const last = gradeOf(e);
    return last === null || e[6][0] === null || e[6].length < 2 ? null : last - e[6][0];
  };
  const alignmentOf = (e) => {
    let sum = 0, count = 0;
    for (let at = e[11] - 1; at >= 0 && at < e[12].length; at += e[11]) {
      if (e[12][at] !== null && e[12][at] >= 0) { sum += e[12][at]; count += 1; }
    }
    return count ? sum / count : null;
  };
  const keys = {
    place: (e, place) => place, grade: gradeOf, gain: gainOf, alignment: alignmentOf,
    iterations: (e) => e[5], grounded: (e) => e[8], text: (e) => e[1].toLowerCase(),
  };

  let texts = null; // made once, when something is searched for
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ");
  const bound = (field) => (field.value === "" ? null : Number(field.value));
  let chosen = [], page = 0;

  const filter = () => {
    const wanted = plain(control.search.value).trim();
    if (wanted && !texts) texts = entries.map((e) => plain(`${e[0]} ${e[1]} ${e[2]}`));
    const status = control.status.value, bit = about.flags.indexOf(status);
    const rule = control.rule.value === "" ? null : Number(control.rule.value);
    const part = control.part && control.part.value !== "" ? Number(control.part.value) : null;
    const low = bound(control.low), high = bound(control.high);
    const fits = (e, place) => {
      if (status === "done" && e[3]) return false;
      if (status === "failed" && !e[3]) return false;
      if (status === "flagged" && !e[9]) return false;
      if (bit >= 0 && !(e[9] & (1 << bit))) return false;
      if (rule !== null && e[4] !== rule) return false;
      if (part !== null && e[13] !== part) return false;
      if (low !== null || high !== null) {
        const grade = gradeOf(e);
        if (grade === null || (low !== null && grade < low) || (high !== null && grade > high)) {
          return false;
        }
      }
      return !wanted || texts[place].includes(wanted);
    };
    chosen = [];
    entries.forEach((e, place) => { if (fits(e, place)) chosen.push(place); });
    const key = keys[control.sort.value], down = control.order.value === "down" ? -1 : 1;
    const known = chosen.map((place) => [key(entries[place], place), place]);
    known.sort((a, b) => {
      if (a[0] === null || b[0] === null) return (a[0] === null) - (b[0] === null) || a[1] - b[1];
      const order = typeof a[0] === "string" ? a[0].localeCompare(b[0]) : a[0] - b[0];
      return down * order || a[1] - b[1];
    });
    chosen = known.map((pair) => pair[1]);
    turn(0);
  };

  // Everything of a model is put in as text; only what Python escaped is read as HTML.
  const make = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const shade = (value) => Math.min(10, Math.max(0, Math.round(value / 10)));
  const two = (value) => (value === null ? "-" : value.toFixed(2));

  const tiny = (it) => {
    const shown = Math.min(it.columns, 24);
    const box = make("span", it.columns > 8 ? "tiny dense" : "tiny");
    box.setAttribute("aria-hidden", "true");
    it.levels.forEach((_, j) => {
      const row = make("span");
      for (let t = 0; t < shown; t += 1) {
        const value = it.cells[j * it.columns + t];
        row.append(make("i", value === null ? "none" : value < 0 ? "lost" : `a${shade(value)}`));
      }
      box.append(row);
    });
    return box;
  };

  const matrix = (it) => {
    const table = make("table", "matrix");
    table.append(make("caption", "away", `Alignment matrix of trajectory ${it.place + 1}`));
    const head = table.createTHead().insertRow();
    const title = (text, scope) => {
      const cell = make("th", "", text);
      cell.scope = scope;
      return cell;
    };
    head.append(title("level", "col"));
    for (let t = 0; t < it.columns; t += 1) head.append(title(`t=${t}`, "col"));
    const body = table.createTBody();
    it.levels.forEach((level, j) => {
      const row = body.insertRow();
      row.append(title(level, "row"));
      for (let t = 0; t < it.columns; t += 1) {
        const value = it.cells[j * it.columns + t];
        const name = value === null ? "a" : value < 0 ? "a lost" : `a a${shade(value)}`;
        const text = value === null ? "-" : value < 0 ? "failed" : (value / 100).toFixed(2);
        row.append(make("td", name, text));
      }
    });
    const around = make("div", "scroll");
    around.append(table);
    around.tabIndex = 0;
    around.setAttribute("role", "region");
    around.setAttribute("aria-label", `Matrix of trajectory ${it.place + 1}`);
    return around;
  };

  const said = (it) => {
    const line = make("span", "about");
    if (it.failed) line.append(make("b", "", "failed"), " · ");
    const words = [`${it.place + 1}`, it.id];
    if (about.parts.length > 1) words.push(about.parts[it.part] || "the run itself");
    if (it.rule >= 0) {
      words.push(`${about.rules[it.rule]}, ${it.iterations} iteration${it.iterations === 1 ? "" : "s"}`);
    }
    const graded = gradeOf(entries[it.place]);
    if (it.grades.length > 1) words.push(`G ${two(it.grades[0])} → ${two(graded)}`);
    else if (graded !== null) words.push(`G ${two(graded)}`);
    const end = alignmentOf(entries[it.place]);
    if (end !== null) words.push(`mean A at the end ${two(end / 100)}`);
    if (it.grounded !== null) words.push(`grounded ${two(it.grounded)}`);
    line.append(words.join(" · "));
    for (const flag of it.flags) line.append(" · ", make("b", "", flag.replace(/_/g, " ")));
    return line;
  };

  const item = (place) => {
    const it = read(entries[place], place);
    const row = make("li"), box = make("details"), head = make("summary");
    row.id = `trajectory-${place + 1}`;
    const what = make("span", "what");
    const text = make("bdi", "", it.instruction || "(no instruction)");
    text.dir = "auto";
    what.append(text);
    head.append(what, tiny(it), said(it));
    box.append(head);
    box.addEventListener("toggle", () => { if (box.open) unfold(box, place); });
    row.append(box);
    if (control.unfold.checked && it.columns) row.append(matrix(it));
    return row;
  };

  // Details: neighbours are packed together; the last few packs that were opened are kept.
  const packs = new Map();
  const problem = (text) => {
    byId("problem").textContent = text;
    byId("problem").hidden = text === "";
  };
  const unpack = async (number) => {
    if (document.readyState === "loading") {
      await new Promise((done) => document.addEventListener("DOMContentLoaded", done));
    }
    const packed = byId(`chunk-${number}`);
    if (!packed) throw new Error("the page is not complete; make it again");
    if (typeof DecompressionStream === "undefined") {
      throw new Error(
        "this browser cannot unpack the details; take one of 2023 or later, or `reflectory trace`",
      );
    }
    const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };
  const unfold = async (box, place) => {
    if (box.querySelector(".inside")) return;
    const inside = make("div", "inside", "Unpacking ...");
    box.append(inside);
    try {
      const number = Math.floor(place / about.chunk);
      if (!packs.has(number)) packs.set(number, unpack(number));
      if (packs.size > 4) packs.delete(packs.keys().next().value);
      const html = await packs.get(number);
      inside.innerHTML = html[place % about.chunk];
      problem("");
    } catch (error) {
      packs.clear();
      inside.remove();
      box.open = false;
      problem(`The details cannot be shown: ${error.message}`);
    }
  };

  const turn = (to) => {
    const pages = Math.max(1, Math.ceil(chosen.length / PER_PAGE));
    page = Math.min(Math.max(0, to), pages - 1);
    const from = page * PER_PAGE;
    const places = chosen.slice(from, from + PER_PAGE);
    list.replaceChildren(...places.map(item));
    list.start = from + 1;
    const range = places.length ? `${from + 1} to ${from + places.length} of ` : "";
    const some = chosen.length < entries.length ? ` that fit, ${entries.length} in all` : "";
    byId("shown").textContent =
      `${range}${chosen.length} trajector${chosen.length === 1 ? "y" : "ies"}${some}`;
    byId("last").textContent = `of ${pages}`;
    byId("page").max = pages;
    byId("page").value = page + 1;
    byId("back").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
  };

  // A link to a trajectory leads to it, whatever page it is on.
  let waiting = 0;
  let following = false;
  const follow = () => {
    const found = /^#trajectory-(\d+)$/.exec(location.hash);
    if (!found || Number(found[1]) > entries.length) return;
    const place = Number(found[1]) - 1;
    clearTimeout(waiting); // a filter that is still to come would close what opens here
    let at = chosen.indexOf(place);
    if (at < 0) {
      following = true;
      byId("controls").reset();
      following = false;
      filter();
      at = chosen.indexOf(place);
    }
    turn(Math.floor(at / PER_PAGE));
    const box = byId(`trajectory-${place + 1}`).firstElementChild;
    box.open = true;
    box.scrollIntoView();
    box.firstElementChild.focus({ preventScroll: true });
  };

  const later = () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  };
  for (const name of ["search", "low", "high"]) control[name].addEventListener("input", later);
  for (const name of ["status", "rule", "part", "sort", "order"]) {
    if (control[name]) control[name].addEventListener("change", filter);
  }
  control.unfold.addEventListener("change", () => turn(page));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("controls").addEventListener("reset", () => {
    if (!following) waiting = setTimeout(filter, 0); // the fields are empty only after the event
  });
  byId("back").addEventListener("click", () => turn(page - 1));
  byId("next").addEventListener("click", () => turn(page + 1));
  byId("page").addEventListener("change", () => turn(Number(byId("page").value) - 1));
  window.addEventListener("hashchange", follow);
  byId("controls").hidden = false;
  byId("pages").hidden = false;
  filter();
  follow();
  performance.mark("interactive");
})();
