"""The folder of an evaluation: what is in it is replaced only by the same evaluation, or if the user says so."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segdistill.engine.run_folder import read_told, write_json
from segdistill.errors import UserError

SCHEMA = 1
NAME = "evaluation.json"
PART = ".part-"


class Place:
    """Where an evaluation goes.

    Args:
        folder: is made when it is needed.
        settings: what the user has chosen; an evaluation with the same ones may be replaced.
        replace: any may.

    Raises:
        UserError: something else is there.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], *, replace: bool) -> None:
        self.folder, self.settings = folder, settings
        self.before = read_told(folder / NAME) or {}
        if folder.exists() and not folder.is_dir():
            raise UserError(f"out={folder}: is a file; give a folder")
        there = folder.is_dir() and any(not path.name.startswith(PART) for path in folder.iterdir())
        if not there or replace:
            return
        if not self.before:
            raise UserError(f"{folder} holds other files; give another folder, out=DIR, or replace=true to write there")
        if self.before.get("settings") != settings:
            differ = ", ".join(sorted(_different(self.before.get("settings") or {}, settings)))
            raise UserError(
                f"{folder} holds an evaluation with other settings ({differ}); give another folder, out=DIR, or "
                "replace=true"
            )

    @contextmanager
    def written(self) -> Iterator[Path]:
        """An empty folder for the plots and pictures; ``finish`` brings them to their place.

        Raises:
            UserError: nothing can be written there.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=PART, dir=self.folder))
        except OSError as error:
            raise UserError(
                f"{self.folder} cannot be written ({error.strerror}); give another folder, out=DIR"
            ) from error
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def finish(self, part: Path, document: dict[str, Any]) -> dict[str, Any]:
        """Bring the files in ``part`` and the document to their place, the document last.

        Files of the evaluation before that this one does not have are removed; nobody else's are.

        Returns:
            the document as it is written.
        """
        files = sorted(path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file())
        document = {"schema": SCHEMA, "settings": self.settings, **document, "files": files}
        for file in files:
            (self.folder / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(part / file, self.folder / file)
        write_json(self.folder / NAME, document)
        for old in set(self.before.get("files") or ()) - set(files):
            path = (self.folder / str(old)).resolve()
            if path.is_relative_to(self.folder.resolve()):
                path.unlink(missing_ok=True)
        return document


def _different(before: dict[str, Any], now: dict[str, Any]) -> set[str]:
    return {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
