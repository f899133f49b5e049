//! Audit events.

use axum::Json;
use axum::extract::{Query, State};
use sallyport_api::{Kind, Object};
use sallyport_event_store::{Filter, Stats};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::state::AppState;

/// Which part of the list.
#[derive(Debug, Deserialize)]
pub(crate) struct Paging {
    limit: Option<u32>,
    cursor: Option<String>,
}

async fn page(state: &AppState, filter: Filter, paging: Paging) -> Result<Json<Value>, ApiError> {
    let limit = paging.limit.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(ApiError::query(format!("limit is {limit}; must be from 1 to 1000")));
    }
    let page = state.events.events(filter, limit, paging.cursor).await?;
    let more = page.next.is_some();
    Ok(Json(json!({
        "events": page.events, "next": page.next, "meta": { "limit": limit, "next_cursor": page.next, "has_more": more },
    })))
}

/// `GET events`.
pub(crate) async fn list(
    State(state): State<AppState>,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, ApiError> {
    page(&state, Filter::default(), paging).await
}

/// `GET events/filter`.
pub(crate) async fn filter(
    State(state): State<AppState>,
    Query(filter): Query<Filter>,
    Query(paging): Query<Paging>,
) -> Result<Json<Value>, ApiError> {
    page(&state, filter, paging).await
}

/// `GET stats`.
pub(crate) async fn stats(State(state): State<AppState>) -> Result<Json<Stats>, ApiError> {
    Ok(Json(state.events.stats().await?))
}

/// `GET sources`.
pub(crate) async fn sources(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let sources = state.events.sources().await?;
    Ok(Json(sources.into_iter().map(|(source, count)| json!({ "source": source, "count": count })).collect()))
}

/// `GET event-types`.
pub(crate) async fn types(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let types = state.events.event_types().await?;
    Ok(Json(types.into_iter().map(|(name, count)| json!({ "event_type": name, "count": count })).collect()))
}

/// `GET dashboard/summary`.
pub(crate) async fn summary(State(state): State<AppState>) -> Result<Json<Value>, ApiError> {
    let newest = state.events.summary().await?;
    let objects = state.directory.load()?;
    let now = jiff::Timestamp::now();
    let active = |object: &Object| match object {
        Object::Server(_) => true,
        Object::Grant(grant) => !grant.spec.disabled,
        Object::Session(session) => {
            !session.spec.revoked && session.spec.expires_at.as_ref().is_none_or(|end| end.0 > now)
        }
    };
    let count = |kind| objects.of(kind).filter(|(_, object)| active(object)).count();
    Ok(Json(json!({
        "total_events": newest.total_events, "active_servers": count(Kind::Server), "active_grants": count(Kind::Grant),
        "active_sessions": count(Kind::Session), "latest_source": newest.latest_source,
        "last_event_type": newest.last_event_type, "last_event_time": newest.last_event_time,
    })))
}
