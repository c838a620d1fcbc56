"""Every student that has a yaml, as the program builds it, and what is known of it."""

import functools
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from segdistill import build
from segdistill.catalogue import names_of
from segdistill.conf_dir import conf_dir
from segdistill.models.network import SegModel

FACTS = Path(__file__).parents[1] / "assets" / "students"
STUDENTS = names_of("student")


@functools.cache
def config(name: str, classes: int) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[f"student={name}", f"num_classes={classes}"]).student
    assert isinstance(cfg, DictConfig)
    return cfg


def model(name: str, classes: int = 5, seed: int = 0) -> SegModel:
    torch.manual_seed(seed)
    return build.seg_model(config(name, classes))


@functools.cache
def facts(name: str) -> dict[str, Any]:
    """Published or counted figures: parameters, gmacs, stride, aux_strides, taps as [channels, stride]."""
    file = FACTS / f"{name}.yaml"
    assert file.exists(), f"conf/student/{name}.yaml has no figures to be held against: write {file}"
    return dict(yaml.safe_load(file.read_text()))


def at_stride(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-size[0] // stride), -(-size[1] // stride)
