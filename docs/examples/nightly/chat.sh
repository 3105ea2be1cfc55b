#!/bin/sh
# For --notify: the first line to a chat that takes {"text": …} at the address in VITPTQ_CHAT_URL.
[ "$VITPTQ_REGRESSIONS" -eq 0 ] && exit 0
text=$(python3 -c 'import json, os; print(json.dumps({"text": "vitptq: " + os.environ["VITPTQ_FIRST_LINE"]}))')
exec curl --fail --silent --show-error --header 'Content-Type: application/json' --data "$text" "$VITPTQ_CHAT_URL"
