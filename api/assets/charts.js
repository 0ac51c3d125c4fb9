// The charts over time: uPlot, with the band of what is usual under the line, and a table for those who do not see it.

import { RANGES, nowMs, view } from "./data.js";
import { attribute, axisTime, clockTime, count, element, percent, text, whole, widthOf } from "./format.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = new Map();

const bars = (spec) => spec.bars && uPlot.paths.bars({ size: [0.8, 60], align: 1 });
const isAlone = (chart) => chart.data[1].filter((value) => value != null).length === 1;

// [seconds, value, low, high]: the line, and the band between low and high.
function options(spec, width) {
  const grid = { stroke: colour("--line"), width: 1 }, font = "11px system-ui, sans-serif", stroke = colour("--soft");
  const withDay = RANGES[view.range] > 24 * 3600e3;
  return {
    width, height: spec.height, legend: { show: false }, padding: [8, 20, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: { x: { time: true, ...(spec.span && { range: () => spec.span }) }, y: { range: (_, __, max) => [0, Math.max(spec.least, max * 1.1)] } },
    axes: [
      { stroke, font, grid, ticks: grid, size: 26, space: 64, values: (_, times) => times.map((s) => axisTime(s * 1000, view.utc, withDay)) },
      { stroke, font, grid, ticks: { show: false }, size: 46, space: 30, values: (_, values) => values.map(spec.axis ?? spec.format) },
    ],
    series: [
      {},
      { stroke: colour(spec.colour), width: 1.75, fill: spec.bars ? colour(spec.fill) : undefined, paths: bars(spec), points: { show: (chart) => !spec.bars && isAlone(chart) } },
      { stroke: "transparent", points: { show: false } },
      { stroke: "transparent", points: { show: false } },
      ...(spec.second ? [{ stroke: colour(spec.second), width: 1.5, fill: spec.bars ? colour(spec.second) : undefined, paths: bars(spec), points: { show: false } }] : []),
    ],
    bands: [{ series: [3, 2], fill: colour("--band") }],
    hooks: { setCursor: [(chart) => tell(spec, chart)] },
  };
}

function tell(spec, chart) {
  const at = chart.cursor.idx, said = document.getElementById(`${spec.id}-said`);
  if (at == null || chart.data[1][at] == null) return text(said, spec.summary);
  const [seconds, value, low, high] = chart.data.map((column) => column[at]);
  const usual = low == null ? "" : `, usual ${spec.format(low)} to ${spec.format(high)}`;
  const second = spec.second ? `, ${count(chart.data[4][at])} errors` : "";
  text(said, `${axisTime(seconds * 1000, view.utc, false)}: ${spec.format(value)}${second}${usual}`);
}

// Draws, or changes what is drawn. `spec`: id, height, format, colour, least, summary; span (seconds) where the data do not say
// from when to when; and fill and second for bars.
export function chart(spec, data) {
  const box = document.getElementById(spec.id);
  const width = widthOf(spec.id);
  if (!width) return;
  const look = `${width} ${view.utc} ${RANGES[view.range] > 864e5} ${document.documentElement.dataset.theme}`;
  let kept = charts.get(spec.id);
  if (kept?.look !== look) {
    kept?.plot.destroy();
    kept = { look, spec: { ...spec } };
    kept.plot = new uPlot(options(kept.spec, width), data, box);
    charts.set(spec.id, kept);
  } else if (kept.key !== spec.key) {
    kept.spec.span = spec.span;
    kept.plot.setData(data);
  }
  kept.key = spec.key;
  kept.spec.summary = spec.summary;
  if (kept.plot.cursor.idx == null) text(document.getElementById(`${spec.id}-said`), spec.summary);
  attribute(box, "aria-label", spec.label);
}

// What a chart over the chosen range shows: minutes while they reach back far enough, else hours.
export function timeline(service) {
  return RANGES[view.range] <= 3600e3 ? minutes(service) : hours(service);
}

function minutes(service) {
  if (!service || !view.clock) return null;
  const last = Math.floor(nowMs() / 60e3), length = service.minutes.length;
  const times = service.minutes.map((_, i) => (last - length + 1 + i) * 60);
  // The minute that the clock is in is not over, nor is there anything before the first log.
  const begun = Math.max(0, service.minutes.findIndex((minute) => minute.logs > 0));
  const whole = (i) => i >= begun && i < length - 1;
  return {
    times, unit: "minute",
    logs: service.minutes.map((minute, i) => (whole(i) ? minute.logs : null)),
    rates: service.minutes.map((minute, i) => (whole(i) && minute.logs ? minute.errors / minute.logs : null)),
  };
}

function hours(service) {
  const rows = service?.service ? view.hourlyOf?.service === service.service && view.hourlyOf.rows : view.hourly;
  if (!rows || !view.clock) return null;
  const from = nowMs() - RANGES[view.range] - 3600e3;
  const shown = rows.filter((row) => Date.parse(row.hour) >= from);
  // Over as much of the hour as there was.
  const minutesOf = (row) => Math.max(1, Math.min(60, (nowMs() - Date.parse(row.hour)) / 60e3));
  return {
    times: shown.map((row) => Date.parse(row.hour) / 1000), unit: "hour",
    logs: shown.map((row) => row.log_count / minutesOf(row)),
    rates: shown.map((row) => (row.log_count ? row.error_count / row.log_count : null)),
  };
}

// Round shares need no decimals.
const percentAxis = (share) => `${Number((share * 100).toFixed(1))} %`;
const flat = (times, value) => times.map(() => value ?? null);
const last = (values) => values.findLast((value) => value != null);

export function drawStream(service, name) {
  const line = timeline(service), usual = service?.baseline;
  for (const id of ["volume", "errors"]) document.getElementById(`${id}-empty`).hidden = Boolean(line?.times.length);
  if (!line?.times.length) return;
  const key = JSON.stringify([line.times.at(-1), line.logs, line.rates.at(-2), usual]);
  const over = `each ${line.unit}, ${name}`;
  const band = usual ? `; usual ${count(usual.log_rate_low ?? usual.log_rate)} to ${count(usual.log_rate_high ?? usual.log_rate)}` : "";
  chart({ id: "volume", key, height: 150, least: 1, format: count, colour: "--accent", summary: `${over}${band}`,
    label: `Logs per minute, ${over}: now ${count(last(line.logs))}${band}` },
  [line.times, line.logs, flat(line.times, usual?.log_rate_low), flat(line.times, usual?.log_rate_high)]);
  const errorBand = usual?.error_rate != null ? `; usual ${percent(usual.error_rate_low ?? 0)} to ${percent(usual.error_rate_high ?? usual.error_rate)}` : "";
  chart({ id: "errors", key, height: 150, least: 0.01, format: percent, axis: percentAxis, colour: "--error", summary: `${over}${errorBand}`,
    label: `Share of errors, ${over}: now ${percent(last(line.rates))}${errorBand}` },
  [line.times, line.rates, flat(line.times, usual?.error_rate_low), flat(line.times, usual?.error_rate_high)]);
}

export function drawHourly() {
  const hour = 3600e3, to = Math.ceil(nowMs() / hour) * hour, from = to - Math.max(RANGES[view.range], 24 * hour);
  const rows = (view.hourly ?? []).filter((row) => Date.parse(row.hour) >= from);
  document.getElementById("hourly-empty").hidden = rows.length > 0;
  if (!rows.length) return;
  const column = (name) => rows.map((row) => row[name]);
  const total = (name) => count(column(name).reduce((a, b) => a + b, 0));
  const times = rows.map((row) => Date.parse(row.hour) / 1000);
  const summary = `${total("log_count")} logs, ${total("error_count")} errors, ${total("anomaly_count")} anomalies`;
  const key = JSON.stringify([from, times[0], times.at(-1), summary, rows.at(-1)]);
  chart({ id: "hourly", key, span: [from / 1000, to / 1000], height: 150, least: 1, format: count, bars: true, colour: "--volume", fill: "--volume", second: "--error", summary, label: `Logs per hour: ${summary}` },
    [times, column("log_count"), flat(times), flat(times), column("error_count")]);
  if (!document.getElementById("hourly-more").open) return;
  document.getElementById("hourly-table").replaceChildren(...rows.toReversed().map((row) => element("tr", {},
    element("th", { scope: "row" }, clockTime(row.hour, view.utc, view.clock)), ...["log_count", "error_count", "anomaly_count"].map((name) => element("td", {}, whole.format(row[name]))))));
}
