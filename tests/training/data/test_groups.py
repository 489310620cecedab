import numpy as np
import pytest

from contract.errors import DataError
from training.data.folder import open_folder

GREY = np.arange(20, dtype=np.uint8).reshape(4, 5)
MASK = (GREY > 9).astype(np.uint8)
YAML = "table: items.csv\ngroup_column: patient\n"


@pytest.fixture
def with_table(make_folder):
    def make(table: str, yaml: str = YAML):
        names = ("a.png", "b.png")
        files = {"items.csv": table}
        return make_folder(dict.fromkeys(names, GREY), dict.fromkeys(names, MASK), yaml, files)

    return make


def refused(root) -> str:
    with pytest.raises(DataError) as error:
        open_folder(root, progress=False)
    return str(error.value)


def test_groups_come_from_the_table(with_table):
    dataset = open_folder(with_table("stem,patient\nb,p1\na,p2\nunused,p3\n"), progress=False)
    assert [case.group for case in dataset.cases] == ["p2", "p1"]


def test_file_names_and_a_byte_order_mark_are_understood(with_table):
    yaml = YAML + "stem_column: file\n"
    table = "\ufefffile,patient\na.png,1\nb.tif,2\n"
    dataset = open_folder(with_table(table, yaml), progress=False)
    assert [case.group for case in dataset.cases] == ["1", "2"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("stem,patient\na,1\n", "no row for 'b'"),
        ("stem,patient\na,1\nb,\n", "no patient for 'b'"),
        ("stem,patient\na,1\nb,2\na,2\n", "'a' is in group '1' and in group '2'"),
        ("stem,subject\na,1\n", "no column 'patient'; its columns are stem, subject"),
        ("name,patient\na,1\n", "no column 'stem'"),
        ("", "no column 'stem'"),
    ],
)
def test_faulty_tables(with_table, table, said):
    assert said in refused(with_table(table))


def test_missing_table(make_folder):
    root = make_folder({"a.png": GREY}, {"a.png": MASK}, YAML)
    assert "items.csv: the table cannot be read" in refused(root)
