"""The cache of what g++ compiles for the emulated device."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import pytest

from xpnet.emulation import build, kernels, wheels
from xpnet.errors import BackendError

pytestmark = [pytest.mark.tooling, pytest.mark.needs("emulated-cuda")]

ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }'

DAMAGES = pytest.mark.parametrize(
    "damage", [lambda x: x[:-1], lambda x: x[:5000] + b"?" + x[5001:], lambda _: b""]
)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    clear = (build.cache_folder.cache_clear, build.precompile.cache_clear)
    for each in clear:
        each()
    yield tmp_path
    for each in clear:
        each()


def answer(library):
    return ctypes.CDLL(str(library)).answer()


def test_a_library_is_compiled_once():
    library = build.build("answer.so", (), ANSWER)
    before = library.stat().st_mtime_ns
    assert build.build("answer.so", (), ANSWER) == library
    assert library.stat().st_mtime_ns == before
    assert answer(library) == 42


def test_a_source_that_changes_is_compiled_anew(tmp_path):
    file = tmp_path / "answer.cpp"
    for number in (42, 43):
        file.write_text(ANSWER.replace("42", str(number)))
        assert answer(build.build("answer.so", [file])) == number


@DAMAGES
def test_a_damaged_library_is_compiled_anew(damage):
    library = build.build("answer.so", (), ANSWER)
    whole = library.read_bytes()
    library.write_bytes(damage(whole))
    assert answer(build.build("answer.so", (), ANSWER)) == 42
    assert library.read_bytes() == whole


@DAMAGES
def test_a_damaged_compiled_header_is_compiled_anew(damage):
    text, flags = "#define ANSWER 42\n", ("-O2", "-Werror=invalid-pch", "-Winvalid-pch")
    compiled = build.precompile(text, flags).with_suffix(".h.gch")
    compiled.write_bytes(damage(compiled.read_bytes()))
    build.precompile.cache_clear()
    assert answer(build.build("included.so", flags, ANSWER.replace("42", "ANSWER"), text)) == 42
    compiled_at = compiled.stat().st_mtime_ns
    build.precompile.cache_clear()
    build.precompile(text, flags)
    assert compiled.stat().st_mtime_ns == compiled_at


def test_threads_compile_at_once_and_leave_nothing_behind(empty_cache):
    with ThreadPoolExecutor(4) as threads:
        libraries = {*threads.map(lambda _: build.build("answer.so", (), ANSWER), range(4))}
    assert [answer(library) for library in libraries] == [42]
    assert [*build.cache_folder().iterdir()] == [*libraries]


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [(wheels, "find", lambda: ("cupy-cuda12x", "99")), (build, "_run_compiler", lambda *_: "99")],
    ids=["CuPy", "compiler"],
)
def test_another_cupy_and_another_compiler_have_a_cache_of_their_own(monkeypatch, place, name, value):
    folder = build.cache_folder()
    monkeypatch.setattr(place, name, value)
    build.cache_folder.cache_clear()
    assert build.cache_folder() != folder


def test_what_cannot_be_compiled_is_one_line():
    with pytest.raises(BackendError, match=r"g\+\+ cannot compile answer.so: <stdin>:1:\d+: error: [^\n]*$"):
        build.build("answer.so", (), "int f( {")


RAW_OUTPUT = (
    '#include "cupy/carray.cuh"\nextern "C" __global__ void f(const CArray<double, 1, 1, 1> _raw_x, '
    "CArray<double, 1, 1, 1> y, CIndexer<1> _ind) {{ CUPY_FOR(i, _ind.size()) {{ {} }} }}"
)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        (RAW_OUTPUT.format("y[0] = i;"), "SEQUENCE"),
        (RAW_OUTPUT.replace("> y", "> _raw_y").format("_raw_y[i] = i;"), ""),
        (RAW_OUTPUT.replace("> y", "> _raw_y").format("if (i > 2) return;"), "SEQUENCE"),
        (RAW_OUTPUT.format("__syncthreads();"), "FIBERS"),
        ('extern "C" __global__ void f(int* x) { x[threadIdx.x] = 1; }', "FIBERS"),
    ],
)
def test_threads_run_as_the_kernel_needs(monkeypatch, source, kind):
    monkeypatch.setattr(build, "build", lambda _name, _flags, _text, header: header)
    lines = kernels.build_kernels(source, ()).splitlines()
    assert [line for line in lines if "define" in line] == [f"#define EMULATED_{kind}"] * bool(kind)


def test_a_file_that_a_kernel_includes_may_change(monkeypatch, tmp_path):
    monkeypatch.setattr(build, "build", lambda _name, _flags, text, _header: text)
    source = '#include "own.h"\nextern "C" __global__ void f(int* x) { x[0] = OWN; }'
    texts = set()
    for number in (1, 2, 2):
        (tmp_path / "own.h").write_text(f"#define OWN {number}\n")
        texts.add(kernels.build_kernels(source, [f"-I{tmp_path}"]))
    assert len(texts) == 2


def test_a_cache_does_not_depend_on_the_folder_of_cupy():
    def name(folder):
        return build.digest(("source", [f"-I{folder}", "-O2"]))

    assert name("/a/b c/cupy/_core/include") == name("/d/cupy/_core/include") != name("/d/own")


def test_kernels_are_found_but_for_templates():
    source = """
    template <typename T> __global__ void many(T* x) {}
    extern "C" __global__ void __launch_bounds__(128) one(int* x) {}
    extern "C" { __global__ void two() {} }
    """
    assert kernels.find_names(source) == ["one", "two"]
