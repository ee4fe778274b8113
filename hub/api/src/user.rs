//! People and their access tokens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::word::words;

words! {
    /// What a person may do.
    pub enum Role {
        /// Everything, money and people included.
        Admin = "admin",
        /// The fleet and everybody's jobs.
        Operator = "operator",
        /// Own jobs.
        Buyer = "buyer",
        /// Own devices.
        Owner = "owner",
    }
}

/// A person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// 1 to 64 of `a-z`, `0-9`, `-`, `_`, `.`; begins with a letter or digit.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// For owners: their key's address, once a delegation has proved it.
    pub owner: Option<crate::text::AddressText>,
    /// Since when.
    pub created_ms: u64,
}

/// `POST /v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// As in [`User`].
    pub name: String,
    /// What they may do.
    pub role: Role,
}

/// A person and a new token of theirs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserToken {
    /// The person.
    pub user: User,
    /// It is shown once; the hub keeps only its hash.
    pub token: String,
}

impl std::fmt::Debug for UserToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserToken").field("user", &self.user).finish_non_exhaustive()
    }
}

/// `GET /v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserList {
    /// By name.
    pub users: Vec<User>,
}
