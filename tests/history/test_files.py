import multiprocessing
import os
import signal

import pytest

from gnnscale.history.files import allocate, in_place_of, open_alone
from gnnscale.history.locks import EXCLUSIVE, SHARED, lock, locked, unlock


@pytest.fixture
def opened(tmp_path):
    """Opens the same file again and again."""
    path, descriptors = tmp_path / "file", []

    def opening():
        descriptors.append(os.open(path, os.O_RDWR | os.O_CREAT))
        return descriptors[-1]

    yield opening
    for descriptor in descriptors:
        os.close(descriptor)


def test_a_byte_is_locked_by_one_or_shared_by_many(opened):
    a, b, c = opened(), opened(), opened()
    assert lock(a, 0, SHARED, wait=False)
    assert lock(b, 0, SHARED, wait=False)
    assert not lock(b, 0, EXCLUSIVE, wait=False)
    assert not lock(c, 0, EXCLUSIVE, wait=False)  # what b asked for and did not get, did not cost it what it has
    unlock(a, 0)
    assert not lock(c, 0, EXCLUSIVE, wait=False)
    assert lock(b, 0, EXCLUSIVE, wait=False)
    assert not lock(c, 0, SHARED, wait=False)
    assert lock(c, 1, EXCLUSIVE, wait=False)  # another byte
    assert lock(b, 0, SHARED, wait=False)
    assert lock(c, 0, SHARED, wait=False)


def test_a_lock_ends_with_its_block_and_not_with_another_descriptor(opened):
    a, b = opened(), opened()
    with locked(a, 0):
        os.close(os.dup(b))
        assert not lock(b, 0, SHARED, wait=False)
    assert lock(b, 0, EXCLUSIVE, wait=False)


def test_a_lock_ends_when_its_process_is_killed(opened):
    reading, writing = os.pipe()
    if not (child := os.fork()):
        lock(opened(), 0, EXCLUSIVE)
        os.write(writing, b"locked")
        signal.pause()
    os.read(reading, 10)
    mine = opened()
    assert not lock(mine, 0, EXCLUSIVE, wait=False)
    os.kill(child, signal.SIGKILL)
    assert lock(mine, 0, EXCLUSIVE)  # waits for the end
    os.waitpid(child, 0)
    os.close(reading), os.close(writing)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), in_place_of(path) as partial:
        partial.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with in_place_of(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_killed_process_left_is_replaced(tmp_path):
    path = tmp_path / "file"
    path.with_name("file.partial").write_text("half of the n")
    with in_place_of(path) as partial:
        assert not partial.exists()
        partial.write_text("new")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["file", "file.partial"])
def test_a_file_in_use_is_not_replaced(name, tmp_path):
    path = tmp_path / name
    path.write_text("in use")
    with path.open("r+") as file:
        lock(file.fileno(), 0, SHARED)
        with (
            pytest.raises(ValueError, match=rf"{name}' is in use by a running process; end it"),
            in_place_of(tmp_path / "file"),
        ):
            pass
    assert path.read_text() == "in use"


def test_a_file_that_is_replaced_while_it_is_opened_is_opened_again(tmp_path, monkeypatch):
    path, calls = tmp_path / "file", []
    path.write_text("old")

    def late(*arguments, **keywords):
        if not calls:
            with path.with_name("new").open("w") as file:
                file.write("new")
            os.replace(path.with_name("new"), path)
        calls.append(arguments)
        return lock(*arguments, **keywords)

    monkeypatch.setattr("gnnscale.history.files.lock", late)
    with os.fdopen(open_alone(path, os.O_RDWR)) as file:
        assert file.read() == "new"
    assert len(calls) == 2


def replace_again_and_again(path, letter):
    while True:
        with in_place_of(path) as partial:
            partial.write_text(letter * 100_000)


def test_replacing_is_safe_from_kills(tmp_path):
    path, context = tmp_path / "file", multiprocessing.get_context("fork")
    path.write_text("a" * 100_000)
    for letter in "bcdefgh":
        child = context.Process(target=replace_again_and_again, args=(path, letter))
        child.start()
        child.join(0.02)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        text = path.read_text()
        assert len(text) == 100_000
        assert len(set(text)) == 1
    with in_place_of(path) as partial:
        partial.write_text("end")
    assert os.listdir(tmp_path) == ["file"]


def test_room_on_the_disk_is_taken(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        allocate(file.fileno(), 4096, 1 << 20, path)
    assert path.stat().st_size == 4096 + (1 << 20)
    assert path.stat().st_blocks * 512 >= 1 << 20


def test_a_full_disk_is_one_sentence_and_leaves_the_file_as_it_was(tmp_path):
    """A limit on the length of files stands for the disk's."""
    import resource

    path = tmp_path / "file"
    reading, writing = os.pipe()
    if not (child := os.fork()):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with path.open("wb") as file:
            allocate(file.fileno(), 0, 4096, path)
            try:
                allocate(file.fileno(), 4096, 1 << 20, path)
            except OSError as error:
                os.write(writing, error.strerror.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    sentence = os.read(reading, 1000).decode()
    os.close(reading)
    assert sentence == f"no room for 1.05 MB more in path={str(path)!r}; choose another disk or a smaller dtype"
    assert path.stat().st_size == 4096
