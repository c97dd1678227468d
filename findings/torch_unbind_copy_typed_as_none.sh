#!/usr/bin/env bash
# torch 2.13.0: the package's own type stubs say that torch.unbind_copy, split_copy and split_with_sizes_copy return
# None. They return tuples of tensors, so correct code that uses what they return does not pass mypy.
# Expected: the types of torch.unbind and torch.split, whose copying forms they are.
# Seen: error: "unbind_copy" does not return a value, and so on, while the program runs.
# What Renorm does: it silences that one error where it keeps the rows of a forward one by one (adapters/engine/drift.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 mypy==2.4.1
cat >"$folder/rows.py" <<'P'
import torch

x = torch.arange(6.0).reshape(3, 2)
print(len(torch.unbind(x)), len(torch.split(x, 1)))
print(len(torch.unbind_copy(x)), len(torch.split_copy(x, 1)), len(torch.split_with_sizes_copy(x, [1, 2])))
P
"$folder/venv/bin/python" "$folder/rows.py" | tee "$folder/ran"
diff "$folder/ran" - <<'SEEN'
3 3
3 3 2
SEEN
(cd "$folder" && "$folder/venv/bin/mypy" --no-error-summary rows.py || true) | tee "$folder/checked"
diff <(grep -o '"[a-z_]*" does not return a value' "$folder/checked") - <<'SEEN'
"unbind_copy" does not return a value
"split_copy" does not return a value
"split_with_sizes_copy" does not return a value
SEEN
echo "as found"
