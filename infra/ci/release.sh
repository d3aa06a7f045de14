#!/usr/bin/env bash
# New data -> retrain -> evaluate -> gate -> promote, or a report of why not. For a runner on which the models can run
# (rollama with the extras train, seg and release; a GPU for real sizes).
#
#   DATASET=s3://bucket/store@sha256:... WORKSPACE=s3://bucket/prefix/2026-11 KEY=release.key bash infra/ci/release.sh
#
#   ROLLAMA_RELEASES  the site's releases.yaml (history, store, keys, signed protocol, endpoint)
#   DATASET           reference or folder of the data set
#   WORKSPACE         runs and models; what was trained there on this data set before, by jobs on a cluster too
#                     (infra/ci/retrain.sh), is found and not trained again
#   KEY               release key: may sign verdicts and promotions, not protocols and not approvals
#   PRESET            default local; GPUS default 0; JUDGE_ON another data set that judges
#   REPORT            folder for verdict.html, verdict.json and log; default release-report
#
# Running it again goes on where it stopped. Exit code: 0 promoted, waiting for an approval, or nothing new; 3 refused; 4
# under-powered; 5 another release was first; 6 released, but registry or endpoint did not follow (rollama release settle).
set -euo pipefail
: "${DATASET:?data set}" "${WORKSPACE:?runs and models}" "${KEY:?release key}" "${ROLLAMA_RELEASES:?releases.yaml of the site}"
report=${REPORT:-release-report}
mkdir -p "$report"
code=0
rollama release cycle --dataset "$DATASET" --workspace "$WORKSPACE" --preset "${PRESET:-local}" --gpus "${GPUS:-0}" \
  --key "$KEY" --out "$report" ${JUDGE_ON:+--judge-on "$JUDGE_ON"} 2>&1 | tee "$report/log.txt" || code=${PIPESTATUS[0]}
exit "$code"
