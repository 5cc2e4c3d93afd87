"""The cases that docs/course/check.py gives to a program, and their answers."""

import json
import tomllib
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
VECTORS, MNIST, HERE = ROOT / "docs" / "vectors", ROOT / "data" / "mnist", ROOT / "tests" / "course"
FILES = {"images": "images-idx3", "labels": "labels-idx1"}
MISTAKES = tomllib.loads((HERE / "mistakes.toml").read_text(encoding="utf-8"))
"""The known mistakes in each function, in the order of the exercises: edits of solution.py by their names."""


def philox(seed, purpose, epoch, number, index=0):
    return np.random.Philox(key=int(seed), counter=[0, index, epoch, purpose]).random_raw(number)


def make_case(function, m, rng):
    """Return a case of random numbers, with m samples.

    Parameters are small beside their steps, so that the last bits of a step are not lost.
    """

    def draw(*shape):
        return rng.uniform(-1, 1, shape)

    is_odd, Y = m % 2 == 1, rng.integers(10, size=m)
    Z = np.where(rng.random((10, m)) < 0.1, 0.0, draw(10, m))
    steps = {"W": 0.01 * draw(4, 6), "b": 0.01 * draw(4, 1), "dW": draw(40, 4, 6), "db": draw(40, 4, 1)}
    steps["rates"] = rng.uniform(0.01, 0.1, 40)
    training = {"W1": 0.01 * draw(10, 5), "b1": draw(10, 1), "W2": draw(10, 10), "b2": draw(10, 1)}
    training |= {"X": rng.integers(256, size=(5, m)), "Y": Y, "alpha": 0.7, "epochs": 2}
    if function == "train":  # of thousands of samples
        return training
    numbers, p, q = rng.integers(65536, size=(10, m)), *((0.1, 6554) if is_odd else (16384.5 / 65536, 16384))
    numbers[0, :2] = q - 1, q
    seed = rng.integers(2**63)
    words = [[f"0x{word:016x}" for word in philox(seed, 2, epoch, m)] for epoch in range(4)]
    cases = {
        "layer": {"W": draw(m, m), "A": draw(m, m), "b": draw(m, 1)},
        "activate": {"Z": 20 * Z},
        "loss": {"Z": 5 * Z, "Y": Y},
        "backward": {"W2": draw(10, 10), "X": rng.integers(256, size=(12, m)) if is_odd else draw(12, m)}
        | {"Z1": Z, "A1": np.maximum(Z, 0), "A2": rng.random((10, m)), "Y": Y, "m": 49 if is_odd else m},
        "update": steps,
        "batches": training | {"words": words, "size": 3, "epochs": 3},
        "optimize": {"kind": "adam" if is_odd else "momentum", **steps, "decay": 0.01},
        "drop": {"A": np.abs(Z), "dA": draw(10, m), "numbers": numbers, "p": p},
        "normalize": {"Z": Z, "dY": draw(10, m), "gamma": draw(10, 1), "beta": draw(10, 1)}
        | {"mean": 0.01 * draw(10, 1), "variance": 0.01 * rng.random((10, 1))},
    }
    return cases[function]


def made_cases(function, seed):
    """Return cases of random numbers: of 10 and 13 samples, and for an epoch of four blocks."""
    more = {"train": [3100], "loss": [*range(30, 50)]}  # four blocks; means whose roundings differ
    numbers = (10, 13, *more.get(function, ()))
    return [make_case(function, m, np.random.default_rng([seed, m])) for m in numbers]


def read_vectors(file, part):

    def real(value):
        if isinstance(value, str) and value.lstrip("-").startswith("0x") and "p" in value:
            return float.fromhex(value)
        return list(map(real, value)) if isinstance(value, list) else value

    def entry(values):
        return {name: real(value) for name, value in values.items()}

    return json.loads((VECTORS / f"{file}.json").read_text(encoding="utf-8"), object_hook=entry)[part]


NORM = {"Z": "z", "dY": "dy", "mean": "mean before", "variance": "variance before"}
PUBLISHED = {
    "layer": (
        *("contractions", "products", slice(5)),
        lambda e: {"W": e["rows"], "A": np.transpose(e["columns"]), "b": [[0.0], [0.0]]},
    ),
    "activate": ("functions", "softmax", slice(None), lambda e: {"Z": np.transpose([e["logits"]])}),
    "loss": ("network", "losses", slice(1), lambda e: {"Z": e["z"], "Y": e["labels"]}),
    "normalize": (
        *("network", "batch normalisation", slice(2)),
        lambda e: {name: e[name] for name in ("gamma", "beta")} | {name: e[NORM[name]] for name in NORM},
    ),
}
"""For a function a file of docs/vectors, its part, the entries, and what makes arguments of an entry."""


def published_cases(function):
    if function not in PUBLISHED:
        return []
    file, part, which, arguments = PUBLISHED[function]
    return [arguments(entry) for entry in read_vectors(file, part)[which]]


def mnist_case(epochs):
    """Return the default run of docs/reproducibility.md, section 13, as the arguments of mnist."""
    case = {name: str(MNIST / f"train-{file}-ubyte.gz") for name, file in FILES.items()}
    for layer, (units, inputs) in enumerate([(10, 784), (10, 10)]):
        u = (philox(0, 1, 0, units * (inputs + 1), index=layer) >> np.uint64(40)) * 2.0**-24 - 0.5
        W, b = np.split(u, [units * inputs])
        case |= {f"W{layer + 1}": W.reshape(units, inputs), f"b{layer + 1}": b.reshape(units, 1)}
    order = np.argsort(philox(0, 2, 0, 60_000), kind="stable")
    return case | {"order": order, "alpha": 0.1, "epochs": epochs}


def solve(function, cases, edits=()):
    """Return the right answers, or those of a mistake: old and new texts, in turn, of the solution."""

    def plain(value):
        return list(map(plain, value)) if isinstance(value, list) else np.asarray(value, float).tolist()

    text, names = (HERE / "solution.py").read_text(encoding="utf-8"), {}
    for old, new in zip(edits[::2], edits[1::2], strict=True):
        text = text.replace(old, new)
    exec(text, names)  # noqa: S102
    answers = []
    for case in cases:
        values = {name: np.array(value) if np.ndim(value) else value for name, value in case.items()}
        with np.errstate(all="ignore"):
            answers.append({name: plain(value) for name, value in names[function](**values).items()})
    return answers
