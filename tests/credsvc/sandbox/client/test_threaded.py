"""The pool asked from threads: each gets its own answer, and its own fault."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from credsvc.sandbox.client.faults import ModuleRefused
from credsvc.sandbox.client.threaded import ThreadedPool
from tests.support.sandbox_stack import module, running
from tests.support.waiting import PATIENCE_S

PICKY = module("""
def sign(n):
    if n % 10 == 0:
        raise ValueError("no")
    return {"formula": "echo", "holes": {"n": n}}
""")


def test_each_thread_gets_its_own_answer() -> None:
    with running() as stack:
        pool = ThreadedPool(stack.folder / "control", max_workers=2)

        def work(n: int) -> None:
            if n % 10 == 0:
                with pytest.raises(ModuleRefused):
                    pool.run(PICKY, "sign", {"n": n}, PATIENCE_S)
            else:
                assert pool.run(PICKY, "sign", {"n": n}, PATIENCE_S).holes == {"n": n}

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, range(100)))
        pool.close()
        stack.settle(1)
