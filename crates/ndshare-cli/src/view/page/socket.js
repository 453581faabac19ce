// The connection to the server, made anew whenever it ends.

import { parse } from "./message.js";

const SOON = 300;
const LATER = 5000;

/** `on` has `state(text)`, `text(message)` and `binary(message)`. */
export class Connection {
  constructor(on) {
    [this.on, this.wait, this.socket] = [on, SOON, null];
    // A laptop that was closed need not wait.
    for (const event of ["online", "pageshow"]) addEventListener(event, () => this.soon());
    document.addEventListener("visibilitychange", () => document.hidden || this.soon());
    this.open();
  }

  open() {
    const address = new URL("socket", location.href);
    address.protocol = "ws:";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.wait = SOON;
      this.on.state("connected");
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.on.text(JSON.parse(data));
      else this.on.binary(parse(data));
    };
    socket.onclose = () => {
      this.on.state("lost");
      this.timer = setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(LATER, this.wait * 2);
    };
    this.socket = socket;
  }

  soon() {
    if (this.socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.timer);
    this.wait = SOON;
    this.open();
  }

  say(type, source, more = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, source, ...more }));
  }
}
