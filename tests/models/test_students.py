"""What holds for every student, found by its yaml; its figures are in tests/assets/students."""

import warnings

import pytest
import torch

from segdistill.models.counts import gmacs, parameter_count
from segdistill.models.output import SegOutput
from tests.models.students import STUDENTS, at_stride, config, facts, model

pytestmark = pytest.mark.parametrize("name", STUDENTS)
SMALL = (64, 96)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_are_exact(name):
    for classes, expected in facts(name)["parameters"].items():
        student = model(name, classes)
        assert parameter_count(student) == expected
        assert count(student) == facts(name).get("parameters_in_training", {}).get(classes, count(student))


def test_multiply_adds(name):
    for classes, height, width, expected in facts(name)["gmacs"]:
        assert gmacs(model(name, classes), (height, width)) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("size", [(97, 131), (353, 481), "one above the least"])
def test_any_size_and_a_batch_of_one_in_eval(name, size):
    student = model(name).eval()
    if isinstance(size, str):
        size = (student.network.stride + 1, 2 * student.network.stride + 1)
    taps = facts(name)["taps"]
    assert {"backbone", "context", "decoder"} <= taps.keys() == config(name, 5).taps.keys()
    student.record(taps)
    with torch.no_grad():
        output = student(torch.rand(1, 3, *size))
    assert isinstance(output, SegOutput)
    assert output.aux == ()
    assert output.boundary is None
    assert output.logits.shape == (1, 5, *at_stride(size, facts(name)["stride"]))
    assert output.logits.isfinite().all()
    shapes = {tap: (x.shape[1], *x.shape[2:]) for tap, x in output.taps.items()}
    assert shapes == {tap: (channels, *at_stride(size, stride)) for tap, (channels, stride) in taps.items()}


def test_gradients_reach_every_parameter(name):
    student = model(name).train()
    output = student(torch.rand(2, 3, *SMALL))
    assert [head.shape[2:] for head in output.aux] == [at_stride(SMALL, s) for s in facts(name).get("aux_strides", ())]
    assert bool(output.aux) == (config(name, 5).aux_weight > 0)
    edges = [] if output.boundary is None else [output.boundary]
    assert [x.shape[2:] for x in edges] == [
        at_stride(SMALL, facts(name)[k]) for k in ("boundary_stride",) if k in facts(name)
    ]
    assert bool(edges) == bool(config(name, 5).boundary)
    sum((x - 1).square().mean() for x in (output.logits, *output.aux, *edges)).backward()
    assert [key for key, p in student.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    assert [key for key, p in student.named_parameters() if p.ndim > 1 and not p.grad.any()] == []


def test_a_sample_in_eval_does_not_depend_on_the_others(name):
    student = model(name).eval()
    batch = torch.rand(3, 3, *SMALL)
    with torch.no_grad():
        together, alone = student(batch).logits[1:2], student(batch[1:2]).logits
    scale = alone.abs().mean()  # untrained logits may be large
    torch.testing.assert_close(together / scale, alone / scale, rtol=1e-3, atol=1e-3)


def test_bf16_and_channels_last(name):
    student = model(name).eval()
    image = torch.rand(2, 3, *SMALL)
    with torch.no_grad():
        expected = student(image).logits
        student.to(memory_format=torch.channels_last)
        actual = student(image.to(memory_format=torch.channels_last)).logits
        assert (actual - expected).abs().mean() < 1e-3 * expected.abs().mean()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = student(image).logits
    assert low.dtype == torch.bfloat16
    allowed = 0.3 if facts(name).get("discontinuous") else 0.1  # at initial weights
    assert (low.float() - expected).abs().mean() < allowed * expected.abs().mean()


def test_export_and_compile_without_graph_breaks(name):
    student = model(name).eval()
    image = torch.rand(1, 3, 65, 97)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = student(image).logits
        exported = torch.export.export(student, (image,)).module()
        torch.testing.assert_close(exported(image).logits, expected)
        torch.compiler.reset()
        compiled = torch.compile(student, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(image).logits, expected)


def test_the_encoder_is_made_of_modules_in_the_order_of_depth(name):
    network = model(name).network
    paths = list(config(name, 5).encoder)
    assert paths
    owned = {id(p) for path in paths for p in network.get_submodule(path).parameters()}
    rest = [p for p in network.parameters() if id(p) not in owned]
    assert owned
    assert rest


def test_an_image_smaller_than_the_stride_is_refused_with_the_least_size(name):
    student = model(name).eval()
    least = student.network.stride
    with pytest.raises(ValueError, match=rf"image of {least - 1}x40.*at least {least}x{least}"):
        student(torch.rand(1, 3, least - 1, 40))
    with torch.no_grad():
        assert student(torch.rand(1, 3, least, least)).logits.isfinite().all()


def test_what_the_paper_reached_has_a_source(name):
    paper = config(name, 5).paper
    assert paper is None or (0 < paper.miou < 100 and paper.split and paper.source)
