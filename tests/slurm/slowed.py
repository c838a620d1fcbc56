"""An optimiser that leaves time for a signal."""

import os
import time

import torch


class AdamW(torch.optim.AdamW):
    """Waits ``$SLOWED`` seconds before every step; a job's setup sets it until the job is requeued."""

    def step(self, closure=None):
        time.sleep(float(os.environ.get("SLOWED", 0)))
        return super().step(closure)
