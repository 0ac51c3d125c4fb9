#!/usr/bin/env python3
"""Writes dashboards/*.json. Change a panel here, run it, commit both; a test tells when they differ.

    grafana/dashboards.py            write the files
    grafana/dashboards.py --check    fail when they are not what this would write

Every panel names its data source by a variable, has a title, a description and a unit; every query of Prometheus selects by
$job and $instance, and takes rates over $__rate_interval.
"""

import json
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "dashboards"
PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
POSTGRES = {"type": "grafana-postgresql-datasource", "uid": "${postgres}"}
ON = 'job=~"$job", instance=~"$instance"'
SERVICE = ON + ', service=~"$service"'
RATE = "$__rate_interval"
SELECTED = "($__timeFilter({time}) AND ('${{service:raw}}' = '.*' OR service IN (${{service:sqlstring}})))"


# ---- targets -------------------------------------------------------------------------------------------------


def prom(expr: str, legend: str = "__auto", instant: bool = False) -> dict:
    how = {"instant": True, "range": False} if instant else {"instant": False, "range": True}
    return {"datasource": PROMETHEUS, "editorMode": "code", "expr": expr, "legendFormat": legend, **how}


def sql(text: str, kind: str = "table") -> dict:
    text = " ".join(text.split())
    return {"datasource": POSTGRES, "editorMode": "code", "format": kind, "rawQuery": True, "rawSql": text}


def quantiles(metric: str, by: str, select: str = ON) -> list:
    legend = f"{{{{{by}}}}} " if by else ""
    labels = f"{by}, le" if by else "le"
    return [
        prom(f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{select}}}[{RATE}])))", f"{legend}p{int(q * 100)}")
        for q in (0.5, 0.99)
    ]


# ---- panels --------------------------------------------------------------------------------------------------


def panel(kind: str, title: str, description: str, unit: str, targets, width: int = 8, height: int = 8, **more) -> dict:
    targets = targets if isinstance(targets, list) else [targets]
    named = [{**target, "refId": chr(ord("A") + at)} for at, target in enumerate(targets)]
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": named[0]["datasource"],
        "targets": named,
        "fieldConfig": {"defaults": {"unit": unit, **more.pop("defaults", {})}, "overrides": more.pop("overrides", [])},
        "options": more.pop("options", {}),
        "gridPos": {"w": width, "h": height},
        **more,
    }


def lines(title: str, description: str, unit: str, targets, stack: bool = False, **more) -> dict:
    drawn = {"lineWidth": 1, "fillOpacity": 20 if stack else 8, "showPoints": "never", "spanNulls": False}
    if stack:
        drawn["stacking"] = {"mode": "normal", "group": "A"}
    defaults = {"custom": drawn, "min": 0, **more.pop("defaults", {})}
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel("timeseries", title, description, unit, targets, defaults=defaults, options=options, **more)


def stat(title: str, description: str, unit: str, targets, steps=(("green", None),), **more) -> dict:
    thresholds = {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}
    options = {
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "auto",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "auto",
    }
    more = {"width": 4, "height": 4, **more}
    return panel("stat", title, description, unit, targets, defaults={"thresholds": thresholds}, options=options, **more)


def bars(title: str, description: str, unit: str, targets, **more) -> dict:
    drawn = {"drawStyle": "bars", "fillOpacity": 70, "lineWidth": 0, "stacking": {"mode": "normal", "group": "A"}}
    shown = lines(title, description, unit, targets, **more)
    shown["fieldConfig"]["defaults"]["custom"] = drawn
    return shown


def table(title: str, description: str, unit: str, targets, **more) -> dict:
    return panel("table", title, description, unit, targets, options={"showHeader": True, "cellHeight": "sm"}, **more)


def row(title: str) -> dict:
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def colour_by(column: str, colours: dict) -> dict:
    options = {text: {"color": colour, "index": at} for at, (text, colour) in enumerate(colours.items())}
    return {
        "matcher": {"id": "byName", "options": column},
        "properties": [
            {"id": "mappings", "value": [{"type": "value", "options": options}]},
            {"id": "custom.cellOptions", "value": {"type": "color-text"}},
        ],
    }


# ---- dashboards ----------------------------------------------------------------------------------------------


def place(panels: list) -> list:
    """From left to right, top to bottom, 24 columns wide."""
    x = y = tallest = 0
    for number, each in enumerate(panels, start=1):
        at = each["gridPos"]
        if x + at["w"] > 24:
            x, y, tallest = 0, y + tallest, 0
        each["id"] = number
        each["gridPos"] = {"x": x, "y": y, "w": at["w"], "h": at["h"]}
        x, tallest = x + at["w"], max(tallest, at["h"])
    return panels


def source(name: str, label: str, plugin: str, uid: str) -> dict:
    current = {"selected": False, "text": label, "value": uid}
    return {"type": "datasource", "name": name, "label": label, "query": plugin, "current": current, "hide": 0, "includeAll": False,
            "multi": False, "options": [], "refresh": 1, "regex": "", "skipUrlSync": False}  # fmt: skip


def choice(name: str, label: str, query: str) -> dict:
    every = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return {"type": "query", "name": name, "label": label, "datasource": PROMETHEUS, "definition": query,
            "query": {"query": query, "refId": f"Variable-{name}"}, "allValue": ".+", "includeAll": True, "multi": True,
            "current": every, "hide": 0, "options": [], "refresh": 2, "regex": "", "skipUrlSync": False, "sort": 1}  # fmt: skip


def dashboard(uid: str, title: str, description: str, panels: list, variables: list, since: str, annotations: list) -> dict:
    link = {"asDropdown": True, "icon": "external link", "includeVars": True, "keepTime": True, "tags": ["smartlog"],
            "targetBlank": False, "title": "smartlog", "tooltip": "The other dashboards", "type": "dashboards", "url": ""}  # fmt: skip
    every = [
        source("datasource", "Data source", "prometheus", "smartlog-prometheus"),
        source("postgres", "Database", "grafana-postgresql-datasource", "smartlog-postgres"),
        choice("job", "Job", 'label_values(smartlog_build_info, job)'),
        choice("instance", "Instance", 'label_values(smartlog_build_info{job=~"$job"}, instance)'),
    ]
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["smartlog"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "timezone": "",
        "links": [link],
        "annotations": {"list": annotations},
        "templating": {"list": every + variables},
        "panels": place(panels),
    }


EPISODES = {
    "name": "Episodes",
    "enable": True,
    "hide": False,
    "iconColor": "red",
    "datasource": POSTGRES,
    "target": {
        **sql(
            """SELECT started_at AS time, coalesce(ended_at, last_seen) AS timeend,
            coalesce(service, 'the whole stream') || ': ' || description AS text, anomaly_type || ',' || severity || ',' || status AS tags
            FROM anomalies WHERE $__timeFilter(started_at) AND status <> 'retracted' ORDER BY started_at LIMIT 200"""
        ),
        "refId": "Anno",
    },
}
RESTARTS = {
    "name": "Starts",
    "enable": True,
    "hide": False,
    "iconColor": "blue",
    "datasource": PROMETHEUS,
    "expr": f"changes(process_start_time_seconds{{{ON}}}[1m]) > 0",
    "step": "60s",
    "titleFormat": "started",
    "textFormat": "{{job}} {{instance}}",
}
SEVERITIES = {"critical": "dark-red", "high": "red", "medium": "orange", "low": "yellow"}
STATES = {"open": "red", "provisional": "orange", "resolved": "green", "expired": "blue", "retracted": "text"}


def logs_and_anomalies() -> dict:
    window_logs, window_errors = f"smartlog_window_logs{{{SERVICE}}}", f"smartlog_window_errors{{{SERVICE}}}"
    by_service = "sum by (service)"
    panels = [
        stat("Logs", "Logs that are read now.", "cps", prom(f"sum(rate(smartlog_logs_total{{{ON}}}[{RATE}]))")),
        stat("Error rate", "Share of ERROR and FATAL among the logs of the last 5 minutes.", "percentunit",
             prom(f"sum({window_errors}) / sum({window_logs})"), (("green", None), ("orange", 0.05), ("red", 0.2))),
        stat("Services", "Services with a log in the last 5 minutes.", "short", prom(f"sum(smartlog_window_services{{{ON}}})")),
        stat("Open episodes", "Confirmed by complete windows and not over.", "short",
             prom(f'sum(smartlog_episodes{{{ON}, status="open"}})'), (("green", None), ("orange", 1), ("red", 5))),
        stat("Dead letters", "Records that are no logs.", "cps", prom(f"sum(rate(smartlog_dead_letters_total{{{ON}}}[{RATE}]))"),
             (("green", None), ("orange", 0.1))),
        stat("Clock behind", "How much later than now trouble is noticed.", "s", prom(f"max(smartlog_clock_delay_seconds{{{ON}}})"),
             (("green", None), ("orange", 10), ("red", 120))),
        row("Volume and errors"),
        lines("Log volume by service", "Mean over the open 5-minute window; __other__ is all services beyond metrics.services.", "cps",
              prom(f"{by_service} ({window_logs}) / 300", "{{service}}"), stack=True, width=12, height=9),
        lines("Error rate by service", "Errors among the logs of the open 5-minute window: what error_rate_spike judges.", "percentunit",
              prom(f"{by_service} ({window_errors}) / ({by_service} ({window_logs}) > 0)", "{{service}}"), width=12, height=9),
        lines("Length of messages", "Mean characters of a message in the open 5-minute window.", "short",
              prom(f"{by_service} (smartlog_window_message_characters{{{SERVICE}}}) / ({by_service} ({window_logs}) > 0)", "{{service}}")),
        lines("Dead letters by reason", "Why records were no logs; docs/FORMAT.md tells each reason.", "cps",
              prom(f"sum by (reason) (rate(smartlog_dead_letters_total{{{ON}}}[{RATE}]))", "{{reason}}"), stack=True),
        lines("Detection delay", "From the end of a tick until all its windows are judged.", "s",
              quantiles("smartlog_tick_duration_seconds", "")),
        row("Anomalies"),
        lines("Open episodes", "Not over now, by type and severity.", "short",
              prom(f'sum by (type, severity) (smartlog_episodes{{{ON}, status="open"}})', "{{type}}, {{severity}}"), stack=True),
        bars("Changes of episodes", "What became of episodes, per minute: raised, confirmed, resolved, retracted.", "short",
             prom(f"sum by (kind) (increase(smartlog_episode_changes_total{{{ON}}}[{RATE}]))", "{{kind}}")),
        bars("Episodes per hour", "Episodes that are not retracted, by the hour in which they began.", "short",
             sql(f"""SELECT $__timeGroupAlias(hour, '1h'), service AS metric, sum(anomaly_count) AS value FROM hourly_metrics
                 WHERE {SELECTED.format(time="hour")} GROUP BY 1, 2 ORDER BY 1""", "time_series")),
        table("Recent episodes", "As the page and the API show them; `crossed` is the value that was crossed, floors included.", "short",
              sql(f"""SELECT id, started_at, coalesce(service, 'the whole stream') AS service, anomaly_type AS type, severity, status,
                  metric_value AS value, threshold AS crossed, baseline AS usual, description, ended_at, model_version AS model
                  FROM anomalies WHERE $__timeFilter(started_at) ORDER BY started_at DESC LIMIT 100"""),
              width=24, height=9, overrides=[colour_by("severity", SEVERITIES), colour_by("status", STATES)]),
        row("From the tables"),
        bars("Logs per hour", "hourly_metrics, late logs included: what the exporter and the daily summaries count too.", "short",
             sql(f"""SELECT $__timeGroupAlias(hour, '1h'), service AS metric, sum(log_count) AS value FROM hourly_metrics
                 WHERE {SELECTED.format(time="hour")} GROUP BY 1, 2 ORDER BY 1""", "time_series"), width=12),
        bars("Errors per hour", "hourly_metrics, late logs included.", "short",
             sql(f"""SELECT $__timeGroupAlias(hour, '1h'), service AS metric, sum(error_count) AS value FROM hourly_metrics
                 WHERE {SELECTED.format(time="hour")} GROUP BY 1, 2 ORDER BY 1""", "time_series"), width=12),
        table("Latest errors", "The newest lines at ERROR and FATAL.", "short",
              sql(f"""SELECT timestamp, level, service, host, message FROM logs WHERE {SELECTED.format(time="timestamp")}
                  AND level IN ('ERROR', 'FATAL') ORDER BY timestamp DESC LIMIT 50"""), width=16, height=9),
        table("Latest dead letters", "What could not be read as a log, and why.", "short",
              sql("""SELECT created_at AS stored_at, reason, detail FROM dead_letters WHERE $__timeFilter(created_at)
                  ORDER BY created_at DESC LIMIT 50"""), height=9),
    ]  # fmt: skip
    service = {**choice("service", "Service", f"label_values(smartlog_window_logs{{{ON}}}, service)"), "allValue": ".*"}
    about = "What the logs say: volume, errors, and what is wrong. Prometheus for now, PostgreSQL for what was."
    return dashboard("smartlog-logs", "Logs and anomalies", about, panels, [service], "now-3h", [EPISODES])


def pipeline_health() -> dict:
    panels = [
        stat("Up", "Targets of Prometheus that answer.", "short", prom(f"sum(up{{{ON}}})"), (("red", None), ("green", 1))),
        stat("Unread", "Records in Kafka that are not read yet.", "short", prom(f"sum(smartlog_lag_records{{{ON}}})"),
             (("green", None), ("orange", 10_000), ("red", 1_000_000))),
        stat("Clock behind", "How much later than now trouble is noticed.", "s", prom(f"max(smartlog_clock_delay_seconds{{{ON}}})"),
             (("green", None), ("orange", 10), ("red", 120))),
        stat("Sinks that fail", "Stores and log sinks whose last attempt failed.", "short",
             prom(f"count(smartlog_sink_up{{{ON}}} == 0) or vector(0)"), (("green", None), ("red", 1))),
        stat("Lost records", "Records that Kafka deleted before they were read, since the start.", "short",
             prom(f"sum(increase(smartlog_records_lost_to_retention_total{{{ON}}}[$__range]))"), (("green", None), ("red", 1))),
        stat("API, slowest of 100", "99 of 100 answers come within this.", "s",
             prom(f"histogram_quantile(0.99, sum by (le) (rate(smartlog_api_request_duration_seconds_bucket{{{ON}}}[{RATE}])))"),
             (("green", None), ("orange", 0.3), ("red", 1))),
        row("Reading"),
        lines("Records by outcome", "What comes in is logs and dead letters, nothing else.", "cps",
              [prom(f"sum(rate(smartlog_logs_total{{{ON}}}[{RATE}]))", "logs"),
               prom(f"sum(rate(smartlog_dead_letters_total{{{ON}}}[{RATE}]))", "dead letters")], stack=True),
        lines("Bytes", "Payloads read.", "Bps", prom(f"sum by (instance) (rate(smartlog_record_bytes_total{{{ON}}}[{RATE}]))", "{{instance}}")),
        lines("Lag by partition", "Records whose effects are not durable yet: the lag that Kafka's tools show of the group.", "short",
              prom(f"max by (topic, partition) (smartlog_partition_lag_records{{{ON}}})", "{{topic}} {{partition}}")),
        lines("Clock and watermark", "How far event time is behind the wall; the watermark follows the clock by time.watermark_delay.", "s",
              [prom(f"max(smartlog_clock_delay_seconds{{{ON}}})", "clock"),
               prom(f"max(time() - (smartlog_watermark_timestamp_seconds{{{ON}}} > 0))", "watermark")]),
        lines("Ticks", "From the end of a tick until every worker is done with it; the tick itself is smartlog_tick_interval_seconds.", "s",
              quantiles("smartlog_tick_duration_seconds", "")),
        lines("Errors of Kafka", "As librdkafka reports them.", "cps",
              prom(f"sum by (instance) (rate(smartlog_kafka_errors_total{{{ON}}}[{RATE}]))", "{{instance}}")),
        row("Writing"),
        lines("Rows written", "By store and log sink.", "cps", prom(f"sum by (sink) (rate(smartlog_sink_rows_total{{{ON}}}[{RATE}]))", "{{sink}}")),
        lines("Commits take", "Of each store and log sink, failed attempts included.", "s",
              quantiles("smartlog_sink_commit_duration_seconds", "sink")),
        lines("Rows in a commit", "Mean; grows while a store is slow, for what waits is merged.", "short",
              prom(f"sum by (sink) (rate(smartlog_sink_commit_rows_sum{{{ON}}}[{RATE}])) / "
                   f"(sum by (sink) (rate(smartlog_sink_commit_rows_count{{{ON}}}[{RATE}])) > 0)", "{{sink}}")),
        lines("Attempts that failed", "They are made again until they work.", "cps",
              prom(f"sum by (sink) (rate(smartlog_sink_retries_total{{{ON}}}[{RATE}]))", "{{sink}}")),
        lines("Well", "1 where the last attempt worked.", "short", prom(f"min by (sink) (smartlog_sink_up{{{ON}}})", "{{sink}}"),
              defaults={"max": 1}),
        lines("Log sinks behind", "Records that were read and that a log sink was not handed yet.", "short",
              prom(f"sum by (sink) (smartlog_lane_lag_records{{{ON}}})", "{{sink}}")),
        row("Queues"),
        lines("Lanes of log sinks", "How full they are; a full one is left to a reader of its own.", "percentunit",
              prom(f"max by (sink) (smartlog_lane_bytes{{{ON}}} / smartlog_lane_limit_bytes{{{ON}}})", "{{sink}}"), defaults={"max": 1}),
        lines("Sums ahead of the clock", "How full their room is; partitions that run ahead are paused when it is.", "percentunit",
              prom(f"max by (instance) (smartlog_waiting_bytes{{{ON}}} / smartlog_waiting_limit_bytes{{{ON}}})", "{{instance}}"),
              defaults={"max": 1}),
        lines("Commit that waits", "Closed epochs that the store has not taken yet; they merge.", "bytes",
              prom(f"max by (instance) (smartlog_pending_commit_bytes{{{ON}}})", "{{instance}}")),
        row("Alerts to people"),
        lines("Alerts that wait", "By webhook; those held by quiet hours are among them.", "short",
              prom(f"max by (hook) (smartlog_alerts_pending{{{ON}}})", "{{hook}}"), height=6),
        lines("Oldest alert", "For how long it has waited for its webhook.", "s",
              prom(f"max by (hook) (smartlog_alerts_oldest_seconds{{{ON}}})", "{{hook}}"), height=6),
        lines("Messages", "Taken by their receivers, and attempts that failed.", "cps",
              [prom(f"sum by (hook) (rate(smartlog_alert_messages_total{{{ON}}}[{RATE}]))", "{{hook}} taken"),
               prom(f"sum by (hook) (rate(smartlog_alert_failures_total{{{ON}}}[{RATE}]))", "{{hook}} failed")], height=6),
        row("API"),
        lines("Requests", "By route.", "reqps", prom(f"sum by (route) (rate(smartlog_api_requests_total{{{ON}}}[{RATE}]))", "{{route}}"), stack=True),
        lines("Answers take", "From the head of a request to the head of its answer, by route.", "s",
              prom(f"histogram_quantile(0.99, sum by (route, le) (rate(smartlog_api_request_duration_seconds_bucket{{{ON}}}[{RATE}])))", "{{route}} p99")),
        lines("Answers by status", "4xx are the clients', 5xx its own.", "reqps",
              prom(f"sum by (status) (rate(smartlog_api_requests_total{{{ON}}}[{RATE}]))", "{{status}}"), stack=True),
        row("Processes"),
        lines("Memory", "Resident.", "bytes", prom(f"process_resident_memory_bytes{{{ON}}}", "{{job}} {{instance}}")),
        lines("Processors", "Processors in use.", "short", prom(f"rate(process_cpu_seconds_total{{{ON}}}[{RATE}])", "{{job}} {{instance}}")),
        lines("Open files", "Files and sockets, of those that may be open.", "percentunit",
              prom(f"process_open_fds{{{ON}}} / process_max_fds{{{ON}}}", "{{job}} {{instance}}")),
        table("Versions", "Which program runs where.", "short", prom(f"smartlog_build_info{{{ON}}}", instant=True), height=5, width=12,
              transformations=[{"id": "labelsToFields", "options": {"mode": "columns"}}]),
        lines("Windows scored", "By the models in force.", "cps",
              prom(f"sum by (instance) (rate(smartlog_scoring_duration_seconds_count{{{ON}}}[{RATE}]))", "{{instance}}"), height=5, width=12),
    ]  # fmt: skip
    about = "How smartlog itself is: throughput, lag, latency, sinks, queues, API, memory. docs/OPERATIONS.md says what to do."
    return dashboard("smartlog-pipeline", "Pipeline health", about, panels, [], "now-1h", [RESTARTS])


def main() -> int:
    stale = []
    for name, made in (("logs", logs_and_anomalies()), ("pipeline", pipeline_health())):
        path, text = FOLDER / f"{name}.json", json.dumps(made, indent=2, ensure_ascii=False) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        print(f"{', '.join(stale)}: not what grafana/dashboards.py writes; run it", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
