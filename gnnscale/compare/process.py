"""Runs functions in processes of their own, so that a crash or a limit there costs that process and nothing else."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, forkserver, resource_tracker
from pathlib import Path
from typing import Any

from gnnscale.compare.endings import OK, Ending, of_error, of_exit
from gnnscale.compare.limits import NO_LIMITS, Limits, Watch, be_the_first_to_go, kernel_kills, kill_all

Send = Callable[[Any], None]

#: Seconds that a process may take to exit once its work is done: a user's thread might never end.
_TO_EXIT = 5.0
#: Seconds between two rounds of handing on. A small graph's cell sends hundreds of messages a second, and whoever wakes
#: for each of them takes time on the cores that are being measured.
_REST = 0.01
#: Messages that are handed on before it is another process's turn.
_AT_ONCE = 1000


class Child:
    """``target(send, *arguments)`` in a process of its own, which has started.

    A server process that has imported torch and DGL forks the processes, so each starts within milliseconds, and none
    inherits threads or memory from the caller. It dies with the caller, however that ends, and is the first that the
    kernel kills when the machine has no more memory.

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
    limits : Limits
        What it may use; it is killed beyond.
    """

    def __init__(
        self,
        target: Callable[..., None],
        arguments: tuple[Any, ...],
        log: Path,
        on_message: Callable[[Any], None],
        limits: Limits = NO_LIMITS,
    ) -> None:
        self._log, self._on_message = log, on_message
        self._ending: Ending | None = None
        self._ended_at = 0.0
        self._kernel_kills = kernel_kills()
        context = _context()
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_main, args=(target, arguments, sender, str(log)))
        try:
            _start(self._process.start)
            sender.close()
            self._listening = True
            self.watch = Watch(self._process.pid, limits)
        except BaseException:  # such as Ctrl-C: nobody has this object yet who could close it
            if self._process.pid is not None:
                kill_all(self._process.pid)
                self._process.join()
            raise

    def step(self) -> Ending | None:
        """Hand on what has arrived, and keep the limits.

        Returns
        -------
        Ending or None
            How it ended; None while it goes on.
        """
        alive = self._process.is_alive()
        # What a dead process sent is all there.
        self._receive(_AT_ONCE if alive else sys.maxsize)
        if not alive:
            self._process.join()
            if self._ending is None:
                self._ending = of_exit(self._process.exitcode, memory_ran_out=kernel_kills() > self._kernel_kills)
            return self._ending
        if self._ending is not None:
            if time.monotonic() - self._ended_at > _TO_EXIT:
                self.kill()
        elif verdict := self.watch.verdict():
            self._end(verdict)
            self.kill()
        return None

    def kill(self) -> None:
        """End it and all that it started, at once."""
        self.watch.note_peak()
        kill_all(self._process.pid)

    def close(self) -> None:
        """End it if it still runs, and tidy up."""
        if self._process.is_alive():
            self.kill()
        self._process.join()
        self._receiver.close()
        if self._log.exists() and self._log.stat().st_size == 0:
            self._log.unlink(missing_ok=True)

    def _receive(self, at_most: int) -> None:
        while self._listening and at_most > 0 and self._receiver.poll():
            at_most -= 1
            try:
                kind, content = self._receiver.recv()
            except (EOFError, OSError):  # nobody is left who could send
                self._listening = False
            else:
                if kind == "message":
                    self._on_message(content)
                elif self._ending is None:
                    self._end(content)

    def _end(self, ending: Ending) -> None:
        self._ending, self._ended_at = ending, time.monotonic()

    def _events(self) -> list[Any]:
        return [self._process.sentinel, *([self._receiver] if self._listening else [])]

    def _patience(self) -> float | None:
        return _TO_EXIT if self._ending is not None else self.watch.seconds_to_next_look()


def wait_for(children: Iterable[Child], timeout: float | None = None) -> None:
    """Sleep until one of them has something to say or is to be looked at, for ``timeout`` seconds at most."""
    children = list(children)
    patience = [child._patience() for child in children]
    seconds = [each for each in [timeout, *patience] if each is not None]
    connection.wait([event for child in children for event in child._events()], min(seconds) if seconds else None)
    time.sleep(_REST)


def run_in_process(
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    log: Path,
    on_message: Callable[[Any], None],
    limits: Limits = NO_LIMITS,
) -> Ending:
    """Run a :class:`Child` to its end.

    Raises
    ------
    Exception
        What ``on_message`` raises, ``KeyboardInterrupt`` included; the process is killed first.
    """
    child = Child(target, arguments, log, on_message, limits)
    try:
        while (ending := child.step()) is None:
            wait_for([child])
        return ending
    finally:
        child.close()


def start_server() -> None:
    """Start the server early, so that it imports torch and DGL while the caller does something else."""
    if _context().get_start_method() == "forkserver":
        _start(forkserver.ensure_running)


def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # The first optimiser that a process makes imports torch._dynamo: two seconds of computing, ten times a small cell.
    context.set_forkserver_preload(["gnnscale.compare.cell", "torch._dynamo"])
    return context


def _start(start: Callable[[], None]) -> None:
    """Start a process that ignores Ctrl-C, and whose threads do not wait in a busy loop."""
    with _patient_threads():
        if threading.current_thread() is not threading.main_thread():
            return start()
        # Which leaves Ctrl-C unblocked, and so has to be there before.
        resource_tracker.ensure_running()
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
    _die_with_parent()
    be_the_first_to_go()
    # On the level of the file descriptors, because libraries print from C++.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    try:
        target(lambda message: sender.send(("message", message)), *arguments)
        ending = OK
    except BaseException as error:
        traceback.print_exc()
        ending = of_error(error)
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send(("ending", ending))


def _die_with_parent() -> None:
    """A caller that was killed must not leave its process computing for nobody.

    The kernel is asked for a SIGKILL when the other end of a pipe from the caller is closed: a thread could not act
    while a loop in C holds the interpreter's lock.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not hasattr(fcntl, "F_SETSIG"):
        return
    pipe = parent.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it was closed before anybody asked
        os._exit(1)
