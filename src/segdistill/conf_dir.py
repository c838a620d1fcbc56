"""Where the configs lie: inside the installed package, or at the root of the repository; and what they may compute."""

from pathlib import Path

from omegaconf import OmegaConf

OmegaConf.register_new_resolver("len", len, replace=True)  # whoever composes a config comes by here


def conf_dir() -> Path:
    """The folder that holds ``train.yaml``."""
    package = Path(__file__).parent
    for candidate in (package / "conf", package.parents[1] / "conf"):
        if (candidate / "train.yaml").exists():
            return candidate
    raise FileNotFoundError(f"no conf/train.yaml in {package} or {package.parents[1]}; reinstall segdistill")
