"""What the README says runs."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir

from segdistill.catalogue import names_of
from tests import tables

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def block(language):
    return re.search(rf"## Add a loss.*?```{language}\n(.*?)```", README, re.S).group(1)


def test_the_example_of_a_loss_obeys_the_contract():
    space = {}
    exec(block("python"), space)
    term = yaml.safe_load(block("yaml"))["terms"]["feature_l1"]
    assert term["loss"]["_target_"].rsplit(".", 1)[1] in space
    assert set(term) == {"loss", "weight", "student", "teacher", "adapter"}
    loss = space["FeatureL1"]()
    maps, target = torch.randn(2, 3, 4, 5, requires_grad=True), torch.full((2, 8, 10), 255)
    assert loss(student=maps, teacher=maps.detach(), target=target.fill_(1)).item() == 0
    assert loss(student=maps, teacher=maps.detach() + 2, target=target).item() == pytest.approx(2, rel=1e-5)
    half = loss(student=maps.half(), teacher=maps.detach().half() + 2, target=target)
    assert half.dtype is torch.float32
    for word in ("Reduction:", "Converting a published lambda", "20"):
        assert word in space["FeatureL1"].__doc__
    nothing = loss(student=maps, teacher=maps.detach() + 2, target=target.fill_(255))
    assert nothing.item() == 0
    assert nothing.requires_grad


@pytest.mark.parametrize(
    "line", re.findall(r"^python train\.py ([^#\n]*[^#\n\\ ]) *(?:#.*)?$", README, re.M), ids=lambda line: line[:60]
)
def test_every_command_composes(line):
    import shlex

    import segdistill.build  # noqa: F401 (registers the resolvers)

    overrides = [
        one
        for one in shlex.split(line)
        if one != "-m" and not one.startswith("resume=") and "," not in one.replace("[pixel_kl,cwd]", "")
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose("train", overrides=overrides).student.name


@pytest.mark.slow
def test_tables_of_networks_are_what_the_command_prints():
    for page in tables.PAGES:
        assert tables.TABLE.search(page.read_text())
    assert [page.name for page, _ in tables.stale()] == [], "run: make tables"
    for page, kind in zip(tables.PAGES, ("student", "teacher"), strict=True):
        listed = re.findall(rf"^\| `(\w+)` \| {kind} \| [\d.]+ ", page.read_text(), re.M)
        assert sorted(listed) == names_of(kind)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!http)[^)]+)\)", README))
def test_links_lead_somewhere(path):
    page, _, anchor = path.partition("#")
    text = (ROOT / page).read_text() if anchor else ""
    titles = [
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in re.findall(r"^#+ .*", text, re.M)
    ]
    assert (ROOT / page).exists()
    assert not anchor or anchor in titles


def test_the_page_of_methods_lists_every_term_with_its_taps_and_weight():
    from tests.losses.kd.terms import TERMS

    rows = re.findall(
        r"^\| `(\w+)` \*? ?\| [^|]+ \| ([^|]+) \| [^|]*\| ([\d.]+) \|", (ROOT / "docs/methods.md").read_text(), re.M
    )
    listed = {name: (set(taps.strip().split(" and ")), float(weight)) for name, taps, weight in rows}
    for name, term in TERMS.items():
        taps = {term.student} if isinstance(term.student, str) else set(term.student)
        assert listed[name] == (taps, term.weight)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_links_of_the_other_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(((?!http)[^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} -> {target}"
