//! Enrolment and renewal: whose a device is, and which certificate speaks for it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sosna_protocol::{
    Address, Amount,
    codec::{Bounded, List},
    eip712::{Domain, Typed as _},
    hash::sha256,
    identity::Nonce,
    message::enrol::{Granted, Refusal, Refused, Renew, Request, Up},
};
use sosna_store::{Certificate, DeviceState, NewDevice, Tx};

use super::{Heard, Trouble, admit, drop_it};
use crate::{
    error::HubError,
    hub::{Effect, Event, Hub},
};

/// A refusal and what a person is told.
type Denied = (Refusal, String);

/// Takes a request and answers it, whatever the answer is.
pub(super) async fn take(hub: &Arc<Hub>, heard: Heard) -> Result<(), Trouble> {
    Up::read(&heard.frame()?).map_err(drop_it)?;
    let heard_again = heard.clone();
    let outcome = hub
        .change(move |tx, hub| {
            Box::pin(async move {
                if !admit::passing(tx, &heard).await? {
                    return Ok((Ok(()), Vec::new()));
                }
                let frame = heard.frame()?;
                let message = Up::read(&frame).map_err(|error| HubError::internal("a message", error))?;
                let admitted = match &message {
                    Up::Request(request) => admit_new(tx, &hub, heard.device, request).await?,
                    Up::Renew(_) => admit_known(tx, heard.device).await?,
                };
                let (nonce, csr) = match &message {
                    Up::Request(Request { nonce, csr, .. }) | Up::Renew(Renew { nonce, csr }) => {
                        (*nonce, csr.0)
                    }
                };
                let granted = match admitted {
                    Ok(()) => grant(tx, &hub, heard.device, nonce, csr).await?,
                    Err(denied) => Err(denied),
                };
                Ok(match granted {
                    Ok(effects) => (Ok(()), effects),
                    Err((refusal, explanation)) => {
                        let refused = Refused {
                            nonce,
                            time_ms: hub.now_ms(),
                            refusal,
                            explanation: Bounded(&explanation),
                        };
                        let effect = Effect::answer(heard.device, &refused)?;
                        // Nothing of a refused enrolment may stay: the answer is given outside.
                        return Err(HubError::Enrolment(Box::new(effect), explanation));
                    }
                })
            })
        })
        .await;
    match outcome {
        Ok(result) => result,
        Err(HubError::Enrolment(effect, explanation)) => {
            hub.metrics.enrolments_refused.add_one();
            tracing::warn!(device = %heard_again.device, "an enrolment was refused: {explanation}");
            hub.perform(vec![*effect]).await;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

async fn admit_new(
    tx: &mut Tx,
    hub: &Hub,
    address: Address,
    request: &Request<'_>,
) -> Result<Result<(), Denied>, HubError> {
    let secret_hash = sha256(&request.secret.0);
    let Some(token) = tx.join_token(hub.address(), &secret_hash).await? else {
        return Ok(Err((
            Refusal::UnknownToken,
            "this hub never gave out that join token; ask its operator for one (`sosna-hub token`)"
                .to_owned(),
        )));
    };
    let known = tx.device(&address).await?;
    if let Some(known) = &known {
        if known.state == DeviceState::Revoked {
            let why = "the device was revoked here, for good; with an empty data folder it can enrol as a new device";
            return Ok(Err((Refusal::Revoked, why.to_owned())));
        }
        if known.owner != token.owner {
            let why = format!(
                "the device is enrolled as {}'s; that owner must revoke it before it becomes somebody else's",
                known.owner.checksummed()
            );
            return Ok(Err((Refusal::BadDelegation, why)));
        }
        // It asks again because the answer was lost: that is no further use of the token.
        return Ok(Ok(()));
    }
    // A root has one line for an address, and what is owed for work here is proven by vouchers.
    if tx.ever_taken(&sosna_store::Account::Payee(address)).await? > Amount::ZERO {
        let why = "this address is paid here for work elsewhere; with an empty data folder the device makes another key";
        return Ok(Err((Refusal::BadRequest, why.to_owned())));
    }
    if token.delegation.expires <= hub.now_ms() / 1000 {
        let why = "the join token has expired; ask for a new one (`sosna-hub token --ttl …`)";
        return Ok(Err((Refusal::ExpiredToken, why.to_owned())));
    }
    let domain = Domain::off_chain(hub.address());
    if token.delegation.verify(&domain, &token.signature, &token.owner).is_err() {
        return Ok(Err((Refusal::BadDelegation, "the owner's delegation does not hold".to_owned())));
    }
    if !tx.use_join_token(&secret_hash).await? {
        let why = format!(
            "the join token was for {} device(s), and as many have used it; ask for a new one",
            token.delegation.uses
        );
        return Ok(Err((Refusal::UsedToken, why)));
    }
    tx.put_device(&NewDevice {
        address,
        owner: token.owner,
        token: secret_hash,
        hostname: request.hostname.0.to_owned(),
        labels: token.labels,
        class: request.class,
        agent: request.agent.0.to_owned(),
        encryption_key: request.encryption_key,
        enrolled_ms: hub.now_ms(),
    })
    .await?;
    hub.metrics.devices_enrolled.add_one();
    tracing::info!(device = %address, owner = %token.owner, hostname = request.hostname.0, "enrolled");
    Ok(Ok(()))
}

async fn admit_known(tx: &mut Tx, address: Address) -> Result<Result<(), Denied>, HubError> {
    Ok(match tx.device(&address).await?.map(|device| device.state) {
        None => Err((
            Refusal::NotEnrolled,
            "no such device is enrolled here; give it a join token (`sosna-agent run --join …`)".to_owned(),
        )),
        Some(DeviceState::Revoked) => Err((Refusal::Revoked, "the device was revoked here".to_owned())),
        Some(_) => Ok(()),
    })
}

async fn grant(
    tx: &mut Tx,
    hub: &Hub,
    device: Address,
    nonce: Nonce,
    csr: &[u8],
) -> Result<Result<Vec<Effect>, Denied>, HubError> {
    let now = hub.now_ms();
    let validity = Duration::from_millis(hub.config.times.certificate_ms);
    let (issued, trust) = {
        let authority = hub.authority.read().await;
        (authority.sign_device_csr(csr, &device, moment(now), validity), authority.trust())
    };
    let issued = match issued {
        Ok(issued) => issued,
        Err(error) => return Ok(Err((Refusal::BadRequest, sosna_host::report::line(&error)))),
    };
    let valid_until_ms = issued
        .not_after
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .ok_or(HubError::Internal("a certificate's end lies before 1970", None))?;
    tx.put_certificate(&Certificate {
        serial: issued.serial.0.to_vec(),
        device,
        issued_ms: now,
        not_after_ms: valid_until_ms,
    })
    .await?;
    let addresses =
        hub.addresses.get().ok_or(HubError::Internal("a device enrols before the hub listens", None))?;
    let authorities: Vec<_> = trust.certificates().iter().map(|one| Bounded(one.as_ref())).collect();
    let granted = Granted {
        nonce,
        time_ms: now,
        certificate: Bounded(issued.der.as_ref()),
        authorities: List::new(&authorities),
        valid_until_ms,
        main: Bounded(&addresses.main),
        content: Bounded(&addresses.content),
    };
    let mut effects = super::described(tx, &device).await?;
    effects.push(Effect::answer(device, &granted)?);
    effects.push(Effect::Event(Event::Device(device)));
    Ok(Ok(effects))
}

fn moment(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
