#!/usr/bin/env python3
"""Writes dashboard.ndjson, the saved objects of the dashboard *smartlog: logs* for OpenSearch Dashboards.

    compose/elk/dashboard.py            writes it beside this file
    compose/elk/dashboard.py --check    fails when it is not what this program writes
"""

import json
import sys
from pathlib import Path

FILE = Path(__file__).with_name("dashboard.ndjson")
PATTERN = "smartlog-logs"
ERRORS = "level:(ERROR or FATAL)"
COUNT = {"id": "1", "enabled": True, "type": "count", "schema": "metric", "params": {}}
OVER_TIME = {"id": "2", "enabled": True, "type": "date_histogram", "schema": "segment", "params": {"field": "timestamp", "interval": "auto"}}


def terms(identity: str, schema: str, field: str, size: int) -> dict:
    params = {"field": field, "size": size, "orderBy": "1", "order": "desc"}
    return {"id": identity, "enabled": True, "type": "terms", "schema": schema, "params": params}


def source(query: str) -> str:
    text = {"query": {"query": query, "language": "kuery"}, "filter": [], "indexRefName": "kibanaSavedObjectMeta.searchSourceJSON.index"}
    return json.dumps(text, sort_keys=True)


def of_pattern() -> list:
    return [{"name": "kibanaSavedObjectMeta.searchSourceJSON.index", "type": "index-pattern", "id": PATTERN}]


def picture(identity: str, title: str, kind: str, aggregations: list, query: str = "", **params) -> dict:
    state = {"title": title, "type": kind, "params": {"type": kind, "addLegend": True, "addTooltip": True, **params}, "aggs": aggregations}
    attributes = {
        "title": title,
        "visState": json.dumps(state, sort_keys=True),
        "uiStateJSON": "{}",
        "description": "",
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": source(query)},
    }
    return {"id": identity, "type": "visualization", "attributes": attributes, "references": of_pattern()}


def objects() -> list:
    pictures = [
        picture("smartlog-volume", "Logs by level", "histogram", [COUNT, OVER_TIME, terms("3", "group", "level", 6)]),
        picture("smartlog-errors", "Errors by service", "histogram", [COUNT, OVER_TIME, terms("3", "group", "service", 8)], ERRORS),
        picture("smartlog-services", "Services", "table", [COUNT, terms("2", "bucket", "service", 50)], perPage=10),
        picture("smartlog-messages", "Most frequent errors", "table", [COUNT, terms("2", "bucket", "message.keyword", 20)], ERRORS, perPage=10),
    ]
    search = {
        "id": "smartlog-lines",
        "type": "search",
        "attributes": {
            "title": "Errors, newest first",
            "columns": ["level", "service", "host", "message"],
            "sort": [["timestamp", "desc"]],
            "version": 1,
            "kibanaSavedObjectMeta": {"searchSourceJSON": source(ERRORS)},
        },
        "references": of_pattern(),
    }
    pattern = {"id": PATTERN, "type": "index-pattern", "attributes": {"title": "smartlog-logs-*", "timeFieldName": "timestamp"}, "references": []}
    return [pattern, *pictures, search, dashboard([*pictures, search])]


def dashboard(shown: list) -> dict:
    places = [(0, 0, 24, 12), (24, 0, 24, 12), (0, 12, 24, 14), (24, 12, 24, 14), (0, 26, 48, 18)]
    panels = [
        {"panelIndex": str(n), "gridData": {"i": str(n), "x": x, "y": y, "w": w, "h": h}, "version": "2.19.1", "panelRefName": f"panel_{n}", "embeddableConfig": {}}
        for n, (x, y, w, h) in enumerate(places)
    ]
    attributes = {
        "title": "smartlog: logs",
        "description": "What is in the topic, as OpenSearch has it. Anomalies are on smartlog's own page.",
        "panelsJSON": json.dumps(panels, sort_keys=True),
        "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}, sort_keys=True),
        "version": 1,
        "timeRestore": True,
        "timeFrom": "now-1h",
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": 10000},
        "kibanaSavedObjectMeta": {"searchSourceJSON": json.dumps({"query": {"query": "", "language": "kuery"}, "filter": []})},
    }
    references = [{"name": f"panel_{n}", "type": part["type"], "id": part["id"]} for n, part in enumerate(shown)]
    return {"id": "smartlog-logs", "type": "dashboard", "attributes": attributes, "references": references}


def main() -> int:
    text = "".join(json.dumps(each, sort_keys=True) + "\n" for each in objects())
    if "--check" in sys.argv[1:]:
        if FILE.read_text(encoding="utf-8") != text:
            print(f"{FILE} is not what {Path(__file__).name} writes: run it", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
