import copy
import io

import pytest
import torch
from torch import nn

import gnnscale as gs
from gnnscale import ops
from gnnscale.sparse_features import SparseFeatures


@pytest.fixture
def data():
    data = gs.load("synthetic", num_nodes=400, num_edges=4000, num_features=300)
    feat = data.graph.ndata["feat"]
    data.graph.ndata["feat"] = feat * (torch.rand(feat.shape, generator=torch.Generator().manual_seed(0)) < 0.05)
    return data


def rows_of(data, n=50):
    nodes = torch.arange(n).flip(0)
    return SparseFeatures.of(data.graph).rows(nodes), data.graph.ndata["feat"][nodes]


def test_dense_features_stay_as_they_are():
    data = gs.load("synthetic", num_nodes=100, num_edges=500)
    assert SparseFeatures.of(data.graph) is None
    loader = gs.DataLoader(data.graph, data.train_ids, gs.samplers.NeighborSampler([2]), batch_size=10)
    assert type(next(iter(loader)).x) is torch.Tensor


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x + 0,
        lambda x: torch.relu(x),
        lambda x: x[3:9],
        lambda x: x[torch.tensor([4, 1])],
        lambda x: x[:7],
        lambda x: torch.cat([x, x]),
        lambda x: torch.stack([x, x]).sum(0),
        lambda x: x.double(),
        lambda x: torch.from_numpy(x.numpy()),
        lambda x: torch.from_dlpack(x),
        lambda x: x.clone(),
        lambda x: copy.deepcopy(x),
        lambda x: torch.tensor(x.tolist()),
        lambda x: x.t(),
        lambda x: x.double() @ torch.eye(300).double(),
        lambda x: torch.ones(2, 50) @ x,
        lambda x: x @ x.t(),
        lambda x: x @ torch.ones(300),
        lambda x: ops.spmm(torch.arange(51), torch.arange(50), None, x),
    ],
)
def test_whoever_looks_sees_a_dense_tensor(data, look):
    x, dense = rows_of(data)
    assert isinstance(x, torch.Tensor)
    assert (x.shape, x.dtype) == (dense.shape, dense.dtype)
    got, wanted = look(x), look(dense)
    torch.testing.assert_close(torch.as_tensor(got + 0), wanted)


def test_products_and_dropout_need_no_dense_form(data):
    x, dense = rows_of(data)
    linear = nn.Linear(300, 5)
    torch.manual_seed(1)
    got = linear(ops.dropout(x, 0.4)[:20])
    torch.manual_seed(1)
    torch.testing.assert_close(got, linear(ops.dropout(dense, 0.4)[:20]))
    dropped = ops.dropout(x, 0.4, key=2)
    torch.testing.assert_close(dropped @ linear.weight.t(), ops.dropout(dense, 0.4, key=2) @ linear.weight.t())
    assert x._dense is None
    assert dropped._dense is None
    assert torch.equal(dropped + 0, ops.dropout(dense, 0.4, key=2))
    assert torch.equal(ops.dropout(dropped, 0.5, key=7), ops.dropout(ops.dropout(dense, 0.4, key=2), 0.5, key=7))


def test_what_was_changed_in_place_is_multiplied_as_changed(data):
    x, dense = rows_of(data)
    x[3] = 1.0
    x.mul_(2)
    dense[3] = 1.0
    weight = torch.randn(300, 4)
    torch.testing.assert_close(x @ weight, 2 * dense @ weight)
    features = SparseFeatures.of(data.graph)
    data.graph.ndata["feat"][0] = 5.0
    torch.testing.assert_close(features.rows(torch.tensor([0])) @ weight, torch.full((1, 300), 5.0) @ weight)


def test_a_gradient_in_the_features_is_that_of_a_dense_tensor(data):
    x, dense = rows_of(data)
    weight = torch.randn(300, 4)
    x.requires_grad_()
    (x @ weight).square().sum().backward()
    dense = dense.clone().requires_grad_()
    (dense @ weight).square().sum().backward()
    torch.testing.assert_close(x.grad, dense.grad)


def test_autocast_decides_on_the_dtype_of_products(data):
    x, dense = rows_of(data)
    weight = torch.randn(300, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(x @ weight, dense @ weight)
    assert (rows_of(data)[0] @ weight).dtype == torch.float32


def test_a_saved_batch_is_dense(data):
    x, dense = rows_of(data)
    file = io.BytesIO()
    torch.save(x, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), dense)


@pytest.mark.parametrize("model", ["GCN", "SAGE", "GAT", "GIN", "GCNII", "APPNP"])
@pytest.mark.parametrize("sampler", ["full", "gas", "neighbor", "vrgcn"])
def test_curves_are_those_of_dense_features(data, monkeypatch, model, sampler):
    if sampler == "vrgcn" and model == "GAT":
        pytest.skip("attention has no fixed matrix")
    makers = {
        "full": lambda: gs.samplers.FullSampler(),
        "gas": lambda: gs.samplers.GASSampler(4, partition="random"),
        "neighbor": lambda: gs.samplers.NeighborSampler([4, 4]),
        "vrgcn": lambda: gs.samplers.VRGCNSampler([2, 2]),
    }

    def losses() -> list[float]:
        torch.manual_seed(0)
        made = getattr(gs.nn, model)(300, 16, data.num_classes, num_layers=2)
        size = {"full": 400, "gas": 2}.get(sampler, 50)
        return [p.loss for p in gs.train(made, data, makers[sampler](), epochs=2, batch_size=size).points]

    seen = []
    multiply = gs.sparse_features.multiply_rows
    monkeypatch.setattr(
        gs.sparse_features, "multiply_rows", lambda *args, **kwargs: seen.append(1) or multiply(*args, **kwargs)
    )
    sparse = losses()
    assert seen
    monkeypatch.setattr(SparseFeatures, "of", classmethod(lambda cls, graph: None))
    assert sparse == pytest.approx(losses(), rel=1e-4)


def test_a_model_of_ones_own_sees_the_same_numbers(data, monkeypatch):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(300, data.num_classes)

        def forward(self, batch, x):
            return batch.layers(1)[0].aggregate(nn.functional.dropout(self.linear(x), 0.5, self.training), "mean")

    def loss() -> float:
        torch.manual_seed(0)
        sampler = gs.samplers.NeighborSampler([4])
        return gs.train(Own(), data, sampler, epochs=2, batch_size=50).points[-1].loss

    sparse = loss()
    monkeypatch.setattr(SparseFeatures, "of", classmethod(lambda cls, graph: None))
    assert sparse == pytest.approx(loss(), rel=1e-4)


def test_products_with_what_is_unusual_are_those_of_a_dense_tensor() -> None:
    dense, weight = torch.eye(40), torch.rand(40, 3)

    def sparse() -> torch.Tensor:
        return SparseFeatures(dense).rows(torch.arange(5))

    for product in (
        lambda x: torch.mm(x, mat2=weight),
        lambda x: x.mm(mat2=weight),
        lambda x: torch.matmul(x, weight, out=torch.empty(5, 3)),
        lambda x: x @ weight.to_sparse(),
    ):
        assert torch.equal(product(sparse()), product(dense[:5]))
    with pytest.raises(RuntimeError):
        nn.functional.linear(sparse(), weight.t(), torch.rand(3).double())
