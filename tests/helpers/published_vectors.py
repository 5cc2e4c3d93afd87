"""The entries of docs/vectors, and whether tests/reference.py and the files beside it compute them."""

import json
import sys
from collections.abc import Callable
from functools import cache, partial
from itertools import islice, pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import make_vectors
import numpy as np
from vectors import trainings
from vectors.numbers import real

TESTS = Path(__file__).resolve().parents[1]
MODULES = ("reference", "reference_images", "reference_network", "reference_optimisers", "reference_training")
FILES = {name: make_vectors.read(name) for name in make_vectors.FILES}
OF_IMAGES = {
    f"augment_{name}": 0.0 for name in ("shift", "rotate", "scale", "shear", "elastic_alpha", "thickness")
}
OF_IMAGES |= {"augment_elastic_sigma": None, "augment_fade_epochs": 0, "epochs": 1}
OF_RATES = {"schedule_factor": None, "schedule_step_epochs": None, "warmup_epochs": 0}
OF_OPTIMISERS = {"clip_norm": None, "max_norm": None, "weight_decay": None, "momentum": None}
DEFAULTS = trainings.read_settings({"settings": FILES["trainings"]["defaults"]})
Check = Callable[[], bool]
write = partial(json.dumps, default=lambda array: array.tolist())


def same(a, b):
    """Tell whether two floats, arrays, or lists of them, have the same bits; all NaN are equal."""
    return write(a) == write(b)


def whole(text):
    """Return the word of a text, or of each of a list."""
    return [whole(item) for item in text] if isinstance(text, list) else int(text, 16)


@cache
def compiled(name):
    """Return the code of a module of the reference."""
    path = TESTS / f"{name}.py"
    return compile(path.read_text(encoding="utf-8"), str(path), "exec")


def load_reference(sources=()):
    """Return the names of all modules of the reference, some of them made of another text."""
    saved = {name: sys.modules.get(name) for name in MODULES}
    names = {}
    try:
        for name in MODULES:
            module = ModuleType(name)
            sys.modules[name] = module
            exec(compile(sources[name], name, "exec") if name in sources else compiled(name), vars(module))  # noqa: S102
            names |= vars(module)
    finally:
        for name, module in saved.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return SimpleNamespace(**names)


def random_numbers(of, entry, case):
    """Check an entry of random.json."""
    if entry == "numbers":
        return same(of.uniform(whole(case[0])), real(case[1]))
    if entry == "uses":
        return list(of.philox(whole(case["counter"]), whole(case["key"]))) == whole(case["words"])
    place = {"seed": whole(case["seed"])}
    if entry == "streams":
        place |= {"index": whole(case["index"]), "epoch": whole(case["epoch"]), "first_use": case["first c0"]}
        return list(islice(of.words(case["purpose"], **place), 8)) == whole(case["words"])
    if entry == "orders":
        order = of.sorted_words(of.ORDER, case["samples"], epoch=case["epoch"], **place)
        return same(order, case["order"])
    if entry == "initial parameters":
        sizes = enumerate(pairwise(case["sizes"]))
        layers = [of.initial_layer(index, *size, place["seed"], case["init"]) for index, size in sizes]
        computed = [[weight for weight, _ in layers], [bias.ravel() for _, bias in layers]]
        return same(computed, real([case["weights"], case["biases"]]))
    return drawn_for_samples(of, entry, case)


def drawn_for_samples(of, entry, case):
    """Check dropout, or the samples that are held out."""
    seed = whole(case["seed"])
    if entry == "dropout":
        q, s = of.dropout_threshold(real(case["probability"]))
        place = {name: case[name] for name in ("epoch", "index", "units")}
        dropped = []
        for number, _ in enumerate(case["dropped"], start=case["first sample"]):
            numbers = of.short_integers(of.DROPOUT, seed=seed, number=number, **place)
            dropped.append(np.flatnonzero(numbers < q))
        return same((q, s, dropped), (case["q"], real(case["s"]), case["dropped"]))
    is_test, samples, setting = entry == "test samples", case["samples"], real(case["setting"])
    size = of.count_test_samples if is_test else of.count_validation_samples
    parts = of.split(of.TEST if is_test else of.VALIDATION, samples, size(setting, samples), seed)
    return same(parts, (case["held out"], case["remaining"]))


def functions(of, entry, case):
    """Check an entry of functions.json."""
    if entry == "softmax":
        return same(of.softmax(real(case["logits"])), real(case["probabilities"]))
    if entry == "learning rates":
        numbers = {name: value if name == "schedule" else real(value) for name, value in case.items()}
        names = {"factor": "schedule_factor", "step_epochs": "schedule_step_epochs"}
        settings = OF_RATES | {names.get(name, name): value for name, value in numbers.items()}
        steps = case["steps"]
        return same(
            [of.learning_rate(settings, t, steps) for t in range(steps * case["epochs"])], numbers["rates"]
        )
    *arguments, result = real(case)
    if entry == "sine and cosine":
        return same(of.sine_and_cosine(arguments[0]), (arguments[1], result))
    names = {"powers": "power", "cosine shares": "cosine_share"}
    return same(getattr(of, names.get(entry, entry))(*arguments), result)


def budget(of, terms, *, pixels):
    """Return the budget of a contraction, None if it is refused."""
    try:
        return list(of.budget(terms, pixels=pixels))
    except ValueError:
        return None


def contractions(of, entry, case):
    """Check an entry of contractions.json."""
    if entry == "budgets":
        return [budget(of, case[0], pixels=pixels) for pixels in (False, True)] == case[1:]
    rows, columns = (np.array(real(case[name])) for name in ("rows", "columns"))
    factor = real(case.get("factor"))
    bits = (*case["bits"], case["slices"])
    if of.budget(case["terms"], pixels=factor is not None) != bits:
        return False
    if "sums" in case:
        dw, db = of.gradients(rows, columns, factor)
        return same([dw, db.ravel()], real([case["product"], case["sums"]]))
    return same(of.product(rows, columns.T, factor), real(case["product"]))


def sums(of, entry, case):
    """Check an entry of sums.json."""
    if entry == "folded":
        return same(of.folded_sum(real(case["terms"])), real(case["sum"]))
    if entry == "tree":
        return same(of.tree_sum(real(case["blocks"])), real(case["sum"]))
    if entry == "blocks":
        return [places.stop - places.start for places in of.blocks(case[0])] == case[1]
    return same(of.tiny(real(case[0])), real(case[1]))


def network(of, entry, case):
    """Check an entry of network.json."""
    if entry == "normalisation":
        kind = case["features"]
        rows = of.feature(np.array(real(case["x"])), kind)
        fitted = of.normalisation(case["normalize"], rows, pixels=kind == "pixels")
        expected, computed = [real(case["shift"]), real(case["scale"])], list(fitted)
        if "inputs" in case:
            expected.append(real(case["inputs"]))
            computed.append((rows - fitted[0]) * fitted[1])
        return same(computed, expected)
    if entry == "weights":
        balanced, own = case["class_weight"] == "balanced", case["weights"]
        w = of.weights_of(case["labels"], own and real(own))
        factors = of.weight_factors(case["labels"], w, balanced=balanced)
        return same(factors, real(case["factors"]))
    if entry == "losses":
        loss, backward = of.LOSSES[case["loss"]]
        z = np.array(real(case["z"]))
        y = of.targets(case["labels"], len(z), real(case["label_smoothing"]))
        losses = loss(z, y)
        computed = [y, losses, of.folded_sum(losses), backward(z, y)]
        return same(computed, [real(case[name]) for name in ("y", "losses", "sum", "dz")])
    if entry == "batch normalisation":
        return batch_normalisation(of, case)
    if entry == "optimisers":
        return optimiser(of, case)
    activation, derivative = of.ACTIVATIONS[entry.removeprefix("activations ")]
    z, da, *expected = real(case)
    return same([activation(z), derivative(da, z, activation(z))], expected)


def batch_normalisation(of, case):
    """Check a block of batch normalisation."""
    names = ("z", "dy", "gamma", "beta", "mean before", "variance before")
    z, dy, *parameters = (np.array(real(case[name])) for name in names)
    y, of_block, sums = of.batch_norm(z, *parameters[:2])
    dz, dgamma, dbeta = of.batch_norm_backward(dy, parameters[0], *of_block)
    layer = of.Layer([], [], *parameters)
    after = of.update_statistics(layer, layer._replace(mean=sums[0], variance=sums[1]), z.shape[1])
    computed = {"y": y, "dz": dz, "y in evaluation": of.batch_norm_evaluation(z, *parameters)}
    computed |= {"dgamma": dgamma, "dbeta": dbeta, "mean after": after.mean, "variance after": after.variance}
    return same(computed, {name: real(case[name]) for name in computed})


def optimiser(of, case):
    """Check the steps of an optimiser on a layer."""
    settings = {
        name: value if name == "optimizer" else real(value) for name, value in case["settings"].items()
    }

    def layer(weight, bias):
        return [of.Layer(*map(np.array, (real(weight), real(bias), *[np.zeros((0, 1))] * 4)))]

    state = layer(case["W"], case["b"])
    steps = of.Optimiser(OF_OPTIMISERS | settings, state)
    for step in case["steps"]:
        state = steps.step(state, of.pack(layer(step["dW"], step["db"])), real(step["rate"]))
        if not same(state, layer(step["W"], step["b"])):
            return False
    return "v" not in case or same(steps.v[steps.is_weight].reshape(state[0].weight.shape), real(case["v"]))


def images(of, entry, case):
    """Check an entry of images.json."""
    if entry == "G":
        return same(of.gaussian(case["side"], real(case["sigma"]))[0], real(case["first row"]))
    settings = OF_IMAGES | {name: real(value) for name, value in case["settings"].items()}
    image, pixel = np.array(case["image"]), case["pixel"]
    side, row, column = len(image), pixel["row"], pixel["column"]
    r, d = of.draw(settings, side, seed=whole(case["seed"]), epoch=case["epoch"], index=case["index"])
    degrees = settings["augment_rotate"] * r[2]
    expected = [real(pixel[name]) for name in ("r", "degrees", "sine", "cosine")]
    if not same([r[:5], degrees, *of.sine_and_cosine(degrees)], expected):
        return False
    places = []
    for number, axis in enumerate(of.transform(r, settings, side)):
        values = real(list(pixel["for the row" if number else "for the column"].values()))
        of_pixel = d[number][row][column]
        place = of.place(axis, column - (side - 1) / 2, row - (side - 1) / 2, of_pixel)
        if not same([*axis, place, of_pixel][: len(values)], values):
            return False
        places.append(of.clamped(place, side))
    if places != [
        128 * (at + 1) + rest for at, rest in zip(pixel["P at"][::-1], pixel["fx, fy"], strict=True)
    ]:
        return False
    if of.warped(image, settings, r, d)[row][column] != pixel["value"]:
        return False
    return same(of.variant_of(image, settings, r, d), case["result"])


def training(of, entry, case):
    """Check a training."""
    settings = DEFAULTS | trainings.read_settings(case)
    weights = [real(case.get(f"{kind} weights")) for kind in ("sample", "class")]
    computed = of.fit(settings, of.samples_by_rule(case["features"], case["samples"]), *weights)
    expected = {name: real(case[name]) if name in WITH_FLOATS else case[name] for name in computed}
    return same(computed, expected)


WITH_FLOATS = {"history", "test", "probabilities"}
CHECKS = {
    "random": random_numbers,
    "functions": functions,
    "sums": sums,
    "network": network,
    "contractions": contractions,
    "images": images,
    "trainings": training,
}


def checks(of):
    """Yield the name of each vector, and what tells whether the reference computes it; trainings last."""
    for file, check in CHECKS.items():
        entries = {name: value for name, value in FILES[file].items() if isinstance(value, list)}
        if file == "network":
            of_activations = FILES[file]["activations"].items()
            entries |= {f"activations {name}": rows for name, rows in of_activations}
        for entry, cases in entries.items():
            for number, case in enumerate(cases):
                name = case.get("name", number) if isinstance(case, dict) else number
                yield f"{entry} {name}", partial(np.errstate(all="ignore")(check), of, entry, case)
