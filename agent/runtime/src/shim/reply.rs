//! What a helper of the runtime says to whoever asked for it: one line of JSON.

use serde::{Deserialize, Serialize};

use crate::{
    error::{RuntimeError, chain},
    spec::ContainerId,
};

/// The answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// It is done, or the container's shim is there; whom it settled.
    Done(Vec<ContainerId>),
    /// Another container has this name.
    Conflict(String),
    /// All ranges of user ids are taken.
    NoUidRange(u32),
    /// Anything else, in words.
    Failed(String),
}

impl Reply {
    pub(crate) fn of(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Conflict { id } => Self::Conflict(id),
            RuntimeError::NoUidRange { count } => Self::NoUidRange(count),
            other => Self::Failed(chain(&other)),
        }
    }

    /// Whom it settled, or the error.
    pub(crate) fn read(
        self,
        failed: impl FnOnce(String) -> RuntimeError,
    ) -> Result<Vec<ContainerId>, RuntimeError> {
        match self {
            Self::Done(settled) => Ok(settled),
            Self::Conflict(id) => Err(RuntimeError::Conflict { id }),
            Self::NoUidRange(count) => Err(RuntimeError::NoUidRange { count }),
            Self::Failed(problem) => Err(failed(problem)),
        }
    }
}
