// Numbers and times in words, and the making of elements.

const SVG = "http://www.w3.org/2000/svg";
export const RANK = { low: 1, medium: 2, high: 3, critical: 4 };
export const SEVERITIES = ["critical", "high", "medium", "low"];
export const TYPES = {
  error_rate_spike: "Error rate spike",
  log_volume_spike: "Volume spike",
  log_volume_drop: "Volume drop",
  multivariate_outlier: "Unusual behaviour",
  new_pattern: "New message pattern",
};

export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const made = attributes.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "svg" || value == null || value === false) continue;
    if (name === "on") Object.entries(value).forEach(([event, act]) => made.addEventListener(event, act));
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}
export const svg = (tag, attributes, ...children) => element(tag, { svg: true, ...attributes }, ...children);

// Touches the page only when something changed: that is what keeps an update cheap. What was written is remembered, as asking
// the page for it costs about as much as writing it; so what is written by these three is written by nobody else.
const written = new WeakMap();
function isNews(at, name, value) {
  let known = written.get(at);
  if (!known) written.set(at, (known = new Map()));
  if (known.get(name) === value) return false;
  known.set(name, value);
  return true;
}
export function text(at, words) {
  if (isNews(at, "", words)) at.textContent = words;
}
export function attribute(at, name, value) {
  if (isNews(at, name, value)) at.setAttribute(name, value);
}
export function style(at, name, value) {
  if (isNews(at, name, value)) at.style[name] = value;
}
export const say = (id, words) => text($(id), words);

// How wide elements are, as the browser tells when that changes. To ask for it would lay out the page in the middle of an update.
const widths = new Map();
export const widthOf = (id) => widths.get(id) ?? 0;
export function watchWidths(ids, changed) {
  const watch = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) widths.set(target.id, Math.floor(contentRect.width));
    changed();
  });
  ids.forEach((id) => watch.observe($(id)));
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
export const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export function count(value) {
  if (value == null) return "–";
  return (value >= 10_000 ? compact : value < 10 ? fine : whole).format(value);
}
export function percent(share) {
  if (share == null) return "–";
  const value = share * 100;
  return `${value.toFixed(value > 0 && value < 0.1 ? 2 : value < 10 ? 1 : 0)} %`;
}
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 90) return `${s} s`;
  if (s < 90 * 60) return `${Math.round(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} d`;
}

const zones = [true, false].map((isUtc) => {
  const timeZone = isUtc ? "UTC" : undefined;
  return {
    day: new Intl.DateTimeFormat("en-CA", { timeZone, dateStyle: "short" }),
    second: new Intl.DateTimeFormat("en-GB", { timeZone, timeStyle: "medium" }),
    minute: new Intl.DateTimeFormat("en-GB", { timeZone, timeStyle: "short" }),
  };
});
// `now`: the clock of the data; the day is left out when it is today's.
export function clockTime(iso, isUtc, now) {
  if (!iso) return "–";
  const [day, second] = inZone(iso, isUtc);
  return now && inZone(now, isUtc)[0] === day ? second : `${day} ${second}`;
}
// Day and time of day. Most services were last seen in the same second: each is formatted once.
const MAX_KNOWN = 1000;
const known = new Map();
function inZone(iso, isUtc) {
  const key = `${isUtc}${iso}`;
  let words = known.get(key);
  if (!words) {
    const { day, second } = zones[isUtc ? 0 : 1], at = new Date(iso);
    words = [day.format(at), second.format(at)];
    if (known.size >= MAX_KNOWN) known.clear();
    known.set(key, words);
  }
  return words;
}
// Milliseconds of a time of the API's. The same few are compared over and over.
const parsed = new Map();
export function time(iso) {
  let ms = parsed.get(iso);
  if (ms === undefined) {
    ms = Date.parse(iso);
    if (parsed.size >= 10 * MAX_KNOWN) parsed.clear();
    parsed.set(iso, ms);
  }
  return ms;
}

export const axisTime = (ms, isUtc, withDay) => {
  const { day, minute } = zones[isUtc ? 0 : 1];
  return withDay ? day.format(ms).slice(5) : minute.format(ms);
};

// As people see it: what somebody expects is retracted in the store.
export const stands = (episode) => (episode.expected ? "expected" : episode.status);
export const isOpen = (episode) => episode.status === "provisional" || episode.status === "open";
export const amount = (type, value) => {
  if (value == null) return "–";
  if (type === "error_rate_spike") return percent(value);
  return type === "multivariate_outlier" ? value.toFixed(2) : `${count(value)}/min`;
};
export function worst(episodes) {
  return episodes.reduce((found, { severity }) => ((RANK[severity] || 0) > (RANK[found] || 0) ? severity : found), null);
}
