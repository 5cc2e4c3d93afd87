# Functions of the scripts check_*.sh, which source this file.

check=$(basename "$0" .sh)
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python3}

# Each of them is set by environment variables alone: with an argument it prints the comment at its beginning.
if [[ $# != 0 ]]; then
    sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
    [[ $1 == --help ]] && exit
    exit 2
fi

# Say what is missing, and end.
fail() {
    echo "$check: $*" >&2
    exit 2
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
    [[ $code == 0 || $code == 2 || $code == 130 ]] || { echo "$check: failed: ${part:-}" >&2 && exit 1; }
}

work=$(mktemp -d)
trap finish EXIT
trap 'exit 130' INT TERM
