import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnscale.history import HistoryStore
from gnnscale.history import placement as module
from gnnscale.history.mapped import MappedMemory
from gnnscale.history.memory import DTYPES, LocalMemory
from gnnscale.history.placement import available, check_fits, check_placement, estimate, footprint, readable

GB = 10**9


@given(st.integers(0, 3000), st.lists(st.integers(1, 300), max_size=3), st.sampled_from(list(DTYPES.values())))
def test_the_footprint_is_what_memory_then_takes(num_rows, widths, dtype):
    memory = LocalMemory(num_rows, dtype)
    tables = [memory.add(width) for width in widths]
    arrays = sum(table.nbytes for table in tables)
    assert arrays <= footprint(num_rows, widths, dtype, "host") < arrays + 3 * 64 * len(widths) + 1


@pytest.mark.parametrize("dtype", DTYPES.values())
@pytest.mark.parametrize("kind", ["history", "features"])
@pytest.mark.parametrize("placement", ["shared", "file"])
def test_the_footprint_is_the_length_of_the_file(dtype, kind, placement, tmp_path):
    path = tmp_path / "rows" if placement == "file" else None
    memory = MappedMemory.create(1234, dtype, path=path, kind=kind)
    for width in (1, 40, 333):
        memory.add(width)
    length = module.Path(f"/proc/self/fd/{memory.fileno()}").stat().st_size
    assert footprint(1234, [1, 40, 333], dtype, placement, kind=kind) == length


@pytest.fixture
def free(monkeypatch):
    """Free bytes, by placement, that the test sets."""
    bytes_free = {"host": 10 * GB, "shared": 10 * GB, "file": 100 * GB, "pinned": None, "device": None}
    monkeypatch.setattr(module, "available", lambda placement, path=None, device=None: bytes_free[placement])
    return bytes_free


def test_an_estimate_says_where_it_fits(free):
    asked = estimate(10_000_000, [256, 256], torch.float32, "host")
    assert asked.bytes == 10_000_000 * 2 * (1024 + 4)
    assert asked.fits == {"host": False, "shared": False, "file": True, "pinned": False, "device": False}
    assert str(asked) == ("20.6 GB with placement='host', of which 10 GB are free; fits: file (20.6 GB of 100 GB)")
    free["device"] = 80 * GB
    assert estimate(10_000_000, [256, 256], torch.float32, "host").fits["device"]
    assert str(estimate(10**12, [256], torch.float32, "pinned")).endswith("of which there is none here; fits: nowhere")


@pytest.mark.parametrize(
    ("placement", "dtype", "ways"),
    [
        ("host", torch.float32, "it would fit with placement='file', or dtype='int8'"),
        ("host", torch.float16, "it would fit with placement='shared' or 'file', or dtype='int8'"),
        ("file", torch.float32, "it would fit with dtype='float16' or 'bfloat16' or 'int8'"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(free, placement, dtype, ways):
    if placement == "file":
        free.update(host=1, shared=1, file=15 * GB)
    if dtype == torch.float16:
        free.update(host=7 * GB, shared=50 * GB)
    with pytest.raises(MemoryError) as caught:
        check_fits(10_000_000, [256, 256], dtype, placement)
    sentence = str(caught.value)
    assert sentence.startswith("tables of 10000000 rows with 256 + 256 columns need ")
    assert f"placement={placement!r}, and {readable(free[placement])} are free; {ways}" in sentence
    assert "\n" not in sentence


def test_what_fits_nowhere_is_refused_too(free):
    with pytest.raises(MemoryError, match=r"need 1\.03 PB of memory.*10 GB are free; nothing else here has room"):
        check_fits(10**12, [256], torch.float32, "host")


def test_what_fits_or_is_not_known_passes(free):
    check_fits(1000, [256], torch.float32, "host")
    check_fits(10**12, [], torch.float32, "host")
    check_fits(10**12, [256], torch.float32, "pinned")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("placement", ["pinned", "device"])
def test_no_gpu_is_said(placement):
    with pytest.raises(ValueError, match=f"placement='{placement}' needs a GPU, and torch finds none; choose host or"):
        check_placement(placement, None, torch.device("cpu"))
    assert available(placement) is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("disk",), "placement='disk' is unknown; choose one of auto, host, shared, file, pinned, device"),
        (("file",), "placement='file' needs to know where; pass path="),
        (("host", "x"), "path='x' is for placement='file'; got placement='host'"),
    ],
)
def test_placements_that_make_no_sense_are_refused(arguments, sentence):
    with pytest.raises(ValueError) as caught:
        check_placement(*arguments)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("placement", ["host", "shared", "file"])
def test_what_makes_sense_passes(placement, tmp_path):
    path = tmp_path / "rows" if placement == "file" else None
    check_placement(placement, path, torch.device("cpu"))
    assert available(placement, path) > 0


def test_a_gpu_has_its_memory_asked(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "mem_get_info", lambda device: (7, 80) if device == torch.device("cuda:1") else (5, 80)
    )
    assert available("device", device=torch.device("cuda:1")) == 7
    assert available("device", device=torch.device("cpu")) == 5
    assert available("pinned") == available("host")
    check_placement("pinned", None, torch.device("cpu"))
    with pytest.raises(ValueError, match="pass device='cuda' with it"):
        check_placement("device", None, torch.device("cpu"))


def test_a_folder_that_does_not_exist_has_no_disk(tmp_path):
    assert available("file", tmp_path / "no" / "rows") is None


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        # Version 2: the limit of a group above counts; what is cached is not in the way.
        (
            "0::/job/step",
            {
                "job/step/memory.max": "max\n",
                "job/step/memory.current": "50\n",
                "job/memory.max": "1000\n",
                "job/memory.current": "700\n",
                "job/memory.stat": "anon 300\ninactive_file 200\nactive_file 100\n",
            },
            500,
        ),
        # Version 1.
        (
            "4:memory:/job\n0::/",
            {
                "memory/job/memory.limit_in_bytes": "900",
                "memory/job/memory.usage_in_bytes": "400",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "5000",
            },
            500,
        ),
        # In a container, the group has a name that only the host sees.
        ("7:cpu,memory:/docker/1f", {"memory/memory.limit_in_bytes": "800", "memory/memory.usage_in_bytes": "900"}, 0),
        ("0::/", {}, math.inf),
        ("", {}, math.inf),
    ],
)
def test_control_groups_limit_memory(groups, files, expected, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "self").write_text(groups)
    places = {"/proc/self/cgroup": tmp_path / "self", "/sys/fs/cgroup": tmp_path / "groups",
              "/sys/fs/cgroup/memory": tmp_path / "groups" / "memory"}  # fmt: skip
    monkeypatch.setattr(module, "Path", lambda path: places.get(path, path))
    assert min(module._free_in_groups(), default=math.inf) == expected


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_499, "999 kB"), (999_600, "1 MB"), (2_476_800_000, "2.48 GB"),
     (1_028 * 10**12, "1.03 PB"), (5 * 10**18, "5000 PB")],
)  # fmt: skip
def test_sizes_can_be_read(size, text):
    assert readable(size) == text


def test_on_the_cpu_a_store_is_in_host_memory_unless_told_otherwise():
    assert HistoryStore(3).placement == HistoryStore(3, placement="auto").placement == "host"
    with pytest.raises(ValueError, match="path='x' is for placement='file'"):
        HistoryStore(3, path="x")
