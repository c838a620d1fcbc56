"""Trainings that end early: against hand-made neighbours, noted with the reason, and ended after a resume too."""

import json

import pytest
import pytorch_lightning as pl

from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.callbacks.stopping import Hopeless, Stopped
from segdistill.engine.run_folder import METRICS_SCHEMA, RunFolder
from tests import tiny

EPOCH = 6  # steps


def neighbour(parent, name, *curve, schema=METRICS_SCHEMA):
    """A finished run with these rows of (step, score); None where the epoch had no validation."""
    folder = parent / name
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({"schema": schema}))
    rows = [f"0,{step},{'' if score is None else score}" for step, score in curve]
    (folder / "history.csv").write_text("\n".join(["epoch,step,val/miou", *rows]) + "\n")
    return folder


def fit(folder, judge, *, epochs=4, ckpt_path=None, **options):
    """As a run arranges its callbacks; returns the note and how many steps were taken."""
    steps, stopped = [], Stopped(judge)
    folder.create()
    callbacks = [judge, stopped, Checkpoint(folder.last.parent), tiny.Watch(lambda *_: steps.append(1))]
    trainer = tiny.trainer(callbacks, epochs=epochs, **options)
    trainer.fit(tiny.module(specs={}), tiny.data(), ckpt_path=ckpt_path, weights_only=True)
    return stopped.told, len(steps)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_below_the_median_of_the_others_at_the_same_step_it_ends_and_a_resumed_run_stays_ended(tmp_path, folder):
    for number, later in enumerate((2.0, 3.0, -1.0)):  # above and below any true score
        neighbour(tmp_path, f"other{number}", (EPOCH, -1.0), (2 * EPOCH, later), (3 * EPOCH, None))
    told, steps = fit(folder, Hopeless(folder, finished=3, warmup=0.0))
    assert steps == told["step"] == 2 * EPOCH
    assert "median of 3 finished runs had 200.0 %" in told["reason"]
    again, steps = fit(folder, Hopeless(folder, finished=3, warmup=0.0), ckpt_path=folder.last)
    assert (again, steps) == (told, 0)


@pytest.mark.parametrize(
    "options", [{"finished": 3, "warmup": 0.0}, {"finished": 2, "warmup": 0.75}], ids=["too few others", "warm-up"]
)
def test_it_goes_on(tmp_path, folder, options):
    neighbour(tmp_path, "a", (EPOCH, 2.0), (3 * EPOCH, -1.0))
    neighbour(tmp_path, "b", (EPOCH, 2.0))
    neighbour(tmp_path, "of another version", (EPOCH, 2.0), schema=METRICS_SCHEMA + 1)
    neighbour(tmp_path, "later", (4 * EPOCH, 2.0))
    (neighbour(tmp_path, "damaged") / "history.csv").write_text("epoch,step\n0,6\n")
    (neighbour(tmp_path, "without a history") / "history.csv").unlink()
    (neighbour(tmp_path, "unfinished", (EPOCH, 2.0)) / "metrics.json").unlink()
    told, steps = fit(folder, Hopeless(folder, **options), epochs=3)
    assert (told, steps) == (None, 3 * EPOCH)


def test_the_best_so_far_counts_on_both_sides_and_only_what_is_below_the_median_ends(tmp_path, folder):
    neighbour(tmp_path, "a", (6, 0.5), (12, 0.1), (18, 0.75))
    neighbour(tmp_path, "b", (6, 0.25))
    judge = Hopeless(folder, finished=1)
    judge.load_state_dict({"best": 0.375})
    assert judge._verdict(5) is None
    assert judge._verdict(12) is None  # of 0.5 and 0.25
    assert judge._verdict(18) == (
        "hopeless, with a best val mIoU of 37.5 % where the median of 2 finished runs had 50.0 %"
    )
    neighbour(tmp_path, "c", (6, 0.1))
    assert judge._verdict(18) is None
    assert judge.state_dict() == {"best": 0.375}


def test_the_best_so_far_survives_a_resume(tmp_path, folder):
    first = Hopeless(folder)
    fit(folder, first, epochs=2)
    second = Hopeless(folder)
    fit(folder, second, epochs=2, ckpt_path=folder.last)
    assert second.best == first.best >= 0


@pytest.mark.parametrize("every", [1, 2])
def test_early_stopping_is_noted_and_a_resumed_run_stays_ended(folder, every):
    def judge():
        return pl.callbacks.EarlyStopping(
            "val/miou", mode="max", patience=1, min_delta=2, check_on_train_epoch_end=False
        )

    told, steps = fit(folder, judge(), epochs=6, check_val_every_n_epoch=every)
    assert steps == told["step"] == 2 * every * EPOCH
    assert "did not improve" in told["reason"]
    assert fit(folder, judge(), epochs=6, check_val_every_n_epoch=every, ckpt_path=folder.last) == (told, 0)
