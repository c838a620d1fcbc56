"""The console script: ``segdistill VERB [overrides]``."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import segdistill.threads  # noqa: F401 (before torch)

USAGE = """usage: segdistill VERB [overrides]

  train        train or distil a student; python train.py is the same (-m sweeps, --help lists the groups)
  models       every student and teacher: segdistill models kind=student sort=gmacs size=[360,480] output=markdown
  data check   scan a dataset before training on it: segdistill data check dataset=camvid dataset.root=DIR
  cache        a teacher's stored outputs: cache build (what such a run reads), info, verify, clear key=KEY
  sweep        a sweep's folder: sweep status DIR, watch DIR, resume DIR, cancel DIR
  report       a sweep's table with paired differences, and report/index.html: segdistill report DIR output=markdown
  evaluate     every score of a run, of masks or of any network: segdistill evaluate run=DIR split=test
  export       the student as a file for a runtime, verified there: segdistill export run=DIR format=onnx precision=int8
  card         what each exported file costs and scores, beside a device's budget: segdistill card run=DIR target=mobile
  predict      masks and overlays of images or a video: segdistill predict run=DIR input=FOLDER
  benchmark    what a step, a batch of data, a loss or inference costs: segdistill benchmark what=step size=[352,480]

Overrides are Hydra's: group=option key=value. segdistill VERB --help shows a verb's keys and what they are by default.
output=json prints one JSON document on stdout (of export it is report=json: its output= is the network's).
"""


def main() -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        sys.exit(0 if arguments else 2)
    verb, rest = arguments[0], arguments[1:]
    if verb == "train":
        train(rest)
    if {"-h", "--help"} & set(rest):
        sys.exit(_help(verb))
    if verb == "data" and rest[:1] == ["check"]:
        sys.exit(data_check(rest[1:]))
    if verb == "cache" and rest[:1] and rest[0] in ("build", "info", "verify", "clear"):
        sys.exit(cache(rest[0], rest[1:]))
    if verb == "sweep" and rest[:1] and rest[0] in ("status", "watch", "resume", "cancel"):
        sys.exit(sweep(rest[0], rest[1:]))
    if verb in VERBS:
        sys.exit(VERBS[verb](rest))
    print(f"error: {' '.join(arguments[:2])!r} is no verb\n\n{USAGE}", end="", file=sys.stderr)
    sys.exit(2)


def train(arguments: Sequence[str] | None = None) -> None:
    """Run ``segdistill train`` and exit."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    resume = [one for one in arguments if one.startswith("resume=")]
    sys.exit(_resume(resume[0].removeprefix("resume="), arguments) if resume else _hydra_train(arguments))


def _hydra_train(arguments: list[str]) -> int:
    if not {"-h", "--help", "--cfg", "--info", "--hydra-help", "-c", "-i"} & set(arguments) and _told(arguments):
        return 2
    if any(one.startswith("sweep=") for one in arguments):
        print("error: a ready sweep is added: python train.py -m +sweep=...", file=sys.stderr)
        return 2
    if any(one.startswith("+sweep=") for one in arguments) and not {"-m", "--multirun"} & set(arguments):
        print("error: +sweep=... is for sweeps; add -m: python train.py -m +sweep=...", file=sys.stderr)
        return 2
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf import DictConfig
    from omegaconf.errors import OmegaConfBaseException

    from segdistill.conf_dir import conf_dir
    from segdistill.errors import UserError
    from segdistill.outcome import guarded
    from segdistill.report.sweep import SweepTable
    from segdistill.sweep.holding import let_go
    from segdistill.sweep.job import run_config

    codes: list[int] = []
    SweepTable.exit_code = 0

    def job(cfg: DictConfig) -> None:  # of a single run: a sweep's launcher has its own
        from segdistill.checks import check_config
        from segdistill.run import run_to_status

        folder = Path(HydraConfig.get().runtime.output_dir)
        if cfg.dry_run:
            codes.append(guarded(lambda: check_config(run_config(cfg))))
            return
        code, metrics = run_to_status(run_config(cfg), folder)
        codes.append(code)
        if metrics is not None:
            _show(cfg.output, metrics, folder)

    def launch() -> None:
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
        except (HydraException, OmegaConfBaseException) as error:
            several = str(error).startswith("Ambiguous value for argument")
            hint = f"{str(error).splitlines()[0]}: several values are a sweep; add -m, or put a list into [...]"
            raise UserError(hint if several else str(error)) from error

    argv, sys.argv = sys.argv, [sys.argv[0], *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # or Hydra itself prints what is raised outside of a job, and exits with 1
    try:
        codes.append(guarded(launch))
    finally:
        sys.argv = argv
        let_go()
    return max([*codes, SweepTable.exit_code], key=(0, 2, 1, 130).index, default=0)


def _told(arguments: Sequence[str], config_name: str = "train") -> bool:
    """Say everything that is wrong with the overrides; True if anything is."""
    from segdistill.overrides import check_overrides

    errors = check_overrides([one for one in arguments if not one.startswith("-")], config_name)
    for message in errors:
        print(f"error: {message}", file=sys.stderr)
    return bool(errors)


def _show(output: str, metrics: dict[str, object], folder: Path) -> None:
    from rich.console import Console

    from segdistill.report.table import run_table

    if output == "json":
        Console().print_json(data={"folder": str(folder), **metrics})
    else:
        run_table(metrics, folder, Console())


def _resume(folder: str, arguments: Sequence[str]) -> int:
    """Go on with an interrupted run, with the config that it has."""
    from omegaconf import DictConfig, OmegaConf

    from segdistill.train_alone import main as run_alone

    config = Path(folder) / "config.yaml"
    if len(arguments) > 1:
        others = [one for one in arguments if not one.startswith("resume=")]
        print(f"error: resume goes on with the run's own config; take {' '.join(others)} away", file=sys.stderr)
        return 2
    if not config.exists():
        print(f"error: {folder} is no run folder: it has no config.yaml", file=sys.stderr)
        return 2
    code = run_alone(str(config), folder)
    if code == 0:
        from segdistill.engine.run_folder import read_json

        cfg = OmegaConf.load(config)
        assert isinstance(cfg, DictConfig)
        _show(cfg.output, read_json(Path(folder) / "metrics.json"), Path(folder))
    return code


def _configured(name: str, arguments: Sequence[str], target: str, *more: object) -> int:
    """Compose the config ``name`` with what is typed, once that is known to be right, for the function ``target``.

    Args:
        name: of a file in ``conf``.
        arguments: the overrides.
        target: ``module:function``, imported only then; gets the config, and may return an exit code.
        *more: what it gets besides.
    """
    if _told(arguments, name):
        return 2
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from segdistill.conf_dir import conf_dir
    from segdistill.outcome import guarded

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose(name, overrides=list(arguments))
    missing = [str(key) for key in cfg if OmegaConf.is_missing(cfg, key)]
    if missing:
        print(
            f"error: {', '.join(f'{key}=DIR' for key in missing)} must be given; see segdistill help", file=sys.stderr
        )
        return 2
    module, function = target.split(":")
    return guarded(lambda: getattr(importlib.import_module(module), function)(cfg, *more))


def _help(verb: str) -> int:
    """The verb's own yaml, whose comments say what each key is; the usage of all verbs where it has none."""
    from segdistill.conf_dir import conf_dir

    config = conf_dir() / f"{verb}.yaml"
    print(config.read_text() if config.exists() else USAGE, end="")
    return 0


def data_check(arguments: Sequence[str]) -> int:
    """``segdistill data check``: exit code 2 if the dataset has errors."""
    return _configured("train", arguments, "segdistill.verbs:data_check")


def cache(verb: str, arguments: Sequence[str]) -> int:
    """``segdistill cache build|info|verify|clear``: exit code 2 if ``verify`` finds a broken file."""
    keys = [one.removeprefix("key=") for one in arguments if one.startswith("key=")]
    overrides = [one for one in arguments if not one.startswith("key=")]
    return _configured("train", overrides, "segdistill.cache_verbs:main", verb, keys[0] if keys else None)


def sweep(verb: str, arguments: Sequence[str]) -> int:
    """``segdistill sweep status|watch|cancel|resume DIR``; all but the last import neither torch nor Hydra."""
    from segdistill.sweep import commands

    if verb != "resume":
        verbs = {"status": commands.status, "watch": commands.watch, "cancel": commands.cancel}
        return verbs[verb](arguments)
    command: list[str] = []
    return commands.resume(arguments, command) or _hydra_train(command)


def report(arguments: Sequence[str]) -> int:
    """``segdistill report DIR``: the summary of a sweep."""
    from segdistill.report.command import report as show

    return show(arguments)


def _quoted(arguments: Sequence[str]) -> list[str]:
    """Paths as they are typed: what a sweep's folder is called holds signs that Hydra's grammar knows."""
    paths = tuple(f"{key}=" for key in ("run", "file", "input", "predictions", "out"))
    plain = {one: one.split("=", 1)[1] for one in arguments if one.startswith(paths)}
    return [
        f"{one.split('=', 1)[0]}='{plain[one]}'" if plain.get(one, "'")[:1] not in ("'", '"', "[", "") else one
        for one in arguments
    ]


def _on_a_run(verb: str, arguments: Sequence[str], *more: object) -> int:
    return _configured(verb, _quoted(arguments), f"segdistill.{verb}.command:{verb}", *more)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "report": report,
    "models": lambda typed: _configured("models", typed, "segdistill.verbs:models"),
    "benchmark": lambda typed: _configured("benchmark", typed, "segdistill.verbs:benchmark"),
    "evaluate": lambda typed: _on_a_run("evaluate", typed, _quoted(typed)),
    "export": lambda typed: _on_a_run("export", typed, _quoted(typed)),
    "card": lambda typed: _on_a_run("card", typed),
    "predict": lambda typed: _on_a_run("predict", typed),
}
