// Drawing what the layout made on a canvas, as far as it is in view.

// -- colors -------------------------------------------------------------------------------------------------------

let color = {};
function readColors() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue("--" + name).trim();
  color = { fill: [], line: [] };
  for (const name of ["ground", "ink", "soft", "edge", "accent", "tint", "card", "leaf", "constant", "constant-line",
                      "leaf-line", "output", "output-ink", "find"]) color[name] = get(name);
  for (let k = 0; k < ORDERS; k++) { color.fill.push(get("fill" + k)); color.line.push(get("line" + k)); }
  color.font = get("font"); color.mono = get("mono");
}

// -- drawing ------------------------------------------------------------------------------------------------------

const canvas = make("canvas", {
  tabIndex: 0, role: "application", "aria-roledescription": "graph", "aria-label": "Graph", "aria-describedby": "keys",
});
const ctx = canvas.getContext("2d");
let width = 0, height = 0, dots = 1, frames = 0, lastMs = 0;

function resize() {
  const box = canvas.parentElement.getBoundingClientRect();
  width = Math.max(1, Math.floor(box.width)); height = Math.max(1, Math.floor(box.height));
  dots = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * dots); canvas.height = Math.round(height * dots);
  if (scene && !touched) first();
  ask();
}

function ask() { if (!wanted) { wanted = true; requestAnimationFrame(paint); } }

function where(i) { // a box on its way from where it was in the stage before
  if (!moving) return i;
  const from = moving.from.get(i.key);
  return from ? { x: from.x + (i.x - from.x) * moving.t, y: from.y + (i.y - from.y) * moving.t, w: i.w, h: i.h } : i;
}

function paint(now) {
  wanted = false;
  const begin = performance.now();
  if (moving) {
    const t = Math.min(1, (now - moving.begin) / 240);
    moving.t = 1 - (1 - t) ** 3;
    if (t >= 1) moving = null; else ask();
  }
  const { k, x, y } = camera;
  ctx.setTransform(dots, 0, 0, dots, 0, 0);
  ctx.fillStyle = color.ground;
  ctx.fillRect(0, 0, width, height);
  ctx.setTransform(dots * k, 0, 0, dots * k, dots * x, dots * y);
  const view = [-x / k - 20, -y / k - 20, (width - x) / k + 20, (height - y) / k + 20];
  const fine = k > 0.32;
  if (!moving) for (const f of scene.frames) paintFrame(f, view, fine);
  paintEdges(view, fine);
  const shown = [];
  for (const i of scene.items) {
    const r = where(i);
    if (r.x < view[2] && r.x + i.w > view[0] && r.y < view[3] && r.y + i.h > view[1]) shown.push([i, r]);
  }
  if (fine) for (const [i, r] of shown) paintBox(i, r); else paintCoarse(shown);
  frames++;
  lastMs = performance.now() - begin;
}

function faded(i) { return (cone && !cone.has(i)) || (hits && !hits.has(i) && i !== selected); }

function paintFrame(f, view, fine) {
  if (f.left > view[2] || f.right < view[0] || f.top > view[3] || f.bottom < view[1]) return;
  const g = plane().groups[f.group], o = g.order % ORDERS;
  ctx.globalAlpha = cone || hits ? 0.35 : 1;
  ctx.beginPath();
  ctx.roundRect(f.left, f.top, f.right - f.left, f.bottom - f.top, 10);
  ctx.fillStyle = color.fill[o];
  ctx.globalAlpha *= 0.38;
  ctx.fill();
  ctx.globalAlpha = hover === f ? 0.9 : cone || hits ? 0.25 : 0.5;
  ctx.strokeStyle = color.line[o];
  ctx.lineWidth = 1;
  if (g.kind < 2) ctx.setLineDash([4, 3]);
  ctx.stroke();
  ctx.setLineDash([]);
  if (fine) {
    ctx.globalAlpha = cone || hits ? 0.5 : 1;
    ctx.font = "600 11px " + color.font;
    ctx.fillStyle = color.soft;
    ctx.textAlign = "left";
    ctx.fillText(fit("▾ " + g.label, f.right - f.left - 16), f.left + 9, f.top + HEADER - 3);
  }
  ctx.globalAlpha = 1;
}

// As much of a text as a width holds.
function fit(t, room) {
  if (ctx.measureText(t).width <= room) return t;
  let n = t.length;
  while (n > 1 && ctx.measureText(t.slice(0, n) + "…").width > room) n = Math.min(n - 1, Math.floor(n * 0.94));
  return t.slice(0, n) + "…";
}

function trace(e, fine) {
  const a = where(e.a), b = where(e.b), below = a.y + e.a.box_h;
  let px, py, x, y;
  if (e.line && !moving) {
    const l = e.line, n = l.length;
    ctx.moveTo(l[0], Math.min(below, l[1]));
    if (n === 4 && Math.abs(l[0] - l[2]) > 1) {
      const bend = (l[3] - l[1]) / 2;
      ctx.lineTo(l[0], l[1]);
      ctx.bezierCurveTo(l[0], l[1] + bend, l[2], l[3] - bend, l[2], l[3] - 4);
      return [l[2], l[3] - 1, l[2], l[3]];
    }
    for (let k = 0; k < n - 2; k += 2) {
      if (k && fine) ctx.arcTo(l[k], l[k + 1], l[k + 2], l[k + 3], Math.min(5, Math.hypot(l[k + 2] - l[k], l[k + 3] - l[k + 1]) / 2));
      else ctx.lineTo(l[k], l[k + 1]);
    }
    [px, py, x, y] = l.slice(n - 4);
    ctx.lineTo(x, y);
    return [px, py, x, y];
  }
  px = a.x + a.w / 2; py = below; x = b.x + b.w / 2; y = b.y;
  if (e.a.w > b.w && x > a.x + 12 && x < a.x + a.w - 12) px = px + (x - px) * 0.4;
  const bend = Math.max(14, Math.abs(y - py) * 0.45);
  ctx.moveTo(px, py);
  ctx.bezierCurveTo(px, py + bend, x, y - bend, x, y - 3);
  return [x, y - 1, x, y];
}

function paintEdges(view, fine) {
  const dim = [], plain = [], strong = [];
  for (const e of scene.edges) {
    const a = where(e.a), b = where(e.b);
    if (Math.min(a.x, b.x) > view[2] || Math.max(a.x + a.w, b.x + b.w) < view[0]) continue;
    if (Math.min(a.y, b.y) > view[3] || Math.max(a.y + a.h, b.y + b.h) < view[1]) continue;
    if (cone) (cone.has(e.a) && cone.has(e.b) && cone.edges.has(e) ? strong : dim).push(e);
    else (hits ? dim : plain).push(e);
  }
  ctx.lineJoin = "round";
  for (const [list, style, alpha, wide] of [[dim, color.edge, 0.28, 1], [plain, color.edge, 1, 1.15], [strong, color.accent, 0.9, 1.5]]) {
    if (!list.length) continue;
    ctx.globalAlpha = alpha;
    ctx.strokeStyle = ctx.fillStyle = style;
    ctx.lineWidth = fine ? wide : wide / Math.sqrt(camera.k);
    const heads = [];
    ctx.beginPath();
    for (const e of list) heads.push(trace(e, fine));
    ctx.stroke();
    if (fine) {
      ctx.beginPath();
      for (const [px, py, x, y] of heads) {
        const d = Math.hypot(x - px, y - py) || 1, ux = (x - px) / d, uy = (y - py) / d;
        ctx.moveTo(x, y);
        ctx.lineTo(x - 7 * ux + 3.5 * uy, y - 7 * uy - 3.5 * ux);
        ctx.lineTo(x - 7 * ux - 3.5 * uy, y - 7 * uy + 3.5 * ux);
        ctx.closePath();
      }
      ctx.fill();
    }
  }
  ctx.globalAlpha = 1;
}

function look(i) {
  if (i.kind === "input" || i.kind === "shared") return [color.leaf, color["leaf-line"], color.ink, color.soft];
  if (i.kind === "constant") return [color.constant, color["constant-line"], color.ink, color.soft];
  if (i.kind === "output") return [color.output, color.output, color["output-ink"], color["output-ink"]];
  return [color.fill[i.order % ORDERS], color.line[i.order % ORDERS], color.ink, color.soft];
}

function paintCoarse(shown) {
  const parts = new Map();
  for (const [i, r] of shown) {
    const style = look(i)[1] + (faded(i) ? " " : "");
    if (!parts.has(style)) parts.set(style, []);
    parts.get(style).push(i, r);
  }
  for (const [style, list] of parts) {
    ctx.globalAlpha = style.endsWith(" ") ? 0.25 : 0.85;
    ctx.fillStyle = style.trim();
    ctx.beginPath();
    for (let k = 0; k < list.length; k += 2) ctx.rect(list[k + 1].x, list[k + 1].y, list[k].w, list[k].box_h);
    ctx.fill();
  }
  ctx.globalAlpha = 1;
  for (const [i, r] of shown) {
    if (i !== selected && !(i.changed && at) && !(hits && hits.has(i))) continue;
    ctx.strokeStyle = i === selected || i.changed ? color.accent : color.find;
    ctx.lineWidth = 2.5 / camera.k;
    ctx.strokeRect(r.x - 2, r.y - 2, i.w + 4, i.box_h + 4);
  }
}

function paintBox(i, r) {
  const [fill, line, ink, soft] = look(i), h = i.box_h, pill = LEAVES.has(i.kind);
  const radius = pill ? h / 2 : 7, middle = r.x + i.w / 2;
  ctx.globalAlpha = faded(i) ? 0.28 : 1;
  const round = (d, dx = 0) => {
    ctx.beginPath();
    ctx.roundRect(r.x - d + dx, r.y - d + dx, i.w + 2 * d, h + 2 * d, Math.max(0, radius + d));
  };
  if (i.changed && at) { round(6); ctx.fillStyle = color.tint; ctx.fill(); }
  if (hits && hits.has(i)) { round(4); ctx.fillStyle = color.find; ctx.fill(); }
  ctx.lineWidth = 1.3;
  ctx.strokeStyle = line;
  ctx.fillStyle = fill;
  if (i.repeat > 1 || i.kind === "group") { round(0, 3.5); ctx.fill(); ctx.stroke(); }
  round(0);
  ctx.fill();
  if (i.changed && at) { ctx.strokeStyle = color.accent; ctx.lineWidth = 1.8; }
  ctx.stroke();
  if (i.kind === "shared") { round(-3); ctx.strokeStyle = line; ctx.lineWidth = 1; ctx.stroke(); }
  if (i.wide) { ctx.fillStyle = line; ctx.beginPath(); ctx.roundRect(r.x, r.y, i.w, 4, 2); ctx.fill(); }
  if (i === hover && i !== selected) { round(2.5); ctx.strokeStyle = color.accent; ctx.lineWidth = 1.2; ctx.stroke(); }
  if (i === selected) { round(3.5); ctx.strokeStyle = color.accent; ctx.lineWidth = 2.6; ctx.stroke(); }
  const label = i.label + (i.repeat > 1 ? "  × " + i.repeat : "");
  ctx.textAlign = "center";
  ctx.fillStyle = ink;
  ctx.font = (i.kind === "constant" ? "400" : "600") + " 12.5px " + color.font;
  const y = r.y + h / 2 + (i.detail ? -2.2 : 4.4);
  ctx.fillText(fit(label, i.w - 10), middle, y);
  if (i.detail) {
    ctx.font = "10.5px " + (i.mono ? color.mono : color.font);
    ctx.fillStyle = soft;
    ctx.fillText(fit(i.detail, i.w - 10), middle, y + 14);
  }
  if (i.tail && camera.k > 0.55) {
    ctx.font = "9.5px " + color.mono;
    ctx.lineWidth = 4; ctx.strokeStyle = color.ground; ctx.fillStyle = color.soft;
    const below = r.y + h + 12 + (i.repeat > 1 || i.kind === "group" ? 4 : 0);
    const t = fit(i.tail, Math.max(i.w, 60) + 6);
    ctx.strokeText(t, middle, below);
    ctx.fillText(t, middle, below);
  }
  ctx.globalAlpha = 1;
}

// -- camera -------------------------------------------------------------------------------------------------------

function zoom(factor, x = width / 2, y = height / 2) {
  const k = Math.min(4, Math.max(0.01, camera.k * factor)), f = k / camera.k;
  camera = { k, x: x - (x - camera.x) * f, y: y - (y - camera.y) * f };
  percent.textContent = Math.round(k * 100) + "%";
  ask();
}

function show(k) { // all of it, in the middle; `k`: at most this large
  const [a, b, c, d] = scene.bounds, pad = 28;
  const all = Math.min((width - 2 * pad) / Math.max(1, c - a), (height - 2 * pad) / Math.max(1, d - b));
  camera.k = Math.max(0.01, Math.min(k, all));
  camera.x = (width - (a + c) * camera.k) / 2;
  camera.y = Math.max(pad - b * camera.k, (height - (b + d) * camera.k) / 2);
  zoom(1);
}

function first() { // legible, from the top
  show(1);
  if (camera.k >= 0.62) return;
  const [a, b, c] = scene.bounds;
  camera.k = Math.min(1, Math.max(0.62, (width - 56) / Math.max(1, c - a)));
  camera.x = (width - (a + c) * camera.k) / 2;
  camera.y = 28 - b * camera.k;
  zoom(1);
}

function reveal(i) {
  const { k } = camera, x = i.x * k + camera.x, y = i.y * k + camera.y, pad = 40;
  if (x < pad) camera.x += pad - x; else if (x + i.w * k > width - pad) camera.x -= x + i.w * k - width + pad;
  if (y < pad) camera.y += pad - y; else if (y + i.h * k > height - pad) camera.y -= y + i.h * k - height + pad;
  ask();
}
