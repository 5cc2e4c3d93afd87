#!/usr/bin/env bash
# Trains two epochs on this machine and on an emulated arm64 one, and compares the bits of both.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/check_arm64.sh [--python PYTHON] [--work DIR]

Runs `python -m xpnet.train --epochs 2` on all 60,000 images with this machine's Python and with arm64 Python
and NumPy under user-mode emulation, and compares fingerprint, history and test figures. A plain float64
matrix product is printed beside them; it differs, which shows that the two compute differently.

  --python PYTHON  this machine's Python, with xpnet's dependencies and pip (default: $PYTHON, else python3)
  --work DIR       keep what was fetched in DIR, and use what is there (default: a temporary folder)

Needs Debian or Ubuntu's apt-get and dpkg, their package sources, and about 400 MB; neither root nor
installed packages: the emulator and the arm64 packages are unpacked into the work folder.

Exit codes: 0 the same bits, 1 other bits or a training that fails, 2 something that is needed is missing.
USAGE
}

fail() {
    echo "check_arm64: $*" >&2
    exit 2
}

PYTHON=${PYTHON:-python3}
WORK=
while [[ $# -gt 0 ]]; do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --python | --work)
            [[ -n ${2:-} ]] || fail "$1 needs a value (--help)"
            [[ $1 == --python ]] && PYTHON=$2 || WORK=$2
            shift 2
            ;;
        *) fail "unknown argument $1 (--help)" ;;
    esac
done

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$repository PYTHONNOUSERSITE=1

for tool in apt-get dpkg dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing: this check needs Debian or Ubuntu"
done
native=$(dpkg --print-architecture)
[[ $native != arm64 ]] || fail "this machine is an arm64 one: run the check on another"
PYTHON=$(command -v "$PYTHON") || fail "no such Python: name one with --python"
[[ $("$PYTHON" -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null) == True ]] ||
    fail "$PYTHON is no Python 3.11 or newer: name one with --python"
"$PYTHON" -c 'import pip, xpnet.training.console, xpnet.data.datasets, rich, filelock, jinja2, tomli_w, threadpoolctl' 2>/dev/null ||
    fail "$PYTHON lacks pip or a dependency of xpnet: name another with --python, or pip install ."

if [[ -z $WORK ]]; then
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
else
    mkdir -p "$WORK" 2>/dev/null || fail "--work: $WORK cannot be made"
    WORK=$(cd "$WORK" && pwd)
fi
root=$WORK/root site=$WORK/site log=$WORK/log
touch "$log" 2>/dev/null || fail "--work: $WORK cannot be written"
export PYTHONPYCACHEPREFIX=$WORK/pycache

# Run a command that is no result of the check: its output goes to the log, its last line to the user if it fails.
quietly() {
    local what=$1
    shift
    "$@" >>"$log" 2>&1 || fail "cannot $what: $(tail -n 1 "$log")"
}

# Download packages of an architecture, with all they depend on, and unpack them into a folder.
# An apt configuration of its own, with empty lists and nothing installed, leaves the machine's alone.
unpack() {
    local architecture=$1 folder=$2 apt=$WORK/apt-$1
    shift 2
    mkdir -p "$apt"/{state/lists/partial,cache/archives/partial} "$folder/usr/lib"
    : >"$apt/status"
    cat >"$apt/apt.conf" <<CONFIGURATION
#clear APT::Architectures;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "true";
Dir::State "$apt/state";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Log "$apt";
CONFIGURATION
    quietly "read the $architecture package lists" apt-get --config-file "$apt/apt.conf" -q update
    quietly "download the $architecture packages $*" \
        apt-get --config-file "$apt/apt.conf" -q --yes --download-only install "$@"
    ln -sfn usr/lib "$folder/lib"
    local package
    for package in "$apt"/cache/archives/*.deb; do
        quietly "unpack $package" dpkg-deb --extract "$package" "$folder"
    done
}

# Run the arm64 Python. The emulator looks for absolute paths in $root first.
emulated() {
    PYTHONPATH=$repository:$site:$root/usr/lib/python3/dist-packages \
        "$WORK/qemu/usr/bin/qemu-aarch64-static" -L "$root" "$root/usr/bin/python3" "$@"
}

# Print xpnet's dependencies but for those named.
dependencies() {
    "$PYTHON" - "$repository/pyproject.toml" "$@" <<'PROGRAM'
import re, sys, tomllib
with open(sys.argv[1], "rb") as file:
    found = tomllib.load(file)["project"]["dependencies"]
print(*(item for item in found if re.match(r"[\w.-]+", item)[0] not in sys.argv[2:]), sep="\n")
PROGRAM
}

prepare() {
    echo "fetching the emulator, arm64 packages and wheels ..."
    rm -rf "$root" "$site" "$WORK"/apt-* "$WORK/qemu"
    unpack "$native" "$WORK/qemu" qemu-user-static
    unpack arm64 "$root" python3 python3-numpy libopenblas0-pthread
    # What installing the packages would do: OpenBLAS is the BLAS.
    local library
    for library in libblas.so.3 liblapack.so.3 libopenblas.so.0; do
        ln -sfn "openblas-pthread/$library" "$root/usr/lib/aarch64-linux-gnu/$library"
    done
    local python numpy
    python=$(emulated -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>>"$log") ||
        fail "the emulated Python does not start: $(tail -n 1 "$log")"
    numpy=$(emulated -c 'import numpy; print(numpy.__version__)' 2>>"$log") ||
        fail "the emulated NumPy does not start: $(tail -n 1 "$log")"
    # pandas reads CSV files only, and the bundled images are none.
    local -a wheels without=(pandas)
    [[ ${numpy%%.*} -lt 2 ]] || without+=(numpy)
    mapfile -t wheels < <(dependencies "${without[@]}")
    quietly "download arm64 wheels" "$PYTHON" -m pip install --quiet --target "$site" \
        --only-binary=:all: --implementation cp --python-version "$python" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 "${wheels[@]}"
    touch "$WORK/ready"
}

ABOUT='
import hashlib, platform
import numpy as np, threadpoolctl

def sha(array):
    return hashlib.sha256(array.astype("<f8").tobytes()).hexdigest()

# Divided whole numbers: the same bits everywhere.
a = (np.arange(300 * 784) % 1009 / 1009.0).reshape(300, 784)
b = (np.arange(784 * 300) % 1013 / 1013.0).reshape(784, 300)
blas = [
    " ".join(str(part) for part in (pool["internal_api"], pool["version"], pool.get("architecture")))
    for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"
]
print("machine      ", platform.machine())
print("Python       ", platform.python_version())
print("NumPy        ", np.__version__)
print("BLAS         ", ", ".join(blas) or "unknown")
print("operands     ", sha(a), sha(b))
print("plain product", sha(a @ b))
'

COMPARE='
import json, pathlib, sys

def record(folder):
    run = json.loads(pathlib.Path(folder, "run.json").read_text())
    lines = [json.loads(line) for line in pathlib.Path(folder, "metrics.jsonl").read_text().splitlines()]
    for line in [*lines, run["metrics"]]:
        line.pop("seconds")
    return run["fingerprint"], lines, run["metrics"]

here, there = (record(folder) for folder in sys.argv[1:])
for what, a, b in zip(("fingerprint", "history", "test figures"), here, there):
    print(f"{what:<14}" + ("the same" if a == b else "DIFFERENT"))
sys.exit(here != there)
'

# Print versions, the plain product and the training of one side: NAME PYTHON...
side() {
    local name=$1 begin=$SECONDS
    shift
    echo
    echo "== $name"
    "$@" -c "$ABOUT" >"$WORK/$name.txt" 2>>"$log" || {
        echo "check_arm64: the plain product failed: $(tail -n 1 "$log")" >&2
        return 1
    }
    cat "$WORK/$name.txt"
    "$@" -m xpnet.train --epochs 2 --log-every 1 --device cpu --backend numpy \
        --out runs --name "$name" --overwrite || return 1
    echo "took          $((SECONDS - begin)) s"
}

[[ -e $WORK/ready ]] || prepare
"$WORK/qemu/usr/bin/qemu-aarch64-static" --version | head -n 1

cd "$WORK"
side "$native" "$PYTHON" || exit 1
side arm64 emulated || exit 1

echo
echo "== $native and arm64"
for what in operands "plain product"; do
    if [[ $(grep "^$what" "$native.txt") == $(grep "^$what" arm64.txt) ]]; then
        printf '%-14sthe same\n' "$what"
    else
        printf '%-14sdifferent\n' "$what"
    fi
done
if "$PYTHON" -c "$COMPARE" "runs/$native" runs/arm64; then
    echo "the same bits"
else
    echo "NOT the same bits"
    exit 1
fi
