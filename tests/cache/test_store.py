import pytest
import torch

from segdistill.cache.encoding import Float16, TopK
from segdistill.cache.kept import REPLAY_SEED, Kept
from segdistill.cache.shards import fault, write
from segdistill.cache.store import Store, claim, record
from segdistill.errors import UserError

FACTS = {"teacher": "a", "settings": {"mean": [0.5], "resize": 1.0}, "images": {"count": 20}}


def store(folder, images=20, views=1, encoding=None):
    return Store(folder, images, views, encoding or Float16())


@pytest.mark.parametrize(("images", "views"), [(20, 1), (20, 3), (1, 1), (33, 8), (5, 40)])
def test_every_record_has_one_place(tmp_path, images, views):
    here = store(tmp_path, images, views)
    placed = [index for shard in range(here.shards) for index in here.indices(shard)]
    assert placed == list(range(images))
    assert max(len(here.indices(shard)) for shard in range(here.shards)) * views <= max(16, views)


def test_what_is_written_is_read(tmp_path):
    here = store(tmp_path, views=2, encoding=TopK(4, 2, torch.float16))
    maps = {(i, v): torch.randn(4, 3, 5) for i in here.indices(1) for v in range(2)}
    for name in ("logits", "decoder"):
        packed = [record(i, v, here.encoding_of(name).pack(one)) for (i, v), one in maps.items()]
        write(here.path(name, 1), {key: part for one in packed for key, part in one.items()})
    i = here.indices(1)[3]
    assert torch.equal(here.read("decoder", i, 1), maps[i, 1].half())
    wanted = here.encoding.unpack(here.encoding.pack(maps[i, 0]))
    assert torch.equal(here.read("logits", i, 0), wanted)


def test_a_file_that_was_made_again_is_read_anew(tmp_path):
    here = store(tmp_path)
    for value in (1.0, 2.0):
        write(here.path("logits", 0), record(0, 0, {"map": torch.full((1, 2, 2), value)}))
        assert here.read("logits", 0, 0).max() == value


def broken(path, how):
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if how == "truncated" else whole[:-3] + b"\0\1\2")


@pytest.mark.parametrize("how", ["truncated", "corrupt"])
def test_a_broken_file_is_noticed(tmp_path, how):
    path = tmp_path / "f.safetensors"
    assert fault(path, thorough=True) == "missing"
    write(path, {"0.0.map": torch.randn(3, 4)})
    assert fault(path, thorough=True) is None
    broken(path, how)
    assert how in fault(path, thorough=True)
    assert (fault(path, thorough=False) is None) == (how == "corrupt")  # a quick look sees lengths only
    path.write_text("not one of ours")
    assert "no cache file" in fault(path, thorough=False)


def test_reading_a_missing_or_broken_file_names_it(tmp_path):
    here = store(tmp_path)
    with pytest.raises(UserError, match=r"00000.safetensors: cannot be read .* start again"):
        here.read("logits", 0, 0)
    write(here.path("logits", 0), record(0, 0, {"map": torch.zeros(1, 2, 2)}))
    broken(here.path("logits", 0), "truncated")
    with pytest.raises(UserError, match=r"00000.safetensors: cannot be read"):
        here.read("logits", 0, 0)


def test_a_folder_of_other_outputs_is_refused_with_what_differs(tmp_path):
    folder = tmp_path / "mine"
    claim(folder, FACTS, given=True)
    claim(folder, FACTS, given=True)
    other = {**FACTS, "weights": "f00", "settings": {"mean": [0.5], "resize": 0.5}}
    with pytest.raises(UserError) as caught:
        claim(folder, other, given=True)
    assert "settings.resize is 1.0 there and 0.5 here" in str(caught.value)
    assert 'weights is null there and "f00" here' in str(caught.value)
    assert "mean" not in str(caught.value)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds files, but no teacher's outputs"):
        claim(tmp_path, FACTS, given=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_replayed_views_take_turns_whatever_the_seed_of_the_run(tmp_path):
    kept = Kept(store(tmp_path, views=4), ["logits"], replay=True)
    for seed in (0, 1):
        for first in (0, 4):
            shown = [kept.view(seed, epoch, 7) for epoch in range(first, first + 4)]
            assert sorted(shown) == [(REPLAY_SEED, view, 7) for view in range(4)]
    orders = {tuple(kept.view(0, epoch, index)[1] for epoch in range(4)) for index in range(20)}
    assert len(orders) > 5  # images do not march in step


def test_full_views_are_those_of_a_run_without_a_cache(tmp_path):
    assert Kept(store(tmp_path), ["logits"], replay=False).view(3, 5, 7) == (3, 5, 7)


def test_taps_of_one_name_that_are_other_modules_have_other_files(tmp_path):
    here, there = (Store(tmp_path, 20, 1, Float16(), {"decoder": f"decoder-{path}"}) for path in ("a", "b"))
    assert here.path("decoder", 0) != there.path("decoder", 0)
    assert here.path("logits", 0) == there.path("logits", 0)


def test_what_is_left_of_a_folder_that_is_found_by_content_is_taken_over(tmp_path):
    folder = tmp_path / "0123"
    folder.mkdir()
    (folder / ".store.99").write_text("half")
    (folder / "logits").mkdir()
    claim(folder, FACTS, given=False)
    assert (folder / "store.json").exists()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"teacher outputs cannot be kept in .* set teacher.store.dir"):
        claim(tmp_path / "file" / "inside", FACTS, given=True)


def test_a_disk_that_fails_is_one_line(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segdistill.cache.shards.save_file", full)
    with pytest.raises(UserError, match=r"00.safetensors cannot be written .*No space left.* Free some space"):
        write(tmp_path / "00.safetensors", {"a": torch.zeros(2)})
    assert not list(tmp_path.iterdir())


def test_what_stands_in_for_an_unreadable_image_is_made_again_next_time(tmp_path):
    path = tmp_path / "f.safetensors"
    write(path, {"0.0.map": torch.zeros(1)}, provisional=True)
    assert fault(path, thorough=False) == "of images that could not be read"
