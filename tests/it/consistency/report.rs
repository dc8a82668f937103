//! What a run says of a strategy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use super::checker::{self, Moment, Outcome, Span};
use super::faults;
use super::load::Log;

/// The heads of the table.
const COLUMNS: &str = "| strategy | checked reads | stale | per 1,000 | backward | failed reads | adds | removes | \
                       failed writes | of them by memcached | list queries a write | in the calm |";

/// When what was left alone, and what was seen until then.
#[derive(Default)]
pub struct Phases {
    /// Until then nothing went wrong.
    pub calm_until: Moment,
    pub calm_list_queries: usize,
    /// Until then nothing but memcached and its lines did.
    pub only_memcached_until: Moment,
}

/// How many stale reads are told of one by one.
const TOLD: usize = 5;

pub struct Report {
    pub strategy: &'static str,
    pub reads: usize,
    pub stale: usize,
    /// Reads by what is wrong with them.
    pub wrong: BTreeMap<checker::Fault, usize>,
    pub failed_reads: usize,
    pub adds: usize,
    pub removes: usize,
    pub failed_writes: usize,
    /// Those that failed while nothing but memcached and its lines did.
    pub failed_by_memcached: usize,
    pub list_queries: usize,
    pub calm_list_queries: usize,
    /// Those that had begun while nothing went wrong.
    pub calm_writes: usize,
    pub faults: BTreeMap<faults::Fault, usize>,
    examples: Vec<String>,
}

impl Report {
    /// Judges what clients saw.
    pub fn new(strategy: &'static str, log: &Log, phases: &Phases) -> Self {
        let history = &log.history;
        let findings = checker::check(history);
        let reads_with = |fault| {
            let found = findings.iter().filter(|finding| fault == finding.fault);
            found.map(|finding| finding.read).collect::<BTreeSet<_>>().len()
        };
        let kinds: BTreeSet<_> = findings.iter().map(|finding| finding.fault).collect();
        let adds = history.adds.iter().map(|add| (add.span, add.outcome));
        let removes = history.removes.iter().map(|remove| (remove.span, remove.outcome));
        let writes = || adds.clone().chain(removes.clone());
        let is_done = |(_, outcome): &(Span, Outcome)| *outcome == Outcome::Acknowledged;
        let failed = || writes().filter(|write| !is_done(write));
        let is_by_memcached = |(span, _): &(Span, Outcome)| span.end < phases.only_memcached_until;
        Self {
            strategy,
            reads: history.reads.len(),
            stale: findings.iter().map(|finding| finding.read).collect::<BTreeSet<_>>().len(),
            wrong: kinds.into_iter().map(|fault| (fault, reads_with(fault))).collect(),
            failed_reads: log.failed_reads(),
            adds: adds.clone().filter(is_done).count(),
            removes: removes.clone().filter(is_done).count(),
            failed_writes: failed().count(),
            failed_by_memcached: failed().filter(is_by_memcached).count(),
            list_queries: 0,
            calm_list_queries: phases.calm_list_queries,
            calm_writes: writes().filter(|(span, _)| span.begin < phases.calm_until).count(),
            faults: BTreeMap::new(),
            examples: findings.iter().take(TOLD).map(|finding| tell(log, finding)).collect(),
        }
    }

    pub fn reads_with(&self, fault: checker::Fault) -> usize {
        self.wrong.get(&fault).copied().unwrap_or_default()
    }

    fn row(&self) -> String {
        let per_thousand = 1000. * self.stale as f64 / self.reads as f64;
        let queries = self.list_queries as f64 / (self.adds + self.removes) as f64;
        let calm_queries = self.calm_list_queries as f64 / self.calm_writes as f64;
        format!(
            "| `{}` | {} | {} | {per_thousand:.2} | {} | {} | {} | {} | {} | {} | {queries:.2} | {calm_queries:.2} |",
            self.strategy,
            self.reads,
            self.stale,
            self.reads_with(checker::Fault::Backward),
            self.failed_reads,
            self.adds,
            self.removes,
            self.failed_writes,
            self.failed_by_memcached,
        )
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: Vec<String>| counts.join(", ");
        let wrong = list(self.wrong.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect());
        let faults = list(self.faults.iter().map(|(fault, count)| format!("{fault} {count}")).collect());
        writeln!(f, "{}: wrong reads: {}", self.strategy, if wrong.is_empty() { "none" } else { &wrong })?;
        if self.stale == 0 {
            // The rule of three: no event among so many, so with 95 % confidence fewer than this.
            let bound = 3. / self.reads as f64;
            writeln!(f, "  0 of {}: below {bound:.1e} with 95 % confidence", self.reads)?;
        }
        writeln!(f, "  faults: {faults}")?;
        self.examples.iter().try_for_each(|example| writeln!(f, "  {example}"))
    }
}

/// Returns the table of several runs, and what else there is to say of each.
pub fn table(reports: &[Report]) -> String {
    let line = format!("|---|{}", "--:|".repeat(COLUMNS.matches('|').count() - 2));
    let rows: Vec<_> = reports.iter().map(Report::row).collect();
    let details: String = reports.iter().map(ToString::to_string).collect();
    format!("{COLUMNS}\n{line}\n{}\n\n{details}", rows.join("\n"))
}

fn tell(log: &Log, finding: &checker::Finding) -> String {
    let seconds = |moment: Moment| moment as f64 / 1e9;
    let read = &log.history.reads[finding.read];
    let Span { begin, end } = read.span;
    let adds = log.history.adds.iter().filter(|add| Some(add.name) == finding.name);
    let removes = log.history.removes.iter().filter(|remove| Some(remove.id) == finding.id);
    let write = |what: &str, span: Span, outcome| {
        format!("; {what} {:.3}-{:.3} s {outcome:?}", seconds(span.begin), seconds(span.end))
    };
    let writes: String = adds
        .map(|add| write("added", add.span, add.outcome))
        .chain(removes.map(|remove| write("removed", remove.span, remove.outcome)))
        .collect();
    let (name, id) = (finding.name.unwrap_or_default(), finding.id.unwrap_or_default());
    format!(
        "{:?}: task {name} with id {id}, read {:.3}-{:.3} s{writes}",
        finding.fault,
        seconds(begin),
        seconds(end)
    )
}
