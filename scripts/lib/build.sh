# shellcheck shell=bash
# What a build needs, and the build itself. Sourced by the other scripts, with $here set.

say() { printf '%s\n' "$*" >&2; }

fulltape_binary() { printf '%s/release/fulltape\n' "${CARGO_TARGET_DIR:-$here/target}"; }

# The C compiler and make build librdkafka and SQLite; everything else is Rust.
missing_build_packages() {
    command -v cc >/dev/null || echo gcc
    command -v c++ >/dev/null || echo g++
    command -v make >/dev/null || echo make
    command -v pkg-config >/dev/null || echo pkg-config
}

require_build_tools() {
    local missing
    missing=$(missing_build_packages | tr '\n' ' ')
    [ -z "$missing" ] || install_packages "$missing"
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    if ! command -v cargo >/dev/null; then
        say "fulltape is built with Rust 1.95 or newer, and cargo was not found."
        say "Install it as https://rustup.rs says, then run this script again."
        exit 1
    fi
}

# install_packages NAMES: by apt-get where we may, otherwise says what to do.
install_packages() {
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing: $1"
        apt-get -qq update
        # shellcheck disable=SC2086 # a list of names
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y $1 >/dev/null
    else
        say "Missing: $1"
        say "On Debian and Ubuntu: sudo apt-get install $1"
        say "Elsewhere install the same by your system's package manager, then run this script again."
        exit 1
    fi
}

build_fulltape() {
    if [ ! -x "$(fulltape_binary)" ]; then
        say "building fulltape; the first time takes several minutes"
    fi
    cargo build --quiet --release --locked --manifest-path "$here/Cargo.toml" -p fulltape
}

# require_tool COMMAND PACKAGE
require_tool() { command -v "$1" >/dev/null || install_packages "$2"; }
