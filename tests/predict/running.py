"""``segdistill predict`` without composing its config, which costs more than predicting tiny images."""

import sys

import yaml

from segdistill import cli
from segdistill.conf_dir import conf_dir
from segdistill.outcome import guarded
from segdistill.predict.command import predict as run
from tests.e2e.conftest import Ended, command

PATHS = ("run", "file", "input", "out")


def predict(*arguments: str) -> Ended:
    """The command with ``key=value`` arguments, on two threads."""
    settings = yaml.safe_load((conf_dir() / "predict.yaml").read_text()) | {"threads": 2}
    for one in arguments:
        key, value = one.split("=", 1)
        assert key in settings
        settings[key] = value if key in PATHS else yaml.safe_load(value)
    return command(lambda: sys.exit(guarded(lambda: run(settings))))


def typed(*arguments: str) -> Ended:
    """The same as it is typed."""
    return command(lambda: sys.exit(cli.VERBS["predict"](list(arguments))))
