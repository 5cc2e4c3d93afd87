"""Reading CSV files: what comes out, which columns are what, and one clear line for each defect."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from xpnet.data import csv
from xpnet.data.csv import read_csv
from xpnet.data.datasets import load, read_rows
from xpnet.data.texts import TableOptions
from xpnet.errors import ConfigError, DataError
from xpnet.nn.columns import Columns


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.csv"


def read(path, content, *options, **more):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    options = TableOptions(*options, **more)
    return read_csv(path, options).fit(options)


def refused(read, *arguments, **options):
    with pytest.raises((DataError, ConfigError)) as caught:
        read(*arguments, **options)
    return str(caught.value)


PLAIN = "label,1x1,1x2,2x1,2x2\n0,1,2,3,4\n2,5,60,7,255\n1,0,0,0,9\n"
ROWS = PLAIN.split("\n", 1)[1]
FORMS = {
    "no header": ROWS,
    "blank lines": "\n \n" + PLAIN.replace("\n", "\n\n   \n", 3) + "\n\n",
    "Windows line ends": PLAIN.replace("\n", "\r\n") + "\r\n\r\n",
    "byte-order mark": "\ufeff" + PLAIN,
    "quoted cells": re.sub(r"[^,\n]+", r'"\g<0>"', ROWS),
    "names that count": f"class,0,1,2,3\n{ROWS}",
    "semicolons and whole numbers with a point": PLAIN.replace("60", "60.0")
    .replace("\n2,", "\n2.0,")
    .replace(",", "; "),
    "tabs": PLAIN.replace(",", "\t"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("piece", "pack"), [(1, gzip.compress), (1 << 22, bytes)])
def test_forms(path, monkeypatch, form, piece, pack):
    monkeypatch.setattr(csv, "PIECE_SIZE", piece)
    table = read(path, pack(FORMS[form].encode()))
    assert (table.x.dtype, table.y.dtype) == (np.uint8, np.int32)
    assert table.x.tolist() == [[1, 2, 3, 4], [5, 60, 7, 255], [0, 0, 0, 9]]
    assert table.y.tolist() == [0, 2, 1]


@pytest.mark.parametrize(
    ("names", "row", "options", "pixels"),
    [
        ("", "1,2,3,255", {}, True),
        ("", "1,2,3,256", {}, False),
        ("age,height,weight,shoes", "1,2,3,4", {"columns": "pixels"}, True),
        ("", "1,2.0,3,4", {"columns": "0.1.0"}, False),
    ],
)
def test_pixels_are_whole_numbers_without_other_names(path, names, row, options, pixels):
    header = f"label,{names}\n" if names else ""
    table = read(path, f"{header}0,{row}\n1,{row}\n", **options)
    assert table.x.dtype == (np.uint8 if pixels else np.float64)
    assert table.x.tolist() == [[float(cell) for cell in row.split(",")]] * 2


@pytest.mark.parametrize("wide", [1, 4096])
def test_numbers_and_booleans(path, monkeypatch, wide):
    monkeypatch.setattr(csv, "_WIDE", wide)
    table = read(path, "a,b,label\nTrue,1.5,0\nfalse,TRUE,1\n1e-320,.5,65535\n")
    assert table.x.tolist() == [[1, 1.5], [0, 1], [1e-320, 0.5]]


@pytest.mark.parametrize(("header", "label"), [("a,Target,b", None), ("a,Species,b", "SPECIES"), (None, "2")])
def test_the_column_of_the_labels(path, header, label):
    table = read(path, f"{header or ''}\n7,8,9\n", label)
    assert (table.y.tolist(), table.x.tolist()) == ([8], [[7, 9]])


TEXT = "a,b,kind\n1.5,2,dog\n3,4,cat\n5,6,dog\n"


def test_a_table_that_pandas_writes_is_read_back_exactly(path):
    bits = np.random.default_rng(0).integers(0, 2**64, (50, 3), np.uint64).view(np.float64)
    frame = pd.DataFrame(np.where(np.isfinite(bits), bits, 0.0), columns=["a b", "c;c", 'd"'])
    frame.assign(kind=[f"{letter}; 'é\"" for letter in "abcde" * 10]).to_csv(path, sep=";", index=False)
    table = read_csv(path, TableOptions("kind"))
    assert table.x.tolist() == frame.to_numpy().tolist()
    assert table.columns.classes == tuple(f"{letter}; 'é\"" for letter in "abcde")


HEAD = "label,1x1,1x2\n"
TEXTS, USE = ": columns that are no numbers: ", ": --encode onehot takes up to 50 texts a column, --drop "
WORDS = "city,c,label\n" + "".join(f'{i}a,"3,{i}",{i % 2}\n' for i in range(51))
GAPS = "a,kind,label\n,,0\n1,dog,0\n"
ONES = {"encode": "onehot"}
DEFECTS = [
    (HEAD + "0,1,2\n\n1,x,4\n", f"{TEXTS}1x1 (2 values, as 'x'){USE}1x1 leaves columns out"),
    (HEAD + "0,1,2\n" * 40 + "0,1,nan\n", ", line 42, column 3 (1x2): 'nan' is not a finite number"),
    (HEAD + "0,1\n1,2,3\n", ", line 2: has 2 values, the first line has 3"),
    (WORDS, f"{TEXTS}city (51 values, as '0a'), c (decimal commas, which", ONES),
    ("0,a\n0,b\n", ": columns of text need names, all different, to be encoded", ONES),
    (GAPS, ", line 2, column kind: '' is none of the categories dog", {**ONES, "missing": "mean"}),
    ("1.27,1,2\n", ", line 1, column 1: label '1.27': a label is a whole number from 0 to 65535;"),
    (HEAD + '0,1,"2\n0,1,2\n', ", line 2: has a line break inside a cell, or quotes that do not match"),
    (HEAD.encode() + b"0,1,\xff\xfe\n", ", line 2: is not text in UTF-8"),
    (b"0,\0\n", ": is not a CSV file, nor any text in UTF-8"),
    ("label,a,a\n0,1,2\n", ": has 2 columns named a: rename them"),
    (gzip.compress(b"0,1\n" * 900, mtime=0)[:-9], ": the gzip data ends too early"),
    (HEAD + "0,1,2.5\n", ", line 2, column 3 (1x2): '2.5' is not a pixel, a", {"columns": "pixels"}),
    (HEAD + "0,inf,NaN\n", ", line 2, column 2 (1x1): 'inf' is not a finite number", {"missing": "mean"}),
    (TEXT, ": has no column named kinds: did you mean kind?: --label takes the name", {"label": "kinds"}),
]  # fmt: skip


@pytest.mark.parametrize("piece", [64, 1 << 22])
@pytest.mark.parametrize("defect", DEFECTS)
def test_defects(path, monkeypatch, defect, piece):
    monkeypatch.setattr(csv, "PIECE_SIZE", piece)
    content, message, *options = defect
    line = refused(read, path, content, **dict(*options))
    assert line.startswith(f"{path}{message}")
    assert line.isprintable()


def test_what_a_small_file_unpacks_to_must_fit_in_memory(path, monkeypatch):
    monkeypatch.setattr("xpnet.data.table.available_memory", lambda: 5000)
    monkeypatch.setattr(csv, "PIECE_SIZE", 64)
    assert "values, this machine has 5000 bytes" in refused(read, path, gzip.compress(b"0,1\n" * 999))


def pair(folder, train, test, **options):
    (folder / "train.csv").write_text(train)
    (folder / "test.csv").write_text(test)
    return load(folder / "train.csv", folder / "test.csv", **options)


def test_test_data_have_the_columns_of_the_training(tmp_path):
    data = pair(tmp_path, TEXT, "kind,b,a\ndog,6,5\n", label="kind")
    assert (data.x_test.tolist(), data.y_test.tolist()) == ([[5, 6]], [1])


def test_test_data_may_have_other_classes(tmp_path):
    data = pair(tmp_path, "label,a\nc,1.5\na,2\n", "label,a\nb,1\na,2\n")
    assert (data.y_test.tolist(), data.columns.classes) == ([1, 0], ("a", "b", "c"))


def test_test_data_with_other_columns_are_refused(tmp_path):
    message = refused(pair, tmp_path, "label,a,b\n0,1,2\n", "label,a,c\n0,1,2\n")
    assert re.search(r"test.csv: its columns are not .* training: without b, with c", message), message


def test_notices_of_classes_without_samples_and_of_labels_that_look_like_quantities(tmp_path):
    _, notice = pair(tmp_path, "0,1.5\n4,2\n", "2,1\n").notes
    assert notice == "notice: no training samples of class 1, 2, 3"
    rows = "".join(f"{number},0.5,2\n" for number in range(101))
    assert "notice: the labels have 101 values, most of" in pair(tmp_path, rows, rows).notes[1]


def test_missing_values_become_the_mean_of_the_training_rows(tmp_path):
    train = "label,a,b\n0,1.5,NA\n1,,7\n0,2.5,9\n0, ? ,8\n"
    data = pair(tmp_path, train, "b,a,label\n,100,0\n5,nan,1\n", missing="mean")
    assert data.x_train.tolist() == [[1.5, 8], [2, 7], [2.5, 9], [2, 8]]
    assert data.x_test.tolist() == [[100, 8], [2, 5]]
    assert data.columns.means == (2, 8)


def test_test_rows_are_a_share_of_one_file_and_the_same_each_time(path):
    path.write_text("".join(f"{i % 2},{i},0.5\n" for i in range(50)))
    assert load(path, test_split=0.2).x_test[:, 0].tolist() == [10, 12, 14, 21, 27, 33, 34, 35, 37, 47]
    assert refused(load, path, test_split=0.001) == "--test-split 0.001: 0 of 50 rows would be test data"
    assert refused(load, path).endswith("needs --test-data TEST.csv beside it, or --test-split 0.2")


def test_settings_of_tables_go_with_tables(tmp_path):
    assert "go with a CSV file in --data" in refused(load, tmp_path, test_split=0.2)


KNOWN = Columns(("a", "b"), "kind", 2, ("cat", "dog"))


def test_a_label_that_the_training_has_not_is_refused(path):
    path.write_text("a,b,kind\n1,2,lion\n")
    message = f"{path}, line 2, column 3 (kind): label 'lion': the classes are cat, dog"
    assert refused(read_rows, path, 2, KNOWN) == message


MIXED = 'id,b,"size, cm",kind,a,class\n7,x,1.5,"dog, big",1,0\n8,x,NA,cat,True,1\n9, y ,3,cat,2,0\n'


def test_text_is_encoded_by_the_sorted_texts_of_the_training_rows(path):
    table = read(path, MIXED, drop=("id",), encode="onehot", missing="mean")
    assert table.x.tolist() == [[1.5, 1, 1, 0, 0, 1], [2.25, 1, 1, 0, 1, 0], [3, 2, 0, 1, 1, 0]]
    assert table.columns.inputs == ("size, cm", "a", "b=x", "b=y", "kind=cat", "kind=dog, big")
    assert Columns.from_json(table.columns.to_json(), 6, 2) == table.columns
    path.write_text(re.sub(r",\w+\n", r"\n", MIXED))
    x, labels = read_rows(path, 6, table.columns)
    assert (x.tolist(), labels) == (table.x.tolist(), None)


def test_categories_are_those_of_the_training_alone_and_other_text_is_refused_or_zeros(tmp_path):
    train, test = "kind,a,label\nb,1,0\n,2,1\na,3,0\n", "a,label,kind\n1,0,b\n2,1,c\n3,0,\n"
    options = {"encode": "onehot", "missing": "category"}
    message = "line 3, column kind: 'c' is none of the categories , a, b: training with --unknown zeros takes"
    assert message in refused(pair, tmp_path, train, test, **options)
    data = pair(tmp_path, train, test, **options, unknown="zeros")
    assert data.columns.categories == {"kind": ("", "a", "b")}
    assert data.x_test.tolist() == [[1, 0, 0, 1], [2, 0, 0, 0], [3, 1, 0, 0]]
    split = load(tmp_path / "train.csv", test_split=0.4, encode="onehot", unknown="zeros")
    assert split.columns.categories == {"kind": ("b",)}


def test_a_notice_of_columns_that_count_the_rows(tmp_path):
    content = "key,customerID,covid,label\n" + "".join(f"{i // 2},{-i},{i % 9},0\n" for i in range(200))
    _, note = pair(tmp_path, content, content).notes
    assert note.startswith("notice: key, customerID may only count the rows: --drop key customerID leaves")


def test_files_of_other_programs_are_named_whatever_their_names(tmp_path):
    path = tmp_path / "table.xlsx"
    path.write_bytes(b"PK\3\4\0")
    assert refused(load, path).startswith(f"{path}: is an Excel file: pandas.read_excel(path).to_csv(")
