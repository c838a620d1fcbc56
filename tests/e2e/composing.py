"""The config of a tiny run, composed without the run."""

from hydra import compose, initialize_config_dir

from segdistill import build  # noqa: F401 (registers the resolvers)
from segdistill.conf_dir import conf_dir
from tests.e2e.conftest import TINY


def composed(*overrides):
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("train", overrides=[*TINY, "trainer=debug", *overrides])
