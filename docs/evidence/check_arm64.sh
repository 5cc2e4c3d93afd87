#!/usr/bin/env bash
# Runs `python -m xpnet.train --epochs 2` on all 60,000 images with this machine's Python, and `xpnet verify`, which
# compares fingerprint, history and test figures, with arm64 Python and NumPy under user-mode emulation, which then
# computes the test vectors (`make_vectors.py --check`) and functions of others (`functions_of_others.py --check`). The digest of a plain float64 matrix product is printed of
# both; it differs, which shows that the two compute differently.
#
#   PYTHON  this machine's Python, with xpnet's dependencies and pip (default: python3)
#
# Needs Debian or Ubuntu's apt-get and dpkg, their package sources, and about 400 MB; neither root nor installed
# packages: the emulator and the arm64 packages are unpacked into a temporary folder.
#
# Exit codes: 0 the same bits, 1 other bits or a training that fails, 2 something that is needed is missing, 130 Ctrl-C.

set -euo pipefail
. "$(dirname "$0")/../../scripts/shared.sh"

type apt-get dpkg dpkg-deb >/dev/null || fail "this check needs Debian or Ubuntu"
native=$(dpkg --print-architecture)
[[ $native != arm64 ]] || fail "this machine is an arm64 one: run the check on another"
python=$(command -v "$python") || fail "no such Python: name one in PYTHON"
export PYTHONPATH=$repository PYTHONNOUSERSITE=1 PYTHONPYCACHEPREFIX=$work/pycache
"$python" -c 'import pip, xpnet.train, xpnet.report, rich, filelock, threadpoolctl' 2>/dev/null ||
    fail "$python lacks pip or xpnet's dependencies: pip install '.[train]'"
root=$work/root site=$work/site

# Download packages of an architecture, with all they depend on, and unpack them into a folder.
# An apt configuration of its own, with empty lists and nothing installed, leaves the machine's alone.
unpack() {
    local architecture=$1 folder=$2 apt=$work/apt-$1 package
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
    for package in "$apt"/cache/archives/*.deb; do
        quietly "unpack $package" dpkg-deb --extract "$package" "$folder"
    done
}

# Run the arm64 Python. The emulator looks for absolute paths in $root first.
emulated() {
    PYTHONPATH=$repository:$site "$work/qemu/usr/bin/qemu-aarch64-static" -L "$root" "$root/usr/bin/python3" "$@"
}

# Print the digest of a plain product of divided whole numbers, which have the same bits everywhere: PYTHON...
product() {
    "$@" - <<'PROGRAM'
import hashlib
import numpy as np

a = (np.arange(300 * 784) % 1009 / 1009.0).reshape(300, 784)
b = (np.arange(784 * 300) % 1013 / 1013.0).reshape(784, 300)
print("plain product", hashlib.sha256((a @ b).tobytes()).hexdigest())
PROGRAM
}

part "fetching the emulator, the arm64 Python and wheels"
unpack "$native" "$work/qemu" qemu-user-static
unpack arm64 "$root" python3 libstdc++6
version=$(emulated -c 'import sys; print("%d.%d" % sys.version_info[:2])')
cd "$repository"
mapfile -t wheels < <("$python" -c '
import tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["train"], *extras["others"], sep="\n")')
quietly "download arm64 wheels" "$python" -m pip install --quiet --target "$site" --only-binary=:all: \
    --implementation cp --python-version "$version" --platform manylinux_2_28_aarch64 \
    --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 "${wheels[@]}"

cd "$work"
part "training on $native"
product "$python"
"$python" -m xpnet.train --epochs 2 --log-every 1 --device cpu --backend numpy --out runs --name "$native"

part "verifying on arm64"
product emulated
emulated -m xpnet verify "runs/$native" --device cpu --backend numpy
part "test vectors on arm64"
emulated "$repository/docs/vectors/make_vectors.py" --check
part "functions of others on arm64"
emulated "$repository/docs/functions_of_others.py" --check numpy
part "the same bits"
