//! People and their access tokens. A token is shown once; the store keeps its SHA-256 only.
//!
//! These work on the store alone, so that a command can do them beside a hub that runs.

use data_encoding::HEXLOWER;
use sosna_api::Code;
use sosna_protocol::{Hash, hash::sha256};
use sosna_store::{Role, Store, Tx, User};

use crate::error::HubError;

/// What every access token begins with, so that one that leaked can be found.
const PREFIX: &str = "sosnau_";

/// A person and a new token of theirs.
pub struct Access {
    /// Who.
    pub user: User,
    /// Shown once.
    pub token: String,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("user", &self.user).finish_non_exhaustive()
    }
}

/// By what a token is looked up. Whoever compares hashes learns nothing about tokens from how long it takes.
#[must_use]
pub fn hash_token(token: &str) -> Hash {
    sha256(token.as_bytes())
}

/// Adds a person.
///
/// # Errors
/// [`Code::Invalid`] for a name that cannot be, [`Code::Conflict`] for one that is taken.
pub async fn add_user(store: &Store, name: &str, role: Role, now_ms: u64) -> Result<Access, HubError> {
    check_name(name)?;
    let user = User { name: name.to_owned(), role, created_ms: now_ms };
    let token = new_token();
    let (new, hash) = (user.clone(), hash_token(&token));
    store
        .write(move |tx| {
            Box::pin(async move {
                if tx.user(&new.name).await?.is_some() {
                    let detail = format!(
                        "`{}` is here already; choose another name, or give them a new token",
                        new.name
                    );
                    return Err(HubError::refused(Code::Conflict, detail));
                }
                Ok(tx.put_user(&new, &hash).await?)
            })
        })
        .await?;
    Ok(Access { user, token })
}

/// Gives a person a new token; the old one ends.
///
/// # Errors
/// [`Code::NotFound`].
pub async fn renew_token(store: &Store, name: &str) -> Result<Access, HubError> {
    let (name, token) = (name.to_owned(), new_token());
    let hash = hash_token(&token);
    let user = store
        .write(move |tx| {
            Box::pin(async move {
                let user = existing(tx, &name).await?;
                tx.put_user(&user, &hash).await?;
                Ok::<_, HubError>(user)
            })
        })
        .await?;
    Ok(Access { user, token })
}

/// Removes a person. Their jobs and credit stay.
///
/// # Errors
/// [`Code::NotFound`]; [`Code::Conflict`] for the last admin.
pub async fn remove_user(store: &Store, name: &str) -> Result<(), HubError> {
    let name = name.to_owned();
    store
        .write(move |tx| {
            Box::pin(async move {
                let user = existing(tx, &name).await?;
                let admins = tx.users().await?.iter().filter(|user| user.role == Role::Admin).count();
                if user.role == Role::Admin && admins == 1 {
                    let detail = format!("`{name}` is the last admin; add another one first");
                    return Err(HubError::refused(Code::Conflict, detail));
                }
                tx.remove_user(&name).await?;
                Ok(())
            })
        })
        .await
}

async fn existing(tx: &mut Tx, name: &str) -> Result<User, HubError> {
    tx.user(name).await?.ok_or_else(|| HubError::not_found("person"))
}

fn new_token() -> String {
    format!("{PREFIX}{}", HEXLOWER.encode(&sosna_host::random::<32>()))
}

fn check_name(name: &str) -> Result<(), HubError> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if begins && name.len() <= 64 && name.bytes().all(good) {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    let rule = "a name is 1 to 64 of `a-z`, `0-9`, `-`, `_`, `.`, and begins with a letter or digit";
    Err(HubError::refused(Code::Invalid, format!("`{shown}` is no name: {rule}")))
}
