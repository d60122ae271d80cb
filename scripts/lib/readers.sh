# shellcheck shell=bash
# Readers of Parquet that share no code with us. Sourced by scripts that have sourced build.sh, with $here set.

prepare_readers() {
    require_tool python3 python3
    local venv=${XDG_CACHE_HOME:-$HOME/.cache}/fulltape/python
    if ! "$venv/bin/python" -c 'import pyarrow' 2>/dev/null; then
        say "installing pyarrow into $venv"
        if ! python3 -m venv --clear "$venv" 2>/dev/null; then
            install_packages python3-venv
            python3 -m venv --clear "$venv"
        fi
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/services/tests/e2e/readers/requirements.txt"
    fi
    export FULLTAPE_TEST_PYTHON=$venv/bin/python
}
