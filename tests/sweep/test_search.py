"""The search's sweeper with a launcher that only computes: breaks, failures, and what is asked again."""

import subprocess
import sys

import optuna
import pytest
import sqlalchemy
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hydra_plugins.segdistill_sweeps import _study
from hydra_plugins.segdistill_sweeps.search import SearchSweeper
from segdistill.conf_dir import conf_dir
from segdistill.errors import UserError
from segdistill.overrides import check_overrides

SAMPLER = {"_target_": "optuna.samplers.TPESampler", "seed": 3, "n_startup_trials": 2}
PRESETS = {"optimizer.lr": "tag(log, interval(1e-4, 1e-2))", "optimizer.momentum": "interval(0.5, 0.99)"}


@pytest.fixture(scope="module", autouse=True)
def unsynced():
    """No waiting for the disk at every commit: these tests end no machine."""

    def off(connection, _):
        connection.execute("PRAGMA synchronous=OFF")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", off)
    yield
    sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", off)


class Killed(BaseException):
    pass


class Launcher:
    """Remembers what it was given; a job's value is a function of its overrides."""

    def __init__(self, value=None):
        self.axes, self.expected = [], 0
        self.value = value or (lambda parameters: -abs(float(parameters["optimizer.lr"]) - 1e-3))
        self.batches = []

    def launch(self, job_overrides, initial_job_idx):
        assert initial_job_idx == sum(map(len, self.batches))
        self.batches.append([tuple(one) for one in job_overrides])
        return [self.job(dict(one.split("=", 1) for one in overrides)) for overrides in job_overrides]

    def job(self, parameters):
        try:
            value = self.value(parameters)
        except Exception as error:
            return JobReturn(status=JobStatus.FAILED, _return_value=error)
        return JobReturn(status=JobStatus.COMPLETED, _return_value=value)

    @property
    def jobs(self):
        return [one for batch in self.batches for one in batch]


def search(folder, launcher, *arguments, n_trials=4, n_jobs=2, params=PRESETS, sampler=SAMPLER):
    sweeper = SearchSweeper(
        OmegaConf.create(sampler), "maximize", f"sqlite:///{folder}/study.db", "search", n_trials, n_jobs, dict(params)
    )
    sweeper.launcher = launcher
    config = {"hydra": {"sweep": {"dir": str(folder)}}, "output": "text", "seed": 0, "dry_run": False}
    sweeper.config = OmegaConf.create({**config, "optimizer": {"lr": 1, "momentum": None}})
    sweeper.sweep(list(arguments))
    return launcher


def trials(folder):
    return optuna.load_study(study_name="search", storage=f"sqlite:///{folder}/study.db").trials


def completed(folder):
    done = [one for one in trials(folder) if one.state is optuna.trial.TrialState.COMPLETE]
    return [(tuple(sorted(one.params.items())), one.value) for one in done]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, unsynced):
    folder = tmp_path_factory.mktemp("unbroken")
    launcher = search(folder, Launcher(), "seed=0")
    return launcher.jobs, completed(folder)


def test_every_job_has_what_is_typed_and_what_is_suggested_in_batches(unbroken, tmp_path, capsys):
    launcher = search(tmp_path, Launcher(), "seed=0", "dataset=synthetic")
    assert [len(batch) for batch in launcher.batches] == [2, 2]
    assert (launcher.axes, launcher.expected) == (["optimizer.lr", "optimizer.momentum"], 4)
    assert [[one for one in job if one != "dataset=synthetic"] for job in launcher.jobs] == list(map(list, unbroken[0]))
    assert all(job[:2] == ("seed=0", "dataset=synthetic") for job in launcher.jobs)
    assert len(set(launcher.jobs)) == 4
    parameters, value = max(completed(tmp_path), key=lambda one: one[1])
    told = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert told == {"best_value": value, "best_params": dict(parameters), "finished_trials": 4}
    shown = " ".join(f"{name}={value}" for name, value in parameters)
    assert capsys.readouterr().out == f"best of 4 trials: {value:.4f} with {shown}\n"


WRITES = ["create_new_trial", "set_trial_param", "set_trial_values", "set_trial_state"]


@pytest.mark.parametrize("moment", [0, 1, 6, 10, 19])
def test_killed_at_any_write_and_launched_again_every_trial_is_there_once(unbroken, tmp_path, monkeypatch, moment):
    storage, written = optuna.storages._CachedStorage, []

    def killing(real):
        def write(*args, **kwargs):
            written.append(1)
            if len(written) > moment:
                raise Killed
            return real(*args, **kwargs)

        return write

    with monkeypatch.context() as patched:
        for name in WRITES:
            patched.setattr(storage, name, killing(getattr(storage, name)))
        with pytest.raises(Killed):
            search(tmp_path, Launcher(), "seed=0")
    search(tmp_path, Launcher(), "seed=0")
    assert len(trials(tmp_path)) == len({parameters for parameters, _ in completed(tmp_path)}) == 4
    if moment != 1:  # between the two trials of a batch, which then are none
        assert sorted(completed(tmp_path)) == sorted(unbroken[1])


@pytest.mark.parametrize("job", [0, 3])
def test_killed_within_a_job_its_trial_comes_first_with_the_same_parameters(unbroken, tmp_path, job):
    def value(parameters, begun=[]):  # noqa: B006
        begun.append(1)
        if len(begun) > job:
            raise Killed
        return Launcher().value(parameters)

    with pytest.raises(Killed):
        search(tmp_path, Launcher(value), "seed=0")
    again = search(tmp_path, Launcher(), "seed=0")
    assert again.jobs == unbroken[0][2 * (job // 2) :]  # the batches of two that were told are not launched again
    assert sorted(completed(tmp_path)) == sorted(unbroken[1])


@pytest.mark.parametrize("value", [None, RuntimeError("out of memory")], ids=repr)
def test_a_failing_trial_does_not_end_the_search_and_is_asked_again(unbroken, tmp_path, value):
    bad = dict(one.split("=", 1) for one in unbroken[0][1])

    def fails(parameters):
        if parameters == bad:
            if value:
                raise value
            return value
        return Launcher().value(parameters)

    first = search(tmp_path, Launcher(fails), "seed=0")
    assert len(first.jobs) == 4
    assert len(completed(tmp_path)) == 3
    for _ in range(2):  # it fails again, and is not asked twice the next time
        second = search(tmp_path, Launcher(fails), "seed=0")
        assert second.jobs == [unbroken[0][1]]
    third = search(tmp_path, Launcher(), "seed=0")
    assert third.jobs == [unbroken[0][1]]
    assert len(completed(tmp_path)) == 4
    assert search(tmp_path, Launcher(), "seed=0").jobs == []


def test_a_search_in_which_all_fail_ends_without_a_best(tmp_path, capsys):
    search(tmp_path, Launcher(lambda parameters: None), n_trials=2)
    assert not (tmp_path / "optimization_results.yaml").exists()
    assert capsys.readouterr().out == ""


def test_more_trials_may_be_asked_for_later(unbroken, tmp_path):
    first = search(tmp_path, Launcher(), "seed=0", n_trials=2)
    second = search(tmp_path, Launcher(), "seed=0", n_trials=4)
    assert first.jobs + second.jobs == unbroken[0]


def test_what_is_typed_replaces_a_preset_and_absent_keys_are_not_searched(tmp_path, caplog):
    presets = {**PRESETS, "kd.terms.cwd.weight": "interval(1.0, 2.0)"}
    launcher = search(
        tmp_path, Launcher(), "optimizer.lr=1e-3", "optimizer.momentum=0.9,0.8", params=presets, n_trials=1
    )
    assert launcher.axes == ["optimizer.momentum"]
    assert launcher.jobs in ([("optimizer.lr=0.001", f"optimizer.momentum={value}")] for value in (0.9, 0.8))
    assert "kd.terms.cwd.weight" in caplog.text


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler", "NSGAIISampler"])
def test_real_numbers_have_four_digits_and_stay_in_their_range(tmp_path, sampler):
    target = {"_target_": f"optuna.samplers.{sampler}", "seed": 1}
    params = {"optimizer.lr": "tag(log,interval(1.23456e-4,1.23458e-4))", "optimizer.momentum": "interval(0.1,0.9)"}
    for job in search(tmp_path, Launcher(), params=params, sampler=target, n_trials=12, n_jobs=6).jobs:
        rate, momentum = (float(one.split("=")[1]) for one in job)
        assert 1.23456e-4 <= rate <= 1.23458e-4
        assert momentum == float(f"{momentum:.4g}")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["optimizer.lr=1", "optimizer.momentum=1"], ["nothing is searched", "interval("]),
        (["optimizer.lr=interval(2.0,1.0)"], ["optimizer.lr=interval(2.0,1.0)", "cannot be searched"]),
        (["optimizer.lr=tag(log,interval(0.0,1.0))"], ["tag(log,interval(0.0,1.0))", "cannot be searched"]),
        (["optimizer.lr=glob(*)"], ["glob(*)", "cannot be searched"]),
    ],
)
def test_what_cannot_be_searched(tmp_path, arguments, parts):
    with pytest.raises(UserError) as told:
        search(tmp_path, Launcher(), *arguments)
    assert all(part in str(told.value) for part in parts)


def test_a_range_of_another_kind_in_the_same_folder(tmp_path):
    search(tmp_path, Launcher(), "optimizer.lr=1e-3,1e-4", n_trials=1)
    with pytest.raises(UserError, match=r"began with other ranges: hydra\.sweep\.dir"):
        search(tmp_path, Launcher(), "optimizer.lr=1e-3,1e-5")


@pytest.mark.parametrize("wrong", [{"n_trials": 0}, {"n_jobs": 0}, {"n_trials": "many"}])
def test_numbers_that_are_no_counts(wrong):
    told = {"n_trials": 1, "n_jobs": 1} | wrong
    sweeper = SearchSweeper(OmegaConf.create(SAMPLER), "maximize", "sqlite://", "search", params={}, **told)
    with pytest.raises(UserError, match=f"search.{next(iter(wrong))}=.*at least 1"):
        sweeper.setup(hydra_context=None, task_function=None, config=None)


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, _study.__name__)
    monkeypatch.delattr(sys.modules["hydra_plugins.segdistill_sweeps"], "_study", raising=False)
    sweeper = SearchSweeper(OmegaConf.create(SAMPLER), "maximize", "sqlite://", "search", 1, 1, {})
    with pytest.raises(UserError, match=r"pip install 'segdistill\[sweep\]'"):
        sweeper.setup(hydra_context=None, task_function=None, config=None)


def test_hydra_s_start_does_not_pay_for_optuna():
    script = "import sys, hydra_plugins.segdistill_sweeps.search; assert not {'optuna', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_ranges_of_keys_pass_the_check_of_what_is_typed():
    assert check_overrides(["+sweep=search", "optimizer.lr=tag(log,interval(1e-4,1e-2))", "seed=range(3)"]) == []
    (told,) = check_overrides(["+sweep=search", "optimizer.rl=interval(1e-4,1e-2)"])
    assert "optimizer has no key 'rl', nearest: lr" in told


def test_the_ready_search_asks_for_what_its_recipe_has():
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", ["+sweep=search"], return_hydra_config=True)
    assert cfg.search.direction == "maximize"
    assert cfg.callbacks.hopeless is not None
    lines = [f"{name}={value}" for name, value in cfg.search.params.items()]
    assert len(_study.search_space(lines).searched) == 4
    assert all(OmegaConf.select(cfg, name) is not None for name in cfg.search.params)
