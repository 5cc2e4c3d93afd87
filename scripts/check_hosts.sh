#!/usr/bin/env bash
# usage: scripts/check_hosts.sh [--python PYTHON]
#
# Makes four hosts, each a network and a UTS namespace, joined by a network of 1 Gbit/s with added latency,
# and trains on them over TCP: `mpiexec -launcher ssh -hosts ...`, one rank each. Checks that the fingerprint is
# that of one process; that after kill -9 of a rank the others end within 10 s, and after the silent loss of a host
# within 60 s; and that --resume on the other three hosts gives the fingerprint of the uninterrupted training.
# Prints the latency between two hosts, and the time of an epoch on one, two and four hosts. All hosts share
# this machine's processors, and the relay that adds latency (scripts/hosts/relay.py) uses one too.
#
#   --python PYTHON  Python with xpnet's dependencies and mpi4py (default: $PYTHON, else python3)
#
# Needs root, MPICH's mpiexec, and ip and tc of iproute2. The network of the machine itself is not touched.
#
# Exit codes: 0 all checks passed, 1 one failed, 2 something that is needed is missing, 130 Ctrl-C.

set -euo pipefail
. "$(dirname "$0")/shared.sh"

python=${PYTHON:-python3}
options "python" "$@"
[[ $(id -u) == 0 ]] || fail "run this check as root: it makes network namespaces"
need "install iproute2 and util-linux" ip tc unshare
python=$(command -v "$python") || fail "no such Python: name one with --python"
# ch4:ofi of MPICH, over TCP, whatever else the machine has.
export PYTHONPATH=$repository MPIR_CVAR_CH4_NETMOD=ofi FI_PROVIDER=tcp FI_TCP_IFACE=eth0
library=$("$python" -c 'import xpnet.train, mpi4py.MPI as MPI; print(MPI.Get_library_version().rstrip("\0"))' 2>/dev/null) ||
    fail "$python lacks mpi4py, an MPI library or a dependency of xpnet: name another with --python"
mpiexec=$(PATH=$(dirname "$python"):$PATH command -v mpiexec) || fail "mpiexec is missing: pip install mpich"
[[ $library == MPICH* ]] || fail "mpi4py finds ${library%%,*}, expected MPICH: pip install mpich"

name=xpnet-$$ network=10.77.0 relay=''
stop_relay() {
    [[ -z $relay ]] || { kill "$relay" && wait "$relay"; } 2>/dev/null || true
}
clean() {
    local host
    stop_relay
    for host in 1 2 3 4 switch; do
        ip netns pids "$name-$host" | xargs -r kill -9
        ip netns delete "$name-$host"
    done || true
    wait
}
make_work

# Make a namespace without IPv6, whose neighbour discovery would be in the way.
make_namespace() {
    ip netns add "$1" 2>/dev/null || fail "this kernel, or the container, allows no network namespaces"
    ip netns exec "$1" sysctl -qw net.ipv6.conf.default.disable_ipv6=1 2>/dev/null || true
    ip -n "$1" link set lo up
}

make_hosts() {
    make_namespace "$name-switch"
    local host
    for host in 1 2 3 4; do
        make_namespace "$name-$host"
        ip -n "$name-$host" link add eth0 type veth peer name "port$host" netns "$name-switch"
        ip -n "$name-$host" address add "$network.$host/24" dev eth0
        ip -n "$name-$host" link set eth0 up
        ip -n "$name-switch" link set "port$host" up
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

# Join the hosts by a network that adds so many microseconds.
set_latency() {
    stop_relay
    ip netns exec "$name-switch" nice -n -20 "$python" "$repository/scripts/hosts/relay.py" "$1" port{1..4} &
    relay=$!
    sleep 0.5
}

# Run a command on host 1.
first_host() {
    "$work/ssh" "$network.1" "${@@Q}"
}

# Run a command as an MPI job, a rank on each of the hosts: "HOST..." COMMAND...
job() {
    local -a hosts
    read -ra hosts <<<"$1"
    shift
    first_host "$mpiexec" -launcher ssh -launcher-exec "$work/ssh" -localhost "$network.1" \
        -hosts "$(printf "$network.%s," "${hosts[@]}")" -ppn 1 -n "${#hosts[@]}" "$@"
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
    local run=$1 limit=$2 begin=$SECONDS code=0
    while kill -0 "$training" 2>/dev/null || [[ -n $(ranks 1 2 4) ]]; do
        sleep 0.2
        ((SECONDS - begin <= limit)) || {
            echo "after $limit s, on the other hosts, $(ranks 1 2 4 | wc -l) ranks still run$(
                kill -0 "$training" 2>/dev/null && echo ", and mpiexec"
            )"
            return 1
        }
    done
    wait "$training" || code=$?
    echo "the ranks on the other hosts ended within $((SECONDS - begin + 1)) s, mpiexec with exit code $code"
    [[ $code != 0 ]]
    ranks 3 | xargs -r kill -9
    job "1 2 4" "${train[@]:0:4}" --resume "$work/runs/$run" --quiet --workers 1
    expect "$run" "$whole" 3
    echo "resumed on three hosts: the fingerprint of the uninterrupted training"
}

train=("$python" -m xpnet train --out "$work/runs" --no-report --workers 1 --quiet)
epochs=20 long=200
cd "$repository"
make_hosts

part "one process, $epochs and $long epochs"
set_latency 0
first_host "${train[@]}" --epochs "$epochs" --log-every "$epochs" --name one
first_host "${train[@]}" --epochs "$long" --log-every "$long" --name long
read -r fingerprint milliseconds _ < <(outcome one)
read -r whole _ < <(outcome long)
echo "$fingerprint, $milliseconds ms an epoch"

for latency in 0 100 1000; do
    part "$latency us added"
    set_latency "$latency"
    job "1 2" "$python" scripts/hosts/ping_pong.py
    for hosts in "1 2" "1 2 3 4"; do
        run=$latency-${hosts// /-}
        job "$hosts" "${train[@]}" --epochs "$epochs" --log-every "$epochs" --name "$run"
        expect "$run" "$fingerprint" "$(wc -w <<<"$hosts")"
    done
done

part "a rank is killed"
set_latency 100
start_long killed
ranks 3 | xargs kill -9
expect_end killed 10

part "a host is lost"
start_long lost
ip -n "$name-3" link set eth0 down
expect_end lost 60
part "all checks passed"
