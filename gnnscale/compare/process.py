"""Runs a function in its own process, so that a crash there costs that process and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

Send = Callable[[Any], None]


def run_in_process(
    target: Callable[..., None], arguments: tuple[Any, ...], log: Path, on_message: Callable[[Any], None]
) -> str:
    """Call ``target(send, *arguments)`` in a process of its own and hand on what it sends.

    A server process that has imported torch and DGL forks the processes, so each starts within
    milliseconds, and none inherits threads or memory from the caller.

    Parameters
    ----------
    target : callable
        A function of a module. What it prints, from C++ too, goes to ``log``.
    arguments : tuple
        Picklable arguments.
    log : Path
        File for standard output, standard error and the traceback of a failure; removed if empty.
    on_message : callable
        Called in this process with every object that ``target`` sends, in order.

    Returns
    -------
    str
        ``"ok"``, or in one short sentence why the function did not come to its end.

    Raises
    ------
    Exception
        What ``on_message`` raises, ``KeyboardInterrupt`` included; the process is killed first.
    """
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(target, arguments, sender, str(log)), daemon=True)
    status = ""
    try:
        _start(process.start)
        sender.close()
        while True:
            try:
                kind, message = receiver.recv()
            except (EOFError, OSError):
                break
            if kind == "message":
                on_message(message)
            else:
                status = message
        process.join()
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        receiver.close()
    if log.exists() and log.stat().st_size == 0:
        log.unlink()
    return status or _reason(process.exitcode)


def start_server() -> None:
    """Start the server early, so that it imports torch and DGL while the caller does something else."""
    if _context().get_start_method() == "forkserver":
        _start(forkserver.ensure_running)


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gnnscale.compare.cell"])
    return context


def _start(start: Callable[[], None]) -> None:
    """Start a process that ignores Ctrl-C, and whose threads do not wait in a busy loop."""
    with _patient_threads():
        if threading.current_thread() is not threading.main_thread():
            return start()
        # Ctrl-C reaches the whole process group; only the caller should act on it, and kill the rest. Blocked, it
        # reaches the caller afterwards; ignored, it would be lost.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def _patient_threads() -> Iterator[None]:
    """GNU OpenMP's threads spin while they wait, by default for long.

    Beside any other process on the machine's cores, that makes training on small batches some ten times slower, and
    the measured times a matter of chance. Without company it gains little.
    """
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "1000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def _main(target: Callable[..., None], arguments: tuple[Any, ...], sender: Any, log: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # On the level of the file descriptors, because libraries print from C++.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        target(lambda message: sender.send(("message", message)), *arguments)
        status = "ok"
    except BaseException as error:
        traceback.print_exc()
        status = f"failed: {describe(error)}"
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send(("status", status))


def _exit_with_parent() -> None:
    """A caller that was killed must not leave its process computing for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def describe(error: BaseException) -> str:
    """Say an exception in one line: its own sentence, led by its type unless it is plain bad input.

    Examples
    --------
    >>> describe(ValueError("num_parts is 0; it must be at least 1."))
    'num_parts is 0; it must be at least 1.'
    >>> describe(RuntimeError("shapes differ"))
    'RuntimeError: shapes differ'
    """
    text = " ".join(str(error).split())
    text = text if len(text) <= 1000 else text[:997] + "..."
    if text and isinstance(error, (ValueError, TypeError, OSError, ArithmeticError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _reason(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        out_of_memory = ", probably out of memory" if -exitcode == signal.SIGKILL else ""
        return f"killed by signal {-exitcode}{out_of_memory}"
    return f"failed: the process ended with exit code {exitcode} before its work was done"
