"use strict";

/* ---------- the data, and small helpers ---------- */

const content = JSON.parse(document.getElementById("content").textContent);

const METRICS = { accuracy: "accuracy", roc_auc: "ROC AUC", micro_f1: "micro-F1" };
const unique = (values) => [...new Set(values)];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const given = (value) => value !== null && value !== undefined && value !== "";
const plural = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

/** An element with its attributes and children. Strings become text and are never read as HTML. */
function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter(given));
  return element;
}
const fill = (id, ...children) => document.getElementById(id).replaceChildren(...children.flat(Infinity).filter(given));

/** Plotly reads a few tags in its texts; what comes from the data has none. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** Three digits, or another number of them, however large or small. */
function digits(value, number = 3) {
  if (!given(value)) return "";
  const size = Math.abs(value);
  if (Number.isInteger(value) || size >= 10 ** (number - 1)) return Math.round(value).toLocaleString("en");
  return size < 0.001 ? value.toExponential(number - 1) : value.toPrecision(number);
}
/** So many digits behind the point, in a column where the smallest number is to show three of its own. */
function fixed(value, smallest) {
  const places = Math.min(Math.max(2 - Math.floor(Math.log10(smallest)), 0), 4);
  return given(value) ? value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places }) : "";
}
const percent = (value, places = 2) => (given(value) ? (100 * value).toFixed(places) : "");

/* ---------- light and dark ---------- */

const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
let printing = false;

function isDark() {
  return !printing && (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
}

/** A colour of the figures, made light enough to be seen on dark paper. */
function onDark(color) {
  let rgb = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const light = (values) => {
    const [r, g, b] = values.map((v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  if (light(rgb) < 0.01) return "#f2f4f7"; // black turns white, and not a grey
  while (light(rgb) < 0.2) rgb = rgb.map((v) => v + (255 - v) * 0.1);
  return `#${rgb.map((v) => Math.round(v).toString(16).padStart(2, "0")).join("")}`;
}
const inTheme = (color) => (isDark() ? onDark(color) : color);
const inBothThemes = (color) => `light-dark(${color}, ${onDark(color)})`;

/** What a colour of the style sheet is at present. */
function themeColor(name) {
  const probe = make("span", { style: { color: `var(--${name})` } });
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

function showTheme() {
  const button = document.getElementById("theme");
  button.setAttribute("aria-pressed", String(isDark()));
  drawPlots();
}

function remembered(value) {
  // A browser may forbid a file to keep anything.
  try {
    if (value) localStorage.setItem("gnnscale-theme", value);
    return localStorage.getItem("gnnscale-theme");
  } catch {
    return null;
  }
}

/* ---------- curves: what is chosen ---------- */

const has = (name) => content.runs.some((run) => run[name]);
const metricNames = unique(content.panels.map((panel) => METRICS[panel.metric] ?? panel.metric));
const metricName = metricNames.length === 1 ? metricNames[0] : "metric";

const X = {
  train_seconds: { name: "training time", unit: "s", title: "training time (s)" },
  epoch: { name: "epoch", unit: "", title: "epoch" },
  steps: { name: "optimiser steps", unit: "", title: "optimiser steps" },
  edges: { name: "work (edges)", unit: "", title: "edges computed over" },
};
const Y = {
  test: { name: `test ${metricName}`, scale: 100, unit: "%" },
  val: { name: `validation ${metricName}`, scale: 100, unit: "%" },
  loss: { name: "training loss", scale: 1, unit: "" },
  staleness: { name: "staleness", scale: 1, unit: "steps" },
};
const LINES = {
  range: "median, lowest to highest",
  error: "mean ± standard error",
  seeds: "each seed",
};
/** Whether the figures would have a logarithmic axis of time: totals of one plot differ by more than eight times. */
function farApart(runs) {
  return content.panels.some((panel) => {
    const totals = runs.filter((run) => run.dataset === panel.dataset && run.model === panel.model).map((run) => run.train_seconds?.at(-1)).filter(given);
    return Math.max(...totals) > 8 * Math.min(...totals);
  });
}
const HALF_LIVES = [0, 1, 2, 3, 5, 10, 20, 50, 100];

const kinds = {
  sampler: Object.keys(content.styles),
  dataset: unique(content.panels.map((panel) => panel.dataset)),
  model: unique(content.panels.map((panel) => panel.model)),
  seed: unique(content.runs.map((run) => run.seed)).sort((a, b) => a - b),
};
const choice = {
  x: "train_seconds",
  y: "test",
  lines: "range",
  halfLife: 0,
  logX: farApart(content.runs.filter((run) => run.ok)),
  logY: false,
  prepare: content.count_preparation,
  on: Object.fromEntries(Object.entries(kinds).map(([kind, names]) => [kind, new Set(names)])),
};
// More than four plots at first would be a long page; the chips below show the others.
if (content.panels.length > 4) choice.on.model = new Set(kinds.model.slice(0, 1));
if (kinds.dataset.length > 4) choice.on.dataset = new Set(kinds.dataset.slice(0, 4));

function select(label, options, value, change, id) {
  const entries = Object.entries(options).map(([key, text]) => make("option", { value: key, selected: key === value }, text));
  return make("label", {}, label, make("select", { id, onchange: (event) => change(event.target.value) }, entries));
}

function check(label, key, id) {
  const change = (event) => {
    choice[key] = event.target.checked;
    drawPlots();
  };
  return make("label", { class: "check" }, make("input", { type: "checkbox", id, checked: choice[key], onchange: change }), label);
}

function drawControls() {
  const named = (axes) => Object.fromEntries(Object.entries(axes).filter(([key]) => key === "epoch" || has(key)).map(([key, { name }]) => [key, name]));
  const choose = (key) => (value) => {
    choice[key] = value;
    document.getElementById("prepare").disabled = choice.x !== "train_seconds";
    drawPlots();
  };
  const smoothing = () => (choice.halfLife ? plural(choice.halfLife, "epoch") : "none");
  const output = make("output", { for: "smooth" }, smoothing());
  const slide = (event) => {
    choice.halfLife = HALF_LIVES[event.target.value];
    output.textContent = smoothing();
    event.target.setAttribute("aria-valuetext", smoothing());
    drawPlots();
  };
  fill(
    "controls",
    select("Up", named(Y), choice.y, choose("y"), "y"),
    select("Across", named(X), choice.x, choose("x"), "x"),
    select("Lines", LINES, choice.lines, choose("lines"), "lines"),
    make("label", {}, make("span", {}, "Smoothing: ", output),
      make("input", { type: "range", id: "smooth", min: 0, max: HALF_LIVES.length - 1, value: 0, "aria-valuetext": "none", oninput: slide })),
    check("log across", "logX", "log-x"),
    check("log up", "logY", "log-y"),
    check("with preparation", "prepare", "prepare"),
  );
}

/** Corners around a point, each second one nearer to it in a star; `wide` makes it narrower than high. */
function polygon([corners, turn = 0, inner = 1, wide = 1]) {
  const at = (i) => {
    const angle = ((turn - 90 + (360 * i) / corners) * Math.PI) / 180;
    const radius = 4.6 * (inner < 1 && i % 2 ? inner : 1);
    return `${(15 + wide * radius * Math.cos(angle)).toFixed(2)} ${(6 + radius * Math.sin(angle)).toFixed(2)}`;
  };
  return `M${Array.from({ length: corners }, (_, i) => at(i)).join("L")}Z`;
}
const MARKERS = {
  circle: [24], square: [4, 45], diamond: [4], "diamond-tall": [4, 0, 1, 0.6], pentagon: [5], hexagon: [6, 30], hexagon2: [6], octagon: [8, 22.5],
  "triangle-up": [3], "triangle-down": [3, 180], "triangle-left": [3, -90], "triangle-right": [3, 90], star: [10, 0, 0.45], cross: [8, 0, 0.4], x: [8, 45, 0.4],
};

function swatch(sampler) {
  const { color, dash, marker } = content.styles[sampler];
  const dashes = dash === "solid" ? null : dash.replaceAll("px", "").replaceAll(",", " ");
  return make("svg", { class: "swatch", viewBox: "0 0 30 12", "aria-hidden": "true", style: { color: inBothThemes(color) } },
    make("line", { x1: 0, y1: 6, x2: 30, y2: 6, stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": dashes }),
    make("path", { d: polygon(MARKERS[marker]), fill: "currentColor" }));
}

/** The legend, and the same for datasets, models and seeds: a switch each; a double click shows one alone. */
function drawChips() {
  const titles = { sampler: "Samplers", dataset: "Datasets", model: "Models", seed: "Seeds" };
  const groups = Object.keys(titles).filter((kind) => kind === "sampler" || kinds[kind].length > 1);
  fill("chips", groups.map((kind) => {
    const chips = new Map();
    const show = (names) => {
      choice.on[kind] = new Set(names);
      for (const [name, chip] of chips) chip.setAttribute("aria-pressed", String(choice.on[kind].has(name)));
      drawPlots();
    };
    const toggle = (name, alone) => {
      const on = choice.on[kind];
      if (alone) show([name]);
      else show(on.has(name) ? [...on].filter((other) => other !== name) : [...on, name]);
    };
    for (const name of kinds[kind])
      chips.set(name, make("button", { type: "button", class: "chip", "aria-pressed": String(choice.on[kind].has(name)),
        onclick: (event) => toggle(name, event.shiftKey), ondblclick: () => toggle(name, true) },
        kind === "sampler" ? swatch(name) : null, String(name)));
    const plainButton = (text, names) => make("button", { type: "button", class: "plain", onclick: () => show(names) }, text);
    const every = kinds[kind].length > 1 ? [plainButton("all", kinds[kind]), plainButton("none", [])] : [];
    return make("fieldset", { class: "chips", id: `chips-${kind}` }, make("legend", {}, titles[kind]), [...chips.values()], every);
  }));
}

/* ---------- curves: from runs to lines ---------- */

/** Exponential average: a point counts half as much for each half-life of epochs that it is away. */
function smooth(epochs, values, halfLife) {
  if (!halfLife) return values;
  let sum = 0;
  let weight = 0;
  return values.map((value, i) => {
    const kept = i ? 0.5 ** ((epochs[i] - epochs[i - 1]) / halfLife) : 0;
    sum = sum * kept + value;
    weight = weight * kept + 1;
    return sum / weight;
  });
}

/** The points of one run as the choice has them, or null where it has none. */
function points(run) {
  const xs = run[choice.x];
  const ys = run[choice.y];
  if (!xs || !ys) return null;
  const shift = choice.x === "train_seconds" && choice.prepare ? (run.prepare ?? 0) : 0;
  const at = run.epoch.map((_, i) => i).filter((i) => given(xs[i]) && given(ys[i]));
  const epochs = at.map((i) => run.epoch[i]);
  return {
    epochs,
    x: at.map((i) => xs[i] + shift),
    y: smooth(epochs, at.map((i) => ys[i] * Y[choice.y].scale), choice.halfLife),
  };
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return (sorted[Math.floor(middle)] + sorted[Math.ceil(middle)]) / 2;
};

/** Join runs by epoch, up to the last one that all of them reached: beyond it, the line would be over others. */
function join(lines) {
  const byEpoch = new Map();
  for (const { epochs, x, y } of lines)
    epochs.forEach((epoch, i) => {
      if (!byEpoch.has(epoch)) byEpoch.set(epoch, { epoch, xs: [], ys: [] });
      byEpoch.get(epoch).xs.push(x[i]);
      byEpoch.get(epoch).ys.push(y[i]);
    });
  const shared = [...byEpoch.values()].filter(({ ys }) => ys.length === lines.length).sort((a, b) => a.epoch - b.epoch);
  return shared.map(({ epoch, xs, ys }) => {
    if (choice.lines === "range") return { epoch, x: median(xs), y: median(ys), low: Math.min(...ys), high: Math.max(...ys) };
    const y = mean(ys);
    const error = Math.sqrt(ys.reduce((sum, value) => sum + (value - y) ** 2, 0) / (ys.length - 1) / ys.length);
    return { epoch, x: mean(xs), y, low: y - error, high: y + error };
  });
}

const withUnit = (value, unit) => `${digits(value, 4)}${unit && ` ${unit}`}`;

function hover(title, x, y, epoch, more = "") {
  const lines = [`<b>${plain(title)}</b>`, `${Y[choice.y].name} ${withUnit(y, Y[choice.y].unit)}${more}`, `${X[choice.x].name} ${withUnit(x, X[choice.x].unit)}`];
  if (choice.x !== "epoch") lines.push(`epoch ${epoch}`);
  return lines.join("<br>");
}

/** What plotly draws of one sampler in one plot. */
function traces(sampler, runs) {
  const style = content.styles[sampler];
  const color = inTheme(style.color);
  const line = { color, dash: style.dash, width: 2 };
  const marker = { color, symbol: style.marker, size: 7, maxdisplayed: 8 };
  const common = { type: "scatter", mode: "lines+markers", hoverinfo: "text", showlegend: false, name: plain(sampler), line, marker };
  if (choice.lines === "seeds") {
    // One trace of all runs, with gaps between them: hundreds of traces would be slow.
    const all = { x: [], y: [], text: [] };
    const ends = { x: [], y: [], text: [] };
    for (const run of runs) {
      const curve = points(run);
      if (!curve?.x.length) continue;
      const title = `${sampler}, seed ${run.seed}${run.ok ? "" : ", failed"}`;
      const text = curve.x.map((x, i) => hover(title, x, curve.y[i], curve.epochs[i]));
      for (const [key, values] of Object.entries({ x: curve.x, y: curve.y, text })) {
        all[key].push(...values, null);
        if (!run.ok) ends[key].push(values.at(-1));
      }
    }
    const cross = { color, symbol: "x-thin-open", size: 12, line: { width: 2 } };
    const curves = all.x.length ? [{ ...common, ...all, line: { ...line, width: 1.5 }, marker: { ...marker, maxdisplayed: 8 * runs.length } }] : [];
    return ends.x.length ? [...curves, { ...common, ...ends, mode: "markers", marker: cross }] : curves;
  }
  const lines = runs.filter((run) => run.ok).map(points).filter(Boolean);
  const joined = join(lines);
  if (!joined.length) return [];
  const column = (key) => joined.map((point) => point[key]);
  const several = lines.length > 1;
  const text = joined.map(({ x, y, low, high, epoch }) => {
    const spread = choice.lines === "range" ? `, ${digits(low, 4)} to ${digits(high, 4)}` : ` ± ${digits(high - y, 2)}`;
    return hover(sampler, x, y, epoch, `${several ? spread : ""} (${plural(lines.length, "seed")})`);
  });
  const curve = { ...common, x: column("x"), y: column("y"), text };
  const back = [...joined].reverse();
  const band = {
    ...common, mode: "lines", hoverinfo: "skip", line: { width: 0 }, fill: "toself", // Many bands lie on each other: the more there are, the paler.
    fillcolor: color + (choice.on.sampler.size <= 6 ? "2e" : "0f"),
    x: [...column("x"), ...back.map((point) => point.x)], y: [...column("high"), ...back.map((point) => point.low)],
  };
  return several ? [band, curve] : [curve];
}

const touched = matchMedia("(pointer: coarse)").matches;

function layout(panel) {
  const ink = themeColor("ink");
  const axis = { color: themeColor("quiet"), gridcolor: themeColor("line"), linecolor: themeColor("line"), zeroline: false, automargin: true };
  const up = Y[choice.y];
  const target = choice.y === "val" && given(panel.target) ? 100 * panel.target : null;
  const metric = METRICS[panel.metric] ?? panel.metric;
  const upName = { test: `test ${metric}`, val: `validation ${metric}` }[choice.y] ?? up.name;
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
    margin: { l: 56, r: 14, t: 14, b: 48 },
    hovermode: "closest",
    hoverlabel: { bgcolor: themeColor("panel"), bordercolor: themeColor("line"), font: { family: getComputedStyle(document.body).fontFamily, color: ink }, align: "left" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: themeColor("quiet"), activecolor: themeColor("accent") },
    // A finger scrolls the page.
    dragmode: touched ? false : "zoom",
    xaxis: { ...axis, type: choice.logX ? "log" : "linear", title: { text: plain(acrossTitle()) } },
    yaxis: { ...axis, type: choice.logY ? "log" : "linear", title: { text: plain(`${upName}${up.unit && ` (${up.unit})`}`) } },
    shapes: given(target) ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: target, y1: target, line: { color: themeColor("accent"), width: 1.5, dash: "dot" } }] : [],
    annotations: given(target)
      ? [{ xref: "paper", x: 1, y: choice.logY ? Math.log10(target) : target, xanchor: "right", yanchor: "bottom", showarrow: false, text: `target ${digits(target, 4)} %`, font: { color: themeColor("accent") } }]
      : [],
    // Paper has a width of its own.
    ...(printing ? { width: 480, height: 340 } : { autosize: true }),
    uirevision: [choice.x, choice.y, choice.logX, choice.logY, choice.prepare].join(),
  };
}

function acrossTitle() {
  if (choice.x !== "train_seconds") return X[choice.x].title;
  return choice.prepare ? "preparation and training time (s)" : X[choice.x].title;
}

const plots = new Map();

function drawPlots() {
  const { on } = choice;
  const shown = content.panels.filter((panel) => on.dataset.has(panel.dataset) && on.model.has(panel.model));
  const samplers = kinds.sampler.filter((name) => on.sampler.has(name));
  const area = document.getElementById("plots");
  for (const panel of content.panels) {
    if (!plots.has(panel)) {
      const size = `${plural(panel.nodes, "node")}, ${plural(panel.edges, "edge")}`;
      const plot = make("div", { class: "plot", role: "img" });
      plots.set(panel, make("figure", {}, make("figcaption", {}, `${panel.dataset}, ${panel.model}`, make("span", {}, size)), plot));
    }
    const figure = plots.get(panel);
    if (!shown.includes(panel)) figure.remove();
  }
  area.append(...shown.map((panel) => plots.get(panel)).filter((figure, i) => area.children[i] !== figure));
  const config = { responsive: true, displayModeBar: touched ? false : "hover", displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  for (const panel of shown) {
    const plot = plots.get(panel).querySelector(".plot");
    const runs = content.runs.filter((run) => run.dataset === panel.dataset && run.model === panel.model && on.seed.has(run.seed));
    const drawn = samplers.flatMap((name) => traces(name, runs.filter((run) => run.sampler === name)));
    plot.setAttribute("aria-label", `${Y[choice.y].name} against ${X[choice.x].name} on ${panel.dataset} with ${panel.model}; the summary below has the numbers`);
    Plotly.react(plot, drawn, layout(panel), config);
  }
  drawNote(shown);
}

function drawNote(shown) {
  const notes = [];
  if (!shown.length) notes.push("No dataset and model is chosen.");
  else if (shown.length < content.panels.length) notes.push(`${shown.length} of ${content.panels.length} plots are shown; the switches above choose.`);
  const failed = content.runs.filter((run) => !run.ok).length;
  notes.push({
    range: "Line: median over the seeds that finished, up to the epoch that all reached; band: lowest to highest.",
    error: "Line: mean over the seeds that finished, up to the epoch that all reached; band: its standard error.",
    seeds: "A line for each seed" + (failed ? "; a cross ends one that failed." : "."),
  }[choice.lines]);
  if (choice.x === "train_seconds" && content.places > 1) notes.push(`Times are of ${content.places} machines, which cannot be compared.`);
  if (failed && choice.lines !== "seeds") notes.push(`${plural(failed, "run")} that failed ${failed === 1 ? "is" : "are"} not in the lines.`);
  if (choice.halfLife) notes.push(`Each run is smoothed by an exponential average with a half-life of ${plural(choice.halfLife, "epoch")}.`);
  const [kept, all] = [mean(content.runs.map((run) => run.epoch.length)), mean(content.runs.map((run) => run.of))];
  if (kept < all) notes.push(`Of each run ${Math.round(kept)} of ${Math.round(all)} points are in this page, denser at the start; results.parquet has all.`);
  notes.push("Click a sampler to hide or show it; double-click, or Shift and click, to see it alone.");
  fill("note", notes.join(" "));
}

/* ---------- summary ---------- */

const view = { dataset: "", model: "", sort: "", descending: false, baseline: kinds.sampler.includes("full") ? "full" : kinds.sampler[0] };

const number = (key, title, unit, scale = 1) => {
  const value = (row) => (given(row[key]) ? scale * row[key] : null);
  // All numbers of a column have as many digits behind the point, so that they stand one below the other.
  const smallest = Math.min(...content.summary.map(value).filter((one) => one > 0));
  return { key, title, unit, number: true, value, cell: (row) => fixed(value(row), smallest) };
};
const name = (key, title) => ({ key, title, value: (row) => row[key], cell: (row) => row[key] });

const COLUMNS = [
  { ...name("sampler", "sampler"), cell: (row) => make("span", { class: "name" }, swatch(row.sampler), row.sampler) },
  name("dataset", "dataset"),
  name("model", "model"),
  { ...number("seeds", "runs", "finished"), cell: finished },
  { ...number("test_mean", `test ${metricName}`, "%, ± standard error"), cell: (row) => percent(row.test_mean) + (given(row.test_error) ? ` ± ${percent(row.test_error)}` : "") },
  number("time_to_target", "to target", "seconds"),
  number("seconds_per_epoch", "an epoch", "seconds"),
  { key: "stages", title: "by stage", unit: "share of an epoch", cell: stageBar },
  number("prepare_seconds", "preparation", "seconds"),
  number("peak_memory_mb", "memory", "MB"),
  number("peak_device_memory_mb", "GPU memory", "MB"),
  number("edges_per_second", "edges", "10⁶ a second", 1e-6),
  number("staleness", "staleness", "steps"),
  { ...number("val_mean", "validation", "%"), cell: (row) => percent(row.val_mean) },
  number("best_epoch", "best epoch", "median"),
  number("train_seconds", "training", "seconds"),
];
const target = COLUMNS.find((column) => column.key === "time_to_target");
target.cell = targetTime(target.cell);
content.summary.forEach((row, i) => (row.by_stage = content.by_stage[i]));

function finished(row) {
  const failed = row.runs - row.seeds;
  return failed ? make("span", { class: "badge", title: row.status }, `${failed} of ${row.runs} failed`) : String(row.seeds);
}

/** Seconds by stage as they add up to an epoch's. */
const stageSeconds = (row) => Object.entries(row.by_stage);
/** A colour of the figures, and stripes where they have a hatch on white. */
const stageFill = (stage) => {
  const { color } = content.stages[stage];
  return color === "#FFFFFF" ? "repeating-linear-gradient(90deg, var(--quiet) 0 2px, transparent 2px 5px)" : color;
};

function stageBar(row) {
  const seconds = stageSeconds(row);
  const total = seconds.reduce((sum, [, value]) => sum + value, 0);
  if (!total) return "";
  const share = (value) => `${((100 * value) / total).toFixed(1)}%`;
  const text = seconds.map(([stage, value]) => `${content.stages[stage].words} ${share(value)}`).join(", ");
  const parts = seconds.map(([stage, value]) => make("i", { style: { width: share(value), background: stageFill(stage) } }));
  return make("span", { class: "bar", role: "img", "aria-label": text, title: text }, parts);
}

/** The median, and how many runs reached the target where not all did. */
function targetTime(time) {
  return (row) => {
    if (!given(row.target_reached)) return "";
    const some = row.target_reached < row.seeds ? ` (${row.target_reached} of ${row.seeds})` : "";
    return (given(row.time_to_target) ? time(row) : "not reached") + some;
  };
}

function visible(rows) {
  return rows.filter((row) => (!view.dataset || row.dataset === view.dataset) && (!view.model || row.model === view.model));
}

function sorted(rows, column) {
  if (!column) return rows;
  const way = view.descending ? -1 : 1;
  // What is missing comes last, either way.
  return [...rows].sort((a, b) => {
    const [one, other] = [column.value(a), column.value(b)];
    if (!given(one) || !given(other)) return given(other) - given(one);
    return way * (column.number ? one - other : String(one).localeCompare(String(other), "en", { numeric: true }));
  });
}

function drawSummary() {
  const rows = content.summary;
  const single = (key) => (key === "dataset" || key === "model") && kinds[key].length === 1;
  const used = COLUMNS.filter((column) => !single(column.key) && rows.some((row) => (column.value ? given(column.value(row)) : column.cell(row))));
  const header = used.map((column) => {
    const sortBy = () => {
      view.descending = view.sort === column.key && !view.descending;
      view.sort = column.key;
      drawSummary();
      document.querySelector(`#summary th[data-key="${column.key}"] button`).focus();
    };
    const sort = view.sort === column.key ? (view.descending ? "descending" : "ascending") : column.value ? "none" : null;
    const unit = column.unit ? make("span", { class: "unit" }, column.unit) : null;
    return make("th", { scope: "col", "data-key": column.key, "aria-sort": sort, class: column.number ? "number" : null },
      column.value ? make("button", { type: "button", onclick: sortBy }, column.title) : column.title, unit);
  });
  const body = sorted(visible(rows), used.find((column) => column.key === view.sort)).map((row) =>
    make("tr", {}, used.map((column) =>
      column.key === "sampler" ? make("th", { scope: "row" }, column.cell(row)) : make("td", { class: column.number ? "number" : null }, column.cell(row)))));
  fill("summary", make("thead", {}, make("tr", {}, header)), make("tbody", {}, body));
  const present = unique(rows.flatMap((row) => stageSeconds(row).map(([stage]) => stage)));
  fill("stages", Object.keys(content.stages).filter((stage) => present.includes(stage)).map((stage) =>
    make("span", {}, make("i", { style: { background: stageFill(stage) } }), content.stages[stage].words)));
}

function drawFilters() {
  const all = (kind) => ({ "": "all", ...Object.fromEntries(kinds[kind].map((one) => [one, one])) });
  const choose = (kind) => (value) => {
    view[kind] = value;
    drawSummary();
    drawTests();
  };
  fill("filters", ["dataset", "model"].filter((kind) => kinds[kind].length > 1).map((kind) =>
    select(kind[0].toUpperCase() + kind.slice(1), all(kind), "", choose(kind), `filter-${kind}`)));
}

/** What holds for the whole table, in words. */
function drawSummaryNote() {
  const notes = ["Metrics are those at each run's first best validation epoch; all numbers are over the runs that finished."];
  const targets = unique(content.summary.map((row) => row.target).filter(given));
  if (targets.length) {
    const start = content.summary.some((row) => row.with_preparation) ? "preparation and training" : "training";
    notes.push(`To target: median seconds of ${start} until validation reached ${targets.map((target) => `${digits(100 * target, 4)} %`).join(" or ")}.`);
  }
  if (content.summary.some((row) => row.seeds === 1)) notes.push("One seed has no error.");
  notes.push("A click on a column's name sorts by it.");
  fill("summary-note", notes.join(" "));
}

/* ---------- paired tests, in words ---------- */

function drawTests() {
  const tests = content.paired.filter((test) => (test.quantity ?? "test") === "test");
  const section = document.getElementById("tests");
  section.hidden = !tests.length;
  if (section.hidden) return;
  const samplers = kinds.sampler.filter((name) => tests.some((test) => test.sampler === name || test.other === name));
  if (!samplers.includes(view.baseline)) view.baseline = samplers[0];
  if (!document.getElementById("baseline")) {
    const choose = (value) => {
      view.baseline = value;
      drawTests();
    };
    fill("tests-filters", select("Beside", Object.fromEntries(samplers.map((one) => [one, one])), view.baseline, choose, "baseline"));
  }
  const parts = visible(content.panels).flatMap((panel) => {
    const mine = content.paired.filter((test) => test.dataset === panel.dataset && test.model === panel.model && [test.sampler, test.other].includes(view.baseline));
    const times = new Map(mine.filter((test) => test.quantity === "log_seconds_per_epoch").map((test) => [turned(test).other, turned(test)]));
    const tests = mine.filter((test) => test.quantity === "test").map(turned).sort((a, b) => b.difference - a.difference);
    if (!tests.length) return [];
    return [make("h3", {}, `${panel.dataset}, ${panel.model}`), make("ul", { class: "sentences" }, tests.map((test) => make("li", {}, inWords(test, times.get(test.other)))))];
  });
  const how = "Paired t tests over the seeds that both finished, which share split and first weights; ± is the standard error of the difference. p is after Holm's correction for all pairs of a dataset and model, and below 0.05 a difference is called clear. With few seeds a real one may stay unclear.";
  fill("tests-body", make("p", { class: "note" }, how), parts);
}

/** A test as one of the other sampler beside the baseline. */
function turned(test) {
  const first = test.sampler !== view.baseline;
  return { ...test, other: first ? test.sampler : test.other, difference: first ? test.mean_difference : -test.mean_difference };
}

function inWords(test, time) {
  const chance = (p) => (given(p) ? `p\u00a0${p < 0.001 ? "<\u00a00.001" : `=\u00a0${digits(p, 2)}`}` : "");
  const size = percent(Math.abs(test.difference)) + (given(test.standard_error) ? ` ± ${percent(test.standard_error)}` : "");
  const claim = Math.abs(test.difference) < 1e-12 ? `equals ${view.baseline}` : `is ${size} points ${test.difference > 0 ? "above" : "below"} ${view.baseline}`;
  const clear = given(test.p_holm) && test.p_holm < 0.05;
  const untested = test.seeds < 2 ? "one seed tells nothing" : "no spread to test by";
  const verdict = given(test.p_holm) ? [make(clear ? "strong" : "span", {}, clear ? "clear" : "unclear"), `, ${chance(test.p_holm)}`] : [untested];
  const pace = time ? [` An epoch takes ${digits(Math.exp(time.difference))}\u00a0× as long${given(time.p_holm) ? ` (${chance(time.p_holm)})` : ""}.`] : [];
  return [make("strong", {}, test.other), ` ${claim} over ${plural(test.seeds, "seed")}: `, verdict, ".", make("span", { class: "dim" }, pace)];
}

/* ---------- failures, figures, data, settings ---------- */

function drawFailures() {
  const names = { out_of_memory: "out of memory", diverged: "diverged", timeout: "timed out", crashed: "crashed", raised: "raised an error" };
  document.getElementById("failures").hidden = !content.failures.length;
  fill("failures-body", content.failures.map((run) => {
    const seeds = `seed${run.seeds.length > 1 ? "s" : ""} ${run.seeds.join(", ")}`;
    const who = `${run.sampler} on ${run.dataset} with ${run.model}, ${seeds}`;
    const log = run.log ? [make("p", { class: "note" }, "The end of its log:"), make("pre", { tabindex: 0 }, run.log)] : make("p", { class: "note" }, "It left no log in this folder.");
    return make("details", {}, make("summary", {}, make("span", { class: "badge" }, names[run.outcome] ?? run.outcome), " ", make("strong", {}, who), make("br"), run.reason), log);
  }));
}

function drawFigures() {
  document.getElementById("figures").hidden = !content.figures.length;
  fill("figures-body", content.figures.map(({ name, files }) => {
    const words = name.replaceAll("_vs_", " against ").replaceAll("_", " ");
    const title = words[0].toUpperCase() + words.slice(1);
    const kept = files.png ?? files.svg;
    // A file that the page would be too large with lies beside it.
    const links = Object.entries(files).flatMap(([kind, uri]) => [make("a", { href: uri ?? `${name}.${kind}`, download: `${name}.${kind}` }, kind.toUpperCase()), " "]);
    return make("figure", {}, kept ? make("img", { src: kept, alt: title }) : null, make("figcaption", {}, title, make("span", {}, "Download: ", links)));
  }));
}

function csv(rows) {
  const columns = unique(rows.flatMap(Object.keys));
  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const line = (values) => values.map((value) => (given(value) ? quoted(String(value)) : "")).join(",");
  return [line(columns), ...rows.map((row) => line(columns.map((column) => row[column])))].join("\n") + "\n";
}

function curveRows() {
  const values = ["epoch", ...Object.keys(X), ...Object.keys(Y)];
  return content.runs.flatMap((run) => {
    const { dataset, model, sampler, seed } = run;
    return run.epoch.map((_, i) => ({ dataset, model, sampler, seed, finished: run.ok, prepare_seconds: run.prepare,
      ...Object.fromEntries(unique(values).filter((name) => run[name]).map((name) => [name, run[name][i]])) }));
  });
}

function download(name, rows) {
  const save = () => {
    const url = URL.createObjectURL(new Blob([csv(rows())], { type: "text/csv" }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  return make("button", { type: "button", onclick: save }, name);
}

function drawDownloads() {
  fill("downloads", download("summary.csv", () => content.summary.map(({ by_stage, ...row }) => row)), content.paired.length ? download("paired.csv", () => content.paired) : null, download("curves.csv", curveRows));
}

/** Names with their values; long values have a line each, at the end. */
function facts(values) {
  const wide = (value) => value.length > 24;
  const entries = Object.entries(values).sort(([, one], [, other]) => wide(one) - wide(other));
  return make("dl", {}, entries.map(([key, value]) => make("div", { class: wide(value) ? "wide" : null }, make("dt", {}, key), make("dd", {}, value))));
}

function drawSetup() {
  const { common, own } = content.settings;
  const parts = [make("h3", {}, "Settings of all runs"), facts(common)];
  if (own.some(({ text }) => text)) {
    const rows = own.map(({ samplers, where, text }) => make("tr", {},
      make("td", {}, make("div", { class: "names" }, samplers.map((sampler) => make("span", { class: "name" }, swatch(sampler), sampler)))),
      make("td", {}, where || "all"), make("td", {}, text || "nothing else")));
    const head = make("tr", {}, ["sampler", "where", "settings"].map((title) => make("th", { scope: "col" }, title)));
    parts.push(make("h3", {}, "Settings that differ"), make("div", { class: "scroller", tabindex: 0, role: "region", "aria-label": "Settings that differ" }, make("table", {}, make("thead", {}, head), make("tbody", {}, rows))));
  }
  for (const { runs, facts: of, commands } of content.machines) {
    const named = Object.entries(of).map(([key, value]) => [key.replace("versions.", "").replaceAll("_", " "), value]);
    parts.push(make("h3", {}, content.machines.length > 1 ? `Machine of ${plural(runs, "run")}` : "Machine"), facts(Object.fromEntries(named)));
    if (commands.length) parts.push(make("pre", { tabindex: 0, "aria-label": "Commands" }, commands.join("\n")));
  }
  if (content.specification) parts.push(make("details", {}, make("summary", {}, "The specification, after flags"), make("pre", { tabindex: 0 }, content.specification)));
  fill("setup", parts);
}

function drawLead() {
  const counts = Object.entries(kinds).filter(([kind]) => kind !== "seed" || kinds.seed.length).map(([kind, names]) => plural(names.length, kind));
  const failed = content.runs.filter((run) => !run.ok).length;
  const outcome = failed ? `${failed} of ${plural(content.runs.length, "run")} failed` : `${plural(content.runs.length, "run")}, all finished`;
  fill("lead", `${counts.slice(1, 3).concat(counts[0], counts[3]).join(", ")}: ${outcome}.`);
  fill("version", content.version);
}

/* ---------- begin ---------- */

root.dataset.theme = remembered() ?? "";
if (!root.dataset.theme) delete root.dataset.theme;
document.getElementById("theme").addEventListener("click", () => {
  root.dataset.theme = remembered(isDark() ? "light" : "dark") ?? (isDark() ? "light" : "dark");
  showTheme();
});
prefersDark.addEventListener("change", showTheme);
addEventListener("beforeprint", () => {
  printing = true;
  drawPlots();
});
addEventListener("afterprint", () => {
  printing = false;
  drawPlots();
});

drawLead();
drawControls();
drawChips();
drawFilters();
drawSummary();
drawSummaryNote();
drawTests();
drawFailures();
drawFigures();
drawDownloads();
drawSetup();
showTheme();
