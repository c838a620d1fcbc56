"""``segdistill evaluate`` on one tiny run, on masks, and on a network that the program does not know."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from segdistill import cli, load
from segdistill.conf_dir import conf_dir
from segdistill.data.synthetic import SyntheticStreets
from segdistill.errors import UserError
from segdistill.evaluate.command import chosen_split
from segdistill.evaluate.command import evaluate as run_command
from tests import tiny
from tests.e2e.conftest import TINY, command, train

IMAGES = ["dataset=synthetic", *TINY[:2]]
CUSTOM = ["student=custom", "student.network._target_=tests.tiny.Net", "+student.network.classes=11"]


def evaluate(*overrides):
    return command(lambda: sys.exit(cli.VERBS["evaluate"](list(overrides))))


def evaluated(*overrides):
    ended = evaluate(*overrides, "output=json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


@pytest.fixture(scope="module")
def run(tmp_path_factory, teacher_bundle):
    """The folder of a run that has distilled one batch from a teacher that knows nothing."""
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    teacher = [f"teacher.checkpoint={teacher_bundle}", "teacher.refuse_below=0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        torch.set_num_threads(1)
        ended = train(*TINY, "trainer=debug", "kd=logits", *teacher, f"hydra.run.dir={folder}")
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="module")
def found(run):
    """The evaluation of its test images."""
    torch.set_num_threads(1)
    return evaluated(f"run={run}", "worst=2")


def test_the_run_s_own_scores_come_out_to_the_last_bit(run, found):
    metrics = json.loads((run / "metrics.json").read_text())
    own = found["scores"]["confusion"]
    assert found["split"] == "test"
    assert {key: own[key] for key in ("miou", "pixel_accuracy", "mean_accuracy", "f1", "per_class_iou")} == {
        key: metrics["test"][key] for key in ("miou", "pixel_accuracy", "mean_accuracy", "f1", "per_class_iou")
    }
    matrices = np.load(run / "per_image.npz")["confusion"]
    np.testing.assert_array_equal(np.array(own["matrix"])[:, :9], matrices.sum(0))


def test_what_it_leaves(run, found):
    folder = run / "evaluation" / "test"
    assert json.loads((folder / "evaluation.json").read_text()) == {k: v for k, v in found.items() if k != "folder"}
    worst = sorted(found["per_image"], key=lambda row: row["miou"])[:2]
    assert found["files"] == [
        *("confusion.png", "objects.png", "reliability.png", "trimap.png"),
        *(f"worst/{rank:02d}_{row['name']}.png" for rank, row in enumerate(worst, 1)),
    ]
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == sorted(
        [*found["files"], "evaluation.json"]
    )
    assert (found["teacher"], found["network"]["kind"], found["network"]["student"]) == (
        "fpn_resnet18", "run", "fast_scnn",
    )  # fmt: skip
    assert found["scores"]["agreement"]["agreement"] is not None
    assert [row["name"] for row in found["per_image"]] == ["test_0000", "test_0001", "test_0002"]


def test_masks_of_its_own_predictions_score_the_same(run, found):
    predictor, source = load(run), SyntheticStreets("test", (64, 96), {"train": 8, "val": 3, "test": 3})
    Path("masks").mkdir()
    colours = predictor.palette
    for number, (name, image) in enumerate(zip(source.names, map(source.image, range(3)), strict=True)):
        mask = predictor(image.permute(1, 2, 0).numpy())
        if number == 0:
            predictor.indexed(mask).save(f"masks/{name}.png")
        else:
            Image.fromarray(colours[mask] if number == 1 else mask).save(f"masks/{name}_pred.png")
    told = evaluated(f"run={run}", "predictions=masks", "agreement=false", "metrics=[confusion,boundary,surface]")
    assert told["folder"] == str(run / "evaluation" / "test_masks")
    for group in ("confusion", "boundary", "surface"):
        assert told["scores"][group] == found["scores"][group]


def test_a_window_over_all_of_it_changes_nothing_and_the_table_says_so(run, found):
    ended = evaluate(
        f"run={run}",
        "window=[64,96]",
        "metrics=[confusion]",
        "agreement=false",
        "worst=0",
        "out=out",
        "output=markdown",
    )
    assert ended.code == 0, ended.err
    told = json.loads(Path("out/evaluation.json").read_text())
    assert told["scores"]["confusion"]["matrix"] == found["scores"]["confusion"]["matrix"]
    assert told["files"] == ["confusion.png"]
    assert "**fast_scnn" in ended.out
    assert f"| mIoU | {100 * told['scores']['confusion']['miou']:.1f} % |" in ended.out


def test_somebody_s_network_in_pixels_of_bgr_and_its_foreign_classes():
    torch.manual_seed(3)
    network = tiny.Net(classes=11)
    for bias in (network.deep[0].bias, network.head.bias):
        torch.nn.init.zeros_(bias)  # or one class wins everywhere
    weights = {f"net.{key}": value for key, value in network.state_dict().items()}
    torch.save(weights, "rgb.pth")
    torch.save({**weights, "net.low.0.weight": weights["net.low.0.weight"].flip(1)}, "bgr.pth")
    common = [*IMAGES, *CUSTOM, r"transfer.key_map={net\.: ''}", "metrics=[confusion]", "worst=0", "split=val"]
    rgb = ["student.mean=[0.3,0.4,0.6]", "student.std=[0.2,0.3,0.5]"]
    bgr = ["student.mean=[153,102,76.5]", "student.std=[127.5,76.5,51]", "student.scale=255"]
    first, second = (
        np.array(
            evaluated(*common, f"transfer.weights={name}.pth", *options, f"out={name}")["scores"]["confusion"]["matrix"]
        )
        for name, options in (("rgb", rgb), ("bgr", [*bgr, "student.channel_order=bgr"]))
    )
    assert (first[:, :9].sum(axis=0) > 100).sum() > 1
    assert first[:, 9].sum() > 100  # foreign classes are misses
    assert np.abs(first - second).sum() <= 4  # rounding, where two classes are as likely


@pytest.fixture(scope="module")
def config():
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("evaluate")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": "tset"}, "split=tset: dataset synthetic has train, val, test"),
        ({"dataset": {"classes": list("abcdefghi")}}, "has 9 (a, b, c, d, ...); evaluate it on its own dataset"),
        ({"out": "{run}"}, "holds other files; give another folder, out=DIR, or replace=true to write there"),
        ({"dataset": {"source": {"seed": 9}}}, "an evaluation with other settings (source); give another folder,"),
        ({"data": {"held_out": {"share": 0.5, "block": 1, "gap": 0}}}, "with other settings (held_out); give another"),
        ({"metrics": ["confusion"]}, "an evaluation with other settings (metrics); give another folder, out=DIR, or"),
        ({"predictions": "nowhere"}, "predictions=nowhere: is no folder"),
        ({"teacher": {"checkpoint": "gone"}, "agreement": True, "out": "o"}, "weights are not at gone any more; give"),
        ({"window": [64], "tta": {"scales": [0]}}, "window=[64]: must be null or [H, W], each at least 1"),
        ({"window": [64], "tta": {"scales": [0]}}, "tta.scales=[0]: must be a list of sizes, each above 0"),
        ({"file": "net.tflite"}, "net.tflite: no such file"),
        ({"run": "elsewhere"}, "elsewhere is no run folder: it has no config.yaml"),
        ({"run": None}, "nothing to evaluate; give run=DIR; file= or predictions="),
        ({"run": None, "predictions": "masks"}, "masks: on which images? give run=DIR, or dataset=NAME"),
        ({"file": "a.onnx", "predictions": "masks"}, "file=a.onnx and predictions=masks: give one of them"),
        ({"predictions": "masks", "threads": 2}, "threads: masks are taken as they are"),
        ({"overlap": 0.2}, "overlap: has no effect without window=[H,W]"),
        ({"metrics": ["confusion"], "agreement": True}, "agreement=true: metrics=['confusion'] leaves it out; change"),
        ({"metrics": ["agreement"], "agreement": False}, "agreement=false: metrics=['agreement'] asks for it; change"),
        ({"file": "a.onnx", "transfer": {"head": "new"}}, "transfer=...: a.onnx is evaluated as it is"),
    ],
)  # fmt: skip
def test_mistakes(run, found, config, given, message):
    given = {"run": str(run), **given}
    if given.get("out") == "{run}":
        given["out"] = str(run)
    typed = [f"{key}.{inner}=" if isinstance(value, dict) else f"{key}=" for key, value in given.items()
             for inner in (value if isinstance(value, dict) else [""])]  # fmt: skip
    with pytest.raises(UserError) as told:
        run_command(OmegaConf.merge(config, given), typed)
    assert message in str(told.value)


def test_files_that_lie_nobody_knows_where():
    settings = OmegaConf.create({"dataset": {"name": "camvid", "root": None, "source": {"root": None}}})
    with pytest.raises(UserError, match=r"dataset.root must be given: dataset.root=DIR says where camvid lies"):
        chosen_split(settings, "auto")


def test_a_mistake_is_one_line_and_exits_with_2():
    ended = evaluate("run=elsewhere")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == "error: elsewhere is no run folder: it has no config.yaml; give run=DIR of a finished run\n"
