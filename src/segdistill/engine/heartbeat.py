"""A run shows that it lives, whatever it is busy with."""

import contextlib
import logging
import threading
import time
from types import TracebackType

from segdistill.engine.run_folder import RunFolder


class Heartbeat(logging.Handler):
    """Within it, ``status.json`` is written again every ``seconds`` with what the run has told its folder.

    The last line of the program's log is told as ``message``: that the run waits for another process's teacher, say.
    Leaving it waits for a beat that is being written, so that a final status is final. Only a folder that this process
    writes has one.
    """

    def __init__(self, folder: RunFolder, seconds: float = 15.0) -> None:
        super().__init__(logging.INFO)
        self.folder, self.seconds = folder, seconds
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        """Begin."""
        if self.folder.writes:
            self.folder.tell(phase="preparing", began=time.time())
            self.folder.status("running")
            logging.getLogger("segdistill").addHandler(self)
            self.thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, before the final status is written."""
        logging.getLogger("segdistill").removeHandler(self)
        self.ended.set()
        if self.folder.writes:
            self.thread.join()

    def emit(self, record: logging.LogRecord) -> None:
        """Remember the line."""
        self.folder.tell(message=record.getMessage())

    def _beat(self) -> None:
        while not self.ended.wait(self.seconds):
            with contextlib.suppress(OSError):  # a disk that hiccups is no reason to end a run
                self.folder.status("running")
