# Sourced after setup.sh: an environment of its own for hermes-agent, whose pins are not hermesd's.
#
#   ensure_hermes             build/hermes-venv with the version that the tests use
#   ensure_hermes_version V   build/hermes-V-venv with another one, for the soak

HERMES_VENV=$ROOT/build/hermes-venv
HERMES_VERSION=0.19.0
HERMES_CONSTRAINTS=$ROOT/tests/harness/hermes/constraints.txt
HERMES_OURS=(pyzmq msgpack multiprocessing-logging mcp) # what hermesd's side of a worker needs there
HERMES_MATRIX=(mautrix aiosqlite asyncpg aiohttp-socks) # what its own gateway needs, which the bench compares with

# For a run of pytest with these arguments; without any, everything is run. Unit tests need none of it.
ensure_hermes_for_tests() {
    local argument path=0
    for argument in "$@"; do
        case $argument in
            *hermes_agent* | *soak_cases* | tests | tests/ | tests/acceptance | tests/acceptance/ | tests/process | tests/process/)
                ensure_hermes
                return
                ;;
            tests/*) path=1 ;;
        esac
    done
    if ((!path)); then ensure_hermes; fi
}

ensure_hermes() {
    _hermes_venv "$HERMES_VENV" "$HERMES_VERSION" --constraint "$HERMES_CONSTRAINTS" "${HERMES_MATRIX[@]}"
}

# Its own pins decide; what they leave open is the newest.
ensure_hermes_version() {
    _hermes_venv "$ROOT/build/hermes-$1-venv" "$1"
}

_hermes_venv() {
    local venv=$1 version=$2 print stamp=$1/.set-up
    shift 2
    print=$({ printf '%s\n' "$ROOT" "$version" "${HERMES_OURS[@]}" "$@" && cat -- "$HERMES_CONSTRAINTS"; } | cksum | tr ' ' -)
    [[ -f $stamp && $(<"$stamp") == "$print" ]] && return
    mkdir -p -- "$ROOT/build"
    exec {hermes_lock}>"$ROOT/build/hermes.lock"
    if command -v flock >/dev/null; then flock "$hermes_lock"; fi
    if [[ ! -f $stamp || $(<"$stamp") != "$print" ]]; then
        say "installing hermes-agent $version into ${venv#"$ROOT"/} (a minute, once)"
        local log=$venv.log
        if rm -rf -- "$venv" && "$VENV/bin/python" -m venv -- "$venv" >"$log" 2>&1 </dev/null &&
            "$venv/bin/python" -m pip --disable-pip-version-check --no-input install --quiet "$@" \
                "hermes-agent==$version" "${HERMES_OURS[@]}" >>"$log" 2>&1 </dev/null; then
            printf '%s' "$print" >"$stamp"
        else
            tail -n 20 -- "$log" >&2
            in_ci && die "hermes-agent cannot be installed (the whole log is in $log)"
            say "going on without it: the tests that need it are skipped"
        fi
    fi
    exec {hermes_lock}>&-
}
