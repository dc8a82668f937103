//! Values that are longer than any that the program stores.

use super::MIB;
use crate::security::hostile::{GET, GET_QUIET, agree, serve_from};
use testkit::rogue::Answer;

#[tokio::test(flavor = "multi_thread")]
async fn huge_values_from_a_server_do_not_fill_the_memory() {
    let huge = vec![b'x'; 60 * MIB];
    let (rogue, settings) = serve_from(move |question| match question.opcode {
        GET | GET_QUIET => Answer::Bytes(question.bytes(&[0; 4], b"", &huge)),
        _ => agree(question),
    })
    .await;
    let app = settings.serve();
    for name in ["a", "b", "c"] {
        app.post("/add", &[("name", name)]).await;
        assert_eq!(app.get("/").await.status, 200);
    }
    app.get("/").await.assert_lists(["a", "b", "c"]);
    assert!(rogue.requests() > 0);
    let peak = app.peak_memory() / MIB;
    assert!(peak < 700, "{peak} MiB");
}
