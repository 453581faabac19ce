// The page: panels side by side, and controls for the one that is active.

import { plot } from "./chart.js";
import { NAMES, table } from "./colour.js";
import { entry, gigabytes, plain, rate, seconds } from "./format.js";
import { Histogram } from "./histogram.js";
import * as keys from "./keys.js";
import { Panel, RANGES } from "./panel.js";
import { png, save } from "./save.js";
import { Connection } from "./socket.js";

const by = (id) => document.getElementById(id);
const panels = [];
let active = null;

const page = {
  say: (type, source, more) => connection.say(type, source, more),
  changed: (panel) => panel === active && update(),
  activate(panel) {
    if (active === panel) return;
    active = panel;
    for (const one of panels) one.element.classList.toggle("active", one === panel && panels.length > 1);
    update();
  },
};

const connection = new Connection({
  state(state) {
    [by("connection").textContent, by("connection").dataset.state] = [state, state];
    panels.forEach((panel) => (state === "connected" ? panel.connected() : panel.lost()));
  },
  text(message) {
    if (message.type === "hello") arrange(message.sources);
    else if (message.type === "status") panels[message.source]?.setStatus(message);
    else if (message.type === "note" && message.lasts) panels[message.source]?.setNote(message.text);
    else if (message.type === "note") note(message);
  },
  async binary(message) {
    const panel = panels[message.source];
    if (message.kind === "file") save(message.told.name, new Blob([message.payload]));
    else if (message.kind === "print") {
      const { settings } = panel;
      save(message.told.name, await png(message, panel.look(message, [settings.low, settings.high])));
    } else panel.hear(message);
  },
});

function note({ source, text }) {
  const name = panels.length > 1 && panels[source]?.status?.name;
  by("note").textContent = by("note").title = name ? `${name}: ${text}` : text;
  clearTimeout(note.timer);
  note.timer = setTimeout(() => (by("note").textContent = ""), 6000);
}

/** As many panels as there are sources, in as many columns as look best. */
function arrange(count) {
  while (panels.length < count) {
    const panel = new Panel(panels.length, page);
    panels.push(panel);
    by("panels").append(panel.element);
  }
  const columns = Math.ceil(Math.sqrt(count));
  by("panels").style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  if (!active) page.activate(panels[0]);
  panels.forEach((panel) => panel.wish());
}

// ---- controls

const set = (changes) => {
  Object.assign(active.settings, changes);
  active.ask();
  active.draw();
  update();
};
const setLimits = (low, high) => set({ low, high, auto: false });
const histogram = new Histogram(by("histogram"), setLimits);

const actions = {
  auto() {
    set({ auto: !active.settings.auto });
    if (active.settings.auto && active.told.histogram) active.setAuto();
    set({});
  },
  full() {
    const { low, high } = active.told.histogram ?? { low: 0, high: 1 };
    setLimits(...(RANGES[active.told.dtype] ?? [low, high]));
  },
  log: () => set({ log: !active.settings.log }),
  map: () => set({ map: NAMES[(NAMES.indexOf(active.settings.map) + 1) % NAMES.length] }),
  over: () => set({ over: !active.settings.over }),
  spectrum() {
    set({ spectrum: !active.settings.spectrum });
    active.side.hidden = !active.settings.spectrum;
    active.moved();
  },
  colours: () => set({ colours: !active.settings.colours, lead: [] }),
  fit: () => looked(() => active.view.fit()),
  one: () => looked(() => active.view.one()),
  in: () => looked(() => active.view.zoomAt(1.25)),
  out: () => looked(() => active.view.zoomAt(0.8)),
  turn: () => looked(() => active.view.turn()),
  mirror: () => looked(() => (active.view.mirrored = !active.view.mirrored)),
  upend: () => looked(() => (active.view.upended = !active.view.upended)),
  pause: () => page.say(active.isPaused ? "play" : "pause", active.source),
  back: () => page.say("step", active.source, { by: -1 }),
  forth: () => page.say("step", active.source, { by: 1 }),
  png: () => page.say("save", active.source, { format: "picture" }),
  tiff: () => page.say("save", active.source, { format: "tiff" }),
  npy: () => page.say("save", active.source, { format: "npy" }),
  pan: () => take("pan"),
  line: () => take("line"),
  rectangle: () => take("rectangle"),
  clear: () => active.clear(),
  next: () => page.activate(panels[(panels.indexOf(active) + 1) % panels.length]),
  theme: () => theme(document.documentElement.dataset.theme === "light" ? "dark" : "light"),
  sidebar: () => by("sidebar").setAttribute("aria-pressed", String(!document.body.classList.toggle("bare"))),
  help: () => (by("keys").open ? by("keys").close() : by("keys").showModal()),
};

function looked(change) {
  change();
  active.moved();
}

function take(tool) {
  active.tool = tool;
  update();
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("theme", name);
  } catch {
    // A browser that keeps nothing forgets the choice.
  }
  panels.forEach((panel) => panel.draw());
  if (active) update();
}

for (const [name, act] of Object.entries(actions)) {
  if (name !== "map") by(name)?.addEventListener("click", () => active && act());
}
by("map").addEventListener("change", ({ target }) => set({ map: target.value }));
by("part").addEventListener("change", ({ target }) => set({ part: target.value, auto: true, map: target.value === "phase" ? "phase" : "grey" }));
by("field").addEventListener("change", ({ target }) => set({ field: target.value, lead: [] }));
by("percent").addEventListener("change", ({ target }) => {
  set({ percent: Number(target.value), auto: true });
  if (active.told.histogram) active.setAuto();
  set({});
});
by("limit").addEventListener("change", ({ target }) => set({ limit: target.value === "" ? null : Number(target.value), over: true }));
for (const end of ["low", "high"]) {
  by(end).addEventListener("change", ({ target }) => {
    // Of the other one the field shows some digits only.
    const { low, high } = { ...active.settings, [end]: Number(target.value) };
    if (low < high && target.value !== "") setLimits(low, high);
    else update();
  });
}
for (const field of by("controls").querySelectorAll("input[type=number]")) {
  field.addEventListener("keydown", ({ key }) => key === "Enter" && field.blur());
}
// Whoever has chosen with the mouse goes on with keys of the picture.
for (const choice of by("controls").querySelectorAll("select")) {
  choice.addEventListener("change", () => keys.isByKeys() || choice.blur());
}
keys.listen((name) => active && actions[name]());
keys.fill(by("keys").querySelector("dl"));

// ---- what the controls show

function update() {
  if (update.due) return;
  update.due = requestAnimationFrame(() => {
    update.due = null;
    show();
  });
}

function press(id, is) {
  by(id).setAttribute("aria-pressed", String(Boolean(is)));
}

/** Writes to a field unless somebody is writing there. */
function write(id, value) {
  if (document.activeElement !== by(id)) by(id).value = value;
}

function show() {
  const { settings, view, told, status } = active;
  const hasRing = status?.kind === "ring";
  histogram.draw(told.histogram, [settings.low, settings.high], settings.log);
  const { low, high, whole } = told.histogram ?? {};
  by("samples").textContent = told.histogram ? [low, high - (whole ? 1 : 0)].map((edge) => entry(edge, high - low)).join(" … ") : "";
  for (const end of ["low", "high"]) write(end, entry(settings[end], settings.high - settings.low));
  write("map", settings.map);
  write("part", settings.part);
  write("percent", String(settings.percent));
  write("limit", entry(settings.limit ?? active.most() ?? Number.NaN));
  const ratio = view.zoom >= 0.1 ? (view.zoom * 100).toFixed(0) : (view.zoom * 100).toFixed(1);
  by("zoom").textContent = active.message ? `${ratio} %` : "";
  for (const id of ["auto", "log", "over", "spectrum", "colours"]) press(id, settings[id]);
  press("fit", view.mode === "fit");
  press("one", view.mode !== "fit" && view.zoom === 1);
  press("mirror", view.mirrored);
  press("upend", view.upended);
  press("pause", active.isPaused);
  for (const tool of ["pan", "line", "rectangle"]) press(tool, active.tool === tool);
  by("frame").textContent = active.message ? `${hasRing ? "number" : "change"} ${active.message.seq}${behind(told)}` : "";
  document.title = [...panels.map(({ name }) => name.textContent).filter(Boolean), "ndshare view"].join(" – ");
  for (const id of ["back", "forth"]) by(id).disabled = !hasRing;
  by("complex").hidden = !told.complex;
  by("colours").hidden = !told.shape || ![3, 4].includes(told.shape.at(-1)) || told.shape.length < 3;
  showFields();
  showStack();
  showMeasures();
  showCounts(hasRing ? status.counts : null);
}

/** How many frames behind the newest of then one is that stands still. */
function behind({ paused, kept }) {
  const count = paused && kept ? kept[1] - 1 - active.message.seq : 0;
  return count > 0 ? `, ${count} back` : "";
}

/** The arrays of a frame of several. */
function showFields() {
  const { field, fields = [] } = active.told;
  const box = by("field");
  by("fields").hidden = fields.length === 0;
  if (String([...box.options].map(({ value }) => value)) !== String(fields)) {
    box.replaceChildren(...fields.map((name) => new Option(name)));
  }
  write("field", field ?? "");
}

/** A slider for each axis of a stack. */
function showStack() {
  const { stack = [], lead = [] } = active.told;
  const box = by("stack");
  if (box.children.length !== stack.length) {
    box.replaceChildren(...stack.map((_, axis) => slider(axis)));
  }
  stack.forEach((length, axis) => {
    const [input, output] = box.children[axis].querySelectorAll("input, output");
    input.max = String(length - 1);
    if (document.activeElement !== input) input.value = String(lead[axis]);
    output.textContent = `${lead[axis] + 1} of ${length}`;
  });
}

function slider(axis) {
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { type: "range", min: "0", id: `axis${axis}` });
  input.addEventListener("input", () => {
    const lead = [...active.settings.lead];
    lead[axis] = Number(input.value);
    set({ lead });
  });
  label.append(`Axis ${axis}`, input, document.createElement("output"));
  return label;
}

function showMeasures() {
  const { profile, rectangle } = active.told;
  // Of a frame of one row it is drawn in the place of the picture.
  by("profile").hidden = !profile || !active.settings.line;
  by("course").hidden = !rectangle;
  const place = (id) => ["output", "canvas"].map((name) => by(id).querySelector(name));
  if (!by("profile").hidden) {
    const [output, canvas] = place("profile");
    output.textContent = `${plain(profile.length, 4)} px`;
    plot(canvas, { values: profile.values, from: "0", to: plain(profile.length, 4) });
  }
  if (rectangle) {
    const [output, canvas] = place("course");
    output.textContent = `mean ${plain(rectangle.mean)}, deviation ${plain(rectangle.deviation, 4)}`;
    showCourse(canvas, active.course);
  }
}

/** Mean and deviation by the time at which they came. */
function showCourse(canvas, course) {
  const [began, ended] = [course[0]?.at, course.at(-1)?.at];
  const width = canvas.clientWidth * (devicePixelRatio || 1);
  plot(canvas, {
    values: course.map(({ mean }) => mean),
    deviations: course.map(({ deviation }) => deviation),
    at: ended > began ? course.map(({ at }) => ((at - began) / (ended - began)) * width) : null,
    from: ended > began ? `−${seconds(ended - began)}` : "",
    to: "now",
  });
}

function showCounts(counts) {
  by("counts").closest("section").hidden = !counts;
  if (!counts) return;
  const rows = [
    ["Frames/s", rate(counts.frames_per_s)], ["GB/s", gigabytes(counts.bytes_per_s)], ["Written", counts.written],
    ["Dropped", counts.dropped], ["Missed", counts.missed], ["Lost", counts.lost],
    ["Writers", counts.writers.map(({ process }) => process?.name ?? "to come").join(", ") || "none"],
  ];
  by("counts").replaceChildren(...rows.flatMap(([term, text]) => [["dt", term], ["dd", String(text)]].map(([name, textContent]) => (
    Object.assign(document.createElement(name), { textContent })
  ))));
  const body = by("readers").tBodies[0];
  body.replaceChildren(...counts.readers.map((reader) => {
    const row = document.createElement("tr");
    const who = reader.is_me ? "this view" : reader.process ? `${reader.process.name} ${reader.process.pid}` : "to come";
        // Who takes the newest only is never behind.
    const lag = reader.mode === "latest" ? "–" : reader.lag;
    for (const text of [who, reader.mode, lag, reader.missed]) row.insertCell().textContent = String(text);
    row.cells[2].classList.toggle("late", reader.lag > 2 && reader.mode !== "latest");
    row.title = who;
    return row;
  }));
}

let chosen = null;
try {
  chosen = localStorage.getItem("theme");
} catch {
  // As above.
}
theme(chosen ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark"));
// Ages go on while nothing comes.
setInterval(() => panels.forEach((panel) => panel.tell()), 250);
// For tests and the curious.
globalThis.ndshare = { panels, actions, histogram, connection, table: (name) => Array.from(table(name)) };
