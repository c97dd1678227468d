#!/usr/bin/env bash
# prometheus-client 0.26.0: choose_encoder, which every exporter of the package asks what to answer, looks at the media
# types of an Accept header and not at their weights. A client that excludes OpenMetrics with q=0 gets OpenMetrics, and
# so does one that likes the text format ten times better.
# Expected (RFC 9110, 12.4.2): q=0 is "not acceptable", and of two formats the one with the greater weight is sent.
# Seen: application/openmetrics-text in both cases.
# What Renorm does: it weighs the ranges itself and hands on those of the format that the client likes best.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q prometheus-client==0.26.0
seen=$("$folder/venv/bin/python" - <<'P'
from prometheus_client.exposition import choose_encoder

for accept in (
    "text/plain",
    "application/openmetrics-text;version=1.0.0;q=0, text/plain",
    "application/openmetrics-text;version=1.0.0;q=0.1, text/plain;q=1",
):
    print(accept, "->", choose_encoder(accept)[1].partition(";")[0])
P
)
echo "$seen"
diff <(echo "$seen") - <<'E2'
text/plain -> text/plain
application/openmetrics-text;version=1.0.0;q=0, text/plain -> application/openmetrics-text
application/openmetrics-text;version=1.0.0;q=0.1, text/plain;q=1 -> application/openmetrics-text
E2
echo "as found"
