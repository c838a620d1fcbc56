"""``segdistill predict``: masks, overlays and classes' shares of images or a video."""

import json
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from segdistill.errors import shown
from segdistill.predict.inputs import is_video
from segdistill.predict.outcome import Outcome
from segdistill.predict.settings import STREAM, Settings, settings_of
from segdistill.predict.stills import predict_images
from segdistill.predict.video import predict_video


def predict(cfg: Mapping[str, Any]) -> int:
    """Run the command; ``cfg`` is as in ``conf/predict.yaml``.

    Returns:
        The exit code: 2 if an image or a part of the video could not be read, 1 if anything else failed.
    """
    settings = settings_of(cfg)
    warnings.filterwarnings("ignore", module="PIL")  # an image is read or it is not, and max_pixels is the limit
    outcome = predict_video(settings) if is_video(settings) else predict_images(settings)
    _tell(outcome, settings)
    return outcome.code


def _tell(outcome: Outcome, settings: Settings) -> None:
    if outcome.animated:
        more = f" and {len(outcome.animated) - 1} more" if len(outcome.animated) > 1 else ""
        print(f"{shown(outcome.animated[0])}{more}: an animation; its first frame was taken", file=sys.stderr)
    for name, reason in outcome.failed:
        told = reason if shown(name) in reason else f"{name}: {reason}"
        print("failed: " + shown(" ".join(told.split())), file=sys.stderr)
    if settings.json:
        print(json.dumps({"input": settings.input, "out": settings.out, **outcome.to_dict()}, indent=2))
        return
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    line = f"{outcome.images} images -> {settings.out}{failed}; {outcome.rate:.1f} images/s"
    print(line, file=sys.stderr if settings.out == STREAM else sys.stdout)
