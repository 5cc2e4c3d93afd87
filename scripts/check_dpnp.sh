#!/usr/bin/env bash
# Installs dpnp into an environment of its own, and runs everything that xpnet tests on Intel's devices.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/check_dpnp.sh [--python PYTHON] [--work DIR]

Trains the default run with dpnp on the CPU, a SYCL device with memory and queues of its own, and compares its
fingerprints after 0, 1, 10 and 100 epochs with those of docs/reproducibility.md; runs `xpnet doctor`,
`xpnet parity --require dpnp`, and every test that has a case for dpnp, on Intel GPUs too where there are any.

  --python PYTHON  the Python of the environment (default: $PYTHON, else python3)
  --work DIR       keep environment and logs in DIR, and use the environment there (default: a temporary folder)

Needs Linux on x86-64 and 5 GB.

Exit codes: 0 all agree, 1 something differs or fails, 2 something that is needed is missing.
USAGE
}

fail() {
    echo "check_dpnp: $*" >&2
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
if [[ -z $WORK ]]; then
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
else
    mkdir -p "$WORK" 2>/dev/null || fail "--work: $WORK cannot be made"
    WORK=$(cd "$WORK" && pwd)
fi
bin=$WORK/env/bin log=$WORK/log
export PYTHONNOUSERSITE=1 COLUMNS=160
unset OCL_ICD_FILENAMES ONEAPI_DEVICE_SELECTOR

if [[ ! -x $bin/xpnet ]]; then
    echo "installing dpnp and the tests' libraries ..."
    "$PYTHON" -m venv "$WORK/env" >"$log" 2>&1 || fail "$PYTHON makes no environment: $(tail -n 1 "$log")"
    "$bin/pip" install --quiet -e "$repository[test,dpnp]" >"$log" 2>&1 || fail "cannot install: $(tail -n 1 "$log")"
fi

COMPARE='
import json, pathlib, re, sys

record, page = (pathlib.Path(path).read_text() for path in sys.argv[1:])
golden = re.findall(r"^\| (?:initial|after (\d+) epochs?) \| `([0-9a-f]{64})` \|$", page, re.MULTILINE)
lines = map(json.loads, record.splitlines())
found = {line["epoch"]: line["fingerprint"] for line in lines}
equal = [found.get(int(epoch or 0)) == digest for epoch, digest in golden]
for epoch, _ in golden:
    print("epoch", f"{epoch or 0:>3}", found.get(int(epoch or 0)))
sys.exit(not (len(golden) == 4 and all(equal)))
'

ABOUT='
import os, platform
from importlib import metadata
import xpnet
from xpnet.backends.resolve import probe

probe("dpnp", "cpu")
import dpctl

print("date     ", os.environ["TODAY"])
print("platform ", platform.platform())
names = ("dpnp", "dpctl", "intel-opencl-rt", "numpy")
versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
print("versions ", f"xpnet {xpnet.__version__}, Python {platform.python_version()}, {versions}")
for device in dpctl.get_devices():
    print("device   ", device.filter_string, device.name, device.driver_version)
'

failures=0
summary=$WORK/summary
: >"$summary"

# Run a part of the check, and keep its verdict and time for the summary: NAME COMMAND...
part() {
    local name=$1 begin=$SECONDS verdict=ok
    shift
    echo
    echo "== $name"
    if ! "$@"; then
        verdict=FAILED
        failures=$((failures + 1))
    fi
    printf '%-14s%-8s%5d s\n' "$name" "$verdict" $((SECONDS - begin)) >>"$summary"
}

doctor() {
    "$bin/xpnet" doctor | tee "$WORK/doctor"
    grep -qE '^dpnp +[0-9.]+ +cpu' "$WORK/doctor"
}

fingerprints() {
    "$bin/xpnet" train --backend dpnp --device cpu --epochs 100 --log-every 1 --quiet --no-report --out runs --name dpnp --overwrite &&
        "$bin/python" -c "$COMPARE" runs/dpnp/metrics.jsonl "$repository/docs/reproducibility.md"
}

# The training of 100 epochs is the part before.
tests() {
    (cd "$repository" && XPNET_REQUIRE_BACKENDS=dpnp "$bin/python" -m pytest -q -p no:cacheprovider -n auto -m "" -k dpnp \
        --deselect "tests/training/test_golden.py::test_the_default_run[dpnp-100]")
}

cd "$WORK"
TODAY=$(date +%F) "$bin/python" -c "$ABOUT" || fail "dpnp does not start"
part doctor doctor
part parity "$bin/xpnet" parity --require dpnp
part fingerprints fingerprints
part tests tests

echo
echo "== summary"
cat "$summary"
if [[ $failures -gt 0 ]]; then
    echo "NOT all agree"
    exit 1
fi
echo "all agree"
