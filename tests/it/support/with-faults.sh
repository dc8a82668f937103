#!/bin/sh
# For RUSTC_WORKSPACE_WRAPPER: compiles this package with fault injection, and the crates that it depends on as they are.
exec "$@" --cfg fault_injection
