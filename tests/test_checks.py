"""A config is checked without stumbling over what is right."""

import pytest
from hydra import compose, initialize_config_dir

from segdistill import build  # noqa: F401 (registers the resolvers)
from segdistill.checks import check_config
from segdistill.conf_dir import conf_dir
from segdistill.errors import UserError


def composed(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def test_the_defaults_are_right():
    check_config(composed())


def test_labels_are_numbers_as_keys_of_a_remap(tmp_path):
    folder = ["dataset=folder", f"dataset.root={tmp_path}", "dataset.classes=[a,b]", "dataset.source.remap={0:0,7:1}"]
    check_config(composed(*folder))


def test_names_that_no_bundle_can_hold_are_told_before_anything_is_trained(tmp_path):
    folder = ["dataset=folder", f"dataset.root={tmp_path}", "dataset.classes=[0,'a/b']"]
    check_config(composed(*folder))
    with pytest.raises(UserError, match=r"go into the student's bundle: .*must be at most 200 printable characters"):
        check_config(composed(*folder[:2], "dataset.classes=[a,'b\tc']"))
    with pytest.raises(UserError, match="must be a name without /"):
        check_config(composed("student.name=my/net"))


def test_an_argument_that_a_class_does_not_have_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"augment\.scales: .*Augment has no such argument, nearest: scale"):
        check_config(composed("+augment.scales=[1,2]"))


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (
            ["data.labelled={fraction: 1.5, seed: -1, file: nowhere.txt}", "data.held_out.fold=1"],
            [
                "data.labelled.fraction=1.5: must be a share of the training images, above 0 and at most 1",
                "data.labelled.seed=-1: must be a whole number from 0",
                "data.held_out.fold=1: holds nothing out without a share; give data.held_out.share=0.2",
            ],
        ),
        (
            ["data.labelled={fraction: 0.5, file: nowhere.txt}", "data.held_out={share: 0.2, fold: 5}"],
            [
                "the file names all that is trained on; give one of them",
                "data.labelled.file=nowhere.txt: cannot be read (No such file",
                "data.held_out.fold=5: share=0.2 makes 5 folds, 0 to 4",
            ],
        ),
        (
            ["data.labelled=0.5", "data.held_out=3"],
            [
                "data.labelled=0.5: must be null, or {fraction: 0.125, seed: 0} or {file: FILE}",
                "data.held_out=3: must be null, or {share: 0.2",
            ],
        ),
    ],
)
def test_what_is_wrong_with_the_choice_of_images(overrides, messages):
    with pytest.raises(UserError) as told:
        check_config(composed(*overrides))
    assert str(told.value).startswith(f"{len(messages)} mistakes")
    assert [message for message in messages if message not in str(told.value)] == []
