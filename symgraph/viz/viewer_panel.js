// What changes the view, and the page around the canvas: stages, search, details. All text is put in as text.

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
  const moved = (i) => from.has(i.key) && Math.hypot(from.get(i.key).x - i.x, from.get(i.key).y - i.y) > 1;
  moving = scene.items.some(moved) ? { from, t: 0, begin: performance.now() } : null;
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
