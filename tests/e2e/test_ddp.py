"""Two processes give what one gives: on two devices, and in a sweep one job after the other."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.conftest import TINY, complete, jobs_in, train

DDP = [
    "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "epochs=2", "trainer.check_val_every_n_epoch=1",
    "data.eval_batch_size=1",
]  # fmt: skip


def whole_matrices(folder: Path, split: str) -> np.ndarray:
    """Confusion matrices of the folder's student over a split, in this one process."""
    from omegaconf import OmegaConf

    from segdistill import build
    from segdistill.data.loading import eval_loader
    from segdistill.metrics.evaluator import Evaluator
    from segdistill.models.weights import load_weights

    cfg = OmegaConf.load(folder / "config.yaml")
    student = build.seg_model(cfg.student).eval()
    load_weights(student.network, load_file(folder / "student.safetensors"), "bundle")
    evaluator = Evaluator(cfg.num_classes)
    with torch.no_grad():
        for batch in eval_loader(build.datasets(cfg)[split], build.loading(cfg, on_gpu=False)):
            evaluator.update(student(batch.image.float() / 255).logits, batch.mask.long(), batch.index)
    return evaluator.result().matrices.numpy()


def test_two_processes_count_a_set_that_two_does_not_divide_as_one_process_does(untrained):
    ended = train(
        *TINY, *DDP, *untrained, "kd=[pixel_kl,cwd_feature,cirkd]", "dataset.splits=[train,val]", "hydra.run.dir=run"
    )
    assert ended.code == 0, ended.err
    run = Path("run")
    assert complete(run) == []
    stored = np.load(run / "per_image.npz")  # without a test split, of val
    expected = whole_matrices(run, "val")
    assert stored["name"].tolist() == ["val_0000", "val_0001", "val_0002"]
    assert (stored["confusion"] == expected).all()
    assert expected.sum() > 0
    last = dict(zip(*((line.split(",")) for line in (run / "history.csv").read_text().splitlines()[::2]), strict=True))
    metrics = json.loads((run / "metrics.json").read_text())
    assert float(last["val/miou"]) == pytest.approx(metrics["val"]["miou"], abs=1e-6)
    assert int(last["step"]) == 4  # 8 images, 2 a device, 2 devices: 2 steps an epoch
    assert "RANK" not in " ".join(name for name in os.environ if name.startswith("LOCAL_"))


@pytest.mark.slow
def test_jobs_of_a_sweep_one_after_the_other_and_the_same_seed_gives_the_same_student(untrained):
    ended = train(
        "-m", *TINY, *DDP, *untrained, "seed=0,1", "kd=none,pixel_kl",
        "dataset.source.num_images={train: 8, val: 5, test: 3}", "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    folders = jobs_in("sweep")
    assert len(folders) == 4
    for folder in folders:
        assert complete(folder) == []
        assert (np.load(folder / "per_image.npz")["confusion"] == whole_matrices(folder, "test")).all()
    again = train(
        *TINY, *DDP, "kd=none", "seed=0", "dataset.source.num_images={train: 8, val: 5, test: 3}", "hydra.run.dir=run"
    )
    assert again.code == 0, again.err
    first, second = (load_file(folder / "student.safetensors") for folder in (folders[0], Path("run")))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_a_bad_loss_in_one_of_two_processes_ends_both_and_no_later_job(untrained, monkeypatch):
    from segdistill.engine.objective import TaskLoss

    real, calls = TaskLoss.forward, []

    def once(*args):  # in this process, not in the other one; and in the first job only
        calls.append(1)
        return real(*args) * (float("nan") if len(calls) == 1 else 1)

    monkeypatch.setattr(TaskLoss, "forward", once)
    ended = train("-m", *TINY, *DDP, "seed=0,1", "kd=none", "hydra.sweep.dir=sweep")
    assert ended.code == 2
    assert "not finite: task" in ended.err
    bad, good = jobs_in("sweep")
    assert json.loads((bad / "status.json").read_text())["state"] == "failed"
    assert complete(good) == []


def test_two_processes_in_each_job_of_a_search():
    """Optuna draws in the launching process only; what the first job leaves behind would break the second."""
    ended = train("-m", *TINY, *DDP, "+sweep=search", "search.n_trials=2", "kd=none", "epochs=1", "hydra.sweep.dir=s")
    assert ended.code == 0, ended.err
    assert len(jobs_in("s")) == 2
    assert [complete(folder) for folder in jobs_in("s")] == [[], []]
    assert "best of 2 trials" in ended.out
    assert not {"MASTER_PORT", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ)
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["local", "joblib", "ray"])
def test_two_processes_in_each_job_of_every_engine(cluster):
    typed = [*(one for one in TINY if one != "cluster=none"), f"cluster={cluster}", "hydra.sweep.dir=sweep"]
    typed += {"ray": ["cluster.cpus=2"], "joblib": ["cluster.jobs=1"]}.get(cluster, [])
    ended = train("-m", *typed, *DDP, "seed=0,1", "kd=none")
    assert ended.code == 0, ended.err
    assert [complete(folder) for folder in jobs_in("sweep")] == [[], []]
    for folder in jobs_in("sweep"):
        history = (folder / "history.csv").read_text().splitlines()
        assert history[-1].split(",")[1] == "4"  # 8 images, 2 a device, 2 devices, 2 epochs
