// What the page knows, and how it learns it: the same API that everybody else reads.
//
//   /api/v1/anomalies ─▶ episodes (by id) ◀─ anomaly events of the stream
//   /api/v1/services, /status, /metrics/hourly, … ─▶ asked again when the stream's clock moves, at most every 1.5 s

import { isOpen } from "./format.js";

export const RANGES = { "15m": 15 * 60e3, "1h": 3600e3, "6h": 6 * 3600e3, "24h": 24 * 3600e3, "7d": 7 * 86400e3 };
const MIN_GAP_MS = 1500; // between two looks at the services
const HOURLY_GAP_MS = 15_000; // between two looks at what changes slowly
const MAX_EPISODES = 2000;

const query = new URLSearchParams(location.search);
const chosen = (name, words, otherwise) => (words.includes(query.get(name)) ? query.get(name) : otherwise);

export const view = {
  // what was read
  episodes: new Map(), seq: 0, clock: null, final: null, services: null, status: null, hourly: null, costs: null, models: null,
  readThrough: null, detail: null, logs: null, link: "connecting", problem: null, needsToken: false, loaded: false,
  // what was chosen; all of it but the zone is in the URL
  range: chosen("range", Object.keys(RANGES), "1h"),
  show: chosen("show", ["open", "recent", "all"], "recent"),
  severity: new Set((query.get("severity") || "").split(",").filter(Boolean)),
  service: query.get("service") || "",
  selected: Number(query.get("anomaly")) || null,
  utc: localStorage.getItem("smartlog.zone") !== "local",
  paused: false,
};
export const nowMs = () => (view.clock ? Date.parse(view.clock) : Date.now());
export const since = () => new Date(nowMs() - RANGES[view.range]).toISOString();

export function rememberInUrl() {
  const made = new URLSearchParams();
  if (view.range !== "1h") made.set("range", view.range);
  if (view.show !== "recent") made.set("show", view.show);
  if (view.severity.size) made.set("severity", [...view.severity].join(","));
  if (view.service) made.set("service", view.service);
  if (view.selected) made.set("anomaly", view.selected);
  history.replaceState(null, "", made.size ? `?${made}` : location.pathname);
}

// ── asking ─────────────────────────────────────────────────────────────────────────────────────────────────────

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail || `the API answered ${status}`);
    this.status = status;
  }
}

function headers(more) {
  const token = sessionStorage.getItem("smartlog.token");
  return token ? { ...more, authorization: `Bearer ${token}` } : more;
}

async function checked(response) {
  if (response.ok) return response;
  const problem = await response.json().catch(() => null);
  if (response.status === 401) view.needsToken = true;
  throw new Refused(response.status, problem);
}

export async function read(path) {
  return (await checked(await fetch(path, { headers: headers({ accept: "application/json" }) }))).json();
}

export async function giveFeedback(id, verdict, note) {
  const body = JSON.stringify(note ? { verdict, note } : { verdict });
  await checked(await fetch(`/api/v1/anomalies/${id}/feedback`, { method: "POST", headers: headers({ "content-type": "application/json" }), body }));
  await readDetail(id);
}

export function useToken(token) {
  sessionStorage.setItem("smartlog.token", token);
  view.needsToken = false;
  begin();
}

// ── keeping ────────────────────────────────────────────────────────────────────────────────────────────────────

let redraw = () => {}, redrawClock = () => {};
export const onChange = (draw, drawClock) => { [redraw, redrawClock] = [draw, drawClock]; };

async function readEpisodes() {
  // Ranges end at the clock of the data, which may be a replay's.
  view.clock ??= (await read("/api/v1/status")).clock;
  const from = since();
  const [recent, open] = await Promise.all([
    read(`/api/v1/anomalies?per_page=500&since=${encodeURIComponent(from)}`),
    read("/api/v1/anomalies?status=provisional,open&per_page=500"),
  ]);
  view.episodes.clear();
  for (const episode of [...recent.anomalies, ...open.anomalies]) view.episodes.set(episode.id, episode);
  // The older of the two: what came between is in the stream again, and changes nothing twice.
  view.seq = Math.min(recent.seq, open.seq);
  [view.clock, view.final] = [recent.clock, recent.complete_through];
}

export async function readDetail(id) {
  const detail = await read(`/api/v1/anomalies/${id}`);
  if (view.selected !== id) return;
  view.detail = detail;
  const known = view.episodes.get(id);
  if (known) known.feedback = detail.feedback;
  redraw();
}

// The lines ± 10 minutes around its beginning; errors first where the errors are the matter.
// `only`: further filters, as a host.
export async function readLogs(episode, onlyErrors, only) {
  const at = Date.parse(episode.started_at), minutes = 10 * 60e3;
  const asked = new URLSearchParams({
    since: new Date(at - minutes).toISOString(), until: new Date(at + minutes).toISOString(), per_page: 100, sort: "timestamp",
  });
  if (episode.service) asked.set("service", episode.service);
  if (onlyErrors) asked.set("level", "ERROR,FATAL");
  Object.entries(only ?? {}).forEach(([name, value]) => asked.set(name, value));
  const page = await read(`/api/v1/logs?${asked}`);
  if (view.selected === episode.id) { view.logs = { ...page, onlyErrors, only, id: episode.id, query: `/api/v1/logs?${asked}` }; redraw(); }
}

// What changes slowly: hours, of all services and of the one that is looked at, costs, models.
export async function readSlowly() {
  const from = new Date(nowMs() - Math.max(RANGES[view.range], 24 * 3600e3) - 3600e3).toISOString();
  const hours = (more) => read(`/api/v1/metrics/hourly?since=${from}&per_page=1000&sort=hour&${more}`).then((page) => page.metrics);
  const service = subjectName();
  const [hourly, rows, costs, models] = await Promise.all([
    hours("by=hour"), service ? hours(`service=${encodeURIComponent(service)}`) : null, read("/api/v1/costs/estimate"), read("/api/v1/models"),
  ]);
  Object.assign(view, { hourly, hourlyOf: rows && { service, rows }, costs, models });
  redraw();
}

// Whose line the charts show: that of the anomaly that is looked at, of the one service that the filter leaves; "": all.
export function subjectName() {
  const chosen = view.episodes.get(view.selected);
  if (chosen) return chosen.service ?? "";
  const names = (view.services?.services ?? []).map((service) => service.service).filter((name) => name.includes(view.service));
  return view.service && (names.includes(view.service) ? view.service : names.length === 1 ? names[0] : "");
}

let lastLook = 0, lastSlow = 0, waiting = null, reading = false, again = false;
export function look() {
  if (view.paused) return;
  if (reading) again = true; // what is being read may be older than what is to be seen
  if (waiting) return;
  waiting = setTimeout(async () => {
    lastLook = performance.now();
    reading = true;
    try {
      [view.services, view.status] = await Promise.all([read("/api/v1/services?per_page=1000"), read("/api/v1/status")]);
      if (view.link === "stale") view.link = "live";
      if (lastLook - lastSlow > HOURLY_GAP_MS || !view.hourly) { lastSlow = lastLook; await readSlowly(); }
    } catch { if (view.link === "live") view.link = "stale"; }
    [waiting, reading] = [null, false];
    redraw();
    if (again) { again = false; look(); }
  }, Math.max(0, lastLook + MIN_GAP_MS - performance.now()));
}
export function lookAnew() { lastSlow = 0; lastLook = 0; look(); }

function prune() {
  if (view.episodes.size <= MAX_EPISODES) return;
  const closed = [...view.episodes.values()].filter((episode) => !isOpen(episode)).sort((a, b) => a.id - b.id);
  closed.slice(0, view.episodes.size - MAX_EPISODES * 0.8).forEach((episode) => view.episodes.delete(episode.id));
}

function take(name, data) {
  if (name === "anomaly") {
    view.seq = data.seq;
    const known = view.episodes.get(data.anomaly_id);
    if (data.anomaly && (!known || known.revision <= data.revision)) view.episodes.set(data.anomaly_id, data.anomaly);
    if (view.selected === data.anomaly_id) readDetail(data.anomaly_id).catch(() => {});
    prune();
    look();
  } else if (name === "feedback") {
    const known = view.episodes.get(data.anomaly_id);
    if (known) known.feedback = data.feedback;
    if (view.selected === data.anomaly_id) readDetail(data.anomaly_id).catch(() => {});
  } else if (name === "clock") {
    [view.clock, view.final] = [data.clock, data.complete_through];
    view.link = "live";
    look(); // which draws all
    return redrawClock();
  } else if (name === "stale") {
    view.link = "stale";
  } else if (name === "reset") {
    begin();
  }
  redraw();
}

// ── the stream ─────────────────────────────────────────────────────────────────────────────────────────────────
// By fetch, as EventSource cannot send a token.

let listening = null;
async function listen() {
  listening?.abort();
  const abort = (listening = new AbortController());
  const response = await checked(await fetch("/api/v1/anomalies/stream", {
    headers: headers({ accept: "text/event-stream", "last-event-id": String(view.seq) }), signal: abort.signal, cache: "no-store",
  }));
  view.link = "live";
  look();
  redraw();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    // The server says something every 15 s; a connection that died in silence is noticed by that.
    const silence = setTimeout(() => abort.abort(), 40_000);
    const { value, done } = await reader.read().finally(() => clearTimeout(silence));
    if (done || listening !== abort) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    blocks.forEach(dispatch);
  }
}

function dispatch(block) {
  let name = "message", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (data) take(name, JSON.parse(data));
}

let round = 0;
// Reads everything and listens, for ever; a second call takes the place of the first.
export async function begin() {
  const mine = ++round;
  for (let pause = 500; mine === round; pause = Math.min(pause * 2, 4000)) {
    try {
      await readEpisodes();
      [view.loaded, view.problem] = [true, null];
      if (view.selected && view.detail?.id !== view.selected) readDetail(view.selected).catch(() => {});
      redraw();
      pause = 500;
      await listen();
    } catch (error) {
      view.problem = error instanceof Refused ? error.message : null;
    }
    if (mine !== round) return;
    if (view.needsToken) { view.link = "lost"; redraw(); return; }
    view.link = "lost";
    redraw();
    await new Promise((again) => setTimeout(again, pause));
  }
}
