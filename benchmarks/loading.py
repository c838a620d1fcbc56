"""Images per second that the loader delivers.

python benchmarks/loading.py [batches=30] [overrides of train.yaml]

Decode, crop, resize and collate; compare with the images/s of the training to see which of the two waits.
"""

import sys
import time

from hydra import compose, initialize_config_dir

from segdistill import build
from segdistill.conf_dir import conf_dir
from segdistill.data.loading import train_loader
from segdistill.data.sampler import EpochBatches


def main(arguments: list[str]) -> None:
    """Print the throughput for this config."""
    wanted = next((int(one[8:]) for one in arguments if one.startswith("batches=")), 30)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[one for one in arguments if not one.startswith("batches=")])
    data = build.data_module(cfg, build.datasets(cfg), on_gpu=False)
    loader = train_loader(data.views, EpochBatches(len(data.views), data.how.batch_size, seed=0), data.how)
    batches, images, began = 0, 0, None
    while batches < wanted:
        for batch in loader:
            if began is None:  # the first batch starts the workers
                began = time.perf_counter()
                continue
            batches, images = batches + 1, images + len(batch.image)
            if batches == wanted:
                break
    assert began is not None
    rate = images / (time.perf_counter() - began)
    print(f"{rate:.0f} images/s with {data.how.num_workers} worker(s), crop {tuple(cfg.augment.crop)}")


if __name__ == "__main__":
    main(sys.argv[1:])
