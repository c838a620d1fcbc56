from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from segdistill.data.palette import class_colors
from tests.data.layouts import ade_root, camvid_root, cityscapes_root, coco_root, folder_root, voc_root

CONF = Path(__file__).parents[2] / "conf" / "dataset"
ROOTS = {
    "camvid": camvid_root,
    "cityscapes": cityscapes_root,
    "voc2012": voc_root,
    "ade20k": ade_root,
    "coco_stuff": coco_root,
    "folder": folder_root,
}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONF.glob("[!_]*.yaml")))
def test_every_yaml_builds_its_splits(name, tmp_path):
    cfg = OmegaConf.create({"dataset": OmegaConf.load(CONF / f"{name}.yaml")})
    if name in ROOTS:
        cfg.dataset.root = str(ROOTS[name](tmp_path))
    if name == "folder":
        cfg.dataset.classes = ["a", "b"]
        cfg.dataset.source.update(image_suffix="_rgb", mask_suffix="_labels")
    classes = cfg.dataset.classes
    assert len(set(classes)) == len(classes)
    assert all(isinstance(label, str) for label in classes)
    assert class_colors(cfg.dataset.palette, len(classes)).shape == (len(classes), 3)
    assert len(cfg.dataset.crop) == 2
    assert cfg.dataset.epochs > 0
    for split in ("train", "val", "test"):
        dataset = instantiate(cfg.dataset.source, split=split)
        mask = dataset.mask(0)
        assert (mask[mask != 255] < len(classes)).all()
        assert dataset.image(0).shape[1:] == mask.shape == dataset.size(0)
