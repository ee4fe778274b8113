//! The one error of the hub's doings, which the REST interface shows as it is.

use sosna_api::{Code, Problem};
use sosna_host::{file::FileError, report};
use sosna_store::{LedgerError, StoreError};

/// Why the hub did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// For a reason that who asked can understand and act on.
    #[error("{detail}")]
    Refused {
        /// The reason, for programs.
        code: Code,
        /// What is wrong, and what to do next.
        detail: String,
    },
    /// The store failed.
    #[error("the hub's store failed")]
    Store(#[from] StoreError),
    /// A file failed.
    #[error("the hub's files failed")]
    File(#[from] FileError),
    /// An enrolment is refused: nothing of it stays, and this is the answer.
    #[error("the enrolment was refused: {1}")]
    Enrolment(Box<crate::hub::Effect>, String),
    /// Something that cannot fail did.
    #[error("the hub failed: {0}")]
    Internal(&'static str, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
}

impl HubError {
    /// A refusal.
    pub fn refused(code: Code, detail: impl Into<String>) -> Self {
        Self::Refused { code, detail: detail.into() }
    }

    /// There is no such thing.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::refused(Code::NotFound, format!("there is no such {what} here, or it is somebody else's"))
    }

    /// Something that cannot fail did.
    pub fn internal(what: &'static str, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(what, Some(Box::new(cause)))
    }

    /// What a client is told. What only the operator can mend stays in the log.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Refused { code, detail } => Problem::new(*code, detail.clone()),
            Self::Store(StoreError::Full) => {
                Problem::new(Code::DiskFull, "nothing was stored; the operator must free some room")
            }
            Self::Store(StoreError::Closed) => {
                Problem::new(Code::Busy, "the hub is stopping; try again in a moment")
            }
            Self::File(error) if error.is_full() => {
                Problem::new(Code::DiskFull, "nothing was stored; the operator must free some room")
            }
            other => {
                tracing::error!("{}", report::line(other));
                Problem::new(Code::Internal, "the hub's log says more; nothing of the request was done")
            }
        }
    }
}

impl From<LedgerError> for HubError {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Funds { available, needed } => Self::refused(
                Code::NoCredit,
                format!(
                    "{needed} SNM are needed and {available} SNM are there; ask an admin for credit, deposit more where the hub takes deposits, or lower --max-price"
                ),
            ),
            LedgerError::Overflow => {
                Self::refused(Code::Invalid, "the amount is larger than the books can hold")
            }
            LedgerError::Store(error) => Self::Store(error),
        }
    }
}
