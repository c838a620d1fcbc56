"""Files are verified, gated, marked and moved; torch.export's are the quickest to make."""

import copy
import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from segdistill.bundle.description import Export
from segdistill.errors import UserError
from segdistill.export import making, torch_export
from segdistill.export.compared import Compared
from segdistill.export.images import Images
from segdistill.export.making import make
from segdistill.export.network import Deployed
from segdistill.export.plan import variants
from segdistill.export.record import Gate
from segdistill.export.verify import Reference, compare
from segdistill.predictor import Predictor
from segdistill.runtimes import torch_export as torch_export_runtime
from tests import tiny
from tests.export.parts import SIZE, described, job, model

FILE = "tiny_fp32.pt2"


def made(folder, precisions=("fp32",), *, max_drop=1.0, batch=1):
    wanted = variants(
        *(("torch_export",), precisions),
        **{"student": "tiny", "output": "logits", "size": SIZE, "asked_size": False, "batch": batch, "folder": folder},
    )
    source = tiny.Set(3)
    return make(
        wanted,
        Deployed(model()),
        described(),
        Images(source, [0, 1], source, [0, 1, 2], described(wanted[0].export)),
        Gate("blocks", "val", max_drop),
        "segdistill export run=x",
    )


def there(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def broken(monkeypatch):
    """A converter that spoils the weights."""
    write = torch_export.write

    def spoilt(one):
        network = copy.deepcopy(one.network)
        network.model.network.head.weight.neg_()
        write(replace(one, network=network))

    monkeypatch.setattr(torch_export, "write", spoilt)


def test_a_good_file_and_its_record(tmp_path):
    found = made(tmp_path)

    assert found.code == 0
    assert there(tmp_path) == [FILE, f"{FILE}.json"]
    record = json.loads((tmp_path / f"{FILE}.json").read_text())
    assert json.loads(json.dumps(found.records)) == [record]
    content = (tmp_path / FILE).read_bytes()
    assert record["bytes"] == len(content)
    assert record["sha256"] == {FILE: hashlib.sha256(content).hexdigest()}
    expected = {"format": "torch_export", "precision": "fp32", "output": "logits", "size": [16, 24], "batch": 1}
    assert {key: record[key] for key in expected} == expected
    assert (record["weights"], record["run"], record["licence"]) == ("ab", "run1", "CC0")
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    verified = record["verified"]
    assert (verified["dataset"], verified["split"], verified["images"]) == ("blocks", "val", 3)
    assert verified["passed"]
    assert verified["largest_difference"] < 1e-4
    assert verified["agreement"] == 1
    assert verified["miou"] == verified["miou_eager"] > 0


def test_a_file_that_computes_something_else_is_kept_and_marked(tmp_path, broken, capsys):
    found = made(tmp_path, max_drop=50)

    assert found.code == 2
    assert there(tmp_path) == ["tiny_fp32.rejected.pt2", "tiny_fp32.rejected.pt2.json"]
    (record,) = found.records
    assert record["file"] == "tiny_fp32.rejected.pt2"
    assert not record["verified"]["passed"]
    assert "% of the pixels their class" in capsys.readouterr().err


def test_the_gate_on_the_drop(tmp_path, capsys):
    found = made(tmp_path, max_drop=-100.0)

    assert found.code == 2
    assert found.records[0]["verified"]["objections"] == ["loses 0.00 points of mIoU, more than max_drop=-100"]
    assert "torch_export fp32: loses 0.00 points" in capsys.readouterr().err


def test_what_passes_takes_the_place_of_what_was_rejected(tmp_path):
    made(tmp_path, max_drop=-100.0)
    made(tmp_path)

    assert there(tmp_path) == [FILE, f"{FILE}.json"]


def test_a_rejected_file_leaves_the_good_one_alone(tmp_path, broken):
    (tmp_path / FILE).write_text("good")
    made(tmp_path)

    assert (tmp_path / FILE).read_text() == "good"


def test_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    write = torch_export.write

    def half_fails(one):
        if one.wanted.precision == "fp16":
            one.path.write_bytes(b"half")
            raise UserError("no halves here")
        write(one)

    monkeypatch.setattr(torch_export, "write", half_fails)
    found = made(tmp_path, ("fp16", "fp32"))

    assert found.code == 2
    assert found.failed == {"torch_export fp16": "no halves here"}
    assert there(tmp_path) == [FILE, f"{FILE}.json"]
    assert "error: torch_export fp16: no halves here" in capsys.readouterr().err


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path)

    assert there(tmp_path) == []


def test_one_that_cannot_be_run_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    opening = making.open_session

    def fails(path, **options):
        session = opening(path, **options)
        if session.description.export.precision == "fp16":
            monkeypatch.setattr(session, "run", lambda images: 1 / 0)
        return session

    monkeypatch.setattr(making, "open_session", fails)
    found = made(tmp_path, ("fp16", "fp32"))

    assert found.code == 1
    assert "ZeroDivisionError" in found.failed["torch_export fp16"]
    assert there(tmp_path) == [FILE, f"{FILE}.json"]
    assert "error: torch_export fp16: " in capsys.readouterr().err


def test_a_file_that_mixes_up_the_images_of_a_batch_does_not_pass(tmp_path, monkeypatch):
    good = made(tmp_path, batch=2).records[0]["verified"]
    assert (good["passed"], good["batch_agreement"]) == (True, 1)

    run = torch_export_runtime.TorchExportSession.run
    monkeypatch.setattr(torch_export_runtime.TorchExportSession, "run", lambda self, images: run(self, images)[::-1])
    bad = made(tmp_path, batch=2).records[0]["verified"]
    assert not bad["passed"]
    assert "in a batch of different images, or at another size" in bad["objections"][0]


@pytest.mark.parametrize(
    ("precision", "agreement", "together", "passes"),
    [
        ("fp32", 1, 1, True),
        ("fp32", 1, 0.99, False),
        ("int8", 0.97, 0.93, True),
        ("int8", 0.97, 0.8, False),
        ("int8", 0.97, None, True),
    ],
)
def test_the_gate_on_batches(precision, agreement, together, passes):
    found = Compared(3, 0, 0, 0.1, agreement, together, 0.5, 0.5)
    assert (Gate("blocks", "val", 1).objections(precision, found) == []) is passes


class Fixed:
    """A session that gives the same scores whatever it sees."""

    def __init__(self, scores):
        self.scores, self.description = scores, size_of_two()

    def run(self, images):
        return self.scores[None]


def size_of_two():
    return described(Export("onnx", "fp32", "logits", (2, 2), 1))


def test_differences_agreement_and_miou_of_a_hand_made_case():
    eager = np.zeros((3, 2, 2), np.float32)
    eager[0] = 1  # all of class 0
    found = eager.copy()
    found[1, 0, 0] = 3  # one pixel of class 1
    truth = torch.tensor([[1, 0], [0, 255]], dtype=torch.uint8)
    image = np.zeros((2, 2, 3), np.uint8)

    compared = compare({"file": Predictor(Fixed(found))}, Predictor(Fixed(eager)), [(image, truth)], failed=print)[
        "file"
    ]

    assert compared.images == 1
    assert compared.largest_difference == 3
    assert compared.agreement == 0.75
    assert compared.miou == 1
    assert compared.miou_eager == pytest.approx((0 + 2 / 3) / 2)
    assert compared.drop == pytest.approx(100 * (1 / 3 - 1))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("whose", ["file", "torch", "both"])
def test_scores_that_are_no_numbers_do_not_pass(value, whose):
    sound = np.zeros((3, 2, 2), np.float32)
    sound[0] = 1
    spoilt = sound.copy()
    spoilt[0, 0] = value
    found, eager = (spoilt if whose in (one, "both") else sound for one in ("file", "torch"))
    image, truth = np.zeros((2, 2, 3), np.uint8), torch.zeros(2, 2, dtype=torch.uint8)

    compared = compare({"file": Predictor(Fixed(found))}, Predictor(Fixed(eager)), [(image, truth)], failed=print)[
        "file"
    ]

    counts = [2 * (whose in (one, "both")) for one in ("file", "torch")]
    assert compared.largest_difference == 0
    assert f"gives NaN or Inf for {counts[0]} scores (torch for {counts[1]})" in Gate("blocks", "val", 100).objections(
        "int8", compared
    )


def test_torch_sees_images_at_the_files_size(tmp_path):
    one = job(tmp_path, size=(32, 48))
    image = np.zeros((16, 24, 3), np.uint8)
    seen = []

    class Watched(Reference):
        def run(self, images):
            seen.append(images.shape)
            return super().run(images)

    assert Predictor(Watched(one.network, one.description)).scores(image).shape == (3, 16, 24)
    assert seen == [(1, 3, 32, 48)]
