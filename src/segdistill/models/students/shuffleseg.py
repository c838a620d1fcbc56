"""ShuffleSeg (Gamal, Siam, Abdel-Razek: ShuffleSeg: Real-time Semantic Segmentation Network, 2018)."""

from segdistill.errors import UserError
from segdistill.models.students.shufflenet import shufflenet, shufflenet_v2
from segdistill.models.students.skipnet import SkipNetSegmenter

# Output channels of stages 2, 3 and 4: the paper's table 5, which is not linear in the width.
V2_CHANNELS = {0.5: (48, 96, 192), 1.0: (116, 232, 464), 1.5: (176, 352, 704), 2.0: (244, 488, 976)}


class ShuffleSeg(SkipNetSegmenter):
    """ShuffleNet with 3 groups and SkipNet: 1 040 673 parameters at 19 classes, 958 089 at 11.

    The encoder has 904 728; with a classifier of 961 x 1000 these are the 1 865 728 (1.87 M) of ShuffleNet 1x, g = 3.
    The decoder adds 1683 x 19 + 288 x 19^2 = 135 945. The paper prints 2.0 GFLOPs at 360x640, two per multiply-add;
    counted, 1.01 GMACs.

    Bottlenecks have a quarter of the unit's output, as in the ShuffleNet paper. ShuffleSeg's public code has a quarter
    of the branch's at the start of a stage (54, 60, 120 channels, not 60, 120, 240), biases before BatchNorm, and a
    mean image where the settings here have a mean colour.

    Modules to tap (channels @ stride): ``stage2`` (240 @ 8), ``stage3`` (480 @ 16), ``stage4`` (960 @ 32),
    ``decoder.skip8`` (one per class @ 8).

    Args:
        num_classes: number of logits per pixel.
        width: multiplier of the encoder's channels, a multiple of 0.25 (the s of "ShuffleNet sx").

    Raises:
        UserError: for a width that the groups do not divide.
    """

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        if width <= 0 or width * 4 % 1:
            raise UserError(
                f"width={width}: 240 x {width} channels do not divide into bottlenecks of a quarter in 3 groups; use a "
                "multiple of 0.25, such as 0.5, 1.0 or 1.5"
            )
        stem, *channels = (int(width * c) for c in (24, 240, 480, 960))
        super().__init__(shufflenet(stem, channels, groups=3), channels, num_classes)


class ShuffleSegV2(SkipNetSegmenter):
    """ShuffleNetV2 with ShuffleSeg's SkipNet; no paper has this pair.

    The encoder is torchvision's up to the end of stage 4: its last 1x1 convolution serves a classifier. At width 1.0 it
    has 776 420 parameters; the network has 776 420 + 815 x 19 + 288 x 19^2 = 895 873 at 19 classes, 820 233 at 11.

    Modules to tap (channels @ stride at width 1.0): ``stage2`` (116 @ 8), ``stage3`` (232 @ 16), ``stage4`` (464 @ 32),
    ``decoder.skip8`` (one per class @ 8).

    Args:
        num_classes: number of logits per pixel.
        width: 0.5, 1.0, 1.5 or 2.0: a column of the paper's table.

    Raises:
        UserError: for another width.
    """

    def __init__(self, num_classes: int, width: float = 1.0) -> None:
        if width not in V2_CHANNELS:
            known = ", ".join(map(str, V2_CHANNELS))
            raise UserError(f"width={width}: ShuffleNetV2's table of channels has only {known}; use one of them")
        channels = V2_CHANNELS[width]
        super().__init__(shufflenet_v2(24, channels), channels, num_classes)
