//! The backends keep the contract of all backends, on real stores.

use testkit::stores;

testkit::backend_contract! { locmem memcached file }
testkit::backend_contract! { nothing is kept by dummy }
