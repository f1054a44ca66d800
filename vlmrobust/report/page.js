function showMetric() {
  const chosen = byId("metric").value;
  for (const row of byId("numbers").tBodies[0].rows) row.hidden = chosen !== "" && row.dataset.metric !== chosen;
}

byId("metric").addEventListener("change", showMetric);
showMetric();

// --- which samples are shown ------------------------------------------------------------------------------------------

const state = { condition: "", flags: new Set(), query: "", shown: [], current: null };

function textOf(sample, response) {
  if (response.searchText === undefined) {
    const options = response.options.map((option) => option.text);
    const parts = [sample.id, ...options, ...searchedTexts(response), response.error];
    response.searchText = parts.filter(Boolean).join("\n").toLowerCase();
  }
  return response.searchText;
}

function matches(sample, response) {
  if (state.condition !== "" && response.condition !== state.condition) return false;
  for (const flag of state.flags) if (!response.flags.includes(flag)) return false;
  return state.query === "" || textOf(sample, response).includes(state.query);
}

const isFiltered = () => state.condition !== "" || state.flags.size > 0 || state.query !== "";

function filter() {
  state.query = byId("search").value.trim().toLowerCase();
  state.condition = byId("condition").value;
  state.shown = data.samples.filter((sample) => sample.responses.some((response) => matches(sample, response)));
  byId("count").textContent = `${state.shown.length} of ${data.samples.length} samples`;
  countFlags();
  list.fill();
  select(state.shown.includes(state.current) ? state.current : state.shown[0] || null, false);
}

// Each button gives the number of shown samples that it would leave.
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

// --- the list, filled while scrolling ---------------------------------------------------------------------------------

const list = {
  node: byId("list"),
  filled: 0,
  fill() {
    this.filled = 0;
    this.node.replaceChildren();
    this.node.scrollTop = 0;
    if (state.shown.length === 0) this.node.append(make("p", { class: "empty" }, "No sample matches."));
    this.addItems();
  },
  addItems() {
    const next = state.shown.slice(this.filled, this.filled + 60);
    this.filled += next.length;
    this.node.append(...next.map(item));
  },
  nodeAt(index) {
    while (this.filled <= index) this.addItems();
    return this.node.children[index];
  },
};

list.node.addEventListener("scroll", () => {
  const { scrollTop, clientHeight, scrollHeight } = list.node;
  if (scrollTop + clientHeight > scrollHeight - 400 && list.filled < state.shown.length) list.addItems();
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
  const node = list.nodeAt(state.shown.indexOf(sample));
  node.setAttribute("aria-selected", "true");
  list.node.setAttribute("aria-activedescendant", node.id);
  if (scroll) node.scrollIntoView({ block: "nearest" });
  byId("detail").append(sampleHeader(sample), make("div", { class: "responses" }, ...sample.responses.map((r) => responseCard(sample, r))));
}

function moveBy(steps) {
  const index = state.shown.indexOf(state.current) + steps;
  if (index >= 0 && index < state.shown.length) select(state.shown[index]);
}

// --- one sample -------------------------------------------------------------------------------------------------------

function sampleHeader(sample) {
  const pager = make("div", { class: "pager" }, ...[["‹", -1, "Previous sample"], ["›", 1, "Next sample"]].map(([sign, steps, name]) => {
    const button = make("button", { type: "button", "aria-label": name, title: name }, sign);
    button.addEventListener("click", () => moveBy(steps));
    return button;
  }));
  return describeSample(sample, pager);
}

function responseCard(sample, response) {
  const draw = sample.responses.some((other) => other.draw > 0) ? `, draw ${response.draw}` : "";
  const matched = isFiltered() && matches(sample, response);
  const tags = [...response.flags, ...(response.carrier === "user_text" ? ["carried in the user's text"] : [])];
  return make("section", { class: matched ? "response match" : "response" },
    make("h4", {}, make("span", {}, data.conditions[response.condition] + draw), verdict(sample, response)),
    tags.length ? make("div", { class: "tags" }, ...tags.map((tag) => make("span", { title: data.flags[tag] }, tag))) : null,
    ...promptParts(sample, response),
    response.error ? make("p", { class: "turn" }, response.error) : null,
    ...turnParts(response),
    probabilityBars(sample, response),
    metricValues(response));
}

function metricValues(response) {
  const known = data.metrics.map((name, index) => [name, response.scores[index]]).filter(([, value]) => value !== null);
  if (known.length === 0) return null;
  const rows = known.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, String(value))));
  return make("details", {}, make("summary", {}, "numbers"), make("table", {}, make("tbody", {}, ...rows)));
}

// --- labelling thoughts without their answers -------------------------------------------------------------------------

const LABEL_FORMAT = "vlmrobust labels 1";
const labelling = { seed: null, thoughts: [], ...data.labelling, labels: new Map(), queue: [], position: 0, isSaved: true };

const thoughtsOf = (condition) => labelling.thoughts.filter((thought) => condition === "" || thought.condition === condition);
const labelledIn = (thoughts) => thoughts.filter((thought) => labelling.labels.has(thought));
const progressIn = (thoughts) => `${labelledIn(thoughts).length} of ${thoughts.length}`;

// The first thought without a label, even after going back: skipping one would break the random draw.
function firstUnlabelled() {
  const position = labelling.queue.findIndex((thought) => !labelling.labels.has(thought));
  return position < 0 ? labelling.queue.length : position;
}

// The choices for a label. An added option cannot be a thought's conclusion.
function choices(thought) {
  const shown = thought.options.map(({ letter, text, index }) => ({
    keys: [letter], name: `${letter}. ${text}`, note: index === null ? "counts as none" : "", label: index }));
  const none = shown.some((choice) => choice.keys[0] === "0") ? ["-"] : ["0", "-"];
  return [...shown, { keys: none, name: "None / undecided", note: `key ${none[0]}`, label: null }];
}

function choiceButton(thought, choice) {
  const isChosen = labelling.labels.has(thought) && labelling.labels.get(thought) === choice.label;
  const button = make("button", { type: "button", "aria-pressed": String(isChosen) }, make("span", {}, choice.name),
    choice.note && make("small", {}, choice.note));
  button.addEventListener("click", () => label(choice.label));
  return button;
}

function thoughtCard(thought) {
  const options = thought.options.map(({ letter, text }) => make("li", {}, `${letter}. ${text}`));
  return [make("h3", {}, thought.question), make("ul", { class: "options" }, ...options),
    make("p", { class: "label" }, "the thought"), make("p", { class: "turn" }, thought.thought),
    make("div", { class: "choices" }, ...choices(thought).map((choice) => choiceButton(thought, choice)))];
}

function finishedCard() {
  const button = make("button", { type: "button" }, "Export labels.json");
  button.addEventListener("click", exportLabels);
  return [make("h3", {}, `All ${labelling.queue.length} are labelled.`),
    make("p", {}, "Export the labels, or look back to change one."), button];
}

function showThought(position) {
  labelling.position = position;
  const thought = labelling.queue[position];
  byId("label-card").replaceChildren(...(thought ? thoughtCard(thought) : finishedCard()));
  byId("label-card").setAttribute("aria-label", thought ? `Thought ${position + 1} of ${labelling.queue.length}` : "Finished");
  byId("label-previous").disabled = position === 0;
  byId("label-next").disabled = !thought || !labelling.labels.has(thought);  // no skipping
  showProgress();
  showKeyHints();
}

function showProgress() {
  byId("label-count").textContent = `${progressIn(labelling.queue)} labelled`;
  byId("label-progress").max = labelling.queue.length;
  byId("label-progress").value = labelledIn(labelling.queue).length;
  byId("label-export").disabled = labelling.labels.size === 0;
  for (const option of byId("label-condition").options) {
    const name = option.value === "" ? "all conditions" : data.conditions[option.value];
    option.textContent = `${name}, ${progressIn(thoughtsOf(option.value))}`;
  }
}

// "Start" gets the focus on mouse down: hiding it then would cancel the click.
const takesKeys = (node) => byId("labels").contains(node) && !node.matches("input, select, textarea, #label-start");

function showKeyHints() {
  const isOn = takesKeys(document.activeElement);
  const thought = labelling.queue[labelling.position];
  const letters = thought ? `${choices(thought).map((choice) => choice.keys[0]).join(" ")}, ` : "";
  byId("labels").classList.toggle("keys-on", isOn);
  byId("label-start").hidden = isOn;
  byId("label-keys").textContent = isOn ? `Keys are on: ${letters}← → go, ↑ ↓ scroll` : "Keys are off";
}

function pickQueue() {
  labelling.queue = thoughtsOf(byId("label-condition").value);
  showThought(firstUnlabelled());
}

// Keep the focus in the section, or the next key would go to the sample browser.
function goTo(position) {
  const card = byId("label-card");
  showThought(position);
  card.focus({ preventScroll: true });
  const { top, bottom } = card.getBoundingClientRect();
  if (top < 0 || bottom > window.innerHeight) card.scrollIntoView();
}

function label(index) {
  const thought = labelling.queue[labelling.position];
  const wasOpen = !labelling.labels.has(thought);
  labelling.labels.set(thought, index);
  save();
  const open = firstUnlabelled();
  goTo(wasOpen || open < labelling.queue.length ? open : labelling.position + 1);
}

function step(steps) {
  const button = byId(steps < 0 ? "label-previous" : "label-next");
  if (!button.disabled) goTo(labelling.position + steps);
}

function handleKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !takesKeys(event.target)) return;
  const thought = labelling.queue[labelling.position];
  const choice = thought && choices(thought).find(({ keys }) => keys.includes(event.key.toUpperCase()));
  const text = byId("label-card").querySelector(".turn");
  const [steps, lines] = [{ ArrowLeft: -1, ArrowRight: 1 }[event.key], { ArrowUp: -3, ArrowDown: 3 }[event.key]];
  if (choice && !event.repeat) label(choice.label);  // a held key is one label
  else if (steps) step(steps);
  else if (lines && text && text.scrollHeight > text.clientHeight) text.scrollBy(0, 24 * lines);
  else return;
  event.preventDefault();
}

// --- label files and stored labels ------------------------------------------------------------------------------------

function labelFile() {
  const labels = labelledIn(labelling.thoughts).map((thought) => ({ sample_id: thought.sample_id,
    condition: thought.condition, draw: thought.draw, thought: thought.digest, label: labelling.labels.get(thought) }));
  return { format: LABEL_FORMAT, seed: labelling.seed, reader: byId("label-reader").value.trim(), labels };
}

// Adds a file's labels of these thoughts and keeps existing ones. Returns a count of each kind.
function addLabels(file) {
  const nameOf = (...parts) => JSON.stringify(parts);
  const named = new Map(labelling.thoughts.map((one) => [nameOf(one.sample_id, one.condition, one.draw, one.digest), one]));
  const count = { added: 0, same: 0, contradicting: 0, unknownThoughts: 0, unknownOptions: 0 };
  for (const entry of file.labels) {
    const thought = entry && named.get(nameOf(entry.sample_id, entry.condition, entry.draw, entry.thought));
    const before = labelling.labels.get(thought);
    if (!thought) count.unknownThoughts += 1;
    else if (!choices(thought).some((choice) => choice.label === entry.label)) count.unknownOptions += 1;
    else if (before !== undefined) count[before === entry.label ? "same" : "contradicting"] += 1;
    else {
      labelling.labels.set(thought, entry.label);
      count.added += 1;
    }
  }
  if (byId("label-reader").value === "" && typeof file.reader === "string") byId("label-reader").value = file.reader;
  return count;
}

function whyRefused(file) {
  if (!file || file.format !== LABEL_FORMAT || !Array.isArray(file.labels)) return `its format is not “${LABEL_FORMAT}”`;
  return String(file.seed) === labelling.seed ? "" : `its seed is ${JSON.stringify(file.seed)}, that of this page ${labelling.seed}`;
}

function importText(text) {
  let file;
  try { file = JSON.parse(text); } catch { return "Not imported: the file is no JSON."; }
  if (whyRefused(file)) return `Not imported: ${whyRefused(file)}.`;
  const count = addLabels(file);
  save();
  showThought(firstUnlabelled());
  const kinds = { same: "Here already", contradicting: "Contradicting the label here, which was kept",
    unknownThoughts: "Of other thoughts", unknownOptions: "Naming an option that was not shown" };
  const others = Object.keys(kinds).filter((kind) => count[kind] > 0).map((kind) => ` ${kinds[kind]}: ${count[kind]}.`);
  return `Labels taken: ${count.added}.${others.join("")}`;
}

async function importLabels() {
  const [file] = byId("label-import").files;
  if (!file) return;
  byId("label-said").textContent = importText(await file.text());
  byId("label-import").value = "";  // so that the same file can be chosen again
}

function exportLabels() {
  const address = URL.createObjectURL(new Blob([`${JSON.stringify(labelFile(), null, 1)}\n`], { type: "application/json" }));
  make("a", { href: address, download: "labels.json" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
  labelling.isSaved = true;
  byId("label-said").textContent = `Labels exported: ${labelling.labels.size}.`;
}

// Pages opened from files share one local storage.
const storageKey = () => `vlmrobust labels ${labelling.seed} ${labelling.thoughts.map((thought) => thought.digest).join("")}`;

function save() {
  try {
    localStorage.setItem(storageKey(), JSON.stringify(labelFile()));
    labelling.isSaved = true;
  } catch {
    labelling.isSaved = labelling.labels.size === 0;  // only the export saves labels, so ask before closing
  }
}

function restore() {
  try {
    addLabels(JSON.parse(localStorage.getItem(storageKey())) || { labels: [] });
  } catch {
    labelling.labels.clear();  // no storage, or foreign content
  }
}

// Sets up the section; a page without thoughts to label has none.
function openLabelling() {
  const names = Object.keys(data.conditions).filter((name) => thoughtsOf(name).length > 0);
  byId("label-condition").append(...["", ...names].map((name) => make("option", { value: name })));
  restore();
  pickQueue();
  byId("label-condition").addEventListener("change", pickQueue);
  byId("label-start").addEventListener("click", () => goTo(labelling.position));
  byId("label-previous").addEventListener("click", () => step(-1));
  byId("label-next").addEventListener("click", () => step(1));
  byId("label-reader").addEventListener("change", save);
  byId("label-export").addEventListener("click", exportLabels);
  byId("label-import").addEventListener("change", importLabels);
  byId("labels").addEventListener("keydown", handleKey);
  byId("labels").addEventListener("focusin", showKeyHints);
  byId("labels").addEventListener("focusout", () => setTimeout(showKeyHints));  // wait for the next element to get the focus
  window.addEventListener("beforeunload", (event) => labelling.isSaved || event.preventDefault());
}

if (byId("labels")) openLabelling();

// --- controls ---------------------------------------------------------------------------------------------------------

openFilters(data.flags, state.flags, filter);

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === byId("search")) event.target.blur();
  if (typing || event.target.closest("#labels")) return;  // in that section, letters are labels
  const steps = { j: 1, k: -1 };
  if (document.activeElement === list.node) Object.assign(steps, { ArrowDown: 1, ArrowUp: -1 });
  if (event.key === "/") byId("search").focus();
  else if (event.key in steps) moveBy(steps[event.key]);
  else return;
  event.preventDefault();
});

filter();
