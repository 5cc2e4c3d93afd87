#!/usr/bin/env bash
# Makes four hosts, each a network and a UTS namespace, joined by a network of 1 Gbit/s, and trains on them over TCP:
# `mpiexec -launcher ssh -hosts ...`, one rank each. Checks that the fingerprint is that of one process; that after
# kill -9 of a rank the others end within 10 s, and with XPNET_RANK_TIMEOUT=30 after the silent loss of a host within
# 60 s; and that --resume on the other three hosts gives the fingerprint of the uninterrupted training. Prints the time
# of an epoch on one, two and four hosts, which share this machine's processors.
#
#   PYTHON  Python with xpnet's dependencies and mpi4py (default: python3)
#
# Needs root, MPICH's mpiexec, and ip and tc of iproute2. The network of the machine itself is not touched.
#
# Exit codes: 0 all checks passed, 1 one failed, 2 something that is needed is missing, 130 Ctrl-C.

set -euo pipefail
. "$(dirname "$0")/shared.sh"

[[ $(id -u) == 0 ]] || fail "run this check as root: it makes network namespaces"
python=$(command -v "$python") || fail "no such Python: name one in PYTHON"
# ch4:ofi of MPICH, over TCP, whatever else the machine has.
export PYTHONPATH=$repository MPIR_CVAR_CH4_NETMOD=ofi FI_PROVIDER=tcp FI_TCP_IFACE=eth0 PATH=${python%/*}:$PATH
type ip tc unshare mpiexec >/dev/null || fail "install iproute2, util-linux and MPICH (pip install mpich)"
"$python" -c 'import xpnet.train, mpi4py.MPI as MPI; assert "MPICH" in MPI.Get_library_version()' 2>/dev/null ||
    fail "$python lacks mpi4py, MPICH or a dependency of xpnet: name another in PYTHON"

name=xpnet-$$ network=10.77.0
clean() {
    local host
    for host in 1 2 3 4 switch; do
        ip netns pids "$name-$host" | xargs -r kill -9
        ip netns delete "$name-$host"
    done || true
    wait
}

make_hosts() {
    ip netns add "$name-switch" 2>/dev/null || fail "this kernel, or the container, allows no network namespaces"
    ip -n "$name-switch" link add bridge type bridge
    ip -n "$name-switch" link set bridge up
    local host
    for host in 1 2 3 4; do
        ip netns add "$name-$host"
        ip -n "$name-$host" link set lo up
        ip -n "$name-$host" link add eth0 type veth peer name "port$host" netns "$name-switch"
        ip -n "$name-$host" address add "$network.$host/24" dev eth0
        ip -n "$name-$host" link set eth0 up
        ip -n "$name-switch" link set "port$host" master bridge up
        tc -n "$name-$host" qdisc add dev eth0 root tbf rate 1gbit burst 256k latency 100ms
    done
    cat >"$work/ssh" <<SSH
#!/usr/bin/env bash
# Stands in for ssh: ssh [-x] ADDRESS COMMAND
while [[ \$1 == -* ]]; do shift; done
host=\${1##*.} && shift
exec ip netns exec $name-\$host unshare --uts bash -c "hostname host\$host && exec \$*"
SSH
    chmod +x "$work/ssh"
}

# Run a command as an MPI job, a rank on each of the hosts: "HOST..." COMMAND...
job() {
    local -a hosts
    read -ra hosts <<<"$1"
    local -a command=(mpiexec -launcher ssh -launcher-exec "$work/ssh" -localhost "$network.1"
        -hosts "$(printf "$network.%s," "${hosts[@]}")" -ppn 1 -n "${#hosts[@]}" "${@:2}")
    "$work/ssh" "$network.1" "${command[@]@Q}"
}

# Print fingerprint, milliseconds of an epoch, and number of hosts of a run.
outcome() {
    "$python" - "$work/runs/$1" <<'PROGRAM'
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
run = json.loads((folder / "run.json").read_text())
first, *_, last = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
seconds = (last["seconds"] - first["seconds"]) / (last["epoch"] - first["epoch"])
print(run["fingerprint"], f"{1000 * seconds:.1f}", len(set(run["segments"][-1]["hosts"])))
PROGRAM
}

# Fail unless a run has a fingerprint and so many hosts; print the time of an epoch: RUN FINGERPRINT HOSTS
expect() {
    local actual milliseconds hosts
    read -r actual milliseconds hosts < <(outcome "$1")
    [[ "$actual $hosts" == "$2 $3" ]] || { echo "$actual on $hosts hosts, expected $2 on $3" >&2 && return 1; }
    echo "$3 hosts: $milliseconds ms an epoch"
}

# Print the process IDs of the ranks on hosts.
ranks() {
    local host process
    for host in "$@"; do
        for process in $(ip netns pids "$name-$host"); do
            if grep -qs '^PMI_RANK=' <(tr '\0' '\n' 2>/dev/null <"/proc/$process/environ"); then echo "$process"; fi
        done
    done
}

# Start a long training on four hosts in the background, and wait until it has trained some epochs.
start_long() {
    job "1 2 3 4" "${train[@]}" --epochs "$long" --log-every 1 --name "$1" >"$work/$1.log" 2>&1 &
    training=$!
    until [[ -e $work/runs/$1/metrics.jsonl && $(wc -l <"$work/runs/$1/metrics.jsonl") -gt 20 ]]; do
        kill -0 "$training" || { tail -n 3 "$work/$1.log" && return 1; }
        sleep 0.2
    done
}

# Fail unless ranks and mpiexec on hosts 1, 2 and 4 end within so many seconds, with an error, and --resume goes on.
expect_end() {
    local run=$1 limit=$2 begin=$SECONDS
    while kill -0 "$training" 2>/dev/null || [[ -n $(ranks 1 2 4) ]]; do
        sleep 0.2
        ((SECONDS - begin <= limit)) || { echo "after $limit s, ranks or mpiexec still run" && return 1; }
    done
    wait "$training" && return 1
    echo "the ranks on the other hosts ended within $((SECONDS - begin + 1)) s"
    ranks 3 | xargs -r kill -9
    job "1 2 4" "${train[@]:0:4}" --resume "$work/runs/$run" --quiet --workers 1
    expect "$run" "$whole" 3
}

export XPNET_RANK_TIMEOUT=30
train=("$python" -m xpnet train --out "$work/runs" --no-report --workers 1 --quiet)
epochs=20 long=200
cd "$repository"
make_hosts

part "one process, $epochs and $long epochs"
"${train[@]}" --epochs "$epochs" --log-every "$epochs" --name one
"${train[@]}" --epochs "$long" --log-every "$long" --name long
read -r fingerprint milliseconds _ < <(outcome one)
read -r whole _ < <(outcome long)
echo "$milliseconds ms an epoch"

for hosts in "1 2" "1 2 3 4"; do
    part "hosts $hosts"
    job "$hosts" "${train[@]}" --epochs "$epochs" --log-every "$epochs" --name "${hosts// /-}"
    expect "${hosts// /-}" "$fingerprint" "$(wc -w <<<"$hosts")"
done

part "a rank is killed"
start_long killed
ranks 3 | xargs kill -9
expect_end killed 10

part "a host is lost"
start_long lost
ip -n "$name-3" link set eth0 down
expect_end lost 60
part "all checks passed"
