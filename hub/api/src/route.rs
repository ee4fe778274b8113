//! Where everything is: the paths of the interface as axum and OpenAPI write them, and what each does.
//!
//! | route | does | who may |
//! |---|---|---|
//! | `POST /v1/jobs` (header [`IDEMPOTENCY_KEY`] required) | [`NewJob`](crate::job::NewJob) → 201 [`Job`](crate::job::Job); 200 with the same job where the key came before with the same content | buyer, admin |
//! | `GET /v1/jobs?state=&limit=&before=` | [`JobList`](crate::job::JobList), newest first; a buyer sees own jobs | everybody |
//! | `GET /v1/jobs/{id}` | [`JobDetail`](crate::job::JobDetail) | its buyer, operator, admin |
//! | `POST /v1/jobs/{id}/cancel`, `DELETE /v1/jobs/{id}` | [`Job`](crate::job::Job), cancelled or as it ended | its buyer, operator, admin |
//! | `GET /v1/jobs/{id}/logs?task=&stream=&follow=` | server-sent events, see [`LogChunk`](crate::event::LogChunk) | its buyer, operator, admin |
//! | `GET /v1/jobs/{id}/events` | server-sent events, see [`Change`](crate::event::Change) | its buyer, operator, admin |
//! | `GET /v1/events` | the same of the whole fleet | operator, admin |
//! | `HEAD`, `GET` (with `Range`), `PUT /v1/content/sha256/{hex}` | content by its SHA-256: `HEAD` tells whether the caller may name it in a job without sending it first; `PUT` needs `Content-Length`, answers 201, or 200 where the caller had sent it before; `GET` answers 410 for results that are not kept any more | everybody |
//! | `GET /v1/devices` | [`DeviceList`](crate::device::DeviceList); an owner sees own devices | operator, admin, owner |
//! | `GET /v1/devices/{address}` | [`DeviceDetail`](crate::device::DeviceDetail) | operator, admin, its owner |
//! | `POST /v1/devices/{address}/approve`, `/revoke`, `/drain`, `/label` | → [`Device`](crate::device::Device) | operator, admin |
//! | `POST /v1/join-tokens` | [`NewJoinToken`](crate::owner::NewJoinToken) → 201 [`JoinTokenCreated`](crate::owner::JoinTokenCreated) | operator, admin; owner with a delegation |
//! | `GET /v1/owners` | [`OwnerList`](crate::owner::OwnerList) | operator, admin |
//! | `POST /v1/owners/{address}/admit` | → [`Owner`](crate::owner::Owner) | operator, admin |
//! | `GET /v1/ledger?limit=&before=` | [`Ledger`](crate::ledger::Ledger): own, or everybody's for admins | everybody |
//! | `POST /v1/ledger/credit` (header [`IDEMPOTENCY_KEY`] required) | [`NewCredit`](crate::ledger::NewCredit) → 201 [`Account`](crate::ledger::Account) | admin |
//! | `GET /v1/deposits?limit=&after=` | [`DepositList`](crate::deposit::DepositList): own, or everybody's for admins; 404 where the hub takes none | everybody |
//! | `POST /v1/deposits/account` | [`NewDepositAccount`](crate::deposit::NewDepositAccount) → 201 [`Deposit`](crate::deposit::Deposit); 200 where it was known | buyer, admin |
//! | `POST /v1/deposits/voucher` | [`NewBuyerVoucher`](crate::deposit::NewBuyerVoucher) → [`Deposit`](crate::deposit::Deposit) | buyer, admin |
//! | `POST /v1/boinc/payments` (header [`IDEMPOTENCY_KEY`] required) | [`NewBoincPayment`](crate::boinc::NewBoincPayment) → 201 [`BoincPaymentDetail`](crate::boinc::BoincPaymentDetail); 200 for a dry run, where nothing is new, or where the key came before with the same content | admin |
//! | `GET /v1/boinc/payments?limit=&before=` | [`BoincPaymentList`](crate::boinc::BoincPaymentList), newest first | operator, admin |
//! | `GET /v1/boinc/payments/{id}` | [`BoincPaymentDetail`](crate::boinc::BoincPaymentDetail) | operator, admin |
//! | `GET /v1/wallet` | [`Wallet`](crate::wallet::Wallet); 404 where the hub has none | everybody |
//! | `GET /v1/payouts` | [`PayoutList`](crate::wallet::PayoutList) of a root | everybody, also without a token |
//! | `GET /v1/payouts/{address}` | [`PayoutProof`](crate::wallet::PayoutProof) of one device | everybody, also without a token |
//! | `GET /v1/hub` | [`HubInfo`](crate::hub::HubInfo) | everybody, also without a token |
//! | `GET /v1/me` | [`User`](crate::user::User) whose token this is | everybody |
//! | `GET /v1/users` | [`UserList`](crate::user::UserList) | admin |
//! | `POST /v1/users` | [`NewUser`](crate::user::NewUser) → 201 [`UserToken`](crate::user::UserToken) | admin |
//! | `DELETE /v1/users/{name}` | 204 | admin |
//! | `POST /v1/users/{name}/token` | [`UserToken`](crate::user::UserToken): a new token, the old one ends | admin |
//!
//! Tokens go into `Authorization: Bearer …`. Everything that is not 2xx is a [`Problem`](crate::Problem).

/// The header without which nothing is made that costs or is money: the same key and content make it once.
/// 1 to 128 printable ASCII characters, chosen at random by the client, kept over its retries.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Jobs.
pub const JOBS: &str = "/v1/jobs";
/// One job.
pub const JOB: &str = "/v1/jobs/{id}";
/// Stop it.
pub const JOB_CANCEL: &str = "/v1/jobs/{id}/cancel";
/// Its output.
pub const JOB_LOGS: &str = "/v1/jobs/{id}/logs";
/// Its changes.
pub const JOB_EVENTS: &str = "/v1/jobs/{id}/events";
/// All changes.
pub const EVENTS: &str = "/v1/events";
/// Content.
pub const CONTENT: &str = "/v1/content/sha256/{hex}";
/// Devices.
pub const DEVICES: &str = "/v1/devices";
/// One device.
pub const DEVICE: &str = "/v1/devices/{address}";
/// End its probation.
pub const DEVICE_APPROVE: &str = "/v1/devices/{address}/approve";
/// Never again.
pub const DEVICE_REVOKE: &str = "/v1/devices/{address}/revoke";
/// Give it nothing new.
pub const DEVICE_DRAIN: &str = "/v1/devices/{address}/drain";
/// Change its labels.
pub const DEVICE_LABEL: &str = "/v1/devices/{address}/label";
/// Join tokens.
pub const JOIN_TOKENS: &str = "/v1/join-tokens";
/// Owners.
pub const OWNERS: &str = "/v1/owners";
/// Let an owner count as one of their own.
pub const OWNER_ADMIT: &str = "/v1/owners/{address}/admit";
/// The books.
pub const LEDGER: &str = "/v1/ledger";
/// Credit for a buyer.
pub const LEDGER_CREDIT: &str = "/v1/ledger/credit";
/// Buyers' deposits on the chain.
pub const DEPOSITS: &str = "/v1/deposits";
/// An account for the caller's deposits.
pub const DEPOSITS_ACCOUNT: &str = "/v1/deposits/account";
/// What the caller signs for.
pub const DEPOSITS_VOUCHER: &str = "/v1/deposits/voucher";
/// Payments for credit of BOINC projects.
pub const BOINC_PAYMENTS: &str = "/v1/boinc/payments";
/// One of them.
pub const BOINC_PAYMENT: &str = "/v1/boinc/payments/{id}";
/// The hub's wallet on a chain.
pub const WALLET: &str = "/v1/wallet";
/// What every device is owed by the newest root.
pub const PAYOUTS: &str = "/v1/payouts";
/// What one is, proven.
pub const PAYOUT: &str = "/v1/payouts/{address}";
/// The hub itself.
pub const HUB: &str = "/v1/hub";
/// Whose token this is.
pub const ME: &str = "/v1/me";
/// People.
pub const USERS: &str = "/v1/users";
/// One of them.
pub const USER: &str = "/v1/users/{name}";
/// A new token for one of them.
pub const USER_TOKEN: &str = "/v1/users/{name}/token";

/// A path with its one parameter filled in. `value` is percent-encoded where a path needs it.
#[must_use]
pub fn fill(route: &str, value: impl std::fmt::Display) -> String {
    use std::fmt::Write as _;
    let (Some(start), Some(end)) = (route.find('{'), route.find('}')) else { return route.to_owned() };
    let mut path = route[..start].to_owned();
    for byte in value.to_string().bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(char::from(byte));
        } else {
            // Writing into a string cannot fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path.push_str(&route[end + 1..]);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_filled_and_nothing_escapes_them() {
        assert_eq!(fill(JOB_CANCEL, "00ff"), "/v1/jobs/00ff/cancel");
        assert_eq!(fill(USER, "../me?x#y é"), "/v1/users/..%2Fme%3Fx%23y%20%C3%A9");
        assert_eq!(fill(HUB, "ignored"), "/v1/hub");
    }
}
