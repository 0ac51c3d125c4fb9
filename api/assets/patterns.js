// Kinds of messages: how many logs there are of each, whether there are more or fewer of it than usual, which are new; a click
// shows its lines. Of the service that is looked at, else of all.

import { RANGES, nowMs, read, subjectName, view } from "./data.js";
import { $, attribute, clockTime, count, element, percent, say, text, time } from "./format.js";

const SHOWN = 30;
const ASKED = 200; // shares are of the logs of these
const GAP_MS = 15_000; // between two looks
const COMPARED_MS = 5 * 60e3; // "now" is the last minutes that were looked at
const SETTLING_MS = 10 * 60e3; // what came within a service's first minutes is not marked as new
const LINES = 50;
const LOOK_BACK_MS = 3600e3; // lines are looked for from so long before the newest one on
const NEVER = -Infinity;

let page = null, began = 0, turn = 0, drawn = null, of = null, askedAt = NEVER, opened = null, lines = null;
let looks = []; // what was counted when, the newest last: [{ at, counts: Map(id → logs) }]
const rows = new Map();

async function look(service) {
  askedAt = performance.now();
  if (of !== service) [of, page, looks, opened, lines] = [service, null, [], null, null];
  const asked = new URLSearchParams({ sort: "-log_count", per_page: ASKED });
  if (service) asked.set("service", service);
  const found = await read(`/api/v1/patterns?${asked}`);
  if (of !== service) return;
  [page, turn] = [found, turn + 1];
  began = Math.min(...found.patterns.map((pattern) => time(pattern.first_seen)));
  const at = nowMs();
  looks.push({ at, counts: new Map(found.patterns.map((pattern) => [pattern.id, pattern.log_count])) });
  while (looks.length > 2 && looks[1].at <= at - COMPARED_MS) looks.shift();
}

// Logs a minute lately, and over its whole life; null: nobody knows yet.
function rates(pattern) {
  const [first, last] = [looks[0], looks.at(-1)];
  const minutes = (last.at - first.at) / 60e3, before = first.counts.get(pattern.id);
  const now = minutes > 0 && before != null ? (pattern.log_count - before) / minutes : null;
  const life = (time(pattern.last_seen) - time(pattern.first_seen)) / 60e3;
  return { now, usual: life >= 1 ? pattern.log_count / life : null };
}

function isNew(pattern) {
  const first = time(pattern.first_seen);
  return first >= nowMs() - RANGES[view.range] && first > began + SETTLING_MS;
}

// What is new first, then what there is most of.
function listed() {
  const named = page.patterns.filter((pattern) => pattern.template != null);
  return named.map((pattern) => [isNew(pattern), pattern]).sort((a, b) => b[0] - a[0] || b[1].log_count - a[1].log_count).slice(0, SHOWN);
}

export function drawPatterns(redraw) {
  if (!view.loaded) return;
  const service = subjectName() || "";
  if (of !== service || (!view.paused && performance.now() - askedAt > GAP_MS)) look(service).then(redraw).catch(() => {});
  // An update that brings nothing new costs nothing.
  const key = `${of} ${turn} ${page == null} ${opened} ${lines?.id} ${view.utc} ${view.range}`;
  if (drawn === key) return;
  drawn = key;
  say("patterns-of", service || "all services");
  $("patterns-empty").hidden = Boolean(page?.patterns.length);
  say("patterns-empty", page ? "No message has been counted yet." : "Reading…");
  say("patterns-count", page?.total > SHOWN ? `${SHOWN} of ${page.total}` : "");
  const logs = (page?.patterns ?? []).reduce((sum, pattern) => sum + pattern.log_count, 0);
  const items = page ? listed().flatMap(([fresh, pattern]) => row(pattern, fresh, logs, redraw)) : [];
  const body = $("patterns");
  if (items.length !== body.children.length || items.some((item, i) => body.children[i] !== item)) {
    const focused = document.activeElement;
    body.replaceChildren(...items);
    if (focused?.isConnected) focused.focus();
    const alive = new Set((page?.patterns ?? []).map((pattern) => pattern.id));
    for (const id of rows.keys()) if (!alive.has(id)) rows.delete(id);
  }
}

function row(pattern, fresh, logs, redraw) {
  let parts = rows.get(pattern.id);
  if (!parts) rows.set(pattern.id, (parts = make(pattern.id, redraw)));
  const { now, usual } = rates(pattern);
  text(parts.template, pattern.template);
  parts.fresh.hidden = !fresh;
  text(parts.count, count(pattern.log_count));
  text(parts.share, percent(logs ? pattern.log_count / logs : null));
  text(parts.now, now == null ? "–" : count(now));
  text(parts.usual, usual == null ? "–" : count(usual));
  const way = now == null || usual == null ? "" : now > 2 * usual + 1 ? "rising" : now < usual / 2 - 1 ? "falling" : "";
  attribute(parts.now, "class", `num ${way}`);
  attribute(parts.now, "title", way && (way === "rising" ? "more than twice as many as usual" : "less than half as many as usual"));
  text(parts.first, clockTime(pattern.first_seen, view.utc, view.clock));
  attribute(parts.template, "aria-expanded", String(opened === pattern.id));
  attribute(parts.item, "class", pattern.error_count > 0 ? "errors" : "");
  if (opened !== pattern.id) return [parts.item];
  drawLines(parts);
  return [parts.item, parts.more];
}

function make(id, redraw) {
  const parts = {}, cell = (name, className) => (parts[name] = element("td", { class: className }));
  parts.template = element("button", { type: "button", class: "link", "aria-expanded": "false", on: { click: () => open(id, redraw) } });
  parts.fresh = element("span", { class: "chip medium", hidden: true }, "new");
  parts.item = element("tr", {}, element("th", { scope: "row", class: "code" }, parts.fresh, parts.template), cell("count", "num"), cell("share", "num"), cell("now", "num"), cell("usual", "num usual"), cell("first", "when"));
  parts.lines = element("ol", { class: "lines", tabindex: 0, "aria-label": "Newest lines of this pattern" });
  parts.said = element("p", { class: "muted" });
  parts.more = element("tr", { class: "opened" }, element("td", { colspan: 6 }, parts.said, parts.lines));
  return parts;
}

function open(id, redraw) {
  [opened, lines] = [opened === id ? null : id, null];
  redraw();
  if (!opened) return;
  const last = time(page.patterns.find((pattern) => pattern.id === id).last_seen);
  const asked = new URLSearchParams({ template: id, sort: "-timestamp", per_page: LINES, since: new Date(last - LOOK_BACK_MS).toISOString() });
  if (of) asked.set("service", of);
  const keep = (found) => { if (opened === id) { lines = { id, ...found }; redraw(); } };
  read(`/api/v1/logs?${asked}`).then(keep).catch((refused) => keep({ logs: [], refused: refused.message }));
}

function drawLines(parts) {
  const found = lines?.id === opened ? lines : null;
  text(parts.said, !found ? "Reading…" : found.refused ?? (found.logs.length ? `The newest ${found.logs.length} lines` : "None of its lines is stored any more."));
  const key = `${found?.logs.length} ${found?.logs[0]?.id} ${view.utc}`;
  if (parts.key === key) return;
  parts.key = key;
  parts.lines.replaceChildren(...(found?.logs ?? []).map((log) => element("li", { class: log.level.toLowerCase() },
    element("time", { datetime: log.timestamp }, clockTime(log.timestamp, view.utc, view.clock)), element("b", {}, log.level),
    element("span", { class: "host" }, [of ? null : log.service, log.host].filter(Boolean).join(" · ")), element("span", { class: "message" }, log.message ?? ""))));
}
