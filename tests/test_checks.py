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


def test_an_argument_that_a_class_does_not_have_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"augment\.scales: .*Augment has no such argument, nearest: scale"):
        check_config(composed("+augment.scales=[1,2]"))
