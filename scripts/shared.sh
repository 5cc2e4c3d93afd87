# Functions of the scripts check_*.sh, which source this file.

check=$(basename "$0" .sh)
repository=$(cd "$(dirname "$0")/.." && pwd)
work='' part=''

# Print the comment at the beginning of the script.
usage() {
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# Say what is missing, and end.
fail() {
    echo "$check: $*" >&2
    exit 2
}

# Set variables by the options --NAME VALUE; what follows "--" is left in `rest`: "NAME..." ARGUMENT...
options() {
    local names=" $1 "
    shift
    rest=()
    while [[ $# -gt 0 ]]; do
        [[ $1 != -h && $1 != --help ]] || { usage && exit 0; }
        [[ $1 != -- ]] || { rest=("${@:2}") && break; }
        [[ $1 == --* && $names == *" ${1#--} "* ]] || fail "unknown argument $1 (--help)"
        [[ -n ${2:-} ]] || fail "$1 needs a value (--help)"
        declare -g "${1#--}=$2"
        shift 2
    done
}

# Fail unless these programs are on the PATH: FIX PROGRAM...
need() {
    local fix=$1 program
    shift
    for program in "$@"; do
        command -v "$program" >/dev/null || fail "$program is missing: $fix"
    done
}

# Make the temporary folder `work`.
make_work() {
    work=$(mktemp -d)
    trap finish EXIT
    trap 'exit 130' INT TERM
}

# Begin a part of the check.
part() {
    part=$1
    echo "== $part (after $SECONDS s)"
}

# Run a command that is no result of the check; if it fails, end with the last line of its output: WHAT COMMAND...
quietly() {
    local what=$1
    shift
    "$@" >>"$work/log" 2>&1 || fail "cannot $what: $(tail -n 1 "$work/log")"
}

# Remove what the script has made beside `work`.
clean() {
    :
}

# Clean up at the end, and say in which part the check has failed.
finish() {
    local code=$?
    trap '' INT TERM
    clean >/dev/null 2>&1 || true
    rm -rf "$work"
    [[ $code == 0 || $code == 2 || $code == 130 ]] || { echo "$check: failed: $part" >&2 && exit 1; }
}
