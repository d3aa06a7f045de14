#!/usr/bin/env bash
# Retrain S, P and SEG++ on a tagged data set, evaluate them, hold the result against required values, keep the report.
#
#   TAG=2026-11 DATASET=s3://bucket/store@sha256:... bash infra/ci/retrain.sh
#
# Needs: rollama on PATH, a kubeconfig of the account that the chart makes for CI (KUBECONFIG), nothing else: no
# cluster-wide rights, no keys of the object store. Running it again after a failure goes on where it stopped: finished
# jobs are found by their names, interrupted trainings resume from their checkpoints.
#
#   TAG        name of this retraining; a new tag trains in a workspace of its own
#   DATASET    reference of the data set, as `rollama push dataset` prints it
#   WORKSPACE  s3://bucket/prefix; runs and models lie below it under the tag
#   PRESET     default cluster-7b for S and P, cluster-seg for SEG (TEXT_PRESET, SEG_PRESET)
#   GPUS       of the evaluation; default 1 with the default presets, else 0
#   THRESHOLDS default infra/ci/thresholds.yaml
#   REPORT     folder for logs and report; default retrain-report
#
# Exit code: 0 all required values reached; 10 a job failed or a value was missed; 11 to 14 as `rollama submit` says.
set -euo pipefail
: "${TAG:?name of this retraining}" "${DATASET:?reference of the data set}" "${WORKSPACE:?s3://bucket/prefix}"
here=$(cd "$(dirname "$0")" && pwd)
report=${REPORT:-retrain-report}
text_preset=${TEXT_PRESET:-${PRESET:-cluster-7b}}
seg_preset=${SEG_PRESET:-${PRESET:-cluster-seg}}
workspace=$WORKSPACE/$TAG
gpus=${GPUS:-$([ -n "${PRESET:-}${TEXT_PRESET:-}" ] && echo 0 || echo 1)}
mkdir -p "$report"

submit() { # name of the log, then the arguments of `rollama submit`
  local log=$report/$1.log
  shift
  echo "== rollama submit $*"
  rollama submit "$@" --dataset "$DATASET" --workspace "$workspace" --wait --retries 2 2>&1 | tee "$log"
}

submit s train s --preset "$text_preset"
submit p train p --preset "$text_preset"
submit seg train seg --preset "$seg_preset"
code=0
submit evaluation evaluate --name "$TAG" --gpus "$gpus" --require "${THRESHOLDS:-$here/thresholds.yaml}" || code=$?
# The job's log ends with the report as Markdown: from its last notice to the last row of its table.
awk '/^RESEARCH USE ONLY/ {n = 0; last = 0; on = 1}
     on {line[++n] = $0; if (/^\|/) last = n}
     END {for (i = 1; i <= last; i++) print line[i]}' "$report/evaluation.log" >"$report/evaluation.md"
if [ ! -s "$report/evaluation.md" ]; then
  echo "retrain: the log of the evaluation holds no report" >&2
  [ "$code" != 0 ] || code=10
fi
exit "$code"
