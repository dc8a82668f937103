//! The view cache, around a small router with nothing else in it: on both a store in the process and a real memcached.
//!
//! Each behaviour is one function, and [`on_both!`] makes a test of it for each store. What only a server can show,
//! such as its outage, is in `servers.rs`.

#![expect(missing_docs, reason = "nothing of a test binary can be reached from outside")]
#![expect(unreachable_pub, reason = "as above")]
#![expect(clippy::unwrap_used, reason = "a test that finds something missing ends there")]

mod answers;
mod builds;
mod conditions;
mod encodings;
mod keys;
mod privacy;
mod purges;
mod replay;
mod servers;
mod site;
mod versions;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use axum::routing::any;
use bytes::Bytes;
use neverstale_axum::CachePageLayer;
use tower::ServiceExt;

use self::site::View;

/// Makes two tests of each behaviour. A function could not: a test is an item with a name.
macro_rules! on_both {
    ($($file:ident: $($behaviour:ident)*;)*) => {
        mod on_locmem { on_both!(@on locmem $($file: $($behaviour)*;)*); }
        mod on_memcached { on_both!(@on memcached $($file: $($behaviour)*;)*); }
    };
    (@on $store:ident $($file:ident: $($behaviour:ident)*;)*) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                let store = testkit::stores::$store().await;
                crate::$file::$behaviour(&store).await;
            }
        )*)*
    };
}

on_both! {
    answers:
        a_page_is_rendered_once
        a_hit_is_the_answer_again_with_status_headers_and_bytes
        an_empty_page_is_a_page
        what_a_client_says_of_caching_is_ignored
        other_methods_pass_by_and_store_nothing
        a_refused_answer_is_left_as_it_is
        every_status_but_200_is_left_alone
        a_304_is_told_to_the_browser_and_not_stored
        an_answer_with_a_cookie_is_its_receivers_alone
        directives_count_by_their_exact_name
        a_star_anywhere_in_vary_is_not_stored
        a_name_in_vary_that_is_none_is_not_stored
        a_page_that_streams_is_left_alone
        a_page_that_is_too_large_is_left_alone
        a_page_near_the_limit_is_stored
        headers_that_make_a_page_too_large_are_counted
        headers_of_one_connection_are_not_stored
        a_lifetime_of_zero_stores_nothing
        a_page_without_an_end_has_no_ttl
        a_page_expires
        the_browser_is_told_to_ask_each_time
        a_view_that_gives_a_lifetime_is_believed
        public_alone_is_no_lifetime
        a_route_may_give_the_browser_a_lifetime
        a_view_may_give_the_browser_a_shorter_one
        the_browser_may_be_told_nothing
        an_etag_is_that_of_the_bytes
        a_view_that_sets_an_etag_keeps_it
        a_stored_page_says_its_age_if_it_says_its_end
        the_outcome_is_among_the_extensions
        what_a_cache_further_in_said_stays_in_front
        an_answer_says_where_its_time_went
        a_layer_over_a_router_keeps_what_its_views_may_not
        a_view_that_is_never_cached_says_so_to_everybody;
    keys:
        the_query_counts_as_asked
        only_named_parameters_count
        a_named_parameter_is_seen_through_its_escapes
        hosts_have_pages_of_their_own
        schemes_have_pages_of_their_own
        a_host_that_is_none_bypasses
        a_prefix_keeps_pages_apart
        views_at_one_url_share_its_page
        nested_routers_do_not_share_pages
        pages_of_another_build_are_not_found
        a_view_that_varies_on_cookies_has_a_page_for_each
        a_path_that_ends_like_a_lock_is_a_page
        a_page_varies_on_what_it_names
        a_missing_header_is_not_an_empty_one
        the_order_and_case_of_vary_do_not_count
        a_url_that_changes_its_vary_is_learned_again
        a_url_that_varies_no_more_is_one_page
        another_process_learns_what_a_url_varies_on
        an_answer_to_a_login_is_its_receivers_alone
        an_answer_to_a_login_that_is_public_is_everybodys
        all_credentials_count
        head_is_answered_with_what_get_stored
        get_is_answered_with_what_head_stored
        head_of_a_page_that_varies_is_found;
    encodings:
        a_page_is_built_once_for_all_encodings
        the_first_visitor_gets_what_is_stored
        an_encoding_is_chosen_by_its_weight
        those_who_wait_get_the_encoding_they_take
        head_is_as_long_as_get
        what_becomes_no_shorter_stays_plain
        a_picture_stays_as_it_is
        what_must_not_be_transformed_is_not
        what_the_view_encoded_is_not_encoded_again
        what_the_view_would_vary_on_the_encoding_is_one_page
        variants_have_encodings_of_their_own
        a_page_whose_encodings_do_not_fit_is_stored_plain;
    conditions:
        each_encoding_has_a_tag_of_its_own
        a_client_that_has_the_page_is_told_so
        the_first_request_may_have_conditions
        head_has_the_headers_of_get_from_the_first_on;
    privacy:
        a_page_that_was_made_of_a_session_is_shown_to_no_other_visitor
        a_page_that_looks_at_no_session_is_everybodys
        who_waits_for_a_page_of_another_visitor_gets_a_page_of_their_own
        no_copy_in_the_process_is_made_of_a_session
        a_personal_request_has_a_response_of_its_own_and_the_others_share
        a_body_that_is_made_of_private_state_is_not_stored;
    builds:
        fifty_misses_at_once_run_the_view_once
        two_processes_run_the_view_once
        who_may_not_share_is_not_kept_waiting_in_line
        what_cannot_be_shared_is_not_waited_for_again
        waiting_for_another_variant_ends_in_ones_own
        a_view_that_panics_lets_the_next_one_build
        a_visitor_who_leaves_lets_the_next_one_build
        an_error_is_followed_by_a_page
        a_view_knows_since_when_its_visitor_waits
        another_process_is_waited_for_as_long_as_the_route_says
        other_methods_do_not_wait;
    purges:
        a_purged_page_is_rendered_anew
        a_purge_covers_hosts_schemes_queries_and_variants
        a_purge_leaves_other_paths
        a_purge_covers_a_path_however_it_is_written
        a_purge_leaves_other_prefixes
        a_purge_covers_the_pages_of_another_build
        a_purge_in_one_process_is_seen_by_the_other
        a_copy_is_shown_until_its_path_is_purged
        a_page_rendered_before_a_purge_is_not_served_after_it
        a_late_page_does_not_harm_a_newer_one_for_long
        after_a_purge_nobody_waits_for_a_build_that_began_before_it
        a_purge_of_nothing_is_no_error
        a_lost_generation_costs_misses_only
        a_lost_page_is_rendered_anew
        clearing_the_cache_forgets_everything;
    versions:
        a_page_is_shown_while_its_version_is_the_current_one
        another_process_finds_the_page_of_a_version
        a_page_gets_an_encoding_when_a_client_prefers_it
        a_page_that_varies_is_found_where_there_are_copies
        a_page_is_kept_under_the_version_that_its_view_has_read
        an_answer_that_does_not_say_its_version_is_not_stored
        without_a_version_there_is_no_page
        a_change_is_made_without_a_version
        those_who_are_told_the_same_version_share_one_build
        who_is_told_a_newer_version_waits_for_no_older_build
        who_has_waited_for_another_process_asks_for_the_version_again
        a_copy_is_shown_while_its_version_is_the_current_one
        a_page_from_the_cache_is_copied
        a_late_page_does_not_displace_a_newer_copy_for_long
        a_page_that_varies_on_what_the_site_did_not_see_has_no_copy
        a_purge_leaves_pages_that_are_kept_by_version
        an_answer_says_how_long_the_version_took;
    replay:
        a_response_is_replayed_while_the_site_would_give_the_same
        a_304_is_made_of_the_page_that_is_kept
        the_site_sees_nothing_that_is_not_in_the_key
        a_header_in_the_key_gives_each_value_its_own_response
        a_header_that_is_passed_on_changes_no_key
        a_request_for_no_page_reaches_the_site_untouched
        a_request_that_may_be_private_passes
        a_response_that_is_private_is_not_kept
        a_request_without_a_permit_passes
        a_failed_version_check_is_not_repeated
        a_response_that_was_on_its_way_while_all_were_dropped_is_not_replayed
        nothing_is_replayed_without_copies;
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    pub bytes: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub fn is(&self, status: &str) -> &Self {
        assert_eq!(self.header("cache-status"), format!("neverstale-axum; {status}"), "{self:?}");
        self
    }

    #[track_caller]
    pub fn is_hit(&self) -> &Self {
        assert!(self.header("cache-status").starts_with("neverstale-axum; hit"), "{self:?}");
        self
    }

    #[track_caller]
    pub fn is_stored(&self) -> &Self {
        assert!(self.header("cache-status").ends_with("; stored"), "{self:?}");
        self
    }

    #[track_caller]
    pub fn says(&self, body: &str) -> &Self {
        assert_eq!(self.body, body, "{self:?}");
        self
    }
}

/// Puts the layer around a view at every path.
fn around(view: &View, layer: CachePageLayer) -> Router {
    let view = view.clone();
    let answer = move |request: Request<Body>| {
        let view = view.clone();
        async move { view.answer(request).await }
    };
    Router::new().route("/", any(answer.clone())).route("/{*path}", any(answer)).layer(layer)
}

async fn ask(router: &Router, method: Method, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status: parts.status, headers: parts.headers, body, bytes }
}
