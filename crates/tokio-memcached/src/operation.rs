//! An operation on its way from a caller to the connection.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::Error;
use super::protocol::{Request, Response};

/// Where the responses to an operation go. The `opaque` of each is the place of its request in the operation.
pub(super) type Reply = oneshot::Sender<Result<Vec<Response>, Error>>;

/// Requests of one caller, of which not a byte has been written.
pub(super) struct Operation {
    /// The last is always responded to, those before it only if they are quiet and there is something to say.
    pub(super) requests: Vec<Request>,
    pub(super) reply: Reply,
    /// When its caller called.
    pub(super) since: Instant,
    /// Whether a connection ended before it could write this.
    pub(super) was_returned: bool,
}

impl Operation {
    /// Fails the operation. A caller that has given up is not missed.
    pub(super) fn fail(self, error: Error) {
        let _ = self.reply.send(Err(error));
    }
}
