"""What the records of exported files say, and what is wrong with them."""

import pytest

from segdistill.card.records import read_records
from segdistill.errors import UserError
from tests.card.exported import record

WEIGHTS = "c0ffee"


def exported(run, name="tiny_fp32.onnx", **options):
    file = run / "exports" / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"a network")
    return file, record(file, WEIGHTS, **options)


def test_nothing_is_exported_yet(tmp_path):
    with pytest.raises(UserError, match="no exported files yet; segdistill export run="):
        read_records(tmp_path, WEIGHTS)


def test_a_record_is_read(tmp_path):
    exported(tmp_path, passed=False, batch=None, size=None)
    (found,) = read_records(tmp_path, WEIGHTS)
    assert (found.file.name, found.format, found.precision, found.bytes) == ("tiny_fp32.onnx", "onnx", "fp32", 9)
    assert (found.size, found.batch, found.passed, found.problem) == (None, None, False, None)


def test_records_are_ordered_by_format_and_precision(tmp_path):
    wanted = [("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp16"), ("executorch", "fp32")]
    for number, (form, precision) in enumerate(reversed(wanted)):
        exported(tmp_path, f"{number}.any", format=form, precision=precision)
    assert [(one.format, one.precision) for one in read_records(tmp_path, WEIGHTS)] == wanted


def test_all_files_of_a_variant_count(tmp_path):
    file, _ = exported(tmp_path)
    weights = file.with_suffix(".bin")
    weights.write_bytes(b"weights")
    record(file, WEIGHTS, parts=[weights])
    assert [(one.bytes, one.problem) for one in read_records(tmp_path, WEIGHTS)] == [(16, None)]
    weights.write_bytes(b"Weights")
    assert read_records(tmp_path, WEIGHTS)[0].problem.startswith("tiny_fp32.bin is not the one that was verified")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda file: file.unlink(), "tiny_fp32.onnx is gone; export again"),
        (lambda file: file.write_bytes(b"A network"), "is not the one that was verified"),
        (lambda file: record(file, "tea"), "stale: the run's weights are others by now"),
        (lambda file: record(file, WEIGHTS, file="../../elsewhere.onnx"), "is none of its files"),
        (lambda file: record(file, WEIGHTS, file="../evil", files=["../evil"]), "must be a name"),
        (lambda file: record(file, WEIGHTS, files=[file.name, "/etc/passwd"]), "must be a name"),
        (lambda file: record(file, WEIGHTS, sha256="of one file"), "is no record of an export"),
        (lambda file: record(file, WEIGHTS, sha256={}), "is no record of an export"),
        (lambda file: record(file, WEIGHTS, files=[]), "is no record of an export"),
        (lambda file: record(file, WEIGHTS, schema=2), "schema=2"),
        (lambda file: record(file, WEIGHTS, format="abacus"), "format='abacus'"),
        (lambda file: record(file, WEIGHTS, miou="<b>"), "miou='<b>'"),
        (lambda file: record(file, WEIGHTS, bytes=10**400), "bytes=1000"),
        (lambda file: record(file, WEIGHTS, size=[True, 8]), "True must be a whole number"),
        (lambda file: record(file, WEIGHTS, dataset="\x1b[2J"), "printable"),
        (lambda file: record(file, WEIGHTS, files=[file.name, "\x1b[2J.onnx"]), "printable"),
        (lambda file: record(file, WEIGHTS, format="\x1b[2J"), "format='\\x1b[2J'"),
        (lambda file: record(file, WEIGHTS, miou=float("nan")), "NaN is no finite number"),
        (lambda file: record(file, WEIGHTS, dataset=None), "is no record of an export"),
        (lambda file: record(file, WEIGHTS, verified=None), "is no record of an export"),
        (lambda file: file.with_name("tiny_fp32.onnx.json").write_text('{"schema": 1,'), "is no record of an export"),
        (lambda file: file.with_name("tiny_fp32.onnx.json").write_text("[]"), "is no record of an export"),
    ],
)
def test_a_record_that_cannot_be_used_is_told_and_the_others_are(tmp_path, spoil, told):
    file, _ = exported(tmp_path)
    exported(tmp_path, "tiny_int8.onnx")
    spoil(file)
    found = {one.file.name: one.problem for one in read_records(tmp_path, WEIGHTS)}
    assert told in found["tiny_fp32.onnx"]
    assert found["tiny_int8.onnx"] is None
    assert all(problem is None or problem.isprintable() for problem in found.values())


def test_a_record_whose_name_steers_the_terminal(tmp_path):
    exported(tmp_path)
    (tmp_path / "exports" / "\x1b[2J.onnx.json").write_text("{}")
    (odd,) = [one for one in read_records(tmp_path, WEIGHTS) if one.problem]
    assert (odd.file.name, odd.problem[:20]) == ("\\x1b[2J.onnx", "\\x1b[2J.onnx.json is")
