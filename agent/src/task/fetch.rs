//! Brings image and inputs onto the device and describes the container. Content is verified whatever its source.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use sosna_host::{content::ContentStore, file::FileError, retry::Backoff};
use sosna_layers::{Digest, Image, ImageError, ImageRequest, Platform, RegistryAuth, Source, UserError};
use sosna_protocol::{Hash, message::work::SourceKind, result::Cause};
use sosna_runtime::{ContainerSpec, RuntimeError, UserSpec};

use super::{Engine, Hand, plan::Plan};
use crate::content::{Download, TransferError};

/// How often an image or an input is tried before the assignment is given back: another device may reach it. What is
/// tried while there is no line to the hub does not count: then nothing can be given back, and the network may be all
/// that is missing.
const ATTEMPTS: u32 = 4;

/// What is needed to start a container.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) spec: ContainerSpec,
    /// Keeps the layers in place.
    _image: Arc<Image>,
}

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The image.
    #[error("the image cannot be had")]
    Image(#[from] ImageError),
    /// The image's user.
    #[error("the image's user is not known")]
    User(#[from] UserError),
    /// An input.
    #[error("the input for {destination} cannot be had")]
    Input {
        /// Where it belongs.
        destination: String,
        /// Why not.
        #[source]
        source: TransferError,
    },
    /// The hub's content store, as a source of the image.
    #[error("the hub's content store cannot be used")]
    Content(#[from] TransferError),
    /// Image and assignment together make no container.
    #[error("image and assignment make no container")]
    Spec(#[from] RuntimeError),
    /// A file of ours.
    #[error(transparent)]
    File(#[from] FileError),
}

// === impl FetchError ===

impl FetchError {
    /// What the hub is told.
    pub(super) const fn cause(&self) -> Cause {
        match self {
            Self::Image(ImageError::Io { .. } | ImageError::InUse { .. }) => Cause::DeviceFailed,
            // Also what has no room here: it may have none anywhere.
            Self::Image(_) | Self::User(_) | Self::Content(_) => Cause::NoImage,
            Self::Spec(_) => Cause::NoContainer,
            Self::Input { source, .. } if source.is_local() => Cause::DeviceFailed,
            Self::Input { .. } => Cause::NoInput,
            Self::File(_) => Cause::DeviceFailed,
        }
    }
}

/// Brings everything here.
pub(super) async fn fetch(engine: &Engine, plan: &Plan, hand: &Hand) -> Result<Ready, FetchError> {
    let image = image(engine, plan, Some(hand)).await?;
    let mut inputs = Vec::new();
    for input in &plan.inputs {
        let fetched = fetch_input(engine, &input.sha256, input.length).await;
        fetched.map_err(|source| FetchError::Input { destination: input.destination.clone(), source })?;
        inputs.push(sosna_runtime::Input {
            source: engine.inputs.path(&input.sha256),
            destination: input.destination.clone(),
        });
    }
    let user = image.config.user.clone().unwrap_or_default();
    let user = engine.images.user_of(&image, &user).await?;
    let home = user.home;
    let user = UserSpec { uid: user.uid, gid: user.gid, additional: user.additional_gids };
    let spec = plan.spec(image.layers.clone(), &image.config, (user, home), inputs)?;
    Ok(Ready { spec, _image: image })
}

/// Pins the layers of a container that runs already.
pub(super) async fn pin(engine: &Engine, plan: &Plan) -> Option<Arc<Image>> {
    match image(engine, plan, None).await {
        Ok(image) => Some(image),
        Err(error) => {
            tracing::warn!(assignment = %plan.assignment, "{}", sosna_host::report::line(&error));
            None
        }
    }
}

async fn image(engine: &Engine, plan: &Plan, hand: Option<&Hand>) -> Result<Arc<Image>, FetchError> {
    let enrolment = engine.node.enrolment();
    let mut sources = Vec::new();
    for (kind, name) in &plan.sources {
        sources.push(match kind {
            SourceKind::Registry => Source::Registry { reference: name.clone(), auth: auth(engine, name) },
            SourceKind::Hub => Source::Content {
                base_url: enrolment.content.clone(),
                client: engine.node.content.client(&enrolment, &engine.node.clock)?,
            },
        });
    }
    let permille = Arc::new(std::sync::atomic::AtomicU16::new(0));
    let told = Arc::clone(&permille);
    let request = ImageRequest {
        manifest_digest: Digest::from_bytes(plan.image.0),
        platform: Platform::native(),
        sources,
        most_bytes: engine.node.allowance(),
        progress: Some(Arc::new(move |progress| {
            let part = progress.done.saturating_mul(1000).checked_div(progress.total).unwrap_or(0);
            told.store(u16::try_from(part).unwrap_or(1000), Ordering::Relaxed);
        })),
    };
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
    let mut attempt = 1;
    loop {
        let ensure = engine.images.ensure(&request);
        let result = tell_meanwhile(ensure, &permille, hand).await;
        match result {
            Err(ImageError::Sources { what, digest, failures })
                if attempt < ATTEMPTS || !engine.node.is_connected() =>
            {
                let wait = backoff.wait();
                tracing::warn!(assignment = %plan.assignment, "{what} {digest}, attempt {attempt}: {failures}");
                tokio::time::sleep(wait).await;
                attempt += u32::from(engine.node.is_connected());
            }
            other => return Ok(other?),
        }
    }
}

/// Carries the progress to the driver's hand while the work goes on.
async fn tell_meanwhile<T>(
    work: impl Future<Output = T>,
    permille: &std::sync::atomic::AtomicU16,
    hand: Option<&Hand>,
) -> T {
    let Some(hand) = hand else { return work.await };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                hand.permille.store(permille.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }
}

fn auth(engine: &Engine, reference: &str) -> RegistryAuth {
    let host = reference.split_once('/').map_or("", |(host, _)| host);
    engine.credentials.get(host).cloned().unwrap_or_default()
}

async fn fetch_input(engine: &Engine, name: &Hash, length: u64) -> Result<(), TransferError> {
    let store: &ContentStore = &engine.inputs;
    if store.length(name) == Some(length) {
        return Ok(());
    }
    let mut download = Download::new(*name, length);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15));
    let (mut fruitless, mut done) = (0, 0);
    loop {
        let enrolment = engine.node.enrolment();
        let client = engine.node.content.client(&enrolment, &engine.node.clock)?;
        match download.fetch(&client, &enrolment.content, store).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_passing() => {
                let counts = u32::from(engine.node.is_connected());
                fruitless = if download.done() > done { 0 } else { fruitless + counts };
                done = download.done();
                if fruitless >= ATTEMPTS {
                    return Err(error);
                }
                tracing::warn!(%name, done, "{}", sosna_host::report::line(&error));
                tokio::time::sleep(backoff.wait()).await;
            }
            Err(error) => return Err(error),
        }
    }
}
