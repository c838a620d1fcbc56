"""Students with training heads and BatchNorm after global pooling."""

import pytest
import torch

from segdistill.models.students.bisenetv2 import BiSeNetV2
from segdistill.models.students.fast_scnn import FastSCNN

STUDENTS = [FastSCNN, BiSeNetV2]


@pytest.mark.parametrize("student", STUDENTS)
def test_training_heads_can_be_left_out(student):
    assert student(5, aux_heads=False)(torch.randn(2, 3, 64, 64)).aux == ()


@pytest.mark.parametrize("student", STUDENTS)
def test_one_image_is_refused_only_where_batchnorm_would_fail(student):
    image = torch.randn(1, 3, 64, 64)
    network = student(5)
    with pytest.raises(ValueError, match=r"batch size 1 in training.*at least 2.*drop"):
        network(image)
    for module in network.modules():  # training with frozen statistics works
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    assert network(image).logits.shape == (1, 5, 8, 8)
