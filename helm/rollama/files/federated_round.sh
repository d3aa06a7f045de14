# A round of a federation's site as a RayJob of this cluster: TASK INIT OUT NAME, then options of `rollama submit train`.
# The weights that came go to the hospital's own store, the job begins from them, what it trained comes back to OUT.
# A job's name depends on the weights, so a round that is asked again finds the job that is running or the model it left.
set -euo pipefail
: "${WORKSPACE:?}"
task=$1 init=$2 out=$3 name=$4
shift 4
start=$(rollama push model "$init" "${WORKSPACE%/}/store")
rollama submit train "$task" --init "$start" --name "$name" --workspace "$WORKSPACE" --wait --retries 2 "$@"
trained=$(python -c '
import json, sys
from rollama.core.storage import open_storage
print(json.loads(open_storage(sys.argv[1]).read_text(f"models/{sys.argv[2]}.json"))["reference"])
' "$WORKSPACE" "$name")
rollama pull "$trained" "$out"
# The lineage of the hospital's bucket knows which cases it saw; the site's, in its state folder, takes it from beside OUT.
rollama lineage carry "$out" --workspace "$WORKSPACE" --to "${out%/models/*}"
