// The live page: what is drawn when, and the controls.

import { drawHourly, drawStream } from "./charts.js";
import { RANGES, begin, look, lookAnew, nowMs, onChange, readDetail, rememberInUrl, subjectName, useToken, view } from "./data.js";
import { drawDetail, listenToFeedback } from "./detail.js";
import { chosen, drawEpisodes, emptyWords } from "./episodes.js";
import { $, SEVERITIES, clockTime, count, element, isOpen, percent, say, span, watchWidths, worst } from "./format.js";
import { drawLanes, drawLegend } from "./lanes.js";
import { drawPatterns } from "./patterns.js";
import { drawServices } from "./services.js";

const STREAM = "the whole stream";

// ── drawing ────────────────────────────────────────────────────────────────────────────────────────────────────

function drawHeadline() {
  const at = $("headline");
  const open = [...view.episodes.values()].filter(isOpen);
  if (!view.loaded) {
    const isLost = view.link === "lost", fault = view.problem ? "The store cannot be read" : "The server cannot be reached";
    at.dataset.state = isLost ? "lost" : "loading";
    say("headline-text", isLost ? fault : "Reading the store…");
    say("headline-more", view.problem ?? "");
    return;
  }
  if (!open.length) {
    const known = view.clock && isFresh();
    at.dataset.state = known ? "calm" : "unknown";
    say("headline-text", !view.clock ? "No log has arrived yet" : known ? "All quiet" : `All was quiet at ${clockTime(view.clock, view.utc, view.clock)}`);
    say("headline-more", view.clock ? "No service is far from what is usual for it." : "The page shows the first one by itself.");
    return;
  }
  const severity = worst(open), names = [...new Set(open.map((episode) => episode.service ?? STREAM))];
  const oldest = open.map((episode) => episode.started_at).sort()[0];
  at.dataset.state = severity ?? "low";
  const services = names.filter((name) => name !== STREAM).length;
  const many = `${services} services${services < names.length ? ` and ${STREAM}` : ""}`;
  const all = names.length > 3 ? many : names.join(", ").replace(/, ([^,]*)$/, " and $1");
  say("headline-text", `${all[0].toUpperCase()}${all.slice(1)} ${names.length > 1 ? "are" : "is"} not as usual`);
  say("headline-more", `${open.length} open ${open.length > 1 ? "anomalies" : "anomaly"}, the worst ${severity ?? "unrated"}. The oldest began ${span(nowMs() - Date.parse(oldest))} ago.`);
}

function subject() {
  const name = subjectName();
  return view.services?.services.find((service) => service.service === name) ?? view.services?.stream;
}

function drawTiles() {
  const service = subject(), status = view.status, stream = service && service.service === "";
  if (service) {
    const name = stream ? "all services" : service.service;
    say("volume-of", name);
    say("errors-of", name);
    say("t-rate", count(service.log_rate));
    say("t-errors", percent(service.error_rate));
    $("t-errors").classList.toggle("bad", service.baseline?.error_rate != null && service.error_rate > 3 * Math.max(service.baseline.error_rate, 0.01));
    drawStream(service, name);
  }
  if (!status) return;
  const behind = status.behind_ms;
  say("t-lag", behind == null ? "–" : behind < 10_000 ? `${(Math.max(0, behind) / 1000).toFixed(1)} s` : span(behind));
  say("t-lag-more", behind > 3600e3 ? "old logs, or stopped" : status.pipeline);
  $("t-lag").classList.toggle("bad", status.pipeline === "stalled");
  say("t-through", count(status.logs_per_second));
  say("t-dead", count(status.dead_letters));
  $("t-dead").classList.toggle("bad", status.dead_letters > 0);
  const model = view.models?.serving;
  say("t-model", model?.version ?? "–");
  // How a model comes to be, while that is news: `training: 120 of 360 windows`, `failed: …`.
  const { state, detail } = view.models ?? {};
  const news = state && state !== "ready" ? [state, detail].filter(Boolean).join(": ") : null;
  say("t-model-more", news ?? (model ? model.name : "rules alone judge"));
  const costs = view.costs;
  say("t-costs", costs ? `$${costs.estimated_costs_usd.total.toFixed(2)}` : "–");
  say("t-costs-more", costs ? costs.status.replaceAll("_", " ") : "");
  drawPartitions(status);
}

function drawPartitions(status) {
  say("partitions-count", `${status.partitions.length} partitions, ${count(status.commits)} commits`);
  if (!$("pipeline-more").open) return;
  const shown = status.partitions.slice(0, 64);
  const rows = shown.map((partition) => {
    const sinks = status.sinks.filter((sink) => sink.topic === partition.topic && sink.partition === partition.partition);
    return element("tr", {}, element("th", { scope: "row" }, `${partition.topic}/${partition.partition}`),
      element("td", {}, clockTime(partition.clock, view.utc, view.clock)), element("td", { class: "num" }, partition.behind_ms == null ? "–" : span(partition.behind_ms)),
      element("td", {}, sinks.map((sink) => `${sink.sink} ${sink.next_offset ?? "–"}`).join(", ")));
  });
  $("partitions").replaceChildren(...rows);
}

const isStalled = () => view.status != null && view.status.pipeline !== "running";
const isFresh = () => !["lost", "stale"].includes(view.link) && !isStalled();

function drawLink() {
  const stalled = view.link === "live" && isStalled();
  const state = view.paused ? "paused" : stalled ? "stale" : view.link;
  $("link").dataset.state = state;
  const words = { live: "Live", paused: "Paused", lost: "Disconnected, trying again", connecting: "Connecting", stale: stalled ? `Pipeline ${view.status.pipeline}` : "Store unavailable, numbers may be old" };
  say("link-text", view.needsToken ? "A token is needed" : words[state]);
  say("clock", clockTime(view.clock, view.utc, view.clock));
  say("final", clockTime(view.final, view.utc, view.clock));
  $("token-form").hidden = !view.needsToken;
  const open = [...view.episodes.values()].filter(isOpen).length;
  const title = open ? `(${open}) smartlog` : "smartlog";
  if (document.title !== title) document.title = title;
}

function drawAll() {
  const began = performance.now();
  drawHeadline();
  drawLanes(chosen(), select, emptyWords);
  drawEpisodes(select);
  drawTiles();
  drawHourly();
  drawServices(chooseService);
  drawPatterns(draw);
  drawDetail();
  drawLink();
  // For those who measure it.
  performance.measure("smartlog:update", { start: began, end: performance.now() });
}

// Once a frame at most: all of it, or the clock alone.
let next = null;
function drawNext(what) {
  if (view.paused) { drawLink(); return; }
  if (!next) requestAnimationFrame(() => { const due = next; next = null; due(); });
  if (next !== drawAll) next = what;
}
const draw = () => drawNext(drawAll);

// ── controls ───────────────────────────────────────────────────────────────────────────────────────────────────

let cameFrom = null;
function select(id) {
  cameFrom = document.activeElement;
  view.selected = view.selected === id ? null : id;
  view.detail = null;
  rememberInUrl();
  lookAnew();
  if (view.selected) readDetail(view.selected).catch((refused) => say("detail-said", refused.message));
  drawNow();
}
function closeDetail() {
  if (!view.selected) return;
  const id = view.selected;
  view.selected = null;
  rememberInUrl();
  drawNow();
  (cameFrom?.isConnected ? cameFrom : document.querySelector(`.row[data-id="${id}"]`) ?? $("episodes")).focus();
}
function chooseService(name) {
  view.service = view.service === name ? "" : name;
  $("filter").value = view.service;
  changed();
}
// What a user does is shown also while the page is paused.
function drawNow() { drawControls(); drawAll(); }
function changed() { rememberInUrl(); drawNow(); lookAnew(); }

function drawControls() {
  for (const button of document.querySelectorAll("[data-show]")) button.setAttribute("aria-pressed", String(button.dataset.show === view.show));
  for (const button of document.querySelectorAll("[data-severity]")) button.setAttribute("aria-pressed", String(view.severity.has(button.dataset.severity)));
  $("range").value = view.range;
  say("zone", view.utc ? "UTC" : "Local");
  say("pause", view.paused ? "Resume" : "Pause");
  $("pause").setAttribute("aria-pressed", String(view.paused));
  $("clear").hidden = !(view.service || view.severity.size || view.show !== "recent");
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  say("theme", name === "dark" ? "Light" : "Dark");
}

function listenToControls() {
  $("theme").addEventListener("click", () => {
    const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("smartlog.theme", next);
    theme(next);
    drawNow();
  });
  $("zone").addEventListener("click", () => {
    view.utc = !view.utc;
    localStorage.setItem("smartlog.zone", view.utc ? "utc" : "local");
    drawNow();
  });
  $("pause").addEventListener("click", () => {
    view.paused = !view.paused;
    drawControls();
    drawLink();
    if (!view.paused) { look(); draw(); }
  });
  $("range").addEventListener("change", () => { view.range = $("range").value; changed(); begin(); });
  for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => { view.show = button.dataset.show; changed(); });
  for (const button of document.querySelectorAll("[data-severity]")) {
    button.addEventListener("click", () => {
      if (!view.severity.delete(button.dataset.severity)) view.severity.add(button.dataset.severity);
      changed();
    });
  }
  $("filter").value = view.service;
  $("filter").addEventListener("input", () => { view.service = $("filter").value.trim(); changed(); });
  $("clear").addEventListener("click", () => {
    Object.assign(view, { service: "", show: "recent", severity: new Set() });
    $("filter").value = "";
    changed();
    $("filter").focus();
  });
  $("detail-close").addEventListener("click", closeDetail);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") closeDetail(); });
  $("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const token = $("token").value.trim();
    $("token").value = "";
    if (token) useToken(token);
  });
  $("pipeline-more").addEventListener("toggle", () => draw());
  watchWidths(["lanes", "volume", "errors", "hourly"], () => draw());
}

theme(localStorage.getItem("smartlog.theme") || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
$("range").replaceChildren(...Object.keys(RANGES).map((range) => element("option", { value: range }, `Last ${range.replace("m", " min").replace("h", " h").replace("d", " days")}`)));
$("severities").replaceChildren(...SEVERITIES.map((severity) => element("button", { type: "button", "data-severity": severity, "aria-pressed": "false" }, severity)));
drawLegend();
listenToControls();
listenToFeedback();
drawControls();
onChange(draw, () => drawNext(drawLink));
fetch("/health").then((answer) => answer.json()).then((health) => say("version", `smartlog ${health.version}`)).catch(() => {});
begin();
