//! People.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use sosna_api::user::{NewUser, User, UserList, UserToken};
use sosna_store::{Role, Tx};

use super::{Caller, Failure, JsonBody, Served, extract::Named};
use crate::{
    admin::{self, Access},
    error::HubError,
};

/// `GET /v1/me`.
pub(super) async fn me(
    State(served): State<Arc<Served>>,
    Caller(user): Caller,
) -> Result<Json<User>, Failure> {
    Ok(Json(served.hub.store.read(|tx| Box::pin(async move { view(tx, user).await })).await?))
}

/// `GET /v1/users`.
pub(super) async fn list(
    State(served): State<Arc<Served>>,
    caller: Caller,
) -> Result<Json<UserList>, Failure> {
    caller.require(&[Role::Admin])?;
    let users = served
        .hub
        .store
        .read(|tx| {
            Box::pin(async move {
                let mut users = Vec::new();
                for user in tx.users().await? {
                    users.push(view(tx, user).await?);
                }
                Ok::<_, HubError>(users)
            })
        })
        .await?;
    Ok(Json(UserList { users }))
}

/// `POST /v1/users`.
pub(super) async fn add(
    State(served): State<Arc<Served>>,
    caller: Caller,
    JsonBody(new): JsonBody<NewUser>,
) -> Result<(StatusCode, Json<UserToken>), Failure> {
    caller.require(&[Role::Admin])?;
    let role = super::view::role(new.role);
    let access = admin::add_user(&served.hub.store, &new.name, role, served.hub.now_ms()).await?;
    Ok((StatusCode::CREATED, Json(shown(&served, access).await?)))
}

/// `DELETE /v1/users/{name}`.
pub(super) async fn remove(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<StatusCode, Failure> {
    caller.require(&[Role::Admin])?;
    admin::remove_user(&served.hub.store, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/users/{name}/token`.
pub(super) async fn renew(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Named(name): Named<String>,
) -> Result<Json<UserToken>, Failure> {
    caller.require(&[Role::Admin])?;
    let access = admin::renew_token(&served.hub.store, &name).await?;
    Ok(Json(shown(&served, access).await?))
}

async fn shown(served: &Served, Access { user, token }: Access) -> Result<UserToken, Failure> {
    let user = served.hub.store.read(|tx| Box::pin(async move { view(tx, user).await })).await?;
    Ok(UserToken { user, token })
}

async fn view(tx: &mut Tx, user: sosna_store::User) -> Result<User, HubError> {
    let owner = match user.role {
        Role::Owner => admin::owners_of(tx, &user.name).await?.first().copied(),
        _ => None,
    };
    Ok(User {
        role: super::view::shown_role(user.role),
        name: user.name,
        owner: owner.map(Into::into),
        created_ms: user.created_ms,
    })
}
