"""Which training images have labels: a share that is drawn once, or a file's."""

import threading
from itertools import pairwise

import numpy as np
import pytest

from segdistill.data.labelled import Labelled, read_names
from segdistill.data.subset import Subset
from segdistill.errors import UserError
from tests.data.test_held_out import Frames


def pixels():
    return np.random.default_rng(0).integers(0, 50, (40, 5))


def drawn(tmp_path, fraction, seed=0):
    path = tmp_path / "splits" / f"{fraction}_{seed}.txt"
    return Labelled(fraction, seed).drawn(Frames(a=40), path, pixels), path


def test_a_smaller_share_is_inside_a_larger_one_and_in_the_order_of_the_set(tmp_path):
    parts = [drawn(tmp_path, fraction)[0] for fraction in (1 / 8, 1 / 4, 0.3, 1 / 2)]
    assert [len(part) for part in parts] == [5, 10, 12, 20]
    for smaller, larger in pairwise(parts):
        assert set(smaller.names) < set(larger.names)
        assert smaller.indices == sorted(smaller.indices)


def test_the_file_says_what_was_chosen_and_gives_it_again(tmp_path):
    part, path = drawn(tmp_path, 0.25)
    assert sorted(read_names(path)) == part.names
    again = Labelled(file=str(path)).named(Frames(a=40), Frames(a=40))
    assert (again.names, again.fingerprint()) == (part.names, part.fingerprint())
    assert drawn(tmp_path, 0.25, seed=1)[0].names != part.names


def test_several_that_want_it_draw_it_once(tmp_path):
    counted, found = [], []

    def count():
        counted.append(1)
        return pixels()

    def job():
        found.append(Labelled(0.25).drawn(Frames(a=40), tmp_path / "split.txt", count).names)

    threads = [threading.Thread(target=job) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted) == 1
    assert found == [found[0]] * 4


def test_a_share_of_less_than_one_image_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.labelled\.fraction=0\.001 of 40 training .* give at least 0\.025"):
        drawn(tmp_path, 0.001)


def listed(tmp_path, *names):
    file = tmp_path / "names.txt"
    file.write_text("\n".join(names))
    return Labelled(file=str(file))


def test_a_file_may_name_images_that_are_held_out(tmp_path):
    frames = Frames(a=10)
    train = Subset(frames, range(6))
    choice = listed(tmp_path, "a_008", " a_003", "", "a_001", "a_001")
    assert choice.named(train, frames).names == ["a_001", "a_003"]
    with pytest.raises(UserError, match="holds out all images that it names"):
        listed(tmp_path, "a_008").named(train, frames)


def test_names_that_do_not_exist_are_told_with_the_nearest(tmp_path):
    with pytest.raises(UserError, match=r"2 of its 3 names are no training images, e\.g\. 'a_03', nearest: a_003"):
        listed(tmp_path, "a_001", "a_03", "zzz").named(Frames(a=10), Frames(a=10))
    with pytest.raises(UserError, match="e\\.g\\. 'zzz'; they are called like a_000"):
        listed(tmp_path, "zzz").named(Frames(a=10), Frames(a=10))


def test_files_without_names_are_refused(tmp_path):
    with pytest.raises(UserError, match="is empty; give one image name a line"):
        listed(tmp_path, "", " ").identity()
    with pytest.raises(UserError, match=r"nowhere\.txt: cannot be read \(No such file or directory\)"):
        read_names(tmp_path / "nowhere.txt")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match="it is no text"):
        read_names(tmp_path / "image.png")


def test_the_identity_follows_the_names_not_the_file(tmp_path):
    first = listed(tmp_path, "a", "b").identity()
    assert listed(tmp_path, "b", "a", "b").identity() == first != listed(tmp_path, "a").identity()
    assert Labelled(0.5, 1).identity() == {"fraction": 0.5, "seed": 1}
