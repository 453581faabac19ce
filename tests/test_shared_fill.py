"""Sixteen processes fill the columns of one array in place: the bytes are exact, and they exist once.

PSS counts a page that n processes map as 1/n in each, so that the sum over all is what the memory really costs.
"""

from __future__ import annotations

import pytest

from helpers import run

FILL = """
import multiprocessing as mp, os, sys
import numpy as np, ndshare as nds
import helpers, workers

ROWS, COLUMNS = 10**7, 16

if __name__ == "__main__":
    context = mp.get_context(sys.argv[1])
    x = nds.zeros((ROWS, COLUMNS), bool)
    leave = context.Event()
    pipes = [context.Pipe(duplex=False) for _ in range(COLUMNS)]
    processes = [
        context.Process(target=workers.fill_column, args=(x, i, pipes[i][1], leave)) for i in range(COLUMNS)
    ]
    for process in processes:
        process.start()
    pids = [reader.recv() for reader, _ in pipes]
    cost = sum(mapping.pss for pid in [os.getpid(), *pids] for mapping in helpers.mappings(pid))
    leave.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    rows = np.arange(ROWS)
    assert all((x[:, i] == (rows % (i + 2) == 0)).all() for i in range(COLUMNS))
    print(cost / x.nbytes)
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_sixteen_processes_fill_one_array(start: str) -> None:
    share = float(run(FILL, start).clean())
    assert 0.95 <= share <= 1.05, f"the array exists {share:.3f} times"
