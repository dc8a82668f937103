//! Sources that look right.

use tokio::sync::watch;

use super::sync::{Arc, Mutex, spawn};
use super::{Answer, Call, Origin};

type Round = watch::Sender<Option<Answer>>;

/// A round that callers may take seats in, and whether somebody sends queries.
#[derive(Default)]
struct State {
    open: Option<Round>,
    has_runner: bool,
}

/// How a runner gets from one round to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// The round stays open until the answer is there.
    JoinsTheQueryUnderWay,
    /// The round stays open until the query is on its way.
    SendsBeforeItClosesTheRound,
    /// A call that comes after the last look and before the place is given up is nobody's.
    LeavesWithoutLookingBack,
}

pub(super) fn joins_the_query_under_way(origin: Origin) -> Call {
    with(origin, Mistake::JoinsTheQueryUnderWay)
}

pub(super) fn sends_before_it_closes_the_round(origin: Origin) -> Call {
    with(origin, Mistake::SendsBeforeItClosesTheRound)
}

pub(super) fn leaves_without_looking_back(origin: Origin) -> Call {
    with(origin, Mistake::LeavesWithoutLookingBack)
}

fn with(origin: Origin, mistake: Mistake) -> Call {
    let state = Arc::new(Mutex::new(State::default()));
    Arc::new(move || {
        let (origin, shared) = (origin.clone(), Arc::clone(&state));
        Box::pin(async move {
            let (mut seat, needs_runner) = {
                let mut state = shared.lock().unwrap();
                let seat = state.open.get_or_insert_with(|| watch::Sender::new(None)).subscribe();
                (seat, !std::mem::replace(&mut state.has_runner, true))
            };
            if needs_runner {
                spawn(run(origin, shared, mistake));
            }
            let answer = seat.wait_for(Option::is_some).await.unwrap();
            answer.unwrap()
        })
    })
}

async fn run(origin: Origin, shared: Arc<Mutex<State>>, mistake: Mistake) {
    let close = || shared.lock().unwrap().open.take();
    loop {
        let (round, answer) = match mistake {
            Mistake::LeavesWithoutLookingBack => {
                let Some(round) = close() else { break };
                (Some(round), origin.clone().query().await)
            }
            Mistake::JoinsTheQueryUnderWay => {
                let answer = origin.clone().query().await;
                (close(), answer)
            }
            Mistake::SendsBeforeItClosesTheRound => {
                let query = shuttle::future::spawn(origin.clone().query());
                shuttle::future::yield_now().await;
                let round = close();
                (round, query.await.unwrap())
            }
        };
        if let Some(round) = round {
            round.send_replace(Some(answer));
        }
        if mistake != Mistake::LeavesWithoutLookingBack {
            let mut state = shared.lock().unwrap();
            state.has_runner = state.open.is_some();
            if !state.has_runner {
                return;
            }
        }
    }
    shared.lock().unwrap().has_runner = false;
}

/// Right, but for what it does with an error.
pub(super) fn falls_back_to_what_it_knew(origin: Origin) -> Call {
    let (source, last) = (super::real(origin), Arc::new(Mutex::new(None)));
    Arc::new(move || {
        let (answer, last) = (source(), Arc::clone(&last));
        Box::pin(async move {
            let answer = answer.await;
            let mut last = last.lock().unwrap();
            *last = answer.ok().or(*last);
            last.ok_or(super::Failed::Told)
        })
    })
}

/// Right, but for the token that it takes what it was told to stand under.
pub(super) fn looks_only_after_the_query(origin: Origin) -> Call {
    let (source, known) = (super::real(origin.clone()), Arc::new(Mutex::new(None)));
    Arc::new(move || {
        let (answer, known, origin) = (source(), Arc::clone(&known), origin.clone());
        Box::pin(async move {
            let look = || *origin.version.lock().unwrap();
            let token = look();
            let told = known.lock().unwrap().and_then(|(under, told)| (under == token).then_some(told));
            if let Some(told) = told {
                return Ok(told);
            }
            let told = answer.await?;
            *known.lock().unwrap() = Some((look(), told));
            Ok(told)
        })
    })
}
