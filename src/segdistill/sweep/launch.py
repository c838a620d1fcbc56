"""The launch of a sweep: everything is checked and told before the first job starts, and nothing is run twice."""

import logging
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from segdistill import build
from segdistill.cores import cores
from segdistill.engine.run_folder import read_json
from segdistill.errors import DryRun, UserError
from segdistill.sweep.checking import check_jobs, check_same, identity
from segdistill.sweep.engines import at_once, elsewhere
from segdistill.sweep.folder import Job, Plan, SweepFolder, distinct
from segdistill.sweep.forecast import forecast
from segdistill.sweep.holding import interruptible, take
from segdistill.sweep.job import run_config, sweep_job
from segdistill.sweep.names import plan_jobs, quoted

log = logging.getLogger(__name__)

# They list every job with all of its overrides; ours say what is new.
ENGINES_LOGS = ("hydra._internal.core_plugins.basic_launcher", "hydra_plugins")


class Launch:
    """One sweep, from its sweeper's points to the engine that runs them.

    Args:
        context: Hydra's; it composes the jobs' configs.
        config: the sweep's own config.
        resume: go on with what the folder holds.

    Raises:
        UserError: the folder is being swept, or holds a sweep and this is not to go on with it.
    """

    def __init__(self, context: HydraContext, config: DictConfig, *, resume: bool) -> None:
        self.context, self.config, self.resume = context, config, resume
        self.folder = SweepFolder(config.hydra.sweep.dir)
        self.cluster = str(config.cluster._target_).rpartition(".")[2]
        self.here = not elsewhere(config.cluster)
        self.plan: Plan | None = None
        if not config.dry_run:
            take(self.folder)
        if not resume and self.folder.plan_file.exists():
            again = f"segdistill sweep resume {shlex.quote(str(self.folder.path))}"
            raise UserError(
                f"{self.folder.path} holds a sweep already; go on with it: {again}, or choose another hydra.sweep.dir"
            )

    def launch(
        self, overrides: Sequence[Sequence[str]], *, axes: Sequence[str], expected: int | None
    ) -> list[JobReturn]:
        """Run the jobs that are left of these.

        Raises:
            UserError: a config is wrong.
            DryRun: the config says so.
        """
        first = self.plan is None
        before = self.folder.read().jobs if self.folder.plan_file.exists() else ()
        jobs, configs = self._planned(overrides, axes, before)
        if first and expected is None:
            check_same(before, jobs)
        check_jobs(configs, here=self.here)
        made = instantiate(self.config.cluster, _partial_=True)
        engine: Launcher = made(sweep=self.folder, trainer=build.plain(self.config.trainer))
        left = [job for job in distinct(jobs) if not self.folder.run(job).metrics.exists()]
        total = max(expected or 0, len(jobs))
        if first:
            side = at_once(engine)
            where: dict[str, Any] = {"here": self.here, "threads": max(1, cores() // side)}
            for line in forecast(self.folder, jobs, left, configs, at_once=side, expected=total, **where):
                log.info(line)
        if self.config.dry_run:
            raise DryRun
        self.plan = self._write(jobs, before, axes, total)
        with interruptible():
            self._run(engine, left)
        return [self._returned(job) for job in jobs]

    def settle(self) -> None:
        """No more jobs will come."""
        if self.plan is not None:
            self.plan = replace(self.plan, expected=len(self.plan.jobs))
            self.folder.write(self.plan)

    def _planned(
        self, overrides: Sequence[Sequence[str]], axes: Sequence[str], before: Sequence[Job]
    ) -> tuple[list[Job], dict[str, DictConfig]]:
        """The jobs, with the names of those that equal another, and the config of each run."""
        jobs = plan_jobs(overrides, axes, before)
        seen: dict[str, str] = {}
        configs: dict[str, DictConfig] = {}
        for number, job in enumerate(jobs):
            try:
                cfg = run_config(self.context.config_loader.load_sweep_config(self.config, list(job.overrides)))
            except (OmegaConfBaseException, HydraException) as error:
                raise UserError(
                    f"{job.name}: {str(error).splitlines()[0]} Does this job's config have that key? An axis that is "
                    "typed takes the place of the sweep's own"
                ) from error
            other = seen.setdefault(identity(cfg), job.name)
            if other == job.name:
                configs[job.name] = cfg
            else:
                jobs[number] = replace(job, same_as=other)
        return jobs, configs

    def _write(self, jobs: Sequence[Job], before: Sequence[Job], axes: Sequence[str], total: int) -> Plan:
        """Write the plan: what was planned before, with these jobs."""
        now = {job.name: job for job in before} | {job.name: job for job in jobs}
        values: dict[str, dict[str, None]] = {}
        for job in now.values():
            for key, value in job.choices.items():
                values.setdefault(key, {})[value] = None
        plan = Plan(
            command=typed(self.config),
            cwd=os.getcwd(),
            cluster=self.cluster,
            started=self.folder.read().started if before else time.time(),
            expected=max(total, len(now)),
            axes={key: list(found) for key, found in values.items()},
            jobs=tuple(now.values()),
        )
        self.folder.write(plan)
        return plan

    def _run(self, engine: Launcher, left: Sequence[Job]) -> None:
        """Hand them to the engine; what became of them is read from their folders."""
        if not left:
            return
        engine.setup(hydra_context=self.context, task_function=sweep_job, config=self.config)
        for name in ENGINES_LOGS:
            logging.getLogger(name).setLevel(logging.WARNING)
        place = f"hydra.sweep.dir={quoted(str(self.folder.path))}"
        try:
            engine.launch([[*job.overrides, place, f"hydra.sweep.subdir='{job.name}'"] for job in left], 0)
        except UserError:
            raise
        except KeyboardInterrupt:
            log.info("go on with: segdistill sweep resume %s", shlex.quote(str(self.folder.path)))
            raise
        except Exception as error:  # whatever the engine stumbled on, the jobs' folders say what is done
            log.error("cluster=%s: %s: %s", self.cluster, type(error).__name__, error)

    def _returned(self, job: Job) -> JobReturn:
        """What a sweeper is told: the validation mIoU, or None where the job has not finished."""
        told = JobReturn()
        folder = self.folder.run(job)
        told.return_value = read_json(folder.metrics)["val"]["miou"] if folder.metrics.exists() else None
        told.status = JobStatus.COMPLETED
        return told


def typed(config: DictConfig) -> tuple[str, ...]:
    """The overrides that make the sweep, without those that say where and whether it goes on."""
    of_hydra = [
        one
        for one in config.hydra.overrides.hydra
        if one.split("=")[0] not in ("hydra.mode", "hydra.sweep.dir", "hydra.launcher.resume")
    ]
    return (*config.hydra.overrides.task, *of_hydra)
