// The live page. Reads the same API as everybody else; the stream says when to look again.
//
//   /api/v1/anomalies ─▶ episodes (by id) ◀─ anomaly events of the stream
//   /api/v1/services, /api/v1/status ─▶ tiles, table   (asked again when the stream's clock moves)

const SVG = "http://www.w3.org/2000/svg";
const RANK = { low: 1, medium: 2, high: 3, critical: 4 };
const TYPES = {
  error_rate_spike: "error rate spike",
  log_volume_spike: "volume spike",
  log_volume_drop: "volume drop",
  multivariate_outlier: "unusual behaviour",
  new_pattern: "new message pattern",
};
const RECENT_ROWS = 100;
const MIN_GAP_MS = 1500; // between two looks at the services
const LIFE_MS = [60 * 60e3, 24 * 3600e3]; // the life-lines show the last hour, or back to the oldest open anomaly of a day

const $ = (id) => document.getElementById(id);
const view = {
  episodes: new Map(), seq: 0, clock: null, final: null, services: null, status: null, details: new Map(),
  open: new Set(), link: "connecting", paused: false,
  show: new URLSearchParams(location.search).get("show") || "recent",
  service: new URLSearchParams(location.search).get("service") || "",
  utc: localStorage.getItem("smartlog.zone") !== "local",
};

// ── small tools ────────────────────────────────────────────────────────────────────────────────────────────────

function element(tag, attributes = {}, ...children) {
  const made = attributes.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "svg" || value == null) continue;
    if (name === "on") Object.entries(value).forEach(([event, act]) => made.addEventListener(event, act));
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}
const svg = (tag, attributes, ...children) => element(tag, { svg: true, ...attributes }, ...children);
const say = (id, text) => { const at = $(id); if (at.textContent !== text) at.textContent = text; };

function count(value) {
  if (value == null) return "–";
  if (value >= 10_000) return Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(value);
  return Intl.NumberFormat("en", { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);
}
function percent(share) {
  if (share == null) return "–";
  const value = share * 100;
  return `${value.toFixed(value > 0 && value < 0.1 ? 2 : value < 10 ? 1 : 0)} %`;
}
function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 90 * 60) return `${Math.round(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}
function clockTime(iso, withDay = false) {
  if (!iso) return "–";
  const timeZone = view.utc ? "UTC" : undefined;
  const at = new Date(iso);
  const day = new Intl.DateTimeFormat("en-CA", { timeZone, dateStyle: "short" });
  const hour = new Intl.DateTimeFormat("en-GB", { timeZone, timeStyle: "medium" }).format(at);
  const isToday = view.clock && day.format(at) === day.format(new Date(view.clock));
  return withDay || !isToday ? `${day.format(at)} ${hour}` : hour;
}
const isOpen = (episode) => episode.status === "provisional" || episode.status === "open";
const isShare = (episode) => episode.type === "error_rate_spike";
const UNITS = { error_rate_spike: "of logs are errors", multivariate_outlier: "score" };
const amount = (episode, value) => {
  if (isShare(episode)) return percent(value);
  return episode.type === "multivariate_outlier" && value != null ? value.toFixed(2) : count(value);
};
const nowMs = () => (view.clock ? Date.parse(view.clock) : Date.now());

// ── drawing ────────────────────────────────────────────────────────────────────────────────────────────────────

function bars(minutes, width, height, className, label) {
  const top = Math.max(1, ...minutes.map((minute) => minute.logs));
  const step = width / Math.max(1, minutes.length);
  const drawn = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: className, "aria-hidden": label ? null : "true" });
  minutes.forEach((minute, i) => {
    // The minute that the clock is in is not over: it must not look like a drop.
    const partial = i === minutes.length - 1 ? " partial" : "";
    const tall = (minute.logs / top) * (height - 2);
    const bad = (minute.errors / top) * (height - 2);
    const x = i * step + step * 0.1, wide = step * 0.8;
    if (minute.logs > 0) drawn.append(svg("rect", { class: `bars${partial}`, x, width: wide, y: height - Math.max(1, tall), height: Math.max(1, tall) }));
    if (minute.errors > 0) drawn.append(svg("rect", { class: `bars-bad${partial}`, x, width: wide, y: height - Math.max(1, bad), height: Math.max(1, bad) }));
  });
  drawn.append(svg("line", { class: "axis", x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5 }));
  return drawn;
}

function lifeLine(episode, from, to) {
  const place = (iso) => Math.min(1, Math.max(0, (Date.parse(iso) - from) / (to - from))) * 100;
  const start = place(episode.started_at);
  const end = isOpen(episode) ? 100 : Math.max(start, place(episode.ended_at || episode.last_seen));
  const kind = isOpen(episode) ? episode.severity : "";
  const drawn = svg("svg", { role: "img", "aria-label": `from ${clockTime(episode.started_at)} to ${isOpen(episode) ? "now" : clockTime(episode.ended_at || episode.last_seen)}` });
  drawn.append(svg("line", { class: "rail", x1: "0%", x2: "100%", y1: 8, y2: 8 }));
  if (isOpen(episode) || Date.parse(episode.ended_at || episode.last_seen) > from) drawn.append(svg("line", { class: `span ${kind}`, x1: `${start}%`, x2: `${Math.max(end, start + 0.01)}%`, y1: 8, y2: 8 }));
  if (isOpen(episode)) drawn.append(svg("circle", { class: "nowmark", cx: "100%", cy: 8, r: 2.5 }));
  return drawn;
}

function gauge(episode) {
  // Typical against actual on one scale; the mark is what is usual.
  const actual = extreme(episode), usual = episode.baseline ?? 0;
  const top = Math.max(actual, usual, episode.threshold ?? 0) || 1;
  const drawn = element("div", { class: `gauge ${episode.severity}`, "aria-hidden": "true" }, element("i"), element("u"));
  drawn.firstChild.style.width = `${(actual / top) * 100}%`;
  drawn.lastChild.style.left = `calc(${(usual / top) * 100}% - ${usual >= top ? 2 : 0}px)`;
  return drawn;
}
const extreme = (episode) => episode.peak_value ?? episode.metric_value ?? 0;

function fact(episode) {
  if (episode.metric_value == null) return element("div", { class: "fact" }, episode.description || "");
  const actual = extreme(episode), usual = episode.baseline;
  const unit = UNITS[episode.type] || "logs / min";
  const never = episode.type === "new_pattern" && usual === 0;
  const ratio = usual > 0 && actual > 0 ? actual / usual : null;
  const times = ratio == null ? "" : ratio >= 1 ? `, ${ratio.toFixed(ratio < 10 ? 1 : 0)} × usual` : `, ${percent(ratio)} of usual`;
  return element("div", { class: "fact" },
    element("b", {}, amount(episode, actual)), ` ${unit}`,
    element("span", { class: "times" }, never ? " · never before" : usual == null ? "" : ` · usual ${amount(episode, usual)}${times}`),
    gauge(episode));
}

function episodeRow(episode, from, to) {
  const opened = view.open.has(episode.id);
  const until = isOpen(episode) ? nowMs() : Date.parse(episode.ended_at || episode.last_seen);
  const lasted = span(until - Date.parse(episode.started_at));
  const row = element("button", { type: "button", class: "row", "aria-expanded": opened, "aria-controls": `more-${episode.id}`, "data-id": episode.id, on: { click: () => toggle(episode.id) } },
    element("span", { class: `chip ${episode.severity}` }, isOpen(episode) ? episode.severity || "" : episode.status),
    element("span", { class: "who" }, element("strong", {}, episode.service ?? "Whole stream"),
      element("span", {}, (TYPES[episode.type] || episode.type) + (episode.status === "provisional" ? " · provisional" : ""))),
    fact(episode),
    element("div", { class: "life" }, lifeLine(episode, from, to),
      element("div", { class: "ends" }, element("time", { datetime: episode.started_at }, clockTime(episode.started_at)),
        element("span", {}, isOpen(episode) ? `for ${lasted}` : `${lasted}, ended ${clockTime(episode.ended_at || episode.last_seen)}`))),
    element("span", { class: "turn", "aria-hidden": "true" }, "›"));
  const item = element("li", { class: `episode ${isOpen(episode) ? "" : "closed"}` }, row);
  if (opened) item.append(more(episode));
  return item;
}

function more(episode) {
  const box = element("div", { class: "more", id: `more-${episode.id}` });
  box.append(element("p", { class: "says" }, episode.description || "No description."));
  const detail = view.details.get(episode.id);
  if (!detail) { box.append(element("p", { class: "muted" }, "Reading…")); return box; }
  box.append(element("div", {}, element("h3", {}, "Typical against actual"), explanation(detail, episode)));
  const story = element("ol", { class: "story" }, ...detail.events.slice(-12).map((event) =>
    element("li", {}, element("time", { datetime: event.clock }, clockTime(event.clock)), event.kind, event.reason ? `: ${event.reason}` : "")));
  box.append(element("div", {}, element("h3", {}, "History"), story));
  return box;
}

function explanation(detail, episode) {
  const said = detail.explanation || {};
  const typical = said.typical, actual = said.actual;
  const rows = [["this metric", episode.baseline, episode.metric_value]];
  if (typical && actual && typeof typical === "object" && typeof actual === "object")
    for (const name of Object.keys(actual)) rows.push([name.replaceAll("_", " "), typical[name], actual[name]]);
  const show = (value) => (typeof value === "number" ? Number(value.toPrecision(4)).toLocaleString("en") : value == null ? "–" : String(value));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...["", "typical", "actual"].map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows.map(([name, usual, seen]) => element("tr", {}, element("td", {}, name), element("td", { class: "num" }, show(usual)), element("td", { class: "num" }, show(seen))))));
  const rest = Object.fromEntries(Object.entries(said).filter(([name]) => name !== "typical" && name !== "actual"));
  const facts = [`threshold ${show(episode.threshold)}`, episode.score == null ? null : `forest score ${show(episode.score)}`, episode.model_version ? `model ${episode.model_version}` : null];
  return element("div", {}, table, element("p", { class: "muted" }, facts.filter(Boolean).join(" · ")),
    Object.keys(rest).length ? element("pre", {}, JSON.stringify(rest, null, 1)) : null);
}

function shown() {
  const wanted = view.service.trim().toLowerCase();
  const all = [...view.episodes.values()].filter((episode) =>
    (!wanted || (episode.service ?? "whole stream").toLowerCase().includes(wanted)) &&
    (view.show === "all" || (view.show === "open" ? isOpen(episode) : episode.status !== "retracted")));
  const rank = (episode) => (isOpen(episode) ? 10 + (RANK[episode.severity] || 0) : 0);
  return all.sort((a, b) => rank(b) - rank(a) || b.detected_at.localeCompare(a.detected_at) || b.id - a.id).slice(0, RECENT_ROWS);
}

function drawEpisodes() {
  const list = shown();
  const to = nowMs();
  const oldest = Math.min(to, ...list.filter(isOpen).map((episode) => Date.parse(episode.started_at)));
  const from = Math.max(to - LIFE_MS[1], Math.min(to - LIFE_MS[0], oldest - (to - oldest) * 0.05));
  say("episodes-scale", list.length ? `life-lines: the last ${span(to - from)}` : "");
  const focused = document.activeElement?.dataset?.id;
  $("episodes").replaceChildren(...list.map((episode) => episodeRow(episode, from, to)));
  if (focused) $("episodes").querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
  $("episodes-empty").hidden = list.length > 0;
  const what = view.service ? ` for “${view.service}”` : "";
  say("episodes-empty", view.show === "open" ? `Nothing is open${what}.` : `No anomaly yet${what}.`);
}

function drawHeadline() {
  const open = [...view.episodes.values()].filter(isOpen).sort((a, b) => (RANK[b.severity] || 0) - (RANK[a.severity] || 0));
  const at = $("headline");
  if (view.link === "lost") {
    at.dataset.state = "lost";
    say("headline-text", "Not connected");
    say("headline-more", "What you see is from before. Trying again.");
    return;
  }
  const services = view.services?.total ?? 0;
  if (open.length === 0) {
    at.dataset.state = view.clock ? "calm" : "loading";
    say("headline-text", view.clock ? "All quiet" : "Waiting for the first log");
    const last = [...view.episodes.values()].filter((episode) => episode.ended_at && episode.status !== "retracted").map((episode) => episode.ended_at).sort().pop();
    say("headline-more", view.clock ? `${services} ${services === 1 ? "service" : "services"} as usual${last ? `; the last anomaly ended ${span(nowMs() - Date.parse(last))} ago` : ""}.` : "The pipeline has not reported yet; the page fills by itself.");
    return;
  }
  const worst = open[0];
  at.dataset.state = worst.severity || "medium";
  const where = [...new Set(open.map((episode) => episode.service ?? "the whole stream"))];
  const names = where.length <= 2 ? where.join(" and ") : `${where.slice(0, 2).join(", ")} and ${where.length - 2} more`;
  const since = open.map((episode) => episode.started_at).sort()[0];
  say("headline-text", `${open.length} open ${open.length === 1 ? "anomaly" : "anomalies"}: ${names}`);
  const what = TYPES[worst.type] || worst.type;
  say("headline-more", `${what[0].toUpperCase()}${what.slice(1)} in ${worst.service ?? "the whole stream"}, ${worst.severity}. The oldest began ${span(nowMs() - Date.parse(since))} ago, at ${clockTime(since)}.`);
}

function drawTiles() {
  const stream = view.services?.stream, status = view.status;
  if (stream) {
    say("t-rate", count(stream.log_rate));
    say("t-rate-more", stream.baseline ? `usual ${count(stream.baseline.log_rate)}` : status ? `${count(status.logs_per_second)} / s` : " ");
    say("t-errors", percent(stream.error_rate));
    $("t-errors").classList.toggle("bad", stream.baseline?.error_rate != null && stream.error_rate > 3 * stream.baseline.error_rate);
    say("t-errors-more", stream.baseline?.error_rate != null ? `usual ${percent(stream.baseline.error_rate)}` : `${count(stream.error_count)} in 5 min`);
    const newest = stream.minutes.at(-1), peak = Math.max(...stream.minutes.map((minute) => minute.logs));
    $("volume").replaceChildren(bars(stream.minutes, 600, 62, "", true));
    $("volume").setAttribute("aria-label", `Logs per minute over 15 minutes: most ${count(peak)}, this minute so far ${count(newest?.logs)}`);
  }
  if (status) {
    const old = status.behind_ms > 3600e3;
    say("t-lag", status.behind_ms == null ? "–" : status.behind_ms < 10_000 ? `${(Math.max(0, status.behind_ms) / 1000).toFixed(1)} s` : span(status.behind_ms));
    say("t-lag-more", old ? "replaying old logs, or stopped" : status.pipeline);
    $("t-lag").classList.toggle("bad", status.pipeline === "stalled");
    say("t-dead", count(status.dead_letters));
  }
}

function serviceRow(service) {
  const worst = service.open_anomalies.reduce((a, b) => ((RANK[b.severity] || 0) > (RANK[a] || 0) ? b.severity : a), null);
  const usual = service.baseline;
  const badErrors = usual?.error_rate != null && service.error_rate > 3 * Math.max(usual.error_rate, 0.01);
  const badRate = usual && (service.log_rate > 5 * usual.log_rate || service.log_rate < 0.1 * usual.log_rate);
  const state = worst ? `open anomaly, ${worst}` : service.state;
  return element("tr", {},
    element("td", {}, element("span", { class: "name" }, element("span", { class: `dot ${worst || service.state}`, role: "img", "aria-label": state, title: state }), service.service)),
    element("td", {}, bars(service.minutes, 150, 24, "spark")),
    element("td", { class: badRate ? "num bad" : "num" }, count(service.log_rate)), element("td", { class: "num usual" }, count(usual?.log_rate)),
    element("td", { class: badErrors ? "num bad" : "num" }, percent(service.error_rate)), element("td", { class: "num usual" }, percent(usual?.error_rate)),
    element("td", {}, service.last_seen ? element("time", { datetime: service.last_seen }, clockTime(service.last_seen)) : "–"));
}

function drawServices() {
  const page = view.services;
  if (!page) return;
  $("services").replaceChildren(...page.services.map(serviceRow));
  $("services-empty").hidden = page.services.length > 0;
  say("services-count", page.total > page.services.length ? `the first ${page.services.length} of ${page.total}` : `${page.total}`);
}

function drawLink() {
  const at = $("link");
  const state = view.paused ? "paused" : view.link === "live" && view.status && view.status.pipeline !== "running" ? "stale" : view.link;
  at.dataset.state = state;
  const words = { live: "Live", paused: "Paused", lost: "Disconnected, trying again", connecting: "Connecting", stale: view.link === "live" ? `Pipeline ${view.status?.pipeline}` : "Store unavailable, numbers may be old" };
  say("link-text", words[state]);
  say("clock", clockTime(view.clock));
  say("final", clockTime(view.final));
  document.title = (() => { const open = [...view.episodes.values()].filter(isOpen).length; return open ? `(${open}) smartlog` : "smartlog"; })();
}

let drawing = false;
function draw() {
  if (drawing || view.paused) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; drawHeadline(); drawEpisodes(); drawTiles(); drawServices(); drawLink(); });
}

// ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────

async function read(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response.json();
}

async function readEpisodes() {
  const [recent, open] = await Promise.all([read("/api/v1/anomalies?per_page=100"), read("/api/v1/anomalies?status=provisional,open&per_page=200")]);
  view.episodes.clear();
  for (const episode of [...recent.anomalies, ...open.anomalies]) view.episodes.set(episode.id, episode);
  // The older of the two: what came between is in the stream again, and changes nothing twice.
  view.seq = Math.min(recent.seq, open.seq);
  view.clock = recent.clock;
  view.final = recent.complete_through;
}

async function readDetail(id) {
  try { view.details.set(id, await read(`/api/v1/anomalies/${id}`)); draw(); } catch { /* the row stays as it is */ }
}

let lastLook = 0, waiting = null;
function lookAtServices() {
  if (waiting || view.paused) return;
  waiting = setTimeout(async () => {
    waiting = null;
    lastLook = performance.now();
    try {
      [view.services, view.status] = await Promise.all([read("/api/v1/services?per_page=200"), read("/api/v1/status")]);
      if (view.link === "stale") view.link = "live";
    } catch { if (view.link === "live") view.link = "stale"; }
    draw();
  }, Math.max(0, lastLook + MIN_GAP_MS - performance.now()));
}

function toggle(id) {
  if (!view.open.delete(id)) { view.open.add(id); readDetail(id); }
  draw();
}

function prune() {
  // The page keeps what is open and the newest of the rest.
  if (view.episodes.size <= 1000) return;
  const closed = [...view.episodes.values()].filter((episode) => !isOpen(episode)).sort((a, b) => a.id - b.id);
  closed.slice(0, view.episodes.size - 800).forEach((episode) => view.episodes.delete(episode.id));
}

let source = null;
function listen() {
  source?.close();
  source = new EventSource(`/api/v1/anomalies/stream?last_event_id=${view.seq}`);
  source.addEventListener("open", () => { view.link = "live"; lookAtServices(); draw(); });
  source.addEventListener("anomaly", (event) => {
    const change = JSON.parse(event.data);
    view.seq = change.seq;
    const known = view.episodes.get(change.anomaly_id);
    if (change.anomaly && (!known || known.revision <= change.revision)) view.episodes.set(change.anomaly_id, change.anomaly);
    if (view.open.has(change.anomaly_id)) readDetail(change.anomaly_id);
    prune();
    lookAtServices();
    draw();
  });
  source.addEventListener("clock", (event) => {
    const now = JSON.parse(event.data);
    view.clock = now.clock; view.final = now.complete_through;
    view.link = "live";
    lookAtServices();
    draw();
  });
  source.addEventListener("stale", () => { view.link = "stale"; draw(); });
  source.addEventListener("reset", () => start());
  source.addEventListener("error", () => {
    view.link = "lost";
    draw();
    // A browser does not come back by itself after an answer that is no stream (503 while the store is away).
    if (source.readyState === EventSource.CLOSED) setTimeout(start, 2000);
  });
}

async function start() {
  source?.close();
  try {
    await readEpisodes();
    listen();
    lookAtServices();
  } catch {
    view.link = "lost";
    setTimeout(start, 2000);
  }
  draw();
}

// ── controls ───────────────────────────────────────────────────────────────────────────────────────────────────

function theme(name) {
  document.documentElement.dataset.theme = name;
  say("theme", name === "dark" ? "Light" : "Dark");
}
function rememberInUrl() {
  const query = new URLSearchParams();
  if (view.show !== "recent") query.set("show", view.show);
  if (view.service) query.set("service", view.service);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}
function drawControls() {
  document.querySelectorAll("[data-show]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.show === view.show));
  say("zone", view.utc ? "UTC" : "Local");
}

theme(localStorage.getItem("smartlog.theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
$("theme").addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("smartlog.theme", next);
  theme(next);
});
$("zone").addEventListener("click", () => {
  view.utc = !view.utc;
  localStorage.setItem("smartlog.zone", view.utc ? "utc" : "local");
  drawControls();
  draw();
});
$("pause").addEventListener("click", () => {
  view.paused = !view.paused;
  $("pause").setAttribute("aria-pressed", view.paused);
  say("pause", view.paused ? "Resume" : "Pause");
  drawLink();
  if (!view.paused) { lookAtServices(); draw(); }
});
document.querySelectorAll("[data-show]").forEach((button) => button.addEventListener("click", () => {
  view.show = button.dataset.show;
  rememberInUrl();
  drawControls();
  draw();
}));
$("filter").value = view.service;
$("filter").addEventListener("input", () => { view.service = $("filter").value; rememberInUrl(); draw(); });
drawControls();
read("/health").then((health) => say("version", `smartlog ${health.version}`)).catch(() => {});
start();
