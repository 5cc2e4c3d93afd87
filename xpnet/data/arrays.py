"""Tables and data sets from arrays, lists and data frames, and the weights of their samples."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date
from typing import Any, NamedTuple

import numpy as np

from xpnet._lib.text import format_names, format_shape, quote
from xpnet._typing import HostArray, Names
from xpnet.backends.probing import one_line
from xpnet.backends.resolve import backend_of
from xpnet.data.datasets import Dataset, join_halves
from xpnet.data.table import LabelCodes, Table, as_features, as_labels, refuse_first
from xpnet.data.texts import TableOptions, TextCodes, mean_hint
from xpnet.errors import DataError
from xpnet.nn.columns import NO_COLUMNS, Columns, Texts

TEXT = "expected numbers, got text: encode it, or leave it out"
TRAINING = TableOptions()
TEXTS = (str, bytes, date)
"""The types of text in a table, and of dates."""
_NUMBERS = re.compile(r"(u?int|float)\d|bool|double")
"""The names of dtypes of numbers."""


def host_array(array: Any, source: str) -> Any:
    """Convert an array of a library, on any device, to NumPy. Return anything else unchanged.

    Raises
    ------
    DataError
        It is a masked array, or a list that holds one: the mask would be lost.
    """
    if _has_mask(array):
        msg = f"{source}: expected values without a mask, got a MaskedArray: fill it, or leave samples out"
        raise DataError(msg)
    backend = backend_of(array)
    if backend is None:
        return array
    if str(array.dtype).endswith("bfloat16"):  # which NumPy lacks; float32 holds each value
        array = backend.xp.astype(array, backend.xp.float32)
    return backend.to_host(array)


def _has_mask(values: object) -> bool:
    """Return True for a masked array, and for a list with one at any depth."""
    if not isinstance(values, list | tuple):
        return isinstance(values, np.ma.MaskedArray)
    kinds = {*map(type, values)}  # few: a call for each number would take longer than its conversion
    may_have = any(issubclass(kind, list | tuple | np.ma.MaskedArray) for kind in kinds)
    return may_have and any(map(_has_mask, values))


def like_input(result: HostArray, X: Any, names: Any = None) -> Any:
    """Return a result as an array of the library and on the device of the input `X`.

    With `names` of its columns it is a data frame of pandas, with the index of `X`, if there is one.

    Raises
    ------
    DataError
        The device cannot hold it.
    """
    if names is not None:
        import pandas as pd

        return pd.DataFrame(result, X.index if hasattr(X, "iloc") else None, [*names])
    backend = backend_of(X)
    if backend is None:
        return result
    try:
        return backend.to_user(result)
    except (TypeError, ValueError, RuntimeError) as error:  # each library raises its own
        place = f"{backend.name} cannot hold {result.dtype} results on its device {backend.device_name}"
        raise DataError(f"X: {place}: {one_line(error)}: move X to the CPU") from error


class Frame(NamedTuple):
    """Rows, with the names of their columns if they are a table."""

    rows: Any  # (m, features) numbers, NaN for missing values; an array as it is
    names: Names | None = None  # None of an array; none at all if they cannot be read
    note: str = ""  # what integers are taken for, if that is not plain
    texts: Texts = {}  # as in ``Table``  # noqa: RUF012

    @property
    def features(self) -> Names | None:
        """The names that a network keeps: None if one is empty or stands twice."""
        if not self.names or "" in self.names:
            return None
        return self.names if len({*self.names}) == len(self.names) else None

    def sort(self, rows: HostArray, columns: Columns, source: str) -> HostArray:
        """Return rows with their columns in the order of the training, if both have names.

        Raises
        ------
        DataError
            The names are others, or cannot be read.
        """
        is_array = self.names is None and not columns.categories
        if columns.features is None or is_array or self.names == columns.features:
            return rows
        if not self.names:
            raise DataError(f"{source}: the names of its columns cannot be read: convert it to pandas")
        return np.ascontiguousarray(rows[:, columns.order(self.names, source)])


def take_apart(X: Any, source: str, options: TableOptions = TRAINING, *, floats: bool = False) -> Frame:
    """Return the numbers of a table of any library, and the names of its columns as text.

    If all columns are of integers and no value is missing, the rows are integers, unless `floats` is set.
    The levels of a name in a MultiIndex are joined by underscores. Columns of text, but those that are
    numbers in the training, are the last. An array is returned as it is.

    Raises
    ------
    DataError
        A column holds neither numbers nor text, or integers that float64 does not hold.
    """
    if backend_of(X) or not {"columns", "__dataframe__"}.intersection(dir(X)):
        options.check_dropped(source, ())
        return Frame(X)
    X, labels, kinds = _read_labels(X)
    names = tuple("_".join(map(str, each if isinstance(each, tuple) else (each,))) for each in labels)
    options.check_dropped(source, names)
    words = [str(kind).lower() for kind in kinds]
    kept, codes, texts = _number_texts(X, source, zip(names, labels, words, strict=False), options)
    if len(kept) < len(words):
        rest = take_apart(X[kept], source, floats=floats or bool(texts))
        names = (*(rest.names or ()), *texts) if len(texts) == len(codes) else ()
        return Frame(np.column_stack([rest.rows, *codes]), names, "" if texts else rest.note, texts)
    rows, note = to_numbers(X, source), ""
    integers = [place for place, word in enumerate(words) if re.match(r"u?int\d", word)]
    if floats or rows.dtype.kind == "f":
        check_exact(rows[:, integers], source, [names[place] for place in integers])
    if 0 < len(integers) == len(names):
        dtype, lacks = "uint8" if {*words} == {"uint8"} else "int64", bool(np.isnan(rows).any())
        if floats or lacks:
            dtype, note = "float64", f"{source}: its integers are taken for floats, not for pixels"
            if lacks:
                note += ", as some are missing"
        elif any(hasattr(kind, "numpy_dtype") for kind in kinds):  # of pandas, and nullable
            note = f"{source}: its nullable integers are taken for pixels"
        rows = rows.astype(dtype, copy=False)
    return Frame(rows, names, note)


def _number_texts(
    X: Any, source: str, columns: Iterable[tuple[str, Any, str]], options: TableOptions
) -> tuple[list[Any], list[list[int]], Texts]:
    """Return the labels of the columns of numbers, and of those of text the numbers of the texts.

    `columns` are the name, label and dtype of each; those that are left out are neither.
    """
    kept, codes, texts, known = [], [], dict[str, TextCodes](), options.known or NO_COLUMNS
    for name, label, word in columns:
        if name in options.drop or name == known.label:
            continue
        is_number = _NUMBERS.match(word)
        may_be_text = not (is_number or options.known)
        if name in known.categories or (may_be_text and holds_text(np.asarray(X[label], object), TEXTS)):
            texts[name] = TextCodes()
            codes.append([texts[name].encode(str(each)) for each in np.asarray(X[label], object)])
        else:
            if not is_number:
                to_numbers(X[label], f"{source}, column {quote(name)}")
            kept.append(label)
    return kept, codes, texts


def _read_labels(X: Any) -> tuple[Any, Sequence[Any], Sequence[Any]]:
    """Return a table that NumPy can read, with the labels and the dtypes of its columns."""
    if hasattr(X, "__array__") and not hasattr(X, "column_names"):
        labels = getattr(X, "columns", None)
        return X, [*labels] if isinstance(labels, Iterable) else (), getattr(X, "dtypes", ())
    with suppress(ImportError):
        from pyarrow import interchange, table

        if hasattr(X, "__arrow_c_stream__") or hasattr(X, "__dataframe__"):
            X = table(X) if hasattr(X, "__arrow_c_stream__") else interchange.from_dataframe(X)
            return X.to_pandas(ignore_metadata=True), X.column_names, X.schema.types
    return X, (), ()


def check_exact(rows: HostArray, source: str, names: Sequence[str] = ()) -> None:
    """Check integers (m, features), perhaps as the floats that they have become.

    Raises
    ------
    DataError
        One is 2^53 or more in magnitude.
    """
    problem = "is 2^53 or more, and float64 does not hold every such integer"
    refuse_first(source, rows, names, lambda part: np.abs(part.astype(np.float64)) >= 2.0**53, problem)


def table_from_arrays(X: Any, y: Any, source: str, options: TableOptions, *, floats: bool) -> Table:
    """Return rows and labels as a table, of numbers alone. With `floats`, integers are no pixels.

    Raises
    ------
    DataError
        The rows or labels are not what they must be, or do not belong to the training.
    """
    x_from, y_from = f"X{source}", f"y{source}"
    x, frame = read_features(X, x_from, options, floats=floats)
    labels, classes = _to_labels(y, y_from, options.known)
    columns = Columns(frame.features, classes=classes)
    table = Table(x, labels, x_from, y_from, columns, frame.note, texts=frame.texts)
    return table if options.known else table.fit(options)


def _to_labels(y: object, source: str, columns: Columns | None) -> tuple[HostArray, Names | None]:
    """Return the numbers of labels, and the names of the classes if the labels are text."""
    labels = to_numbers(y, source, allow_text=True)
    if not (columns and columns.classes) and not holds_text(labels, str):
        return as_labels(labels, source), None
    codes, numbers = LabelCodes(columns, allow_new=False), []
    for row, label in enumerate(map(str, labels.reshape(-1).tolist()), start=1):
        try:
            numbers += codes.encode([label])
        except ValueError as error:
            raise DataError.at(source, error, row=row) from error
    return codes.finish(numbers, source)


def read_features(
    X: object, source: str, options: TableOptions, *, floats: bool = True
) -> tuple[HostArray, Frame]:
    """Return the values of rows, in the order of the columns of the training, which encode them.

    Raises
    ------
    DataError
        The rows are no numbers, or their columns are not those of the training.
    """
    hint, columns = ("" if options.known else mean_hint()), options.known or NO_COLUMNS
    frame = take_apart(X, source, options, floats=floats)
    rows = to_numbers(frame.rows, source)
    if rows.ndim < 2:
        remedy = "a row of a data frame is X.iloc[[0]], of an array X[:1]"
        raise DataError(f"{source}: expected rows (m, features), got shape {rows.shape}: {remedy}")
    if floats and rows.dtype.kind in "iu" and rows.dtype != np.uint8:
        check_exact(rows.reshape(len(rows), -1), source)
        rows = rows.astype(np.float64)
    fills = options.missing != "error" or (bool(frame.texts) and options.encode == "none")
    rows = as_features(rows, source, fills=fills, hint=hint, names=frame.names or ())
    rows = frame.sort(rows, columns, source)
    return (columns.encode(rows, frame.texts, source) if options.known else rows), frame


def holds_text(array: HostArray, kinds: Any = (str, bytes)) -> bool:
    """Return True if an array holds text, perhaps among other things."""
    types = {*map(type, array.flat)} if array.dtype == object else {array.dtype.type}
    return any(issubclass(each, kinds) for each in types)


def to_numbers(values: object, source: str, *, allow_text: bool = False) -> HostArray:
    """Convert a list, a column or an array of numbers to a NumPy array.

    Raises
    ------
    DataError
        There is something else in it; but text is returned as it is with `allow_text`.
    """
    try:
        array = np.asarray(host_array(values, source))
        if allow_text and holds_text(array, str):
            return array
        if holds_text(array):
            raise DataError(f"{source}: {TEXT}")
        if array.dtype == object:  # Python numbers, None and pandas.NA
            import pandas as pd

            array = np.where(pd.isna(array), np.nan, array).astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # each library raises its own
        msg = f"{source}: expected an array of numbers, got a {type(values).__name__}: {one_line(error)}"
        raise DataError(msg) from error
    if array.dtype.kind not in "buif":
        raise DataError(f"{source}: expected an array of numbers, got {array.dtype}")
    return array


# Weights of the training samples in the loss, from those of samples and of classes


def weigh_samples(
    data: Dataset, sample_weight: object, class_weight: object, labels: Sequence[Any]
) -> Dataset:
    """Return the dataset with the weights of its training samples, and without those of weight 0.

    A weight is that of the sample, (m,) numbers or None for all 1, times that of its class: 1, unless
    `class_weight` is a mapping from labels. `labels` are those of the classes, in their order.

    Raises
    ------
    DataError
        The weights are not finite numbers, 0 or more, one for each sample; all are 0; or one belongs to no
        class.
    """
    weights, of_classes = np.ones(len(data.y_train)), None
    if sample_weight is not None:
        weights = _to_weights("sample_weight", sample_weight, range(len(weights)))
    if isinstance(class_weight, Mapping):
        unknown = class_weight.keys() - set(labels)
        if unknown and set(labels) - class_weight.keys():  # if none is missing, the samples may lack a class
            msg = f"class_weight: {min(map(repr, unknown))} is none of {format_names([*map(str, labels)])}"
            raise DataError(msg)
        of_classes = _to_weights("class_weight", [class_weight.get(label, 1.0) for label in labels], labels)
        weights = weights * of_classes[data.y_train]
    elif sample_weight is None:
        return data
    used = weights > 0
    if not used.any():
        msg = "sample_weight, class_weight: expected a sample of a weight above zero, all have weight zero"
        raise DataError(msg)
    if not used.all():
        data = replace(data, x_train=data.x_train[used], y_train=data.y_train[used])
    return replace(data, weights=weights[used], class_weights=of_classes)


def _to_weights(name: str, values: object, keys: Sequence[object]) -> HostArray:
    """Return checked numbers, one for each key, divided by the largest: products cannot overflow."""
    numbers = to_numbers(values, name).astype(np.float64)
    if numbers.shape != (len(keys),):
        msg = f"{name}: expected {len(keys)} numbers, one for each sample, got {format_shape(numbers.shape)}"
        raise DataError(msg)
    allowed = np.isfinite(numbers) & (numbers >= 0)
    if not allowed.all():
        place = int(allowed.argmin())
        raise DataError(f"{name}[{keys[place]!r}]: expected a finite number, 0 or more, got {numbers[place]}")
    return numbers / (numbers.max() or 1.0)


# The data set that a user's arrays make

Pair = tuple[object, object]


def make_dataset(
    options: TableOptions,
    training: Pair,
    validation: Pair | None,
    weights: Pair,
    classes: Any,
    *,
    floats: bool = False,
) -> Dataset:
    """Return the data set of a user's arrays, and weights of samples and of classes.

    Its notes say what the integers of tables are taken for, if that is not plain: for floats if `floats` is
    set or one is missing.
    """
    table, other = table_from_arrays(*training, "", options, floats=floats), None
    if validation:
        is_float, known = table.x.dtype != np.uint8, TableOptions.of(table.columns)
        other = table_from_arrays(*validation, " in validation_data", known, floats=is_float)
        if other.note and other.x.dtype == np.float64 and not is_float:
            table = table_from_arrays(*training, "", options, floats=True)
    notes = [each.note for each in (table, other) if each and each.note]
    data = replace(join_tables(table, other, classes), notes=tuple(notes))
    return weigh_samples(data, *weights, data.columns.classes or range(data.classes))


def join_tables(training: Table, validation: Table | None = None, classes: int | None = None) -> Dataset:
    """Build a data set from tables.

    Raises
    ------
    DataError
        The tables do not match, or a label is not below the number of classes.
    """
    test = validation or Table(training.x[:0], training.y[:0], "", "")
    largest = {table.y_from: int(table.y.max(initial=0)) for table in (training, test)}
    classes = classes or max(largest.values()) + 1
    for source, label in largest.items():
        if label >= classes:
            raise DataError(f"{source}: expected labels from 0 to {classes - 1}, got {label}")
    if training.columns.classes and classes != len(training.columns.classes):
        msg = f"classes: expected {len(training.columns.classes)}, as many as there are names, got {classes}"
        raise DataError(msg)
    data = join_halves("arrays", training, test)
    return replace(data, from_arrays=True, test_is_validation=len(test.y) > 0, number_of_classes=classes)
