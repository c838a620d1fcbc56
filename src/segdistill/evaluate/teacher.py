"""The teacher of a run, to say how far the student agrees with it."""

from pathlib import Path

from omegaconf import DictConfig

from segdistill.engine.run_folder import read_told
from segdistill.engine.teacher import Teacher
from segdistill.errors import UserError
from segdistill.teacher_source import load_teacher


def run_teacher(settings: DictConfig, run: Path | None, wanted: bool | str) -> tuple[Teacher | None, str]:
    """The teacher; or None and why there is none, "" where nobody would expect one.

    Args:
        settings: the run's config; a path in its ``teacher.checkpoint`` comes first.
        run: its folder, whose ``metrics.json`` knows where an auto-trained teacher lay.
        wanted: true | false | auto, which does without where there is none.

    Raises:
        UserError: it must be there and is not, or does not fit.
    """
    if wanted is False:
        return None, ""
    facts = ((None if run is None else read_told(run / "metrics.json")) or {}).get("teacher")
    source = settings.teacher.checkpoint if settings.teacher else None
    given = source not in (None, "auto")
    if not given and facts:
        source = facts["checkpoint"]  # None: it was distilled from as it was built
    if not given and not facts:
        why = "nothing was distilled in this run" if run else "there is no run whose teacher it would be"
    elif source is not None and not Path(source).exists():
        why = f"the teacher's weights are not at {source} any more"
    else:
        return load_teacher(settings, source), ""
    if wanted is True:
        raise UserError(f"agreement=true: {why}; give teacher.checkpoint=DIR (a run folder or a weights file)")
    return None, why if given or facts else ""
