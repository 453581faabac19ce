// What the mouse, a pen or fingers do on a picture.

/** `panel` has `view`, `tool`, `point(event)`, `moved()`, `hover(point)`, `mark(from, to)` and `activate()`. */
export function listen(stage, panel) {
  const pointers = new Map();
  let from = null;

  stage.addEventListener("pointerdown", (event) => {
    panel.activate();
    if (event.button > 1) return;
    stage.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, panel.point(event));
    from = panel.tool !== "pan" && event.button === 0 && pointers.size === 1 ? panel.view.toFrame(panel.point(event)) : null;
  });

  stage.addEventListener("pointermove", (event) => {
    const point = panel.point(event);
    panel.hover(point);
    const before = pointers.get(event.pointerId);
    if (!before) return;
    if (from) panel.mark(from, panel.view.toFrame(point));
    else if (pointers.size === 1) move(before, point);
    else pinch(event.pointerId, before, point);
    pointers.set(event.pointerId, point);
  });

  const move = (before, point) => {
    panel.view.pan(point[0] - before[0], point[1] - before[1]);
    panel.moved();
  };

  const pinch = (id, before, point) => {
    const other = [...pointers].find(([key]) => key !== id)[1];
    const span = ([x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
    panel.view.zoomAt(span(point) / span(before), [(point[0] + other[0]) / 2, (point[1] + other[1]) / 2]);
    panel.moved();
  };

  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      from = null;
    });
  }
  stage.addEventListener("pointerleave", () => panel.hover(null));
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 30 : 1);
    panel.view.zoomAt(Math.exp(-pixels * 0.002), panel.point(event));
    panel.moved();
  }, { passive: false });
  stage.addEventListener("dblclick", () => {
    panel.view.fit();
    panel.moved();
  });
}
