//! The contract of a backend, as the documentation of [`Backend`] has it, kept by all of them on real stores.
//!
//! Each behaviour is one function, and [`backend_contract!`](crate::backend_contract) makes a test of it for each
//! backend, so that a failure names a backend and a sentence.
//!
//! # How to add a backend
//!
//! Give it a function that returns an empty [`Store`](crate::stores::Store), named after it, in the module that the
//! caller of the macro knows as `stores`, and name it in the call. A login in it uses the password that the memcached
//! servers have, which is looked for wherever it must not appear. What holds for no other backend, such as what a
//! server's outage does, has a file of its own beside the call.

pub mod counters;
pub mod handles;
pub mod lifetimes;
pub mod many;
pub mod nothing;
pub mod signed;
pub mod values;

use std::time::Duration;

use neverstale::Ttl;
use neverstale::backend::Backend;

use super::eventually;

pub const MINUTE: Ttl = Ttl::After(Duration::from_secs(60));

/// Over in a moment, or in a second where whole ones are counted.
const SOON: Ttl = Ttl::After(Duration::from_millis(200));

pub const AT_ONCE: Ttl = Ttl::After(Duration::ZERO);

/// Makes a test of each behaviour on each backend. A function could not: a test is an item with a name.
#[macro_export]
macro_rules! backend_contract {
    (@on $($backend:ident)* : $behaviours:tt) => {
        $(mod $backend { $crate::backend_contract!(@one $backend $behaviours); })*
    };
    (@one $backend:ident { $($file:ident: $($behaviour:ident)*;)* }) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let store = super::stores::$backend().await;
                $crate::contract::$file::$behaviour(store.as_ref()).await;
            }
        )*)*
    };
    (nothing is kept by $backend:ident) => {
        $crate::backend_contract! { @on $backend: {
            values:
                a_miss_is_none
                every_server_that_is_checked_is_well
                neither_name_nor_description_shows_a_password;
            counters:
                counting_what_is_missing_creates_nothing;
            nothing:
                what_is_stored_is_not_kept;
        } }
    };
    ($($backend:ident)*) => {
        $crate::backend_contract! { @on $($backend)* : {
            values:
                a_miss_is_none
                an_empty_value_is_a_value
                bytes_of_all_kinds_come_back
                the_longest_key_and_the_longest_value_fit
                keys_that_are_nearly_the_same_are_not
                setting_overwrites_whatever_was_there
                adding_is_refused_where_there_is_a_value
                what_is_read_after_adding_is_what_was_there_by_then
                replacing_is_refused_where_there_is_none
                deleting_says_whether_there_was_a_value
                clearing_removes_everything
                the_stats_count_the_values
                every_server_that_is_checked_is_well
                neither_name_nor_description_shows_a_password;
            lifetimes:
                a_lifetime_of_zero_leaves_nothing
                what_is_added_without_a_lifetime_is_there_for_nobody
                touching_with_a_lifetime_of_zero_removes
                a_long_lifetime_is_not_a_short_one
                a_value_is_gone_when_its_lifetime_is_over
                what_has_expired_is_missing_to_every_verb
                a_new_lifetime_takes_the_place_of_the_old_one
                touching_what_is_missing_creates_nothing
                counting_keeps_the_lifetime;
            counters:
                counting_up_and_down_returns_the_sum
                counting_what_is_missing_creates_nothing
                counting_up_wraps_and_counting_down_stops_at_zero
                a_number_that_grows_shorter_is_still_that_number
                what_is_no_number_is_not_counted_and_stays;
            many:
                many_values_stand_where_their_keys_stood
                a_thousand_keys_are_asked_at_once
                nothing_comes_of_no_keys
                a_key_that_is_named_twice_is_served_twice
                many_lifetimes_of_zero_leave_nothing
                deleting_many_says_of_each_whether_there_was_a_value;
            handles:
                what_one_handle_does_the_other_sees
                of_those_who_add_at_once_one_succeeds
                of_those_who_count_at_once_nobody_is_lost
                what_is_set_while_it_is_counted_is_not_lost
                a_future_that_is_dropped_leaves_the_store_usable;
            signed:
                what_is_signed_is_read_by_those_with_the_secret
                what_is_signed_is_a_miss_to_everybody_else
                what_is_signed_counts_under_its_own_name_only;
        } }
    };
}

pub async fn read(backend: &dyn Backend, key: &str) -> Option<String> {
    let value = backend.get(key).await.unwrap();
    value.map(|value| String::from_utf8(value.into()).unwrap())
}

/// Waits until a value has expired, and with it whatever had no longer to live.
async fn until_gone(backend: &dyn Backend, key: &str) {
    eventually("the value has expired", async || backend.get(key).await.unwrap().is_none()).await;
}
