import os
import signal

import compare_targets
import pytest

from gnnscale.compare.process import run_in_process


def test_messages_arrive_in_order(tmp_path):
    received = []
    status = run_in_process(compare_targets.send_numbers, ([3, 1, 2],), tmp_path / "log", received.append)
    assert (status, received) == ("ok", [3, 1, 2])
    assert not (tmp_path / "log").exists()


def test_what_is_printed_goes_to_the_log_alone(tmp_path, capfd):
    run_in_process(compare_targets.print_everywhere, (), tmp_path / "log", print)
    assert set((tmp_path / "log").read_text().splitlines()) == {"from Python", "from C++", "an error"}
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_kills_the_process(tmp_path):
    pids = []

    def stop(pid):
        pids.append(pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_in_process(compare_targets.send_pid_and_wait, (), tmp_path / "log", stop)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_interrupts_work_again_after_a_process_was_started(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run_in_process(compare_targets.send_numbers, ([],), tmp_path / "log", print)
    assert signal.getsignal(signal.SIGINT) is before
