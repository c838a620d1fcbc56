"""Two processes (gloo) under the strategy of ``trainer=ddp``: what is trained, and what is scored."""

import os
import socket

import pytest
import torch
import torch.multiprocessing as processes
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segdistill.conf_dir import conf_dir
from segdistill.data.augment import Augment
from segdistill.engine.callbacks.finetuning import Finetuning
from segdistill.engine.callbacks.stopping import Hopeless, Stopped
from segdistill.engine.run_folder import RunFolder
from tests import tiny

STRATEGY = OmegaConf.load(conf_dir() / "trainer" / "ddp.yaml").strategy
EARLIER = {**STRATEGY, "broadcast_buffers": True, "gradient_as_bucket_view": False}
STATISTICS = "student.network.low.1.running_mean", "ema.network.low.1.running_mean"


def train(*, frozen=False, batch_size=2, **options):
    """A run's state dict at its end and, at its last validation, statistics and score."""
    module = tiny.module(ema_decay=None if frozen else 0.9, balancing=None if frozen else "equal_grad")
    scored = {}

    def look():
        scored.update({name: value.clone() for name, value in module.state_dict().items() if name in STATISTICS})

    module.on_validation_epoch_start = look
    callbacks = [Finetuning([module.student], freeze=False, freeze_statistics=True)] if frozen else []
    trainer = tiny.trainer(callbacks, **options)
    trainer.fit(module, tiny.data(batch_size=batch_size, augment=Augment(tiny.CROP, scale=(1.0, 1.0), brightness=0.2)))
    scored["miou"] = trainer.callback_metrics["val/miou"]
    return tiny.clone(module.state_dict()), scored


def one_rank(rank, folder, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    found = {}
    for name, arguments in (("ours", STRATEGY), ("earlier", EARLIER), ("frozen", STRATEGY)):
        found[name] = train(frozen=name == "frozen", devices=2, strategy=instantiate(arguments))
    # only rank 0 finds the folder of a better run
    judge = Hopeless(RunFolder(f"{folder}/{rank}/run"), finished=1, warmup=0)
    stopped = Stopped(judge)
    tiny.trainer([judge, stopped], devices=2, strategy=instantiate(STRATEGY)).fit(tiny.module(specs={}), tiny.data())
    found["stopped"] = stopped.told
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "0" / "better").mkdir(parents=True)
    (folder / "0" / "better" / "metrics.json").write_text('{"schema": 1}')
    (folder / "0" / "better" / "history.csv").write_text("epoch,step,val/miou\n0,3,2.0\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forked: starting an interpreter costs more than all of the training
    processes.start_processes(one_rank, (str(folder), port), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_statistics_are_not_sent_before_every_step_and_nothing_else_changes(ranks):
    assert not STRATEGY.broadcast_buffers
    (ours, scored), (earlier, then) = ranks[0]["ours"], ranks[0]["earlier"]
    assert ours.keys() == earlier.keys()
    assert all(torch.equal(ours[name], earlier[name]) for name in ours)
    assert scored["miou"] == then["miou"]


def test_ranks_have_one_set_of_weights_and_score_the_network_that_is_saved(ranks):
    (first, scored_first), (second, scored_second) = (rank["ours"] for rank in ranks)
    assert all(torch.equal(first[name], second[name]) for name in first if "running" not in name)
    student, average = STATISTICS
    assert not torch.equal(scored_first[student], scored_second[student])  # each rank has seen images of its own
    assert torch.equal(scored_first[average], scored_second[average])
    assert scored_first["miou"] == scored_second["miou"]


def test_two_processes_train_what_one_does_on_the_joined_batch(ranks):
    alone, scored = train(frozen=True, batch_size=4)
    together, scored_together = ranks[0]["frozen"]
    for name in alone:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-4, atol=1e-5)
    assert scored_together["miou"] == pytest.approx(scored["miou"].item(), abs=0.02)


def test_all_ranks_end_together_by_what_the_first_one_reads(ranks):
    assert ranks[0]["stopped"] == ranks[1]["stopped"]
    assert ranks[0]["stopped"]["step"] == 3  # of 6
