#!/usr/bin/env bash
# Runs the test suite of the array-API standard on xpnet.reproducible over each library:
#   docs/check_conformance.sh PATH_OF_ARRAY_API_TESTS [LIBRARY ...]
# PATH is a checkout of https://github.com/data-apis/array-api-tests, which needs pytest, hypothesis and ndindex.
# Complex numbers, fft and, on PyTorch, the dtypes that it lacks are left out; nothing else is.
set -euo pipefail
suite=${1:?usage: docs/check_conformance.sh PATH_OF_ARRAY_API_TESTS [LIBRARY ...]}
shift
repository=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -r "$suite/." "$folder"
# Without complex dtypes the suite looks for the widest of none.
sed -i 's/complex_dtypes\], key=lambda x: x\[1\]$/complex_dtypes], key=lambda x: x[1], default=(None, 0)/' \
    "$folder/array_api_tests/dtype_helpers.py"
cd "$folder"
status=0
for library in "${@:-numpy array-api-strict torch jax}"; do
    for name in $library; do
        skipped=complex64,complex128
        [ "$name" != torch ] || skipped=$skipped,uint16,uint32,uint64
        echo "== $name"
        PYTHONPATH="$repository${PYTHONPATH:+:$PYTHONPATH}" ARRAY_API_TESTS_SKIP_DTYPES=$skipped \
            ARRAY_API_TESTS_MODULE="exec('import xpnet.reproducible as rp; xp = rp.namespace(\"$name\")')" \
            python -m pytest array_api_tests -q -p no:cacheprovider -p no:warnings --max-examples "${EXAMPLES:-20}" \
            --disable-deadline --disable-extension fft --ignore array_api_tests/test_signatures.py \
            --ignore array_api_tests/test_fft.py -k "not imag and not conj" || status=1
    done
done
exit $status
