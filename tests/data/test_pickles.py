"""The unpickler reads what Planetoid wrote and runs nothing."""

import contextlib
import os
import pickle
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from gnnscale.data.pickles import load_pickle

reuse_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
numbers = st.sampled_from(["bool", "int8", "uint16", "int32", ">i4", "int64", "float32", ">f8", "float64"])


def written(folder, content):
    path = folder / "file"
    path.write_bytes(content)
    return path


@reuse_folder
@given(arrays(numbers, array_shapes(max_dims=3)), st.integers(0, 4), st.booleans())
def test_arrays_come_back_in_every_protocol(tmp_path, array, protocol, column_major):
    array = np.asarray(array, order="F" if column_major else "C")
    back = load_pickle(written(tmp_path, pickle.dumps(array, protocol)))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize("era", ["today", "python 2"])
def test_sparse_matrices_and_neighbour_lists_come_back(tmp_path, protocol, era):
    matrix = sp.random(20, 30, 0.2, format="csr", random_state=0)
    neighbours = defaultdict(list, {0: [1, 2], 1: [0]})
    content = [pickle.dumps(value, protocol) for value in (matrix, neighbours)]
    if era == "python 2" and protocol < 4:  # from protocol 4 on, names carry their length
        for new, old in (
            (b"scipy.sparse._csr", b"scipy.sparse.csr"),
            (b"numpy._core.multiarray", b"numpy.core.multiarray"),
        ):
            content = [text.replace(new, old) for text in content]
    back = load_pickle(written(tmp_path, content[0]))
    assert (back != matrix).nnz == 0
    assert load_pickle(written(tmp_path, content[1])) == neighbours


class Call:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize(
    "forbidden",
    [
        Call(os.system, "touch {marker}"),
        Call(eval, "open('{marker}', 'w')"),
        Call(np.load, "{marker}"),
        Call(getattr, "x", "y"),
        OrderedDict(a=1),
        np.array([{"an": "object"}], dtype=object),
        np.array(["text"]),
        np.zeros(2, dtype=[("field", "O")]),
    ],
    ids=["system", "eval", "numpy.load", "getattr", "OrderedDict", "objects", "text", "record"],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_anything_else_is_refused_and_not_run(tmp_path, forbidden, protocol):
    marker = tmp_path / "marker"
    if isinstance(forbidden, Call):
        function, arguments = forbidden.reduced
        forbidden = Call(function, *(text.format(marker=marker) for text in arguments))
    path = written(tmp_path, pickle.dumps(forbidden, protocol))
    with pytest.raises(ValueError, match=r"file cannot be read: .*; it has to be a pickle of"):
        load_pickle(path)
    assert not marker.exists()


@pytest.mark.parametrize("value", [7, "text", [1, 2], None])
def test_other_values_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=f"it holds {type(value).__name__}"):
        load_pickle(written(tmp_path, pickle.dumps(value)))


@reuse_folder
@given(st.data())
def test_damage_gives_a_value_error_or_an_array(tmp_path, data):
    content = bytearray(pickle.dumps(sp.eye(5, format="csr"), 2))
    content = content[: data.draw(st.integers(0, len(content)))]
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):  # any other exception fails the test
        value = load_pickle(written(tmp_path, bytes(content)))
        assert isinstance(value, (np.ndarray, sp.csr_matrix, dict))


def test_an_inconsistent_sparse_matrix_is_refused(tmp_path):
    matrix = sp.eye(5, format="csr")
    matrix.indices[2] = 99
    with pytest.raises(ValueError, match="cannot be read"):
        load_pickle(written(tmp_path, pickle.dumps(matrix)))
