//! The application under test: its processes, its pages and its visitors. Servers and proxies are in `testkit`.

pub mod app;
pub mod axe;
pub mod backends;
pub mod browser;
pub mod clock;
pub mod database;
pub mod disk;
pub mod example;
pub mod jar;
pub mod mistaken;
pub mod nginx;
pub mod session;
pub mod visitor;
pub mod words;
