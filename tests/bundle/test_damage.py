"""Cut off anywhere, or with bits turned round: opened, or refused with a message; never anything else."""

import random
import warnings

import pytest

from segdistill.bundle.opening import open_bundle
from segdistill.errors import UserError
from tests import bundles

FILES = ("model.json", "student.safetensors")


def opens(folder) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            open_bundle(folder)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("name", FILES)
def test_cut_off_at_any_length(tmp_path, name):
    folder = bundles.write(tmp_path)
    whole = (folder / name).read_bytes()
    header = int.from_bytes(whole[:8], "little") + 8 if name.endswith("tensors") else 0
    rng = random.Random(1)
    lengths = {0, 1, 7, 8, 9, header, header + 1, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(12))}
    for length in lengths - {0} if name.endswith("json") else lengths:
        (folder / name).write_bytes(whole[:length])
        assert not opens(folder), length


@pytest.mark.parametrize("name", FILES)
def test_bits_that_were_turned_round(tmp_path, name):
    folder = bundles.write(tmp_path)
    whole = (folder / name).read_bytes()
    end = int.from_bytes(whole[:8], "little") + 8 if name.endswith("tensors") else len(whole)
    rng = random.Random(2)
    for _ in range(30):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(end)] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(damaged)
        opens(folder)  # a digit of a mean is another mean; what matters is that nothing else is raised
    (folder / name).write_bytes(whole)
    assert opens(folder)
