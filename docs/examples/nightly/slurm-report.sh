#!/usr/bin/env bash
#SBATCH --job-name=vitptq-report
#SBATCH --time=00:30:00
#SBATCH --output=vitptq-report-%j.log
# After the array: what became worse since the commit of the last report. Status 1 says that something did.
set -euo pipefail
results=${VITPTQ_RESULTS:-/shared/vitptq/results}
last=$results/last-reported-commit
if [ ! -e "$last" ]; then
    git rev-parse HEAD > "$last"
    echo "nothing to compare with yet; the next report begins at $(cat "$last")"
    exit 0
fi
status=0
.tox/quick/bin/vitptq diff "$(cat "$last")" HEAD --results "$results" --format markdown || status=$?
[ "$status" -gt 1 ] || git rev-parse HEAD > "$last"
exit "$status"
