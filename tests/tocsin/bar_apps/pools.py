"""``python -m tests.tocsin.bar_apps.pools KIND TASKS``: tasks in other processes, which emit and end."""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

import tocsin

tocsin.configure(service="worker")


def task(number: int) -> int:
    """One task; also all that a process does."""
    tocsin.emit("began", number=number, worker=os.getpid())
    tocsin.log("INFO", "task", number=number, detail={"pages": [1, 2, 3]})
    tocsin.emit("ended", number=number, worker=os.getpid())
    return number


def _pool(method: str, tasks: int) -> None:
    pool = multiprocessing.get_context(method).Pool(2, maxtasksperchild=tasks // 4)
    pool.map(task, range(tasks), chunksize=1)
    pool.close()
    pool.join()


def _terminated(method: str, tasks: int) -> None:
    """The block's end terminates the workers by SIGTERM, where only ``flush_on_sigterm`` helps."""
    with multiprocessing.get_context(method).Pool(2) as pool:
        pool.map(task, range(tasks))


def _process(method: str, tasks: int) -> None:
    context = multiprocessing.get_context(method)
    step = max(1, tasks // 4)
    for start in range(0, tasks, step):
        process = context.Process(target=_several, args=(range(start, min(start + step, tasks)),))
        process.start()
        process.join()
        assert process.exitcode == 0


def _several(numbers: range) -> None:
    for number in numbers:
        task(number)


def _executor(method: str, tasks: int) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
        list(pool.map(task, range(tasks)))


def _forks(_: str, tasks: int) -> None:
    for number in range(tasks):
        pid = os.fork()
        if pid == 0:
            task(number)
            os._exit(0 if tocsin.flush() else 3)
        assert os.waitpid(pid, 0)[1] == 0


_KINDS = {
    "pool": _pool,
    "terminated": _terminated,
    "process": _process,
    "executor": _executor,
    "os": _forks,
}


def main(kind: str, tasks: str) -> None:
    """``kind`` is such as ``pool-fork``."""
    tocsin.emit("imported")  # the thread runs when the first process is forked
    name, _, method = kind.partition("-")
    _KINDS[name](method, int(tasks))
    tocsin.emit("last", worker=os.getpid())


if __name__ == "__main__":
    main(*sys.argv[1:])
