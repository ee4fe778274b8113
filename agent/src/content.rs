//! HTTP to the hub's content store: inputs come from it, results go to it, each by its SHA-256. The client is built
//! when it is first needed, and everything that comes is verified before it counts.

use std::{
    fmt::Display,
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_LENGTH, RANGE},
    redirect::Policy,
};
use sosna_host::{
    content::{ContentError, ContentStore, Incoming},
    file::FileError,
    manifest::{ASSIGNMENT_HEADER, WORTH_ASKING},
    tls::{self, TlsError},
};
use sosna_protocol::{Hash, identity::AssignmentId};

use crate::{clock::DeviceClock, identity::Enrolment};

/// How long the server may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections are not kept longer than a burst of requests: each costs memory on both sides.
const IDLE: Duration = Duration::from_secs(20);
/// Of an explanation, so many bytes are read.
const MOST_DETAIL: usize = 16 * 1024;
/// No document is longer.
const MOST_DOCUMENT: usize = 64 * 1024;

/// A client of the hub's content store.
#[derive(Debug, Default)]
pub struct ContentClient {
    client: Mutex<Option<Client>>,
}

/// Why content did not move.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// No connection, or it broke.
    #[error("the hub's content store cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The store answers something else.
    #[error("the hub's content store answers HTTP {status} for {name}{}", .detail.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Status {
        /// Its answer.
        status: u16,
        /// What it says about it.
        detail: Option<String>,
        /// What was asked for.
        name: String,
    },
    /// The store does not have it.
    #[error("the hub's content store does not have {name}")]
    Missing {
        /// What was asked for.
        name: Hash,
    },
    /// The store takes nothing more for the assignment: whatever is shown for it is judged as it is.
    #[error("the hub's content store takes nothing more for the assignment {assignment}")]
    Over {
        /// Which.
        assignment: AssignmentId,
    },
    /// What came is not what was asked for, or the disk fails.
    #[error("content cannot be taken")]
    Content(#[from] ContentError),
    /// A file of ours.
    #[error("a file cannot be used")]
    File(#[from] FileError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

// === impl TransferError ===

impl TransferError {
    /// Whether another attempt may help.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status { status, .. } => *status >= 500 || matches!(*status, 401 | 403 | 408 | 409 | 429),
            Self::Missing { .. } | Self::Over { .. } | Self::Content(_) | Self::File(_) | Self::Tls(_) => {
                false
            }
        }
    }

    /// Whether it is this device's disk that fails, and not the content.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self, Self::File(_) | Self::Content(ContentError::File(_)) | Self::Tls(_))
    }
}

// === impl ContentClient ===

impl ContentClient {
    /// The client with this device's certificate.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn client(&self, enrolment: &Enrolment, clock: &DeviceClock) -> Result<Client, TransferError> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let identity = Some((enrolment.certificate.clone(), &enrolment.key));
        let config = tls::client(enrolment.pin(), identity, clock.for_tls())?;
        let client = Client::builder()
            .tls_backend_preconfigured(config)
            .no_proxy()
            .http1_only()
            .redirect(Policy::none())
            .connect_timeout(Duration::from_secs(15))
            .read_timeout(PATIENCE)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(TransferError::Unreachable)?;
        *kept = Some(client.clone());
        Ok(client)
    }

    /// A document of the hub's about this device, by its path below the content store's; `None` where there is none.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn document(
        &self,
        enrolment: &Enrolment,
        clock: &DeviceClock,
        path: &str,
    ) -> Result<Option<Vec<u8>>, TransferError> {
        let address = format!("{}/{path}", enrolment.content.trim_end_matches('/'));
        let request = self.client(enrolment, clock)?.get(address);
        let mut response = request.send().await.map_err(TransferError::Unreachable)?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(status_error(response, &path).await),
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(TransferError::Unreachable)? {
            text.extend_from_slice(&chunk);
            if text.len() > MOST_DOCUMENT {
                let (expected, found) = (MOST_DOCUMENT as u64, text.len() as u64);
                return Err(ContentError::Length { expected, found }.into());
            }
        }
        Ok(Some(text))
    }

    /// Builds the client anew at its next use: certificate or clock have changed.
    pub fn forget(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn address(base: &str, name: &Hash) -> String {
    format!("{}/sha256/{name}", base.trim_end_matches('/'))
}

/// Content that is being fetched, across broken connections.
#[derive(Debug)]
pub struct Download {
    incoming: Option<Incoming>,
    name: Hash,
    length: u64,
}

// === impl Download ===

impl Download {
    /// Of content with this name and length.
    #[must_use]
    pub const fn new(name: Hash, length: u64) -> Self {
        Self { incoming: None, name, length }
    }

    /// Bytes that have come.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.incoming.as_ref().map_or(0, Incoming::length)
    }

    /// Fetches what is missing; after a failure that [is passing](TransferError::is_passing) it goes on from where
    /// it broke.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn fetch(
        &mut self,
        client: &Client,
        base: &str,
        store: &ContentStore,
    ) -> Result<(), TransferError> {
        if self.incoming.is_none() {
            self.incoming = Some(store.incoming_content()?);
        }
        let done = self.done();
        let mut request = client.get(address(base, &self.name));
        if done > 0 {
            request = request.header(RANGE, format!("bytes={done}-"));
        }
        let mut response = request.send().await.map_err(TransferError::Unreachable)?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if done > 0 => {}
            // A server without ranges begins again.
            StatusCode::OK => {
                if done > 0 {
                    self.incoming = Some(store.incoming_content()?);
                }
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(TransferError::Missing { name: self.name });
            }
            _ => return Err(status_error(response, &self.name).await),
        }
        let Some(incoming) = self.incoming.as_mut() else {
            return Err(TransferError::Missing { name: self.name });
        };
        while let Some(chunk) = response.chunk().await.map_err(TransferError::Unreachable)? {
            incoming.write(&chunk)?;
            if incoming.length() > self.length {
                let (expected, found) = (self.length, incoming.length());
                self.incoming = None;
                return Err(ContentError::Length { expected, found }.into());
            }
        }
        match self.incoming.take() {
            Some(incoming) => Ok(incoming.keep_as(&self.name, self.length)?),
            None => Err(TransferError::Missing { name: self.name }),
        }
    }
}

/// Where content that goes to the hub is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file's bytes.
    File(PathBuf),
    /// A symbolic link's target.
    Link(PathBuf),
}

/// Brings content into the hub's content store as part of an assignment's result, unless it was brought for that
/// before.
///
/// # Errors
/// [`TransferError`].
pub async fn upload(
    client: &Client,
    base: &str,
    assignment: &AssignmentId,
    (name, length): (&Hash, u64),
    source: &Source,
) -> Result<(), TransferError> {
    let address = address(base, name);
    let own = assignment.to_string();
    let is_there = async || {
        let head = client.head(&address).header(ASSIGNMENT_HEADER, &own).send();
        Ok::<_, TransferError>(head.await.map_err(TransferError::Unreachable)?.status().is_success())
    };
    if length > WORTH_ASKING && is_there().await? {
        return Ok(());
    }
    let request = client.put(&address).header(CONTENT_LENGTH, length).header(ASSIGNMENT_HEADER, &own);
    let request = match source {
        _ if length == 0 => request.body(""),
        Source::File(path) => {
            request.body(tokio::fs::File::open(path).await.map_err(FileError::of("open", path))?)
        }
        Source::Link(path) => {
            let target = tokio::fs::read_link(path).await.map_err(FileError::of("read the link", path))?;
            request.body(target.into_os_string().into_vec())
        }
    };
    let response = request.send().await.map_err(TransferError::Unreachable)?;
    match response.status() {
        status if status.is_success() => Ok(()),
        StatusCode::GONE => Err(TransferError::Over { assignment: *assignment }),
        _ => {
            let refusal = status_error(response, name).await;
            // A hub that is full takes nothing, not even what it has.
            if length <= WORTH_ASKING && is_there().await.unwrap_or(false) { Ok(()) } else { Err(refusal) }
        }
    }
}

/// What the store's refusal says, for the device's owner (RFC 9457).
async fn status_error(mut response: Response, name: &impl Display) -> TransferError {
    let status = response.status().as_u16();
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        text.extend_from_slice(&chunk);
        if text.len() > MOST_DETAIL {
            break;
        }
    }
    let problem: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
    let detail = problem.as_ref().and_then(|problem| problem.get("detail")?.as_str()).map(str::to_owned);
    TransferError::Status { status, detail, name: name.to_string() }
}
