#!/bin/sh
# Lays the dashboard; one that is there already is replaced.
#
#     DASHBOARDS=http://localhost:5601 compose/elk/setup.sh
set -eu
cd "$(dirname "$0")"
curl --fail --silent --show-error --retry 5 --header 'osd-xsrf: true' --form file=@dashboard.ndjson \
    "$DASHBOARDS/api/saved_objects/_import?overwrite=true"
echo
