// The viewer of one graph through the stages of its compilation. Draws on a canvas from positions that come with the
// page; everything else is plain HTML. All text is put in as text: nothing of the graph is ever parsed as markup.
"use strict";
(() => {
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

  // -- changes of what is seen --------------------------------------------------------------------------------------

  const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

  function rebuild(keep) {
    const from = new Map();
    if (scene && !calm.matches && scene.items.length < 1500) for (const i of scene.items) from.set(i.key, { x: i.x, y: i.y });
    const anchor = keep || (selected && selected.key), old = scene && anchor && scene.byKey.get(anchor);
    const node = selected && selected.node >= 0 ? plane().ids[selected.node] : null;
    scene = build();
    const now = anchor && (scene.byKey.get(anchor) || scene.frames.find((f) => f.key === "frame " + anchor.slice(6)));
    if (old && now) { // what is looked at stays under the eye
      camera.x += (old.x + old.w / 2 - (now.left === undefined ? now.x + now.w / 2 : (now.left + now.right) / 2)) * camera.k;
      camera.y += (old.y - (now.top === undefined ? now.y : now.top)) * camera.k;
    }
    moving = from.size && scene.items.some((i) => from.has(i.key)) ? { from, t: 0, begin: performance.now() } : null;
    const again = anchor && scene.byKey.get(anchor);
    select(again || (node && scene.byKey.get(node)) || null, false);
    find(false);
    ask();
  }

  function go(k) {
    if (k < 0 || k >= stages.length || k === at) return;
    const other = stages[k].plane !== stage().plane;
    const key = selected && selected.key;
    if (other) { hover = null; }
    at = k;
    if (other && selected) selected = null;
    rebuild(key);
    if (other) first();
    strip();
    panel();
    say(`${stage().name}: ${summary(stage())}`);
  }

  function toggle(g) {
    const p = plane(), group = p.groups[g], box = p.boxes.find((b) => b.isGroup && b.of.includes(g));
    const all = !allOpen && box ? box.of : [g];
    const open = isOpen(g);
    for (const one of all) { if (open === allOpen) flipped.add(p.groups[one].id); else flipped.delete(p.groups[one].id); }
    const frame = scene.frames.find((f) => f.group === g);
    const key = "group " + p.groups[all[0]].id;
    if (open && frame) scene.byKey.set(key, { x: frame.left, y: frame.top, w: frame.right - frame.left, h: frame.bottom - frame.top });
    selected = null;
    rebuild(key);
    panel();
    say(group.label + (open ? " closed" : " opened"));
  }

  function setAll(open) {
    allOpen = open;
    flipped.clear();
    selected = null;
    rebuild();
    first();
    panel();
    say(open ? "all groups opened" : "all groups closed");
  }

  function select(i, speak = true) {
    selected = i;
    cone = i ? reach(i) : null;
    if (speak) { panel(); if (i) say(spoken(i)); }
    ask();
  }

  // Everything that the box depends on, and everything that depends on it.
  function reach(i) {
    const out = new Set([i]);
    out.edges = new Set();
    out.up = walk(i, "before", "a", out);
    out.down = walk(i, "after", "b", out);
    return out;
  }

  function walk(from, side, end, out) {
    const seen = new Set([from]), stack = [from];
    while (stack.length) {
      for (const e of stack.pop()[side]) {
        out.edges.add(e);
        if (!seen.has(e[end])) { seen.add(e[end]); out.add(e[end]); stack.push(e[end]); }
      }
    }
    return seen.size - 1;
  }

  function name(i) { return i.record && i.record.number >= 0 ? `${i.label} %${i.record.number}` : i.label; }

  function spoken(i) {
    const r = i.record;
    return [name(i), i.kind === "op" ? "" : i.kind, i.detail, r ? r.types.join(", ") : "", i.changed && at ? "changed" : "",
            `${i.before.length} in, ${i.after.length} out`].filter(Boolean).join(", ");
  }

  // -- the page -----------------------------------------------------------------------------------------------------

  function make(tag, props = {}, ...children) {
    const e = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
      else if (key in e && !key.startsWith("aria")) e[key] = value;
      else e.setAttribute(key, value);
    }
    e.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
    return e;
  }

  const button = (label, title, act, more = {}) =>
    make("button", { type: "button", title, "aria-label": title, onclick: act, ...more }, label);

  const live = make("div", { className: "hidden", id: "live", "aria-live": "polite", role: "status" });
  function say(t) { live.textContent = t; }

  const percent = make("output", { className: "percent", title: "zoom" });
  const query = make("input", {
    type: "search", id: "search", placeholder: "Search", autocomplete: "off", spellcheck: false, role: "combobox",
    "aria-label": "Search by name, operation or dtype", "aria-controls": "found", "aria-expanded": "false",
    oninput: () => find(true), onkeydown: searchKey,
  });
  const found = make("ul", { id: "found", role: "listbox", "aria-label": "Search results", hidden: true });
  const passes = make("div", { className: "strip", role: "toolbar", "aria-label": "Stages of the compilation" });
  const aside = make("aside", { "aria-label": "Details" });
  const theme = button("◐", "Dark or light", () => {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    readColors(); ask();
  });
  const header = make("header", {},
    make("h1", {}, data.title),
    make("div", { className: "search" }, query, found),
    make("div", { className: "tools", role: "toolbar", "aria-label": "View" },
      button("−", "Zoom out (-)", () => zoom(1 / 1.25)), percent, button("+", "Zoom in (+)", () => zoom(1.25)),
      button("Fit", "Show all of it (0)", () => show(1.5)),
      button("Collapse", "Close all groups (c)", () => setAll(false), { id: "collapse" }),
      button("Expand", "Open all groups (e)", () => setAll(true), { id: "expand" }), theme));
  const keys = make("p", { className: "hidden", id: "keys" },
    "Arrow keys go along edges: up to an input, down to a user, left and right to neighbours. Enter opens or closes a " +
    "group. Plus and minus zoom, 0 shows all, comma and period step through the stages, slash searches, Escape lets go.");
  document.body.append(header, passes, make("main", {}, make("div", { className: "plot" }, canvas), aside), keys, live);

  function summary(s) {
    const parts = [`${s.nodes.size} nodes`];
    if (s.same) parts.push("nothing changed");
    else if (s !== stages[0] && s.changed.size + s.removed) parts.push(`${s.changed.size} changed`, `${s.removed} removed`);
    return parts.join(", ");
  }

  function strip() {
    if (stages.length < 2) { passes.hidden = true; return; }
    if (!passes.children.length) {
      stages.forEach((s, k) => {
        const n = s.changed.size + s.removed;
        const b = button("", `${s.name}: ${summary(s)}`, () => go(k), { className: s.same ? "same" : "" });
        b.append(make("span", { className: "name" }, s.name), make("span", { className: "n" }, !k || s.same || !n ? "" : String(n)));
        passes.append(b);
      });
      passes.addEventListener("keydown", (e) => {
        const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[e.key];
        if (!step) return;
        e.preventDefault();
        go(Math.max(0, Math.min(stages.length - 1, at + step)));
        passes.children[at].focus();
      });
    }
    [...passes.children].forEach((b, k) => {
      b.tabIndex = k === at ? 0 : -1;
      if (k === at) b.setAttribute("aria-current", "step"); else b.removeAttribute("aria-current");
    });
    const b = passes.children[at], left = b.offsetLeft - passes.offsetLeft;
    if (left < passes.scrollLeft || left + b.offsetWidth > passes.scrollLeft + passes.clientWidth) {
      passes.scrollLeft = left - passes.clientWidth / 2;
    }
  }

  // -- details ------------------------------------------------------------------------------------------------------

  function row(list, label, value) {
    if (!value || (Array.isArray(value) && !value.length)) return;
    const dd = make("dd");
    for (const v of Array.isArray(value) ? value : [value]) dd.append(make("div", {}, v));
    list.append(make("dt", {}, label), dd);
  }

  function links(title, edges, end) {
    if (!edges.length) return "";
    const ul = make("ul", { className: "links" });
    for (const e of edges.slice(0, 40)) {
      const i = e[end];
      ul.append(make("li", {}, button("", "Go to " + name(i), () => { select(i); reveal(i); })));
      ul.lastChild.firstChild.append(make("b", {}, name(i)), " ", make("code", {}, [...e.labels].join(" · ")));
    }
    if (edges.length > 40) ul.append(make("li", {}, `… ${edges.length - 40} more`));
    return make("section", {}, make("h3", {}, title), ul);
  }

  function panel() {
    const i = selected, s = stage();
    aside.replaceChildren();
    if (!i) { overview(s); return; }
    const r = i.record, list = make("dl");
    const g = i.group >= 0 ? plane().groups[i.group] : null;
    aside.append(make("h2", {}, r && r.title !== r.label ? r.title : i.label, i.repeat > 1 ? ` × ${i.repeat}` : ""));
    aside.append(make("p", { className: "kind" }, kindText(i, g)));
    if (r) {
      row(list, "variable", r.number >= 0 ? "%" + r.number : "");
      if (r.op && r.op !== r.label && r.kind === "op") row(list, "operation", r.op);
      row(list, r.kind === "constant" ? "value" : "", r.kind === "constant" ? r.more : "");
      row(list, r.types.length > 1 ? "types" : "type", r.types);
      row(list, "FLOPs", r.flops);
      row(list, "bytes", r.bytes);
      row(list, "provenance", r.provenance);
      row(list, r.lines.length > 1 ? "lines" : "line", r.lines);
    } else {
      row(list, "holds", i.detail + (i.repeat > 1 ? ` each, ${i.repeat} times` : ""));
      row(list, "provenance", i.nodes.map((n) => record(n).provenance).find(Boolean) || "");
      row(list, "lines", g.lines.length ? g.lines : [...new Set(i.nodes.flatMap((n) => record(n).lines))].sort().slice(0, 12));
    }
    const rules = [...new Set(i.nodes.flatMap((n) => s.rules.get(n) || []))];
    if (i.changed && at) row(list, "changed by", rules.length ? rules : s.name);
    row(list, "cone", cone ? `${count(cone.up, "ancestor")}, ${count(cone.down, "descendant")}` : "");
    aside.append(list);
    const step = stepOf(i, g), kernel = g ? g.code : r.kind === "kernel" || r.kind === "call" ? r.op : "";
    if (kernel) times(step);
    if (g) {
      aside.append(make("p", {}, button("Open", "Open this group (Enter)", () => toggle(i.group), { className: "wide" })));
    }
    if (kernel) code(kernel);
    aside.append(links("inputs", i.before, "a"), links("used by", i.after, "b"));
    for (const f of plane().around[i.nodes[0]]) {
      const around = plane().groups[f];
      if (i.around.includes(f) && around.code) {
        aside.append(make("h3", {}, around.label));
        times(stepOf(null, around));
        code(around.code);
        break;
      }
    }
  }

  function count(n, what) { return `${n} ${what}${n === 1 ? "" : "s"}`; }

  function kindText(i, g) {
    const orders = ["", "derivative", "second derivative", "third derivative"];
    const what = g ? GROUPS[g.kind] : { op: "operation", call: "library call", shared: "shared variable" }[i.kind] || i.kind;
    return [what, i.order ? orders[i.order] || `derivative of order ${i.order}` : ""].filter(Boolean).join(" · ");
  }

  function stepOf(i, g) {
    const id = g ? g.id : i.node >= 0 ? plane().ids[i.node] : "";
    const m = /^[ks](\d+)$/.exec(id);
    return m && ["kernels", "program"].includes(stage().name) ? Number(m[1]) : -1;
  }

  function times(step) {
    const t = data.profile && data.profile.steps[step];
    if (!t) return;
    const [us, share, roof, bound, gb, gf] = t;
    const part = Math.min(100, Math.round(roof * 100)), bar = make("div", {
      role: "meter", "aria-label": "share of the roof", "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(part),
    }, make("i"));
    bar.firstChild.style.width = part + "%";
    aside.append(make("div", { className: "time" },
      make("b", {}, `${us} µs`), ` ${Math.round(share * 100)}% of the time`, bar,
      make("span", {}, `${Math.round(roof * 100)}% of the roof (${bound}) · ${gb} GB/s · ${gf} GFLOP/s`)));
  }

  function code(kernel) {
    const texts = Object.hasOwn(data.code, kernel) ? data.code[kernel] : null, box = make("section", { className: "code" });
    const titles = { loops: "Loops", python: "Python", llvm: "LLVM", ptx: "PTX" };
    if (!texts) { box.append(make("h3", {}, kernel), make("p", { className: "note" }, "A call of a library: it has no source here.")); aside.append(box); return; }
    const langs = Object.keys(titles).filter((l) => texts[l]);
    const tabs = make("div", { role: "tablist", "aria-label": "Code of " + kernel });
    const pre = make("pre", { tabIndex: 0, role: "tabpanel" });
    const choose = (l) => {
      tab = l;
      pre.textContent = texts[l];
      for (const b of tabs.children) {
        b.setAttribute("aria-selected", String(b.dataset.lang === l));
        b.tabIndex = b.dataset.lang === l ? 0 : -1;
      }
    };
    for (const l of langs) {
      const b = button(titles[l], titles[l], () => choose(l), { role: "tab" });
      b.dataset.lang = l;
      tabs.append(b);
    }
    tabs.addEventListener("keydown", (e) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key];
      if (!step) return;
      choose(langs[(langs.indexOf(tab) + step + langs.length) % langs.length]);
      [...tabs.children].find((b) => b.dataset.lang === tab).focus();
    });
    choose(langs.includes(tab) ? tab : langs[0]);
    box.append(make("h3", {}, kernel), tabs, pre);
    if (data.native[kernel]) box.append(make("p", { className: "note" }, data.native[kernel]));
    aside.append(box);
  }

  function overview(s) {
    aside.append(make("h2", {}, s.name), make("p", {}, s.about), make("p", { className: "kind" }, summary(s)));
    if (s.fired.length) {
      const ul = make("ul", { className: "fired" });
      for (const [rule, times] of s.fired) ul.append(make("li", {}, make("code", {}, rule), ` × ${times}`));
      aside.append(make("section", {}, make("h3", {}, "rules that fired"), ul));
    }
    const changed = scene.items.filter((i) => i.changed);
    if (at && changed.length) {
      const ul = make("ul", { className: "links" });
      for (const i of changed.slice(0, 30)) {
        const why = [...new Set(i.nodes.flatMap((n) => s.rules.get(n) || []))].join(", ");
        ul.append(make("li", {}, button("", "Go to " + name(i), () => { select(i); reveal(i); })));
        ul.lastChild.firstChild.append(make("b", {}, name(i)), " ", make("code", {}, why));
      }
      if (changed.length > 30) ul.append(make("li", {}, `… ${changed.length - 30} more`));
      aside.append(make("section", {}, make("h3", {}, "changed"), ul));
    }
    const orders = [...new Set([...s.nodes.keys()].map((n) => record(n)).filter((r) => !LEAVES.has(r.kind)).map((r) => r.order))].sort();
    const legend = make("ul", { className: "legend" });
    for (const o of orders.slice(0, 8)) {
      legend.append(make("li", {}, make("i", { className: "o" + (o % ORDERS) }), o ? kindText({ kind: "", order: o }, null) : "as written"));
    }
    if (at) legend.append(make("li", {}, make("i", { className: "changed" }), "changed in this stage"));
    aside.append(make("section", {}, make("h3", {}, "colors"), legend));
    if (data.profile) aside.append(make("p", { className: "note" }, `Last profile: ${data.profile.us} µs a call.`));
    aside.append(make("section", {}, make("h3", {}, "keys"), make("p", { className: "note" }, keys.textContent)));
  }

  // -- search -------------------------------------------------------------------------------------------------------

  function matches(n, words) {
    const r = record(n);
    const all = [r.title, r.more, r.op, r.number >= 0 ? "%" + r.number : "", ...r.types, ...r.lines, r.provenance, r.kind];
    const where = all.join("\n").toLowerCase();
    return words.every((w) => where.includes(w));
  }

  let results = [], current = -1;

  function find(typed) {
    const words = query.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) {
      hits = null; results = []; found.hidden = true; query.setAttribute("aria-expanded", "false");
      if (typed) say("");
      ask();
      return;
    }
    results = [...stage().nodes.keys()].filter((n) => matches(n, words));
    const some = new Set(results);
    hits = new Set(scene.items.filter((i) => i.nodes.some((n) => some.has(n))));
    if (typed) {
      current = -1;
      found.replaceChildren(...results.slice(0, 60).map((n, k) => {
        const r = record(n);
        const li = make("li", { role: "option", id: "hit" + k, "aria-selected": "false", onmousedown: (e) => { e.preventDefault(); visit(n); } });
        li.append(make("b", {}, r.label + (r.number >= 0 ? " %" + r.number : "")), " ", make("code", {}, r.types.join(", ")), " ", make("small", {}, r.lines.join(", ")));
        return li;
      }));
      found.hidden = !results.length;
      query.setAttribute("aria-expanded", String(results.length > 0));
      say(`${results.length} of ${stage().nodes.size} nodes found`);
    }
    ask();
  }

  function searchKey(e) {
    if (e.key === "Escape") { query.value = ""; find(true); canvas.focus(); return; }
    if (!results.length) return;
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      const n = Math.min(results.length, 60);
      current = (current + (e.key === "ArrowDown" ? 1 : -1) + n) % n;
      [...found.children].forEach((li, k) => li.setAttribute("aria-selected", String(k === current)));
      query.setAttribute("aria-activedescendant", "hit" + current);
      found.children[current].scrollIntoView({ block: "nearest" });
    } else if (e.key === "Enter") visit(results[Math.max(0, current)]);
  }

  // Select a node, opening the groups around it.
  function visit(n) {
    const p = plane();
    found.hidden = true;
    query.setAttribute("aria-expanded", "false");
    let shut = false;
    for (const g of p.around[n]) {
      if (isOpen(g)) continue;
      shut = true;
      const box = p.boxes.find((b) => b.isGroup && b.of.includes(g));
      for (const one of !allOpen && box ? box.of : [g]) {
        if (allOpen) flipped.delete(p.groups[one].id); else flipped.add(p.groups[one].id);
      }
    }
    if (shut) { selected = null; rebuild(); }
    const i = scene.items.find((j) => j.nodes.includes(n));
    if (!i) return;
    if (camera.k < 0.5) zoom(0.8 / camera.k);
    select(i);
    reveal(i);
  }

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
})();
