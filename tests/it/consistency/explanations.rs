//! The checker, checked: with a search for the moments that would explain what was seen, and with examples.

use std::collections::BTreeSet;
use std::sync::Arc;

use fastrand::Rng;

use super::checker::{Add, Fault, History, Id, Moment, Name, Outcome, Page, Read, Remove, Row, Span, check};

/// A moment after all others.
const NEVER: Moment = 100;

/// One task's history, as good as arbitrary. It is removed only by those who have seen it.
fn arbitrary(rng: &mut Rng) -> History {
    let mut span = |after: Moment| {
        let begin = after + rng.u64(..10);
        Span { begin, end: begin + rng.u64(..6) }
    };
    let spans: [Span; 5] = std::array::from_fn(|_| span(0));
    let outcome = |is_answered| if is_answered { Outcome::Acknowledged } else { Outcome::Unknown };
    let shown: Vec<bool> = spans.iter().map(|_| rng.bool()).collect();
    let read = |(span, is_shown): (&Span, &bool)| Read {
        span: *span,
        page: Arc::new(Page::only(if *is_shown { vec![Row { id: 1, name: Some(1) }] } else { vec![] })),
    };
    let reads: Vec<_> = spans[1..].iter().zip(&shown[1..]).map(read).collect();
    let seen = reads.iter().filter(|read| !read.page.rows.is_empty()).map(|read| read.span.end).min();
    let mut removes = vec![];
    for _ in 0..if seen.is_some() { rng.usize(..3) } else { 0 } {
        let begin = seen.unwrap_or_default() + rng.u64(..8);
        let span = Span { begin, end: begin + rng.u64(..6) };
        removes.push(Remove { id: 1, span, outcome: outcome(rng.bool()) });
    }
    History { adds: vec![Add { name: 1, span: spans[0], outcome: outcome(rng.bool()) }], removes, reads }
}

/// Whether there is a moment of the add and one of the remove with which every read, at some moment of its own, saw
/// what it showed.
fn has_an_explanation(history: &History) -> bool {
    let Add { span, outcome, .. } = history.adds[0];
    let is_answered = outcome == Outcome::Acknowledged;
    let latest_add = if is_answered { span.end } else { NEVER };
    let earliest_removal = history.removes.iter().map(|remove| remove.span.begin).min().unwrap_or(NEVER);
    let answered = history.removes.iter().filter(|remove| remove.outcome == Outcome::Acknowledged);
    let latest_removal = answered.map(|remove| remove.span.end).min().unwrap_or(NEVER);
    let explains = |added: Moment, removed: Moment| {
        history.reads.iter().all(|Read { span, page }| {
            let is_shown = !page.rows.is_empty();
            let may_be_shown = span.begin <= removed && added <= span.end;
            let may_be_missing = span.begin <= added || removed <= span.end;
            if is_shown { may_be_shown } else { may_be_missing }
        })
    };
    // Nothing happens between this and never.
    let moments = || (0..40).chain([NEVER]);
    moments().filter(|added| (span.begin..=latest_add).contains(added)).any(|added| {
        let removals = moments().filter(|removed| (earliest_removal..=latest_removal).contains(removed));
        removals.into_iter().any(|removed| explains(added, removed))
    })
}

#[test]
fn an_alarm_is_given_exactly_where_nothing_explains_what_was_seen() {
    let mut rng = Rng::with_seed(1);
    let mut explained = 0;
    for number in 0..40_000 {
        let history = arbitrary(&mut rng);
        let (findings, is_explained) = (check(&history), has_an_explanation(&history));
        assert_eq!(findings.is_empty(), is_explained, "{number}: {history:#?}\n{findings:#?}");
        explained += usize::from(is_explained);
    }
    assert!((5_000..35_000).contains(&explained), "{explained} of 40000 have an explanation");
}

#[track_caller]
fn check_one(
    add: Outcome,
    remove: Option<(Moment, Outcome)>,
    reads: &[(Moment, bool)],
    expected: &[(usize, Fault)],
) {
    let at = |begin| Span { begin, end: begin + 10 };
    let rows = |is_shown| if is_shown { vec![Row { id: 7, name: Some(1) }] } else { vec![] };
    let history = History {
        adds: vec![Add { name: 1, span: at(0), outcome: add }],
        removes: remove
            .into_iter()
            .map(|(begin, outcome)| Remove { id: 7, span: at(begin), outcome })
            .collect(),
        reads: reads
            .iter()
            .map(|(begin, is_shown)| Read { span: at(*begin), page: Arc::new(Page::only(rows(*is_shown))) })
            .collect(),
    };
    let found: BTreeSet<_> = check(&history).iter().map(|finding| (finding.read, finding.fault)).collect();
    assert_eq!(found, expected.iter().copied().collect());
}

#[test]
fn an_add_must_be_shown_from_its_answer_until_its_removal_begins() {
    use Outcome::Acknowledged;
    check_one(Acknowledged, None, &[(5, false), (10, false), (11, true)], &[]);
    check_one(Acknowledged, None, &[(11, false)], &[(0, Fault::Lost)]);
    check_one(Acknowledged, Some((30, Acknowledged)), &[(12, true), (19, false)], &[(1, Fault::Lost)]);
    check_one(Acknowledged, Some((30, Acknowledged)), &[(12, true), (20, false)], &[]);
}

#[test]
fn a_remove_never_comes_back() {
    use Outcome::Acknowledged;
    check_one(Acknowledged, Some((30, Acknowledged)), &[(12, true), (40, true)], &[]);
    check_one(Acknowledged, Some((30, Acknowledged)), &[(12, true), (41, true)], &[(1, Fault::Resurrected)]);
}

#[test]
fn a_write_without_an_answer_is_believed_once_it_is_seen() {
    use Outcome::{Acknowledged, Unknown};
    check_one(Unknown, None, &[(50, false), (61, true)], &[]);
    check_one(Unknown, None, &[(50, true), (60, false)], &[]);
    check_one(Unknown, None, &[(50, true), (61, false)], &[(1, Fault::Backward)]);
    check_one(Acknowledged, Some((30, Unknown)), &[(12, true), (50, true), (90, false)], &[]);
    check_one(
        Acknowledged,
        Some((30, Unknown)),
        &[(12, true), (50, false), (90, true)],
        &[(2, Fault::Backward)],
    );
}

#[test]
fn a_write_that_failed_has_not_happened() {
    use Outcome::{Acknowledged, Failed};
    check_one(Failed, None, &[(50, false)], &[]);
    check_one(Failed, None, &[(50, true)], &[(0, Fault::Phantom)]);
    let both = [(1, Fault::Lost), (1, Fault::Backward)];
    check_one(Acknowledged, Some((30, Failed)), &[(12, true), (50, false)], &both);
}

#[test]
fn a_task_has_one_id_and_an_id_one_task_and_a_page_as_many_as_it_says() {
    let at = |begin| Span { begin, end: begin + 1 };
    let row = |id, name| Row { id, name: Some(name) };
    let read = |begin, page| Read { span: at(begin), page: Arc::new(page) };
    let adds = (1..=3).map(|name| Add { name, span: at(0), outcome: Outcome::Unknown }).collect();
    let reads = vec![
        read(10, Page::only(vec![row(1, 1), row(2, 2)])),
        read(20, Page::only(vec![row(1, 1), row(2, 2), row(3, 2)])),
        read(30, Page::only(vec![row(1, 3), row(2, 2)])),
        read(40, Page::new(vec![row(1, 1), row(2, 2)], 1, 3, 100)),
    ];
    let findings = check(&History { adds, removes: vec![], reads });
    let found: Vec<_> = findings.iter().map(|found| (found.read, found.fault, found.id)).collect();
    let expected = [(1, Fault::Phantom, Some(3)), (2, Fault::Phantom, Some(1)), (3, Fault::Disorder, None)];
    assert_eq!(found, expected);
}

#[test]
fn a_page_answers_only_for_the_tasks_that_would_be_on_it() {
    let at = |begin| Span { begin, end: begin + 1 };
    let row = |id: Id| Row { id, name: Some(Name::try_from(id).unwrap()) };
    let page = |ids: &[Id], number| Page::new(ids.iter().copied().map(row).collect(), number, 5, 2);
    let adds = (1..=6).map(|name| Add { name, span: at(0), outcome: Outcome::Acknowledged }).collect();
    let everything = Page::only((1..=6).map(row).collect());
    let pages =
        [everything, page(&[1, 2], 1), page(&[3, 5], 2), page(&[6], 3), page(&[1, 3], 1), page(&[5], 3)];
    let reads =
        pages.into_iter().zip(2..).map(|(page, time)| Read { span: at(10 * time), page: Arc::new(page) });
    let findings = check(&History { adds, removes: vec![], reads: reads.collect() });
    let lost: Vec<_> = findings.iter().filter(|finding| finding.fault == Fault::Lost).collect();
    assert_eq!(
        lost.iter().map(|found| (found.read, found.id)).collect::<Vec<_>>(),
        [(2, Some(4)), (4, Some(2)), (5, Some(6))]
    );
}
