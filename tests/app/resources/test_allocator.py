"""What a forward frees stays with the process, unless somebody chose otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

KEEP = """
from app.resources.allocator import keep_freed_memory
kept = keep_freed_memory()
"""
FAULTS = """
import resource, threading, torch
torch.set_num_threads(1)

def work():
    x = torch.rand(4, 2**18)
    for _ in range(20):  # what the first need is there once they have run
        (x + 1).square()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(100):
        (x + 1).square()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
CHOSEN = {"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}, {"LD_PRELOAD": ""}


def printed(code: str, **variables: str) -> list[str]:
    """What a new process prints that tries to keep its memory, and then runs this."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_"))}
    command = [sys.executable, "-c", f"{KEEP}{code}"]
    done = subprocess.run(command, env={**env, **variables}, check=True, capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux" or "glibc" not in platform.libc_ver(), reason="needs glibc")
def test_forwards_find_their_memory_again() -> None:
    """A hundred operations whose outcome takes four megabytes cause hardly a page fault."""
    kept, count = printed(f"print(kept){FAULTS}")
    assert kept == "True"
    assert int(count) < 100


@pytest.mark.parametrize("variables", CHOSEN, ids=["variable", "tunable", "another allocator"])
def test_allocator_chosen_by_the_user_stays(variables: dict[str, str]) -> None:
    assert printed("print(kept)", **variables) == ["False"]
