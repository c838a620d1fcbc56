"""Every student becomes an ONNX file that computes what torch does, for one size and for any."""

import numpy as np
import pytest
import torch

from segdistill.errors import UserError
from segdistill.export import onnx
from segdistill.export.job import Job
from segdistill.runtimes.onnx import open_session
from tests.export.parts import job
from tests.models.students import STUDENTS, model

FIXED_ONLY = ("enet",)  # torch.export cannot follow its unpooling by indices


@pytest.mark.matrix
@pytest.mark.parametrize("name", STUDENTS)
@pytest.mark.parametrize("size", [(96, 128), None])
def test_a_student_as_onnx(tmp_path, name, size):
    one: Job = job(tmp_path, size=size, batch=1 if size else None, network=model(name, 3).eval())
    if size is None and name in FIXED_ONLY:
        with pytest.raises(UserError, match=r"torch\.export cannot follow .*; a fixed size"):
            onnx.write(one)
        return
    onnx.write(one)
    session = open_session(one.path, 1)

    for shape in [(1, 96, 128)] if size else [(2, 96, 160), (1, 131, 97), (1, 180, 240)]:
        image = torch.rand(shape[0], 3, *shape[1:], generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = one.network(image).numpy()
        np.testing.assert_allclose(session.run(image.numpy()), expected, atol=1e-4 * max(1, np.abs(expected).max()))
