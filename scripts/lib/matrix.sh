# Sourced after setup.sh: what the tests of the Matrix adapter need beside the environment of hermesd itself.
#
#   ensure_matrix "$@"    for a run of pytest with these arguments
#
# Synapse, a real Matrix server, gets an environment of its own in build/synapse-venv: it could share .venv today, but it
# brings Twisted and some forty packages more, which must not be what makes a program of ours work. The libraries of
# the encryption go into .venv; they are an extra, and tests without them are skipped.

SYNAPSE_VENV=$ROOT/build/synapse-venv
SYNAPSE_CONSTRAINTS=$ROOT/tests/harness/matrix/constraints.txt

ensure_matrix() {
    _wants_matrix "$@" || return 0
    ensure_synapse
    ensure_encryption
}

# Without arguments everything is run; unit tests never need a server.
_wants_matrix() {
    (($#)) || return 0
    local argument path=0
    for argument in "$@"; do
        case $argument in
            *matrix* | tests | tests/ | tests/contract* | tests/acceptance | tests/acceptance/ | tests/process*) return 0 ;;
            tests/*) path=1 ;;
        esac
    done
    ((!path))
}

ensure_synapse() {
    local print stamp=$SYNAPSE_VENV/.set-up
    print=$({ printf '%s\n' "$ROOT" && cat -- "$SYNAPSE_CONSTRAINTS"; } | cksum | tr ' ' -)
    [[ -f $stamp && $(<"$stamp") == "$print" ]] && return
    exec {matrix_lock}>"$ROOT/build/matrix.lock"
    if command -v flock >/dev/null; then flock "$matrix_lock"; fi
    if [[ ! -f $stamp || $(<"$stamp") != "$print" ]]; then
        say "installing Synapse, the Matrix server of the tests, into build/synapse-venv (two minutes, once)"
        local log=$ROOT/build/synapse.log
        if rm -rf -- "$SYNAPSE_VENV" && "$VENV/bin/python" -m venv -- "$SYNAPSE_VENV" >"$log" 2>&1 </dev/null &&
            "$SYNAPSE_VENV/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
                --constraint "$SYNAPSE_CONSTRAINTS" matrix-synapse >>"$log" 2>&1 </dev/null; then
            printf '%s' "$print" >"$stamp"
        else
            tail -n 20 -- "$log" >&2
            in_ci && die "Synapse cannot be installed (the whole log is in $log)"
            say "going on without it: the tests that need it are skipped"
        fi
    fi
    exec {matrix_lock}>&-
}

# python-olm comes as source with libolm in it, and is built with cmake and a C++ compiler.
ensure_encryption() {
    local print stamp=$VENV/.set-up-encryption
    print=$(_fingerprint)
    [[ -f $stamp && $(<"$stamp") == "$print" ]] && return
    local tool missing=()
    command -v cmake >/dev/null || missing+=(cmake)
    command -v g++ >/dev/null || missing+=(g++)
    for tool in "${missing[@]}"; do
        apt_install "$tool" || { in_ci && die "the tests of Matrix' encryption need $tool" "fix: apt-get install $tool"; }
    done
    say "installing the libraries of Matrix' encryption into .venv"
    local log=$VENV/encryption.log
    if "$VENV/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
        --constraint "$ROOT/constraints.txt" 'mautrix[encryption]' aiosqlite asyncpg >"$log" 2>&1 </dev/null; then
        printf '%s' "$print" >"$stamp"
        return
    fi
    tail -n 20 -- "$log" >&2
    in_ci && die "the libraries of Matrix' encryption cannot be installed (the whole log is in $log)"
    say "going on without them: the tests that need them are skipped"
}
