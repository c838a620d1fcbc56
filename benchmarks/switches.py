"""What channels_last, compile and bf16 do to a step's forward and backward pass.

python benchmarks/switches.py [ways=channels_last,compile,bf16] [rounds=15] [overrides of train.yaml]

Every way is timed in turns with the plain one on the same training batches; the median of the ratios within a round
counts, since the machine may be noisy. The first step of a compiled way is told apart: it is the time to compile.
"""

import statistics
import sys
from contextlib import nullcontext

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.engine.compiling import Way
from segdistill.engine.tuning import WARM_UP, Trial, first_batches
from segdistill.quiet import quieten
from segdistill.run import build_module

DEFAULTS = [
    "trainer=default", "dataset.source.size=[360,480]", "dataset.source.num_images={train: 16, val: 1, test: 1}",
    "dataset.crop=[352,480]", "data.batch_size=4", "data.num_workers=0", "teacher.checkpoint=null",
    "teacher.refuse_below=0",
]  # fmt: skip
WAYS = {"channels_last": Way(channels_last=True), "compile": Way(compile=True), "bf16": Way()}


def main(arguments: list[str]) -> None:
    """One line a way: ratio to the plain one, quartiles, milliseconds."""
    given = dict(one.split("=", 1) for one in arguments if one.startswith(("ways=", "rounds=")))
    overrides = [one for one in arguments if not one.startswith(("ways=", "rounds="))]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*DEFAULTS, *overrides])
    quieten()
    pl.seed_everything(0, verbose=False)
    device = torch.device("cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu")
    sets = build.datasets(cfg)
    module = build_module(cfg, sets, build.student(cfg, sets)).module
    batches = first_batches(build.data_module(cfg, sets, on_gpu=device.type == "cuda"))
    plain = Trial(module, batches, device=device, teaches=True, context=nullcontext)
    half = Trial(
        module, batches, device=device, teaches=True, context=lambda: torch.autocast(device.type, torch.bfloat16)
    )
    for name in given.get("ways", ",".join(WAYS)).split(","):
        trial, way = half if name == "bf16" else plain, WAYS[name]
        first = trial.seconds(way, 0)
        rounds = range(WARM_UP + int(given.get("rounds", 15)))
        pairs = [(plain.seconds(Way(), i), trial.seconds(way, i)) for i in rounds][WARM_UP:]
        low, ratio, high = statistics.quantiles([two / one for one, two in pairs], n=4)
        before, after = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"{cfg.student.name} {name}: ratio {ratio:.3f} (quartiles {low:.3f} .. {high:.3f}), "
            f"{before:.0f} -> {after:.0f} ms; first step {first:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
