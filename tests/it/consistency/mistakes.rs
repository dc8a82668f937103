//! The test of pages, tested: each mistake here is made on purpose, in a story in which it shows, and the checker must
//! say of what visitors saw exactly what is wrong. Without the mistake the same story must end well.
//!
//! Mistakes in our code are those of `src/mistake.rs` and of the crates' `mistake.rs`; others are made where they would
//! be, in the database's triggers or the configuration. Mistakes inside the gate are in
//! `crates/neverstale/tests/it/version/interleavings.rs`, as orders in which its callers take turns.

mod world;

use std::collections::BTreeSet;
use std::panic::Location;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use self::world::World;
use super::checker::Fault::{self, *};
use crate::structure;
use crate::support::mistaken;
use testkit::eventually;
use testkit::line::Weather;
use testkit::process::find;

/// Where a mistake is made, and which.
#[derive(Clone, Copy, Debug)]
pub enum Making {
    /// One of `src/mistake.rs` or `crates/neverstale/src/mistake.rs`.
    Code(&'static str),
    /// By another trigger on `tasks`, which fires then.
    Trigger(&'static str),
    /// By a variable.
    Variable(&'static str, &'static str),
}

use Making::{Code, Trigger, Variable};

/// Plays a story with the mistake and without.
#[track_caller]
fn check(making: Making, breaks: &[Fault], story: impl AsyncFn(&World)) -> impl Future<Output = ()> {
    let (breaks, caller) = (breaks.iter().copied().collect::<BTreeSet<_>>(), Location::caller());
    async move {
        for (making, expected) in [(Some(making), breaks), (None, BTreeSet::new())] {
            let world = World::new(making).await;
            story(&world).await;
            let verdict = world.verdict();
            println!("{making:?}: {verdict:?}");
            assert_eq!(verdict, expected, "{making:?} at {caller}");
        }
    }
}

/// What every page of the first list shows, and no other answer of the database.
const FIRST: &str = "Task 0";

/// The statement that reads list and version, and no other, when a process sends it for the first time.
const LIST_QUERY: &str = "union all";

/// What the keys of pages end with, but for their version.
const PAGE: &str = ".";

/// A list is shown, changed elsewhere, and shown again.
async fn a_change_elsewhere(world: &World) {
    world.add(1, 0).await;
    world.read(0).await.expect("a page");
    world.add(1, 1).await;
    world.read(0).await.expect("a page");
}

/// The list is changed after one read has been told its version, and before another asks for it.
async fn a_change_between_two_questions_for_the_version(world: &World) {
    world.add(1, 0).await;
    world.read(0).await.expect("a page");
    let to_database = &world.process(0).to_database;
    to_database.hold_answers("");
    let early = world.begin_read(0);
    to_database.wait_for_held().await;
    world.add(1, 1).await;
    let late = world.begin_reads(0).await;
    to_database.release();
    for read in late.into_iter().chain([early]) {
        read.await.unwrap().expect("a page");
    }
}

/// The list is changed while another process has read it and not yet been told; then others ask that process, and get
/// as far as looking in the cache for `key`, of the new version.
async fn a_change_during_a_build(world: &World, key: &str) {
    world.add(1, 0).await;
    let to_database = &world.process(0).to_database;
    to_database.hold_answers(FIRST);
    let build = world.begin_read(0);
    to_database.wait_for_held().await;
    world.add(1, 1).await;
    let key = format!("{key}~@{}", world.version().await);
    let others = world.begin_reads(0).await;
    if world.is_mistaken() {
        // Then they may not even look for it. The first mistake was made by the read that builds.
        eventually("one of them takes the wrong flight", async || world.mistakes(0) > 1).await;
    } else {
        eventually("they look for it", async || world.process(0).to_memcached.messages_with(&key) > 0).await;
    }
    world.probe(0).await;
    to_database.release();
    for read in others.into_iter().chain([build]) {
        read.await.unwrap().expect("a page");
    }
}

/// The list is changed while another process has read it and not yet been told; afterwards it is shown again.
async fn a_change_before_a_build_ends(world: &World) {
    world.add(1, 0).await;
    let to_database = &world.process(0).to_database;
    to_database.hold_answers(FIRST);
    let build = world.begin_read(0);
    to_database.wait_for_held().await;
    world.add(1, 1).await;
    to_database.release();
    build.await.unwrap().expect("a page");
    world.read(0).await.expect("a page");
}

/// The list is changed after a read has been told its version and before it reads the list; and then the change is
/// undone, by bringing back what the database was.
async fn a_change_before_a_build_that_is_undone(world: &World) {
    world.add(1, 0).await;
    let dump = world.dump();
    let to_database = &world.process(0).to_database;
    to_database.hold(LIST_QUERY);
    let build = world.begin_read(0);
    to_database.wait_for_held().await;
    world.add(1, 1).await;
    to_database.release();
    let rows = build.await.unwrap().expect("a page");
    world.restore(&dump, [rows[1].id]).await;
    world.read(0).await.expect("a page");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_joins_a_version_query_sent_before_it_is_caught() {
    check(Code("JoinsSentQuery"), &[Lost], a_change_between_two_questions_for_the_version).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn falling_back_to_the_last_known_version_is_caught() {
    check(Code("FallsBack"), &[Lost], async |world| {
        world.add(1, 0).await;
        world.read(0).await.expect("a page");
        world.add(1, 1).await;
        world.process(0).line.set(Weather::Cut);
        world.read(0).await;
        world.process(0).line.set(Weather::Fair);
        world.read(0).await.expect("a page");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_read_after_its_list_is_caught() {
    check(Code("LabelReadSecond"), &[Lost], a_change_before_a_build_ends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_page_of_whichever_version_is_caught() {
    let story = async |world: &World| a_change_during_a_build(world, PAGE).await;
    check(Code("PageFlightWithoutVersion"), &[Lost], story).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_list_of_whichever_version_is_caught() {
    let story = async |world: &World| a_change_during_a_build(world, "tasks.all").await;
    check(Code("ListFlightWithoutVersion"), &[Lost], story).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_kept_under_the_version_that_was_asked_for_is_caught() {
    check(Code("PageUnderAskedVersion"), &[Resurrected], a_change_before_a_build_that_is_undone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_kept_under_the_version_that_was_asked_for_is_caught() {
    check(Code("ListUnderAskedVersion"), &[Resurrected], a_change_before_a_build_that_is_undone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_without_a_version_are_caught() {
    check(Code("KeyWithoutVersion"), &[Lost], a_change_elsewhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_only_counts_is_caught_when_a_dump_is_restored() {
    check(Code("VersionWithoutToken"), &[Lost, Resurrected], async |world| {
        world.add(1, 0).await;
        let dump = world.dump();
        world.add(1, 1).await;
        let rows = world.read(0).await.expect("a page");
        world.restore(&dump, [rows[1].id]).await;
        world.add(1, 2).await;
        world.read(0).await.expect("a page");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_without_the_number_of_the_page_are_caught() {
    check(Code("KeyWithoutPage"), &[Disorder], async |world| {
        let sql = "insert into tasks (name) select 'Task ' || number from generate_series(0, 100) as number";
        world.add_by_hand(0..=100, sql).await;
        for number in [1, 2] {
            world.read_page(0, number).await.expect("a page");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_the_process_of_whichever_version_is_caught() {
    check(Code("CopyOfAnyVersion"), &[Lost], a_change_elsewhere).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_acknowledged_before_the_database_has_answered_is_caught() {
    check(Code("AcknowledgesEarly"), &[Lost], async |world| {
        world.add(1, 0).await;
        let lock = world.database().lock_tasks().await;
        let mut add = Some(world.begin_add(0, 1));
        world.database().wait_for_waiting(1).await;
        if world.is_mistaken() {
            add.take().unwrap().await.unwrap();
        }
        world.read(1).await.expect("a page");
        drop(lock);
        if let Some(add) = add {
            add.await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_who_deletes_from_the_cache_is_caught() {
    for (making, is_silent) in [(Some(Code("WriterDeletes")), false), (None, true)] {
        let world = World::new(making).await;
        world.add(1, 0).await;
        let rows = world.read(0).await.expect("a page");
        // Until nothing is built any more.
        world.memcached().keys();
        let sent = || world.process(0).to_memcached.messages();
        let before = sent();
        world.remove(0, rows[0].id).await;
        assert_eq!(sent() == before, is_silent, "{making:?}");
        assert_eq!(world.verdict(), BTreeSet::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_only_the_changes_of_the_program_is_caught() {
    let mistake = "before insert or update or delete on tasks for each statement \
                   when (current_setting('application_name') = 'tasklist')";
    check(Trigger(mistake), &[Lost], async |world| {
        world.add(1, 0).await;
        world.read(0).await.expect("a page");
        world.add_by_hand([1], "insert into tasks (name) values ('Task 1')").await;
        world.read(0).await.expect("a page");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_counting_deletes_is_caught() {
    let mistake = "before insert or update or truncate on tasks for each statement";
    check(Trigger(mistake), &[Resurrected], async |world| {
        world.add(1, 0).await;
        let rows = world.read(0).await.expect("a page");
        world.remove(1, rows[0].id).await;
        world.read(0).await.expect("a page");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_counting_truncates_is_caught() {
    let mistake = "before insert or update or delete on tasks for each statement";
    check(Trigger(mistake), &[Resurrected], async |world| {
        world.add(1, 0).await;
        let rows = world.read(0).await.expect("a page");
        world.remove_by_hand([rows[0].id], "truncate tasks").await;
        world.read(0).await.expect("a page");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_that_writers_delete_is_caught_when_a_set_comes_late() {
    check(Variable("CACHE_STRATEGY", "delete"), &[Lost], async |world| {
        world.add(1, 0).await;
        let to_memcached = &world.process(0).to_memcached;
        to_memcached.hold(FIRST);
        let build = world.begin_read(0);
        to_memcached.wait_for_held().await;
        world.add(1, 1).await;
        to_memcached.release();
        build.await.unwrap().expect("a page");
        let is_list = |key: &String| key.starts_with("tasks.all") && !key.ends_with("~lock");
        eventually("it arrives", async || world.memcached().keys_now().iter().any(is_list)).await;
        world.read(1).await.expect("a page");
    })
    .await;
}

#[test]
fn every_mistake_of_the_program_has_a_story() {
    let stories = structure::read("tests/it/consistency/mistakes.rs");
    let folders = structure::SOURCES.into_iter().flat_map(structure::files);
    let programs: Vec<_> = folders.filter(|path| path.ends_with("/mistake.rs")).collect();
    assert_eq!(programs.len(), 3, "{programs:?}");
    for program in programs.iter().map(|path| structure::read(path)) {
        let body = program.split_once("enum Mistake {").unwrap().1.split_once('}').unwrap().0;
        let mistakes: Vec<_> = body.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
        assert!(mistakes.len() > 1, "{mistakes:?}");
        for mistake in mistakes {
            assert!(stories.contains(&format!("Code({mistake:?})")), "{mistake} has no story");
        }
    }
}

#[test]
fn no_feature_of_cargo_injects_faults() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        for feature in package["features"].as_object().unwrap().keys() {
            assert!(!feature.contains("fault_") && !feature.contains("mistake"), "{}", package["name"]);
        }
    }
    for path in structure::SOURCES.into_iter().flat_map(structure::files).chain(["build.rs".into()]) {
        let code = structure::code(&path);
        assert!(!code.contains("rustc-cfg"), "{path} sets a condition");
        let is_alone = code.matches("fault_injection").count() == code.matches("(fault_injection)").count();
        assert!(is_alone, "{path} joins the condition with another");
    }
}

/// Whether a program would listen to somebody who wants a mistake.
fn can_make_mistakes(program: &Path) -> bool {
    let grep =
        Command::new(find("grep")).args(["--quiet", "--text", "TASKLIST_MISTAKE"]).arg(program).status();
    grep.unwrap().success()
}

#[test]
fn the_program_that_is_shipped_can_make_none_of_them() {
    assert!(can_make_mistakes(mistaken::program()));
    assert!(!can_make_mistakes(Path::new(env!("CARGO_BIN_EXE_tasklist"))));
}
