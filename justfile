# What a contributor does, by name; `just` alone lists it. Each entry is one command that also works without just.

_list:
    @{{ just_executable() }} --list --unsorted

# the unit tests of one room (web, flow, …) or crate (index, runtime, emulator), in seconds
unit ROOM:
    cargo test --locked -p {{ if path_exists("crates" / ROOM) == "true" { "wheelport-" + ROOM } else { "wheelport" } }} --lib {{ if path_exists("crates" / ROOM) == "true" { "" } else { ROOM + "::" } }}

# one integration story, or all whose name contains NAME (pages::, a_cold_file)
story NAME:
    cargo test --locked --test integration {{ quote(NAME) }}

# one test with a real package client, or all whose name contains NAME; installs the clients first
client NAME:
    cargo build --locked
    python3 tests/clients/install.py
    scripts/pytest -n 0 tests/clients -k {{ quote(NAME) }}

# every test; arguments go to pytest
test *ARGUMENTS:
    scripts/test {{ ARGUMENTS }}

# everything that has to pass before a change lands
ci:
    .ci/run

# fuzz one target, or all, for some seconds each
fuzz TARGET SECONDS:
    scripts/fuzz {{ TARGET }} {{ SECONDS }}

# proof that a test notices every guard that is gone
sabotage *GUARDS:
    scripts/sabotage {{ GUARDS }}

# kills, herds and a soak with the built program
torture *ARGUMENTS:
    cargo build --locked
    scripts/torture {{ ARGUMENTS }}

# what three replicas do together, with the built program and real servers
fleet *ARGUMENTS:
    cargo build --locked
    scripts/fleet {{ ARGUMENTS }}

# format all crates
fmt:
    cargo fmt --all

# clippy without warnings, and the walls between rooms
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo test --locked --test structure

# the program with a sample repository and nothing to configure
demo *ARGUMENTS:
    cargo run --locked -- demo {{ ARGUMENTS }}

# the microbenchmarks
bench *ARGUMENTS:
    cargo bench --locked --bench hot -- {{ ARGUMENTS }}

# other servers under load, side by side; writes docs/PERFORMANCE.md
compare *ARGUMENTS:
    python3 scripts/compare {{ ARGUMENTS }}

# the pictures of the README, from real runs
record *NAMES:
    scripts/record {{ NAMES }}
