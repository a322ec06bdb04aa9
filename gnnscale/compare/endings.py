"""How a cell may end, in one word and in a sentence."""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Ending:
    """How a function in a process of its own ended.

    Attributes
    ----------
    outcome : str
        One of :data:`OUTCOMES`.
    status : str
        ``"ok"``, or the reason in one sentence without a full stop.
    """

    outcome: str
    status: str

    def at(self, place: str) -> Ending:
        """The same, with the place where it happened.

        Examples
        --------
        >>> Ending("crashed", "killed by signal 9, SIGKILL").at("epoch 3, training").status
        'killed by signal 9, SIGKILL (epoch 3, training)'
        """
        if self.outcome in ("ok", "diverged") or not place:
            return self
        return Ending(self.outcome, f"{self.status} ({place})")


#: The words for how a run ended, with what they mean.
OUTCOMES: dict[str, str] = {
    "ok": "it came to its end",
    "out_of_memory": "it needed more memory than its budget or the machine has",
    "diverged": "the loss became NaN or infinite",
    "timeout": "it needed more time than its budget has",
    "crashed": "its process was killed by a signal, or exited",
    "raised": "an exception",
}

OK = Ending("ok", "ok")


def of_error(error: BaseException) -> Ending:
    """The ending that an exception is.

    Examples
    --------
    >>> of_error(ValueError("fan-outs are odd today."))
    Ending(outcome='raised', status='failed: fan-outs are odd today')
    >>> of_error(MemoryError()).outcome, of_error(FloatingPointError("the loss became nan")).outcome
    ('out_of_memory', 'diverged')
    """
    text = describe(error).rstrip(".")
    if _is_out_of_memory(error):
        return Ending("out_of_memory", f"out of memory: {text}")
    if isinstance(error, FloatingPointError):
        return Ending("diverged", f"diverged: {text}")
    return Ending("raised", f"failed: {text}")


def of_exit(code: int | None, *, memory_ran_out: bool = False) -> Ending:
    """The ending of a process that left without a word.

    Parameters
    ----------
    code : int or None
        As ``multiprocessing.Process.exitcode``: negative for a signal.
    memory_ran_out : bool
        Whether the kernel killed processes for want of memory meanwhile.

    Examples
    --------
    >>> of_exit(-11).status, of_exit(3).status
    ('killed by signal 11, SIGSEGV', 'exited with status 3 before its work was done')
    >>> of_exit(-9, memory_ran_out=True).status
    'out of memory: killed by the kernel, because the machine had no more'
    """
    if code is None or code >= 0:
        return Ending("crashed", f"exited with status {code} before its work was done")
    if memory_ran_out and -code == signal.SIGKILL:
        return Ending("out_of_memory", "out of memory: killed by the kernel, because the machine had no more")
    try:
        name = f", {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        name = ""
    return Ending("crashed", f"killed by signal {-code}{name}")


def describe(error: BaseException) -> str:
    """Say an exception in one line: its own sentence, led by its type unless it is plain bad input.

    Examples
    --------
    >>> describe(ValueError("num_parts is 0; it must be at least 1."))
    'num_parts is 0; it must be at least 1.'
    >>> describe(RuntimeError("shapes differ"))
    'RuntimeError: shapes differ'
    """
    try:
        text = " ".join(str(error).split())
    except Exception as broken:  # a user's class may fail at this as well
        text = f"(its text cannot be had: {type(broken).__name__})"
    text = text if len(text) <= 1000 else text[:997] + "..."
    if text and isinstance(error, (ValueError, TypeError, OSError, ArithmeticError)):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, torch on the CPU or torch on a GPU found no memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "bad_alloc" in str(error))
