"use strict";
// The ladders of a report: unpacked when somebody looks at them. Text becomes nodes through textContent only, so nothing
// that a model wrote can be markup; there is no eval, no request but a watched page's own, and no state but below.

const SHOWN = 200; // goalposts listed at first
const main = document.getElementById("ladder-view");
const state = { index: null, packs: new Map(), open: "", limit: SHOWN, texts: null };

// --- making elements

function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "on") for (const [event, action] of Object.entries(value)) made.addEventListener(event, action);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  made.append(...children);
  return made;
}

const plural = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const signed = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`;
const reasonOf = (why) => state.index.why[why] || why;
const colourOf = (rung) => `c${(Math.max(0, state.index.rungs.indexOf(rung)) % 4) + 1}`;

// --- unpacking

async function unpacked(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

async function packOf(place) {
  if (!state.packs.has(place)) state.packs.set(place, unpacked(`pack-${place}`).then(whole));
  return state.packs.get(place);
}

function whole(pack) {
  for (const card of pack.cards)
    for (const [key, value] of Object.entries({ axis: "", why: "", detail: "", message: "", program: "", pairs: [], text: "",
      passes: 0, tries: 0, reward: 0, similarity: 0, neighbour: "", near: "", tokens: 0, more_pairs: 0 }))
      if (!(key in card)) card[key] = value;
  return pack;
}

// --- programs in colour

const TOKENS = new RegExp([
  /(?<comment>#[^\n]*)/, /(?<string>"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|[rbfRBF]{0,2}"(?:\\.|[^"\\\n])*"?|[rbfRBF]{0,2}'(?:\\.|[^'\\\n])*'?)/,
  /(?<number>\b\d[\d_.]*(?:[eE][+-]?\d+)?j?\b)/,
  /(?<keyword>\b(?:False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield)\b)/,
  /(?<builtin>\b(?:abs|all|any|bool|dict|enumerate|filter|float|int|len|list|map|max|min|ord|chr|pow|print|range|reversed|round|set|sorted|str|sum|tuple|zip)\b(?=\())/,
].map((r) => r.source).join("|"), "g");

function program(text) {
  const made = el("pre", { class: "program" });
  let end = 0;
  for (const found of text.slice(0, 8000).matchAll(TOKENS)) {
    const kind = Object.keys(found.groups).find((name) => found.groups[name] !== undefined);
    made.append(text.slice(end, found.index), el("span", { class: `t-${kind}` }, found[0]));
    end = found.index + found[0].length;
  }
  made.append(text.slice(end));
  return made;
}

// --- one proposal

function dots(card) {
  if (!card.tries) return null;
  const said = `solved ${card.passes} of ${card.tries}`;
  if (card.tries > 20) return el("span", { class: "rate" }, said);
  return el("span", { class: "rate", title: `the student ${said} times` },
    el("span", { class: "dots", "aria-hidden": "true" }, "●".repeat(card.passes), el("i", {}, "●".repeat(card.tries - card.passes))),
    el("span", {}, ` ${card.passes} of ${card.tries}`));
}

function pairsTable(card) {
  if (!card.pairs.length) return null;
  const rows = card.pairs.map(([input, output], i) =>
    el("tr", { class: i < state.index.public_pairs ? "public" : "hidden-pair" },
      el("td", {}, i < state.index.public_pairs ? "shown" : "hidden"),
      el("td", {}, el("code", {}, input)), el("td", {}, el("code", {}, output))));
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Inputs and outputs" },
    el("table", { class: "pairs" },
      el("thead", {}, el("tr", {}, ...["", "input", "output"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, rows)),
    card.more_pairs ? el("p", { class: "note" }, `${plural(card.more_pairs, "more pair")}, not shown.`) : null);
}

function facts(card) {
  const items = [["reward", signed(card.reward)]];
  if (card.neighbour || card.similarity) items.push(["nearest known",
    `${card.similarity.toFixed(3)}${card.near ? ` to “${card.near}”` : card.neighbour ? ` to ${card.neighbour}` : ""}`]);
  if (card.tokens) items.push(["length", plural(card.tokens, "token")]);
  items.push(["id", card.id]);
  return el("dl", { class: "facts" }, ...items.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

const gistOf = (card) => (card.message || card.text || card.detail || "(nothing readable)").replace(/\s+/g, " ").slice(0, 160);

function cardBody(card) {
  return el("div", { class: "body" },
    card.why ? el("p", { class: "reason" }, el("b", {}, reasonOf(card.why)), card.detail ? `: ${card.detail}` : "") : null,
    card.message ? el("pre", { class: "message" }, card.message) : null,
    el("div", { class: "two" },
      card.program ? program(card.program) : card.text ? el("pre", { class: "program raw" }, card.text) : null,
      el("div", {}, pairsTable(card), facts(card))));
}

function cardNode(card, open) {
  const node = el("details", { class: `card ${card.why ? "out" : colourOf(card.rung)}`, "data-card": card.id, open },
    el("summary", {},
      el("span", { class: "rung" }, card.rung), el("span", { class: "when" }, `iteration ${card.step}`),
      card.why ? el("span", { class: "badge why" }, reasonOf(card.why)) : dots(card),
      card.why ? dots(card) : el("span", { class: "reward" }, signed(card.reward)),
      el("span", { class: "gist" }, gistOf(card))));
  const fill = () => { if (node.open && node.children.length === 1) node.append(cardBody(card)); };
  node.addEventListener("toggle", fill);
  fill();
  return node;
}

// --- one goalpost

function chosen() {
  return { solved: filters.solved.value, axis: filters.axis.value, why: filters.why.value, words: filters.words.value.trim().toLowerCase() };
}

const cardText = (card) => [card.message, card.program, card.text, card.detail, card.id].join("\n").toLowerCase();

function rejectedFold(cards, where, asked) {
  const shown = asked.why ? cards.filter((c) => c.why === asked.why) : cards;
  if (!shown.length) return null;
  const counts = new Map();
  for (const card of shown) counts.set(card.why, (counts.get(card.why) || 0) + 1);
  const said = [...counts].sort((a, b) => b[1] - a[1]).map(([why, n]) => `${n} ${reasonOf(why)}`).join(", ");
  const hit = asked.words && shown.some((c) => cardText(c).includes(asked.words));
  return el("details", { class: "rejected", open: Boolean(asked.why || hit) },
    el("summary", {}, `${shown.length} rejected ${where}: ${said}`),
    el("ul", {}, shown.map((c) => el("li", {}, cardNode(c, Boolean(asked.words) && cardText(c).includes(asked.words))))));
}

function tree(outline, pack, asked) {
  const above = new Map();
  for (const card of pack.cards) {
    const key = card.parent;
    if (!above.has(key)) above.set(key, []);
    above.get(key).push(card);
  }
  const ids = new Set(pack.cards.filter((c) => !c.why).map((c) => c.id));
  let first = true;

  function climb(card, seen) {
    const made = (above.get(card.id) || []).filter((c) => !seen.has(c.id));
    const deeper = new Set([...seen, card.id]);
    const accepted = made.filter((c) => !c.why);
    const open = asked.words ? cardText(card).includes(asked.words) : first;
    first = first && Boolean(accepted.length);
    const inside = [...accepted.slice(0, 12).map((c) => climb(c, deeper)),
      rejectedFold(made.filter((c) => c.why), "above it", asked)].filter(Boolean);
    return el("li", {}, cardNode(card, open), inside.length ? el("ul", {}, inside.map((n) => (n.tagName === "LI" ? n : el("li", {}, n)))) : null);
  }

  const roots = pack.cards.filter((c) => outline.free || !ids.has(c.parent));
  const lanes = outline.free ? [""] : [...new Set(roots.map((c) => c.axis))];
  return lanes.filter((axis) => !asked.axis || axis === asked.axis).map((axis) => {
    const here = outline.free ? roots : roots.filter((c) => c.axis === axis);
    const accepted = here.filter((c) => !c.why);
    const failed = new Map();
    for (const card of here.filter((c) => c.why)) {
      if (!failed.has(card.step)) failed.set(card.step, []);
      failed.get(card.step).push(card);
    }
    const items = [];
    accepted.forEach((card, place) => {
      items.push(climb(card, new Set()));
      const lastOfStep = !accepted.slice(place + 1).some((c) => c.step === card.step);
      const beside = lastOfStep && failed.get(card.step);
      if (beside) {
        failed.delete(card.step);
        const fold = rejectedFold(beside, `beside it in iteration ${card.step}`, asked);
        if (fold) items.push(el("li", {}, fold));
      }
    });
    const rest = [...failed.values()].flat();
    const where = outline.free ? "" : accepted.length ? "in other iterations" : "";
    const fold = rejectedFold(rest, where, asked);
    if (fold) items.push(el("li", {}, fold));
    return el("section", { class: "axis" },
      axis ? el("h4", {}, el("span", { class: "chip" }, `axis ${axis}`), ` ${state.index.axes[axis] || ""}`) : null,
      items.length ? el("ul", { class: "tree" }, items) : el("p", { class: "quiet" }, "Nothing here fits the filters."));
  });
}

function badges(outline) {
  const fate = outline.free ? [] : outline.solves
    ? [el("span", { class: "badge fell" }, `fell: ${outline.solves} of ${outline.draws.toLocaleString("en")} draws`)]
    : [el("span", { class: "badge" }, outline.draws ? `0 of ${outline.draws.toLocaleString("en")} draws` : "not drawn yet")];
  return fate.concat(state.index.rungs.filter((r) => outline.written[r]).map((r) =>
    el("span", { class: `badge ${colourOf(r)}` }, `${r}s ${outline.accepted[r] || 0}/${outline.written[r]}`)));
}

function updatesOf(pack, outline) {
  const steps = [...new Set(pack.cards.filter((c) => !c.why).map((c) => c.step))].sort((a, b) => a - b);
  const rows = steps.filter((s) => state.index.updates[s] && (!outline.first || s <= outline.first)).map((step) =>
    el("tr", {}, el("td", {}, String(step)), el("td", {}, state.index.updates[step].map((u) =>
      el("span", { class: "update" }, el("b", {}, u.phase), u.skipped ? " skipped" : ` mean reward ${u.reward === null ? "–" : signed(u.reward)}, ${plural(u.rollouts, "rollout")}`)))));
  if (!rows.length) return null;
  return el("div", { class: "stage" }, el("h4", {}, el("span", { class: "chip" }, "updates"), " of the iterations in which these were accepted"),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Updates" },
      el("table", { class: "updates" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "iteration"), el("th", { scope: "col" }, "what was learned from"))), el("tbody", {}, rows))));
}

function timeline(outline, pack, width) {
  const left = 62, right = 16, top = 18, high = 96, lane = 30;
  const rungs = state.index.rungs.filter((r) => outline.accepted[r]);
  const bottom = top + high + 14 + lane * rungs.length;
  const last = Math.max(1, state.index.iterations);
  const x = (step) => left + (step / last) * (width - left - right);
  const share = (h) => (h[2] ? h[1] / h[2] : 0);
  const peak = Math.max(0.05, ...pack.history.map(share));
  const ceiling = [0.05, 0.1, 0.25, 0.5, 1].find((c) => c >= peak) || 1;
  const y = (value) => top + high - (value / ceiling) * high;
  const parts = [];
  for (const value of [0, ceiling / 2, ceiling])
    parts.push(svg("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end", class: "tick" }, `${Math.round(value * 1000) / 10}%`));
  rungs.forEach((rung, i) => {
    const middle = top + high + 14 + lane * (rungs.length - i - 0.5);
    parts.push(svg("line", { x1: left, x2: width - right, y1: middle, y2: middle, class: "grid" }),
      svg("text", { x: left - 8, y: middle + 4, "text-anchor": "end", class: `name ${colourOf(rung)}` }, rung.slice(0, 9)));
  });
  const step = Math.max(1, Math.ceil(last / Math.max(2, Math.floor(width / 80))));
  for (let at = 0; at <= last; at += step)
    parts.push(svg("text", { x: x(at), y: bottom + 14, "text-anchor": "middle", class: "tick" }, at ? String(at) : "base"));

  const places = new Map();
  const crowd = new Map();
  for (const card of pack.cards.filter((c) => !c.why)) {
    const key = `${card.rung} ${card.step}`;
    const n = crowd.get(key) || 0;
    crowd.set(key, n + 1);
    const i = rungs.indexOf(card.rung);
    if (i < 0 || n > 4) continue;
    const spread = Math.min(9, (width - left - right) / last / 2);
    places.set(card.id, [x(card.step) + ((n % 2 ? 1 : -1) * Math.ceil(n / 2)) * spread, top + high + 14 + lane * (rungs.length - i - 0.5)]);
  }
  for (const card of pack.cards) {
    const to = places.get(card.id), from = places.get(card.parent);
    if (to && from) parts.push(svg("line", { x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: "link" }));
  }
  if (outline.first) {
    const at = x(outline.first);
    parts.push(svg("line", { x1: at, x2: at, y1: top - 4, y2: bottom, class: "fall" }),
      svg("text", { x: Math.min(at, width - 62), y: top - 7, "text-anchor": at < 100 ? "start" : "middle", class: "name fell" }, `solved at ${outline.first}`));
  }
  if (pack.history.length) {
    parts.push(svg("polyline", { class: "curve fell", points: pack.history.map((h) => `${x(h[0])},${y(share(h))}`).join(" ") }));
    for (const h of pack.history)
      parts.push(svg("circle", { cx: x(h[0]), cy: y(share(h)), r: 3.5, class: `dot ${h[1] ? "fell" : "base"}` },
        svg("title", {}, `${h[0] ? `iteration ${h[0]}` : "base model"}: ${h[1]} of ${h[2]} draws`)));
  }
  for (const card of pack.cards.filter((c) => places.has(c.id))) {
    const [cx, cy] = places.get(card.id);
    const dot = svg("circle", { cx, cy, r: 4.5, class: `dot pick ${colourOf(card.rung)}`, tabindex: 0, role: "button",
      "aria-label": `${card.rung} of iteration ${card.step}: ${gistOf(card)}` }, svg("title", {}, `${card.rung}, iteration ${card.step}: ${gistOf(card)}`));
    const go = () => reveal(card.id);
    dot.addEventListener("click", go);
    dot.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); go(); } });
    parts.push(dot);
  }
  const said = pack.history.length ? `Its pass rate: ${pack.history.map((h) => `${h[0] ? `iteration ${h[0]}` : "base"} ${h[1]} of ${h[2]}`).join(", ")}.` : "Not evaluated yet.";
  return svg("svg", { viewBox: `0 0 ${width} ${bottom + 22}`, width, height: bottom + 22, role: "group", "aria-label": said, class: "timeline" }, ...parts);
}

function reveal(id) {
  const node = [...main.querySelectorAll("details[data-card]")].find((d) => d.dataset.card === id);
  if (!node) return;
  for (let up = node; up && up !== main; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
  node.open = true;
  node.scrollIntoView({ block: "nearest" });
  node.querySelector("summary").focus();
}

function historyTable(pack) {
  return el("details", {}, el("summary", {}, "Numbers"), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Its draws" },
    el("table", {}, el("thead", {}, el("tr", {}, ...["iteration", "solved by", "of draws"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", {}, pack.history.map((h) => el("tr", {}, el("td", {}, h[0] ? String(h[0]) : "base"), el("td", {}, String(h[1])), el("td", {}, String(h[2]))))))));
}

async function show(id, focus) {
  state.open = id;
  const place = state.index.goalposts.findIndex((g) => g.id === id);
  if (place < 0) return;
  const outline = state.index.goalposts[place];
  const pack = await packOf(place);
  if (state.open !== id) return; // another was chosen while this one was unpacked
  const asked = chosen();
  const held = new Set([...view.querySelectorAll("details[open][data-card]")].map((d) => d.dataset.card));
  const again = view.dataset.id === id;
  const solved = pack.history.find((h) => h[0] > 0 && h[1]);
  const picture = el("div", { class: "picture" });
  const made = [
    el("div", { class: "head" }, el("h3", { id: "shown", tabindex: -1 }, outline.id), el("span", { class: "badges" }, badges(outline)),
      el("span", { class: "steps" },
        el("button", { type: "button", on: { click: () => move(-1) }, title: "Previous goalpost (k)" }, "← previous"),
        el("button", { type: "button", on: { click: () => move(1) }, title: "Next goalpost (j)" }, "next →"))),
    outline.free ? null : el("div", { class: "stage goal" },
      el("h4", {}, el("span", { class: "chip" }, "goalpost"), ` ${[pack.source, outline.difficulty].filter(Boolean).join(" · ")}`),
      el("pre", { class: "message" }, pack.statement || "(its statement was not recorded)")),
    outline.free ? null : picture,
    outline.free || !pack.history.length ? null : historyTable(pack),
    ...tree(outline, pack, asked),
    pack.cards.length ? null : el("p", { class: "empty" }, "Nothing has been written for it."),
    outline.left_out ? el("p", { class: "note" }, `${plural(outline.left_out, "more proposal")} counted above, not shown, to keep this page small.`) : null,
    outline.free ? null : updatesOf(pack, outline),
    !solved ? null : el("div", { class: "stage solved" },
      el("h4", {}, el("span", { class: "chip fell" }, "first solve"), ` iteration ${solved[0]}: ${solved[1]} of ${plural(solved[2], "draw")}, each passed again in a fresh sandbox`),
      pack.proof ? program(pack.proof) : null),
  ];
  view.replaceChildren(...made.filter(Boolean));
  view.dataset.id = id;
  if (!outline.free) {
    picture.append(timeline(outline, pack, Math.max(300, Math.floor(picture.clientWidth))));
  }
  if (again) for (const node of view.querySelectorAll("details[data-card]")) if (held.has(node.dataset.card)) node.open = true;
  for (const item of list.querySelectorAll("button[data-id]")) item.setAttribute("aria-current", String(item.dataset.id === id));
  if (focus) { view.querySelector("#shown").focus({ preventScroll: true }); view.scrollIntoView({ block: "start" }); }
  remember(id);
}

function remember(id) {
  const wanted = `#goalpost=${encodeURIComponent(id)}`;
  if (state.touched && location.hash !== wanted) history.replaceState(null, "", wanted);
}

function move(by) {
  const ids = [...list.querySelectorAll("button[data-id]")].map((b) => b.dataset.id);
  const at = ids.indexOf(state.open);
  const next = ids[Math.min(ids.length - 1, Math.max(0, at + by))];
  if (next && next !== state.open) { state.touched = true; show(next, false); }
}

// --- the list and its filters

const filters = {};
let list, view, count;

function choice(name, label, options) {
  filters[name] = el("select", { id: `filter-${name}`, on: { change: refresh } }, options.map(([value, text]) => el("option", { value }, text)));
  return el("label", {}, el("span", {}, label), filters[name]);
}

async function matching(asked) {
  const texts = asked.words.length > 2 ? await everyText() : null;
  return state.index.goalposts.map((g, place) => [g, place]).filter(([g, place]) => {
    if (asked.solved === "yes" && !g.solves) return false;
    if (asked.solved === "no" && (g.solves || g.free)) return false;
    if (asked.axis && !g.axes[asked.axis]) return false;
    if (asked.why && !g.why[asked.why]) return false;
    if (!asked.words) return true;
    return `${g.id}\n${g.gist}\n${g.difficulty}`.toLowerCase().includes(asked.words) || Boolean(texts && texts[place].includes(asked.words));
  });
}

async function everyText() {
  if (!state.texts)
    state.texts = Promise.all(state.index.goalposts.map((_, place) => packOf(place).then((pack) => `${pack.statement}\n${pack.cards.map(cardText).join("\n")}`.toLowerCase())));
  return state.texts;
}

let latest = 0;
async function refresh() {
  const turn = ++latest;
  const asked = chosen();
  const found = await matching(asked);
  if (turn !== latest) return;
  const noun = state.index.goalposts.some((g) => !g.free) ? "goalpost" : "kind";
  count.textContent = found.length === state.index.goalposts.length ? plural(found.length, noun) : `${found.length} of ${plural(state.index.goalposts.length, noun)}`;
  list.replaceChildren(...found.slice(0, state.limit).map(([g]) => el("li", {},
    el("button", { type: "button", "data-id": g.id, "aria-current": String(g.id === state.open), on: { click: () => { state.touched = true; show(g.id, true); } } },
      el("span", { class: `mark ${g.solves ? "fell" : ""}`, "aria-hidden": "true" }, g.free ? "◇" : g.solves ? "●" : "○"),
      el("span", { class: "id" }, g.id),
      el("span", { class: "tally" }, g.free ? "" : g.solves ? `fell at ${g.first}` : g.draws ? "stands" : ""),
      el("span", { class: "gist" }, g.gist)))),
    ...(found.length > state.limit ? [el("li", {}, el("button", { type: "button", class: "more", on: { click: () => { state.limit += SHOWN; refresh(); } } }, `${found.length - state.limit} more`))] : []));
  if (!found.length) { view.replaceChildren(el("p", { class: "empty" }, "No goalpost fits the filters.")); view.dataset.id = ""; return; }
  const kept = found.some(([g]) => g.id === state.open) ? state.open : found[0][0].id;
  await show(kept, false);
}

function walk(event) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const items = [...list.querySelectorAll("button")];
  const at = items.indexOf(document.activeElement);
  const next = items[at + (event.key === "ArrowDown" ? 1 : -1)];
  if (at >= 0 && next) { event.preventDefault(); next.focus(); }
}

function build() {
  const index = state.index;
  const axes = Object.keys(index.axes).filter((a) => index.goalposts.some((g) => g.axes[a]));
  const reasons = Object.keys(index.why).filter((w) => index.goalposts.some((g) => g.why[w]));
  const old = Object.fromEntries(Object.entries(filters).map(([name, node]) => [name, node.value]));
  filters.words = el("input", { id: "filter-words", type: "search", placeholder: "words, code, ids", on: { input: refresh } });
  count = el("p", { class: "count", role: "status", id: "found" });
  list = el("ul", { class: "list", on: { keydown: walk }, "aria-label": "Goalposts" });
  view = el("div", { class: "view", id: "view" });
  main.replaceChildren(
    el("form", { class: "filters", role: "search", on: { submit: (event) => event.preventDefault() } },
      el("label", { class: "wide" }, el("span", {}, "Search"), filters.words),
      choice("solved", "Goalposts", [["", "all"], ["yes", "that fell"], ["no", "that stand"]]),
      choice("axis", "Axis", [["", "any"], ...axes.map((a) => [a, `${a}: ${index.axes[a]}`])]),
      choice("why", "Rejected because", [["", "any reason"], ...reasons.map((w) => [w, index.why[w]])])),
    el("div", { class: "columns" }, el("div", { class: "side" }, count, list), view));
  for (const [name, value] of Object.entries(old)) filters[name].value = value;
}

async function ladders() {
  if (!document.getElementById("index")) return;
  state.index = await unpacked("index");
  for (const g of state.index.goalposts)
    for (const [key, value] of Object.entries({ gist: "", difficulty: "", free: false, draws: 0, solves: 0, first: 0, written: {}, accepted: {}, axes: {}, why: {}, height: 0, left_out: 0 }))
      if (!(key in g)) g[key] = value;
  state.packs.clear();
  state.texts = null;
  if (!state.index.goalposts.length) { main.replaceChildren(el("p", { class: "empty" }, "Nothing has been proposed yet.")); return; }
  const focused = document.activeElement && document.activeElement.id;
  const words = filters.words && filters.words.selectionStart;
  const scrolled = list ? list.scrollTop : 0;
  build();
  const named = decodeURIComponent(location.hash.replace(/^#goalpost=/, ""));
  if (!state.open && state.index.goalposts.some((g) => g.id === named)) { state.open = named; state.touched = true; }
  await refresh();
  list.scrollTop = scrolled;
  if (focused && focused.startsWith("filter-")) {
    const field = document.getElementById(focused);
    field.focus({ preventScroll: true });
    if (focused === "filter-words") field.setSelectionRange(words, words);
  }
}

// --- light and dark

const THEMES = ["auto", "light", "dark"];

function kept(theme) {
  try {
    if (theme === undefined) return localStorage.getItem("gasp-theme");
    localStorage.setItem("gasp-theme", theme);
  } catch (error) {
    if (error.name !== "SecurityError") throw error; // a browser may keep nothing for files
  }
  return null;
}

function dress(theme) {
  const root = document.documentElement;
  if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = { auto: "◐ auto", light: "☀ light", dark: "☾ dark" }[theme];
  button.setAttribute("aria-label", `Colours: ${theme}. Change.`);
  button.dataset.theme = theme;
}

// --- a watched run: news without reload

const PAUSE = 2000;

async function look(version) {
  let next = version;
  try {
    if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
    const told = await fetch(`news?since=${encodeURIComponent(version)}`, { cache: "no-store" }); // answers when there is any
    if (!told.ok) throw new TypeError(`the server says ${told.status}`);
    if (told.status === 200) {
      const fresh = new DOMParser().parseFromString(await told.text(), "text/html");
      next = fresh.body.dataset.version;
      await renew(fresh);
    }
    document.body.dataset.link = "up";
    setTimeout(look, 0, next);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    document.body.dataset.link = "down"; // the server is gone, or the tunnel to it; both may come back
    setTimeout(look, PAUSE, version);
  }
}

async function renew(fresh) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const news = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!news || news.isEqualNode(part.was || part)) continue;
    part.was = news.cloneNode(true); // before anything in it was unfolded
    const open = [...part.querySelectorAll("details")].map((d) => d.open);
    part.replaceChildren(...[...news.childNodes].map((node) => document.importNode(node, true)));
    [...part.querySelectorAll("details")].forEach((d, i) => { if (open[i]) d.open = true; });
  }
  document.title = fresh.title;
  document.body.dataset.version = fresh.body.dataset.version;
  await ladders();
}

// --- begin

document.getElementById("theme").addEventListener("click", (event) => {
  const theme = THEMES[(THEMES.indexOf(event.currentTarget.dataset.theme) + 1) % THEMES.length];
  kept(theme);
  dress(theme);
});
dress(THEMES.includes(kept()) ? kept() : "auto");
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || !filters.words) return;
  if (event.key === "/") { event.preventDefault(); filters.words.focus(); }
  if (event.key === "j") move(1);
  if (event.key === "k") move(-1);
});
let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (state.index && state.open && window.innerWidth !== width) show(state.open, false);
  width = window.innerWidth;
});
window.addEventListener("hashchange", () => {
  const named = decodeURIComponent(location.hash.replace(/^#goalpost=/, ""));
  if (state.index && state.index.goalposts.some((g) => g.id === named)) show(named, true);
});
if (main) {
  if (typeof DecompressionStream === "undefined") main.textContent = "This browser is too old to unpack the ladders (it lacks DecompressionStream).";
  else ladders();
}
if (document.body.dataset.version) look(document.body.dataset.version);
