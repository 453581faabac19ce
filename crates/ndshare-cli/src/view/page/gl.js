// Pictures drawn by WebGL2: codes become numbers, numbers colours, in the graphics processor.

import { NO_NUMBER, OVER } from "./colour.js";

const VERTEX = `#version 300 es
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0;
  gl_Position = vec4(corner, 0, 1);
}`;

const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D codes;
uniform sampler2D colours;
uniform vec3 across, down;
uniform vec4 region;
uniform vec2 size, limits;
uniform float height;
uniform int channels, flags;
uniform vec3 over, noNumber, ground;
out vec4 colour;
void main() {
  vec3 at = vec3(gl_FragCoord.x, height - gl_FragCoord.y, 1);
  vec2 place = (vec2(dot(across, at), dot(down, at)) - region.xy) / (region.zw - region.xy);
  if (any(lessThan(place, vec2(0))) || any(greaterThanEqual(place, vec2(1)))) { colour = vec4(ground, 1); return; }
  uvec4 code = texelFetch(codes, ivec2(place * size), 0);
  if ((flags & 2) != 0 && code.r == 65535u) { colour = vec4(over, 1); return; }
  if ((flags & 1) != 0 && code.r == 65534u) { colour = vec4(noNumber, 1); return; }
  vec4 part = clamp((vec4(code) - limits.x) / (limits.y - limits.x), 0.0, 1.0);
  if (channels == 1) colour = vec4(texelFetch(colours, ivec2(int(part.r * 255.0 + 0.5), 0), 0).rgb, 1);
  else colour = vec4(part.rgb, 1);
}`;

/** After so long without graphics there will be none. */
const PATIENCE = 1000;

const UNIFORMS = ["codes", "colours", "across", "down", "region", "size", "limits", "height", "channels", "flags", "over",
  "noNumber", "ground"];

/** Draws messages on a canvas; throws where there is no WebGL2. `onLost` hears that there is none any more: a browser takes it
    from the oldest canvases where there are many. */
export class GlPainter {
  constructor(canvas, onLost) {
    const gl = canvas.getContext("webgl2", { alpha: false, antialias: false });
    if (!gl) throw new Error("no WebGL2");
    [this.canvas, this.gl, this.last] = [canvas, gl, null];
    this.prepare();
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      setTimeout(() => gl.isContextLost() && onLost(), PATIENCE);
    });
    canvas.addEventListener("webglcontextrestored", () => {
      this.last = null;
      this.prepare();
    });
  }

  prepare() {
    const { gl } = this;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program) ?? "no shader");
    gl.useProgram(program);
    this.at = Object.fromEntries(UNIFORMS.map((name) => [name, gl.getUniformLocation(program, name)]));
    this.most = gl.getParameter(gl.MAX_TEXTURE_SIZE);
    for (const unit of [0, 1]) {
      gl.activeTexture(gl.TEXTURE0 + unit);
      gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
      for (const name of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl.NEAREST);
      for (const name of ["WRAP_S", "WRAP_T"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${name}`], gl.CLAMP_TO_EDGE);
    }
    gl.uniform1i(this.at.codes, 0);
    gl.uniform1i(this.at.colours, 1);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  }

  upload(message) {
    const { gl } = this;
    const letters = { 1: "R", 3: "RGB", 4: "RGBA" }[message.channels];
    const bits = message.bytes * 8;
    const format = letters === "R" ? gl.RED_INTEGER : gl[`${letters}_INTEGER`];
    const type = bits === 8 ? gl.UNSIGNED_BYTE : gl.UNSIGNED_SHORT;
    gl.activeTexture(gl.TEXTURE0);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl[`${letters}${bits}UI`], message.width, message.height, 0, format, type, message.codes);
    this.last = message;
  }

  /** `look`: view, limits in codes, table of colours, colour of the ground. */
  draw(message, look) {
    const { gl, at, canvas } = this;
    if (gl.isContextLost()) return;
    if (message !== this.last) this.upload(message);
    gl.viewport(0, 0, canvas.width, canvas.height);
    const [a, b, c, d, e, f] = look.view.matrix();
    gl.uniform3f(at.across, a, b, c);
    gl.uniform3f(at.down, d, e, f);
    gl.uniform4f(at.region, ...message.region);
    gl.uniform2f(at.size, message.width, message.height);
    gl.uniform2f(at.limits, ...look.limits);
    gl.uniform1f(at.height, canvas.height);
    gl.uniform1i(at.channels, message.channels);
    gl.uniform1i(at.flags, (message.hasNoNumbers ? 1 : 0) | (message.hasOver ? 2 : 0));
    for (const [name, colour] of [["over", OVER], ["noNumber", NO_NUMBER], ["ground", look.ground]]) {
      gl.uniform3f(at[name], ...colour.map((part) => part / 255));
    }
    gl.activeTexture(gl.TEXTURE1);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, look.table);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }
}
