"""Losses that look across the batch are the same on one process and on two (gloo), value and gradient."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from hydra.utils import get_object

from segdistill.losses.ranks import gathered, summed
from tests.losses.kd.terms import TERMS, each, given, labels, listed, make

ACROSS = [name for name, term in TERMS.items() if getattr(get_object(term.loss._target_), "across_batch", False)]
IMAGES = 4


def half(value, rank):
    return each(value, lambda x: x[rank * IMAGES // 2 : (rank + 1) * IMAGES // 2].clone())


def value_and_gradients(name, student, teacher, target):
    student = each(student, lambda x: x.requires_grad_())
    loss = make(name).train()
    torch.manual_seed(0)
    loss(student=student, teacher=teacher, target=target)  # fills what remembers earlier batches
    value = loss.eval()(student=student, teacher=teacher, target=target)
    value.backward()
    return value.detach(), [one.grad for one in listed(student)]


def inputs(name):
    target = labels(IMAGES, 12, 14)
    target[0, :10] = 255  # the ranks have different numbers of valid pixels
    return given(name, IMAGES), given(name, IMAGES, seed=1), target


def one_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {}
    for name in ACROSS:
        student, teacher, target = inputs(name)
        found[name] = value_and_gradients(name, half(student, rank), half(teacher, rank), half(target, rank))
    x = torch.arange(3.0).requires_grad_()
    (gathered(x) * torch.arange(6.0)).sum().backward()
    found["gathered"] = gathered(x + 10 * rank).detach(), [x.grad]
    found["summed"] = summed(x + 10 * rank).detach(), []
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    processes.spawn(one_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", ACROSS)
def test_two_processes_do_what_one_does(ranks, name):
    value, gradients = value_and_gradients(name, *inputs(name))
    assert torch.stack([rank[name][0] for rank in ranks]).mean().item() == pytest.approx(value.item(), rel=1e-9)
    for i, gradient in enumerate(gradients):
        joined = torch.cat([rank[name][1][i] for rank in ranks]) / 2  # DDP averages over ranks
        torch.testing.assert_close(joined, gradient, rtol=1e-8, atol=1e-12)


def test_gathered_and_summed_send_the_gradient_back(ranks):
    for rank in range(2):
        assert ranks[rank]["gathered"][0].tolist() == [0, 1, 2, 10, 11, 12]
        assert ranks[rank]["gathered"][1][0].tolist() == [2 * (3 * rank + i) for i in range(3)]
        assert ranks[rank]["summed"][0].tolist() == [10, 12, 14]


def test_the_losses_that_look_across_the_batch_say_so():
    assert set(ACROSS) == {"cirkd", "dist", "rkd", "spkd", "prototype"}
