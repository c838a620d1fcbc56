"""Predicts a video: the classes' colours over it, and what each frame shows."""

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segdistill.errors import UserError, shown
from segdistill.predict.images import too_large
from segdistill.predict.in_order import in_order
from segdistill.predict.inputs import FOLDERS, SHARES, require_free
from segdistill.predict.outcome import Bar, Outcome
from segdistill.predict.settings import STREAM, Settings
from segdistill.predict.team import Team
from segdistill.predict.writing import ShareTable, mask_png, shares, temporary_of, write_whole
from segdistill.runtimes.opening import missing

DEFAULT = frozenset({"overlay", "shares"})  # a mask a frame is a lot
WHOLE = 0.9  # of the frames or the seconds that a video's header tells; headers are not exact
DEMUXERS = "mov,matroska,avi,mpegts,mpeg,asf"  # none that follows a list to other files


class Frame(NamedTuple):
    """A frame: its number, its time in units of the stream's time base, and its pixels, upright."""

    number: int
    time: int
    pixels: np.ndarray


class Drawn(NamedTuple):
    """What was made of a frame."""

    frame: Frame
    shares: list[float]
    overlay: np.ndarray | None


def predict_video(settings: Settings) -> Outcome:
    """Predict every frame; of a video that breaks off, what was decoded stays.

    Raises:
        UserError: it is no video, PyAV is not installed, or an output is there already.
        OSError: an output cannot be written.
    """
    if settings.out == STREAM:
        raise UserError("out=- writes the mask of one image; what is made of a video goes into a folder, out=DIR")
    path, out, write = Path(settings.input), Path(settings.out), settings.write or DEFAULT
    overlay = out / FOLDERS["overlay"] / f"{path.stem}.mp4"
    masks, table = out / FOLDERS["mask"] / path.stem, out / SHARES
    outputs = {"overlay": overlay, "mask": masks, "shares": table}
    require_free(settings, [outputs[kind] for kind in sorted(write)])
    with ExitStack() as stack:
        film = stack.enter_context(_Film(path, settings.max_pixels))
        team = Team(settings, settings.workers)
        outcome = Outcome(team.first.classes)
        rows = stack.enter_context(ShareTable(table, outcome.classes)) if "shares" in write else None
        drawn = stack.enter_context(_Drawing(overlay, film)) if "overlay" in write else None
        bar = stack.enter_context(Bar(film.count))

        def work(frame: Frame) -> Drawn:
            with team.predictor() as predictor:
                mask = predictor(frame.pixels)
            if "mask" in write:
                write_whole(masks / f"{frame.number:06}.png", mask_png(team.first.indexed(mask)))
            picture = team.first.overlay(frame.pixels, mask, settings.alpha) if drawn else None
            return Drawn(frame, shares(mask, len(outcome.classes)), picture)

        def done(one: Drawn) -> None:
            outcome.add(one.shares)
            if rows:
                rows.add(f"{path.name}#{one.frame.number:06}", one.shares)
            if drawn and one.overlay is not None:
                drawn.add(one.overlay, one.frame.time)
            bar.step(outcome.rate)

        in_order(work, film, done, workers=team.size)
    if film.broken:
        outcome.failed.append(
            (path.name, f"breaks off after frame {outcome.images} ({film.broken}); so far it is done")
        )
    return outcome


class _Film:
    """The frames of a video file; ``broken`` says why they ended early."""

    def __init__(self, path: Path, max_pixels: int) -> None:
        try:
            import av
        except ModuleNotFoundError as error:
            raise missing(str(path), error, "video") from error
        self.name = shown(str(path))
        self.broken, self._errors = "", av.FFmpegError
        options = {"protocol_whitelist": "none", "format_whitelist": DEMUXERS}
        try:
            self._file = path.open("rb")
            self._container: Any = av.open(self._file, options=options)
            self._stream = self._container.streams.video[0]
        except FileNotFoundError as error:
            raise UserError(f"{self.name}: no such file") from error
        except (av.FFmpegError, IndexError, OSError) as error:
            raise UserError(f"{self.name}: cannot be read as a video ({_reason(error)})") from error
        self._stream.thread_type = "AUTO"
        self.count = self._stream.frames or None  # as its header says
        self.rate = self._stream.average_rate or Fraction(25)
        self.time_base = self._stream.time_base or 1 / self.rate
        self.max_pixels = max_pixels
        if problem := self._too_large(self._stream):
            raise UserError(f"{self.name}: {problem}")

    def __iter__(self) -> Iterator[Frame]:
        number, last = 0, -1
        try:
            for number, frame in enumerate(self._container.decode(self._stream), 1):
                if problem := self._too_large(frame):  # the header need not tell
                    self.broken = problem
                    return
                time = frame.pts if frame.pts is not None else round(number / self.rate / self.time_base)
                last = max(last + 1, time)  # encoders want times that grow
                turns = round(frame.rotation / 90) % 4
                yield Frame(number - 1, last, np.rot90(frame.to_ndarray(format="rgb24"), turns))
        except self._errors as error:
            self.broken = _reason(error)
            return
        length = self._container.duration or 0  # in microseconds
        seconds = (last * self.time_base + 1 / self.rate) * 1_000_000 - (self._container.start_time or 0)
        if (self.count and number < WHOLE * self.count) or seconds < WHOLE * length:
            self.broken = f"its header says {self.count} frames" if self.count else f"of {length / 1e6:.1f} seconds"

    def _too_large(self, frame: Any) -> str:
        """Why a frame, or the stream's header, is not taken; "" if it is."""
        over = frame.width * frame.height > self.max_pixels
        return f"frames of {too_large(frame.width, frame.height, self.max_pixels)}" if over else ""

    def __enter__(self) -> "_Film":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()
        self._file.close()


def _reason(error: Exception) -> str:
    return "it has no pictures" if isinstance(error, IndexError) else getattr(error, "strerror", "") or str(error)


class _Drawing:
    """The video that is written: H.264 in MP4, with the times of the one that is read; whole when it is left."""

    def __init__(self, path: Path, film: _Film) -> None:
        self.path, self.film, self.temporary = path, film, temporary_of(path)
        self._stream: Any = None

    def add(self, pixels: np.ndarray, time: int) -> None:
        import av

        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self.temporary), "w", format="mp4")
            options = {"preset": "veryfast", "crf": "20"}
            self._stream = self._container.add_stream("libx264", rate=self.film.rate, options=options)
            self._stream.height, self._stream.width = (side + side % 2 for side in pixels.shape[:2])
            self._stream.pix_fmt, self._stream.time_base = "yuv420p", self.film.time_base
            self._stream.codec_context.time_base = self.film.time_base
        odd = [(0, side % 2) for side in pixels.shape[:2]]  # H.264 halves the colours' sides
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.pad(pixels, (*odd, (0, 0)), mode="edge")), "rgb24")
        frame.pts, frame.time_base = time, self.film.time_base
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "_Drawing":
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self.temporary.replace(self.path)
