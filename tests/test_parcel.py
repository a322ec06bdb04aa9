"""What a batch sends to a device, and that the batches are the same as without."""

import pytest
import torch

import gnnscale as gs
from gnnscale.history.streams import Lane
from gnnscale.parcel import Parcel, Rows


def test_all_kinds_of_arrays_cross_whole():
    cpu = torch.device("cpu")
    values = torch.arange(6.0).view(3, 2)
    parts = [
        torch.tensor([1, 2, 3], dtype=torch.int32), torch.arange(5), torch.rand(3, 4), torch.empty(0), torch.rand(()),
        torch.rand(4, 3).t(), torch.tensor([True, False]), Rows(values, torch.tensor([2, 0])),
    ]  # fmt: skip
    parcel = Parcel(Lane(), cpu)
    for part in parts + parts[:2]:
        assert parcel.put(part) is part
    parcel.pack()
    parcel.send()
    parcel.arrive()
    for part in parts[:-1]:
        assert torch.equal(parcel.get(part), part)
        assert parcel.get(part).dtype == part.dtype
        assert parcel.get(part).data_ptr() % 8 == 0
    assert parcel.get(parts[-1]).tolist() == [[4.0, 5.0], [0.0, 1.0]]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "make",
    [
        lambda: gs.samplers.FullSampler(),
        lambda: gs.samplers.NeighborSampler([3, 3]),
        lambda: gs.samplers.LADIESSampler([20, 20]),
        lambda: gs.samplers.ClusterGCNSampler(8),
        lambda: gs.samplers.GASSampler(8),
        lambda: gs.samplers.LMCSampler(8),
        lambda: gs.samplers.VRGCNSampler([1, 1]),
        lambda: gs.samplers.PinSAGESampler([3, 3]),
    ],
)
@pytest.mark.parametrize("from_store", [False, True])
def test_batches_that_were_sent_train_as_others_do(make, workers, from_store):
    data = gs.load("synthetic", num_nodes=300, num_edges=2000)
    features = gs.FeatureStore(data.graph.ndata["feat"]) if from_store else None
    losses = []
    for sends in (False, True):
        loader = gs.DataLoader(
            data.graph, data.train_ids, make(), batch_size=4, shuffle=True, num_workers=workers, features=features
        )
        if sends:
            loader._lane = Lane()
            loader._sparse = None
        torch.manual_seed(0)
        model = gs.nn.GCN(data.num_features, 8, data.num_classes)
        found = []
        for _ in range(2):
            for number, batch in enumerate(loader):
                if number == 5:
                    break
                loss = batch.loss(model(batch, batch.x))
                loss.backward()
                found.append(loss.item())
        losses.append(found)
    assert losses[0] == losses[1]
