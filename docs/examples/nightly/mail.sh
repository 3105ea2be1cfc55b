#!/bin/sh
# For --notify: the report by mail, its first line as the subject; silent where nothing became worse.
[ "$VITPTQ_REGRESSIONS" -eq 0 ] && exit 0
exec mail -s "vitptq: $VITPTQ_FIRST_LINE" "${VITPTQ_MAIL_TO:-root}" < "$VITPTQ_REPORT"
