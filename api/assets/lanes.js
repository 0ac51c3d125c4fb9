// The swimlanes: one lane per service that had trouble, time to the right, colour by severity.

import { RANGES, nowMs, view } from "./data.js";
import { $, RANK, SEVERITIES, TYPES, axisTime, clockTime, element, isOpen, say, span, svg, time, widthOf, worst } from "./format.js";

const MAX_LANES = 14;
const MIN_STEP_MS = 2000; // between two pictures that differ in nothing but the time
const HEIGHT = 26, LABEL = 150, NARROW_LABEL = 96;
let drawn = "";

export function drawLanes(episodes, select, emptyWords) {
  const to = nowMs(), from = to - RANGES[view.range];
  const begin = (episode) => time(episode.started_at);
  const end = (episode) => (isOpen(episode) ? to : time(episode.ended_at || episode.last_seen));
  const shown = episodes.filter((episode) => episode.status !== "retracted" && end(episode) >= from && begin(episode) <= to);
  const width = widthOf("lanes");
  // Nothing moves by less than a pixel.
  const place = Math.floor(to / Math.max(MIN_STEP_MS, (to - from) / Math.max(1, width)));
  say("lanes-empty", shown.length ? "" : emptyWords());
  const key = [view.range, view.utc, width, view.selected, place, ...shown.map((episode) => `${episode.id} ${episode.revision}`)].join();
  if (!width || key === drawn) return;
  drawn = key;
  const lanes = [...Map.groupBy(shown, (episode) => episode.service ?? "")].map(([service, episodes]) => ({ service, episodes, open: episodes.some(isOpen), rank: RANK[worst(episodes)] || 0 }));
  lanes.sort((a, b) => b.open - a.open || b.rank - a.rank || b.episodes.length - a.episodes.length || a.service.localeCompare(b.service));
  $("lanes-empty").hidden = lanes.length > 0;
  say("lanes-count", lanes.length > MAX_LANES ? `the worst ${MAX_LANES} of ${lanes.length} services` : "");
  const focused = document.activeElement?.closest?.("#lanes") ? document.activeElement.dataset.id : null;
  $("lanes").replaceChildren(...(lanes.length ? [picture(lanes.slice(0, MAX_LANES), { from, to, width, begin, end, select })] : []));
  if (focused) $("lanes").querySelector(`[data-id="${focused}"]`)?.focus();
}

export function drawLegend() {
  $("lanes-legend").replaceChildren(...SEVERITIES.map((severity) =>
    element("span", { class: "key" }, element("i", { class: `swatch ${severity}` }), severity)));
}

function picture(lanes, { from, to, width, begin, end, select }) {
  const label = width < 560 ? NARROW_LABEL : LABEL;
  const x = (ms) => label + ((Math.min(Math.max(ms, from), to) - from) / (to - from)) * (width - label - 8);
  const height = lanes.length * HEIGHT + 24;
  const made = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Anomalies of each service over time" });
  for (const at of ticks(from, to, (width - label) / 90)) {
    made.append(svg("line", { class: "axis", x1: x(at), x2: x(at), y1: 0, y2: height - 20 }));
    made.append(svg("text", { class: "tick", x: x(at), y: height - 6, "text-anchor": "middle" }, axisTime(at, view.utc, to - from > 864e5)));
  }
  lanes.forEach(({ service, episodes }, row) => {
    const middle = row * HEIGHT + HEIGHT / 2;
    made.append(svg("text", { class: "lane", x: 0, y: middle + 4 }, cut(service || "whole stream", label)));
    made.append(svg("line", { class: "rail", x1: label, x2: width - 8, y1: middle, y2: middle }));
    // The worst on top.
    for (const episode of episodes.toSorted((a, b) => (RANK[a.severity] || 0) - (RANK[b.severity] || 0))) {
      made.append(bar(episode, x(begin(episode)), x(end(episode)), middle, select, end(episode) - begin(episode)));
    }
  });
  return made;
}

function bar(episode, from, to, middle, select, lasted) {
  const words = `${episode.service ?? "whole stream"}: ${TYPES[episode.type] ?? episode.type}, ${episode.severity}, ${episode.status}, ` +
    `from ${clockTime(episode.started_at, view.utc, view.clock)}, ${span(lasted)}`;
  const open = () => select(episode.id);
  return svg("rect", {
    class: `stay ${episode.severity ?? ""} ${isOpen(episode) ? "open" : ""} ${view.selected === episode.id ? "selected" : ""}`,
    x: from, y: middle - 7, width: Math.max(5, to - from), height: 14, rx: 4, tabindex: 0, role: "button", "aria-label": words, "data-id": episode.id,
    on: { click: open, keydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(); } } },
  }, svg("title", {}, words));
}

function ticks(from, to, most) {
  const steps = [60e3, 2 * 60e3, 5 * 60e3, 15 * 60e3, 30 * 60e3, 3600e3, 3 * 3600e3, 6 * 3600e3, 12 * 3600e3, 864e5, 2 * 864e5];
  const step = steps.find((candidate) => (to - from) / candidate <= most) ?? steps.at(-1);
  const marks = [];
  for (let at = Math.ceil(from / step) * step; at < to; at += step) marks.push(at);
  return marks.filter((at) => at - from > step * 0.15);
}

function cut(name, label) {
  const most = Math.floor(label / 7.4);
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}
