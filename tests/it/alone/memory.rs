//! How much memory the program takes for clients and servers that want much of it.

mod bodies;
mod idle;
mod slow;
mod unread;
mod values;

const MIB: usize = 1024 * 1024;
