"""What only a CUDA device can show: make test-gpu."""

import json

import pytest
import torch

from segdistill.data.augment import IDENTITY, Augment, sample_views
from segdistill.engine.guard import FiniteGuard, NonFiniteLoss
from tests.e2e.conftest import TINY, train

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("where", ["device", "loader"])
def test_a_run_in_mixed_precision_with_an_auto_trained_teacher(tmp_path, where):
    ended = train(
        *TINY, "trainer=gpu", "kd=hybrid", "epochs=2", "teacher.recipe.epochs=2", "teacher.recipe.batch_size=2",
        "teacher.refuse_below=0", f"data.where={where}", "engine.channels_last=true", "engine.ema_decay=0.9",
        f"paths.outputs={tmp_path}", f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert 0 <= json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["miou"] <= 1


def test_views_are_those_of_a_cpu():
    image, mask = torch.randint(0, 256, (2, 3, 40, 60), dtype=torch.uint8), torch.randint(0, 9, (2, 40, 60))
    import numpy as np

    view = Augment((32, 48), rotation=10).draw(np.random.default_rng(0), (40, 60))
    geometry = torch.stack([view.geometry, IDENTITY.geometry])
    here = sample_views(image, mask.to(torch.uint8), geometry, (32, 48))
    there = sample_views(image.cuda(), mask.to(torch.uint8).cuda(), geometry.cuda(), (32, 48))
    assert (here[0].int() - there[0].cpu().int()).abs().max() <= 1
    assert (here[1] != there[1].cpu()).float().mean() < 0.01


def test_a_loss_that_is_no_number_is_known_before_the_step():
    guard = FiniteGuard()
    guard.check({"task": torch.tensor(1.0, device="cuda"), "kd/x": torch.tensor(float("nan"), device="cuda")}, 3)
    with pytest.raises(NonFiniteLoss, match=r"step 3.*kd/x"):
        guard.before_step()
