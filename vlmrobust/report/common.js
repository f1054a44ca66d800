"use strict";

// Text is inserted as text nodes only: model output is never parsed as markup.
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
    // Undefined values come last in either direction.
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

const data = JSON.parse(byId("data").textContent);

// --- samples, prompts and answers --------------------------------------------------------------------------------------

const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

function role(sample, index) {
  if (index === sample.target) return "target";
  return index !== null && index === sample.distractor ? "distractor" : "";
}

// A sample's images and question, with further nodes before the question.
function describeSample(sample, ...before) {
  const notes = { target: " ✓ correct", distractor: " ✗ what misleading texts assert", "": "" };
  const colours = { target: "right", distractor: "wrong", "": "" };
  const options = sample.options.map((text, index) => make("li", { class: colours[role(sample, index)] },
    `${LETTERS[index]}. ${text}${notes[role(sample, index)]}`));
  const meta = Object.entries(sample.metadata).map(([name, value]) => `${name}: ${value}`);
  const images = sample.images.map((image) => image.src
    ? make("figure", {}, make("img", { src: image.src, alt: `image of sample ${sample.id}` }))
    : make("p", { class: "note" }, image.error));
  return make("div", { class: "about" }, ...images, make("div", { class: "description" }, ...before,
    make("h3", {}, sample.question),
    make("p", { class: "meta" }, [sample.id, ...meta].join(" · ")),
    make("ul", { class: "options" }, ...options)));
}

function verdict(sample, response) {
  if (response.correct === null) return make("span", {}, response.status.replace("_", " "));
  const [sign, word] = response.correct ? ["✓", "right"] : ["✗", "wrong"];
  const option = response.options.find((shown) => shown.index === response.answer);
  const shown = response.answer === null || !option ? response.status : `${option.letter}. ${option.text}`;
  return make("span", { class: word }, `${shown} ${sign}`);
}

function promptParts(sample, response) {
  const parts = [];
  if (response.context) {
    parts.push(make("p", { class: "label" }, "put before the question"));
    parts.push(make("p", { class: "turn" }, make("span", { class: "injected" }, response.context)));
  }
  if (response.question !== sample.question) {
    parts.push(make("p", { class: "label" }, "asked"));
    parts.push(make("p", { class: "turn" }, response.question));
  }
  for (const turn of response.history) {
    const isUser = turn.role === "user";
    parts.push(make("p", { class: "label" }, isUser ? "then the user said" : "the model's turn before"));
    parts.push(make("p", { class: "turn" }, isUser ? make("span", { class: "injected" }, turn.text) : turn.text));
  }
  return parts;
}

const searchedTexts = (response) => [response.context, response.question, ...response.history.map((turn) => turn.text),
  response.prefill, response.text];

function turnParts(response) {
  if (!response.prefill && !response.text) return [];
  const label = response.prefill ? "the model's turn; what was put into its mouth is marked" : "the model's turn";
  const prefill = response.prefill ? make("span", { class: "injected" }, response.prefill) : null;
  return [make("p", { class: "label" }, label), make("p", { class: "turn" }, prefill, response.text)];
}

function probabilityBars(sample, response) {
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

// The controls above the list: condition, search and toggle buttons.
function openFilters(buttons, chosen, filter) {
  for (const [name, label] of Object.entries(data.conditions)) byId("condition").append(make("option", { value: name }, label));
  for (const [name, meaning] of Object.entries(buttons)) {
    const button = make("button", { type: "button", title: meaning, "data-flag": name });
    button.addEventListener("click", () => {
      if (!chosen.delete(name)) chosen.add(name);
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
}
