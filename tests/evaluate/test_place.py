"""What is in an evaluation's folder is replaced only by the same evaluation, or if the user says so."""

import json

import pytest

from segdistill.errors import UserError
from segdistill.evaluate.place import Place


def write(folder, names, settings=("a",), replace=False):
    place = Place(folder, {"chosen": list(settings)}, replace=replace)
    with place.written() as part:
        for name in names:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_text(name)
        return place.finish(part, {"score": 1})


def there(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_same_evaluation_takes_the_place_of_itself_and_leaves_what_is_not_its_own(tmp_path):
    folder = tmp_path / "deep" / "evaluation"
    write(folder, ["plot.png", "worst/01_a.png"])
    (folder / "notes.txt").write_text("mine")
    (folder / "worst" / "mine.png").write_text("mine")
    document = write(folder, ["plot.png", "worst/01_b.png"])
    assert there(folder) == ["evaluation.json", "notes.txt", "plot.png", "worst/01_b.png", "worst/mine.png"]
    assert json.loads((folder / "evaluation.json").read_text()) == document
    assert document == {
        "schema": 1, "settings": {"chosen": ["a"]}, "score": 1, "files": ["plot.png", "worst/01_b.png"],
    }  # fmt: skip


def test_another_evaluation_is_refused_unless_it_may_be_replaced(tmp_path):
    write(tmp_path / "e", ["plot.png"])
    with pytest.raises(UserError, match=r"other settings \(chosen\); give another folder, out=DIR, or replace=true"):
        write(tmp_path / "e", ["other.png"], settings=("b",))
    assert there(tmp_path / "e") == ["evaluation.json", "plot.png"]
    write(tmp_path / "e", ["other.png"], settings=("b",), replace=True)
    assert there(tmp_path / "e") == ["evaluation.json", "other.png"]


def test_a_folder_of_somebody_else_s_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        write(tmp_path, ["plot.png"])
    write(tmp_path, ["plot.png"], replace=True)
    assert there(tmp_path) == ["evaluation.json", "plot.png", "thesis.tex"]


def test_an_end_half_way_leaves_the_evaluation_before(tmp_path):
    before = write(tmp_path / "e", ["plot.png"])
    place = Place(tmp_path / "e", {"chosen": ["a"]}, replace=False)

    def interrupted():
        with place.written() as part:
            (part / "plot.png").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert json.loads((tmp_path / "e" / "evaluation.json").read_text()) == before
    assert (tmp_path / "e" / "plot.png").read_text() == "plot.png"
    assert there(tmp_path / "e") == ["evaluation.json", "plot.png"]


def test_files_that_a_damaged_document_names_elsewhere_stay(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    folder = tmp_path / "e"
    folder.mkdir()
    told = {"settings": {"chosen": ["a"]}, "files": ["../mine.txt", str(tmp_path / "mine.txt")]}
    (folder / "evaluation.json").write_text(json.dumps(told))
    write(folder, ["plot.png"])
    assert (tmp_path / "mine.txt").exists()


def test_a_file_in_its_place_and_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; give a folder"):
        write(tmp_path / "file", [])
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "file" / "below", [])
