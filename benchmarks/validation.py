"""What metrics cost of a validation: python benchmarks/validation.py [images=40] [overrides of train.yaml].

Times the student's forward pass and the metrics (counting the confusion matrices; upsampling and the choice of the
class belong to the prediction, and are shown apart) on the same batches of 4 images at 360x480. The bound is 5 %.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.metrics.confusion import confusion_matrices, resize_logits


def timed(function: Callable[..., Tensor], *arguments: object) -> tuple[Tensor, float]:
    """Its result, and the seconds it took."""
    began = time.perf_counter()
    return function(*arguments), time.perf_counter() - began


@torch.no_grad()
def main(arguments: list[str]) -> None:
    """Print the medians and the share."""
    count = next((int(one[7:]) for one in arguments if one.startswith("images=")), 40)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[one for one in arguments if not one.startswith("images=")])
    network = build.seg_model(cfg.student).eval()
    rows = []
    for _ in range(count // 4 + 1):
        image, mask = torch.rand(4, 3, 360, 480), torch.randint(0, cfg.num_classes, (4, 360, 480))
        logits, forward = timed(lambda x: network(x).logits, image)
        full, upsampling = timed(resize_logits, logits, (360, 480))
        chosen, choice = timed(lambda x: x.max(1).indices, full)
        _, metrics = timed(confusion_matrices, chosen, mask, cfg.num_classes)
        rows.append((forward, upsampling, choice, metrics))
    forward, upsampling, choice, metrics = (1e3 * statistics.median(column) for column in zip(*rows[1:], strict=True))
    print(f"forward {forward:.1f} ms, upsampling {upsampling:.1f}, choice {choice:.1f}, metrics {metrics:.1f}")
    share = statistics.median(row[3] / sum(row) for row in rows[1:])
    print(f"metrics take {100 * share:.1f} % of the validation (without loading)")


if __name__ == "__main__":
    main(sys.argv[1:])
