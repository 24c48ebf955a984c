// What a page shows, and where: the data of all stages, what is open and chosen, the places of boxes and lines.
// The files of the viewer are one script, in the order: layout, draw, panel, and viewer.js.

const data = JSON.parse(document.getElementById("data").textContent);
const text = (k) => data.strings[k];
const PADDING = 14, HEADER = 18, GAP_X = 22, GAP_Y = 34;
const KINDS = ["input", "shared", "constant", "op", "call", "kernel", "group", "output"];
const GROUPS = ["named scope", "source line", "kernel", "library call"];
const LEAVES = new Set(["input", "shared", "constant", "output"]);
const ORDERS = 6;

// -- data: records, planes, stages --------------------------------------------------------------------------------

const FIELDS = 16;
const records = [];
for (let k = 0; k < data.records.length; k += FIELDS) {
  const r = data.records.slice(k, k + FIELDS);
  records.push({
    kind: KINDS[r[0]], label: text(r[1]), detail: text(r[2]), number: r[3], op: text(r[4]),
    types: lines(text(r[5])), lines: lines(text(r[6])), order: r[7], provenance: text(r[8]),
    flops: text(r[9]), bytes: text(r[10]), height: r[11], count: r[12], repeat: r[13],
    title: text(r[14]) || text(r[1]), more: text(r[15]) || text(r[2]),
  });
}

const planes = data.planes.map((p) => {
  const groups = p.groups.map((g, index) => ({
    index, id: text(g[0]), label: text(g[1]), parent: g[2], kind: g[3], order: g[4], lines: lines(text(g[5])),
    code: text(g[6]), w: g[7], h: g[8],
  }));
  const edges = [];
  for (let k = 0; k < p.edges.length; k += 5) {
    edges.push({ a: p.edges[k], b: p.edges[k + 1], out: p.edges[k + 2], into: p.edges[k + 3],
                 label: text(p.edges[k + 4]), line: p.lines[k / 5] });
  }
  const around = p.home.map((g) => { // the groups around each node, the innermost first
    const out = [];
    for (; g >= 0; g = groups[g].parent) out.push(g);
    return out;
  });
  const boxes = p.boxes.map((b) => ({
    label: text(b[0]), repeat: b[1], isGroup: b[2] === 1, x: b[3], y: b[4], w: b[5], h: b[6], of: b.slice(7),
  }));
  const links = new Map(p.links.map((l) => [l[0] + " " + l[1], l.slice(2)]));
  return { ids: p.id.map(text), rect: p.rect, groups, edges, around, boxes, links };
});

const stages = [];
{
  const states = planes.map(() => ({ nodes: new Map(), edges: new Set() }));
  for (const s of data.stages) {
    const state = states[s.plane], list = (x) => s[x] || [];
    for (const k of list("drop")) state.nodes.delete(k);
    for (let k = 0; k < list("put").length; k += 2) state.nodes.set(s.put[k], s.put[k + 1]);
    for (const k of list("unlink")) state.edges.delete(k);
    for (let k = 0; k < list("link").length; k += 2) {
      for (let e = s.link[k]; e < s.link[k] + s.link[k + 1]; e++) state.edges.add(e);
    }
    const fired = [];
    for (let k = 0; k < list("fired").length; k += 2) fired.push([text(s.fired[k]), s.fired[k + 1]]);
    const before = stages[stages.length - 1];
    stages.push({
      name: text(s.name), about: s.about === undefined ? "" : text(s.about), plane: s.plane, fired,
      nodes: new Map(state.nodes), edges: [...state.edges], changed: new Set(list("changed")),
      removed: s.removed || 0, rules: new Map(list("rules").map((r) => [r[0], r.slice(1).map(text)])),
      same: !!before && before.plane === s.plane && !fired.length && !list("changed").length && !s.removed,
    });
  }
}

function lines(joined) { return joined ? joined.split("\n") : []; }

// -- state --------------------------------------------------------------------------------------------------------

let at = 0; // the stage
let allOpen = !data.collapsed;
const flipped = new Set(); // ids of groups that are not as all others
let scene = null, selected = null, hover = null, cone = null, hits = null, tab = "";
let camera = { k: 1, x: 0, y: 0 }, moving = null, wanted = false;
let touched = false; // whether somebody has moved the picture: until then it follows the size of the window
const stage = () => stages[at];
const plane = () => planes[stage().plane];
const record = (node) => records[stage().nodes.get(node)];
const isOpen = (g) => allOpen !== flipped.has(plane().groups[g].id);

// -- layout: what the stage has, groups open or closed ------------------------------------------------------------

// A map of one axis that takes out what is empty beyond `gap`. Order along the axis stays, so nothing can overlap.
function squeezed(intervals, gap) {
  intervals.sort((p, q) => p[0] - q[0]);
  const cuts = []; // [end of what is before, begin of what follows, how much is taken out up to here]
  let end = intervals.length ? intervals[0][0] : 0, out = end;
  const first = out;
  for (const [a, b] of intervals) {
    if (a > end + gap) { out += a - end - gap; cuts.push([end, a, out]); }
    if (b > end) end = b;
  }
  return (v) => {
    let low = 0, high = cuts.length; // the first cut that begins after v
    while (low < high) { const mid = (low + high) >> 1; if (cuts[mid][0] < v) low = mid + 1; else high = mid; }
    const before = low > 1 ? cuts[low - 2][2] : first;
    if (!low) return v - first;
    const [from, to, taken] = cuts[low - 1];
    if (v >= to) return v - taken;
    // Within what is taken out, lines keep their distance from both ends, and close up between.
    const near = 0.4 * gap;
    if (v <= from + near) return v - before;
    if (v >= to - near) return v - taken;
    return from - before + near + (v - from - near) * (gap - 2 * near) / (to - from - 2 * near);
  };
}

function squeeze(items, depth) {
  const mapX = squeezed(items.map((i) => [i.x - PADDING * depth(i), i.x + i.w + PADDING * depth(i)]), GAP_X);
  const mapY = squeezed(
    items.map((i) => [i.y - (PADDING + HEADER) * depth(i), i.y + i.h + PADDING * depth(i)]), GAP_Y);
  return [mapX, mapY];
}

// Items for some nodes at their places with all groups open, where closed groups are one box in the middle of theirs.
function inside(nodes, opened) {
  const p = plane(), items = new Map(), of = new Map();
  for (const n of nodes) {
    let closed = -1;
    for (const g of p.around[n]) { if (opened.has(g)) break; if (!isOpen(g)) closed = g; }
    const [x, y, w, h] = p.rect.slice(4 * n, 4 * n + 4);
    if (closed < 0) {
      const item = { key: p.ids[n], node: n, group: -1, nodes: [n], x, y, w, h, around: p.around[n] };
      items.set(item.key, item);
      of.set(n, item);
      continue;
    }
    const key = "group " + p.groups[closed].id;
    let item = items.get(key);
    if (!item) {
      const around = p.around[n].slice(p.around[n].indexOf(closed) + 1);
      item = { key, node: -1, group: closed, nodes: [], x, y, right: x + w, bottom: y + h, around };
      items.set(key, item);
    }
    item.nodes.push(n);
    item.x = Math.min(item.x, x); item.y = Math.min(item.y, y);
    item.right = Math.max(item.right, x + w); item.bottom = Math.max(item.bottom, y + h);
    of.set(n, item);
  }
  const list = [...items.values()];
  for (const i of list) {
    if (i.group < 0) continue;
    const g = p.groups[i.group];
    i.x = (i.x + i.right - g.w) / 2; i.w = g.w;
    i.y = (i.y + i.bottom - g.h) / 2; i.h = g.h;
  }
  const [mapX, mapY] = squeeze(list, (i) => i.around.length);
  for (const i of list) { i.x = mapX(i.x); i.y = mapY(i.y); }
  return { items: list, of, line: (l) => l.map((v, k) => (k % 2 ? mapY(v) : mapX(v))) };
}

function framesOf(items) {
  const p = plane(), frames = new Map();
  for (const i of items) {
    let inner = i;
    for (const g of i.around) {
      let f = frames.get(g);
      if (!f) {
        f = { group: g, left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity, depth: 0 };
        frames.set(g, f);
      }
      const [left, top, right, bottom] = inner === i
        ? [i.x, i.y, i.x + i.w, i.y + i.h] : [inner.left, inner.top, inner.right, inner.bottom];
      f.left = Math.min(f.left, left - PADDING); f.top = Math.min(f.top, top - PADDING - HEADER);
      f.right = Math.max(f.right, right + PADDING); f.bottom = Math.max(f.bottom, bottom + PADDING);
      inner = f;
    }
  }
  const list = [...frames.values()];
  for (const f of list) { // a title has room, too
    f.key = "frame " + p.groups[f.group].id;
    for (let g = p.groups[f.group].parent; g >= 0; g = p.groups[g].parent) f.depth++;
  }
  return list.sort((a, b) => a.depth - b.depth);
}

function build() {
  const s = stage(), p = plane();
  const out = allOpen || !p.boxes.length ? fromOpened(s) : fromClosed(s, p);
  const seen = new Map();
  out.edges = [];
  for (const e of s.edges) {
    const edge = p.edges[e], a = out.of.get(edge.a), b = out.of.get(edge.b);
    if (!a || !b || a === b) continue;
    const key = a.node >= 0 && b.node >= 0 ? "e" + e : a.key + " → " + b.key;
    const found = seen.get(key);
    if (found) { found.count++; found.labels.add(edge.label); continue; }
    const made = { a, b, key, count: 1, labels: new Set([edge.label]), line: out.line(edge, a, b), edge };
    seen.set(key, made);
    out.edges.push(made);
  }
  for (const i of out.items) describe(i, s, p);
  const tails = new Map();
  for (const e of out.edges) {
    if (!tails.has(e.a)) tails.set(e.a, new Set());
    for (const l of e.labels) tails.get(e.a).add(l);
    (e.a.after = e.a.after || []).push(e);
    (e.b.before = e.b.before || []).push(e);
  }
  for (const [i, labels] of tails) {
    const joined = [...labels].join(" · ");
    i.tail = joined.length <= 44 ? joined : labels.size > 1 ? labels.size + " kinds of tensors" : cut(joined, 48);
  }
  for (const i of out.items) {
    i.before = (i.before || []).sort((x, y) => x.edge.into - y.edge.into);
    i.after = i.after || [];
  }
  out.frames = framesOf(out.items);
  out.byKey = new Map(out.items.map((i) => [i.key, i]));
  out.bounds = bounds([...out.items.map((i) => [i.x, i.y, i.x + i.w, i.y + i.h]),
                       ...out.frames.map((f) => [f.left, f.top, f.right, f.bottom])]);
  return out;
}

function fromOpened(s) {
  const made = inside(s.nodes.keys(), new Set());
  return { items: made.items, of: made.of,
           line: (e, a, b) => (a.node >= 0 && b.node >= 0 && e.line.length ? made.line(e.line) : null) };
}

// The layout with all groups closed; where one was opened, the rest makes room for it.
function fromClosed(s, p) {
  const members = p.groups.map(() => []);
  for (const n of s.nodes.keys()) for (const g of p.around[n]) members[g].push(n);
  const items = [], of = new Map(), opened = [], index = new Map();
  p.boxes.forEach((b, number) => {
    const here = b.isGroup ? b.of.flatMap((g) => members[g]) : b.of.filter((n) => s.nodes.has(n));
    if (!here.length) return;
    const item = { key: "", node: -1, group: -1, nodes: here, x: b.x, y: b.y, w: b.w, h: b.h, around: [], box: b };
    if (!b.isGroup) { item.node = here[0]; item.key = p.ids[here[0]]; }
    else { item.group = b.of[0]; item.key = "group " + p.groups[b.of[0]].id; }
    for (const n of here) of.set(n, item);
    index.set(item, number);
    items.push(item);
    if (b.isGroup && isOpen(b.of[0])) opened.push(item);
  });
  if (!opened.length) {
    const [mapX, mapY] = squeeze(items, () => 0);
    for (const i of items) { i.x = mapX(i.x); i.y = mapY(i.y); }
    return { items, of, line: (e, a, b) => {
      const l = p.links.get(index.get(a) + " " + index.get(b));
      return l && l.length ? l.map((v, k) => (k % 2 ? mapY(v) : mapX(v))) : null;
    } };
  }
  const blocks = new Map(), pushes = [];
  for (const item of opened) {
    const made = inside(item.nodes, new Set(item.box.of));
    const frames = framesOf(made.items);
    const [left, top, right, bottom] = bounds(frames.map((f) => [f.left, f.top, f.right, f.bottom]));
    const w = right - left, h = bottom - top, dx = Math.max(0, w - item.w) / 2, dy = Math.max(0, h - item.h);
    for (const i of items) {
      if (i === item) continue;
      if (i.x >= item.x + item.w) i.x += dx; else if (i.x + i.w <= item.x) i.x -= dx;
      if (i.y >= item.y + item.h) i.y += dy;
    }
    pushes.push({ left: item.x, right: item.x + item.w, bottom: item.y + item.h, dx, dy });
    item.x -= (w - item.w) / 2; item.w = w; item.h = h;
    blocks.set(item, { made, left, top });
  }
  const [mapX, mapY] = squeeze(items, () => 0);
  const out = [], from = new Map();
  for (const i of items) {
    i.x = mapX(i.x); i.y = mapY(i.y);
    const block = blocks.get(i);
    if (!block) { out.push(i); continue; }
    const dx = i.x - block.left, dy = i.y - block.top;
    for (const j of block.made.items) {
      j.x += dx; j.y += dy;
      from.set(j, { made: block.made, item: i, dx, dy });
      out.push(j);
      for (const n of j.nodes) of.set(n, j);
    }
  }
  // What holds for boxes holds for the corners of lines: they stay on their sides of everything.
  const moved = (x, y) => {
    for (const p of pushes) {
      if (x >= p.right) x += p.dx; else if (x <= p.left) x -= p.dx;
      if (y >= p.bottom) y += p.dy;
    }
    return [mapX(x), mapY(y)];
  };
  return { items: out, of, line: (e, a, b) => {
    const f = from.get(a), g = from.get(b);
    if (f && g && f.made === g.made) {
      if (a.node < 0 || b.node < 0 || !e.line.length) return null;
      return f.made.line(e.line).map((v, k) => v + (k % 2 ? f.dy : f.dx));
    }
    const outerA = f ? f.item : a, outerB = g ? g.item : b;
    const l = p.links.get(index.get(outerA) + " " + index.get(outerB)) || [];
    const line = [];
    for (let k = 0; k < l.length; k += 2) line.push(...moved(l[k], l[k + 1]));
    if (!line.length) return null;
    const n = line.length, within = (x, i) => Math.max(i.x + 8, Math.min(i.x + i.w - 8, x));
    line[0] = within(line[0], outerA);
    line[n - 2] = within(line[n - 2], outerB);
    if (n > 4) { line[2] = l[2] === l[0] ? line[0] : line[2]; line[n - 4] = l[n - 4] === l[n - 2] ? line[n - 2] : line[n - 4]; }
    if (f) { line[1] = Math.max(line[1], outerA.y + outerA.h); line.unshift(a.x + a.w / 2, a.y + a.h); }
    if (g) { line[line.length - 1] = outerB.y; line.push(b.x + b.w / 2, b.y); }
    return line;
  } };
}

function bounds(rects) {
  const out = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [a, b, c, d] of rects) {
    out[0] = Math.min(out[0], a); out[1] = Math.min(out[1], b);
    out[2] = Math.max(out[2], c); out[3] = Math.max(out[3], d);
  }
  return rects.length ? out : [0, 0, 0, 0];
}

// What a box says, and how it is drawn.
function describe(i, s, p) {
  i.changed = i.nodes.some((n) => s.changed.has(n));
  if (i.node >= 0) {
    const r = record(i.node);
    const many = i.nodes.length > 1;
    Object.assign(i, { record: r, kind: r.kind, label: many ? i.box.label : r.label, detail: many ? "" : r.detail,
                       order: r.order, box_h: r.height, repeat: many ? i.nodes.length : r.repeat });
    i.mono = !(r.kind === "call" || r.kind === "kernel" || r.kind === "group");
    i.wide = /^(accumulate|contract_add)/.test(r.op);
    return;
  }
  const g = p.groups[i.group], times = i.box ? i.box.of.length : 1;
  const ops = i.nodes.filter((n) => !LEAVES.has(record(n).kind)).length;
  const repeat = i.box ? i.box.repeat : 1;
  const each = Math.round(ops / repeat);
  Object.assign(i, { kind: "group", label: times > 1 ? i.box.label : cut(g.label, 42), order: g.order, box_h: 40,
                     detail: each + (each === 1 ? " node" : " nodes"), repeat, mono: false, wide: false });
}

function cut(t, length) { return t.length <= length ? t : t.slice(0, length - 1) + "…"; }
