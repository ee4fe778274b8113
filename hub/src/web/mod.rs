//! The pages: the fleet and the jobs at a glance, live. They are a client of the REST interface like any other,
//! read-only, in the browser.
//!
//! Duties: sign people in, and serve three pages with their style and script. They must never show a tenant's
//! content as part of themselves, load anything from elsewhere, or change anything.

mod login;
mod pages;
mod sessions;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};

pub(crate) use sessions::Sessions;

use crate::api::Served;

/// Their routes.
pub(crate) fn pages() -> Router<Arc<Served>> {
    Router::new()
        .route("/", get(pages::overview))
        .route("/jobs/{id}", get(pages::job))
        .route("/login", get(pages::login).post(login::login))
        .route("/logout", post(login::logout))
        .route("/assets/{file}", get(pages::file))
}
