//! What holds for the backend that keeps nothing, in place of what it cannot do.

use bytes::Bytes;
use neverstale::Ttl;
use neverstale::backend::Backend;

use super::MINUTE;

pub async fn what_is_stored_is_not_kept(backend: &dyn Backend) {
    let value = Bytes::from_static(b"1");
    backend.set("k", value.clone(), MINUTE).await.unwrap();
    assert!(backend.add("k", value.clone(), Ttl::Never).await.unwrap());
    assert!(
        backend
            .set_many(&[("k".into(), value.clone())], MINUTE)
            .await
            .into_iter()
            .all(|stored| stored.is_ok())
    );
    assert_eq!(backend.get("k").await.unwrap(), None);
    assert!(!backend.replace("k", value, MINUTE).await.unwrap());
    assert!(!backend.touch("k", MINUTE).await.unwrap());
    assert!(!backend.delete("k").await.unwrap());
    let keys = ["k".to_owned(), "l".to_owned()];
    for value in backend.get_many(&keys).await {
        assert_eq!(value.unwrap(), None);
    }
    for deleted in backend.delete_many(&keys).await {
        assert!(!deleted.unwrap());
    }
    backend.clear().await.unwrap();
}
