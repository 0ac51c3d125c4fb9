// The list of anomalies: open first, worst first, newest first.

import { RANGES, nowMs, view } from "./data.js";
import { $, RANK, TYPES, amount, attribute, clockTime, element, isOpen, say, span, stands, style, text, time } from "./format.js";
import { rows } from "./rows.js";

const RECENT_ROWS = 100;
let select = () => {};
const draw = rows({ id: (episode) => episode.id, make, fill, version });

export function chosen() {
  return [...view.episodes.values()].filter((episode) =>
    (!view.service || (episode.service ?? "").includes(view.service)) && (!view.severity.size || view.severity.has(episode.severity)));
}

function listed() {
  const from = nowMs() - RANGES[view.range];
  const wanted = chosen().filter((episode) => {
    if (isOpen(episode)) return true;
    if (view.show === "open" || (view.show === "recent" && episode.status === "retracted")) return false;
    return time(episode.ended_at || episode.last_seen) >= from;
  });
  const ranked = wanted.map((episode) => ({ episode, rank: isOpen(episode) ? 1 + (RANK[episode.severity] || 0) : 0, at: time(episode.detected_at) }));
  return ranked.sort((a, b) => b.rank - a.rank || b.at - a.at || b.episode.id - a.episode.id).map(({ episode }) => episode);
}

export function drawEpisodes(chooseEpisode) {
  select = chooseEpisode;
  const shown = listed(), page = shown.slice(0, RECENT_ROWS);
  draw($("episodes"), page);
  say("episodes-count", shown.length > page.length ? `the first ${page.length} of ${shown.length}` : "");
  $("episodes-empty").hidden = shown.length > 0;
  say("episodes-empty", emptyWords());
}

// Why there is none to show.
export function emptyWords() {
  if (!view.loaded) return view.link !== "lost" ? "Reading…" : `Nothing can be shown${view.problem ? `: ${view.problem}` : " yet."}`;
  const filtered = view.service || view.severity.size ? " that the filters leave" : "";
  return view.show === "open" ? `Nothing is open now${filtered}.` : `No anomaly in this range${filtered}.`;
}

function version(episode) {
  return `${episode.revision} ${episode.feedback} ${view.utc} ${view.selected === episode.id}`;
}

const age = (episode) => `for ${span(nowMs() - time(episode.started_at))}`;

function make(episode) {
  const parts = {};
  const part = (name, tag, ...inside) => (parts[name] = element(tag, { class: name }, ...inside));
  parts.line = element("button", { type: "button", class: "row", "data-id": episode.id, on: { click: () => select(episode.id) } },
    part("chip", "span"),
    element("span", { class: "who" }, part("name", "strong"), part("what", "span")),
    element("span", { class: "fact" }, part("numbers", "span"), part("gauge", "span", (parts.level = element("i")), (parts.limit = element("u")))),
    element("span", { class: "when" }, part("since", "span"), part("state", "span")));
  parts.item = element("li", { class: "episode" }, parts.line);
  return parts;
}

function fill(parts) {
  const { thing: episode } = parts, open = isOpen(episode);
  attribute(parts.item, "class", `episode ${open ? "open" : "closed"} ${episode.severity ?? ""}`);
  attribute(parts.line, "aria-pressed", String(view.selected === episode.id));
  attribute(parts.chip, "class", `chip ${episode.severity ?? "low"}`);
  text(parts.chip, episode.severity ?? "–");
  text(parts.name, episode.service ?? "whole stream");
  text(parts.what, TYPES[episode.type] ?? episode.type);
  const value = open ? episode.metric_value : episode.peak_value ?? episode.metric_value;
  const times = episode.baseline > 0 && value > episode.baseline ? `, ${(value / episode.baseline).toPrecision(2).replace(/\.0$/, "")}×` : "";
  text(parts.numbers, `${amount(episode.type, value)} against ${amount(episode.type, episode.baseline)} usual${times.includes("e") ? "" : times}`);
  gauge(parts, episode, value);
  const until = time(episode.ended_at || episode.last_seen);
  text(parts.since, open ? age(episode) : `${clockTime(episode.started_at, view.utc, view.clock)}, ${span(until - time(episode.started_at))}`);
  const said = episode.feedback, state = stands(episode);
  text(parts.state, said && said !== state ? `${state} · ${said}` : state);
}

// The value on a scale that shows the threshold: at two thirds for what is too high, at one third for what is too low.
function gauge(parts, episode, value) {
  const limit = episode.threshold;
  const isShown = limit > 0 && value != null;
  style(parts.gauge, "visibility", isShown ? "visible" : "hidden");
  if (!isShown) return;
  const top = Math.max(limit * 1.5, value, episode.baseline || 0);
  style(parts.level, "width", `${Math.min(100, (value / top) * 100)}%`);
  style(parts.limit, "left", `${Math.min(99, (limit / top) * 100)}%`);
}
