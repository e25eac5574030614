"""Try every verb on random models, and print the smallest program of each failure.

    python scripts/fuzz_models.py --seeds 0 500 [--checks int8 "trained file"] [--no-shrink]

The checks run in a process beside this one, so that a runtime that aborts is a failure and not the end.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

MEMORY = 2**34  # bytes of addresses: TensorFlow alone takes a quarter of them
TASKS = 260  # of one process: TensorFlow keeps the functions of each fit, and Python walks over what is kept


def work(tasks: Any, results: Any) -> None:
    """Take seeds and checks until None comes, and report what is wrong with each."""
    from tests.random_checks import CHECKS, failure
    from tests.random_models import random_program, shrunk

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))  # what never ends fails before it takes the machine down
    parent = multiprocessing.parent_process()
    while (task := tasks.get()) is not None and parent is not None and parent.is_alive():
        seed, check, shrink = task
        program = random_program(seed)
        found = failure(CHECKS[check], program)
        if found and shrink:
            kind = found.split(":")[0]
            program = shrunk(program, lambda p: failure(CHECKS[check], p).split(":")[0] == kind)
            found = failure(CHECKS[check], program)
        results.put((seed, check, found, str(program) if found else ""))


def main() -> int:
    from tests.random_checks import CHECKS
    from tests.random_models import random_program

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", nargs=2, type=int, default=(0, 20), metavar=("FIRST", "END"))
    parser.add_argument("--checks", nargs="+", choices=sorted(CHECKS), default=list(CHECKS))
    parser.add_argument("--no-shrink", action="store_true")
    options = parser.parse_args()
    todo = [(s, check, not options.no_shrink) for s in range(*options.seeds) for check in options.checks]
    failed: Counter[str] = Counter()
    context, start = multiprocessing.get_context("spawn"), time.monotonic()
    while todo:
        tasks, results = context.Queue(), context.Queue()
        now, todo = todo[:TASKS], todo[TASKS:]
        for task in [*now, None]:
            tasks.put(task)
        process = context.Process(target=work, args=(tasks, results))
        process.start()
        while now:
            try:
                seed, check, found, program = results.get(timeout=1)
            except queue.Empty:
                if process.is_alive():
                    continue
                seed, check, _ = now[0]
                found, program = f"the process ended with {process.exitcode}", str(random_program(seed))
            now.pop(0)
            if found:
                failed[check] += 1
                print(f"--- seed {seed}, {check}: {found}\n{program}", flush=True)
            if check == options.checks[-1] and seed % 10 == 9:
                print(f"up to seed {seed}: {time.monotonic() - start:.0f} s", flush=True)
            if not process.is_alive() and results.empty():
                break
        todo = now + todo  # what a process that ended has left
        process.join(timeout=30)
    models = options.seeds[1] - options.seeds[0]
    print(f"{models} models, {time.monotonic() - start:.0f} s; failures: {dict(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
