//! What is not as it should be: RFC 9457 problem details.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::word::words;

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

words! {
    /// Why a request was not done. Clients decide by this word; statuses and titles follow from it.
    pub enum Code {
        /// Something in the request cannot be; the detail names it.
        Invalid = "invalid",
        /// The registry has no such image, or none for this architecture.
        UnknownImage = "unknown-image",
        /// The image's registry does not answer.
        UnreachableRegistry = "unreachable-registry",
        /// Content is not what its digest says.
        WrongDigest = "wrong-digest",
        /// Content that the request names is not in the hub's content store.
        MissingContent = "missing-content",
        /// No device that could ever be asked has that much.
        ImpossibleResources = "impossible-resources",
        /// The buyer's credit does not cover the largest price.
        NoCredit = "no-credit",
        /// No such thing, or not for this person's eyes.
        NotFound = "not-found",
        /// No token, or one that is not known.
        Unauthenticated = "unauthenticated",
        /// The person may not.
        Forbidden = "forbidden",
        /// It is in a state that does not allow it, or exists already.
        Conflict = "conflict",
        /// The idempotency key came before, with other content.
        KeyReused = "idempotency-key-reused",
        /// Larger than the hub takes.
        TooLarge = "too-large",
        /// It was there, and is not kept any more; or nothing more is taken for what it belongs to.
        Expired = "expired",
        /// More than this person, or this task, may store here.
        Quota = "quota",
        /// The hub's disk is full, or its content store is.
        DiskFull = "disk-full",
        /// Too many requests, or the hub is stopping; try again.
        Busy = "busy",
        /// The hub failed; its log says more.
        Internal = "internal",
    }
}

/// The body of every answer that is not a success, as [`MEDIA_TYPE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:sosna:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is wrong, in general.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, and what to do next.
    pub detail: String,
    /// The same for programs.
    pub code: Code,
}

// === impl Code ===

impl Code {
    /// The HTTP status that goes with it.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Invalid | Self::UnknownImage | Self::MissingContent | Self::ImpossibleResources => 422,
            Self::WrongDigest => 400,
            Self::UnreachableRegistry => 502,
            Self::NoCredit => 402,
            Self::NotFound => 404,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::Conflict | Self::KeyReused => 409,
            Self::Expired => 410,
            Self::TooLarge | Self::Quota => 413,
            Self::DiskFull => 507,
            Self::Busy => 503,
            Self::Internal => 500,
        }
    }

    /// What is wrong, in general.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Invalid => "The request cannot be done as it is",
            Self::UnknownImage => "There is no such image",
            Self::UnreachableRegistry => "The image's registry does not answer",
            Self::WrongDigest => "The content is not what its digest says",
            Self::MissingContent => "Content is missing in the hub's store",
            Self::ImpossibleResources => "No device has that much",
            Self::NoCredit => "The credit does not suffice",
            Self::NotFound => "There is no such thing",
            Self::Unauthenticated => "Nobody is known by this token",
            Self::Forbidden => "This is not permitted",
            Self::Conflict => "This is not possible now",
            Self::KeyReused => "The idempotency key was used for something else",
            Self::TooLarge => "This is larger than the hub takes",
            Self::Expired => "This has expired",
            Self::Quota => "More may not be stored",
            Self::DiskFull => "The hub has no room left",
            Self::Busy => "The hub is busy",
            Self::Internal => "The hub failed",
        }
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Busy | Self::UnreachableRegistry)
    }
}

// === impl Problem ===

impl Problem {
    /// A problem; the detail says what is wrong here and what to do next.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:sosna:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_problem_has_the_fields_of_rfc_9457() {
        let problem =
            Problem::new(Code::NoCredit, "3 SNM are needed and 1 is there; ask an admin for credit");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["type"], "urn:sosna:problem:no-credit");
        assert_eq!(json["status"], 402);
        assert_eq!(json["code"], "no-credit");
        assert_eq!(json["title"], "The credit does not suffice");
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
        for code in Code::ALL {
            assert_eq!(Code::from_word(code.word()), Some(*code));
            assert!((400..600).contains(&code.status()));
        }
    }
}
