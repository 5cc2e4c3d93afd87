"""The entries of docs/vectors, and whether tests/reference.py and the files beside it compute them."""

import json
import re
import sys
from functools import cache, partial
from itertools import islice, pairwise
from operator import methodcaller
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import patch

import make_vectors
import numpy as np
from vectors import trainings
from vectors.numbers import real

TESTS = Path(__file__).resolve().parents[1]
MODULES = ("reference", "reference_images", "reference_network", "reference_optimisers", "reference_training")
FILES = {name: make_vectors.read(name) for name in make_vectors.FILES}
DEFAULTS = trainings.read_settings({"settings": FILES["trainings"]["defaults"]})


def decoded(value):
    if isinstance(value, str):
        kinds = {r"0x[0-9a-f]{16}": partial(int, base=16), r"-?(0x.*|inf)|nan": float.fromhex}
        return next((read(value) for text, read in kinds.items() if re.fullmatch(text, value)), value)
    if isinstance(value, dict):
        return real(value) if "repeat" in value else {name: decoded(each) for name, each in value.items()}
    return list(map(decoded, value)) if isinstance(value, list) else value


@cache
def compiled(name):
    path = TESTS / f"{name}.py"
    return compile(path.read_text(encoding="utf-8"), str(path), "exec")


def load_reference(sources=()):
    """Return the names of all modules of the reference, some of them made of another text."""
    names = {}
    with patch.dict(sys.modules):
        for name in MODULES:
            sys.modules[name] = module = ModuleType(name)
            exec(compile(sources[name], name, "exec") if name in sources else compiled(name), vars(module))  # noqa: S102
            names |= vars(module)
    return SimpleNamespace(**names)


# Entries: each function returns what the reference computes, and what the entry says


def streams(of, case):
    place = {name: case[name] for name in ("index", "epoch", "seed")}
    words = of.words(case["purpose"], first_use=case["first c0"], **place)
    return list(islice(words, 8)), case["words"]


def initial_parameters(of, case):
    sizes = enumerate(pairwise(case["sizes"]))
    layers = [of.initial_layer(index, *size, case["seed"], case["init"]) for index, size in sizes]
    computed = [weight for weight, _ in layers], [bias.ravel() for _, bias in layers]
    return computed, [case["weights"], case["biases"]]


def dropout(of, case):
    q, s = of.dropout_threshold(case["probability"])
    place = {name: case[name] for name in ("seed", "epoch", "index", "units")}
    numbers = range(case["first sample"], case["first sample"] + len(case["dropped"]))
    drawn = [of.short_integers(of.DROPOUT, number=number, **place) for number in numbers]
    return [q, s, *(np.flatnonzero(row < q) for row in drawn)], [case["q"], case["s"], *case["dropped"]]


def held_out(of, case, purpose, count):
    samples = case["samples"]
    parts = of.split(purpose, samples, count(case["setting"], samples), case["seed"])
    return parts, [case["held out"], case["remaining"]]


def learning_rates(of, case):
    names = {"factor": "schedule_factor", "step_epochs": "schedule_step_epochs"}
    settings, steps = DEFAULTS | {names.get(name, name): value for name, value in case.items()}, case["steps"]
    return [of.learning_rate(settings, t, steps) for t in range(steps * case["epochs"])], case["rates"]


def budgets(of, case):
    def budget(*, pixels):
        try:
            return of.budget(case[0], pixels=pixels)
        except ValueError:
            return None

    return [budget(pixels=False), budget(pixels=True)], case[1:]


def contractions(of, case):
    rows, columns, factor = np.array(case["rows"]), np.array(case["columns"]), case.get("factor")
    budget, bits = of.budget(case["terms"], pixels=factor is not None), [*case["bits"], case["slices"]]
    if "sums" not in case:
        return [budget, of.product(rows, columns.T, factor)], [bits, case["product"]]
    dw, db = of.gradients(rows, columns, factor)
    return [budget, dw, db.ravel()], [bits, case["product"], case["sums"]]


def normalisation(of, case):
    kind = case["features"]
    rows = of.feature(np.array(case["x"]), kind)
    shift, scale = of.normalisation(case["normalize"], rows, pixels=kind == "pixels")
    computed = {"shift": shift, "scale": scale, "inputs": (rows - shift) * scale}
    return by_name({name: value for name, value in computed.items() if name in case}, case)


def by_name(computed, case):
    return computed, {name: case[name] for name in computed}


def weights(of, case):
    w, balanced = of.weights_of(case["labels"], case["weights"]), case["class_weight"] == "balanced"
    return of.weight_factors(case["labels"], w, balanced=balanced), case["factors"]


def losses(of, case):
    loss, backward = of.LOSSES[case["loss"]]
    z = np.array(case["z"])
    y = of.targets(case["labels"], len(z), case["label_smoothing"])
    values = loss(z, y)
    return by_name({"y": y, "losses": values, "sum": of.folded_sum(values), "dz": backward(z, y)}, case)


def activations(of, case, name):
    activation, derivative = of.ACTIVATIONS[name]
    z, da, *expected = case
    return [activation(z), derivative(da, z, activation(z))], expected


def batch_normalisation(of, case):
    names = ("z", "dy", "gamma", "beta", "mean before", "variance before")
    z, dy, *parameters = (np.array(case[name]) for name in names)
    y, of_block, sums = of.batch_norm(z, *parameters[:2])
    dz, dgamma, dbeta = of.batch_norm_backward(dy, parameters[0], *of_block)
    layer = of.Layer([], [], *parameters)
    after = of.update_statistics(layer, layer._replace(mean=sums[0], variance=sums[1]), z.shape[1])
    computed = {"y": y, "dz": dz, "y in evaluation": of.batch_norm_evaluation(z, *parameters)}
    computed |= {"dgamma": dgamma, "dbeta": dbeta, "mean after": after.mean, "variance after": after.variance}
    return by_name(computed, case)


def optimisers(of, case):
    def layer(weight, bias):
        return [of.Layer(*map(np.array, (weight, bias, *[np.zeros((0, 1))] * 4)))]

    state, computed = layer(case["W"], case["b"]), []
    optimiser = of.Optimiser(DEFAULTS | case["settings"], state)
    for step in case["steps"]:
        state = optimiser.step(state, of.pack(layer(step["dW"], step["db"])), step["rate"])
        computed.append([state[0].weight, state[0].bias])
    expected = [[step["W"], step["b"]] for step in case["steps"]]
    v = optimiser.v[: state[0].weight.size].reshape(state[0].weight.shape)
    return [computed, v], [expected, case.get("v", v)]


def variants(of, case):
    settings, image = {**DEFAULTS, "epochs": 1, **case["settings"]}, np.array(case["image"])
    pixel, side = case["pixel"], len(image)
    row, column = pixel["row"], pixel["column"]
    r, d = of.draw(settings, side, **{name: case[name] for name in ("seed", "epoch", "index")})
    computed = [*of.sine_and_cosine(settings["augment_rotate"] * r[2]), r[:5]]
    expected = [pixel[name] for name in ("sine", "cosine", "r")]
    for axis, moved, name in zip(of.transform(r, settings, side), d, ("column", "row"), strict=True):
        place = of.place(axis, column - (side - 1) / 2, row - (side - 1) / 2, moved[row][column])
        expected.append([*pixel[f"for the {name}"].values()])
        computed.append([*axis, place, moved[row][column]][: len(expected[-1])])
    computed += [of.warped(image, settings, r, d)[row][column], of.variant_of(image, settings, r, d)]
    return computed, [*expected, pixel["value"], case["result"]]


def training(of, case):
    settings, data = DEFAULTS | trainings.read_settings(case), (case["features"], case["samples"])
    own = [case.get(f"{kind} weights") for kind in ("sample", "class")]
    return by_name(of.fit(settings, of.samples_by_rule(*data), *own), case)


def named(of, case, name, arguments, result):
    return getattr(of, name)(*(case[each] for each in arguments)), case[result]


ROWS = {
    **{name: (name, [0], 1) for name in ("exp", "log", "sqrt", "tanh", "sigmoid")},
    "numbers": ("uniform", [0], 1),
    "[x]": ("tiny", [0], 1),
    "powers": ("power", [0, 1], 2),
    "cosine shares": ("cosine_share", [0, 1], 2),
    "uses": ("philox", ["counter", "key"], "words"),
    "softmax": ("softmax", ["logits"], "probabilities"),
    "folded": ("folded_sum", ["terms"], "sum"),
    "tree": ("tree_sum", ["blocks"], "sum"),
}
"""Functions, arguments and results of the entries that are of one function."""
ENTRIES = {
    **{entry: partial(named, name=row[0], arguments=row[1], result=row[2]) for entry, row in ROWS.items()},
    "sine and cosine": lambda of, case: (of.sine_and_cosine(case[0]), case[1:]),
    "streams": streams,
    "orders": lambda of, case: (
        of.sorted_words(of.ORDER, case["samples"], epoch=case["epoch"], seed=case["seed"]),
        case["order"],
    ),
    "initial parameters": initial_parameters,
    "dropout": dropout,
    "validation samples": lambda of, case: held_out(of, case, of.VALIDATION, of.count_validation_samples),
    "test samples": lambda of, case: held_out(of, case, of.TEST, of.count_test_samples),
    "learning rates": learning_rates,
    "budgets": budgets,
    "products": contractions,
    "gradients": contractions,
    "blocks": lambda of, case: ([places.stop - places.start for places in of.blocks(case[0])], case[1]),
    "normalisation": normalisation,
    "weights": weights,
    "losses": losses,
    "batch normalisation": batch_normalisation,
    "optimisers": optimisers,
    "G": lambda of, case: (of.gaussian(case["side"], case["sigma"])[0], case["first row"]),
    "variants": variants,
    "trainings": training,
}


def is_computed(of, compute, case):
    """Tell whether floats, arrays, or lists of them have the bits of an entry; all NaN are equal."""
    with np.errstate(all="ignore"):
        computed, expected = (json.dumps(each, default=methodcaller("tolist")) for each in compute(of, case))
    return computed == expected


def checks(of):
    """Yield the name of each vector, and what tells whether the reference computes it; trainings last."""
    for file in ("random", "functions", "sums", "network", "contractions", "images", "trainings"):
        tables = {name: rows for name, rows in FILES[file].items() if isinstance(rows, list)}
        for name, rows in FILES[file].get("activations", {}).items():
            tables[f"activations {name}"] = rows
        for entry, cases in tables.items():
            compute = ENTRIES.get(entry) or partial(activations, name=entry.removeprefix("activations "))
            for number, case in enumerate(decoded(cases)):
                name = case.get("name", number) if isinstance(case, dict) else number
                yield f"{entry} {name}", partial(is_computed, of, compute, case)
