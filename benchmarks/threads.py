"""One Fast-SCNN step (forward and backward, 96x192, batch 8): GOMP_SPINCOUNT=10000 python benchmarks/threads.py.

Start it twice at once to see what two jobs on the same cores do to each other (see `segdistill.threads`).
"""

import statistics
import time

import torch

from segdistill.models.students.fast_scnn import FastSCNN

images, student, seconds = torch.rand(8, 3, 96, 192), FastSCNN(9), []
for _ in range(14):
    began = time.perf_counter()
    student(images).logits.sum().backward()
    seconds.append(time.perf_counter() - began)
print(f"median {1e3 * statistics.median(seconds[1:]):.0f} ms, longest {1e3 * max(seconds[1:]):.0f} ms")
