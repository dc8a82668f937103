//! Clients that are slow, silent, greedy, confused or many: the others are served, and the process stays as it is.

mod counts;
