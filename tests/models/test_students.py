import warnings

import pytest
import torch

from segdistill.models.network import gmacs, parameter_count
from segdistill.models.output import SegOutput
from segdistill.models.students.bisenetv2 import BiSeNetV2
from segdistill.models.students.fast_scnn import FastSCNN

STUDENTS = [FastSCNN, BiSeNetV2]
AUX_STRIDES = {FastSCNN: (8, 32), BiSeNetV2: (4, 8, 16, 32)}


def ceil_div(size: int, stride: int) -> int:
    return -(-size // stride)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("student", "classes", "expected"),
    [(FastSCNN, 19, 1_138_051), (FastSCNN, 11, 1_137_019), (BiSeNetV2, 19, 3_358_627), (BiSeNetV2, 11, 3_350_427)],
)
def test_parameter_count(student, classes, expected):
    assert parameter_count(student(classes)) == expected
    assert count(student(classes, aux_heads=False)) == expected


@pytest.mark.parametrize(("classes", "expected"), [(19, 5_231_487), (11, 5_212_375)])
def test_bisenetv2_count_with_training_heads(classes, expected):
    assert count(BiSeNetV2(classes)) == expected


@pytest.mark.parametrize(
    ("student", "classes", "size", "expected"),
    [
        (FastSCNN, 19, (512, 1024), 1.68),
        (FastSCNN, 11, (384, 480), 0.59),
        (BiSeNetV2, 19, (512, 1024), 24.60),
        (BiSeNetV2, 11, (384, 480), 8.63),
    ],
)
def test_gmacs(student, classes, size, expected):
    assert gmacs(student(classes), size) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("size", [(97, 131), (353, 481), (360, 480), (17, 9)])
@pytest.mark.parametrize("student", STUDENTS)
def test_any_size_and_a_batch_of_one_in_eval(student, size):
    network = student(5).eval()
    with torch.no_grad():
        output = network(torch.randn(1, 3, *size))
    assert isinstance(output, SegOutput)
    assert output.aux == ()
    assert output.logits.shape == (1, 5, ceil_div(size[0], 8), ceil_div(size[1], 8))
    assert output.logits.isfinite().all()


@pytest.mark.parametrize("student", STUDENTS)
def test_gradients_reach_every_parameter_in_training(student):
    torch.manual_seed(0)
    network = student(5)
    output = network(torch.randn(2, 3, 97, 131))
    strides = AUX_STRIDES[student]
    assert [head.shape for head in output.aux] == [(2, 5, ceil_div(97, s), ceil_div(131, s)) for s in strides]
    sum(logits.square().mean() for logits in (output.logits, *output.aux)).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


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


@pytest.mark.parametrize("student", STUDENTS)
def test_a_sample_in_eval_does_not_depend_on_the_others(student):
    torch.manual_seed(0)
    network = student(5).eval()
    batch = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(network(batch).logits[1:2], network(batch[1:2]).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("student", STUDENTS)
def test_bf16_autocast_and_channels_last(student):
    torch.manual_seed(0)
    network = student(5).eval()
    image = torch.randn(2, 3, 97, 131)
    with torch.no_grad():
        expected = network(image).logits
        network.to(memory_format=torch.channels_last)
        actual = network(image.to(memory_format=torch.channels_last)).logits
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = network(image).logits
    assert low.dtype == torch.bfloat16
    assert (low.float() - expected).abs().mean() < 0.1 * expected.abs().mean()


@pytest.mark.parametrize("student", STUDENTS)
def test_export(student):
    torch.manual_seed(0)
    network = student(5).eval()
    image = torch.randn(1, 3, 97, 131)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image).logits, network(image).logits)
