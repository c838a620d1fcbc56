"""Tests run beside other processes: see `segdistill.threads`."""

import segdistill.threads  # noqa: F401 (before torch)
