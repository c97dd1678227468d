#!/usr/bin/env bash
# torch 2.13.0: the module that torch.export gives back (ExportedProgram.module()) is an nn.Module, but .eval() and
# .train() raise NotImplementedError on it, and so they do on any network that holds one as a part. A network that was
# exported in eval mode cannot be told to be in it.
# Expected: eval() on a module that is in eval mode already changes nothing.
# Seen: NotImplementedError from the module itself and from a Sequential around it.
# What Renorm does: a factory that returns such a module is told what it is and to return the nn.Module itself.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
seen=$("$folder/venv/bin/python" - <<'P'
import torch
from torch import nn

exported = torch.export.export(nn.BatchNorm2d(3).eval(), (torch.rand(2, 3, 8, 8),)).module()
for name, module in (("alone", exported), ("as a part", nn.Sequential(nn.ReLU(), exported))):
    try:
        module.eval()
        print(name, "eval")
    except NotImplementedError:
        print(name, isinstance(module, nn.Module), "NotImplementedError")
P
)
echo "$seen"
diff <(echo "$seen") - <<'E2'
alone True NotImplementedError
as a part True NotImplementedError
E2
echo "as found"
