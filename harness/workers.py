"""Processes that do the runs of a grid: they end with the process that started them, however that ended."""

from __future__ import annotations

import os
import time
from functools import cache
from multiprocessing import parent_process
from threading import Thread

#: Seconds between two looks at the parent.
LOOK_EVERY = 2.0


@cache
def end_with_parent() -> None:
    """From now on this process ends when its parent does; the run in flight is lost with it.

    joblib's workers outlive a `kill -9` of the grid: they finish what is in their queue, and keep their memory. With
    one job there is no worker: the grid's own process may outlive the shell that started it (`nohup`).
    """
    parent = parent_process()
    if parent is None:
        return

    def look() -> None:
        while os.getppid() == parent.pid:
            time.sleep(LOOK_EVERY)
        os._exit(1)

    Thread(target=look, daemon=True).start()
