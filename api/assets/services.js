// The table of services. The small charts of a row are drawn while it is in sight.

import { view } from "./data.js";
import { $, attribute, clockTime, count, element, percent, say, svg, text, worst } from "./format.js";
import { rows } from "./rows.js";

const WIDTH = 140, HEIGHT = 26;
let choose = () => {};
const draw = rows({ id: (service) => service.service, make, fill });

export function drawServices(chooseService) {
  choose = chooseService;
  const page = view.services;
  if (!page) return;
  const shown = page.services.filter((service) => !view.service || service.service.includes(view.service));
  draw($("services"), shown);
  $("services-empty").hidden = shown.length > 0;
  say("services-empty", page.services.length ? "No service has such a name." : "No service has logged yet.");
  say("services-count", page.total > page.services.length ? `the first ${page.services.length} of ${page.total}` : String(shown.length));
}

function make({ service: name }) {
  const cell = (className, ...inside) => element("td", { class: className }, ...inside);
  const path = (className) => svg("path", { class: className });
  const parts = { dot: element("i", { class: "dot", role: "img" }), state: element("span", { class: "muted state" }), volume: path("line-volume"), band: path("band"), errors: path("line-errors"), errorBand: path("band") };
  const spark = (...inside) => svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...inside);
  parts.item = element("tr", {},
    element("th", { scope: "row" }, element("span", { class: "name" }, parts.dot, element("button", { type: "button", class: "link-button", title: `Only ${name}`, on: { click: () => choose(name) } }, name)), parts.state),
    (parts.rate = cell("num")), (parts.usualRate = cell("num usual")), cell("spark-cell", spark(parts.band, parts.volume)),
    (parts.error = cell("num")), (parts.usualError = cell("num usual")), cell("spark-cell", spark(parts.errorBand, parts.errors)),
    (parts.seen = cell("when")));
  return parts;
}

function fill(parts) {
  const { thing: service } = parts, usual = service.baseline;
  const severity = worst(service.open_anomalies);
  const kind = severity ?? service.state;
  attribute(parts.dot, "class", `dot ${kind}`);
  attribute(parts.dot, "aria-label", severity ? `open anomaly, ${severity}` : service.state);
  text(parts.state, service.warming_up ? `warming up ${service.warming_up.minutes} of ${service.warming_up.needed}` : service.state === "silent" ? "silent" : "");
  const badErrors = usual?.error_rate != null && service.error_rate > 3 * Math.max(usual.error_rate, 0.01);
  const badRate = usual && (service.log_rate > 5 * usual.log_rate || service.log_rate < 0.1 * usual.log_rate);
  attribute(parts.rate, "class", badRate ? "num bad" : "num");
  attribute(parts.error, "class", badErrors ? "num bad" : "num");
  text(parts.rate, count(service.log_rate));
  text(parts.usualRate, count(usual?.log_rate));
  text(parts.error, percent(service.error_rate));
  text(parts.usualError, percent(usual?.error_rate));
  text(parts.seen, clockTime(service.last_seen, view.utc, view.clock));
  if (parts.inSight) sparks(parts);
}

function sparks(parts) {
  const { thing: service } = parts, usual = service.baseline;
  // The minute that the clock is in is not over: it would look like a drop.
  const minutes = service.minutes.slice(0, -1), begun = minutes.findIndex((minute) => minute.logs > 0);
  const logs = minutes.map((minute, i) => (i < begun ? null : minute.logs));
  const top = Math.max(1, ...logs, usual?.log_rate_high ?? usual?.log_rate ?? 0) * 1.05;
  attribute(parts.volume, "d", line(logs, top));
  attribute(parts.band, "d", band(usual?.log_rate_low, usual?.log_rate_high, top));
  const shares = minutes.map((minute) => (minute.logs ? minute.errors / minute.logs : null));
  const most = Math.max(0.02, ...shares, usual?.error_rate_high ?? 0) * 1.05;
  attribute(parts.errors, "d", line(shares, most));
  attribute(parts.errorBand, "d", band(usual?.error_rate_low, usual?.error_rate_high, most));
}

const y = (value, top) => (HEIGHT - 1 - (value / top) * (HEIGHT - 3)).toFixed(1);
function line(values, top) {
  const step = WIDTH / Math.max(1, values.length - 1);
  let path = "", pen = "M";
  values.forEach((value, i) => {
    if (value == null) { pen = "M"; return; }
    path += `${pen}${(i * step).toFixed(1)} ${y(value, top)}`;
    pen = "L";
  });
  return path;
}
function band(low, high, top) {
  if (high == null) return "";
  return `M0 ${y(low ?? 0, top)}H${WIDTH}V${y(Math.min(high, top), top)}H0Z`;
}
