#!/usr/bin/env bash
# Ask and wait; stream; submit, poll and cancel.
set -euo pipefail
url=${LLMBATCH_URL:-http://localhost:8000}
key=(-H "Authorization: Bearer ${LLMBATCH_API_KEY:-}")
[ -n "${LLMBATCH_API_KEY:-}" ] || key=()
json=(-H 'Content-Type: application/json')

echo "== wait for the answer"
curl -sS --fail-with-body "${key[@]}" "${json[@]}" "$url/v1/query" \
  -d '{"username": "demo", "prompt": "Why is the sky blue?", "priority": "HIGH"}'

echo; echo "== stream the answer while the model writes it"
curl -sS --fail-with-body -N "${key[@]}" "${json[@]}" "$url/v1/query" -H 'Accept: text/event-stream' \
  -d '{"username": "demo", "prompt": "Why is the sea salty?", "priority": "HIGH"}'

echo "== submit, and poll until the request is answered"
id="demo-$RANDOM$RANDOM"
curl -sS --fail-with-body "${key[@]}" "${json[@]}" "$url/v1/query" -H 'Prefer: respond-async' \
  -d "{\"username\": \"demo\", \"request_id\": \"$id\", \"prompt\": \"Why do cats purr?\"}"
echo
until state=$(curl -sS --fail-with-body "${key[@]}" "$url/v1/query/$id"); [[ $state != *'"queued"'* && $state != *'"running"'* ]]; do
  sleep 0.3
done
echo "$state"

echo "== submit, and cancel"
curl -sS --fail-with-body "${key[@]}" "${json[@]}" "$url/v1/query" -H 'Prefer: respond-async' \
  -d "{\"username\": \"demo\", \"request_id\": \"$id-2\", \"prompt\": \"Never mind\", \"priority\": \"LOW\"}"
echo
curl -sS --fail-with-body "${key[@]}" -X DELETE "$url/v1/query/$id-2"
echo
