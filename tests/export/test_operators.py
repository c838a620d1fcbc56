"""What a format cannot take is named, with its module and what to do."""

import pytest
import torch
from torch import nn

from segdistill.errors import UserError
from segdistill.export import onnx
from tests.export.parts import around, job


class Median(nn.Module):
    def forward(self, x):
        return x * x.median(dim=-1, keepdim=True)[0]


class Singular(nn.Module):
    """Its operator has another name once it is decomposed."""

    def forward(self, x):
        return x * torch.linalg.svdvals(x).mean()


class Branch(nn.Module):
    def forward(self, x):
        return 2 * x if x.mean() > 0 else x


class Numpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.detach().numpy())


@pytest.mark.parametrize(
    ("inner", "operator"),
    [(Singular(), "_linalg_svd"), pytest.param(Median(), "median", marks=pytest.mark.slow)],
)
def test_an_operator_that_onnx_has_not(tmp_path, inner, operator):
    with pytest.raises(UserError) as caught:
        onnx.write(job(tmp_path, network=around(inner)))

    kind = type(inner).__name__
    assert str(caught.value).startswith(f"onnx has no operator for aten.{operator}, which module inner ({kind}) uses; ")
    assert "another format or student" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inner", [Branch(), Numpy()])
def test_what_torch_export_cannot_follow(tmp_path, inner):
    with pytest.raises(UserError) as caught:
        job(tmp_path, network=around(inner)).program()

    message = str(caught.value)
    assert message.startswith(f"torch.export cannot follow module inner ({type(inner).__name__}), test_operators.py:")
    assert "\n" not in message
    assert "another format or student" in message


def test_a_fixed_size_may_do_where_any_size_does_not(tmp_path):
    with pytest.raises(UserError, match=r"a fixed size \(size=\[H,W\]\) may do; else export another format"):
        job(tmp_path, size=None, network=around(Numpy())).program()
