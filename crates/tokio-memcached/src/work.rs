//! What a caller asks of a server, on its way from the queue to the connection.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{ErrorKind, Failure};
use super::protocol::{Request, Response};

/// Work in a server's queue. Not a byte of it has been written.
pub(super) struct Queued {
    pub(super) work: Work,
    /// When its caller asked.
    pub(super) since: Instant,
    /// Whether a connection ended before it could write this.
    pub(super) was_returned: bool,
}

/// One operation, and the channel on which its caller waits.
pub(super) enum Work {
    /// One command with one response.
    One(Request, Answer),
    /// Quiet commands and a `Noop`; each response comes with the index of its command.
    Quiet(Vec<Request>, Answers),
    /// `Stat`, whose responses end with one without a key.
    Stat(Request, Answers),
}

/// Where the response to one command goes.
pub(super) type Answer = oneshot::Sender<Result<Response, Failure>>;

/// Where the responses to several commands go.
pub(super) type Answers = oneshot::Sender<Result<Vec<(usize, Response)>, Failure>>;

/// Where the result of written work goes.
pub(super) enum Reply {
    One(Answer),
    Many(Answers),
    /// Nowhere: the connection asked for itself, to see whether it still works.
    Probe,
}

impl Queued {
    pub(super) fn new(work: Work) -> Self {
        Self { work, since: Instant::now(), was_returned: false }
    }

    /// Tells the caller that nothing was sent.
    pub(super) fn fail(self, kind: ErrorKind) {
        let failure = Failure::unwritten(kind);
        match self.work {
            Work::One(_, answer) => Reply::One(answer).fail(failure),
            Work::Quiet(_, answers) | Work::Stat(_, answers) => Reply::Many(answers).fail(failure),
        }
    }

    /// Returns whether the caller waits no more.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.work {
            Work::One(_, answer) => answer.is_closed(),
            Work::Quiet(_, answers) | Work::Stat(_, answers) => answers.is_closed(),
        }
    }
}

impl Reply {
    /// Tells the caller that there is no response. A caller that has given up is not missed.
    pub(super) fn fail(self, failure: Failure) {
        match self {
            Self::One(answer) => drop(answer.send(Err(failure))),
            Self::Many(answers) => drop(answers.send(Err(failure))),
            Self::Probe => {}
        }
    }
}
