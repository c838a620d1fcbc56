"""A signal that one of two processes gets ends both after the same step, and the resumed run is exact."""

import os
import signal
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as processes
from hydra.utils import instantiate

from segdistill.engine.agreement import MARGIN
from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.callbacks.interrupt import Interrupt
from segdistill.errors import Interrupted
from tests import tiny
from tests.engine.test_ddp import STRATEGY

STEPS = 10  # an epoch's
SIGNALLED = {"mid": 3, "end": STEPS - 1, "last": STEPS}  # the step within which rank 1 gets the signal


def fit(folder, rank, *, signalled=None, accumulate=1, ckpt_path=None):
    """The state dict at the end of two epochs, or the step that it was stopped at."""
    module = tiny.module(ema_decay=0.9, dropout=0.3)
    steps = []

    def look(trainer, module, batch):
        steps.append(trainer.global_step)
        if signalled is not None and rank == 1 and trainer.global_step == signalled and signalled not in steps[:-1]:
            os.kill(os.getpid(), signal.SIGUSR2)

    trainer = tiny.trainer(
        [tiny.Watch(look), Checkpoint(folder), Interrupt()],
        devices=2,
        strategy=instantiate(STRATEGY),
        accumulate_grad_batches=accumulate,
    )
    data = tiny.data(train=tiny.Set(4 * STEPS * accumulate))
    try:
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=False)
    except Interrupted as stopped:
        return trainer.global_step, stopped.number
    return tiny.clone(module.state_dict())


def one_rank(rank, folder, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
    os.environ["LOCAL_RANK"] = str(rank)
    torch.set_num_threads(1)
    root = Path(folder)
    found = {"whole": fit(root / "whole", rank), "whole2": fit(root / "whole2", rank, accumulate=2)}
    for name, step in SIGNALLED.items():
        found[name] = fit(root / name, rank, signalled=step)
        found[f"resumed {name}"] = fit(root / name, rank, ckpt_path=root / name / "last.ckpt")
    found["half"] = fit(root / "half", rank, signalled=4, accumulate=2)
    found["resumed half"] = fit(root / "half", rank, accumulate=2, ckpt_path=root / "half" / "last.ckpt")
    torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    for name in ("whole", "whole2", "half", *SIGNALLED):
        (folder / name).mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes.start_processes(one_rank, (str(folder), port), nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize(
    ("name", "step"), [("mid", SIGNALLED["mid"] + MARGIN), ("end", STEPS), ("last", STEPS), ("half", 4 + MARGIN)]
)
def test_both_stop_after_the_same_step_and_going_on_is_exact(ranks, name, step):
    assert [rank[name] for rank in ranks] == [(step, signal.SIGUSR2)] * 2
    whole = "whole2" if name == "half" else "whole"
    expected, resumed = ranks[0][whole], ranks[0][f"resumed {name}"]  # the statistics that count are those of rank 0
    assert resumed.keys() == expected.keys()
    assert [key for key in expected if not torch.equal(resumed[key], expected[key])] == []
