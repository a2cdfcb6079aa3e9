# Sourced by the scripts beside this folder: makes the checkout's own Python environment, once.
#
#   ensure_environment run     what hermesd and its demo need
#   ensure_environment test    that, and what the tests and checks need
#
# Leaves the environment's directory in $VENV. Everything it says goes to stderr: stdout belongs to the job. When nothing
# has changed since the last time it costs some milliseconds and touches no network.

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
VENV=$ROOT/.venv

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    shift
    for line in "$@"; do say "  $line"; done
    exit 1
}

# "Missing things" are errors where every test must run, and reasons to skip elsewhere.
in_ci() { [[ ${HERMESD_CI:-} == 1 || ${CI:-} == true ]]; }

# Installs Debian packages when this user can; returns 1 otherwise.
apt_install() {
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 1
    say "installing with apt-get: $*"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null >&2 && return 0
    DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null >&2 &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" </dev/null >&2
}

_find_python() {
    local candidate
    for candidate in ${HERMESD_PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            PYTHON=$(command -v "$candidate")
            return
        fi
    done
    die "hermesd needs Python 3.11 or newer, and none is on the PATH" \
        "found: $(python3 --version 2>&1 || echo 'no python3')" \
        "fix: install a newer Python, or name one: HERMESD_PYTHON=/path/to/python3.11 $0"
}

_make_venv() {
    _find_python
    say "making .venv with $("$PYTHON" --version) ($PYTHON)"
    if ! "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; then
        # Debian and Ubuntu ship these two as a package of their own.
        local package
        package=$("$PYTHON" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
        apt_install "$package" ||
            die "this Python cannot make virtual environments" "fix: sudo apt-get install $package"
    fi
    rm -rf -- "$VENV"
    "$PYTHON" -m venv -- "$VENV" </dev/null >&2 ||
        die "cannot make $VENV" "fix: see the lines above; free disk space and write permission are the usual causes"
}

_pip() {
    local log=$VENV/setup.log
    "$VENV/bin/python" -m pip --disable-pip-version-check --no-input "$@" --quiet </dev/null >"$log" 2>&1 && return 0
    tail -n 30 -- "$log" >&2
    die "pip failed (the whole log is in $log)" \
        "fix: this step needs the package index once; check the network or the proxy and run the command again"
}

# What the environment was made from: a change of any of it makes it anew.
_fingerprint() {
    { printf '%s\n' "$ROOT" && cat -- "$ROOT/setup.cfg" "$ROOT/constraints.txt"; } |
        cksum | tr ' ' -
}

_install() {
    local level=$1 extras=$2 print=$3 stamp=$4
    local began=$SECONDS
    if [[ ! -x $VENV/bin/python || ! -f $VENV/.made-from-root || $(<"$VENV/.made-from-root") != "$ROOT" ]]; then
        _make_venv
        printf '%s' "$ROOT" >"$VENV/.made-from-root"
    fi
    rm -f -- "$VENV"/.set-up-*
    say "installing hermesd and its $level dependencies into .venv"
    local constraints=$ROOT/constraints.txt
    _pip install --constraint "$constraints" setuptools wheel
    _pip install --constraint "$constraints" --no-build-isolation --editable "$ROOT[$extras]"
    if [[ $level == test ]]; then
        # tests/test_wheel.py installs these beside hermesd, later and perhaps offline.
        _pip download --constraint "$constraints" --no-deps --dest "$ROOT/build/wheels" supervisor
    fi
    printf '%s' "$print" >"$stamp"
    say "set up in $((SECONDS - began)) s; the next time this is skipped"
}

ensure_environment() {
    local level=$1 extras print stamp
    case $level in
        run) extras=demo ;;
        test) extras=dev ;;
    esac
    print=$(_fingerprint)
    stamp=$VENV/.set-up-$level
    _is_set_up "$level" "$print" && return
    mkdir -p -- "$ROOT/build"
    # Two scripts may be started at once; the second one waits and then finds the work done.
    exec {setup_lock}>"$ROOT/build/setup.lock"
    if command -v flock >/dev/null; then flock "$setup_lock"; fi
    _is_set_up "$level" "$print" || _install "$level" "$extras" "$print" "$stamp"
    exec {setup_lock}>&-
}

# What the tests need includes what a run needs.
_is_set_up() {
    local level=$1 print=$2 stamp
    [[ -x $VENV/bin/python ]] || return 1
    for stamp in "$VENV/.set-up-$level" "$VENV/.set-up-test"; do
        [[ -f $stamp && $(<"$stamp") == "$print" ]] && return 0
    done
    return 1
}
