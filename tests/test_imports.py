"""What imports what: every module by itself, the layers, and nothing heavy before it is needed."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import segdistill

SRC = Path(segdistill.__file__).parent
MODULES = sorted(
    ".".join(("segdistill", *path.relative_to(SRC).with_suffix("").parts)).removesuffix(".__init__")
    for path in SRC.rglob("*.py")
)
PURE = sorted(path for layer in ("losses", "models", "data", "metrics") for path in (SRC / layer).rglob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports(name):
    assert importlib.import_module(name).__doc__


def imported(path: Path) -> set[str]:
    """The top packages that a file imports, also inside functions."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in names}


def test_the_layers_are_found():
    assert {path.relative_to(SRC).parts[0] for path in PURE} == {"losses", "models", "data", "metrics"}


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(SRC)))
def test_losses_models_data_and_metrics_know_neither_hydra_nor_lightning(path):
    assert not imported(path) & {"hydra", "omegaconf", "pytorch_lightning", "lightning", "wandb"}


def test_help_answers_without_torch():
    script = (
        "import sys; sys.argv = ['segdistill', '--help']\n"
        "from segdistill.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print('loaded:', sorted({'torch', 'hydra', 'pytorch_lightning', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage: segdistill VERB" in done.stdout
    assert done.stdout.endswith("loaded: []\n")
