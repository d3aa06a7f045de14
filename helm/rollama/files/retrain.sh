# The named jobs on the site's data set, one after the other.
# The workspace carries the data set's digest, so a data set that was trained on already is found done. An evaluation that
# succeeded is repeated when something was trained before it; else it is found done too.
set -euo pipefail
: "${DATASET:?}" "${WORKSPACE:?}"
digest=${DATASET##*@sha256:}
workspace=${WORKSPACE%/}/retrain-${digest:0:12}
again=(--reuse)
for job in "$@"; do
  echo "retrain: $job in $workspace"
  rollama submit job "$job" --dataset "$DATASET" --workspace "$workspace" --wait --retries 2 "${again[@]}" 2>&1 | tee "${TMPDIR:-/tmp}/said"
  grep -q "has succeeded already" "${TMPDIR:-/tmp}/said" || again=()
done
