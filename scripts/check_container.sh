#!/usr/bin/env bash
# usage: scripts/check_container.sh [--engine COMMAND] [--base IMAGE] [--extras NAMES] [-- OPTION...]
#
# Builds the image of the Dockerfile, compares its configuration with the Dockerfile, and runs it as docs/container.md
# says, without network, with everything but /home/xpnet/runs read-only: training, which must end with the fingerprint
# in README.md, the other commands, docker stop and --resume, and other users. The images are removed at the end, but
# not the engine's build cache.
#
#   --engine COMMAND  docker (the default), podman, or one of them with options: "podman --runtime runc"
#   --base IMAGE      build from IMAGE in place of the official one; debootstrap is a minimal Debian 13 with its
#                     Python and this machine's certificates, made by that program
#   --extras NAMES    build a second image with these extras, as in jax,torch, and train on each library; on CUDA
#                     none is trained: CuPy is imported only
#   OPTION...         further options of the engine's build, as --network host or --build-arg HTTPS_PROXY=...
#
# Needs root, and a running engine.
#
# Exit codes: 0 all checks passed, 1 one failed, 2 something that is needed is missing, 130 Ctrl-C.

set -euo pipefail
. "$(dirname "$0")/shared.sh"

engine=docker base='' extras=''
options "engine base extras" "$@"
read -ra engine <<<"$engine"
[[ $(id -u) == 0 ]] || fail "run this check as root: it makes folders that belong to other users"
need "install it" "${engine[0]}"
[[ $base != debootstrap ]] || need "install it" debootstrap
"${engine[@]}" ps >/dev/null 2>&1 || fail "$("${engine[@]}" ps 2>&1 | tail -n 1)"

name=xpnet-check-$$
clean() {
    "${engine[@]}" rm -f "$name-stop"
    "${engine[@]}" rmi -f "$name" "$name-extras" "$name-base"
}
make_work
cd "$repository"

# Print the last argument of an instruction of the Dockerfile.
instruction() {
    sed -n "s/^$1 //p" Dockerfile | tail -n 1
}

inspect() {
    "${engine[@]}" inspect --format "$1" "${2:-$name}"
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
    base=$name-base root=$work/root
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv trixie "$root" >"$work/log" ||
        { tail -n 3 "$work/log" && false; }
    # As in the official image: python is a command, and pip may install.
    ln -s python3 "$root/usr/bin/python"
    rm -rf "$root"/usr/lib/python3*/EXTERNALLY-MANAGED "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    tar -C "$root" -c . | "${engine[@]}" import - "$base" >/dev/null
    rm -rf "$root"
fi

part "build"
build "$name" "${rest[@]}"
echo "$(size "$name")${base:+, of these $(size "$base") the base}"

part "configuration"
wanted="$(instruction USER) $(instruction WORKDIR) $(instruction ENTRYPOINT) $(instruction CMD) {\"$(instruction VOLUME)\":{}} $(instruction STOPSIGNAL)"
actual=$(inspect '{{.Config.User}} {{.Config.WorkingDir}} {{json .Config.Entrypoint}} {{json .Config.Cmd}} {{json .Config.Volumes}} {{.Config.StopSignal}}')
echo "$actual"
[[ $actual == "$wanted" ]]
while IFS='=' read -r label value; do
    [[ $(inspect "{{index .Config.Labels \"$label\"}}") == "$value" ]]
done < <(grep -Eo 'org\.opencontainers\.image\.[a-z]+="[^"]*"' Dockerfile | tr -d '"')

part "training, as user $(instruction USER)"
train runs --rm "$name"
[[ $(stat -c %u "$work"/runs/*/run.json) == "$(instruction USER)" ]]

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
grep -q '"status": "interrupted"' "$work/runs/stopped/run.json"
train runs --rm "$name" train --resume runs/stopped

part "training, as user 4242 in a folder of its own"
mkdir "$work/own" && chown 4242:4242 "$work/own"
train own --rm --user 4242:4242 "$name"
[[ $(stat -c %u:%g "$work"/own/*/run.json) == 4242:4242 ]]

part "training, in an anonymous volume"
"${engine[@]}" run --rm --read-only --network none "$name" train --recipe quick | tail -n 3

if [[ -n $extras ]]; then
    part "build with EXTRAS=$extras"
    build "$name-extras" --build-arg EXTRAS="$extras" "${rest[@]}"
    size "$name-extras"
    for extra in ${extras//,/ }; do
        part "$extra"
        case $extra in
            torch | jax) train runs --rm "$name-extras" train --backend "$extra" ;;
            cuda*) run runs --rm --tmpfs /tmp "$name-extras" doctor | grep -E '^cupy +[0-9]' ;;
            *) train runs --rm "$name-extras" ;;
        esac
    done
fi
part "all checks passed"
