#!/bin/sh
# Lays the index template, the retention and the dashboard; what is there already stays or is replaced by the same.
#
#     OPENSEARCH=http://localhost:9200 DASHBOARDS=http://localhost:5601 compose/elk/setup.sh
#
# Without DASHBOARDS only the first; a server without index state management is told of and goes without retention.
set -eu
cd "$(dirname "$0")"

put() { # PATH FILE
    curl --fail --silent --show-error --retry 5 --request PUT --header 'Content-Type: application/json' \
        --data-binary "@$2" "$OPENSEARCH/$1" && echo
}

put _index_template/smartlog-logs index-template.json
policy=_plugins/_ism/policies/smartlog-logs
if curl --fail --silent "$OPENSEARCH/$policy" >/dev/null; then
    echo "the retention is there"
elif ! put "$policy" retention.json; then
    echo "this server cannot delete old days by itself: no index state management" >&2
fi
[ -n "${DASHBOARDS:-}" ] || exit 0
curl --fail --silent --show-error --retry 5 --header 'osd-xsrf: true' --form file=@dashboard.ndjson \
    "$DASHBOARDS/api/saved_objects/_import?overwrite=true"
echo
