//! Tests that want the machine for themselves: `scripts/test` runs them one after the other, when all others are done.

mod browser;
mod clock;
mod disk;
mod memory;
