const KINDS = { won: "right here, wrong in the other", lost: "wrong here, right in the other", changed: "wrong in both, by other answers" };
const state = { condition: "", kinds: new Set(), words: "", shown: [], filled: 0 };

function textOf(flip) {
  if (flip.searched === undefined) {
    const sample = data.samples[flip.sample];
    const sides = [flip.here, flip.there].flatMap(wordsOf);
    flip.searched = [sample.id, sample.question, ...sample.options, ...sides].filter(Boolean).join("\n").toLowerCase();
  }
  return flip.searched;
}

const isOf = (flip) => (state.condition === "" || flip.condition === state.condition)
  && (state.words === "" || textOf(flip).includes(state.words));

function filter() {
  state.condition = byId("condition").value;
  state.words = byId("search").value.trim().toLowerCase();
  const found = data.flips.filter(isOf);
  state.shown = found.filter((flip) => state.kinds.size === 0 || state.kinds.has(flip.kind));
  for (const button of byId("flags").children) {
    const kind = button.dataset.flag;
    button.textContent = `${kind} ${found.filter((flip) => flip.kind === kind).length}`;
    button.setAttribute("aria-pressed", state.kinds.has(kind));
  }
  byId("count").textContent = `${state.shown.length} of ${data.flips.length} flips`;
  state.filled = 0;
  byId("flips").replaceChildren();
  if (state.shown.length === 0) byId("flips").append(make("p", { class: "empty" }, "No flip matches."));
  more();
}

function more() {
  const next = state.shown.slice(state.filled, state.filled + 20);
  state.filled += next.length;
  byId("flips").append(...next.map(card));
  byId("more").hidden = state.filled >= state.shown.length;
}

function side(sample, name, response) {
  return make("section", { class: "response" },
    make("h4", {}, make("span", {}, name), verdict(sample, response)),
    ...asked(sample, response),
    ...turn(response),
    bars(sample, response));
}

function card(flip) {
  const sample = data.samples[flip.sample];
  const draw = data.has_draws ? `, draw ${flip.draw}` : "";
  const kind = make("p", { class: "tags" }, make("span", { title: KINDS[flip.kind] }, flip.kind),
    make("span", {}, data.conditions[flip.condition] + draw));
  return make("article", { class: "flip", "data-kind": flip.kind },
    described(sample, kind),
    make("div", { class: "responses two" }, side(sample, data.names[0], flip.here), side(sample, data.names[1], flip.there)));
}

openFilters(KINDS, state.kinds, filter);
byId("more").addEventListener("click", more);
filter();
