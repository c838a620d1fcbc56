"""What the user can mend ends with exit code 2 and one message: value, rule, fix; never a traceback."""

import builtins
import errno
import importlib.util
import json
from pathlib import Path

import pytest
import torch

from tests.data import layouts
from tests.e2e.conftest import TINY, Ended, command, train

CAMVID = ["dataset=camvid", "dataset.crop=[64,64]", "data.batch_size=2", "data.num_workers=0", "logger=none", "kd=none"]


def refused(ended: Ended, *parts: str) -> str:
    """The message of a run that was refused, which holds all ``parts``."""
    assert ended.code == 2, ended.err
    assert "Traceback" not in ended.err
    assert ended.err.count("error:") == 1
    assert ended.out == ""
    for part in parts:
        assert part in ended.err
    return ended.err


def run(*overrides: str) -> Ended:
    return train(*TINY, "hydra.run.dir=run", *overrides)


def test_unknown_option_of_a_group_gets_the_nearest_names():
    refused(run("student=fast_scn"), "student=fast_scn", "nearest: fast_scnn", "bisenetv2")


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["student=shuffleseg", "student.network.width=0.3"], ["width=0.3", "do not divide", "multiple of 0.25"]),
        (["student=mobilenetv3_seg", "student.network.width=0"], ["width=0", "must be above 0", "0.75"]),
        (["student=enet", "student.network.unpooling=max"], ["unpooling=max", "must be indices", "bilinear"]),
        (["student=ddrnet23_slim", "dataset.crop=[48,48]"], ["48x48", "stride 64", "at least 64x64"]),
        (["student=pidnet_s", "dataset.source.size=[60,96]"], ["60x96", "stride 64", "at least 64x64"]),
    ],
    ids=lambda value: "-".join(value) if "=" in value[0] else "",
)
def test_a_student_s_options_and_least_size(overrides, parts):
    refused(run("kd=none", *overrides), *parts)


def test_weights_of_another_width_are_refused_with_what_differs(tmp_path):
    from safetensors.torch import save_file

    from segdistill.models.students.fast_scnn import FastSCNN
    from segdistill.models.students.segnet_light import SegNetLight

    save_file(SegNetLight(9, width=0.25).state_dict(), tmp_path / "narrow.safetensors")
    weights = f"transfer.weights={tmp_path / 'narrow.safetensors'}"
    parts = ["of another shape", "encoder.0.0.0.weight (16, 3, 3, 3) -> (8, 3, 3, 3)", "Check student.network (width"]
    refused(run("student=segnet_light", "student.network.width=0.125", "kd=none", weights), *parts)
    save_file(FastSCNN(12).state_dict(), tmp_path / "classes.safetensors")
    weights = f"transfer.weights={tmp_path / 'classes.safetensors'}"
    refused(run("kd=none", weights), "head.3.weight (12, 128, 1, 1) -> (9, 128, 1, 1)", "transfer.head=new")


def test_unknown_group_gets_the_nearest_names():
    refused(run("studnet=fast_scnn"), "studnet", "nearest: student")


def test_unknown_key_gets_the_nearest_names():
    refused(run("data.batchsize=4"), "data.batchsize=4", "nearest: batch_size")


def test_unknown_nested_key_of_a_recipe_gets_the_nearest_names():
    refused(run("kd.terms.cwd_feature.weigth=5"), "kd.terms.cwd_feature has no key 'weigth'", "nearest: weight")


def test_unknown_names_inside_sweeps_and_lists():
    ended = train("-m", *TINY, "student=fast_scnn,bisenetv3", "kd=[pixel_kl,cvd],none", "optimizer.lr=1,2")
    assert ended.code == 2
    assert "student=bisenetv3" in ended.err
    assert "nearest: bisenetv2" in ended.err
    assert "kd=cvd" in ended.err
    assert "nearest: cwd" in ended.err
    assert not Path("outputs").exists()


def test_all_wrong_overrides_are_told_at_once():
    ended = run("student=fast_scn", "data.batchsize=4", "kd.terms.cwd_feature.weigth=5", "epohcs=3")
    assert ended.code == 2
    assert all(name in ended.err for name in ("fast_scn:", "batchsize", "weigth", "nearest: epochs"))


def test_a_key_of_another_option_is_unknown_here():
    refused(run("kd=pixel_kl", "kd.terms.cwd.weight=5"), "kd.terms has no key 'cwd'", "pixel_kl")


def test_an_override_that_cannot_be_parsed():
    refused(run("seed=[0"), "cannot be parsed")


def test_all_mistakes_of_the_config_come_in_one_message():
    text = refused(
        run(
            "optimizer.lr=-1",
            "data.batch_size=0",
            "kd.terms.cwd_feature.student=decodr",
            "scheduler.decay=step",
            "epochs=0",
        ),
        "5 mistakes",
        "optimizer.lr=-1: must be above 0",
        "data.batch_size=0: must be a whole number of at least 1",
        "kd.terms.cwd_feature.student=decodr: fast_scnn has no such tap; it has logits, detail, backbone, context",
        "scheduler.decay=step: must be poly, cosine or constant",
        "epochs=0",
    )
    assert text.count("\n  - ") == 5


def test_a_wrong_argument_of_a_target_names_those_that_it_takes():
    refused(run("+optimizer.momentun=0.9", "optimizer=sgd"), "optimizer.momentun", "nearest: momentum")


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["loss=ohem", "loss.terms.ohem.loss.threshold=7"], ["threshold=7", "(0, 1]"]),
        (["loss=focal", "loss.terms.focal.loss.gamma=0.5"], ["gamma=0.5", "at least 1"]),
        (["loss.terms.cross_entropy.loss.class_weights=inverse"], ["class_weights=inverse", "inverse_log"]),
        (["data.batch_size=9"], ["8 training images", "data.batch_size"]),
        (["data.batch_size=1"], ["batch size 1", "2 or more"]),
    ],
    ids=lambda value: value[-1],
)
def test_a_value_that_only_its_user_can_judge(overrides, parts):
    refused(run("kd=none", *overrides), *parts)


def test_a_mandatory_value_that_is_missing():
    refused(train("dataset=camvid", "logger=none", "hydra.run.dir=run"), "dataset.root", "must be given")


def test_dataset_root_that_does_not_exist_shows_the_layout(tmp_path):
    refused(
        train(*CAMVID, f"dataset.root={tmp_path}/nowhere", "hydra.run.dir=run"),
        "nowhere",
        "not found",
        "dataset.root",
        "trainannot",
    )


def test_image_without_mask(tmp_path):
    root = layouts.camvid_root(tmp_path / "data")
    (root / "trainannot" / "0001TP_2.png").unlink()
    refused(train(*CAMVID, f"dataset.root={root}", "hydra.run.dir=run"), "0001TP_2", "no mask", "add the masks")


@pytest.mark.parametrize("workers", [0, 1])
def test_corrupt_image_names_the_file(tmp_path, workers):
    root = layouts.enlarge(layouts.camvid_root(tmp_path / "data"))
    (root / "train" / "0001TP_2.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
    ended = train(*CAMVID, f"data.num_workers={workers}", f"dataset.root={root}", "epochs=1", "hydra.run.dir=run")
    refused(ended, "0001TP_2.png", "cannot be read", "replace the file")


def test_corrupt_images_are_skipped_counted_and_reported_on_request(tmp_path):
    root = layouts.camvid_root(tmp_path / "data")
    for seed in range(2):
        layouts.photo(root / "train" / f"more{seed}.png", seed=seed)
        layouts.labels(root / "trainannot" / f"more{seed}.png", range(12))
    layouts.enlarge(root)
    (root / "train" / "0001TP_2.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
    ended = train(*CAMVID, f"dataset.root={root}", "data.on_error=skip", "epochs=1", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    assert "skipped" in ended.err
    skipped = json.loads(Path("run/metrics.json").read_text())["skipped_images"]
    assert len(skipped) == 1
    assert "0001TP_2.png" in skipped[0]
    assert "1 unreadable images were skipped" in ended.out


def test_label_out_of_range_names_file_value_and_what_is_allowed(tmp_path):
    root = layouts.camvid_root(tmp_path / "data")
    layouts.labels(root / "trainannot" / "0001TP_2.png", [0, 1, 99])
    layouts.enlarge(root)
    ended = train(*CAMVID, f"dataset.root={root}", "epochs=1", "hydra.run.dir=run")
    refused(ended, "0001TP_2.png", "label 99", "0..10")


def test_teacher_of_another_number_of_classes_says_how_to_map(untrained):
    refused(
        run("kd=pixel_kl", "teacher.checkpoint=null", "teacher.network.classes=12"),
        "12 classes, the dataset 9",
        "teacher.class_map",
    )


def test_class_map_of_a_wrong_length():
    refused(run("teacher.class_map=[0,1,2]"), "teacher.class_map has 3 entries for 9 classes")


def test_class_map_that_names_a_class_that_the_teacher_has_not():
    refused(
        run("kd=pixel_kl", "teacher.checkpoint=null", "teacher.class_map=[0,1,2,3,4,5,6,7,9]"), "class_map", "9", "0..8"
    )


def test_class_map_by_name_that_leaves_classes_without_a_source_or_names_none():
    refused(
        run("teacher.class_map={sky: 0, building: [1, 2], road: null, tram: 3}"),
        "names tram, no class of the dataset",
        "gives no source for vegetation, road, pavement, pole, sign, car, person",
        "vegetation: 3 or vegetation: [3, 7]",
    )


def test_all_mistakes_in_terms_come_in_one_message():
    refused(
        run(
            "kd=[pixel_kl,cwd,spkd,cirkd]",
            "kd.terms.pixel_kl.loss.temperature=0",
            "kd.terms.cwd.weight=-1",
            "kd.terms.cwd.mask.keep=edges",
            "kd.terms.cirkd.loss.positions=0",
            "kd.terms.spkd.student=neck",
            "kd.balance=fair",
            "data.batch_size=1",
        ),
        "7 mistakes",
        "kd.terms.pixel_kl.loss.temperature=0: must be above 0",
        "kd.terms.cwd.weight=-1: must be at least 0",
        "kd.terms.cwd.mask.keep=edges: must be all, boundary, confident_teacher or wrong_student",
        "kd.terms.cirkd.loss.",
        "positions=0",
        "kd.terms.spkd.student=neck: fast_scnn has no such tap",
        "kd.balance=fair: must be none, equal_grad, gradnorm or uncertainty",
        "data.batch_size=1: kd.terms.spkd compares images with each other and needs at least 2",
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("kd.terms.cwd.mask=boundary", "kd.terms.cwd.mask=boundary: must be {keep: boundary} or the like"),
        ("kd.terms.cwd.schedule=null", "kd.terms.cwd.schedule=None: must be {warmup: 0.1} or the like"),
        ("kd.terms.cwd.student=[]", "kd.terms.cwd.student=[]: must be a tap, or a list of taps"),
        ("kd.terms.cwd.student=[logits,logits]", "2 student tap(s) ['logits', 'logits'] and 1 teacher tap(s)"),
        ("callbacks.hopeless={finished: 0}", "null, or {finished: 5, warmup: 0.2} or a part of it"),
        ("callbacks.hopeless={patience: 3}", "a number of runs of at least 1, a share in [0, 1)"),
        ("data.held_out={share: 0.2, gap: 1.5}", "must be null, or {share: 0.2, block: 15, gap: 3, fold: null} or a"),
        ("data.held_out={share: 0.9}", "the share is above 0 and at most 0.5"),
        ("teacher.class_map=3", "teacher.class_map=3: give for each class of the dataset"),
        ("teacher.class_map=[a,b,c,d,e,f,g,h,i]", "give for each class of the dataset the teacher's class index"),
        ("kd.measure_every=0", "kd.measure_every=0: kd.balance=equal_grad follows measurements"),
        ("kd.terms.cwd.loss.temperature=warm", "kd.terms.cwd.loss.temperature=warm: must be above 0"),
    ],
)
def test_values_of_a_wrong_kind(override, message):
    refused(run("kd=cwd", "kd.balance=equal_grad", override), message)


def test_a_list_of_taps_for_a_loss_that_compares_one_pair(untrained):
    both = ["kd.terms.prototype.student=[decoder,context]", "kd.terms.prototype.teacher=[decoder,context]"]
    refused(run("kd=prototype", *both, *untrained), "kd.terms.prototype: takes one tap of each side, not a list")


def test_maps_that_a_loss_cannot_compare_are_refused_before_training():
    ended = run("kd=fitnet", "kd.terms.fitnet.adapter=none", "teacher.checkpoint=null", "teacher.refuse_below=0")
    refused(ended, "kd.terms.fitnet: student (1, 128, ", "teacher (1, 64, ", "let an adapter (adapter: conv1x1)")
    assert "epoch 1" not in ended.err


def test_a_method_through_the_head_of_a_teacher_that_has_none_for_this_tap():
    refused(
        run("kd=crosskd", "kd.terms.crosskd.teacher=backbone", "teacher.checkpoint=null", "teacher.refuse_below=0"),
        "no single module that makes its logits of tap 'backbone'",
    )


@pytest.mark.parametrize(("side", "network"), [("student", "fast_scnn"), ("teacher", "fpn_resnet18")])
def test_tap_that_does_not_exist_lists_those_that_do(side, network):
    refused(
        run(f"kd.terms.cwd_feature.{side}=neck"),
        f"kd.terms.cwd_feature.{side}=neck: {network} has no such tap; it has logits, ",
        "decoder",
    )


def test_unknown_teacher_in_a_tap():
    refused(run("kd.terms.cwd_feature.teacher=second/logits"), "no teacher 'second'", "main")


def test_checkpoint_that_does_not_fit_lists_the_keys(teacher_bundle):
    refused(
        run("kd=pixel_kl", f"teacher.checkpoint={teacher_bundle}", "teacher=unet_resnet34"),
        "does not fit",
        "missing: ",
        "unexpected: ",
        "decoder.",
        "teacher.network",
    )


def test_checkpoint_of_other_shapes(teacher_bundle):
    refused(
        run("kd=pixel_kl", f"teacher.checkpoint={teacher_bundle}", "teacher.network.classes=5"),
        "(9, 64, 1, 1) -> (5, 64, 1, 1)",
        "class_map",
    )


def test_checkpoint_that_does_not_exist():
    refused(run("teacher.checkpoint=nowhere.pt"), "teacher.checkpoint=nowhere.pt", "does not exist")


def test_checkpoint_with_code_in_it_is_not_opened(tmp_path):
    class Opened:
        def __reduce__(self):
            return builtins.open, (str(tmp_path / "opened"), "w")

    torch.save({"state_dict": Opened()}, tmp_path / "t.pt")
    refused(run("kd=pixel_kl", f"teacher.checkpoint={tmp_path}/t.pt"), "t.pt", "never executed")
    assert not (tmp_path / "opened").exists()


def test_teacher_no_better_than_chance_is_refused(teacher_bundle):
    refused(
        run("kd=pixel_kl", f"teacher.checkpoint={teacher_bundle}"),
        "best constant prediction",
        "teacher.refuse_below=1.5",
        "normalisation",
    )


def test_encoder_weights_that_cannot_be_downloaded_say_the_two_ways_on(monkeypatch, tmp_path):
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    refused(
        run("kd=pixel_kl", "trainer=debug", "teacher=unet_resnet34"),
        "encoder_weights=imagenet",
        "teacher.network.encoder_weights=/path/to/file",
        "teacher.network.encoder_weights=null",
    )


def test_output_folder_that_cannot_be_made():
    Path("file").write_text("")
    refused(run("kd=none", "hydra.run.dir=file/run"), "file")


def test_output_folder_that_cannot_be_written(monkeypatch):
    real = Path.write_text

    def read_only(path, *args, **kwargs):
        if ".write-test" in path.name:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", read_only)
    refused(run("kd=none"), "cannot be written", "Read-only file system", "hydra.run.dir")


def test_disk_full_at_a_checkpoint_keeps_the_previous_one(monkeypatch):
    import pytorch_lightning as pl

    real, saved = pl.Trainer.save_checkpoint, []

    def full(trainer, path, *args, **kwargs):
        if saved:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        saved.append(real(trainer, path, *args, **kwargs))

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", full)
    refused(run("kd=none", "epochs=3"), "No space left on device", "the previous checkpoint is intact", "resume=")
    assert torch.load("run/checkpoints/last.ckpt", weights_only=False)["global_step"] == 4
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["last.ckpt"]
    assert json.loads(Path("run/status.json").read_text())["code"] == 2


def test_disk_full_at_the_bundle(monkeypatch):
    real = Path.write_bytes

    def full(path, content):
        if path.name.startswith("student.safetensors"):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    refused(run("kd=none", "epochs=1"), "No space left on device", "student.safetensors")
    assert not Path("run/metrics.json").exists()


def test_a_loss_that_is_no_number_stops_before_the_step_and_names_the_term(monkeypatch, untrained):
    from segdistill.engine.terms import Term

    real, seen = Term.forward, []

    def spoilt(term, student, teachers, target):
        seen.extend([term] if term.training else [])  # the dry run is in eval
        return real(term, student, teachers, target) * (float("nan") if len(seen) > 6 else 1)

    monkeypatch.setattr(Term, "forward", spoilt)
    refused(
        run("kd=pixel_kl", *untrained, "epochs=3"),
        "step 6",
        "kd/pixel_kl",
        "nothing was updated or saved",
        "optimizer.lr",
    )
    last = torch.load("run/checkpoints/last.ckpt", weights_only=False)
    assert last["global_step"] == 4
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())


def test_a_diverging_run_stops_and_says_what_to_lower():
    refused(run("kd=none", "optimizer=sgd", "optimizer.lr=1e30", "epochs=3"), "not finite: task", "Lower optimizer.lr")


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_extra_is_named_before_anything_is_built(monkeypatch, name):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda found, *rest: None if found == name else real(found, *rest))
    refused(run("kd=none", f"logger={name}"), f"logger={name} needs an extra: pip install 'segdistill[{name}]'")


def test_resume_of_what_is_no_run_folder(tmp_path):
    refused(train(f"resume={tmp_path}"), "no run folder")


def test_resume_takes_no_other_overrides(tmp_path):
    refused(train(f"resume={tmp_path}", "epochs=3"), "epochs=3")


def test_unknown_verb():
    import sys

    from segdistill import cli

    argv, sys.argv = sys.argv, ["segdistill", "trian"]
    try:
        ended = command(cli.main)
    finally:
        sys.argv = argv
    refused(ended, "trian", "train")
