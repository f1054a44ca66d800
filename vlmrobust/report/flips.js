const KINDS = { won: "right here, wrong in the other", lost: "wrong here, right in the other", changed: "wrong in both, by other answers" };
const state = { condition: "", kinds: new Set(), query: "", shown: [], shownCount: 0 };

function textOf(flip) {
  if (flip.searchText === undefined) {
    const sample = data.samples[flip.sample];
    const texts = [flip.here, flip.there].flatMap(searchedTexts);
    flip.searchText = [sample.id, sample.question, ...sample.options, ...texts].filter(Boolean).join("\n").toLowerCase();
  }
  return flip.searchText;
}

const matches = (flip) => (state.condition === "" || flip.condition === state.condition)
  && (state.query === "" || textOf(flip).includes(state.query));

function filter() {
  state.condition = byId("condition").value;
  state.query = byId("search").value.trim().toLowerCase();
  const found = data.flips.filter(matches);
  state.shown = found.filter((flip) => state.kinds.size === 0 || state.kinds.has(flip.kind));
  for (const button of byId("flags").children) {
    const kind = button.dataset.flag;
    button.textContent = `${kind} ${found.filter((flip) => flip.kind === kind).length}`;
    button.setAttribute("aria-pressed", state.kinds.has(kind));
  }
  byId("count").textContent = `${state.shown.length} of ${data.flips.length} flips`;
  state.shownCount = 0;
  byId("flips").replaceChildren();
  if (state.shown.length === 0) byId("flips").append(make("p", { class: "empty" }, "No flip matches."));
  showMore();
}

function showMore() {
  const next = state.shown.slice(state.shownCount, state.shownCount + 20);
  state.shownCount += next.length;
  byId("flips").append(...next.map(flipCard));
  byId("more").hidden = state.shownCount >= state.shown.length;
}

function responseCard(sample, name, response) {
  return make("section", { class: "response" },
    make("h4", {}, make("span", {}, name), verdict(sample, response)),
    ...promptParts(sample, response),
    ...turnParts(response),
    probabilityBars(sample, response));
}

function flipCard(flip) {
  const sample = data.samples[flip.sample];
  const draw = data.has_draws ? `, draw ${flip.draw}` : "";
  const kind = make("p", { class: "tags" }, make("span", { title: KINDS[flip.kind] }, flip.kind),
    make("span", {}, data.conditions[flip.condition] + draw));
  return make("article", { class: "flip", "data-kind": flip.kind },
    describeSample(sample, kind),
    make("div", { class: "responses two" }, responseCard(sample, data.names[0], flip.here), responseCard(sample, data.names[1], flip.there)));
}

openFilters(KINDS, state.kinds, filter);
byId("more").addEventListener("click", showMore);
filter();
