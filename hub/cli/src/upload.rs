//! Brings to the hub what it does not have yet.

use std::{collections::BTreeMap, sync::Arc, sync::Mutex};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{client::Hub, error::Error, image::Blob, output, quantity::show_size};

/// How many pieces are asked for or sent at once.
pub const PARALLEL: usize = 4;

/// Sends what of `blobs` is missing, each content once, in any order.
///
/// # Errors
/// [`Error`].
pub async fn missing(hub: &Hub, blobs: &[Blob]) -> Result<(), Error> {
    let unique: BTreeMap<_, _> = blobs.iter().map(|blob| (blob.sha256, blob)).collect();
    let asked = stream::iter(unique.into_values())
        .map(async |blob| Ok::<_, Error>((blob, hub.has_content(&blob.sha256).await?)))
        .buffer_unordered(PARALLEL);
    let answers: Vec<(&Blob, bool)> = asked.try_collect().await?;
    let mut missing: Vec<&Blob> =
        answers.into_iter().filter(|(_, is_there)| !is_there).map(|(blob, _)| blob).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // The largest first: it is what is waited for.
    missing.sort_by_key(|blob| std::cmp::Reverse(blob.length));
    let total = missing.iter().map(|blob| blob.length).sum();
    let bar = output::byte_bar("uploading", total);
    if !output::is_live() {
        output::note(&format!("uploading {} pieces, {}", missing.len(), show_size(total)));
    }
    // Attempts that start over take back what they had counted.
    let sent = Arc::new(Mutex::new(BTreeMap::new()));
    let sending = stream::iter(missing)
        .map(async |blob| {
            let (name, bar, sent) = (blob.sha256, bar.clone(), sent.clone());
            hub.put_content(blob, move |done| {
                if let Ok(mut sent) = sent.lock() {
                    sent.insert(name, done);
                    bar.set_position(sent.values().sum());
                }
            })
            .await
        })
        .buffer_unordered(PARALLEL);
    let done: Result<Vec<()>, Error> = sending.try_collect().await;
    bar.finish_and_clear();
    done.map(|_| ())
}
