//! The page as people see it: a real Chromium, driven as they do.

mod accessibility;
mod keyboard;
mod looks;
mod origin;
mod outages;
mod pagination;
mod plain;
mod scripted;

use crate::support::app::App;

/// A site with these tasks.
async fn list(names: &[&str]) -> App {
    let app = App::start();
    for name in names {
        app.add(name).await;
    }
    app
}

const ERRANDS: [&str; 3] = ["Buy milk", "Call home", "Water the plants"];
