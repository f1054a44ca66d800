"use strict";

// Text goes into the page as text nodes alone: what a model wrote is never read as markup.
function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const byId = (id) => document.getElementById(id);

// --- tables -----------------------------------------------------------------------------------------------------------

function compare(first, second) {
  const numbers = [Number(first), Number(second)];
  return numbers.some(Number.isNaN) ? first.localeCompare(second, undefined, { numeric: true }) : numbers[0] - numbers[1];
}

function sortTable(table, header) {
  const column = [...header.parentNode.children].indexOf(header);
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.children) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = (row) => row.children[column].dataset.sort;
  const rows = [...table.tBodies[0].rows];
  rows.sort((first, second) => {
    const [one, two] = [key(first), key(second)];
    // What is undefined comes last in either direction.
    if (one === "" || two === "") return (one === "") - (two === "");
    return descending ? compare(two, one) : compare(one, two);
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table")) {
  for (const header of table.querySelectorAll("thead th")) {
    header.firstElementChild.addEventListener("click", () => sortTable(table, header));
  }
}

function showMetric() {
  const chosen = byId("metric").value;
  for (const row of byId("numbers").tBodies[0].rows) row.hidden = chosen !== "" && row.dataset.metric !== chosen;
}

byId("metric").addEventListener("change", showMetric);
showMetric();

// --- which samples are shown ------------------------------------------------------------------------------------------

const data = JSON.parse(byId("data").textContent);
const state = { condition: "", flags: new Set(), words: "", shown: [], current: null };

function textOf(sample, response) {
  if (response.searched === undefined) {
    const options = response.options.map((option) => option.text);
    const parts = [sample.id, response.context, response.question, ...options, response.prefill, response.text, response.error];
    response.searched = parts.filter(Boolean).join("\n").toLowerCase();
  }
  return response.searched;
}

function matches(sample, response) {
  if (state.condition !== "" && response.condition !== state.condition) return false;
  for (const flag of state.flags) if (!response.flags.includes(flag)) return false;
  return state.words === "" || textOf(sample, response).includes(state.words);
}

const isFiltered = () => state.condition !== "" || state.flags.size > 0 || state.words !== "";

function filter() {
  state.words = byId("search").value.trim().toLowerCase();
  state.condition = byId("condition").value;
  state.shown = data.samples.filter((sample) => sample.responses.some((response) => matches(sample, response)));
  byId("count").textContent = `${state.shown.length} of ${data.samples.length} samples`;
  countFlags();
  list.fill();
  select(state.shown.includes(state.current) ? state.current : state.shown[0] || null, false);
}

// On each button stands how many of the samples shown would be left with it.
function countFlags() {
  for (const button of byId("flags").children) {
    const flag = button.dataset.flag;
    const left = state.shown.filter((sample) =>
      sample.responses.some((response) => matches(sample, response) && response.flags.includes(flag)));
    button.textContent = `${flag} ${left.length}`;
    button.disabled = left.length === 0 && !state.flags.has(flag);
    button.setAttribute("aria-pressed", state.flags.has(flag));
  }
}

// --- the list, filled as far as it is scrolled ------------------------------------------------------------------------

const list = {
  node: byId("list"),
  filled: 0,
  fill() {
    this.filled = 0;
    this.node.replaceChildren();
    this.node.scrollTop = 0;
    if (state.shown.length === 0) this.node.append(make("p", { class: "empty" }, "No sample matches."));
    this.more();
  },
  more() {
    const next = state.shown.slice(this.filled, this.filled + 60);
    this.filled += next.length;
    this.node.append(...next.map(item));
  },
  reach(index) {
    while (this.filled <= index) this.more();
    return this.node.children[index];
  },
};

list.node.addEventListener("scroll", () => {
  const { scrollTop, clientHeight, scrollHeight } = list.node;
  if (scrollTop + clientHeight > scrollHeight - 400 && list.filled < state.shown.length) list.more();
});

function mark(response) {
  const [sign, word] = response.correct === null ? ["–", "error"] : response.correct ? ["●", "right"] : ["○", "wrong"];
  return make("span", { class: word, title: `${data.conditions[response.condition]}: ${word}` }, sign);
}

function item(sample) {
  const marks = make("span", { class: "marks", "aria-hidden": true }, ...sample.responses.slice(0, 12).map(mark));
  const id = `sample-${data.samples.indexOf(sample)}`;
  const node = make("div", { class: "item", id, role: "option", "aria-selected": sample === state.current },
    make("div", { class: "name" }, make("span", {}, sample.id), marks),
    make("div", { class: "question" }, sample.question));
  node.addEventListener("click", () => select(sample));
  return node;
}

function select(sample, scroll = true) {
  const before = list.node.querySelector("[aria-selected=true]");
  if (before) before.setAttribute("aria-selected", "false");
  state.current = sample;
  byId("detail").replaceChildren();
  if (sample === null) return;
  const node = list.reach(state.shown.indexOf(sample));
  node.setAttribute("aria-selected", "true");
  list.node.setAttribute("aria-activedescendant", node.id);
  if (scroll) node.scrollIntoView({ block: "nearest" });
  byId("detail").append(about(sample), make("div", { class: "responses" }, ...sample.responses.map((r) => card(sample, r))));
}

function walk(steps) {
  const index = state.shown.indexOf(state.current) + steps;
  if (index >= 0 && index < state.shown.length) select(state.shown[index]);
}

// --- one sample -------------------------------------------------------------------------------------------------------

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

function role(sample, index) {
  if (index === sample.target) return "target";
  return index !== null && index === sample.distractor ? "distractor" : "";
}

function about(sample) {
  const notes = { target: " ✓ correct", distractor: " ✗ what misleading texts assert", "": "" };
  const colours = { target: "right", distractor: "wrong", "": "" };
  const options = sample.options.map((text, index) => make("li", { class: colours[role(sample, index)] },
    `${LETTERS[index]}. ${text}${notes[role(sample, index)]}`));
  const meta = Object.entries(sample.metadata).map(([name, value]) => `${name}: ${value}`);
  const images = sample.images.map((image) => image.src
    ? make("figure", {}, make("img", { src: image.src, alt: `image of sample ${sample.id}` }))
    : make("p", { class: "note" }, image.error));
  const walkers = make("div", { class: "walk" }, ...[["‹", -1, "Previous sample"], ["›", 1, "Next sample"]].map(([sign, steps, name]) => {
    const button = make("button", { type: "button", "aria-label": name, title: name }, sign);
    button.addEventListener("click", () => walk(steps));
    return button;
  }));
  return make("div", { class: "about" }, ...images, make("div", { class: "said" }, walkers,
    make("h3", {}, sample.question),
    make("p", { class: "meta" }, [sample.id, ...meta].join(" · ")),
    make("ul", { class: "options" }, ...options)));
}

function card(sample, response) {
  const draw = sample.responses.some((other) => other.draw > 0) ? `, draw ${response.draw}` : "";
  const matched = isFiltered() && matches(sample, response);
  const tags = [...response.flags, ...(response.carrier === "user_text" ? ["carried in the user's text"] : [])];
  return make("section", { class: matched ? "response match" : "response" },
    make("h4", {}, make("span", {}, data.conditions[response.condition] + draw), verdict(sample, response)),
    tags.length ? make("div", { class: "tags" }, ...tags.map((tag) => make("span", { title: data.flags[tag] }, tag))) : null,
    ...asked(sample, response),
    response.error ? make("p", { class: "turn" }, response.error) : null,
    ...turn(response),
    bars(sample, response),
    scores(response));
}

function verdict(sample, response) {
  if (response.correct === null) return make("span", {}, response.status.replace("_", " "));
  const [sign, word] = response.correct ? ["✓", "right"] : ["✗", "wrong"];
  const option = response.options.find((shown) => shown.index === response.answer);
  const said = response.answer === null || !option ? response.status : `${option.letter}. ${option.text}`;
  return make("span", { class: word }, `${said} ${sign}`);
}

function asked(sample, response) {
  const parts = [];
  if (response.context) {
    parts.push(make("p", { class: "label" }, "put before the question"));
    parts.push(make("p", { class: "turn" }, make("span", { class: "injected" }, response.context)));
  }
  if (response.question !== sample.question) {
    parts.push(make("p", { class: "label" }, "asked"));
    parts.push(make("p", { class: "turn" }, response.question));
  }
  return parts;
}

function turn(response) {
  if (!response.prefill && !response.text) return [];
  const label = response.prefill ? "the model's turn; what was put into its mouth is marked" : "the model's turn";
  const prefill = response.prefill ? make("span", { class: "injected" }, response.prefill) : null;
  return [make("p", { class: "label" }, label), make("p", { class: "turn" }, prefill, response.text)];
}

function bars(sample, response) {
  const known = response.options.filter((option) => option.probability !== null);
  if (known.length === 0) return null;
  const marks = { target: " ✓", distractor: " ✗", "": "" };
  const cells = known.flatMap((option) => {
    const what = role(sample, option.index);
    const name = `${option.letter}. ${option.text}${option.index === null ? " (added)" : ""}${marks[what]}`;
    const fill = make("div", { class: `fill ${what}` });
    fill.style.width = `${100 * option.probability}%`;
    return [make("span", { class: "option", title: name }, name), make("div", { class: "track" }, fill),
      make("span", { class: "share" }, option.probability.toFixed(2))];
  });
  const label = make("p", { class: "label" }, `probability of the letters, read: ${response.readout || "?"}`);
  return make("div", {}, label, make("div", { class: "bars" }, ...cells));
}

function scores(response) {
  const known = data.metrics.map((name, index) => [name, response.scores[index]]).filter(([, value]) => value !== null);
  if (known.length === 0) return null;
  const rows = known.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, String(value))));
  return make("details", {}, make("summary", {}, "numbers"), make("table", {}, make("tbody", {}, ...rows)));
}

// --- controls ---------------------------------------------------------------------------------------------------------

for (const [name, label] of Object.entries(data.conditions)) byId("condition").append(make("option", { value: name }, label));

for (const [flag, meaning] of Object.entries(data.flags)) {
  const button = make("button", { type: "button", title: meaning, "data-flag": flag });
  button.addEventListener("click", () => {
    if (!state.flags.delete(flag)) state.flags.add(flag);
    filter();
  });
  byId("flags").append(button);
}

let pause = null;
byId("search").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(filter, 120);
});
byId("condition").addEventListener("change", filter);
byId("filters").addEventListener("submit", (event) => event.preventDefault());

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === byId("search")) event.target.blur();
  if (typing) return;
  const steps = { j: 1, k: -1 };
  if (document.activeElement === list.node) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1 });
  if (event.key === "/") byId("search").focus();
  else if (event.key in steps) walk(steps[event.key]);
  else return;
  event.preventDefault();
});

filter();
