// Mouse, touch and keys; and the beginning.

// -- mouse, touch and keys ----------------------------------------------------------------------------------------

function hit(e) {
  const box = canvas.getBoundingClientRect();
  const x = (e.clientX - box.left - camera.x) / camera.k, y = (e.clientY - box.top - camera.y) / camera.k;
  for (let k = scene.items.length - 1; k >= 0; k--) {
    const i = scene.items[k];
    if (x >= i.x && x <= i.x + i.w && y >= i.y && y <= i.y + i.box_h) return i;
  }
  for (let k = scene.frames.length - 1; k >= 0; k--) {
    const f = scene.frames[k];
    if (x >= f.left && x <= f.right && y >= f.top && y <= f.top + HEADER + 4) return f;
  }
  return null;
}

const pointers = new Map();
let drag = null;
canvas.addEventListener("pointerdown", (e) => {
  touched = true;
  canvas.setPointerCapture(e.pointerId);
  pointers.set(e.pointerId, [e.clientX, e.clientY]);
  drag = { x: e.clientX, y: e.clientY, far: pointers.size > 1 };
});
canvas.addEventListener("pointermove", (e) => {
  const before = pointers.get(e.pointerId);
  if (!before) {
    const i = hit(e);
    if (i !== hover) { hover = i; canvas.style.cursor = i ? "pointer" : "grab"; canvas.title = i ? tip(i) : ""; ask(); }
    return;
  }
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== e.pointerId).map(([, q]) => q);
    const d = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
    const box = canvas.getBoundingClientRect();
    zoom(d([e.clientX, e.clientY]) / d(before), (e.clientX + other[0]) / 2 - box.left, (e.clientY + other[1]) / 2 - box.top);
  } else if (drag) {
    if (Math.hypot(e.clientX - drag.x, e.clientY - drag.y) > 4) drag.far = true;
    if (drag.far) { camera.x += e.clientX - before[0]; camera.y += e.clientY - before[1]; canvas.style.cursor = "grabbing"; ask(); }
  }
  pointers.set(e.pointerId, [e.clientX, e.clientY]);
});
const lift = (e) => {
  const was = pointers.delete(e.pointerId);
  canvas.style.cursor = "grab";
  if (was && drag && !drag.far && e.type === "pointerup") click(hit(e));
  if (!pointers.size) drag = null;
};
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("dblclick", (e) => { const i = hit(e); if (i && i.group >= 0 && i.kind === "group") toggle(i.group); });
canvas.addEventListener("wheel", (e) => {
  e.preventDefault();
  touched = true;
  const box = canvas.getBoundingClientRect();
  const unit = e.deltaMode === 1 ? 16 : e.deltaMode === 2 ? height : 1;
  if (e.shiftKey) { camera.x -= e.deltaY * unit; ask(); return; }
  zoom(Math.exp(-Math.max(-240, Math.min(240, e.deltaY * unit)) * 0.0022), e.clientX - box.left, e.clientY - box.top);
}, { passive: false });

function tip(i) {
  if (i.left !== undefined) return `close ${plane().groups[i.group].label}`;
  return i.record ? [i.record.op || i.record.title, ...i.record.types, i.record.provenance].filter(Boolean).join("\n") : `${i.label}: ${i.detail}`;
}

function click(i) {
  if (i && i.left !== undefined) toggle(i.group);
  else select(i);
}

function step(key) {
  if (!selected) return scene.items[0];
  const i = selected, mid = (j) => j.x + j.w / 2;
  const nearest = (list) => list.reduce((best, j) => (!best || Math.abs(mid(j) - mid(i)) < Math.abs(mid(best) - mid(i)) ? j : best), null);
  if (key === "ArrowUp") return i.before.length ? i.before[0].a : null;
  if (key === "ArrowDown") return nearest(i.after.map((e) => e.b));
  const way = key === "ArrowRight" ? 1 : -1;
  const beside = scene.items.filter((j) => j !== i && way * (mid(j) - mid(i)) > 0 && Math.abs(j.y + j.h / 2 - i.y - i.h / 2) < 60);
  return nearest(beside);
}

canvas.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key.startsWith("Arrow")) {
    e.preventDefault();
    const i = step(e.key);
    if (i) { select(i); reveal(i); } else say("no edge that way");
  } else if ((e.key === "Enter" || e.key === " ") && selected) {
    e.preventDefault();
    if (selected.kind === "group" && selected.group >= 0) toggle(selected.group);
  } else if (e.key === "Escape") select(null);
});

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target === query) return;
  const act = {
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(1 / 1.25), 0: () => show(1.5), f: () => show(1.5),
    ",": () => go(at - 1), ".": () => go(at + 1), c: () => setAll(false), e: () => setAll(true),
    "/": () => { query.focus(); query.select(); },
  }[e.key];
  if (act) { e.preventDefault(); touched = true; act(); }
});
document.addEventListener("pointerdown", (e) => { if (!e.target.closest(".search")) found.hidden = true; });

// -- begin --------------------------------------------------------------------------------------------------------

readColors();
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); ask(); });
resize();
scene = build();
first();
strip();
panel();
new ResizeObserver(() => { resize(); }).observe(canvas.parentElement);

// For tests: what is drawn and where, in pixels of the page.
window.viewer = {
  boxes: () => {
    const box = canvas.getBoundingClientRect(), { k, x, y } = camera;
    return scene.items.map((i) => ({
      key: i.key, kind: i.kind, label: i.label, detail: i.detail, changed: i.changed && at > 0, repeat: i.repeat,
      cone: !!cone && cone.has(i), found: !!hits && hits.has(i),
      x: i.x * k + x + box.left, y: i.y * k + y + box.top, width: i.w * k, height: i.box_h * k,
    }));
  },
  frames: () => scene.frames.map((f) => {
    const box = canvas.getBoundingClientRect(), { k, x, y } = camera;
    return { key: f.key, label: plane().groups[f.group].label, x: f.left * k + x + box.left, y: f.top * k + y + box.top,
             width: (f.right - f.left) * k, height: (f.bottom - f.top) * k };
  }),
  state: () => ({ stage: stage().name, selected: selected && selected.key, zoom: camera.k, moving: !!moving || wanted }),
  time: (n) => { let t = 0; for (let j = 0; j < n; j++) { paint(performance.now()); t += lastMs; } return t / n; },
};
