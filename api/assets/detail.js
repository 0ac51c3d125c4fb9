// One anomaly in full: what is usual against what was seen, what changed, the lines around it, and what users say of it.

import { giveFeedback, nowMs, readLogs, view } from "./data.js";
import { $, TYPES, amount, clockTime, count, element, isOpen, percent, say, span, stands, text } from "./format.js";

const FEATURES = {
  log_rate: ["Logs per minute", count], error_rate: ["Share of errors", percent], avg_message_length: ["Message length", count],
  unique_services: ["Services that log", count], hour_of_day: ["Hour of day", (hour) => String(hour)],
  new_pattern_rate: ["New patterns", count], pattern_entropy: ["Spread of patterns", (bits) => bits.toFixed(2)],
};
const KINDS = { raised: "Raised from a window that is not complete", opened: "Confirmed by complete windows", updated: "Numbers changed", resolved: "Back to normal", expired: "Lasted so long that it is the new normal", retracted: "Disproved", reopened: "Brought back by late logs" };
const time = (iso) => element("time", { datetime: iso }, clockTime(iso, view.utc, view.clock));
let shownKey = "", shownId = null;

export function drawDetail(close) {
  const panel = $("detail"), id = view.selected;
  panel.hidden = id == null;
  document.body.classList.toggle("with-detail", id != null);
  if (id == null) { shownKey = ""; shownId = null; return; }
  const detail = view.detail?.id === id ? view.detail : view.episodes.get(id);
  if (shownId !== id) {
    shownId = id;
    $("detail-note").value = "";
    say("detail-said", "");
    requestAnimationFrame(() => $("detail-title").focus());
  }
  if (!detail) { say("detail-title", "Reading…"); return; }
  if (detail.events && view.logs?.id !== id) { view.logs = { id, logs: null }; lines(detail, detail.type === "error_rate_spike"); }
  const key = JSON.stringify([id, detail.revision, detail.feedback, detail.events?.length, detail.feedback_given?.length, view.utc, view.logs?.logs?.length, view.logs?.onlyErrors, view.logs?.only]);
  if (key === shownKey) return;
  shownKey = key;
  head(detail);
  feedbackButtons(detail);
  $("detail-body").replaceChildren(...[why(detail), numbers(detail), shares(detail), changed(detail, "services", "Services that changed most", () => null), changed(detail, "hosts", "Hosts that changed most", (host) => ({ host: host.name })), changed(detail, "templates", "Templates that changed most", (template) => template.id && { template: template.id }), silent(detail), cited(detail), logs(detail), given(detail), story(detail), rest(detail)].filter(Boolean));
}

function head(detail) {
  const lasted = span((isOpen(detail) ? nowMs() : Date.parse(detail.ended_at || detail.last_seen)) - Date.parse(detail.started_at));
  say("detail-title", `${TYPES[detail.type] ?? detail.type} in ${detail.service ?? "the whole stream"}`);
  $("detail-chip").className = `chip ${detail.severity ?? "low"}`;
  say("detail-chip", detail.severity ?? "–");
  say("detail-state", `${stands(detail)}, since ${clockTime(detail.started_at, view.utc, view.clock)} (${lasted})`);
  say("detail-description", detail.description ?? "");
}

// ── feedback ───────────────────────────────────────────────────────────────────────────────────────────────────

function feedbackButtons(detail) {
  for (const button of document.querySelectorAll("[data-verdict]")) {
    if (button.dataset.verdict === "undo") button.disabled = !detail.feedback;
    else button.setAttribute("aria-pressed", String(detail.feedback === button.dataset.verdict));
  }
}

export function listenToFeedback() {
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", async () => {
      const id = view.selected, note = $("detail-note").value.trim();
      say("detail-said", "Sending…");
      try {
        await giveFeedback(id, button.dataset.verdict, note);
        $("detail-note").value = "";
        say("detail-said", { expected: "Kept: it was expected, and so are others of its like for a week.", confirmed: "Kept: it was real trouble.", undo: "Taken back." }[button.dataset.verdict]);
      } catch (refused) { say("detail-said", `Not kept: ${refused.message}`); }
    });
  }
}

function given(detail) {
  if (!detail.feedback_given?.length) return null;
  const words = { expected: "Expected", confirmed: "Confirmed", undo: "Taken back" };
  return section("What was said", element("ul", { class: "story" }, ...detail.feedback_given.map((said) =>
    element("li", {}, time(said.created_at), `${words[said.verdict] ?? said.verdict}${said.author ? ` by ${said.author}` : ""}${said.note ? `: ${said.note}` : ""}`))));
}

// ── why ────────────────────────────────────────────────────────────────────────────────────────────────────────

function section(title, ...inside) {
  return element("section", {}, element("h3", {}, title), ...inside);
}

function bar(share, className) {
  const made = element("span", { class: `bar-track ${className}` }, element("i"));
  made.firstChild.style.width = `${Math.max(0, Math.min(100, share * 100))}%`;
  return made;
}

function numbers(detail) {
  const values = [["Usual", detail.baseline, "usual"], ["When raised", detail.metric_value, "actual"], ["Peak", detail.peak_value, "actual"], ["Threshold", detail.threshold, "limit"]].filter(([, value]) => value != null);
  const top = Math.max(...values.map(([, value]) => value), Number.MIN_VALUE);
  const rows = values.map(([name, value, kind]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "num" }, amount(detail.type, value)), element("td", { class: "wide" }, bar(value / top, kind))));
  const model = detail.model_version ? element("p", { class: "muted" }, `Model ${detail.model_version}${detail.score == null ? "" : `, score ${detail.score.toFixed(3)}`}`) : null;
  return section("Usual against actual", element("table", { class: "plain" }, element("tbody", {}, ...rows)), model);
}

// Each feature's share of what is unusual, and of a model's score: [{name, typical, actual, share, model_share}].
function shares(detail) {
  const features = detail.explanation?.features;
  if (!Array.isArray(features) || !features.length) return null;
  const most = Math.max(...features.map((feature) => Math.abs(feature.share ?? 0)), 1e-9);
  const ofModel = features.some((feature) => feature.model_share != null);
  const rows = features.toSorted((a, b) => (b.share ?? 0) - (a.share ?? 0)).map((feature) => {
    const [name, format] = FEATURES[feature.name] ?? [feature.name, count];
    const of = (value) => (value == null ? "–" : format(value));
    return element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "num usual" }, of(feature.typical)), element("td", { class: "num" }, of(feature.actual)),
      element("td", { class: "wide" }, feature.share == null ? null : bar(Math.abs(feature.share) / most, "actual")), element("td", { class: "num" }, feature.share == null ? "" : percent(feature.share)), ofModel ? element("td", { class: "num" }, feature.model_share == null ? "" : percent(feature.model_share)) : null);
  });
  const head = ["Feature", "usual", "actual", "", "share", ...(ofModel ? ["of the score"] : [])].map((name, i) => element("th", { scope: "col", class: i && name ? "num" : null }, name));
  return section("What makes it unusual", element("table", { class: "plain" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)));
}

// Why, in sentences: what the numbers say, who changed most, who is silent.
function why(detail) {
  const sentences = detail.explanation?.summary;
  if (!Array.isArray(sentences) || !sentences.length) return null;
  return section("Why", element("ul", { class: "why" }, ...sentences.map((sentence) => element("li", {}, sentence))));
}

// Hosts, templates or services: [{name, id, before, after, share_before, share_after}]; a click shows the lines of one.
function changed(detail, name, title, asked) {
  const rows = detail.explanation?.[name];
  if (!Array.isArray(rows) || !rows.length) return null;
  const counted = detail.explanation.counted ?? "logs";
  const row = (change) => {
    const only = asked(change);
    const words = only ? element("button", { type: "button", class: "link", on: { click: () => lines(detail, false, only) } }, change.name) : change.name;
    const shares = [[change.share_before, "usual", "before"], [change.share_after, "actual", "now"]];
    return element("tr", {}, element("td", { class: "code" }, words),
      element("td", { class: "wide" }, ...shares.map(([share, kind]) => (share == null ? null : bar(share, kind)))),
      element("td", { class: "num" }, ...shares.map(([share, kind, when]) => element("div", { class: kind === "usual" ? "usual" : null }, `${percent(share)} ${when}`))),
      element("td", { class: "num" }, `${count(change.before)} → ${count(change.after)}`));
  };
  const head = ["", `share of the ${counted}`, "", `${counted}/min`].map((words) => element("th", { scope: "col" }, words));
  return section(title, element("table", { class: "plain changes" }, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows.slice(0, 10).map(row))));
}

function silent(detail) {
  const rows = detail.explanation?.silent;
  if (!Array.isArray(rows) || !rows.length) return null;
  return section("Fell silent", element("ul", { class: "story" }, ...rows.map((one) =>
    element("li", {}, time(one.since), `${one.kind} `, element("b", {}, one.name), ` (${count(one.before)} logs/min before)`))));
}

function cited(detail) {
  const rows = detail.explanation?.samples;
  if (!Array.isArray(rows) || !rows.length) return null;
  const place = (line) => {
    const at = Date.parse(line.timestamp), ends = { since: new Date(at).toISOString(), until: new Date(at + 1).toISOString() };
    const asked = new URLSearchParams(detail.service ? { ...ends, service: detail.service } : ends);
    return element("li", {}, time(line.timestamp), element("a", { href: `/api/v1/logs?${asked}` }, `${line.topic}/${line.partition} @ ${line.offset}`));
  };
  return section("Lines to begin with", element("ul", { class: "story" }, ...rows.map(place)));
}

// ── the lines ──────────────────────────────────────────────────────────────────────────────────────────────────

function lines(detail, onlyErrors, only) {
  readLogs(detail, onlyErrors, only).catch((refused) => { view.logs = { id: detail.id, logs: [], refused: refused.message }; });
}

function logs(detail) {
  const read = view.logs;
  const toggle = element("button", { type: "button", class: "small", "aria-pressed": String(Boolean(read?.onlyErrors)), on: { click: () => lines(detail, !read?.onlyErrors, read?.only) } }, "Errors only");
  const only = read?.only && element("button", { type: "button", class: "small", on: { click: () => lines(detail, read.onlyErrors) } }, `Only ${Object.values(read.only)[0]} ✕`);
  const shown = (read?.logs ?? []).map((log) => element("li", { class: log.level.toLowerCase() }, time(log.timestamp), element("b", {}, log.level), element("span", { class: "host" }, log.host ?? ""), element("span", { class: "message" }, log.message ?? "")));
  const words = !read?.logs ? "Reading…" : read.refused ?? (shown.length ? null : "No line is stored for these minutes.");
  const more = read?.total > shown.length ? element("p", { class: "muted" }, `The first ${shown.length} of ${read.total_is_exact ? "" : "more than "}${count(read.total)}; `, element("a", { href: read.query }, "all of them")) : null;
  return section("Lines ± 10 minutes", toggle, only, words && element("p", { class: "muted" }, words), element("ol", { class: "lines", tabindex: 0, "aria-label": "Log lines around the beginning" }, ...shown), more);
}

function story(detail) {
  const events = detail.events ?? [];
  // Of many changes in a row only the last one says something.
  const told = events.filter((event, i) => event.kind !== "updated" || events[i + 1]?.kind !== "updated");
  return section("What happened", element("ol", { class: "story" }, ...told.map((event) => element("li", {}, time(event.clock), happened(event)))));
}

// What people say of it changes it, too: then the reason says all.
function happened({ kind, reason }) {
  if (/^(no longer )?expected/.test(reason ?? "")) return reason[0].toUpperCase() + reason.slice(1);
  return `${KINDS[kind] ?? kind}${reason ? `: ${reason}` : ""}`;
}

function rest(detail) {
  if (!detail.provenance) return null;
  return element("details", {}, element("summary", {}, "What the decision rests on"), element("pre", { tabindex: 0 }, JSON.stringify({ id: detail.id, explanation: detail.explanation, provenance: detail.provenance }, null, 2)));
}
