"""The pretended GPU refuses what a GPU would refuse, or would do wrong at times."""

import pytest
import torch

from tests.cuda import pretended


@pytest.fixture
def gpu(host_kernels):
    with pretended.gpu(host_kernels):
        yield


def test_it_computes_and_differentiates(gpu):
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    wanted = torch.autograd.grad(linear(x).relu().sum(), list(linear.parameters()))
    there = linear.to("cuda")
    assert there.weight.device == torch.device("cuda", 0)
    there(x.to("cuda")).relu().sum().backward()
    assert torch.equal(there.weight.grad.cpu(), wanted[0])
    assert torch.equal(there.bias.grad.cpu(), wanted[1])


def test_tensors_here_and_there_do_not_mix(gpu):
    with pytest.raises(RuntimeError, match="expected all tensors on cuda:0"):
        torch.ones(3, device="cuda") + torch.ones(3)
    assert (torch.ones(3, device="cuda") + torch.tensor(1.0)).tolist() == [2.0, 2.0, 2.0]  # as on a GPU


def test_what_another_stream_writes_is_waited_for(gpu):
    other = torch.cuda.Stream()
    with torch.cuda.stream(other):
        values = torch.ones(1000, device="cuda")
    with pytest.raises(pretended.RaceError, match="for which its stream does not wait"):
        values + 1
    torch.cuda.current_stream().wait_stream(other)
    following = values + 1
    with torch.cuda.stream(other), pytest.raises(pretended.RaceError):
        values.zero_()  # while it may still be read
    values.record_stream(torch.cuda.current_stream())
    assert following.sum().item() == 2000


def test_memory_that_another_stream_uses_is_not_given_back(host_kernels):
    with pytest.raises(pretended.RaceError, match="record_stream"), pretended.gpu(host_kernels):
        other = torch.cuda.Stream()
        with torch.cuda.stream(other):
            values = torch.ones(1000, device="cuda")
        torch.cuda.current_stream().wait_stream(other)
        values + 1
        del values


def test_the_host_waits_before_it_writes_what_is_being_copied(gpu):
    values = torch.empty(1000, pin_memory=True)
    there = values.to("cuda", non_blocking=True)
    with pytest.raises(pretended.RaceError, match="before the GPU is done"):
        values.zero_()
    torch.cuda.current_stream().synchronize()
    values.zero_()
    assert len(there) == 1000


def test_kernels_do_not_reach_ordinary_memory(gpu):
    from gnnscale.ops import sample_neighbors

    indptr, indices = torch.tensor([0, 1, 2, 2]), torch.tensor([1, 2])
    seeds = torch.tensor([0]).to("cuda")
    with pytest.raises(ValueError, match="indptr is on cpu and seeds on cuda:0; move it there, or pin its memory"):
        sample_neighbors(indptr, indices, seeds, [1], key=0)
    nodes, _, _ = sample_neighbors(indptr.pin_memory(), indices.pin_memory(), seeds, [1], key=0)
    assert nodes.tolist() == [0, 1]


def test_a_stream_within_itself_is_left_again(gpu):
    before, other = torch.cuda.current_stream(), torch.cuda.Stream()
    with torch.cuda.stream(other), torch.cuda.stream(other):
        assert torch.cuda.current_stream() is other
    assert torch.cuda.current_stream() is before
