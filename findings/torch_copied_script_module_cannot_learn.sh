#!/usr/bin/env bash
# torch 2.13.0: copy.deepcopy of a scripted module, alone or as a part of a network, makes its parameters with clone()
# under whatever gradient mode is on. With gradients on, the copies are results of a computation and no leaves: an
# optimizer refuses them, and backward() through the copy fills the gradients of the original. Under no_grad they are
# leaves that ask for no gradient. Copies of the same module before scripting are parameters like any other.
# Expected: the copy of a trainable module is trainable, and learns apart from the original, in either mode.
# Seen: "can't optimize a non-leaf Tensor"; after backward() the original has gradients and the copy has none.
# What Renorm does: it copies networks under no_grad, so that a copy shares no graph with its original.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy
seen=$("$folder/venv/bin/python" -W ignore - <<'P'
import copy

import torch
from torch import nn

for kind, original in (("eager", nn.Conv2d(3, 4, 3)), ("scripted", torch.jit.script(nn.Conv2d(3, 4, 3)))):
    copied = copy.deepcopy(original)
    print(kind, "leaves", [one.is_leaf for one in copied.parameters()])
    try:
        torch.optim.SGD(copied.parameters(), lr=0.1)
        print(kind, "optimizer made")
    except ValueError as error:
        print(kind, "optimizer", error)
    copied(torch.rand(1, 3, 8, 8)).sum().backward()
    learned = all(one.grad is not None for one in original.parameters())
    print(kind, "gradients of the original", learned)
    with torch.no_grad():
        print(kind, "under no_grad", [one.requires_grad for one in copy.deepcopy(original).parameters()])
P
)
echo "$seen"
diff <(echo "$seen") - <<'E2'
eager leaves [True, True]
eager optimizer made
eager gradients of the original False
eager under no_grad [True, True]
scripted leaves [False, False]
scripted optimizer can't optimize a non-leaf Tensor
scripted gradients of the original True
scripted under no_grad [False, False]
E2
echo "as found"
