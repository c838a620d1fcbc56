"""MobileNetV3 with LR-ASPP (Howard et al.: Searching for MobileNetV3, ICCV 2019)."""

from torch import Tensor, nn

from segdistill.errors import UserError
from segdistill.models.blocks import init_convs
from segdistill.models.output import SegOutput
from segdistill.models.students.initial import init_linear
from segdistill.models.students.lraspp import LRASPP
from segdistill.models.students.mobilenetv3 import VARIANTS, stages


class MobileNetV3Seg(nn.Module):
    """LR-ASPP on a dilated MobileNetV3.

    The same network as torchvision's ``lraspp_mobilenet_v3_large``, whose weights fit in the order of the modules. For
    19 classes:

    ========  ============  ==========  ================================
    variant   reduced_tail  parameters  GMACs at 1024x2048 and 512x1024
    ========  ============  ==========  ================================
    large     no            3 221 198   15.77, 3.94
    large     yes           1 746 878   9.92
    small     no            1 077 646   5.06, 1.27
    small     yes             515 614   2.83
    ========  ============  ==========  ================================

    The counts are those of torchvision's modules. The paper prints 3.60 M for Large with 256 channels in the head, and
    with 128 channels and the reduced tail 1.51 M for Large and 0.47 M for Small, without saying what they are made of.
    The gate pools the whole map here, not 49x49 windows, which moves no parameter.

    BatchNorm's eps is 1e-3 in the encoder and 1e-5 in the head, as in torchvision; its momentum is PyTorch's 0.1, since
    the paper's 0.01 leaves short schedules with statistics of the initial weights.

    Modules to tap (channels @ stride, Large with the full tail): ``detail`` (40 @ 8), ``stage5`` (960 @ 16),
    ``head.context`` (128 @ 16), ``head.decoder`` (128 @ 8).

    Args:
        num_classes: number of logits per pixel.
        variant: ``large`` or ``small``.
        reduced_tail: half the channels in the last stage.
        width: multiplier of the encoder's channels, rounded to multiples of 8.

    Raises:
        UserError: for another variant or a width of 0 or less.
    """

    stride = 16

    def __init__(
        self, num_classes: int, variant: str = "large", reduced_tail: bool = False, width: float = 1.0
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f"variant={variant!r}: MobileNetV3 comes as {' or '.join(VARIANTS)}")
        built, channels = stages(variant, reduced_tail, width)
        self.stage1, self.stage2 = nn.Sequential(*built[0]), nn.Sequential(*built[1])
        # the head takes the first block at stride 8, not the last
        self.detail, self.stage3 = built[2][0], nn.Sequential(*built[2][1:])
        self.stage4, self.stage5 = nn.Sequential(*built[3]), nn.Sequential(*built[4])
        self.head = LRASPP(channels[2], channels[4], num_classes)
        self.apply(init_convs)
        self.apply(init_linear)

    def forward(self, x: Tensor) -> SegOutput:
        """Segment normalised images.

        Args:
            x: (N, 3, H, W), any H and W.

        Returns:
            logits (N, num_classes, ceil(H / 8), ceil(W / 8)).
        """
        detail = self.detail(self.stage2(self.stage1(x)))
        return SegOutput(self.head(detail, self.stage5(self.stage4(self.stage3(detail)))))
