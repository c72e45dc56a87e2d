#!/usr/bin/env bash
# Prepares this checkout: what Debian must provide, then .venv with exactly the versions of constraints.txt.
# Run it as often as you like: it does nothing when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# 1. Python, 3.11 or newer.
python=${PYTHON:-}
for candidate in python3.11 python3; do
    [ -n "$python" ] || ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || python=$candidate
done
[ -n "$python" ] || fail "Python 3.11 or newer is needed. Debian: apt-get install python3-venv python3-dev. conda-forge: python=3.11"

# 2. System packages, each with its conda-forge name; an active conda environment may provide them instead.
required=(libkim-api-dev=kim-api lammps=lammps openkim-models=openkim-models cmake=cmake g++=cxx-compiler pkg-config=pkg-config)
# The page's tests use a browser; conda-forge has none. Tests without one are skipped.
apt_usable() { command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; }
! apt_usable || command -v chromium >/dev/null || required+=(chromium=chromium)
"$python" -c 'import ensurepip, venv' 2>/dev/null || required+=(python3-venv=python)
"$python" -c 'import pathlib, sysconfig, sys; sys.exit(not pathlib.Path(sysconfig.get_paths()["include"], "Python.h").exists())' \
    || required+=(python3-dev=python)

installed() { # Debian name, conda-forge name
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" == installed ]] \
        || compgen -G "${CONDA_PREFIX:-/nonexistent}/conda-meta/$2-[0-9]*.json" >/dev/null
}
debian=() conda=()
for names in "${required[@]}"; do
    installed "${names%%=*}" "${names#*=}" || { debian+=("${names%%=*}"); conda+=("${names#*=}"); }
done
if [ ${#debian[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ]; then root=(env); elif sudo -n true 2>/dev/null; then root=(sudo); else root=(); fi
    if [ ${#root[@]} -eq 0 ] || ! command -v apt-get >/dev/null; then
        fail "missing: ${debian[*]}
  They cannot be installed from here. Ask for, or do, one of these, then run this again:
    Debian, Ubuntu:  sudo apt-get install --no-install-recommends ${debian[*]}
    conda-forge:     conda install -c conda-forge ${conda[*]}"
    fi
    say "installing ${debian[*]}"
    install=("${root[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${debian[@]}")
    "${install[@]}" >/dev/null 2>&1 || { "${root[@]}" apt-get update -qq && "${install[@]}" >/dev/null; } \
        || fail "apt-get could not install ${debian[*]}; its message is above"
fi

# 3. The virtual environment, unless it was made from these very files.
stamp=$({ "$python" --version; cat pyproject.toml constraints.txt tools/setup.sh; } | sha256sum)
if [ -x .venv/bin/kimgnn ] && [ "$(cat .setup/stamp 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi
mkdir -p .setup/wheels
rm -f .setup/stamp
say "making .venv with $("$python" --version)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
export PIP_CONSTRAINT="$PWD/constraints.txt" PIP_DISABLE_PIP_VERSION_CHECK=1

# kimpy has no wheel and one serial compilation of minutes: it runs beside the downloads, lightly optimised, and is kept.
if ! compgen -G '.setup/wheels/kimpy-*.whl' >/dev/null; then
    say "compiling kimpy in the background (.setup/kimpy.log)"
    CFLAGS="-O1 -g0" CXXFLAGS="-O1 -g0" .venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir .setup/wheels kimpy \
        >.setup/kimpy.log 2>&1 &
    kimpy=$!
    trap 'kill "$kimpy" 2>/dev/null || true' EXIT
fi
say "installing Python packages (.setup/pip.log)"
.venv/bin/python -m pip install --editable '.[dev]' >.setup/pip.log 2>&1 \
    || { tail -n 20 .setup/pip.log >&2; fail "pip failed; the whole log is .setup/pip.log"; }
if [ -n "${kimpy:-}" ]; then
    wait "$kimpy" || { tail -n 20 .setup/kimpy.log >&2; fail "kimpy did not compile; the whole log is .setup/kimpy.log"; }
    trap - EXIT
fi
.venv/bin/python -m pip install .setup/wheels/kimpy-*.whl >>.setup/pip.log 2>&1 \
    || { tail -n 20 .setup/pip.log >&2; fail "kimpy could not be installed; the whole log is .setup/pip.log"; }

printf '%s\n' "$stamp" >.setup/stamp
say "ready; .venv/bin/kimgnn is the command"
