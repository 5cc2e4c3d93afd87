"""The namespace of the array-API standard for `Array`, of each library."""

import math
from collections.abc import Mapping
from functools import cache, partial
from itertools import cycle
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

import numpy as np

from xpnet._lib.tree import leaves, tree_map
from xpnet._typing import Device, DType, Function, Functions, HostArray
from xpnet.backends.resolve import BACKENDS, backend_of, import_backend, make
from xpnet.errors import BackendError
from xpnet.reproducible import creation, elementwise, linalg, reductions
from xpnet.reproducible.array import Array
from xpnet.reproducible.places import DTYPES, Place, isdtype, kind_of, name_of, place_of_array, promote

VERSION = "2024.12"
CONSTANTS = {"e": math.e, "inf": math.inf, "nan": math.nan, "pi": math.pi, "newaxis": None}

EXACT = """
    take take_along_axis repeat roll tile tril triu argmax argmin count_nonzero nonzero all any
""".split()  # noqa: SIM905
"""Names whose results IEEE 754 or the standard fixes: the library's own."""
VIEWS = """
    broadcast_to broadcast_arrays expand_dims flip matrix_transpose meshgrid moveaxis permute_dims reshape
    squeeze unstack
""".split()  # noqa: SIM905
"""Names whose results may share memory with their argument."""
LIMITS = {"finfo": ("eps", "max", "min", "smallest_normal"), "iinfo": ("max", "min")}
"""The names of limits of dtypes."""
MISSING = dict.fromkeys(("complex64", "complex128"), "it has real numbers: take both parts")
ELSEWHERE = "compute it on the host, of numpy.asarray(x), whose bits may differ, and wrap the result"
FFT = """
    fft ifft fftn ifftn rfft irfft rfftn irfftn hfft ihfft fftfreq rfftfreq fftshift ifftshift
""".split()  # noqa: SIM905
"""Names that are refused in a line: code that finds no extension computes on the host without a word."""


def _refuse(name: str, *_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError(f"{name} is not part of xpnet.reproducible: {ELSEWHERE}")


def _unwrap(name: str, place: Place, value: Any) -> Any:
    """Return the data of an array; other arguments as they are, but no plain arrays."""
    if isinstance(value, Array):
        place.check(name, value.place)
        return value.data
    if hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic):
        elementwise.as_operand(name, value)
    return value


def _delegate(name: str, *args: Any, **options: Any) -> Any:
    """Call the library's function, whose first argument is an array, and mark views as such."""
    place, _, _ = elementwise.operands(name, *args[:1])
    unwrap = partial(_unwrap, name, place)
    with place.scope():
        named = {key: tree_map(unwrap, value) for key, value in options.items()}
        results = getattr(place.xp, name)(*tree_map(unwrap, args), **named)
    results = tree_map(partial(Array, place), results)
    if name not in VIEWS:
        return results
    several = [*leaves(results)]
    for result, source in zip(several, args if len(args) == len(several) else cycle(args[:1]), strict=False):
        result.mark_view_of(source)
    return results if isinstance(results, Array) or name == "unstack" else several


def _join(name: str, arrays: Any, /, **options: Any) -> Any:
    """Join arrays in the dtype to which they promote."""
    return elementwise.call(lambda place, _, *data: getattr(place.xp, name)(data, **options), name, *arrays)


class Namespace:
    """The functions of the array-API standard for `Array` over one library, with the same bits on each."""

    __array_api_version__ = VERSION

    def __init__(self, name: str) -> None:
        self.library = name
        self.at = cache(partial(Place, self, name))  # by the name, as in --device
        self._places = dict[str, Place]()  # by the text of the device: CuPy's have no hash
        self.__name__ = f"xpnet.reproducible.namespace({name!r})"
        with_space = {each: partial(function, self) for each, function in WITH_SPACE.items()}
        self.__dict__.update(ALIKE | with_space)

    def __repr__(self) -> str:
        return f"<{self.__name__}>"

    def __reduce__(self) -> tuple[Function, tuple[str]]:
        return namespace, (self.library,)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *DTYPES})

    def __getattr__(self, name: str) -> Any:
        if name not in DTYPES:
            reason = MISSING.get(name, f"it is not in the array-API standard {VERSION}")
            raise AttributeError(f"{self.__name__} has no {name}: {reason}")
        value = getattr(self.place(None).backend.standard, name)
        value = np.dtype(name) if isinstance(value, type) else value  # as arrays of NumPy and JAX have it
        self.__dict__[name] = value
        return value

    def __array_namespace_info__(self) -> SimpleNamespace:
        host = make("numpy", "cpu").standard.__array_namespace_info__()

        def of_library(dtypes: Mapping[str, DType]) -> dict[str, DType]:
            names = {key: np.dtype(each).name for key, each in dtypes.items()}
            return {key: getattr(self, name) for key, name in names.items() if name in DTYPES}

        return SimpleNamespace(
            capabilities=host.capabilities,
            default_device=lambda: self.place(None).backend.device,
            default_dtypes=lambda *, device=None: of_library(host.default_dtypes()),  # noqa: ARG005  all alike
            devices=lambda: [self.place(None).backend.device],
            dtypes=lambda *, device=None, kind=None: of_library(host.dtypes(kind=kind)),  # noqa: ARG005
        )

    # Places

    def place(self, device: Device | None) -> Place:
        """Return the place of a device of the library, by default that of its new arrays."""
        if str(device) not in self._places:
            self._places[str(device)] = self._find_place(device)
        return self._places[str(device)]

    def _find_place(self, device: Device | None) -> Place:
        backend = import_backend(self.library)
        default = backend("cuda:0" if self.library == "cupy" else "cpu")
        if device in (None, "cpu"):
            return self.at(default.device_name)
        if self.library == "numpy":
            raise BackendError(f"numpy has no device {device!r}, only cpu")
        with default.scope():
            return self.at(backend.name_device(default.standard.zeros(0, device=device)))

    def adopt(self, value: Any) -> Array | None:
        """Wrap an array of the library; None for other values."""
        if self.library != "numpy" if isinstance(value, np.ndarray) else backend_of(value) is None:
            return None
        library, device = place_of_array("asarray", value)
        if library != self.library:
            raise TypeError(f"asarray: expected an array of {self.library}, got one of {library}")
        name_of(value.dtype)
        place = self.at(device)
        value = value.detach() if hasattr(value, "detach") else value
        return Array(place, place.put(np.array(place.backend.to_host(value))) if place.is_hosted else value)

    def rebuild(self, host: HostArray, device_name: str) -> Array:
        """Return a pickled array."""
        return Array(self.at(device_name), self.at(device_name).put(host))

    # Results and operands

    operands = staticmethod(elementwise.operands)


def _name_of(x: Any) -> str:
    """Return the name of a dtype, or of that of an array."""
    return name_of(x.dtype if isinstance(x, Array) else x)


def _result_type(space: Namespace, *values: Any) -> DType:
    """Return the dtype to which arrays, dtypes and numbers promote."""
    kinds = (kind_of(x.dtype if isinstance(x, Array) else x) for x in values)
    return getattr(space, promote(*kinds))


def _can_cast(from_: Any, to: DType, /) -> bool:
    """Tell whether a dtype promotes to another."""
    return bool(np.can_cast(_name_of(from_), name_of(to)))


def _limits(kind: str, space: Namespace, x: Any, /) -> SimpleNamespace:
    """Return the limits of a dtype."""
    name = _name_of(x)
    limits = getattr(np, kind)(name)
    numbers = {each: np.asarray(getattr(limits, each)).item() for each in LIMITS[kind]}
    return SimpleNamespace(bits=int(limits.bits), dtype=getattr(space, name), **numbers)


WITH_SPACE: Functions = {
    **creation.OWN,
    "result_type": _result_type,
    **{kind: partial(_limits, kind) for kind in LIMITS},
}
NAMES: Functions = {
    **WITH_SPACE,
    **{name: partial(_delegate, name) for name in (*EXACT, *VIEWS)},
    **{name: partial(_join, name) for name in ("concat", "stack")},
    **elementwise.OWN,
    **reductions.OWN,
    "can_cast": _can_cast,
    "isdtype": isdtype,
}
"""The functions of the namespace, by name."""
EXTENSIONS: dict[str, Functions] = {
    "fft": {name: partial(_refuse, f"fft.{name}") for name in FFT},
    "linalg": {**linalg.OWN, "matrix_transpose": NAMES["matrix_transpose"]},
}
ALIKE = {**NAMES, **CONSTANTS, **{name: SimpleNamespace(**table) for name, table in EXTENSIONS.items()}}
"""What namespaces of all libraries have in common."""


_namespace_of = cache(Namespace)


def namespace(library: str | ModuleType) -> Namespace:
    """Return the array-API namespace with the bits of `xpnet.reproducible` on a library.

    Parameters
    ----------
    library
        Its name, as in ``--backend``, or a module: torch, jax.numpy, array_api_compat.numpy.

    Raises
    ------
    BackendError
        xpnet does not know the library.
    """
    name = library if isinstance(library, str) else getattr(library, "__name__", "")
    name = name.removeprefix("array_api_compat.").removesuffix(".numpy").replace("_", "-")
    if name not in BACKENDS:
        raise BackendError(f"namespace: expected one of {', '.join(BACKENDS)}, got {library!r:.60}")
    return _namespace_of(name)


def asarray(x: Any, /) -> Array:
    """Wrap an array of any library, whose memory is shared but on JAX; a list or a number is NumPy's.

    Raises
    ------
    TypeError
        The dtype is complex, or not one of the standard's.
    """
    if isinstance(x, Array):
        return x
    backend = backend_of(x)
    return creation.asarray(namespace(backend.name if backend else "numpy"), x)
