#!/usr/bin/env bash
#SBATCH --job-name=vitptq
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --output=vitptq-%A-%a.log
# One eighth of the suite per task, into one shared folder; a task that is killed goes on where it was when it is submitted again.
#     job=$(sbatch --parsable docs/examples/nightly/slurm-array.sh)
#     sbatch --dependency=afterany:$job docs/examples/nightly/slurm-report.sh
# Where no folder is shared, name one per task and merge afterwards: cp -r part-*/. results/
set -euo pipefail
results=${VITPTQ_RESULTS:-/shared/vitptq/results}
.tox/quick/bin/vitptq run imagenet --shard "${SLURM_ARRAY_TASK_ID:?}/${SLURM_ARRAY_TASK_COUNT:?}" --results "$results"
