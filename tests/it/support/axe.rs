//! axe-core, which looks for what keeps people from using a page. It comes from npm, for tests only: the lock file says
//! which version, and by its digest that it is the one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use testkit::process::find;

/// A script that gives what axe-core finds: the rule, and the elements that break it.
pub const RUN: &str = "
    const done = arguments[arguments.length - 1];
    const levels = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const words = ({ id, nodes }) => `${id}: ${nodes.map((node) => node.html + node.failureSummary).join(', ')}`;
    axe.run({ runOnly: levels }).then(({ violations, passes }) => {
        done(passes.length > 10 ? violations.map(words) : ['hardly a rule was applied']);
    }, (error) => done([String(error)]));";

static SOURCE: OnceLock<String> = OnceLock::new();

/// The script that defines `axe`.
pub fn source() -> &'static str {
    SOURCE.get_or_init(|| fs::read_to_string(install()).unwrap())
}

/// Installs it below `target`, unless it is there: tests that are run again need no network.
fn install() -> PathBuf {
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/alone/browser/axe");
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe");
    let script = installed.join("node_modules/axe-core/axe.min.js");
    let lock = |folder: &Path| fs::read(folder.join("package-lock.json")).ok();
    if lock(&installed) == lock(&wanted) && script.exists() {
        return script;
    }
    // Under its own name once it is complete.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for name in ["package.json", "package-lock.json"] {
        fs::copy(wanted.join(name), folder.path().join(name)).unwrap();
    }
    let mut npm = Command::new(find("npm"));
    let output = npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder.path());
    let output = output.output().unwrap();
    assert!(
        output.status.success(),
        "npm could not install axe-core:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let _ = fs::remove_dir_all(&installed);
    fs::rename(folder.path(), &installed).unwrap();
    script
}
