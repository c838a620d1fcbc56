import pytest
import torch

from segdistill.errors import UserError
from tests import tiny


def test_a_teacher_stays_in_eval_through_a_whole_fit_and_does_not_change():
    module = tiny.module(ema_decay=0.9)
    teacher = module.teachers["main"]
    before = tiny.clone(teacher.state_dict())
    seen = []
    module.train()
    tiny.trainer([tiny.Watch(lambda *_: seen.append([m.training for m in teacher.modules()]))], epochs=1).fit(
        module, tiny.data()
    )
    assert len(seen) == 6
    assert not any(flag for flags in seen for flag in flags)
    assert teacher.train() is teacher
    assert not any(m.training for m in teacher.modules())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_teacher_is_nobodys_child():
    module = tiny.module(ema_decay=0.9)
    teacher = module.teachers["main"]
    own = {id(tensor) for tensor in [*teacher.parameters(), *teacher.buffers()]}
    assert own
    assert own.isdisjoint(id(tensor) for tensor in [*module.parameters(), *module.buffers()])
    assert own.isdisjoint(id(tensor) for tensor in module.state_dict(keep_vars=True).values())
    assert teacher not in list(module.modules())
    tiny.trainer(epochs=1).fit(module, tiny.data())
    groups = module.optimizers().param_groups
    assert own.isdisjoint(id(parameter) for group in groups for parameter in group["params"])


def test_its_output_carries_no_gradient():
    output = tiny.teacher()(torch.rand(1, 3, 16, 16, requires_grad=True))
    assert not output.logits.requires_grad
    assert not any(parameter.requires_grad for parameter in tiny.teacher().parameters())


def test_class_map_picks_the_datasets_classes_in_its_order():
    plain, mapped = tiny.teacher(classes=5), tiny.teacher(classes=5, class_map=[4, 0, 2])
    image = torch.rand(2, 3, 16, 16)
    for teacher in (plain, mapped):
        teacher.model.record(["logits", "deep"])
    expected, found = plain(image), mapped(image)
    assert torch.equal(found.logits, expected.logits[:, [4, 0, 2]])
    assert torch.equal(found.taps["logits"], found.logits)
    assert torch.equal(found.taps["deep"], expected.taps["deep"])
    mapped.check_classes(3)


def test_another_number_of_classes_is_refused_with_both_numbers():
    with pytest.raises(UserError, match=r"'tiny' has 5 classes, the dataset 3; set teacher.class_map"):
        tiny.teacher(classes=5).check_classes(3)
    with pytest.raises(UserError, match="has 2 classes"):
        tiny.teacher(classes=5, class_map=[0, 1]).check_classes(3)


def test_several_classes_of_the_teacher_make_one_by_adding_their_probabilities():
    plain, mapped = tiny.teacher(classes=5), tiny.teacher(classes=5, class_map=[[4, 1], 0, [2, 3]])
    image = torch.rand(2, 3, 16, 16)
    expected = plain(image).logits.softmax(dim=1)
    found = mapped(image).logits.softmax(dim=1)
    torch.testing.assert_close(found[:, 0], expected[:, 4] + expected[:, 1])
    torch.testing.assert_close(found[:, 1], expected[:, 0])
    torch.testing.assert_close(found[:, 2], expected[:, 2] + expected[:, 3])
    mapped.check_classes(3)


def test_the_head_behind_a_tap_gives_the_logits():
    image = torch.rand(2, 3, 16, 24)
    for class_map in (None, [2, [0, 1]]):
        teacher = tiny.teacher(class_map=class_map)
        teacher.model.record(["logits", "deep"])
        output = teacher(image)
        assert torch.equal(teacher.head_after("deep", image)(output.taps["deep"]), output.logits)


def test_a_tap_that_no_single_module_turns_into_logits_has_no_head():
    with pytest.raises(UserError, match="no single module that makes its logits of tap 'low'"):
        tiny.teacher().head_after("low", torch.rand(1, 3, 16, 16))
    with pytest.raises(UserError, match="'logits' has no teacher's head behind it"):
        tiny.teacher().head_after("logits", torch.rand(1, 3, 16, 16))
