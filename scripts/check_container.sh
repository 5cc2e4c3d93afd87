#!/usr/bin/env bash
# Builds the image of the Dockerfile and runs it as docs/container.md says, without network, with everything but
# /home/xpnet/runs read-only: training, which must end with the fingerprint in README.md, the other commands,
# docker stop and --resume, and other users. The images are removed at the end, but not the engine's build cache.
#
#   ENGINE  docker (the default), podman, or one of them with options: "podman --runtime runc"
#   BASE    build from this image in place of the official one; debootstrap is a minimal Debian 13 with its
#           Python and this machine's certificates, made by that program
#   EXTRAS  build a second image with these extras, as in jax,torch, and train on each library; of CUDA's, CuPy
#           is imported only
#
# Needs root, and a running engine.
#
# Exit codes: 0 all checks passed, 1 one failed, 2 something that is needed is missing, 130 Ctrl-C.

set -euo pipefail
. "$(dirname "$0")/shared.sh"

read -ra engine <<<"${ENGINE:-docker}"
base=${BASE:-} extras=${EXTRAS:-}
[[ $(id -u) == 0 ]] || fail "run this check as root: it makes folders that belong to other users"
"${engine[@]}" ps >/dev/null || fail "${engine[0]} does not run"

name=xpnet-check-$$
clean() {
    "${engine[@]}" rm -f "$name-stop"
    "${engine[@]}" rmi -f "$name" "$name-extras" "$name-base"
}
cd "$repository"

inspect() {
    "${engine[@]}" inspect --format "$@"
}

# Build an image: NAME OPTION...
build() {
    "${engine[@]}" build ${base:+--build-arg BASE="$base"} "${@:2}" -t "$1" . >"$work/log" 2>&1 ||
        { tail -n 20 "$work/log" && return 1; }
}

# Print the size of an image.
size() {
    echo "$(($(inspect '{{.Size}}' "$1") / 1000000)) MB"
}

# Run the image with a folder of $work for its runs: FOLDER ARGUMENT...
run() {
    local folder=$1
    shift
    "${engine[@]}" run --read-only --network none -v "$work/$folder:/home/xpnet/runs" "$@"
}

# Train with the given arguments of run; the fingerprint must be README's.
train() {
    run "$@" >"$work/output" || { tail -n 5 "$work/output" && return 1; }
    grep -E '^(test|fingerprint|run) ' "$work/output"
    grep -q "^fingerprint   $fingerprint\$" "$work/output"
}

fingerprint=$(grep -Eo '^fingerprint +[0-9a-f]{64}' README.md | awk 'NR == 1 { print $2 }')
mkdir -m 777 "$work/runs"

if [[ $base == debootstrap ]]; then
    part "the base: a minimal Debian with Python"
    type debootstrap >/dev/null || fail "install debootstrap"
    base=$name-base root=$work/root
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv trixie "$root" >"$work/log" ||
        { tail -n 3 "$work/log" && false; }
    # As in the official image: python is a command, and pip may install.
    ln -s python3 "$root/usr/bin/python"
    rm -rf "$root"/usr/lib/python3*/EXTERNALLY-MANAGED "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    tar -C "$root" -c . | "${engine[@]}" import - "$base" >/dev/null
fi

part "build"
build "$name"
echo "$(size "$name")${base:+, of these $(size "$base") the base}"

part "training, as user 1000"
train runs --rm "$name"
[[ $(stat -c %u "$work"/runs/*/run.json) == 1000 ]]

part "doctor, runs list, predict"
run runs --rm "$name" doctor | sed -n 1,5p
run runs --rm "$name" runs list
run runs --rm -v "$PWD/examples:/examples:ro" "$name" predict /examples/seven.jpg

part "stop, then --resume"
run runs --detach --name "$name-stop" "$name" train --log-every 1 --name stopped >/dev/null
until "${engine[@]}" logs "$name-stop" 2>&1 | grep '^epoch  *[1-9]' >/dev/null; do
    [[ $(inspect '{{.State.Running}}' "$name-stop") == true ]]
    sleep 0.2
done
"${engine[@]}" stop -t 60 "$name-stop" >/dev/null
"${engine[@]}" logs "$name-stop" 2>&1 | grep "^interrupted"
[[ $(inspect '{{.State.ExitCode}}' "$name-stop") == 130 ]]
train runs --rm "$name" train --resume runs/stopped

part "training, as user 4242 in a folder of its own"
mkdir "$work/own" && chown 4242:4242 "$work/own"
train own --rm --user 4242:4242 "$name"
[[ $(stat -c %u:%g "$work"/own/*/run.json) == 4242:4242 ]]

part "training, in an anonymous volume"
"${engine[@]}" run --rm --read-only --network none "$name" train --recipe quick | tail -n 3

if [[ -n $extras ]]; then
    part "build with EXTRAS=$extras"
    build "$name-extras" --build-arg EXTRAS="$extras"
    size "$name-extras"
    for extra in ${extras//,/ }; do
        part "$extra"
        case $extra in
            torch | jax) train runs --rm "$name-extras" train --backend "$extra" ;;
            cuda*) run runs --rm --tmpfs /tmp "$name-extras" doctor | grep -E '^cupy +[0-9]' ;;
        esac
    done
fi
part "all checks passed"
