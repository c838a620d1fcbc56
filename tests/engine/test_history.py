import csv

import pytest

from segdistill.engine.callbacks.checkpoint import Checkpoint
from segdistill.engine.callbacks.history import History
from segdistill.engine.run_folder import RunFolder
from tests import tiny


class Killed(Exception):
    pass


def rows(folder):
    with folder.history.open(newline="") as file:
        return list(csv.DictReader(file))


def fit(folder, *, epochs=2, stop=None, ckpt_path=None, look=None, data=None, **options):
    """As a run arranges its callbacks; ``stop`` raises after that many batches."""
    count, history = [], History(folder)

    def watch(trainer, module, batch):
        count.append(1)
        if look:
            look(module)
        if len(count) == stop:
            raise Killed

    folder.create()
    callbacks = [history, Checkpoint(folder.last.parent, every_n_steps=1), tiny.Watch(watch)]
    trainer = tiny.trainer(callbacks, epochs=epochs, **options)
    if stop:
        with pytest.raises(Killed):
            trainer.fit(tiny.module(), data or tiny.data())
    else:
        trainer.fit(tiny.module(), data or tiny.data(), ckpt_path=ckpt_path, weights_only=False)
    return history


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def test_one_row_an_epoch_with_the_mean_losses(folder):
    seen = []
    history = fit(folder, look=lambda module: seen.append({k: float(v) for k, v in module.latest.items()}))
    found = rows(folder)
    assert [(row["epoch"], row["step"]) for row in found] == [("0", "6"), ("1", "12")]
    for epoch, row in enumerate(found):
        steps = seen[6 * epoch : 6 * epoch + 6]
        for name in steps[0]:
            assert float(row[name]) == pytest.approx(sum(step[name] for step in steps) / 6, rel=1e-5)
        assert 0 <= float(row["val/miou"]) <= 1
    assert float(found[1]["lr"]) == 0
    assert float(found[0]["lr"]) == pytest.approx(0.05 * 0.5**0.9)
    assert history.images == 24
    assert history.seconds > 0


def test_validation_is_in_the_rows_of_its_epochs_only(folder):
    fit(folder, epochs=4, check_val_every_n_epoch=2)
    assert [bool(row.get("val/miou")) for row in rows(folder)] == [False, True, False, True]


def test_it_tells_where_the_run_is_and_writes_nothing_for_it(folder):
    fit(folder, stop=8)
    told = {key: folder.progress[key] for key in ("phase", "step", "from_step", "steps", "epoch")}
    assert told == {"phase": "training", "step": 8, "from_step": 0, "steps": 12, "epoch": 1}
    assert folder.progress["val_miou"] == pytest.approx(float(rows(folder)[0]["val/miou"]))
    assert not (folder.path / "status.json").exists()


def test_a_resumed_run_counts_from_where_it_goes_on_and_knows_the_best_so_far(folder):
    fit(folder, stop=8)
    again = RunFolder(folder.path)
    seen = []
    fit(again, ckpt_path=folder.last, look=lambda _: seen.append(dict(again.progress)))
    assert (seen[0]["from_step"], seen[0]["step"], again.progress["step"]) == (8, 9, 12)
    assert seen[0]["val_miou"] == pytest.approx(float(rows(folder)[0]["val/miou"]))
    assert again.progress["val_miou"] == max(float(row["val/miou"]) for row in rows(folder))


def test_rows_that_will_be_redone_are_dropped(folder):
    fit(folder, stop=8)
    with folder.history.open("a", newline="") as file:  # what a run wrote that lost its checkpoint afterwards
        file.write(",".join(["1", "12", *["0"] * (len(rows(folder)[0]) - 2)]) + "\r\n")
    assert len(rows(folder)) == 2
    fit(folder, ckpt_path=folder.last)
    assert [(row["epoch"], row["step"]) for row in rows(folder)] == [("0", "6"), ("1", "12")]
    assert float(rows(folder)[1]["train/loss"]) > 0


@pytest.mark.parametrize("stop", [4, 8])
def test_counts_survive_a_resume(folder, stop):
    first = fit(folder, stop=stop)
    history = fit(folder, ckpt_path=folder.last)
    assert history.images == 24
    assert history.seconds > first.seconds / 2


def test_skipped_images_are_noted_once(folder, caplog):
    data = tiny.data(train=tiny.Set(broken={3}), on_error="skip")
    with caplog.at_level("WARNING", logger="segdistill"):
        history = fit(folder, data=data)
    assert history.failed == {"drive/003.png: cannot be read (cut off): replace the file"}
    assert sum("skipped: drive/003.png" in record.message for record in caplog.records) == 1
