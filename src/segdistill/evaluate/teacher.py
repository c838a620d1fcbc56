"""The teacher of a run, to say how far the student agrees with it."""

from collections.abc import Collection
from pathlib import Path

from omegaconf import DictConfig

from segdistill.engine.run_folder import read_told
from segdistill.engine.teacher import Teacher
from segdistill.errors import UserError
from segdistill.finished import require_shipped
from segdistill.teacher_source import load_teacher


def run_teacher(
    settings: DictConfig, run: Path | None, wanted: bool | str, keys: Collection[str] = ()
) -> tuple[Teacher | None, str]:
    """The teacher; or None and why there is none, "" where nobody would expect one.

    Args:
        settings: the run's config; a path in its ``teacher.checkpoint`` comes first.
        run: its folder, whose ``metrics.json`` knows where an auto-trained teacher lay.
        wanted: true | false | auto, which does without where there is none, or where it cannot be built.
        keys: that are typed; a teacher without weights is only built where ``teacher.checkpoint=null`` is.

    Raises:
        UserError: it must be there and is not, or does not fit.
    """
    if wanted is False:
        return None, ""
    facts = ((None if run is None else read_told(run / "metrics.json")) or {}).get("teacher")
    facts = facts if isinstance(facts, dict) else None
    source = settings.teacher.checkpoint if settings.teacher else "auto"
    given = source != "auto" and (source is not None or "teacher.checkpoint" in keys)
    if not given and facts:
        source = facts.get("checkpoint")  # None: it was distilled from as it was built
    if not given and not facts:
        why = "nothing was distilled in this run" if run else "there is no run whose teacher it would be"
    elif source is None and not given:
        why = "the run's teacher has no weights file: it was used as it was built"
    elif source is not None and not Path(str(source)).exists():
        why = f"the teacher's weights are not at {source} any more"
    else:
        try:
            return _loaded(settings, run, source, keys), ""
        except Exception as error:  # whatever the config of a run makes the builders raise
            why = f"the teacher cannot be built ({error})"
            if wanted is True:
                raise error if isinstance(error, UserError) else UserError(f"agreement=true: {why}") from error
            return None, why
    if wanted is True:
        raise UserError(f"agreement=true: {why}; give teacher.checkpoint=DIR (a run folder or a weights file)")
    return None, why if given or facts else ""


def _loaded(settings: DictConfig, run: Path | None, source: str | None, keys: Collection[str]) -> Teacher:
    if source is not None and "encoder_weights" in settings.teacher.network:
        settings.teacher.network.encoder_weights = None  # the checkpoint holds the encoder
    if run is not None:
        require_shipped(settings, "teacher", keys, run / "config.yaml")
    return load_teacher(settings, source)
