//! `sosna owner`: the owner's key stays here; what leaves is what it signs.

use std::{path::PathBuf, time::Duration};

use sosna_api::{
    hub::HubInfo,
    owner::{DelegationSpec, JoinTokenCreated, NewJoinToken, Owner, OwnerList},
    route,
    text::AddressText,
};
use sosna_host::{
    clock::{Clock as _, SystemClock},
    file,
    identity::IdentityKey,
    token::JoinToken,
};
use sosna_protocol::{
    Hash,
    eip712::{Delegation, Domain, Typed as _},
    hash::sha256,
    identity::Sign as _,
};

use crate::{
    args::{KeyArgs, OwnerCommand},
    client::Hub,
    connect::{self, ConnectArgs, Credentials},
    error::Error,
    output, show,
};

pub(super) async fn owner(connect: &ConnectArgs, command: OwnerCommand) -> Result<(), Error> {
    match command {
        OwnerCommand::Key { key, json } => {
            let (key, path) = load(&key)?;
            let address = AddressText::from(key.address());
            if json {
                output::json(&serde_json::json!({ "address": address, "file": path }))
            } else {
                output::line(&address.to_string())
            }
        }
        OwnerCommand::Delegate { uses, ttl, labels, key, json } => {
            let (key, _) = load(&key)?;
            let credentials = Credentials::find(connect)?;
            let hub = Hub::new(&credentials)?;
            let labels = labels.into_iter().collect();
            let token = delegate(&hub, credentials.pin()?, &key, uses, ttl, labels).await?;
            if json {
                let (owner, expires) = (AddressText::from(token.owner), token.expires);
                let text = token.to_string();
                output::json(&serde_json::json!({
                    "token": text, "owner": owner, "uses": uses, "expires_ms": expires.saturating_mul(1000),
                }))
            } else {
                output::line(&token.to_string())
            }
        }
        OwnerCommand::Admit { address, json } => {
            let hub = super::hub(connect)?;
            let path = route::fill(route::OWNER_ADMIT, address);
            let owner: Owner = hub.post(&path, &serde_json::json!({})).await?;
            if json { output::json(&owner) } else { output::line(&format!("{} admitted", owner.address)) }
        }
        OwnerCommand::List { json } => {
            let list: OwnerList = super::hub(connect)?.get(route::OWNERS).await?;
            if json { output::json(&list) } else { output::line(&show::owners(&list.owners)) }
        }
    }
}

/// The owner's key, made where there is none.
fn load(args: &KeyArgs) -> Result<(IdentityKey, PathBuf), Error> {
    let usual = || connect::folder().map(|folder| folder.join("owner.key"));
    let path = args.key.clone().or_else(usual).ok_or(Error::NoHome("give --key FILE"))?;
    if let Some(key) = IdentityKey::load(&path)? {
        return Ok((key, path));
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        file::create_folder(folder)?;
    }
    let key = IdentityKey::load_or_create(&path)?;
    output::note(&format!(
        "made a new owner's key in {}; keep a copy of it where only you can get it",
        path.display()
    ));
    Ok((key, path))
}

async fn delegate(
    hub: &Hub,
    pinned: Option<Hash>,
    key: &IdentityKey,
    uses: u32,
    ttl: Duration,
    labels: std::collections::BTreeMap<String, String>,
) -> Result<JoinToken, Error> {
    let info: HubInfo = hub.get(route::HUB).await?;
    let expires = (SystemClock::default().now_ms() / 1000).saturating_add(ttl.as_secs());
    let secret = Hash(sosna_host::random());
    let delegation = Delegation { hub: info.address.0, secret_hash: sha256(&secret.0), expires, uses };
    let signature = delegation.sign(&Domain::off_chain(info.address.0), key)?;
    let request = NewJoinToken {
        uses,
        ttl_s: ttl.as_secs(),
        labels,
        delegation: Some(DelegationSpec {
            owner: key.address().into(),
            secret_hash: delegation.secret_hash.into(),
            expires,
            uses,
            signature: signature.into(),
        }),
    };
    let created: JoinTokenCreated = hub.post(route::JOIN_TOKENS, &request).await?;
    let template = created.template;
    // Devices will trust what the token says, so it may say only what we know.
    let pin_holds = pinned.is_none_or(|pinned| pinned == template.authority.0);
    if template.hub != info.address || template.authority != info.authority || !pin_holds {
        let what = "the hub's part of the join token names another hub or authority than the hub itself; do not go on";
        return Err(Error::Contradiction(what.to_owned()));
    }
    let token = JoinToken {
        host: template.host,
        bootstrap_port: template.bootstrap_port,
        hub: template.hub.0,
        authority: template.authority.0,
        secret,
        owner: key.address(),
        expires,
        uses,
        delegation: signature,
    };
    // What devices will read is read once here.
    token.to_string().parse().map_err(Error::JoinToken)
}
