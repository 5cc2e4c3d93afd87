#!/usr/bin/env bash
# Installs dpnp into an environment of its own, and runs `xpnet doctor`, `xpnet parity --require dpnp`, and every
# test that has a case for dpnp, on Intel GPUs too where there are any. Among the tests are the fingerprints of the
# default run after 0, 1, 10 and 100 epochs. Needs Linux on x86-64 and 5 GB.
#
#   PYTHON  the Python of the environment (default: python3)
#
# Exit codes: 0 all agree, 1 something differs or fails, 2 something that is needed is missing, 130 Ctrl-C.

set -euo pipefail
. "$(dirname "$0")/../../scripts/shared.sh"

bin=$work/env/bin
export PYTHONNOUSERSITE=1 COLUMNS=160
unset OCL_ICD_FILENAMES ONEAPI_DEVICE_SELECTOR

part "installing dpnp and the tests' libraries"
quietly "make an environment with $python" "$python" -m venv "$work/env"
quietly "install" "$bin/pip" install --quiet -e "$repository[test,dpnp]"

cd "$work"
part "doctor"
"$bin/xpnet" doctor | tee "$work/doctor"
grep -qE '^dpnp +[0-9.]+ +cpu' "$work/doctor"

part "parity"
"$bin/xpnet" parity --require dpnp

part "tests"
cd "$repository"
XPNET_REQUIRE_BACKENDS=dpnp "$bin/python" -m pytest -q -p no:cacheprovider -n auto -m "" -k dpnp
part "all agree"
