"""Lets XNNPACK's programs keep the weights of convolutions in half precision.

ExecuTorch 1.5 writes them as float32 into a program that computes in half, which is then as large as the float32 one.
XNNPACK's runtime takes half weights, with the same results.
"""

from typing import Any

from executorch.backends.xnnpack.operators import node_visitor

CONVOLUTION = "aten.convolution.default"


class HalfConv2d(node_visitor._node_visitor_dict[CONVOLUTION]):  # type: ignore[misc]
    """Writes a convolution with weights of the type that they have."""

    def define_tensor(self, *args: Any, force_fp32: bool = False, **options: Any) -> None:
        """As the base class does, but never turned into float32."""
        super().define_tensor(*args, **options)


node_visitor._node_visitor_dict[CONVOLUTION] = HalfConv2d
