//! The Dockerfile, replayed step by step: the first image in a scratch directory, the second in a root of its own over
//! this machine's, which stands for the base image.
//!
//! A release takes minutes to compile. So a `cargo` of ours stands in for the real one: it lets that look at what it
//! looks at before it compiles, and hands out the program that the tests have. With `DOCKERFILE_REPLAY=full` the real
//! one runs, and leaves what it makes in `target/image`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::yaml;
use crate::structure::read;
use crate::support::app::{BINARY, Settings};
use testkit::free_port;
use testkit::postgres::Postgres;
use testkit::process::{find, is_root};

const STAND_IN: &str = r#"#!/bin/sh
[ "$*" = "build --release --locked" ] || { echo "what is cargo $*?" >&2; exit 1; }
"$REAL_CARGO" tree --locked --offline >/dev/null && mkdir -p target/release && cp "$PROGRAM" target/release/tasklist
"#;

/// Makes a root over this machine's, does in it what its first argument says, and becomes a user's command there.
const ROOT: &str = r#"set -e
mount -t tmpfs none "$1"
mkdir "$1/over" "$1/work" "$1/root"
mount -t overlay none -o "lowerdir=/,upperdir=$1/over,workdir=$1/work" "$1/root"
root="$1/root" steps="$2" user="$3" directory="$4"
shift 4
eval "$steps"
exec chroot --userspec="$user" "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
"#;

/// An instruction and what follows it.
type Step = (String, String);

/// The images of a Dockerfile, each with its steps, `FROM` first.
pub fn images() -> Vec<Vec<Step>> {
    let text = read("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut images: Vec<Vec<Step>> = vec![];
    for line in lines {
        let (instruction, rest) = line.split_once(' ').unwrap();
        if instruction == "FROM" {
            images.push(vec![]);
        }
        images.last_mut().unwrap().push((instruction.into(), rest.trim().into()));
    }
    images
}

/// Returns what an image says of something, once.
pub fn said<'a>(image: &'a [Step], instruction: &str) -> &'a str {
    let mut found = image.iter().filter(|(name, _)| name == instruction);
    let (Some((_, rest)), None) = (found.next(), found.next()) else { panic!("one {instruction}") };
    rest
}

/// The variables of the image that runs.
pub fn environment() -> Vec<(String, String)> {
    let images = images();
    let pairs = said(&images[1], "ENV").split(' ').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether an entry of the package's directory is sent to Docker.
fn is_sent(name: &str) -> bool {
    let ignore = read(".dockerignore");
    let mut lines = ignore.lines();
    assert_eq!(lines.next(), Some("*"), "all is ignored but what follows");
    lines.any(|line| line.strip_prefix('!').expect("nothing else") == name)
}

fn copy(names: &[&str], to: &Path) {
    for name in names {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let sent: Vec<_> = match *name {
            "." => fs::read_dir(package).unwrap().map(|entry| entry.unwrap().file_name()).collect(),
            name => vec![name.into()],
        };
        for name in sent.iter().filter(|name| is_sent(name.to_str().unwrap())) {
            let status = Command::new(find("cp")).args(["-R", "-p"]).arg(package.join(name)).arg(to).status();
            assert!(status.unwrap().success());
        }
    }
}

fn is_full() -> bool {
    std::env::var("DOCKERFILE_REPLAY").is_ok_and(|how| how == "full")
}

/// Replays the image that builds, and returns its root.
fn build() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("stand-in");
    fs::create_dir(&bin).unwrap();
    let mut path = std::env::var("PATH").unwrap();
    if !is_full() {
        fs::write(bin.join("cargo"), STAND_IN).unwrap();
        fs::set_permissions(bin.join("cargo"), Permissions::from_mode(0o755)).unwrap();
        path = format!("{}:{path}", bin.display());
    }
    let mut directory = root.path().to_owned();
    for (instruction, rest) in &images()[0] {
        match instruction.as_str() {
            "FROM" => assert!(rest.ends_with(" AS build"), "{rest}"),
            "WORKDIR" => {
                directory = root.path().join(rest.trim_start_matches('/'));
                fs::create_dir_all(&directory).unwrap();
                if is_full() {
                    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/image");
                    fs::create_dir_all(&kept).unwrap();
                    symlink(kept, directory.join("target")).unwrap();
                }
            }
            "COPY" => {
                let (names, to) = rest.rsplit_once(' ').unwrap();
                copy(&names.split(' ').collect::<Vec<_>>(), &directory.join(to));
            }
            "RUN" => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", rest]).current_dir(&directory).env("PATH", &path);
                command
                    .env("REAL_CARGO", env!("CARGO"))
                    .env("PROGRAM", BINARY)
                    .env_remove("CARGO_TARGET_DIR");
                let output = command.output().unwrap();
                assert!(output.status.success(), "RUN {rest}:\n{}", String::from_utf8_lossy(&output.stderr));
            }
            other => panic!("{other} is not replayed"),
        }
    }
    root
}

/// What the shell does for the steps of the image that runs, until its user comes.
fn steps(built: &Path) -> String {
    let mut script = String::new();
    for (instruction, rest) in &images()[1] {
        script += &match instruction.as_str() {
            "RUN" => format!("chroot \"$root\" /bin/sh -c '{rest}'\n"),
            "COPY" => {
                let (from, to) = rest.strip_prefix("--from=build /").unwrap().split_once(' ').unwrap();
                format!("cp '{}' \"$root{to}\"\n", built.join(from).display())
            }
            "FROM" | "USER" | "WORKDIR" | "ENV" | "EXPOSE" | "CMD" => String::new(),
            other => panic!("{other} is not replayed"),
        };
    }
    script
}

/// Whether this user may make a root: root may, where it is not shut in itself.
fn may_mount() -> bool {
    let may = || {
        let mut command = Command::new(find("unshare"));
        command.args(["--mount", "sh", "-c", "mount -t tmpfs none /mnt"]).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    is_root() && may()
}

/// Returns a command as the image runs it.
fn in_image(settings: &Settings, built: &Path, words: &[&str]) -> Command {
    let image = &images()[1];
    let (user, directory) = (said(image, "USER"), said(image, "WORKDIR"));
    let mount = settings.directory().join("image");
    fs::create_dir_all(&mount).unwrap();
    let mut command = settings.shell("");
    let environment: Vec<_> =
        command.get_envs().map(|(name, value)| (name.to_owned(), value.unwrap().to_owned())).collect();
    command = if may_mount() {
        let mut command = Command::new(find("unshare"));
        command.args(["--mount", "/bin/sh", "-c", ROOT, "image"]).arg(&mount);
        command.args([&steps(built), user, directory]).args(words);
        command
    } else {
        eprintln!(
            "without the right to mount, the user of the image is not made, and its command runs as this user"
        );
        let mut command = Command::new(built.join("app/target/release").join(words[0]));
        command.args(&words[1..]).current_dir(&mount);
        command
    };
    command.env_clear().envs(environment);
    command
}

#[tokio::test]
async fn the_steps_of_the_dockerfile_build_an_image_that_migrates_and_serves() {
    let built = build();
    let stale = built.path().join("app/src/lib.rs");
    assert!(
        fs::read_to_string(stale).unwrap().contains("//! A task list"),
        "the sources have come for the empty ones"
    );

    let database = Postgres::shared().database().await;
    let mut settings =
        Settings::empty().with("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for (name, value) in environment() {
        settings = settings.with(&name, &value);
    }
    // The rest is what the platform and the operator set.
    let settings = settings
        .with("PORT", &free_port().to_string())
        .with("DATABASE_URL", &database.url)
        .with("SECRET_KEY", "a key of thirty-two bytes or more");
    let spec = yaml("spec.yaml");
    let migrate: Vec<_> = spec["jobs"][0]["run_command"].as_str().unwrap().split(' ').collect();
    let migrated = in_image(&settings, built.path(), &migrate).output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    assert!(String::from_utf8_lossy(&migrated.stdout).contains("applied 0001"));

    let command: Vec<String> = serde_json::from_str(said(&images()[1], "CMD")).unwrap();
    let command: Vec<_> = command.iter().map(String::as_str).collect();
    let app = settings.serve_by(in_image(&settings, built.path(), &command));
    app.add("In a container").await.assert_lists(["In a container"]);
    if may_mount() {
        assert_ne!(app.owner(), 0, "it does not run as root");
    }
    let (status, said) = app.terminate();
    assert!(status.success() && said.contains("stopped"), "{said}");
}

#[test]
fn the_port_of_the_image_is_the_one_that_the_platform_asks() {
    let environment = environment();
    let port = &environment.iter().find(|(name, _)| name == "PORT").unwrap().1;
    assert_eq!(said(&images()[1], "EXPOSE"), port);
    assert_eq!(yaml("spec.yaml")["services"][0]["http_port"].to_string(), *port);
    assert_eq!(yaml("compose.yaml")["services"]["web"]["ports"][0], format!("127.0.0.1:8080:{port}"));
}

#[test]
fn the_image_builds_with_the_compiler_of_the_tests() {
    let manifest = read("Cargo.toml");
    let version =
        manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap().trim_matches('"');
    let toolchain = read("rust-toolchain.toml");
    assert!(toolchain.contains(&format!("channel = \"{version}.")), "{toolchain}");
    let images = images();
    let image = said(&images[0], "FROM");
    assert!(image.starts_with(&format!("rust:{version}-")), "{image}");
}
