"""The whole program with a teacher's stored outputs."""

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from segdistill import cli
from tests.cache.test_store import broken
from tests.e2e.conftest import REPO, TINY, command, complete, train

FULL = ["teacher.cache=full_view", "epochs=2", "paths.outputs=o"]


def cache(verb, *overrides):
    def act():
        raise SystemExit(cli.cache(verb, overrides))

    return command(act)


def made(ended):
    """How many records each job of a command says that it made."""
    return [int(count) for count in re.findall(r"teacher outputs: made (\d+) in", ended.err)]


def files():
    return sorted(Path("o/cache/teacher_outputs").rglob("*.safetensors"))


@pytest.mark.parametrize("mode", ["full_view", "replay"])
def test_a_run_fills_its_cache_and_the_next_one_reads_it(untrained, mode):
    options = [*TINY, *untrained, *FULL, f"teacher.cache={mode}", "teacher.store.views=3", "data.num_workers=1"]
    ended = train(*options, "kd=hybrid", "hydra.run.dir=one")
    assert ended.code == 0, ended.err
    assert complete(Path("one")) == []
    assert made(ended) == [8 if mode == "full_view" else 24]
    told = json.loads(Path("one/metrics.json").read_text())["teacher"]["cache"]
    assert told["mode"] == mode
    assert {path.parent.name.split("-")[0] for path in files()} == {"logits", "decoder", "context"}
    assert all(Path(told["folder"]) in path.parents for path in files())
    again = train(*options, "kd=logits", "seed=1", "student=mobilenetv3_seg_small", "hydra.run.dir=two")
    assert again.code == 0, again.err
    assert made(again) == []  # another student, recipe and seed: no forward pass


def test_the_jobs_of_a_sweep_ask_the_teacher_once_in_all(untrained):
    ended = train("-m", *TINY, *untrained, *FULL, "epochs=1", "kd=none,logits", "seed=0,1", "hydra.sweep.dir=sweep")
    assert ended.code == 0, ended.err
    assert made(ended) == [8]


def test_two_processes_of_a_run_fill_and_read_one_cache(untrained):
    ended = train(
        *TINY, *untrained, *FULL, "epochs=1", "kd=logits", "hydra.run.dir=run",
        "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert complete(Path("run")) == []
    assert len(files()) == 1


def test_a_broken_file_is_named_and_made_again_before_training(untrained):
    options = [*TINY, *untrained, *FULL, "kd=logits", "epochs=1"]
    assert train(*options, "hydra.run.dir=one").code == 0
    broken(files()[0], "corrupt")
    ended = train(*options, "hydra.run.dir=two")
    assert ended.code == 0
    assert f"{files()[0]} is corrupt" in ended.err
    assert made(ended) == [8]
    assert Path("one/history.csv").read_text() == Path("two/history.csv").read_text()


def test_verbs_build_info_verify_and_clear(untrained):
    options = [*TINY, *untrained, *FULL, "kd=hybrid"]
    built = cache("build", *options, "output=json")
    assert built.code == 0, built.err
    assert re.search(r"about \d+ MB are missing", built.err)
    document = json.loads(built.out)
    assert document["made"] == 8
    assert {name.split("-")[0]: count for name, count in document["maps"].items()} == {
        "context": 1, "decoder": 1, "logits": 1,
    }  # fmt: skip
    assert cache("verify", "paths.outputs=o").code == 0
    assert document["key"] in cache("info", "paths.outputs=o").out

    broken(files()[0], "truncated")
    ended = cache("verify", "paths.outputs=o")
    assert ended.code == 2
    assert f"{files()[0]}: truncated" in ended.out
    assert json.loads(cache("build", *options, "output=json").out)["made"] == 8
    assert json.loads(cache("verify", "paths.outputs=o", "output=json").out) == {"caches": 1, "broken": []}

    assert cache("clear", "paths.outputs=o").code == 2  # says which, or nothing goes
    assert files()
    assert cache("clear", "paths.outputs=o", f"key={document['key']}").code == 0
    assert not files()
    assert cache("info", "paths.outputs=o").out == "no cache\n"


def test_a_folder_that_holds_something_else_is_refused(untrained):
    options = [*TINY, *untrained, *FULL, "kd=logits", "teacher.store.dir=mine"]
    assert cache("build", *options).code == 0
    ended = train(*options, "teacher.resize=0.5", "dataset.crop=[96,96]")
    assert ended.code == 2
    assert "mine holds other outputs: settings.resize is 1.0 there and 0.5 here" in ended.err
    ended = train(*options, "teacher.cache=replay")
    assert 'mode is "full_view" there and "replay" here' in ended.err


def test_a_disk_that_is_too_small_is_said_before_the_teacher_is_asked(untrained, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    ended = train(*TINY, *untrained, *FULL, "kd=logits")
    assert ended.code == 2
    assert re.search(r"teacher.cache=full_view needs 0.00 GB, 0.00 GB are free in .*; set teacher.store.dir", ended.err)
    assert not files()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["teacher.cache=always"], "teacher.cache=always: must be none, full_view or replay"),
        (["teacher.store.as=zip"], "teacher.store.as=zip: must be float16, top_k_uint8 or top_k_float16"),
        (["teacher.store.as=top_k_uint8", "teacher.store.k=9"], "there are 9 classes; keep fewer"),
        (["teacher.store.as=top_k_uint8", "kd=cwd"], "kd.terms.cwd needs the logits themselves"),
        (
            ["teacher.store.as=top_k_uint8", "kd=pixel_kl", "kd.terms.pixel_kl.loss.temperature=4"],
            "kd.terms.pixel_kl.loss.temperature softens what is not kept",
        ),
        (["teacher.cache=replay", "teacher.store.views=0"], "teacher.store.views=0: must be a whole number"),
    ],
)
def test_mistakes(untrained, options, told):
    ended = train(*TINY, *untrained, *FULL, *options)
    assert ended.code == 2
    assert told in ended.err
    assert not Path("o/cache").exists()


@pytest.mark.parametrize("kind", ["top_k_uint8", "top_k_float16"])
def test_the_likeliest_classes_suffice_for_terms_that_compare_them(untrained, kind):
    ended = train(*TINY, *untrained, *FULL, f"teacher.store.as={kind}", "kd=[pixel_kl,feature]", "hydra.run.dir=run")
    assert ended.code == 0, ended.err


@pytest.mark.parametrize(
    ("verb", "options", "told"),
    [
        ("build", ["kd=none", "teacher.cache=full_view"], "kd=none compares nothing"),
        ("build", [], "teacher.cache=none keeps nothing"),
        ("verify", ["key=abc"], "key=abc: no such cache"),
        ("info", ["kd=logit"], "there is no such kd, nearest: logits"),
    ],
)
def test_mistakes_of_the_verbs(verb, options, told):
    ended = cache(verb, *options)
    assert ended.code == 2
    assert told in ended.err


def test_a_tap_that_is_another_module_is_not_read_from_the_first_one_s_files(untrained):
    options = [*TINY, *untrained, *FULL, "kd=feature", "epochs=1"]
    assert made(train(*options, "hydra.run.dir=one")) == [8]
    other = train(*options, "teacher.taps.decoder=decoder.seg_blocks.0", "hydra.run.dir=two")
    assert made(other) == [8], other.err
    assert len(list(Path("o/cache/teacher_outputs").glob("*/decoder-*"))) == 2
    assert Path("one/history.csv").read_text() != Path("two/history.csv").read_text()


def test_a_store_that_was_cleared_is_made_again(untrained):
    options = [*TINY, *untrained, *FULL, "kd=logits", "epochs=1"]
    assert train(*options, "hydra.run.dir=one").code == 0
    store = next(Path("o/cache/teacher_outputs").glob("*/store.json"))
    store.unlink()  # what a build that was going on leaves behind
    ended = train(*options, "hydra.run.dir=two")
    assert ended.code == 0, ended.err
    assert store.exists()


METHODS = sorted(path.stem for path in (REPO / "conf/kd").glob("[!_]*.yaml") if path.stem != "none")


@pytest.mark.slow
@pytest.mark.parametrize("kd", METHODS)
def test_every_method_learns_from_stored_outputs(untrained, kd):
    ended = train(*TINY, *untrained, *FULL, f"kd={kd}", "epochs=1", "data.batch_size=4", "hydra.run.dir=run")
    assert ended.code == 0, ended.err
    assert made(ended) == [8]
