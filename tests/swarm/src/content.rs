//! What a device brings to its hub's content store, over a connection under its own certificate, as the agent does it.

use std::time::Duration;

use reqwest::{Client, StatusCode, header::CONTENT_LENGTH, redirect::Policy};
use rustls::ClientConfig;
use sosna_host::manifest::{ASSIGNMENT_HEADER, WORTH_ASKING};
use sosna_protocol::{Hash, hash::sha256, identity::AssignmentId};

/// Why content could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The line.
    #[error("the hub's content store cannot be used")]
    Line(#[from] reqwest::Error),
    /// The store says no.
    #[error("the hub's content store answers HTTP {status}: {text}")]
    Status {
        /// Its number.
        status: u16,
        /// What it says.
        text: String,
    },
}

// === impl ContentError ===

impl ContentError {
    /// Whether another attempt may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Line(_) => true,
            Self::Status { status, .. } => *status >= 500 || matches!(status, 401 | 403 | 408 | 409 | 429),
        }
    }
}

/// A client with a device's certificate.
pub(crate) fn client(tls: ClientConfig) -> Result<Client, ContentError> {
    Ok(Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .http1_only()
        .redirect(Policy::none())
        .connect_timeout(Duration::from_secs(60))
        .read_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(1)
        .build()?)
}

/// Brings one piece, unless the hub has it from this assignment already. `false` where the hub takes nothing more for it.
pub(crate) async fn bring(
    client: &Client,
    base: &str,
    assignment: &AssignmentId,
    piece: &[u8],
) -> Result<bool, ContentError> {
    let name: Hash = sha256(piece);
    let (address, own) = (format!("{base}/sha256/{name}"), assignment.to_string());
    if piece.len() as u64 > WORTH_ASKING
        && client.head(&address).header(ASSIGNMENT_HEADER, &own).send().await?.status().is_success()
    {
        return Ok(true);
    }
    let put = client.put(&address).header(CONTENT_LENGTH, piece.len()).header(ASSIGNMENT_HEADER, &own);
    let answer = put.body(piece.to_vec()).send().await?;
    match answer.status() {
        status if status.is_success() => Ok(true),
        StatusCode::GONE => Ok(false),
        status => {
            let text = answer.text().await.unwrap_or_default();
            Err(ContentError::Status { status: status.as_u16(), text })
        }
    }
}
