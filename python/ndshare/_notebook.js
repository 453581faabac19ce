// The page of the viewer in a notebook: its modules, which stand above as `page`, in a shadow root instead of a document
// of their own, and behind the channel of a widget instead of a WebSocket.

/** As socket.js has it. The kernel joins this view, by its id, to the viewer. */
const connections = (model, id, modules) => class Connection {
  constructor(on) {
    [this.on, this.isOpen, modules.connection] = [on, false, this];
    this.heard = (message, buffers) => message.view === id && this.hear(message, buffers);
    model.on("msg:custom", this.heard);
    this.open();
  }

  open() {
    this.on.state("connecting");
    model.send({ view: id, open: true });
  }

  hear({ text, lost }, buffers) {
    if (!this.isOpen && !lost) this.on.state("connected");
    this.isOpen = !lost;
    if (lost) this.on.state("lost");
    else if (text !== undefined) this.on.text(JSON.parse(text));
    else this.on.binary(this.parse(buffers[0]));
  }

  parse({ buffer, byteOffset, byteLength }) {
    return modules["message.js"].parse(buffer.slice(byteOffset, byteOffset + byteLength));
  }

  say(type, source, more = {}) {
    if (this.isOpen) model.send({ view: id, text: JSON.stringify({ type, source, ...more }) });
  }

  close() {
    model.send({ view: id, close: true });
    model.off("msg:custom", this.heard);
  }
};

/** What the modules take for the document, which is a part of the notebook's. */
const inside = (host, shadow, body, signal) => ({
  addEventListener: (kind, act) => document.addEventListener(kind, act, { signal }),
  get hidden() { return document.hidden; },
  documentElement: host,
  body,
  createElement: (name) => document.createElement(name),
  getElementById: (id) => shadow.getElementById(id),
  get activeElement() { return shadow.activeElement; },
});

function render({ model, el }) {
  const host = document.createElement("div");
  const shadow = host.attachShadow({ mode: "open" });
  const body = Object.assign(document.createElement("div"), { className: "body", innerHTML: model.get("_html") });
  shadow.append(Object.assign(document.createElement("style"), { textContent: model.get("_style") }), body);
  el.append(host);
  body.tabIndex = -1;
  // Keys are for the picture once it was pressed, and not for the notebook.
  body.addEventListener("pointerdown", ({ target }) => target.closest("button, input, select") ?? body.focus({ preventScroll: true }));
  body.addEventListener("keydown", (event) => event.stopPropagation());
  const [timers, kept, modules] = [[], {}, {}];
  const end = new AbortController();
  const Connection = connections(model, crypto.randomUUID(), modules);
  modules["socket.js"] = { Connection };
  page({
    modules,
    document: inside(host, shadow, body, end.signal),
    addEventListener: (kind, act) => body.addEventListener(kind, act),
    localStorage: { getItem: () => (isDark() ? "dark" : "light"), setItem() {} },
    setInterval: (act, ms) => timers.push(setInterval(act, ms)),
    globalThis: kept,
  });
  host.ndshare = kept.ndshare;
  return () => {
    end.abort();
    timers.forEach(clearInterval);
    modules.connection.close();
  };
}

/** Whether the notebook is dark: JupyterLab says so, others leave it to the browser. */
function isDark() {
  const said = document.body.dataset.jpThemeLight;
  return said === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : said === "false";
}

export default { render };
